//! Protects connections and identifies the client, with TLS and SASL, from librdkafka's settings.
//!
//! ```text
//! Security ─┬─ tls ──┬─ material   certificates and keys from files and settings
//!           │        └─ explain    what went wrong in a handshake, and what to do about it
//!           └─ sasl ─┬─ scram
//!                    └─ oauth      tokens ─ endpoint   those of an identity provider
//! ```

mod endpoint;
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

#[cfg(feature = "librdkafka")]
pub(in crate::client) use self::endpoint::endpoint_tokens;
#[cfg(feature = "librdkafka")]
pub(crate) use self::oauth::Tokens;
pub use self::oauth::{Token, TokenError, TokenProvider};
use self::sasl::Login;
#[cfg(feature = "ssl")]
use self::tls::Tls;
pub(super) use self::transport::Transport;
use super::connection::{Connection, Trouble};
use crate::error::Result;

/// Something made from settings. The inner error names a setting that this client does not support.
type Supported<T> = std::result::Result<T, String>;

/// Everything needed to protect a client's connections, made once. It keeps TLS sessions, tokens and hashed
/// passwords for later connections.
#[derive(Debug)]
pub(super) struct Security {
    #[cfg(feature = "ssl")]
    tls: Option<Tls>,
    login: Option<Login>,
}

impl Security {
    /// Builds what the settings ask for, with OAUTHBEARER tokens from `tokens`. The inner error names a
    /// setting that this client does not support.
    ///
    /// # Errors
    /// When the settings are wrong for any client: a file cannot be read, a key is invalid, a login lacks
    /// credentials, or tokens are given without a login that uses them.
    pub(super) fn new(
        properties: &BTreeMap<String, String>,
        tokens: Option<Arc<dyn TokenProvider>>,
        request_timeout: Duration,
    ) -> Result<Supported<Self>> {
        let properties = Properties(properties);
        let (tls, sasl) = match properties.get("security.protocol") {
            None | Some("plaintext") => (false, false),
            Some("ssl") => (true, false),
            Some("sasl_plaintext") => (false, true),
            Some("sasl_ssl") => (true, true),
            Some(other) => return Ok(Err(format!("'security.protocol' = '{other}'"))),
        };
        let login = match Login::new(sasl, properties, tokens, request_timeout)? {
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
    /// [`Trouble::Refused`] when the handshake failed in a way that a retry would not change; [`Trouble::Io`]
    /// when the network failed.
    pub(super) async fn wrap(&self, stream: TcpStream, host: &str) -> Result<Transport, Trouble> {
        #[cfg(feature = "ssl")]
        if let Some(tls) = &self.tls {
            let stream = tls.connect(stream, host).await?;
            return Ok(Transport::Tls(Box::new(stream)));
        }
        let _ = host;
        Ok(Transport::Plain(stream))
    }

    /// As [`wrap`](Self::wrap), and what the broker showed.
    pub(super) async fn inspect(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> (Result<Transport, Trouble>, Shown) {
        #[cfg(feature = "ssl")]
        if let Some(tls) = &self.tls {
            let (outcome, chain) = tls.inspect(stream, host).await;
            let chain = chain.iter().map(|c| c.to_vec()).collect();
            let mut shown = Shown {
                chain,
                ..Shown::default()
            };
            if let Ok(stream) = &outcome {
                let session = stream.get_ref().1;
                shown.version = session.protocol_version().and_then(|v| v.as_str());
            }
            return (outcome.map(|s| Transport::Tls(Box::new(s))), shown);
        }
        let _ = host;
        (Ok(Transport::Plain(stream)), Shown::default())
    }

    /// Whether connections are in TLS.
    pub(super) fn has_tls(&self) -> bool {
        #[cfg(feature = "ssl")]
        return self.tls.is_some();
        #[cfg(not(feature = "ssl"))]
        false
    }

    /// Where the certificates come from that are trusted, these, and the client's own (DER).
    pub(super) fn trust(&self) -> Trust {
        #[cfg(feature = "ssl")]
        if let Some(tls) = &self.tls {
            let (origin, trusted) = tls.trust();
            return Trust {
                origin: origin.to_owned(),
                trusted: trusted.iter().map(|c| c.to_vec()).collect(),
                own: tls.own().iter().map(|c| c.to_vec()).collect(),
            };
        }
        Trust::default()
    }

    /// The mechanism of the login.
    pub(super) fn mechanism(&self) -> Option<&'static str> {
        self.login.as_ref().map(Login::mechanism)
    }

    /// Logs in, or logs in again. Returns how long that lasts, if the broker limits it (KIP-368).
    ///
    /// # Errors
    /// [`Trouble::Refused`] when the broker rejects the credentials or the mechanism.
    pub(super) async fn authenticate(
        &self,
        connection: &mut Connection,
    ) -> Result<Option<Duration>, Trouble> {
        match &self.login {
            Some(login) => login.run(connection).await,
            None => Ok(None),
        }
    }

    /// What may be wrong when a broker closes a new connection instead of answering. `first` means the first
    /// request, which needs no login; otherwise it is the first one after that.
    pub(super) fn hint_for_close(&self, first: bool) -> &'static str {
        match (first, self.has_tls(), self.login.is_some()) {
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

/// What a broker showed in a TLS handshake.
#[derive(Debug, Default)]
pub(in crate::client) struct Shown {
    /// Its certificate and those of its signers (DER); empty without TLS.
    pub(in crate::client) chain: Vec<Vec<u8>>,
    /// The version of TLS, for example `TLSv1_3`.
    pub(in crate::client) version: Option<&'static str>,
}

/// What a client trusts, and its own certificate (DER).
#[derive(Debug, Default)]
pub(in crate::client) struct Trust {
    /// Where the trusted certificates come from.
    pub(in crate::client) origin: String,
    pub(in crate::client) trusted: Vec<Vec<u8>>,
    /// Its own certificate and those of its signers.
    pub(in crate::client) own: Vec<Vec<u8>>,
}

/// What a broker says about this client when it closes a TLS connection, if the error is that.
pub(super) fn refusal(error: &io::Error) -> Option<String> {
    #[cfg(feature = "ssl")]
    return explain::refusal(error);
    #[cfg(not(feature = "ssl"))]
    {
        let _ = error;
        None
    }
}

/// Settings by librdkafka's names. As in librdkafka, an empty setting counts as not set.
#[derive(Clone, Copy)]
struct Properties<'a>(&'a BTreeMap<String, String>);

impl<'a> Properties<'a> {
    fn get(self, key: &str) -> Option<&'a str> {
        let value = self.0.get(key)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    /// A boolean setting, in librdkafka's spelling.
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
