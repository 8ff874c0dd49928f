//! Settings and handshakes, with certificates made for the tests.

#[cfg(feature = "ssl")]
mod handshake;
mod settings;

use std::collections::BTreeMap;

use super::{Security, Supported};
use crate::error::Result;

const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

fn security(settings: &[(&str, &str)]) -> Result<Supported<Security>> {
    let pairs = settings
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Security::new(&pairs.collect::<BTreeMap<_, _>>(), None, TIMEOUT)
}

/// Keys and certificates of an authority, of hosts and of clients.
#[cfg(feature = "ssl")]
mod made {
    use std::path::PathBuf;

    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
    };

    pub(super) struct Authority {
        pub(super) pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    pub(super) struct Leaf {
        pub(super) pem: String,
        pub(super) certificate: Vec<u8>,
        pub(super) key: KeyPair,
    }

    impl Authority {
        pub(super) fn new(name: &str) -> Self {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            let issuer = Issuer::new(params, key);
            Self { pem, issuer }
        }

        pub(super) fn sign(&self, hosts: &[&str]) -> Leaf {
            self.sign_until(hosts, 4096)
        }

        pub(super) fn sign_until(&self, hosts: &[&str], year: i32) -> Leaf {
            let mut params = params(hosts);
            params.not_after = date_time_ymd(year, 1, 2);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            Leaf {
                pem: certificate.pem(),
                certificate: certificate.der().to_vec(),
                key,
            }
        }
    }

    /// A self-signed certificate, which may be an authority's.
    pub(super) fn own(hosts: &[&str], authority: bool) -> Leaf {
        let mut params = params(hosts);
        if authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Leaf {
            pem: certificate.pem(),
            certificate: certificate.der().to_vec(),
            key,
        }
    }

    fn params(hosts: &[&str]) -> CertificateParams {
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params
    }

    impl Leaf {
        /// A PKCS12 store with the key and the certificate.
        pub(super) fn pkcs12(&self, password: &str) -> Vec<u8> {
            use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
            let certificate = Certificate::from_der(&self.certificate).unwrap();
            let key = PrivateKey::from_der(&self.key.serialize_der()).unwrap();
            let chain = PrivateKeyChain::new(vec![1], key, [certificate]);
            let mut store = KeyStore::new();
            store.add_entry("me", KeyStoreEntry::PrivateKeyChain(chain));
            store.writer(password).write().unwrap()
        }
    }

    /// A folder with files.
    pub(super) struct Folder(tempfile::TempDir);

    impl Folder {
        pub(super) fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        pub(super) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
            let path: PathBuf = self.0.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        }

        pub(super) fn path(&self) -> &str {
            self.0.path().to_str().unwrap()
        }
    }
}
