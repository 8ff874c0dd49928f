//! Certificates and keys, from files and settings, as PEM or PKCS12.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p12_keystore::error::Error as Pkcs12Error;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{self, Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged};
use pkcs8::spki::SubjectPublicKeyInfoRef;
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Properties, Supported};
use crate::error::{Error, Result};
use crate::trust::{chain, read};

/// Keys on elliptic curves, in PKCS8.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// Where such a key has its public half.
const PUBLIC: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber(1),
};

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
        let chain = chain(certificate.0, "it", &certificate.1)?;
        let password = properties.get("ssl.key.password");
        Ok(private_key(key.0, &key.1, password)?.map(|key| Some(Self::of(chain, key))))
    }

    fn of(chain: Vec<CertificateDer<'static>>, mut key: PrivateKeyDer<'static>) -> Self {
        if let (PrivateKeyDer::Pkcs8(bytes), Some(own)) = (&key, chain.first())
            // What cannot be read is reported when it is used.
            && let Ok(Some(complete)) = completed(bytes.secret_pkcs8_der(), own)
        {
            key = PrivatePkcs8KeyDer::from(complete).into();
        }
        Self { chain, key }
    }
}

/// A key with what ring needs and Java leaves out: the public half of an EC key, which the certificate has.
/// `None` if nothing is missing.
fn completed(key: &[u8], certificate: &CertificateDer<'_>) -> der::Result<Option<Vec<u8>>> {
    let info = PrivateKeyInfoRef::try_from(key).map_err(|_| Tag::Sequence.value_error())?;
    if info.algorithm.oid != EC {
        return Ok(None);
    }
    let (secret, is_complete) =
        SliceReader::new(info.private_key.as_bytes())?.sequence(|parts| {
            u8::decode(parts)?;
            let secret = <&OctetStringRef>::decode(parts)?;
            let mut is_complete = false;
            while !parts.is_finished() {
                is_complete |= AnyRef::decode(parts)?.tag() == PUBLIC;
            }
            Ok::<_, der::Error>((secret, is_complete))
        })?;
    if is_complete {
        return Ok(None);
    }
    let parsed = rustls::server::ParsedCertificate::try_from(certificate);
    let parsed = parsed.map_err(|_| Tag::Sequence.value_error())?;
    let public = parsed.subject_public_key_info();
    let public = SubjectPublicKeyInfoRef::try_from(public.as_ref())
        .map_err(|_| Tag::Sequence.value_error())?;
    let public = public.subject_public_key.to_der()?;
    let mut parts = 1u8.to_der()?;
    parts.extend(secret.to_der()?);
    parts.extend(AnyRef::new(PUBLIC, &public)?.to_der()?);
    let both = AnyRef::new(Tag::Sequence, &parts)?.to_der()?;
    let info = PrivateKeyInfoRef::new(info.algorithm, OctetStringRef::new(&both)?);
    info.to_der().map(Some)
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
    let key = PrivatePkcs8KeyDer::from(found.key().as_der().to_vec());
    Ok(Ok(Identity::of(chain.collect(), key.into())))
}
