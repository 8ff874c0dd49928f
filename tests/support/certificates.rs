//! Certificates for a broker's TLS listeners, generated for each broker.

use std::fs;
use std::path::{Path, PathBuf};

use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The paths of the generated files.
#[derive(Debug)]
pub(super) struct Certificates {
    /// The authority that signed the certificates of the broker and the client.
    pub(super) ca: PathBuf,
    /// An authority that has signed nothing.
    pub(super) other_ca: PathBuf,
    /// The broker's key and certificate for `localhost` and `127.0.0.1`.
    pub(super) server: PathBuf,
    /// The client's certificate, with the common name `alice`.
    pub(super) client_certificate: PathBuf,
    /// The client's key.
    pub(super) client_key: PathBuf,
    /// Both in PKCS12 format, under [`STORE_PASSWORD`].
    pub(super) client_store: PathBuf,
}

/// The password of the client's PKCS12 store.
pub(super) const STORE_PASSWORD: &str = "store password";

impl Certificates {
    /// Generates the files in a folder.
    pub(super) fn write(folder: &Path) -> Self {
        let (ca, issuer) = authority("test authority");
        let (other_ca, _) = authority("another authority");
        let server = leaf(
            "broker",
            &["localhost", "127.0.0.1"],
            ExtendedKeyUsagePurpose::ServerAuth,
            &issuer,
        );
        let client = leaf("alice", &[], ExtendedKeyUsagePurpose::ClientAuth, &issuer);
        let bytes = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).expect("cannot write a certificate");
            path
        };
        let file = |name: &str, text: &str| bytes(name, text.as_bytes());
        Self {
            // Kafka expects a PEM key store to be the key followed by its chain, in one file.
            server: file(
                "server.pem",
                &format!("{}{}{ca}", server.key, server.certificate),
            ),
            ca: file("ca.pem", &ca),
            other_ca: file("other-ca.pem", &other_ca),
            client_certificate: file("client.pem", &client.certificate),
            client_key: file("client.key", &client.key),
            client_store: bytes("client.p12", &client.store()),
        }
    }
}

struct Leaf {
    certificate: String,
    key: String,
    certificate_der: Vec<u8>,
    key_der: Vec<u8>,
}

impl Leaf {
    /// A PKCS12 store.
    fn store(&self) -> Vec<u8> {
        let certificate = Certificate::from_der(&self.certificate_der).expect("a certificate");
        let key = PrivateKey::from_der(&self.key_der).expect("a PKCS#8 key");
        let chain = PrivateKeyChain::new(vec![1], key, [certificate]);
        let mut store = KeyStore::new();
        store.add_entry("client", KeyStoreEntry::PrivateKeyChain(chain));
        store
            .writer(STORE_PASSWORD)
            .write()
            .expect("a store can be written")
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("P-256 keys can be made")
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = new_key();
    let certificate = params.self_signed(&key).expect("the parameters are fixed");
    (certificate.pem(), Issuer::new(params, key))
}

fn leaf(
    name: &str,
    hosts: &[&str],
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Leaf {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("the names are valid");
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = new_key();
    let certificate = params
        .signed_by(&key, issuer)
        .expect("the parameters are fixed");
    Leaf {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        certificate_der: certificate.der().to_vec(),
        key_der: key.serialize_der(),
    }
}
