//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures::{FutureExt, SinkExt, StreamExt};
use pgwire::api::cancel::DefaultCancelHandler;
use pgwire::api::{ClientInfo, METADATA_USER, NoopHandler, PgWireConnectionState};
use pgwire::error::{ErrorInfo, PgWireError};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::tokio::server::{
    MaybeTls, PgWireMessageServerCodec, negotiate_tls, process_error, process_message,
};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::{Framed, FramedParts};

use super::handler::Handler;
use super::prepared::Prepared;
use super::session::Session;
use super::{Shared, login, sqlstate};
use crate::logs;
use crate::pipe::{Hangup, MAX_LOGIN_BYTES, MAX_MESSAGE_BYTES, Pipe};
use crate::tls::Certificate;

/// Why connections are terminated.
const STOPPING: &str = "the service is stopping";
const CHANGED: &str = "the service's file has changed; connect again";

type Socket = Framed<Pipe<MaybeTls>, PgWireMessageServerCodec<Arc<Prepared>>>;

/// Serves a client until it goes, or is told to. One that is `older` than too many others and has not logged in goes too.
pub(super) async fn serve(
    tcp: TcpStream,
    shared: Arc<Shared>,
    older: oneshot::Receiver<Infallible>,
    stopped: watch::Receiver<bool>,
) {
    let peer = tcp.peer_addr();
    let handler = Arc::new(Handler::new());
    // pgwire panics at some messages that are cut short.
    let served = AssertUnwindSafe(converse(tcp, &shared, &handler, stopped)).catch_unwind();
    let mut served = pin!(served);
    let served = tokio::select! {
        served = &mut served => served,
        _ = older => match handler.opened() {
            Some(_) => served.await,
            None => {
                shared.counts.login("refused");
                Ok(Err(io::Error::other("other clients want to log in")))
            }
        }
    };
    let broken = |_| Err(io::Error::other("a message that cannot be read"));
    let served = served.unwrap_or_else(broken);
    if let (Ok(peer), Err(error)) = (peer, served) {
        log::info!(target: logs::SERVICE, "the connection of {peer} to the PostgreSQL port has ended: {error}");
    }
}

async fn converse(
    tcp: TcpStream,
    shared: &Arc<Shared>,
    handler: &Arc<Handler>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let until = Instant::now() + shared.options.login_timeout;
    let (tcp, hangup) = Hangup::watch(tcp)?;
    let tls = shared.options.certificate.as_ref().map(acceptor);
    let negotiated = timeout_at(until, negotiate_tls(tcp, tls)).await??;
    // Nothing where a client begins with TLS that there is not.
    let Some(negotiated) = negotiated else {
        return Ok(());
    };
    let Some(mut socket) = limited(negotiated, shared) else {
        return Err(io::Error::other("bytes from before the TLS handshake"));
    };
    let startup = Arc::new(login::login(&shared.current().logins, &shared.pids));
    let cancels = Arc::new(DefaultCancelHandler::new(Arc::clone(&shared.cancels)));
    loop {
        let deadline = match handler.opened() {
            Some(session) => Instant::now() + session.idle_timeout(),
            None => until,
        };
        socket.get_mut().next_message(match handler.opened() {
            Some(_) => MAX_MESSAGE_BYTES,
            None => MAX_LOGIN_BYTES,
        });
        let received = tokio::select! {
            received = timeout_at(deadline, socket.next()) => received,
            () = told(&mut stopped) => return say(&mut socket, terminating(STOPPING)).await,
        };
        let message = match received {
            Ok(None | Some(Ok(PgWireFrontendMessage::Terminate(_)))) => return Ok(()),
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return say(&mut socket, last_words(error)).await,
            Err(_) if handler.opened().is_some() => {
                let message = "terminating connection due to idle-session timeout";
                return say(
                    &mut socket,
                    sqlstate::fatal(sqlstate::IDLE_TIMEOUT, message),
                )
                .await;
            }
            Err(_) => return Err(io::Error::other("the client has not logged in in time")),
        };
        match handler.opened() {
            Some(session) if session.is_current() => session.close_forgotten(),
            Some(_) => return say(&mut socket, terminating(CHANGED)).await,
            None if is_of_login(&message) => {}
            None => {
                let early = sqlstate::fatal(sqlstate::PROTOCOL_VIOLATION, "log in first");
                return say(&mut socket, early).await;
            }
        }
        if let PgWireFrontendMessage::Startup(_) = message
            && let Some(refusal) = refusal(&socket, shared)
        {
            shared.counts.login("refused");
            return say(&mut socket, refusal).await;
        }
        let is_cancel = matches!(message, PgWireFrontendMessage::CancelRequest(_));
        let is_extended = message.is_extended_query();
        let process = process_message(
            message,
            &mut socket,
            Arc::clone(&startup),
            Arc::clone(handler),
            Arc::clone(handler),
            Arc::new(NoopHandler),
            Arc::clone(&cancels),
        );
        let processed = tokio::select! {
            biased;
            processed = process => processed,
            // Whoever asks to cancel goes at once.
            () = hangup.closed(), if !is_cancel => return Ok(()),
            () = told(&mut stopped) => Err(terminating(STOPPING)),
        };
        if is_cancel {
            return Ok(());
        }
        match processed {
            Ok(()) => {}
            Err(PgWireError::IoError(error)) => return Err(error),
            Err(error) => {
                let error = named(&socket, shared, error);
                if ends(&error) {
                    return say(&mut socket, error).await;
                }
                process_error(&mut socket, error, is_extended).await?;
            }
        }
        let has_logged_in = matches!(socket.state(), PgWireConnectionState::ReadyForQuery);
        if has_logged_in && handler.opened().is_none() {
            match Session::open(shared, &socket) {
                Ok(session) => {
                    shared.counts.login("ok");
                    handler.begin(session);
                }
                Err(error) => {
                    shared.counts.login("refused");
                    return say(&mut socket, error).await;
                }
            }
        }
    }
}

/// Takes up TLS, also from clients that begin with it (`sslnegotiation=direct`).
fn acceptor(certificate: &Certificate) -> TlsAcceptor {
    let acceptor = certificate.acceptor();
    let mut config = ServerConfig::clone(acceptor.config());
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// The connection with limits. `None` where bytes came before the TLS handshake, which may be somebody else's.
fn limited(
    negotiated: Framed<MaybeTls, PgWireMessageServerCodec<Arc<Prepared>>>,
    shared: &Shared,
) -> Option<Socket> {
    if negotiated.is_secure() && !negotiated.read_buffer().is_empty() {
        return None;
    }
    let old = negotiated.into_parts();
    let pipe = Pipe::new(old.io, shared.options.stalled_timeout);
    let mut parts = FramedParts::new(pipe, old.codec);
    parts.read_buf = old.read_buf;
    parts.write_buf = old.write_buf;
    Some(Framed::from_parts(parts))
}

/// Why a client may not log in.
fn refusal(socket: &Socket, shared: &Shared) -> Option<PgWireError> {
    if shared.options.certificate.is_some() && !socket.is_secure() {
        let message = "this port takes connections with TLS only: set sslmode=require";
        return Some(sqlstate::fatal(sqlstate::INVALID_AUTHORIZATION, message));
    }
    shared.admit().err()
}

fn is_of_login(message: &PgWireFrontendMessage) -> bool {
    matches!(
        message,
        PgWireFrontendMessage::SslNegotiation(_)
            | PgWireFrontendMessage::Startup(_)
            | PgWireFrontendMessage::CancelRequest(_)
            | PgWireFrontendMessage::PasswordMessageFamily(_)
    )
}

/// Waits until the service stops.
async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error is the end of whoever would tell.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn terminating(why: &str) -> PgWireError {
    let message = format!("terminating connection: {why}");
    sqlstate::fatal(sqlstate::ADMIN_SHUTDOWN, message)
}

/// A refused login with the name that was given at first: SCRAM's own may be empty.
fn named(socket: &Socket, shared: &Shared, error: PgWireError) -> PgWireError {
    match error {
        PgWireError::InvalidPassword(_) => {
            shared.counts.login("failed");
            let user = socket.metadata().get(METADATA_USER);
            let user = user.map(String::as_str).unwrap_or_default();
            let peer = socket.socket_addr();
            log::warn!(target: logs::SERVICE, "the login of user {user:?} from {peer} to the PostgreSQL port has failed");
            let message = format!("password authentication failed for user {user:?}");
            sqlstate::fatal(sqlstate::INVALID_PASSWORD, message)
        }
        other => other,
    }
}

fn ends(error: &PgWireError) -> bool {
    match error {
        PgWireError::UserError(info) => info.is_fatal(),
        PgWireError::StatementNotFound(_)
        | PgWireError::PortalNotFound(_)
        | PgWireError::ParameterIndexOutOfBound(_)
        | PgWireError::InvalidRustTypeForParameter(_)
        | PgWireError::FailedToParseParameter(_)
        | PgWireError::InvalidOptionValue(_)
        | PgWireError::QueryCanceled
        | PgWireError::ApiError(_) => false,
        // Of the protocol and the login.
        _ => true,
    }
}

/// What is said of bytes that are no message.
fn last_words(error: PgWireError) -> PgWireError {
    match error {
        PgWireError::IoError(error) if error.kind() == io::ErrorKind::InvalidData => {
            sqlstate::fatal("54000", error.to_string())
        }
        other => other,
    }
}

/// Says a last word. The client may be gone.
async fn say(socket: &mut Socket, error: PgWireError) -> io::Result<()> {
    let said = error.to_string();
    if matches!(error, PgWireError::IoError(_)) {
        return Err(error.into());
    }
    let info = ErrorInfo::from(error);
    log::debug!(target: logs::SERVICE, "{} of {}", said, socket.socket_addr());
    socket
        .send(PgWireBackendMessage::ErrorResponse(info.into()))
        .await?;
    SinkExt::<PgWireBackendMessage>::close(socket).await
}
