//! A connection, from when it is accepted, with limits: how long its client may leave unread what it is sent, how much it may send at once, and
//! whether it is still there.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use crate::logs;

/// The longest message that a client may send: a long statement, with parameters.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// The longest of a client that has not logged in: all of its settings.
pub(crate) const MAX_LOGIN_BYTES: usize = 16 << 10;

/// How long a connection may be silent until its other end is asked whether it is still there, and how often then.
const SILENT: Duration = Duration::from_secs(60);
const ASKED_EVERY: Duration = Duration::from_secs(15);

/// The pause after a connection could not be accepted.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Accepts a connection of a named port, which ends when its other end is gone without a word.
///
/// Where the system refuses, for example for want of descriptors, it logs that and tries again.
pub(crate) async fn accept(listener: &TcpListener, port: &str) -> (TcpStream, SocketAddr) {
    let (tcp, peer) = loop {
        match listener.accept().await {
            Ok(accepted) => break accepted,
            Err(error) => {
                log::warn!(target: logs::SERVICE, "the {port} port cannot accept a connection: {error}");
                sleep(AFTER_FAILURE).await;
            }
        }
    };
    let keepalive = TcpKeepalive::new()
        .with_time(SILENT)
        .with_interval(ASKED_EVERY);
    // A socket that refuses works all the same. Events and rows are small and wait for nothing.
    let _ = SockRef::from(&tcp).set_tcp_keepalive(&keepalive);
    let _ = tcp.set_nodelay(true);
    (tcp, peer)
}

/// Ends with an error where its client does not read, or sends too much.
pub(crate) struct Pipe<T> {
    io: T,
    /// How many bytes may be read until [`next_message`](Self::next_message), and of how many that was at first.
    readable: usize,
    allowed: usize,
    stalled_timeout: Duration,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Pipe<T> {
    pub(crate) fn new(io: T, stalled_timeout: Duration) -> Self {
        Self {
            io,
            readable: usize::MAX,
            allowed: usize::MAX,
            stalled_timeout,
            stalled: None,
        }
    }

    /// Lets the client send another message, of at most so many bytes. Before the first call there is no limit.
    pub(crate) fn next_message(&mut self, bytes: usize) {
        (self.readable, self.allowed) = (bytes, bytes);
    }

    fn in_time<R>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.stalled_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        stalled.as_mut().poll(context).map(|()| {
            let message = format!("the client has read nothing for {} s", timeout.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Pipe<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        match self.readable.checked_sub(buffer.filled().len() - before) {
            Some(left) => self.readable = left,
            None => {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a message has more than {} KiB", self.allowed >> 10),
                )));
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Pipe<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.in_time(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(context);
        self.in_time(context, closed)
    }
}

/// Notices that a client has gone while a statement runs, when nobody reads from its connection.
pub(crate) struct Hangup(TcpStream);

impl Hangup {
    /// The connection, and what watches it.
    ///
    /// # Errors
    /// The system's, for example when there are no more descriptors.
    pub(crate) fn watch(tcp: TcpStream) -> io::Result<(TcpStream, Self)> {
        let tcp = tcp.into_std()?;
        let twin = tcp.try_clone()?;
        Ok((TcpStream::from_std(tcp)?, Self(TcpStream::from_std(twin)?)))
    }

    /// Waits until the client has closed its side.
    pub(crate) async fn closed(&self) {
        while let Ok(ready) = self.0.ready(Interest::READABLE).await {
            if ready.is_read_closed() {
                return;
            }
            // What has arrived stays for the connection; this waits for more.
            let _ = self.0.try_io(Interest::READABLE, || {
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn whoever_is_accepted_is_asked_whether_it_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_client, accepted) =
            tokio::join!(TcpStream::connect(address), accept(&listener, "test"));
        let (tcp, _) = accepted;
        assert!(SockRef::from(&tcp).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_ends_the_connection() {
        let (mut client, server) = duplex(10);
        let mut pipe = Pipe::new(server, Duration::from_millis(1050));
        pipe.write_all(&[0; 10]).await.unwrap();
        let mut read = [0; 5];
        client.read_exact(&mut read).await.unwrap();
        pipe.write_all(&[0; 5]).await.unwrap();
        let error = pipe.write_all(&[0]).await.unwrap_err();
        assert_eq!(error.to_string(), "the client has read nothing for 1 s");
    }

    #[tokio::test]
    async fn messages_are_bounded_and_their_number_is_not() {
        let (mut client, server) = duplex(1 << 20);
        let mut pipe = Pipe::new(server, Duration::from_secs(7));
        let sending = tokio::spawn(async move {
            let part = vec![0; 1 << 20];
            while client.write_all(&part).await.is_ok() {}
        });
        let mut whole = vec![0; MAX_MESSAGE_BYTES];
        for _ in 0..2 {
            pipe.next_message(MAX_MESSAGE_BYTES);
            pipe.read_exact(&mut whole).await.unwrap();
        }
        let error = pipe.read_exact(&mut whole).await.unwrap_err();
        assert_eq!(error.to_string(), "a message has more than 16384 KiB");
        drop(pipe);
        sending.await.unwrap();
    }
}
