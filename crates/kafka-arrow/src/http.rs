//! HTTP to what stands beside a cluster: schema registries, and the token endpoints of identity providers.

use reqwest::{Client, ClientBuilder, Response};

use crate::error::{Error, Result, with_causes};
use crate::trust::Authorities;

/// A client of a server that `setting` names.
///
/// # Errors
/// When a certificate cannot be read, or the build has no TLS and it is needed.
pub(crate) fn client(
    builder: ClientBuilder,
    setting: &'static str,
    is_https: bool,
    authorities: Authorities<'_>,
) -> Result<Client> {
    let agent = concat!("datafusion-kafka/", env!("CARGO_PKG_VERSION"));
    let builder = builder.user_agent(agent);
    #[cfg(feature = "ssl")]
    let builder = builder.use_preconfigured_tls(tls(is_https, authorities)?);
    #[cfg(not(feature = "ssl"))]
    {
        let named = authorities.location.is_some() || authorities.pem.is_some();
        let needs_tls = named.then_some(authorities.setting);
        if let Some(setting) = needs_tls.or(is_https.then_some(setting)) {
            let what = format!("setting '{setting}' needs TLS, which this build does not have");
            return Err(Error::missing_feature("ssl", what));
        }
    }
    builder.build().map_err(|e| {
        Error::config(
            setting,
            format!("HTTP cannot be set up: {}", with_causes(&e)),
        )
        .because(e)
    })
}

#[cfg(feature = "ssl")]
fn tls(is_https: bool, authorities: Authorities<'_>) -> Result<rustls::ClientConfig> {
    let roots = match is_https {
        true => crate::trust::Trusted::new(authorities)?.roots(),
        false => rustls::RootCertStore::empty(),
    };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| {
            Error::config(authorities.setting, format!("TLS cannot be set up: {e}")).because(e)
        })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The body of an answer; `None` when it is longer than `most` bytes.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn body(
    mut response: Response,
    most: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// What to do about a rejected certificate, if that is what rustls reports. `server` is named in a URL.
pub(crate) fn certificate_hint(reason: &str, server: &str, authorities: &str) -> Option<String> {
    let says = |what: &str| reason.contains(what);
    if says("certificate expired") {
        Some("have it renewed, or set this machine's clock".to_owned())
    } else if says("certificate not valid yet") {
        Some("set this machine's clock".to_owned())
    } else if says("certificate not valid for name") {
        Some(format!(
            "name the {server} in the URL as its certificate does"
        ))
    } else if says("certificate") {
        Some(format!(
            "'{authorities}' names a file with the authorities to trust"
        ))
    } else {
        None
    }
}
