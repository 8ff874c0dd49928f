//! The bytes of a connection, decrypted.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::BufMut;
#[cfg(feature = "ssl")]
use tokio::io::AsyncReadExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(feature = "ssl")]
use tokio_rustls::client::TlsStream;

/// A connection to read and write decrypted bytes, whether they travel encrypted or not.
pub(in super::super) enum Transport {
    Plain(TcpStream),
    #[cfg(feature = "ssl")]
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Reads what is available without waiting; `None` when nothing is.
    pub(in super::super) fn try_read_buf(
        &mut self,
        buffer: &mut impl BufMut,
    ) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(stream) => match stream.try_read_buf(buffer) {
                Ok(n) => Ok(Some(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(e) => Err(e),
            },
            // Nothing is woken for later data; a reader registers itself when it reads.
            #[cfg(feature = "ssl")]
            Self::Tls(stream) => match poll_now(stream.read_buf(buffer)) {
                Some(result) => result.map(Some),
                None => Ok(None),
            },
        }
    }

    /// Whether the connection is open and nothing has arrived. Consumes nothing meant for a reader.
    pub(in super::super) fn is_silent(&mut self) -> bool {
        match self {
            Self::Plain(stream) => is_silent(stream),
            #[cfg(feature = "ssl")]
            Self::Tls(stream) => tls_is_silent(stream),
        }
    }
}

/// The result of a future that is ready immediately.
fn poll_now<T>(future: impl Future<Output = T>) -> Option<T> {
    // When a task's budget is used up, a ready socket would not seem ready.
    let future = pin!(tokio::task::unconstrained(future));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

fn is_silent(stream: &TcpStream) -> bool {
    poll_now(stream.peek(&mut [0])).is_none()
}

/// Brokers may send session tickets at any time. This processes records that have arrived, while data for the
/// reader stays in the session.
#[cfg(feature = "ssl")]
fn tls_is_silent(stream: &mut TlsStream<TcpStream>) -> bool {
    struct ReadNow<'a>(&'a TcpStream);
    impl io::Read for ReadNow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.try_read(buffer)
        }
    }
    let (stream, session) = stream.get_mut();
    loop {
        match session.process_new_packets() {
            Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
            _ => return false,
        }
        match session.read_tls(&mut ReadNow(stream)) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
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
            #[cfg(feature = "ssl")]
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
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
            #[cfg(feature = "ssl")]
            Self::Tls(stream) => Pin::new(&mut *stream)
                .poll_write(cx, bytes)
                .map_err(|e| why_closed(stream, e)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "ssl")]
            Self::Tls(stream) => Pin::new(&mut *stream)
                .poll_flush(cx)
                .map_err(|e| why_closed(stream, e)),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "ssl")]
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A broker that refuses a client's certificate says why and closes the connection. Under TLS 1.3 the client
/// may already be writing then. The broker's reason is more useful than the failure to write.
#[cfg(feature = "ssl")]
fn why_closed(stream: &mut TlsStream<TcpStream>, error: io::Error) -> io::Error {
    match poll_now(stream.read(&mut [0])) {
        Some(Err(said)) if super::refusal(&said).is_some() => said,
        _ => error,
    }
}
