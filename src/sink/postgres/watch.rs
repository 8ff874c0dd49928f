//! A password in clear goes to this machine or through TLS, and nowhere else.
//!
//! What a password is asked for with is the server's choice, or that of whoever sits between: the answers
//! of the handshake are watched, and one that asks for the password itself ends the connection before
//! anything is sent. Hashed answers (SCRAM, MD5) pass.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The code of `AuthenticationOk`.
const WELCOME: u32 = 0;
/// The code of `AuthenticationCleartextPassword`.
const CLEAR_TEXT: u32 = 3;

/// The server asks for a password in clear.
#[derive(Debug)]
pub(super) struct AskedInClear;

impl fmt::Display for AskedInClear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the server asks for the password in clear, over a connection without TLS: nothing was sent; \
             write '?sslmode=require' behind LOCATION, or let the server ask by scram-sha-256",
        )
    }
}

impl std::error::Error for AskedInClear {}

/// A connection whose handshake is watched.
pub(super) struct Watched {
    /// Why there is none shows at the first use.
    stream: io::Result<TcpStream>,
    watch: Watch,
}

impl Watched {
    /// `tls`: whether the server is asked for TLS first.
    pub(super) fn new(stream: io::Result<TcpStream>, tls: bool) -> Self {
        let watch = if tls { Watch::Tls } else { Watch::start() };
        Self { stream, watch }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.stream {
            Ok(stream) => Ok(Pin::new(stream)),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

/// Where in the handshake the server's bytes are.
#[derive(Debug, PartialEq, Eq)]
enum Watch {
    /// Before the byte that answers the question for TLS.
    Tls,
    /// In the first bytes of a message: its type, its length, and a login's code.
    Head([u8; 9], usize),
    /// So many bytes before the next message.
    Rest(u32),
    /// Past the login, or encrypted.
    Over,
}

impl Watch {
    fn start() -> Self {
        Self::Head([0; 9], 0)
    }

    fn see(&mut self, bytes: &[u8]) -> Result<(), AskedInClear> {
        let mut bytes = bytes.iter();
        while *self != Self::Over {
            let Some(byte) = bytes.next() else {
                return Ok(());
            };
            match self {
                Self::Tls if *byte == b'S' => *self = Self::Over,
                Self::Tls => *self = Self::start(),
                Self::Rest(left) => {
                    *left -= 1;
                    if *left == 0 {
                        *self = Self::start();
                    }
                }
                Self::Head(head, filled) => {
                    head[*filled] = *byte;
                    *filled += 1;
                    let head = *head;
                    // The length counts itself and not the type.
                    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
                    let code = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                    match (*filled, head[0]) {
                        (5, b'R') if length >= 8 => {}
                        (5, _) if length > 4 => *self = Self::Rest(length - 4),
                        (5, _) => *self = Self::start(),
                        (9, _) if code == CLEAR_TEXT => return Err(AskedInClear),
                        (9, _) if code == WELCOME => *self = Self::Over,
                        (9, _) if length > 8 => *self = Self::Rest(length - 8),
                        (9, _) => *self = Self::start(),
                        _ => {}
                    }
                }
                Self::Over => {}
            }
        }
        Ok(())
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.stream()?.poll_read(context, buffer))?;
        let seen = self.watch.see(&buffer.filled()[before..]);
        Poll::Ready(seen.map_err(io::Error::other))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    /// The same whatever pieces the bytes come in.
    fn seen(tls: bool, bytes: &[u8]) -> Result<Watch, AskedInClear> {
        let watched = |piece: usize| {
            let mut watch = if tls { Watch::Tls } else { Watch::start() };
            let mut pieces = bytes.chunks(piece);
            pieces
                .try_for_each(|piece| watch.see(piece))
                .map(|()| watch)
        };
        let whole = watched(bytes.len());
        assert_eq!(format!("{:?}", watched(1)), format!("{whole:?}"));
        whole
    }

    #[test]
    fn a_password_in_clear_is_found_behind_other_messages() {
        let notice = message(b'v', &[0, 0, 0, 0, 0, 0, 0, 0]);
        let asks = message(b'R', &CLEAR_TEXT.to_be_bytes());
        let bytes = [notice, message(b'N', b""), asks].concat();
        assert!(seen(false, &bytes).is_err());
        assert!(seen(true, &[&b"N"[..], &bytes].concat()).is_err());
    }

    #[test]
    fn hashed_logins_and_tls_pass() {
        let scram = message(
            b'R',
            &[&10u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat(),
        );
        let welcome = message(b'R', &WELCOME.to_be_bytes());
        // What comes then is data, and may look like anything.
        let later = message(b'R', &CLEAR_TEXT.to_be_bytes());
        let bytes = [scram, welcome, later.clone()].concat();
        assert_eq!(seen(false, &bytes).unwrap(), Watch::Over);
        let encrypted = [&b"S"[..], &later].concat();
        assert_eq!(seen(true, &encrypted).unwrap(), Watch::Over);
    }

    #[test]
    fn bytes_that_are_no_handshake_do_no_harm() {
        for bytes in [
            &[0; 40][..],
            &[b'R'; 40],
            &[255; 40],
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ] {
            assert!(seen(false, bytes).is_ok());
        }
    }
}
