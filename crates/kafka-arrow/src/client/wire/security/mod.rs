//! Who the client is and how connections are protected: TLS and SASL, from librdkafka's settings.
//!
//! ```text
//! Security ─┬─ tls ──┬─ material   certificates and keys of files and settings
//!           │        └─ explain    what went wrong in a handshake, and what to do about it
//!           └─ sasl ─┬─ scram
//!                    └─ oauth      tokens
//! ```

#[cfg(feature = "ssl")]
mod explain;
#[cfg(feature = "ssl")]
mod material;
mod oauth;
mod sasl;
mod scram;
#[cfg(test)]
mod tests;
#[cfg(feature = "ssl")]
mod tls;
mod transport;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

pub use self::oauth::{Token, TokenError, TokenProvider};
use self::sasl::Login;
#[cfg(feature = "ssl")]
use self::tls::Tls;
pub(super) use self::transport::Transport;
use super::connection::{Connection, Trouble};
use crate::error::Result;

/// Something made of settings; inside, the setting that this client does not support.
type Supported<T> = std::result::Result<T, String>;

/// What is needed to protect connections, made once for a client. TLS sessions, tokens and hashed
/// passwords are kept for the connections that follow.
#[derive(Debug)]
pub(super) struct Security {
    #[cfg(feature = "ssl")]
    tls: Option<Tls>,
    login: Option<Login>,
}

impl Security {
    /// What the settings ask for, with the tokens of OAUTHBEARER from `tokens`; inside, which of the
    /// settings this client does not support.
    ///
    /// # Errors
    /// When the settings are wrong for any client: a file that cannot be read, a key that is none, a
    /// login without credentials, tokens that no login takes.
    pub(super) fn new(
        properties: &BTreeMap<String, String>,
        tokens: Option<Arc<dyn TokenProvider>>,
    ) -> Result<Supported<Self>> {
        let properties = Properties(properties);
        let (tls, sasl) = match properties.get("security.protocol") {
            None | Some("plaintext") => (false, false),
            Some("ssl") => (true, false),
            Some("sasl_plaintext") => (false, true),
            Some("sasl_ssl") => (true, true),
            Some(other) => return Ok(Err(format!("'security.protocol' = '{other}'"))),
        };
        let login = match Login::new(sasl, properties, tokens)? {
            Ok(login) => login,
            Err(reason) => return Ok(Err(reason)),
        };
        #[cfg(feature = "ssl")]
        let security = match tls.then(|| Tls::new(properties)).transpose()?.transpose() {
            Ok(tls) => Ok(Self { tls, login }),
            Err(reason) => Err(reason),
        };
        #[cfg(not(feature = "ssl"))]
        let security = if tls {
            Err("'security.protocol': this build has no TLS (feature 'ssl')".to_owned())
        } else {
            Ok(Self { login })
        };
        Ok(security)
    }

    /// Protects a TCP connection to `host`.
    ///
    /// # Errors
    /// [`Trouble::Refused`] when the handshake failed, whose repetition would not help;
    /// [`Trouble::Io`] when the network did.
    pub(super) async fn wrap(&self, stream: TcpStream, host: &str) -> Result<Transport, Trouble> {
        #[cfg(feature = "ssl")]
        if let Some(tls) = &self.tls {
            let stream = tls.connect(stream, host).await?;
            return Ok(Transport::Tls(Box::new(stream)));
        }
        let _ = host;
        Ok(Transport::Plain(stream))
    }

    /// Logs in, or does so anew; returns how long that lasts, where the broker limits it (KIP-368).
    ///
    /// # Errors
    /// [`Trouble::Refused`] when the broker does not take the credentials, or the mechanism.
    pub(super) async fn authenticate(
        &self,
        connection: &mut Connection,
    ) -> Result<Option<Duration>, Trouble> {
        match &self.login {
            Some(login) => login.run(connection).await,
            None => Ok(None),
        }
    }

    /// What may be wrong when a broker closes a new connection instead of answering: the `first`
    /// request, which needs no login, or the first one after it.
    pub(super) fn hint_for_close(&self, first: bool) -> &'static str {
        #[cfg(feature = "ssl")]
        let tls = self.tls.is_some();
        #[cfg(not(feature = "ssl"))]
        let tls = false;
        match (first, tls, self.login.is_some()) {
            (true, false, false) => {
                "; does its listener expect TLS ('security.protocol' = 'ssl' or 'sasl_ssl')?"
            }
            (true, false, true) => {
                "; does its listener expect TLS ('security.protocol' = 'sasl_ssl')?"
            }
            (true, true, _) => {
                "; does its listener expect a client certificate ('ssl.certificate.location' and \
                 'ssl.key.location')?"
            }
            (false, false, false) => {
                "; does its listener expect a login ('security.protocol' = 'sasl_plaintext')?"
            }
            (false, true, false) => {
                "; does its listener expect a login ('security.protocol' = 'sasl_ssl')?"
            }
            (false, _, true) => "",
        }
    }
}

/// What a broker says about this client by closing a TLS connection, if an error is that.
pub(super) fn refusal(error: &io::Error) -> Option<String> {
    #[cfg(feature = "ssl")]
    return explain::refusal(error);
    #[cfg(not(feature = "ssl"))]
    {
        let _ = error;
        None
    }
}

/// Settings by librdkafka's names; one that is empty counts as not set, as in librdkafka.
#[derive(Clone, Copy)]
struct Properties<'a>(&'a BTreeMap<String, String>);

impl<'a> Properties<'a> {
    fn get(self, key: &str) -> Option<&'a str> {
        let value = self.0.get(key)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    /// A setting that is true or false, as librdkafka spells these.
    fn flag(self, key: &str, default: bool) -> bool {
        let is =
            |value: &str, words: [&str; 3]| words.iter().any(|w| w.eq_ignore_ascii_case(value));
        match self.get(key) {
            Some(value) if is(value, ["true", "t", "1"]) => true,
            Some(value) if is(value, ["false", "f", "0"]) => false,
            _ => default,
        }
    }
}
