//! Logs in with SASL.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::{LIBRDKAFKA, code};
use super::endpoint;
use super::oauth::{Denied, TokenProvider, Tokens, Unsecured};
use super::scram::{Exchange, Hash, Salted};
use super::{Connection, Properties, Supported, Trouble};
use crate::error::{Error, Result, with_causes};

/// How a client logs in. `Debug` only shows the mechanism.
pub(super) struct Login {
    mechanism: Mechanism,
}

impl Login {
    /// The mechanism's name.
    pub(super) fn mechanism(&self) -> &'static str {
        self.mechanism.name()
    }
}

enum Mechanism {
    Plain(Credentials),
    Scram {
        hash: Hash,
        credentials: Credentials,
        /// Kept from the previous login.
        salted: Mutex<Option<Salted>>,
    },
    OAuthBearer(Tokens),
}

struct Credentials {
    user: String,
    password: String,
}

impl Login {
    /// The login that the settings ask for. `wanted` says whether `security.protocol` includes SASL.
    ///
    /// # Errors
    /// When a mechanism lacks its credentials, or tokens are given that the login does not use.
    pub(super) fn new(
        wanted: bool,
        properties: Properties<'_>,
        tokens: Option<Arc<dyn TokenProvider>>,
        request_timeout: Duration,
    ) -> Result<Supported<Option<Self>>> {
        // librdkafka's default.
        let name = properties.get("sasl.mechanism").unwrap_or("GSSAPI");
        if tokens.is_some() && !(wanted && name.eq_ignore_ascii_case("OAUTHBEARER")) {
            return Err(Error::config(
                "sasl.mechanism",
                "a token provider is given, but the settings do not ask for its tokens; set \
                 'sasl.mechanism' = 'OAUTHBEARER' and 'security.protocol' = 'sasl_ssl'",
            ));
        }
        if !wanted {
            return Ok(Ok(None));
        }
        let scram = |hash| -> Result<Mechanism> {
            Ok(Mechanism::Scram {
                hash,
                credentials: credentials(name, properties)?,
                salted: Mutex::default(),
            })
        };
        let mechanism = match name.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let credentials = credentials(name, properties)?;
                for (key, text) in [
                    ("sasl.username", &credentials.user),
                    ("sasl.password", &credentials.password),
                ] {
                    if text.contains('\0') {
                        return Err(Error::config(key, "PLAIN cannot send a NUL character"));
                    }
                }
                Mechanism::Plain(credentials)
            }
            "SCRAM-SHA-256" => scram(Hash::Sha256)?,
            "SCRAM-SHA-512" => scram(Hash::Sha512)?,
            "OAUTHBEARER" => match bearer(properties, tokens, request_timeout)? {
                Ok(tokens) => Mechanism::OAuthBearer(tokens),
                Err(reason) => return Ok(Err(reason)),
            },
            _ => return Ok(Err(format!("'sasl.mechanism' = '{name}'"))),
        };
        Ok(Ok(Some(Self { mechanism })))
    }

    /// Logs in. Returns how long that lasts, if the broker limits it.
    ///
    /// # Errors
    /// [`Trouble::Refused`] when the broker rejects the mechanism or the credentials.
    pub(super) async fn run(
        &self,
        connection: &mut Connection,
    ) -> Result<Option<Duration>, Trouble> {
        self.announce(connection).await?;
        match &self.mechanism {
            Mechanism::Plain(Credentials { user, password }) => {
                let message = format!("\0{user}\0{password}");
                let answer = self.send(connection, message).await?;
                Ok(self.accepted(connection, answer, USER_HINT)?.lifetime)
            }
            Mechanism::Scram {
                hash,
                credentials: Credentials { user, password },
                salted,
            } => {
                let nonce = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
                let (exchange, first) = Exchange::begin(*hash, user, password, nonce);
                let answer = self.send(connection, first).await?;
                let first = self.accepted(connection, answer, USER_HINT)?.text;
                let known = salted
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let (proven, last, used) = exchange
                    .prove(&first, known.as_ref())
                    .map_err(|reason| self.refused(connection, &reason, ""))?;
                let answer = self.send(connection, last).await?;
                let answer = self.accepted(connection, answer, USER_HINT)?;
                proven
                    .verify(&answer.text)
                    .map_err(|reason| self.refused(connection, &reason, ""))?;
                *salted.lock().unwrap_or_else(PoisonError::into_inner) = Some(used);
                Ok(answer.lifetime)
            }
            Mechanism::OAuthBearer(tokens) => self.bear(connection, tokens).await,
        }
    }

    async fn bear(
        &self,
        connection: &mut Connection,
        tokens: &Tokens,
    ) -> Result<Option<Duration>, Trouble> {
        let token = tokens.token().await.map_err(|e| {
            let reason = format!("no token for OAUTHBEARER: {}", with_causes(e.as_ref()));
            match e.is::<Denied>() {
                true => Trouble::Refused(reason),
                false => Trouble::Io(reason),
            }
        })?;
        let message = token.message().map_err(|reason| {
            Trouble::Refused(format!(
                "OAUTHBEARER cannot send what the provider gave: {reason}"
            ))
        })?;
        let mut answer = self.send(connection, message).await?;
        // The broker refuses a token with a text. The client must acknowledge it before the login fails.
        let mut said = String::new();
        if answer.code == code::OK && !answer.text.is_empty() {
            said = std::mem::take(&mut answer.text);
            answer = self.send(connection, "\x01".to_owned()).await?;
        }
        let accepted = if said.is_empty() {
            self.accepted(connection, answer, TOKEN_HINT)
        } else {
            let reason = match answer.message {
                Some(message) => format!("{message} ({said})"),
                None => said,
            };
            Err(self.refused(connection, &reason, TOKEN_HINT))
        };
        match accepted {
            Ok(answer) => Ok(answer.lifetime),
            Err(trouble) => {
                tokens.refused(&token).await;
                log::debug!(
                    "{} did not accept the token of {}",
                    connection.broker(),
                    token.who()
                );
                Err(trouble)
            }
        }
    }

    /// Tells the broker which mechanism to use.
    async fn announce(&self, connection: &mut Connection) -> Result<(), Trouble> {
        let name = self.mechanism.name();
        let request =
            SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(name));
        let (answer, version) = connection.call(&request, 1).await?;
        connection.offered = answer.mechanisms.iter().map(StrBytes::to_string).collect();
        let broker = connection.broker();
        match answer.error_code {
            code::OK if version == 0 => Err(Trouble::Protocol(format!(
                "broker {broker} is older than Kafka 1.0; {LIBRDKAFKA} may log in"
            ))),
            code::OK => Ok(()),
            code::UNSUPPORTED_SASL_MECHANISM => Err(Trouble::Refused(format!(
                "broker {broker} does not accept 'sasl.mechanism' = '{name}' here; it offers {}",
                match connection.offered.join(", ") {
                    none if none.is_empty() => "none".to_owned(),
                    some => some,
                }
            ))),
            code::ILLEGAL_SASL_STATE => Err(Trouble::Refused(format!(
                "broker {broker} accepts no login at this listener; set 'security.protocol' to \
                 'plaintext' or 'ssl', or name another port"
            ))),
            other => Err(Trouble::Protocol(format!(
                "broker {broker} answers to SaslHandshake: {}",
                code::text(other)
            ))),
        }
    }

    async fn send(&self, connection: &mut Connection, message: String) -> Result<Answer, Trouble> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
        let (answer, _) = connection.call(&request, 2).await?;
        let lifetime = u64::try_from(answer.session_lifetime_ms).unwrap_or_default();
        Ok(Answer {
            code: answer.error_code,
            message: answer.error_message.map(|m| m.to_string()),
            text: String::from_utf8_lossy(&answer.auth_bytes).into_owned(),
            lifetime: (lifetime > 0).then(|| Duration::from_millis(lifetime)),
        })
    }

    fn accepted(
        &self,
        connection: &Connection,
        answer: Answer,
        hint: &str,
    ) -> Result<Answer, Trouble> {
        let message = answer.message.as_deref().unwrap_or("it does not say why");
        match answer.code {
            code::OK => Ok(answer),
            code::SASL_AUTHENTICATION_FAILED => Err(self.refused(connection, message, hint)),
            other => {
                let reason = format!("{message} ({})", code::text(other));
                Err(self.refused(connection, &reason, ""))
            }
        }
    }

    fn refused(&self, connection: &Connection, reason: &str, hint: &str) -> Trouble {
        let name = self.mechanism.name();
        let user = match &self.mechanism {
            Mechanism::Plain(c) | Mechanism::Scram { credentials: c, .. } => {
                format!(" of '{}'", c.user)
            }
            Mechanism::OAuthBearer(_) => String::new(),
        };
        let broker = connection.broker();
        Trouble::Refused(format!(
            "the login{user} by {name} failed at broker {broker}: {}{hint}",
            reason.trim_end_matches('.')
        ))
    }
}

const USER_HINT: &str = "; check 'sasl.username', 'sasl.password' and 'sasl.mechanism'";
const TOKEN_HINT: &str = "; does the broker trust the token's issuer?";

/// An answer to SaslAuthenticate.
struct Answer {
    code: i16,
    message: Option<String>,
    text: String,
    lifetime: Option<Duration>,
}

impl Mechanism {
    fn name(&self) -> &'static str {
        match self {
            Self::Plain(_) => "PLAIN",
            Self::Scram { hash, .. } => match hash {
                Hash::Sha256 => "SCRAM-SHA-256",
                Hash::Sha512 => "SCRAM-SHA-512",
            },
            Self::OAuthBearer(_) => "OAUTHBEARER",
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Login")
            .field(&self.mechanism.name())
            .finish()
    }
}

fn credentials(mechanism: &str, properties: Properties<'_>) -> Result<Credentials> {
    let get = |key: &str| {
        properties.get(key).map(str::to_owned).ok_or_else(|| {
            Error::config(
                key,
                format!("is not set, and 'sasl.mechanism' = '{mechanism}' needs it"),
            )
        })
    };
    Ok(Credentials {
        user: get("sasl.username")?,
        password: get("sasl.password")?,
    })
}

/// Where the tokens of OAUTHBEARER come from.
fn bearer(
    properties: Properties<'_>,
    provider: Option<Arc<dyn TokenProvider>>,
    request_timeout: Duration,
) -> Result<Supported<Tokens>> {
    if let Some(provider) = provider {
        return Ok(Ok(Tokens::new(provider)));
    }
    if endpoint::is_wanted(properties) {
        return Ok(endpoint::provider(properties, request_timeout)?.map(Tokens::new));
    }
    const AZURE: &str = "sasl.oauthbearer.metadata.authentication.type";
    if let Some(value) = properties.get(AZURE)
        && !value.eq_ignore_ascii_case("none")
    {
        return Ok(Err(format!("'{AZURE}' = '{value}'")));
    }
    if !properties.flag("enable.sasl.oauthbearer.unsecure.jwt", false) {
        return Err(Error::config(
            "sasl.mechanism",
            "'OAUTHBEARER' needs tokens: from a token endpoint ('sasl.oauthbearer.method' = 'oidc' and \
             'sasl.oauthbearer.token.endpoint.url'), from a TokenProvider in Rust programs, or for tests \
             'enable.sasl.oauthbearer.unsecure.jwt' = 'true'",
        ));
    }
    Ok(Ok(Tokens::new(Arc::new(Unsecured::new(properties)?))))
}
