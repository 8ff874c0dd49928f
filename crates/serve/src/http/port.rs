//! An open port: connections, certificates, time limits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::api::refused;
use super::guard::{Guard, Peer};
use super::probes::is_probe;
use crate::config::HttpConfig;
use crate::logs;
use crate::pipe::{Pipe, accept};
use crate::problem::Problem;
use crate::service::closed;
use crate::tls::{Certificate, Protection};

/// How many connections are open at once. Beyond them only probes are answered.
pub(super) const CONNECTIONS: usize = 256;
/// How many connections beyond are open for a probe, and how long. More are closed without a word.
const PROBES: usize = 64;
const PROBE_WITHIN: Duration = Duration::from_secs(5);
/// How long a client may take for its side of TLS, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a client may leave unread what it is sent.
const STALLED: Duration = Duration::from_secs(60);
/// How long requests that run may take when the service ends.
const FINISH: Duration = Duration::from_secs(2);

/// An open port.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    address: SocketAddr,
    certificate: Option<Certificate>,
    guard: Guard,
    closing: watch::Receiver<bool>,
}

impl Port {
    /// Checks what [`open`](Self::open) would, without listening.
    ///
    /// # Errors
    /// As there.
    pub async fn check(config: &HttpConfig) -> Result<(), Problem> {
        config.tls.as_ref().map(Certificate::read).transpose()?;
        let wrong =
            |e: std::io::Error| Problem::new(format!("[http] listen = '{}': {e}", config.listen));
        let addresses = tokio::net::lookup_host(&config.listen).await;
        for address in addresses.map_err(wrong)? {
            protection(config).check("http", address)?;
        }
        Ok(())
    }

    /// Opens a port, which is closed when `closing` is true.
    ///
    /// # Errors
    /// When other machines would reach it without TLS and a token, the certificate is of no use, or the address
    /// cannot be listened on.
    pub async fn open(
        config: &HttpConfig,
        closing: watch::Receiver<bool>,
    ) -> Result<Self, Problem> {
        let certificate = config.tls.as_ref().map(Certificate::read).transpose()?;
        let wrong =
            |e: std::io::Error| Problem::new(format!("[http] listen = '{}': {e}", config.listen));
        let listener = TcpListener::bind(&config.listen).await.map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        protection(config).check("http", address)?;
        Ok(Self {
            guard: Guard::new(config, address),
            listener,
            address,
            certificate,
            closing,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands before its routes.
    pub fn guard(&self) -> Guard {
        self.guard.clone()
    }

    /// Checks the token and the certificate of another file. What this returns takes them over.
    ///
    /// # Errors
    /// When the certificate is of no use, or the file leaves the port open to everybody.
    pub fn renew(&self, config: &HttpConfig) -> Result<impl FnOnce(), Problem> {
        // The address and whether there is TLS stay those of the start.
        let now = Protection {
            tls: self.certificate.is_some(),
            ..protection(config)
        };
        now.check("http", self.address)?;
        let certificate = self.certificate.as_ref().map(Certificate::renew);
        let certificate = certificate.transpose()?;
        Ok(move || {
            if let Some(renew) = certificate {
                renew();
            }
            self.guard.renew(config);
        })
    }

    /// Serves until it is closed, and then for a moment the requests that run.
    pub async fn serve(&self, router: Router) {
        let scheme = match self.certificate {
            Some(_) => "https",
            None => "http",
        };
        log::info!(target: logs::SERVICE, "listens on {scheme}://{}", self.address);
        let [room, beyond] = [CONNECTIONS, PROBES].map(|most| Arc::new(Semaphore::new(most)));
        let free = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned().ok();
        let mut closing = self.closing.clone();
        let mut connections = JoinSet::new();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = accept(&self.listener, "HTTP") => accepted,
                Some(_) = connections.join_next() => continue,
                () = closed(&mut closing) => break,
            };
            let router = router.clone().layer(Extension(Peer(peer)));
            let acceptor = self.certificate.as_ref().map(Certificate::acceptor);
            let closing = self.closing.clone();
            if let Some(place) = free(&room) {
                connections.spawn(async move {
                    take_up(stream, peer, acceptor, router, closing).await;
                    drop(place);
                });
            } else if let Some(place) = free(&beyond) {
                let router = router.layer(from_fn(only_probes));
                let probed = take_up(stream, peer, acceptor, router, closing);
                connections.spawn(async move {
                    let _ = tokio::time::timeout(PROBE_WITHIN, probed).await;
                    drop(place);
                });
            }
        }
        let finished = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FINISH, finished).await;
    }
}

fn protection(config: &HttpConfig) -> Protection {
    Protection {
        tls: config.tls.is_some(),
        credential: config.token.is_some(),
        insecure: config.insecure,
    }
}

async fn only_probes(request: Request, next: Next) -> Response {
    match is_probe(request.uri().path()) {
        true => next.run(request).await,
        false => refused(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("there are {CONNECTIONS} connections already; try again later"),
        ),
    }
}

async fn take_up(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    closing: watch::Receiver<bool>,
) {
    let Some(acceptor) = acceptor else {
        return answer(Pipe::new(stream, STALLED), router, closing).await;
    };
    match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => answer(Pipe::new(stream, STALLED), router, closing).await,
        Ok(Err(error)) => log::debug!("TLS of {peer}: {error}"),
        Err(_) => log::debug!("TLS of {peer}: no answer in time"),
    }
}

pub(super) async fn answer(
    stream: Pipe<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    router: Router,
    mut closing: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // The other side has gone, or was too slow.
    if let Err(error) = ended {
        log::debug!("a connection ended: {error}");
    }
}
