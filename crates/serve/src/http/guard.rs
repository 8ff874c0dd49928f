//! Who may ask for what.
//!
//! - Whoever changes something needs the token as `Authorization: Bearer`, which no browser sends by itself. Without a
//!   token in the file, nobody may.
//! - On a port that other machines reach, whoever looks needs it too; a browser may send it as the password of its
//!   own dialog. The probes ask for nothing.
//! - A port of this machine alone answers only to its own names: a page from elsewhere that resolves its name to
//!   127.0.0.1 reads nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::api::refused;
use super::probes::is_probe;
use crate::config::{HttpConfig, Secret};

/// Who asks: the other end of the connection, as an extension of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Stands before all routes of a port. Clones share the token.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Whether only this machine reaches the port.
    is_local: bool,
    rules: Arc<RwLock<Rules>>,
}

#[derive(Debug)]
struct Rules {
    token: Option<Secret>,
    hosts: Vec<String>,
}

impl Guard {
    pub(super) fn new(config: &HttpConfig, address: SocketAddr) -> Self {
        Self {
            is_local: address.ip().is_loopback(),
            rules: Arc::new(RwLock::new(Rules::of(config))),
        }
    }

    /// Takes over the token and the names of another file.
    pub(super) fn renew(&self, config: &HttpConfig) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Rules::of(config);
    }

    pub(super) fn before(self, routes: Router) -> Router {
        routes.layer(from_fn_with_state(self, check))
    }

    fn refuse(&self, request: &Request) -> Option<Response> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        if is_probe(request.uri().path()) {
            return None;
        }
        if self.is_local && !rules.is_own_name(request) {
            return Some(refused(
                StatusCode::MISDIRECTED_REQUEST,
                "this port answers to names of this machine; add others to 'hosts' in [http]",
            ));
        }
        let given = request.headers().get(AUTHORIZATION);
        let looks = matches!(*request.method(), Method::GET | Method::HEAD);
        match (&rules.token, looks) {
            (None, true) => None,
            (None, false) => Some(refused(
                StatusCode::FORBIDDEN,
                "nobody may change anything: [http] has no token",
            )),
            (Some(_), true) if self.is_local => None,
            (Some(token), true) if bearer(given, token) || password(given, token) => None,
            (Some(token), false) if bearer(given, token) => None,
            (Some(_), looks) => {
                let mut answer = refused(
                    StatusCode::UNAUTHORIZED,
                    "send the token: Authorization: Bearer TOKEN",
                );
                let scheme = match looks {
                    true => {
                        HeaderValue::from_static("Basic realm=\"kafka-sql\", charset=\"UTF-8\"")
                    }
                    false => HeaderValue::from_static("Bearer"),
                };
                answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                Some(answer)
            }
        }
    }
}

impl Rules {
    fn of(config: &HttpConfig) -> Self {
        Self {
            token: config.token.clone(),
            hosts: config.hosts.clone(),
        }
    }

    fn is_own_name(&self, request: &Request) -> bool {
        let host = request.headers().get(HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let Some(host) = host.or_else(|| request.uri().host()) else {
            return false;
        };
        let name = match host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        let is_loopback = name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let mut own = self.hosts.iter();
        is_loopback
            || name.eq_ignore_ascii_case("localhost")
            || own.any(|own| own.eq_ignore_ascii_case(name))
    }
}

async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.refuse(&request) {
        Some(refusal) => refusal,
        None => next.run(request).await.into_response(),
    }
}

fn bearer(given: Option<&HeaderValue>, token: &Secret) -> bool {
    let given = given.and_then(|given| given.to_str().ok());
    let given = given.and_then(|given| given.strip_prefix("Bearer "));
    given.is_some_and(|given| is_same(given.trim(), token))
}

/// `Basic`, with any user and the token as password.
fn password(given: Option<&HeaderValue>, token: &Secret) -> bool {
    let given = given.and_then(|given| given.to_str().ok());
    let given = given.and_then(|given| given.strip_prefix("Basic "));
    let given = given.and_then(|given| BASE64_STANDARD.decode(given.trim()).ok());
    let given = given.and_then(|given| String::from_utf8(given).ok());
    given.is_some_and(|given| {
        let password = given.split_once(':').map(|(_, password)| password);
        password.is_some_and(|password| is_same(password, token))
    })
}

/// Compares digests: how long that takes says nothing about the token.
fn is_same(given: &str, token: &Secret) -> bool {
    Sha256::digest(given.as_bytes()) == Sha256::digest(token.reveal().as_bytes())
}
