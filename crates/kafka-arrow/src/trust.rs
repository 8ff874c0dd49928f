//! Whose certificates are trusted: authorities from files and settings, or those of the system.

#[cfg(feature = "ssl")]
pub(crate) use self::certificates::{Trusted, chain, read};

/// The settings that name trusted authorities. Messages name them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authorities<'a> {
    /// The setting that names a PEM file, or a folder of PEM files.
    pub(crate) setting: &'static str,
    pub(crate) location: Option<&'a str>,
    /// The setting that holds certificates itself, and their text.
    pub(crate) pem: Option<(&'static str, &'a str)>,
}

#[cfg(feature = "ssl")]
mod certificates {
    use std::path::Path;

    use rustls::RootCertStore;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::Authorities;
    use crate::error::{Error, Result};
    use crate::policy::{MAX_FILE_BYTES, read_bounded};

    /// The trusted authorities.
    #[derive(Debug)]
    pub(crate) struct Trusted {
        pub(crate) certificates: Vec<CertificateDer<'static>>,
        /// Where they came from, for messages.
        pub(crate) origin: String,
    }

    impl Trusted {
        /// The named authorities, or else the system's.
        ///
        /// # Errors
        /// When there are no certificates, or a file cannot be read.
        pub(crate) fn new(authorities: Authorities<'_>) -> Result<Self> {
            let mut certificates = Vec::new();
            let mut origin = Vec::new();
            if let Some(path) = authorities.location.filter(|path| *path != "probe") {
                certificates.extend(located(authorities.setting, path)?);
                origin.push(format!("'{path}'"));
            }
            if let Some((setting, pem)) = authorities.pem {
                certificates.extend(chain(setting, "it", pem.as_bytes())?);
                origin.push(format!("'{setting}'"));
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
                    authorities.setting,
                    format!(
                        "{} hold no certificate that can be trusted; name a PEM file with the \
                         authority's certificate",
                        trusted.origin
                    ),
                ));
            }
            Ok(trusted)
        }

        pub(crate) fn roots(&self) -> RootCertStore {
            let mut roots = RootCertStore::empty();
            let (_, ignored) = roots.add_parsable_certificates(self.certificates.iter().cloned());
            if ignored > 0 {
                log::debug!("{ignored} certificates of {} cannot be used", self.origin);
            }
            roots
        }
    }

    /// The certificates in a PEM file, or in all PEM files of a folder.
    fn located(setting: &str, path: &str) -> Result<Vec<CertificateDer<'static>>> {
        if !Path::new(path).is_dir() {
            return chain(setting, &format!("'{path}'"), &read(setting, path)?);
        }
        let unreadable = |e| Error::config(setting, format!("cannot read '{path}': {e}"));
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
                setting,
                format!("no file of the folder '{path}' has a PEM certificate"),
            ));
        }
        Ok(found)
    }

    /// A file that a setting names.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(setting: &str, path: &str) -> Result<Vec<u8>> {
        read_bounded(Path::new(path), MAX_FILE_BYTES)
            .map_err(|e| Error::config(setting, format!("cannot read '{path}': {e}")).because(e))
    }

    /// The certificates in a PEM text, at least one. Messages call the text `what`.
    ///
    /// # Errors
    /// When there is none, or one is damaged.
    pub(crate) fn chain(
        setting: &str,
        what: &str,
        pem: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(Error::config(
                setting,
                format!("{what} holds no certificate; expected PEM: '-----BEGIN CERTIFICATE-----'"),
            )),
            Err(_) => Err(Error::config(
                setting,
                format!("{what} holds a PEM certificate that is damaged"),
            )),
        }
    }
}
