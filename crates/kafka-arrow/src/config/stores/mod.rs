//! Java's key and trust stores. Those of Java's own format, and trust stores in PKCS12, become PEM, which both
//! clients read.

#[cfg(feature = "ssl")]
mod jks;
#[cfg(all(test, feature = "ssl"))]
mod tests;

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// The content of a store file.
#[derive(PartialEq, Eq)]
enum Store {
    Pem,
    Pkcs12,
    Jks,
}

/// Translates Java's settings for key and trust stores, which only make sense together. `key_password` is
/// `ssl.key.password`.
///
/// The file's content decides its type; `ssl.*.type` only counts if the file cannot be read.
pub(super) fn stores(
    java: &BTreeMap<String, String>,
    key_password: Option<&str>,
) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    let mut put = |key: &str, value: &str| out.insert(key.to_owned(), value.to_owned());
    let get = |key: &str| java.get(key).map(String::as_str);

    if let Some(pem) = get("ssl.truststore.certificates") {
        put("ssl.ca.pem", pem);
    }
    if let Some(path) = get("ssl.truststore.location") {
        const KEY: &str = "ssl.truststore.location";
        let password = get("ssl.truststore.password");
        let named = get("ssl.truststore.certificates").unwrap_or_default();
        match kind(path, get("ssl.truststore.type")) {
            Store::Pem => put("ssl.ca.location", path),
            Store::Pkcs12 => put(
                "ssl.ca.pem",
                &format!("{named}{}", read::trusted_pkcs12(KEY, path, password)?),
            ),
            Store::Jks => put(
                "ssl.ca.pem",
                &format!("{named}{}", read::trusted_jks(KEY, path, password)?),
            ),
        };
    }
    if let Some(pem) = get("ssl.keystore.key") {
        put("ssl.key.pem", pem);
    }
    if let Some(pem) = get("ssl.keystore.certificate.chain") {
        put("ssl.certificate.pem", pem);
    }
    if let Some(path) = get("ssl.keystore.location") {
        match kind(path, get("ssl.keystore.type")) {
            Store::Pem => {
                // One file with both the key and the chain.
                put("ssl.key.location", path);
                put("ssl.certificate.location", path);
            }
            Store::Pkcs12 => {
                put("ssl.keystore.location", path);
                if let Some(password) = get("ssl.keystore.password") {
                    put("ssl.keystore.password", password);
                }
            }
            Store::Jks => {
                let password = get("ssl.keystore.password");
                let (key, chain) = read::identity_jks(path, password, key_password)?;
                put("ssl.key.pem", &key);
                put("ssl.certificate.pem", &chain);
            }
        }
    }
    const KNOWN: [&str; 9] = [
        "ssl.truststore.certificates",
        "ssl.truststore.location",
        "ssl.truststore.password",
        "ssl.truststore.type",
        "ssl.keystore.key",
        "ssl.keystore.certificate.chain",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.keystore.type",
    ];
    if let Some(unknown) = java.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        let nearest = crate::error::nearest_names(unknown, KNOWN);
        return Err(Error::config(
            unknown,
            format!(
                "there is no such setting; did you mean {}?",
                nearest.join(", ")
            ),
        ));
    }
    Ok(out)
}

fn kind(path: &str, declared: Option<&str>) -> Store {
    use std::io::Read;
    let mut head = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut head));
    match (read, head) {
        (Ok(()), [0xfe, 0xed, 0xfe, 0xed] | [0xce, 0xce, 0xce, 0xce]) => Store::Jks,
        // The beginning of a DER sequence.
        (Ok(()), [0x30, ..]) => Store::Pkcs12,
        (Ok(()), _) => Store::Pem,
        (Err(_), _) => match declared.map(str::to_ascii_uppercase).as_deref() {
            Some("PEM") => Store::Pem,
            Some("PKCS12") => Store::Pkcs12,
            None if path.ends_with(".pem") || path.ends_with(".crt") => Store::Pem,
            None if path.ends_with(".p12") || path.ends_with(".pfx") => Store::Pkcs12,
            _ => Store::Jks,
        },
    }
}

/// Builds without TLS read no store.
#[cfg(not(feature = "ssl"))]
mod read {
    use super::{Error, Result};

    fn absent<T>(key: &str, path: &str) -> Result<T> {
        let what = format!("'{key}' = '{path}': this build cannot read key stores");
        Err(Error::missing_feature("ssl", what))
    }

    pub(super) fn trusted_pkcs12(key: &str, path: &str, _: Option<&str>) -> Result<String> {
        absent(key, path)
    }

    pub(super) fn trusted_jks(key: &str, path: &str, _: Option<&str>) -> Result<String> {
        absent(key, path)
    }

    pub(super) fn identity_jks(
        path: &str,
        _: Option<&str>,
        _: Option<&str>,
    ) -> Result<(String, String)> {
        absent("ssl.keystore.location", path)
    }
}

#[cfg(feature = "ssl")]
mod read {
    use p12_keystore::error::Error as Pkcs12Error;
    use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};

    use super::jks::{self, Jks};
    use super::{Error, Result};
    use crate::trust::read;

    /// The trusted certificates of a PKCS12 store, as PEM.
    ///
    /// # Errors
    /// When the store cannot be opened, or has none.
    pub(super) fn trusted_pkcs12(key: &str, path: &str, password: Option<&str>) -> Result<String> {
        let content = read(key, path)?;
        let password = password.unwrap_or_default();
        let store = KeyStore::from_pkcs12(&content, password, Pkcs12ImportPolicy::Strict);
        let store = store.map_err(|e| match e {
            Pkcs12Error::MacError(_) => wrong_password(key, path),
            e => Error::config(key, format!("'{path}' cannot be read as PKCS12: {e}")),
        })?;
        let trusted = store.entries().filter_map(|(_, entry)| match entry {
            KeyStoreEntry::Certificate(certificate) => Some(certificate.as_der()),
            _ => None,
        });
        pem_of_trusted(key, path, trusted)
    }

    /// The trusted certificates of a JKS store, as PEM.
    ///
    /// # Errors
    /// As [`trusted_pkcs12`].
    pub(super) fn trusted_jks(key: &str, path: &str, password: Option<&str>) -> Result<String> {
        let content = read(key, path)?;
        let store = opened(key, path, &content, password)?;
        pem_of_trusted(key, path, store.trusted.into_iter())
    }

    /// The first key of a JKS store and its certificates, as PEM.
    ///
    /// # Errors
    /// When the store or the key cannot be opened, or there is no key.
    pub(super) fn identity_jks(
        path: &str,
        password: Option<&str>,
        key_password: Option<&str>,
    ) -> Result<(String, String)> {
        const KEY: &str = "ssl.keystore.location";
        let content = read(KEY, path)?;
        let Some(password) = password else {
            return Err(Error::config(
                "ssl.keystore.password",
                format!("is not set, and the key in '{path}' needs it"),
            ));
        };
        let store = opened(KEY, path, &content, Some(password))?;
        let Some((encrypted, chain)) = store.keys.into_iter().next() else {
            let reason = format!("'{path}' has no key, only certificates; is it the trust store?");
            return Err(Error::config(KEY, reason));
        };
        let key = jks::decrypted(encrypted, key_password.unwrap_or(password));
        let key =
            key.map_err(|reason| Error::config("ssl.key.password", format!("'{path}': {reason}")))?;
        let chain = chain
            .into_iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect();
        Ok((pem("PRIVATE KEY", &key), chain))
    }

    fn opened<'a>(
        key: &str,
        path: &str,
        content: &'a [u8],
        password: Option<&str>,
    ) -> Result<Jks<'a>> {
        jks::open(content, password).map_err(|e| match e {
            jks::Closed::Password => wrong_password(key, path),
            jks::Closed::Damaged => Error::config(
                key,
                format!(
                    "'{path}' is not a JKS store, or is damaged; keytool -list -keystore {path} says more"
                ),
            ),
            jks::Closed::Jceks => Error::config(
                key,
                format!(
                    "'{path}' is a JCEKS store; convert it: keytool -importkeystore -srckeystore {path} \
                     -destkeystore store.p12 -deststoretype PKCS12"
                ),
            ),
        })
    }

    fn wrong_password(key: &str, path: &str) -> Error {
        let reason = format!("does not open '{path}'; is it the right password?");
        Error::config(key.replace("location", "password"), reason)
    }

    fn pem_of_trusted<'a>(
        key: &str,
        path: &str,
        trusted: impl Iterator<Item = &'a [u8]>,
    ) -> Result<String> {
        let pem: String = trusted.map(|der| pem("CERTIFICATE", der)).collect();
        if pem.is_empty() {
            let reason = format!("'{path}' has no trusted certificate; is it the key store?");
            return Err(Error::config(key, reason));
        }
        Ok(pem)
    }

    /// Bytes as a section of PEM.
    fn pem(label: &str, der: &[u8]) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let mut pem = format!("-----BEGIN {label}-----\n");
        for (at, letter) in text.chars().enumerate() {
            pem.push(letter);
            if at % 64 == 63 {
                pem.push('\n');
            }
        }
        if !pem.ends_with('\n') {
            pem.push('\n');
        }
        pem + &format!("-----END {label}-----\n")
    }
}
