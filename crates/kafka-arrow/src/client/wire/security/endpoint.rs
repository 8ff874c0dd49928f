//! Tokens from the token endpoint of an identity provider, by the client credentials grant (RFC 6749, 4.4).

use std::sync::Arc;
use std::time::Duration;

use super::oauth::TokenProvider;
#[cfg(feature = "librdkafka")]
use super::oauth::Tokens;
use super::{Properties, Supported};
use crate::error::Result;

const URL: &str = "sasl.oauthbearer.token.endpoint.url";

/// Whether the settings ask for tokens of an endpoint. Java's do so by its URL alone.
pub(super) fn is_wanted(properties: Properties<'_>) -> bool {
    match properties.get("sasl.oauthbearer.method") {
        Some(method) => method.eq_ignore_ascii_case("oidc"),
        None => {
            properties.get(URL).is_some()
                && !properties.flag("enable.sasl.oauthbearer.unsecure.jwt", false)
        }
    }
}

/// The tokens of an endpoint, for librdkafka, if the settings ask for them.
///
/// # Errors
/// As [`provider`].
#[cfg(feature = "librdkafka")]
pub(in crate::client) fn endpoint_tokens(
    properties: &std::collections::BTreeMap<String, String>,
    request_timeout: Duration,
) -> Result<Option<Arc<Tokens>>> {
    let properties = Properties(properties);
    let mechanism = properties.get("sasl.mechanism").unwrap_or_default();
    if !mechanism.eq_ignore_ascii_case("OAUTHBEARER") || !is_wanted(properties) {
        return Ok(None);
    }
    // What we cannot do, librdkafka may be able to, or says that it cannot.
    Ok(provider(properties, request_timeout)?
        .ok()
        .map(|it| Arc::new(Tokens::new(it))))
}

/// What asks the endpoint. The inner error names a setting that is not supported.
///
/// # Errors
/// When a setting is missing or makes no sense.
#[cfg(feature = "oidc")]
pub(super) fn provider(
    properties: Properties<'_>,
    request_timeout: Duration,
) -> Result<Supported<Arc<dyn TokenProvider>>> {
    for (key, default) in [
        ("sasl.oauthbearer.grant.type", "client_credentials"),
        ("sasl.oauthbearer.metadata.authentication.type", "none"),
    ] {
        if let Some(value) = properties.get(key)
            && value != default
        {
            return Ok(Err(format!("'{key}' = '{value}'")));
        }
    }
    Ok(Ok(Arc::new(asking::Endpoint::new(
        properties,
        request_timeout,
    )?)))
}

/// # Errors
/// Always.
#[cfg(not(feature = "oidc"))]
pub(super) fn provider(
    _: Properties<'_>,
    _: Duration,
) -> Result<Supported<Arc<dyn TokenProvider>>> {
    let what = format!("'{URL}': this build cannot ask for tokens");
    Err(crate::error::Error::missing_feature("oidc", what))
}

#[cfg(feature = "oidc")]
mod asking {
    use std::fmt;
    use std::time::Duration;

    use async_trait::async_trait;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use reqwest::header::{ACCEPT, CONTENT_TYPE};
    use reqwest::{Client, StatusCode};
    use serde_json::Value;
    use tokio::time::{Instant, sleep, timeout_at};
    use url::Url;

    use super::super::oauth::{Denied, Token, TokenError, TokenProvider};
    use super::{Properties, URL};
    use crate::backoff::Backoff;
    use crate::error::{Error, Result, with_causes};
    use crate::http;
    use crate::trust::Authorities;

    /// The part of `request.timeout.ms` that a token may take. It leaves time for a login, of which a broker
    /// gets a third.
    const SHARE: u32 = 4;
    /// How often the endpoint is asked before a request fails.
    const ROUNDS: u32 = 6;
    /// The pauses between: 3 seconds together.
    const PAUSE: Duration = Duration::from_millis(100);
    const PAUSE_MOST: Duration = Duration::from_millis(1600);
    /// The largest accepted answer. Tokens have a few kilobytes.
    const ANSWER_BYTES_MOST: usize = 1 << 20;
    /// For how long a token is used whose end nobody names.
    const UNNAMED_LIFETIME: Duration = Duration::from_secs(300);
    const CA_LOCATION: &str = "https.ca.location";
    const EXTENSIONS: &str = "sasl.oauthbearer.extensions";

    /// A token endpoint, with what is sent to it.
    pub(super) struct Endpoint {
        client: Client,
        url: Url,
        id: String,
        secret: String,
        form: String,
        extensions: Vec<(String, String)>,
        /// How long a request may take with all its retries.
        timeout: Duration,
    }

    /// Why there is no token.
    enum Trouble {
        /// A later attempt may succeed.
        Again(String),
        Final(String),
    }

    impl Endpoint {
        pub(super) fn new(properties: Properties<'_>, request_timeout: Duration) -> Result<Self> {
            let needed = |key: &str| {
                properties.get(key).map(str::to_owned).ok_or_else(|| {
                    let why = "is not set, and a token endpoint needs it";
                    Error::config(key, why)
                })
            };
            let url = url(&needed(URL)?)?;
            let builder = Client::builder()
                // The secret goes to the named host only.
                .redirect(reqwest::redirect::Policy::none())
                // Tokens are wanted from several runtimes, each of which ends its connections.
                .pool_max_idle_per_host(0);
            let client = http::client(
                builder,
                URL,
                url.scheme() == "https",
                Authorities {
                    setting: CA_LOCATION,
                    location: properties.get(CA_LOCATION),
                    pem: properties
                        .get("https.ca.pem")
                        .map(|pem| ("https.ca.pem", pem)),
                },
            )?;
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "client_credentials");
            if let Some(scope) = properties.get("sasl.oauthbearer.scope") {
                form.append_pair("scope", scope);
            }
            let made = Self {
                client,
                url,
                id: needed("sasl.oauthbearer.client.id")?,
                secret: needed("sasl.oauthbearer.client.secret")?,
                form: form.finish(),
                extensions: extensions(properties.get(EXTENSIONS).unwrap_or_default())?,
                timeout: request_timeout / SHARE,
            };
            // Reports extensions that cannot be sent right away.
            let probe = made.token_of("t", Duration::from_secs(1), None).message();
            probe.map_err(|reason| Error::config(EXTENSIONS, reason))?;
            Ok(made)
        }

        async fn once(&self) -> Result<Token, Trouble> {
            let request = self.client.post(self.url.clone());
            let request = request
                .basic_auth(&self.id, Some(&self.secret))
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(ACCEPT, "application/json")
                .body(self.form.clone());
            let response = request.send().await.map_err(broken)?;
            let status = response.status();
            let body = http::body(response, ANSWER_BYTES_MOST).await;
            let body = body.map_err(broken)?.ok_or_else(|| {
                Trouble::Final(format!(
                    "the answer is longer than {ANSWER_BYTES_MOST} bytes; is it a token endpoint?"
                ))
            })?;
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            if !status.is_success() {
                return Err(refusal(status, &answer));
            }
            let Some(value) = answer["access_token"].as_str() else {
                return Err(Trouble::Final(
                    "the answer has no 'access_token'; is it a token endpoint?".to_owned(),
                ));
            };
            let claims = claims(value).unwrap_or_default();
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let seconds = match (&answer["expires_in"], claims["exp"].as_f64()) {
                // Some endpoints write the number as a text. This does not depend on our clock.
                (Value::String(seconds), _) => seconds.parse().ok(),
                (Value::Null, Some(end)) => Some(end - now.unwrap_or_default().as_secs_f64()),
                (seconds, _) => seconds.as_f64(),
            };
            let lifetime = match seconds {
                Some(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or_default(),
                None => UNNAMED_LIFETIME,
            };
            Ok(self.token_of(value, lifetime, claims["sub"].as_str()))
        }

        fn token_of(&self, value: &str, lifetime: Duration, subject: Option<&str>) -> Token {
            let token = Token::lasting(value, lifetime).principal(subject.unwrap_or(&self.id));
            let extensions = self.extensions.iter().cloned();
            extensions.fold(token, |token, (name, value)| token.extension(name, value))
        }

        /// A reason with the endpoint's name. What others say may repeat the secret.
        fn told(&self, reason: &str) -> String {
            let mut shown = self.url.clone();
            shown.set_query(None);
            let reason = reason.replace(&self.secret, "[redacted]");
            format!("token endpoint {shown}: {reason}")
        }
    }

    #[async_trait]
    impl TokenProvider for Endpoint {
        async fn token(&self) -> Result<Token, TokenError> {
            let deadline = Instant::now() + self.timeout;
            let mut backoff = Backoff::new(PAUSE, PAUSE_MOST);
            loop {
                let reason = match timeout_at(deadline, self.once()).await {
                    Ok(Ok(token)) => return Ok(token),
                    Ok(Err(Trouble::Final(reason))) => {
                        return Err(Denied(self.told(&reason)).into());
                    }
                    Ok(Err(Trouble::Again(reason))) => reason,
                    Err(_) => format!(
                        "no answer within {} ms, a quarter of 'request.timeout.ms'",
                        self.timeout.as_millis()
                    ),
                };
                let pause = backoff.pause();
                if backoff.failed() == ROUNDS || Instant::now() + pause >= deadline {
                    return Err(self.told(&reason).into());
                }
                log::debug!("{}", self.told(&reason));
                sleep(pause).await;
            }
        }
    }

    impl fmt::Debug for Endpoint {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Endpoint").finish_non_exhaustive()
        }
    }

    fn url(text: &str) -> Result<Url> {
        // The text may contain a password.
        let wrong = |what: &str| {
            let example = "expected a URL such as https://idp.example.com/oauth2/token";
            Err(Error::config(URL, format!("{what}; {example}")))
        };
        match Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
                wrong("begins with neither http:// nor https://")
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => wrong(
                "has a login, which belongs to 'sasl.oauthbearer.client.id' and \
                 'sasl.oauthbearer.client.secret'",
            ),
            Ok(url) => Ok(url),
            Err(e) => wrong(&format!("cannot be read: {e}")),
        }
    }

    /// `name=value,name=value`, as librdkafka writes extensions.
    fn extensions(list: &str) -> Result<Vec<(String, String)>> {
        let pairs = list
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::config(EXTENSIONS, "expected 'name=value,name=value'"))?;
            Ok((name.to_owned(), value.to_owned()))
        });
        pairs.collect()
    }

    /// What a JWT claims, unverified: only the broker can do that.
    fn claims(token: &str) -> Option<Value> {
        let payload = token.split('.').nth(1)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    fn refusal(status: StatusCode, answer: &Value) -> Trouble {
        let text = |key: &str| answer[key].as_str().unwrap_or_default();
        let words = [text("error"), text("error_description")];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let words: String = words.join(": ").chars().take(300).collect();
        let told = match words.is_empty() {
            true => format!("it answers {status}"),
            false => format!("it answers {status}: {words}"),
        };
        if status.is_redirection() {
            Trouble::Final(format!(
                "{told}; redirects are not followed, since the secret would go along: name the place itself"
            ))
        } else if status.is_server_error()
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
            )
        {
            Trouble::Again(told)
        } else if matches!(text("error"), "invalid_scope") {
            Trouble::Final(format!("{told}; check 'sasl.oauthbearer.scope'"))
        } else if status == StatusCode::NOT_FOUND {
            Trouble::Final(format!("{told}; is the path of the URL right?"))
        } else {
            Trouble::Final(format!(
                "{told}; check 'sasl.oauthbearer.client.id' and 'sasl.oauthbearer.client.secret'"
            ))
        }
    }

    fn broken(error: reqwest::Error) -> Trouble {
        let reason = with_causes(&error.without_url());
        match http::certificate_hint(&reason, "endpoint", CA_LOCATION) {
            Some(hint) => Trouble::Final(format!("{reason}; {hint}")),
            None => Trouble::Again(reason),
        }
    }
}
