//! Tokens for OAUTHBEARER: provided by the program that embeds this crate, or unsecured ones for tests.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Mutex;

use super::Properties;
use crate::error::{Error, Result, with_causes};

/// Why a provider has no token.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// Provides the tokens that a client logs in with (SASL OAUTHBEARER).
///
/// - The client asks for a token when a connection logs in and no usable one is left. It uses a token for all
///   its connections until four fifths of the token's lifetime are over, or a broker has refused it.
/// - The client makes one request at a time. Connections wait for it within their own time limits, so the
///   provider should give up if its source takes long.
/// - An error counts as a network failure. The client asks again until the time limit of what it needs the
///   connection for is over.
///
/// ```
/// use std::time::Duration;
/// use kafka_arrow::client::{Token, TokenError, TokenProvider};
///
/// #[derive(Debug)]
/// struct FromFile(std::path::PathBuf);
///
/// #[async_trait::async_trait]
/// impl TokenProvider for FromFile {
///     async fn token(&self) -> Result<Token, TokenError> {
///         let token = std::fs::read_to_string(&self.0)?;
///         Ok(Token::lasting(token.trim(), Duration::from_secs(300)))
///     }
/// }
/// ```
#[async_trait]
pub trait TokenProvider: fmt::Debug + Send + Sync {
    /// A token that is valid now.
    ///
    /// # Errors
    /// Why there is no token. Users see its text and that of its sources, so they must not contain a secret.
    async fn token(&self) -> Result<Token, TokenError>;
}

/// A token of OAUTHBEARER. `Debug` does not show its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: String,
    expires: SystemTime,
    principal: Option<String>,
    extensions: Vec<(String, String)>,
}

impl Token {
    /// A token, such as a JWT in compact form, that is valid until `expires`.
    pub fn new(value: impl Into<String>, expires: SystemTime) -> Self {
        Self {
            value: value.into(),
            expires,
            principal: None,
            extensions: Vec::new(),
        }
    }

    /// A token that is valid for some time from now, as identity providers report it (`expires_in`).
    pub fn lasting(value: impl Into<String>, lifetime: Duration) -> Self {
        let now = SystemTime::now();
        // An end beyond the range of the clock counts as no end.
        let expires = now.checked_add(lifetime).unwrap_or(now + FAR);
        Self::new(value, expires)
    }

    /// Whom the token is for. Only messages use this; the broker reads the token itself.
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.principal = Some(principal.into());
        self
    }

    /// A SASL extension (KIP-342), such as `logicalCluster`. The name consists of letters.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// `'NAME'`, or another description of the user.
    pub(super) fn who(&self) -> String {
        match &self.principal {
            Some(principal) => format!("'{principal}'"),
            None => "the token's owner".to_owned(),
        }
    }

    /// The client's login message (RFC 7628).
    ///
    /// # Errors
    /// When the token or an extension contains characters that the message cannot hold.
    pub(super) fn message(&self) -> Result<String, String> {
        if self.value.is_empty() || !self.value.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(
                "the token is empty, or holds blanks or characters that are not ASCII".into(),
            );
        }
        let mut message = format!("n,,\x01auth=Bearer {}\x01", self.value);
        for (name, value) in &self.extensions {
            let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic());
            if !named || name == "auth" {
                return Err(format!(
                    "the extension '{name}' of the token: names consist of letters, and 'auth' is taken"
                ));
            }
            if !value
                .bytes()
                .all(|b| matches!(b, b'\t' | b'\r' | b'\n' | b' '..=b'~'))
            {
                return Err(format!(
                    "the value of the token's extension '{name}' holds characters that are not ASCII"
                ));
            }
            message.push_str(&format!("{name}={value}\x01"));
        }
        message.push('\x01');
        Ok(message)
    }

    /// What librdkafka wants to know of it.
    ///
    /// # Errors
    /// As [`message`](Self::message).
    #[cfg(feature = "librdkafka")]
    pub(in crate::client) fn parts(&self) -> Result<TokenParts<'_>, String> {
        self.message()?;
        let expires = self.expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(TokenParts {
            value: &self.value,
            expires_ms: i64::try_from(expires.as_millis()).unwrap_or(i64::MAX),
            // librdkafka sends it nowhere, but insists on one.
            principal: self.principal.as_deref().unwrap_or("unknown"),
            extensions: &self.extensions,
        })
    }

    /// When to ask for a new token: some time before this one expires.
    fn renewed(&self, now: SystemTime) -> Option<SystemTime> {
        let left = self.expires.duration_since(now).ok()?;
        (!left.is_zero()).then(|| now + left.mul_f64(0.8))
    }
}

/// The parts of a [`Token`].
#[cfg(feature = "librdkafka")]
pub(in crate::client) struct TokenParts<'a> {
    pub(in crate::client) value: &'a str,
    /// Since 1970.
    pub(in crate::client) expires_ms: i64,
    pub(in crate::client) principal: &'a str,
    pub(in crate::client) extensions: &'a [(String, String)],
}

/// Why there will be no token, however often it is asked for.
#[derive(Debug)]
pub(super) struct Denied(pub(super) String);

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Denied {}

const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self
            .extensions
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        f.debug_struct("Token")
            .field("principal", &self.principal)
            .field("expires", &self.expires)
            .field("extensions", &names)
            .finish_non_exhaustive()
    }
}

/// A provider, with the last token it gave.
#[derive(Debug)]
pub(crate) struct Tokens {
    provider: Arc<dyn TokenProvider>,
    /// The token, with the time at which to ask for a new one.
    last: Mutex<Option<(Token, SystemTime)>>,
}

/// For how long a provider that has failed is left alone, while its last token is still valid.
const LEFT_ALONE: Duration = Duration::from_secs(5);

impl Tokens {
    pub(super) fn new(provider: Arc<dyn TokenProvider>) -> Self {
        Self {
            provider,
            last: Mutex::new(None),
        }
    }

    /// A token that will remain valid for a while. If the provider fails, that is its last token until it
    /// expires.
    ///
    /// # Errors
    /// What the provider reported, or that its token has expired.
    pub(super) async fn token(&self) -> Result<Token, TokenError> {
        let mut last = self.last.lock().await;
        if let Some((token, until)) = &*last
            && SystemTime::now() < *until
        {
            return Ok(token.clone());
        }
        let given = self.provider.token().await;
        let now = SystemTime::now();
        let token = match (given, last.take()) {
            (Ok(token), _) => token,
            (Err(e), Some((token, _))) if now < token.expires => {
                log::warn!(
                    "OAUTHBEARER goes on with its last token, because there is no new one: {}",
                    with_causes(e.as_ref())
                );
                *last = Some((token.clone(), token.expires.min(now + LEFT_ALONE)));
                return Ok(token);
            }
            (Err(e), _) => return Err(e),
        };
        let until = token.renewed(now).ok_or(
            "the token has expired already; does this machine's clock agree with the provider's?",
        )?;
        *last = Some((token.clone(), until));
        Ok(token)
    }

    /// As [`token`](Self::token), for threads without a runtime.
    #[cfg(feature = "librdkafka")]
    pub(crate) fn wait(&self) -> Result<Token, String> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().map_err(|e| e.to_string())?;
        let token = runtime.block_on(self.token());
        token.map_err(|e| with_causes(e.as_ref()))
    }

    /// Drops a token that a broker has refused.
    pub(super) async fn refused(&self, token: &Token) {
        let mut last = self.last.lock().await;
        if last.as_ref().is_some_and(|(known, _)| known == token) {
            *last = None;
        }
    }
}

/// Makes unsigned tokens from `sasl.oauthbearer.config`, for tests.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Unsecured {
    principal_claim: String,
    principal: String,
    scope_claim: String,
    scope: Vec<String>,
    lifetime: Duration,
    extensions: Vec<(String, String)>,
}

impl Unsecured {
    /// librdkafka's names: `principal`, `principalClaimName`, `scope`, `scopeClaimName`,
    /// `lifeSeconds`, `extension_NAME`.
    ///
    /// # Errors
    /// Which word is invalid. The message leaves out its value, which may be secret.
    pub(super) fn new(properties: Properties<'_>) -> Result<Self> {
        const KEY: &str = "sasl.oauthbearer.config";
        let refused = |message: String| Err(Error::config(KEY, message));
        let mut made = Self {
            principal_claim: "sub".into(),
            principal: String::new(),
            scope_claim: "scope".into(),
            scope: Vec::new(),
            lifetime: Duration::from_secs(3600),
            extensions: Vec::new(),
        };
        let words = properties.get(KEY).unwrap_or_default().split(' ');
        for (i, word) in words.filter(|w| !w.is_empty()).enumerate() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) if !value.is_empty() => (name, value.to_owned()),
                _ => return refused(format!("word {}: expected 'name=value'", i + 1)),
            };
            match name {
                "principalClaimName" => made.principal_claim = value,
                "principal" => made.principal = value,
                "scopeClaimName" => made.scope_claim = value,
                "scope" => {
                    let scopes = value.split(',').filter(|s| !s.is_empty());
                    made.scope = scopes.map(str::to_owned).collect();
                }
                "lifeSeconds" => match value.parse::<i32>() {
                    Ok(seconds) if seconds > 0 => {
                        made.lifetime = Duration::from_secs(seconds.unsigned_abs().into());
                    }
                    _ => {
                        return refused("'lifeSeconds' must be a whole number from 1 on".into());
                    }
                },
                _ => match name.strip_prefix("extension_") {
                    Some(extension) => made.extensions.push((extension.to_owned(), value)),
                    None => {
                        return refused(format!(
                            "word {}: the name is not known; there are principal, \
                             principalClaimName, scope, scopeClaimName, lifeSeconds and \
                             extension_NAME",
                            i + 1
                        ));
                    }
                },
            }
        }
        if made.principal.is_empty() {
            return refused("needs 'principal=NAME' for unsecured tokens".into());
        }
        // Reports names and values that cannot be sent right away.
        if let Err(reason) = made.make(SystemTime::now()).message() {
            return refused(reason);
        }
        Ok(made)
    }

    /// The token, a JWT without a signature (RFC 7515, appendix A.5).
    fn make(&self, now: SystemTime) -> Token {
        let expires = now + self.lifetime;
        let seconds = |t: SystemTime| {
            let since = t.duration_since(UNIX_EPOCH).unwrap_or_default();
            serde_json::json!(since.as_millis() as f64 / 1000.0)
        };
        let mut claims = serde_json::Map::new();
        claims.insert(self.principal_claim.clone(), self.principal.clone().into());
        claims.insert("iat".into(), seconds(now));
        claims.insert("exp".into(), seconds(expires));
        if !self.scope.is_empty() {
            claims.insert(self.scope_claim.clone(), self.scope.clone().into());
        }
        let claims = serde_json::Value::Object(claims).to_string();
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let value = format!("{header}.{}.", URL_SAFE_NO_PAD.encode(claims));
        Token {
            extensions: self.extensions.clone(),
            ..Token::new(value, expires).principal(&self.principal)
        }
    }
}

#[async_trait]
impl TokenProvider for Unsecured {
    async fn token(&self) -> Result<Token, TokenError> {
        Ok(self.make(SystemTime::now()))
    }
}

impl fmt::Debug for Unsecured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsecured").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tests/oauth.rs"]
mod tests;
