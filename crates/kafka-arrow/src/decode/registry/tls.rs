//! Which certificates to trust when connecting to a registry with TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::config::{CA_LOCATION, RegistryConfig};
use crate::error::{Error, Result};
use crate::policy::{MAX_FILE_BYTES, read_bounded};

/// # Errors
/// When there is no trusted authority.
pub(super) fn client_config(config: &RegistryConfig) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let needed = config.endpoints.iter().any(|e| e.url.scheme() == "https");
    let roots = match needed {
        true => roots(config.ca_location.as_deref())?,
        false => RootCertStore::empty(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::config(CA_LOCATION, format!("TLS cannot be set up: {e}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots(location: Option<&str>) -> Result<RootCertStore> {
    let (certificates, origin) = match location {
        Some(path) => (located(path)?, format!("'{path}'")),
        None => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                log::debug!("certificates of the system: {error}");
            }
            (found.certs, "the system's certificates".to_owned())
        }
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(Error::config(
            CA_LOCATION,
            format!(
                "{origin} hold no certificate that can be trusted; name a PEM file with the \
                 authority's certificate"
            ),
        ));
    }
    Ok(roots)
}

/// The certificates in a PEM file, or in all PEM files of a folder.
fn located(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |e| Error::config(CA_LOCATION, format!("cannot read '{path}': {e}"));
    if !Path::new(path).is_dir() {
        let content = read_bounded(Path::new(path), MAX_FILE_BYTES).map_err(unreadable)?;
        return Ok(certificates(&content));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        // A folder may contain other things as well.
        let file = entry.map_err(unreadable)?.path();
        if let Ok(content) = read_bounded(&file, MAX_FILE_BYTES) {
            found.extend(certificates(&content));
        }
    }
    Ok(found)
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .filter_map(|certificate| certificate.ok())
        .collect()
}
