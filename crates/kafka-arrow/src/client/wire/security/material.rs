//! Certificates and keys, from files and settings, as PEM or PKCS12.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p12_keystore::error::Error as Pkcs12Error;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Properties, Supported};
use crate::error::{Error, Result};
use crate::policy::{MAX_FILE_BYTES, read_bounded};

/// The trusted authorities.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// Where they came from, for messages.
    pub(super) origin: String,
}

impl Trusted {
    /// `ssl.ca.location` and `ssl.ca.pem`, or else the system's certificates.
    ///
    /// # Errors
    /// When there are no certificates, or a file cannot be read.
    pub(super) fn new(properties: Properties<'_>) -> Result<Self> {
        let location = properties
            .get("ssl.ca.location")
            .filter(|path| *path != "probe");
        let mut certificates = Vec::new();
        let mut origin = Vec::new();
        if let Some(path) = location {
            certificates.extend(located(path)?);
            origin.push(format!("'{path}'"));
        }
        if let Some(pem) = properties.get("ssl.ca.pem") {
            certificates.extend(chain("ssl.ca.pem", pem.as_bytes())?);
            origin.push("'ssl.ca.pem'".to_owned());
        }
        if origin.is_empty() {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                log::debug!("certificates of the system: {error}");
            }
            certificates = found.certs;
            origin.push("the system's certificates".to_owned());
        }
        let trusted = Self {
            certificates,
            origin: origin.join(" and "),
        };
        if trusted.roots().is_empty() {
            return Err(Error::config(
                "ssl.ca.location",
                format!(
                    "{} hold no certificate that can be trusted; name a PEM file with the \
                     authority's certificate",
                    trusted.origin
                ),
            ));
        }
        Ok(trusted)
    }

    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let (_, ignored) = roots.add_parsable_certificates(self.certificates.iter().cloned());
        if ignored > 0 {
            log::debug!("{ignored} certificates of {} cannot be used", self.origin);
        }
        roots
    }
}

/// The certificates in a PEM file, or in all PEM files of a folder.
fn located(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    const KEY: &str = "ssl.ca.location";
    if !Path::new(path).is_dir() {
        return chain(KEY, &read(KEY, path)?);
    }
    let unreadable = |e| Error::config(KEY, format!("cannot read '{path}': {e}"));
    let mut found: Vec<CertificateDer<'static>> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        // A folder may contain other things, and links by hash to the same files.
        if let Ok(content) = read_bounded(&file, MAX_FILE_BYTES) {
            found.extend(CertificateDer::pem_slice_iter(&content).filter_map(|c| c.ok()));
        }
    }
    found.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    found.dedup();
    if found.is_empty() {
        return Err(Error::config(
            KEY,
            format!("no file of the folder '{path}' has a PEM certificate"),
        ));
    }
    Ok(found)
}

/// The client's identity: its own certificate first, then the certificates of its signers.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Key and certificate as PEM or PKCS12; `None` when the settings name neither.
    ///
    /// # Errors
    /// When only one of the two is set, one cannot be read, or a password is wrong.
    pub(super) fn new(properties: Properties<'_>) -> Result<Supported<Option<Self>>> {
        let certificate = pem(
            properties,
            "ssl.certificate.location",
            "ssl.certificate.pem",
        )?;
        let key = pem(properties, "ssl.key.location", "ssl.key.pem")?;
        let store = properties.get("ssl.keystore.location");
        let (certificate, key) = match (certificate, key, store) {
            (Some(certificate), Some(key), _) => (certificate, key),
            (None, None, Some(path)) => {
                let password = properties.get("ssl.keystore.password").unwrap_or_default();
                return Ok(pkcs12(path, password)?.map(Some));
            }
            (None, None, None) => return Ok(Ok(None)),
            (Some((setting, _)), None, _) => {
                return Err(Error::config(
                    setting,
                    "a certificate needs its key: set 'ssl.key.location' or 'ssl.key.pem'",
                ));
            }
            (None, Some((setting, _)), _) => {
                return Err(Error::config(
                    setting,
                    "a key needs its certificate: set 'ssl.certificate.location' or \
                     'ssl.certificate.pem'",
                ));
            }
        };
        let chain = chain(certificate.0, &certificate.1)?;
        let password = properties.get("ssl.key.password");
        Ok(private_key(key.0, &key.1, password)?.map(|key| Some(Self { chain, key })))
    }
}

/// The first of two settings that is set: a file's content, or the text of the setting itself.
fn pem(
    properties: Properties<'_>,
    location: &'static str,
    inline: &'static str,
) -> Result<Option<(&'static str, Vec<u8>)>> {
    if let Some(path) = properties.get(location) {
        return Ok(Some((location, read(location, path)?)));
    }
    Ok(properties
        .get(inline)
        .map(|pem| (inline, pem.as_bytes().to_vec())))
}

fn read(setting: &str, path: &str) -> Result<Vec<u8>> {
    read_bounded(Path::new(path), MAX_FILE_BYTES)
        .map_err(|e| Error::config(setting, format!("cannot read '{path}': {e}")))
}

/// The certificates in a PEM text, at least one.
fn chain(setting: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::config(
            setting,
            "holds no certificate; expected PEM: '-----BEGIN CERTIFICATE-----'",
        )),
        Err(_) => Err(Error::config(
            setting,
            "holds a PEM certificate that is damaged",
        )),
    }
}

/// The key in a PEM text: PKCS8 (plain or encrypted), PKCS1 or SEC1.
fn private_key(
    setting: &str,
    pem: &[u8],
    password: Option<&str>,
) -> Result<Supported<PrivateKeyDer<'static>>> {
    let text = String::from_utf8_lossy(pem);
    if let Some(der) = section(&text, "ENCRYPTED PRIVATE KEY") {
        let Some(password) = password else {
            return Err(Error::config(
                setting,
                "the key is encrypted: set 'ssl.key.password'",
            ));
        };
        return decrypt(setting, &der, password);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Ok(Err(format!(
            "'{setting}': a key encrypted in OpenSSL's old format (openssl pkcs8 -topk8 makes the new one)"
        )));
    }
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(Ok(key)),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(Error::config(
            setting,
            "holds no key; expected PEM: '-----BEGIN PRIVATE KEY-----'",
        )),
        Err(_) => Err(Error::config(setting, "holds a PEM key that is damaged")),
    }
}

/// The bytes of the PEM section with this label.
fn section(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (base64, _) = rest.split_once("-----END")?;
    let base64: String = base64.split_whitespace().collect();
    Some(STANDARD.decode(base64).unwrap_or_default())
}

fn decrypt(setting: &str, der: &[u8], password: &str) -> Result<Supported<PrivateKeyDer<'static>>> {
    // A key with an unknown encryption scheme does not parse, or fails in some other way.
    let unsupported = || {
        Ok(Err(format!(
            "'{setting}': a key encrypted in a way that is not PBES2 with AES"
        )))
    };
    let Ok(encrypted) = EncryptedPrivateKeyInfoRef::try_from(der) else {
        return unsupported();
    };
    match encrypted.decrypt(password) {
        Ok(key) => Ok(Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())),
        Err(pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::DecryptFailed)) => {
            Err(Error::config(
                "ssl.key.password",
                "does not open the key; is it the right password?",
            ))
        }
        Err(_) => unsupported(),
    }
}

/// The first key in a PKCS12 store, with its certificates.
fn pkcs12(path: &str, password: &str) -> Result<Supported<Identity>> {
    const KEY: &str = "ssl.keystore.location";
    let content = read(KEY, path)?;
    let store = match KeyStore::from_pkcs12(&content, password, Pkcs12ImportPolicy::Strict) {
        Ok(store) => store,
        Err(Pkcs12Error::MacError(_)) if password.is_ascii() => {
            return Err(Error::config(
                "ssl.keystore.password",
                format!("does not open '{path}'; is it the right password?"),
            ));
        }
        Err(e) => return Ok(Err(format!("'{KEY}' = '{path}' ({e})"))),
    };
    let Some((_, found)) = store.private_key_chain() else {
        return Ok(Err(format!(
            "'{KEY}' = '{path}' (no key with its certificate is found there)"
        )));
    };
    let chain = found.certs().iter().map(|c| c.as_der().to_vec().into());
    Ok(Ok(Identity {
        chain: chain.collect(),
        key: PrivatePkcs8KeyDer::from(found.key().as_der().to_vec()).into(),
    }))
}
