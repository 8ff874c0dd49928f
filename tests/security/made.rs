//! Certificates, made for the tests.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, and with those of its signers that a server sends.
pub struct Made {
    certificate: Certificate,
    key: KeyPair,
    chain: String,
}

/// What is to be certified: hosts, and the years between which that holds.
pub fn leaf(hosts: &[&str], from: i32, until: i32) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("the names are valid");
    params.distinguished_name.push(DnType::CommonName, "alice");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    params
}

/// A certificate that has signed itself.
pub fn alone(hosts: &[&str]) -> Made {
    let key = new_key();
    let mut params = leaf(hosts, 2000, 4000);
    params.use_authority_key_identifier_extension = false;
    let certificate = params.self_signed(&key).expect("the parameters are fixed");
    Made::new(certificate, key)
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("P-256 keys can be made")
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    /// An authority that has signed itself.
    pub fn root(name: &str) -> Self {
        let (params, key) = (authority_params(name), new_key());
        let certificate = params.self_signed(&key).expect("the parameters are fixed");
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// An authority that this one has signed.
    pub fn authority(&self, name: &str) -> Self {
        let (mut params, key) = (authority_params(name), new_key());
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer);
        Self {
            pem: certificate.expect("the parameters are fixed").pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn certificate(&self) -> &str {
        &self.pem
    }

    pub fn sign(&self, params: CertificateParams) -> Made {
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer);
        Made::new(certificate.expect("the parameters are fixed"), key)
    }
}

impl Made {
    fn new(certificate: Certificate, key: KeyPair) -> Self {
        let chain = certificate.pem();
        Self {
            certificate,
            key,
            chain,
        }
    }

    /// The same with its signer's certificate behind it.
    pub fn followed_by(mut self, signer: &str) -> Self {
        self.chain.push_str(signer);
        self
    }

    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// As Kafka expects a PEM key store.
    pub fn key_and_chain(&self) -> String {
        format!("{}{}", self.key.serialize_pem(), self.chain)
    }

    pub fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    pub fn key_der(&self) -> Vec<u8> {
        self.key.serialize_der()
    }
}
