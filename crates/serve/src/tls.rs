//! Certificates of ports, and who may reach a port without any.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;
use crate::problem::Problem;

/// The certificate of a port, which can be read anew while the port is open.
#[derive(Debug)]
pub struct Certificate {
    files: TlsConfig,
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificate {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// When a file cannot be read, or they do not fit together: a port never falls back to clear text.
    pub fn read(files: &TlsConfig) -> Result<Self, Problem> {
        Ok(Self {
            files: files.clone(),
            current: RwLock::new(load(files)?),
        })
    }

    /// Reads the files again. What this returns takes them over, for connections from then on.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn renew(&self) -> Result<impl FnOnce(), Problem> {
        let renewed = load(&self.files)?;
        Ok(move || *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed)
    }

    /// What takes up connections.
    pub fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }
}

fn load(files: &TlsConfig) -> Result<Arc<ServerConfig>, Problem> {
    let wrong = |path: &Path, reason: &dyn std::fmt::Display| {
        Problem::new(format!("tls: {}: {reason}", path.display()))
    };
    let (cert, key) = (&files.cert, &files.key);
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(cert).and_then(|chain| chain.collect());
    let chain = chain.map_err(|e| wrong(cert, &e))?;
    if chain.is_empty() {
        return Err(wrong(cert, &"there is no certificate in the file"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(cert, &e))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| wrong(cert, &e))?;
    Ok(Arc::new(config))
}

/// How a port is protected.
#[derive(Debug, Clone, Copy)]
pub struct Protection {
    /// Whether it has a certificate.
    pub tls: bool,
    /// Whether it asks for a credential.
    pub credential: bool,
    /// Whether the file says that it may be reached without.
    pub insecure: bool,
}

impl Protection {
    /// Refuses an address that other machines reach, unless the port is protected. `what` is its section.
    ///
    /// # Errors
    /// When it lacks a certificate or a credential.
    pub fn check(self, what: &str, address: SocketAddr) -> Result<(), Problem> {
        if address.ip().is_loopback() || self.insecure || (self.tls && self.credential) {
            return Ok(());
        }
        let lacks = match (self.tls, self.credential) {
            (false, false) => "TLS and a credential",
            (false, true) => "TLS",
            _ => "a credential",
        };
        Err(Problem::new(format!(
            "[{what}] {address} is reached from other machines and has no {lacks}: add it, listen on 127.0.0.1, or \
             write insecure = true"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_protected_ports_leave_the_machine() {
        let check = |address: &str, tls, credential, insecure| {
            let protection = Protection {
                tls,
                credential,
                insecure,
            };
            let checked = protection.check("http", address.parse().unwrap());
            checked.map_err(|problem| problem.message)
        };
        assert_eq!(check("127.0.0.1:1", false, false, false), Ok(()));
        assert_eq!(check("[::1]:1", false, false, false), Ok(()));
        assert_eq!(check("0.0.0.0:1", true, true, false), Ok(()));
        assert_eq!(check("0.0.0.0:1", false, false, true), Ok(()));
        assert_eq!(
            check("0.0.0.0:1", false, true, false).unwrap_err(),
            "[http] 0.0.0.0:1 is reached from other machines and has no TLS: add it, listen on 127.0.0.1, or write \
             insecure = true"
        );
        for (tls, credential) in [(false, false), (true, false)] {
            assert!(check("10.0.0.1:1", tls, credential, false).is_err());
        }
    }

    #[test]
    fn a_certificate_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = TlsConfig {
            cert: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        };
        let missing = Certificate::read(&files).unwrap_err();
        assert!(missing.message.contains("cert.pem"), "{missing}");
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, "no key").unwrap();
        let no_key = Certificate::read(&files).unwrap_err();
        assert!(no_key.message.contains("key.pem"), "{no_key}");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let certificate = Certificate::read(&files).unwrap();
        std::fs::write(&files.cert, "").unwrap();
        assert!(certificate.renew().is_err());
        certificate.acceptor();
    }
}
