//! Sends requests to a registry and interprets the answers: which URL to try, how often, and what counts as
//! an error.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::backoff::Backoff;
use crate::config::registry::{CA_LOCATION, Endpoint, Login, RegistryConfig};
use crate::error::{Error, Result, with_causes};
use crate::http;
use crate::trust::Authorities;

/// The largest accepted answer. Schemas have a few kilobytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// How often all URLs are tried before a request fails.
const ROUNDS: u32 = 6;

/// The pauses after the rounds: 3 seconds together.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_millis(1600);

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A registry behind one or more URLs. The one that answered last is tried first.
pub(super) struct Transport {
    client: Client,
    endpoints: Vec<Endpoint>,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    preferred: AtomicUsize,
}

/// Why there is no answer.
enum Trouble {
    /// Another URL or a later attempt may succeed, at the earliest after the time that the answer names.
    Again(String, Option<Duration>),
    /// The connection failed, or broke.
    Broken(reqwest::Error),
    Final(String),
    /// The request itself is wrong; repeating it would not help.
    Refused(String),
}

impl Transport {
    /// # Errors
    /// When a certificate cannot be read, or the login is malformed.
    pub(super) fn new(config: RegistryConfig) -> Result<Self> {
        let is_https = |endpoint: &Endpoint| endpoint.url.scheme() == "https";
        let client = http::client(
            Client::builder().connect_timeout(config.timeout),
            "schema.registry.url",
            config.endpoints.iter().any(is_https),
            Authorities {
                setting: CA_LOCATION,
                location: config.ca_location.as_deref(),
                pem: None,
            },
        )?;
        Ok(Self {
            client,
            authorization: config.login.as_ref().map(authorization).transpose()?,
            endpoints: config.endpoints,
            timeout: config.timeout,
            preferred: AtomicUsize::new(0),
        })
    }

    /// Requests a path before a [`deadline`](Self::deadline); `None` when the registry does not have it.
    /// Messages use `operation` to say what the request was for.
    ///
    /// # Errors
    /// When no URL answers in time, the login is refused, or an answer makes no sense.
    pub(super) async fn ask(
        &self,
        operation: &str,
        path: &[&str],
        deadline: Instant,
    ) -> Result<Option<Value>> {
        self.answer(operation, path, None, deadline).await
    }

    /// Sends a body to a path, otherwise like [`ask`](Self::ask). The registry may receive it more than once.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and [`Error::Invalid`] when the registry refuses the body.
    pub(super) async fn tell(
        &self,
        operation: &str,
        path: &[&str],
        body: &Value,
    ) -> Result<Option<Value>> {
        self.answer(operation, path, Some(body), self.deadline())
            .await
    }

    /// The time limit for a request that starts now, and for the requests that follow from it.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    async fn answer(
        &self,
        operation: &str,
        path: &[&str],
        body: Option<&Value>,
        deadline: Instant,
    ) -> Result<Option<Value>> {
        let mut backoff = Backoff::new(PAUSE, PAUSE_MOST);
        loop {
            let first = self.preferred.load(Ordering::Relaxed);
            let mut failed = None;
            for step in 0..self.endpoints.len() {
                let place = (first + step) % self.endpoints.len();
                // A URL that hangs must leave time for the others.
                let left = (self.endpoints.len() - step) as u32;
                let share = deadline.saturating_duration_since(Instant::now()) / left;
                let endpoint = &self.endpoints[place];
                let asked = timeout(share, self.once(endpoint, path, body)).await;
                let trouble = match asked {
                    Ok(Ok(answer)) => {
                        self.preferred.store(place, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Ok(Err(trouble)) => trouble,
                    Err(_) => Trouble::Again(
                        format!(
                            "no answer within {} ms; 'schema.registry.request.timeout.ms' sets how \
                             long to wait",
                            self.timeout.as_millis()
                        ),
                        None,
                    ),
                };
                match trouble {
                    Trouble::Final(reason) => {
                        return Err(error(endpoint, operation, reason, false));
                    }
                    Trouble::Refused(reason) => {
                        return Err(Error::invalid(format!(
                            "schema registry {endpoint:?}: {operation} failed: {reason}"
                        )));
                    }
                    Trouble::Broken(cause) => {
                        let reason = with_causes(&cause);
                        let hint = http::certificate_hint(&reason, "registry", CA_LOCATION);
                        if let Some(hint) = hint {
                            let reason = format!("{reason}; {hint}");
                            return Err(error(endpoint, operation, reason, false).because(cause));
                        }
                        failed = Some((
                            error(endpoint, operation, reason, true).because(cause),
                            None,
                        ));
                    }
                    Trouble::Again(reason, after) => {
                        failed = Some((error(endpoint, operation, reason, true), after));
                    }
                }
                if let Some((error, _)) = &failed {
                    log::debug!("{error}");
                }
            }
            let Some((error, after)) = failed else {
                return Err(Error::internal("a schema registry without a URL"));
            };
            let wait = after.unwrap_or_default().max(backoff.pause());
            if backoff.failed() == ROUNDS
                || wait >= deadline.saturating_duration_since(Instant::now())
            {
                return Err(error);
            }
            sleep(wait).await;
        }
    }

    /// An error that names the URL that answered last.
    pub(super) fn error(&self, operation: &str, reason: String) -> Error {
        let place = self.preferred.load(Ordering::Relaxed);
        error(&self.endpoints[place], operation, reason, false)
    }

    async fn once(
        &self,
        endpoint: &Endpoint,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Option<Value>, Trouble> {
        let url = located(&endpoint.url, path)
            .ok_or_else(|| Trouble::Final("the URL takes no path".to_owned()))?;
        let mut request = match body {
            None => self.client.get(url),
            Some(body) => {
                let request = self.client.post(url).header(CONTENT_TYPE, MEDIA_TYPE);
                request.body(body.to_string())
            }
        };
        request = request.header(ACCEPT, format!("{MEDIA_TYPE}, application/json"));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let response = request.send().await.map_err(broken)?;
        let (status, after) = (response.status(), retry_after(&response));
        let received = received(response).await?;
        match answer(status, &received, after) {
            Err(Trouble::Final(reason))
                if body.is_some()
                    && matches!(
                        status,
                        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY
                    ) =>
            {
                Err(Trouble::Refused(reason))
            }
            answer => answer,
        }
    }
}

/// Interprets an answer.
fn answer(
    status: StatusCode,
    body: &[u8],
    after: Option<Duration>,
) -> Result<Option<Value>, Trouble> {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    if status.is_success() {
        return match json {
            Some(json) => Ok(Some(json)),
            None => Err(Trouble::Final(
                "the answer is not JSON; is it a schema registry?".to_owned(),
            )),
        };
    }
    let json = json.unwrap_or_default();
    let message = json["message"].as_str().unwrap_or_default();
    if status == StatusCode::NOT_FOUND {
        // A registry that does not have something says so with a code; others do not know the path.
        // So does a registry, with a message of its web server's.
        let code = json["error_code"].as_i64();
        if body.is_empty() || code.is_some() && !message.starts_with("HTTP 404") {
            return Ok(None);
        }
        return Err(Trouble::Final(
            "it answers 404 without saying what is missing; is the path of the URL right? Some \
             registries need one, for example http://host/apis/ccompat/v7"
                .to_owned(),
        ));
    }
    let shown: String = message.chars().take(300).collect();
    let told = match shown.is_empty() {
        true => format!("it answers {status}"),
        false => format!("it answers {status}: {shown}"),
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Trouble::Final(format!(
            "{told}; check 'schema.registry.basic.auth.user.info' or \
             'schema.registry.bearer.auth.token'"
        ))),
        StatusCode::CONFLICT => Err(Trouble::Final(format!(
            "{told}; the schema is not compatible with those of the subject: change it, write \
             under another subject, or relax the subject's compatibility"
        ))),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Err(Trouble::Again(told, after))
        }
        status if status.is_server_error() => Err(Trouble::Again(told, after)),
        _ => Err(Trouble::Final(told)),
    }
}

async fn received(response: Response) -> Result<Vec<u8>, Trouble> {
    let body = http::body(response, MAX_ANSWER_BYTES).await;
    body.map_err(broken)?.ok_or_else(|| {
        Trouble::Final(format!(
            "the answer is longer than {MAX_ANSWER_BYTES} bytes; is it a schema registry?"
        ))
    })
}

/// The URL may hold a password.
fn broken(error: reqwest::Error) -> Trouble {
    Trouble::Broken(error.without_url())
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// The URL with a path appended. Each part of the path may contain any character.
fn located(url: &Url, path: &[&str]) -> Option<Url> {
    let mut url = url.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend(path);
    Some(url)
}

fn authorization(login: &Login) -> Result<HeaderValue> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let (setting, text) = match login {
        Login::Basic(user_info) => (
            "schema.registry.basic.auth.user.info",
            format!("Basic {}", STANDARD.encode(user_info)),
        ),
        Login::Bearer(token) => (
            "schema.registry.bearer.auth.token",
            format!("Bearer {token}"),
        ),
    };
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Error::config(setting, "holds characters that a header cannot have"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn error(endpoint: &Endpoint, operation: &str, reason: String, transient: bool) -> Error {
    Error::Registry {
        url: endpoint.shown.clone(),
        operation: operation.to_owned(),
        reason,
        transient,
        source: None,
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("endpoints", &self.endpoints)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
