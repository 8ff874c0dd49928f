//! TLS with rustls.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError,
    SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::material::Identity;
use super::{Properties, Supported, Trouble, explain};
use crate::error::{Error, Result};
use crate::trust::{Authorities, Trusted};

/// OpenSSL's settings that have no counterpart in rustls.
const UNSUPPORTED: [&str; 6] = [
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "ssl.crl.location",
    "ssl.engine.location",
    "ssl.providers",
];

/// Makes TLS connections, and resumes sessions.
pub(super) struct Tls {
    connector: TlsConnector,
    verifier: Arc<dyn ServerCertVerifier>,
    /// Where the trusted certificates came from, for messages.
    trust: String,
    trusted: Arc<[CertificateDer<'static>]>,
    /// The client's own certificate, and those of its signers.
    own: Vec<CertificateDer<'static>>,
    checks: Checks,
    /// Whether any handshake has succeeded.
    connected: AtomicBool,
}

/// What to verify about a broker's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    /// The signature and the host name.
    All,
    /// Only the signature.
    Signature,
    Nothing,
}

impl Tls {
    /// # Errors
    /// When files cannot be read or contain nothing usable, or key and certificate do not match.
    pub(super) fn new(properties: Properties<'_>) -> Result<Supported<Self>> {
        if let Some(key) = UNSUPPORTED.iter().find(|key| properties.get(key).is_some()) {
            return Ok(Err(format!("'{key}'")));
        }
        if let Some(stores) = properties.get("ssl.ca.certificate.stores")
            && stores != "Root"
        {
            return Ok(Err("'ssl.ca.certificate.stores'".to_owned()));
        }
        let identity = match Identity::new(properties)? {
            Ok(identity) => identity,
            Err(reason) => return Ok(Err(reason)),
        };
        let names = properties.get("ssl.endpoint.identification.algorithm") != Some("none");
        let checks = match properties.flag("enable.ssl.certificate.verification", true) {
            true if names => Checks::All,
            true => Checks::Signature,
            false => Checks::Nothing,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (verifier, trust, trusted) = verifier(&provider, checks, properties)?;
        let failed =
            |e: TlsError| Error::config("security.protocol", format!("TLS cannot be set up: {e}"));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier));
        let own = identity.as_ref().map(|identity| identity.chain.clone());
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| misfit(properties, &e))?,
        };
        Ok(Ok(Self {
            connector: Arc::new(config).into(),
            verifier,
            trust,
            trusted,
            own: own.unwrap_or_default(),
            checks,
            connected: AtomicBool::new(false),
        }))
    }

    /// Turns a TCP connection to `host` into a TLS connection.
    ///
    /// # Errors
    /// [`Trouble::Refused`] with advice what to do, or [`Trouble::Io`].
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, Trouble> {
        self.shake(&self.connector, stream, host).await
    }

    /// As [`connect`](Self::connect), without resuming a session. Also returns the broker's certificate and
    /// those of its signers, even if they are not accepted.
    pub(super) async fn inspect(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> (
        Result<TlsStream<TcpStream>, Trouble>,
        Vec<CertificateDer<'static>>,
    ) {
        let recording = Arc::new(Recording {
            verifier: Arc::clone(&self.verifier),
            shown: Mutex::default(),
        });
        let mut config = ClientConfig::clone(self.connector.config());
        config.resumption = Resumption::disabled();
        let verifier = Arc::clone(&recording);
        config.dangerous().set_certificate_verifier(verifier);
        let outcome = self.shake(&Arc::new(config).into(), stream, host).await;
        let mut shown = recording
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (outcome, std::mem::take(&mut *shown))
    }

    /// Where the trusted certificates came from, and these.
    pub(super) fn trust(&self) -> (&str, &[CertificateDer<'static>]) {
        (&self.trust, &self.trusted)
    }

    /// The client's own certificate, and those of its signers.
    pub(super) fn own(&self) -> &[CertificateDer<'static>] {
        &self.own
    }

    async fn shake(
        &self,
        connector: &TlsConnector,
        stream: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, Trouble> {
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            // The name will not be checked.
            Err(_) if self.checks != Checks::All => IpAddr::V4(Ipv4Addr::UNSPECIFIED).into(),
            Err(_) => {
                return Err(Trouble::Refused(format!(
                    "'{host}' is not a name that a certificate can have"
                )));
            }
        };
        match connector.connect(name, stream).await {
            Ok(stream) => {
                self.connected.store(true, Ordering::Relaxed);
                let (_, session) = stream.get_ref();
                log::debug!(
                    "TLS with {host}: {:?}, {:?}, {:?}",
                    session.protocol_version(),
                    session.negotiated_cipher_suite().map(|s| s.suite()),
                    session.handshake_kind()
                );
                Ok(stream)
            }
            // A broker that has spoken TLS before is probably just shutting down.
            Err(e) if self.connected.load(Ordering::Relaxed) && explain::is_network(&e) => {
                Err(Trouble::Io(format!("TLS handshake with {host}: {e}")))
            }
            Err(e) => Err(explain::handshake(&e, host, &self.trust)),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("trust", &self.trust)
            .field("checks", &self.checks)
            .finish_non_exhaustive()
    }
}

fn misfit(properties: Properties<'_>, error: &TlsError) -> Error {
    let keys = ["ssl.key.location", "ssl.key.pem", "ssl.keystore.location"];
    let key = keys.into_iter().find(|k| properties.get(k).is_some());
    let message = match error {
        TlsError::InconsistentKeys(_) => {
            "the key and the certificate do not belong together".to_owned()
        }
        other => format!("the key cannot be used: {other}"),
    };
    Error::config(key.unwrap_or_default(), message)
}

/// A verifier, where its trust came from, and the trusted certificates.
type Verifier = (
    Arc<dyn ServerCertVerifier>,
    String,
    Arc<[CertificateDer<'static>]>,
);

/// The verifier for a broker's certificate, and the source of its trust.
fn verifier(
    provider: &Arc<CryptoProvider>,
    checks: Checks,
    properties: Properties<'_>,
) -> Result<Verifier> {
    let algorithms = provider.signature_verification_algorithms;
    if checks == Checks::Nothing {
        log::warn!(
            "brokers' certificates are not verified: 'enable.ssl.certificate.verification' = 'false'"
        );
        let nothing = Arc::default();
        return Ok((Arc::new(Blind(algorithms)), "nothing".to_owned(), nothing));
    }
    let trusted = Trusted::new(Authorities {
        setting: "ssl.ca.location",
        location: properties.get("ssl.ca.location"),
        pem: properties.get("ssl.ca.pem").map(|pem| ("ssl.ca.pem", pem)),
    })?;
    let roots = Arc::new(trusted.roots());
    let webpki = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|e| Error::config("ssl.ca.location", e.to_string()))?;
    let certificates: Arc<[_]> = trusted.certificates.into();
    let verifier = Seeing {
        webpki,
        algorithms,
        trusted: Arc::clone(&certificates),
        names: checks == Checks::All,
    };
    Ok((Arc::new(verifier), trusted.origin, certificates))
}

/// Verifies as browsers do. It also accepts a certificate that is itself trusted, as brokers with self-signed
/// certificates have.
struct Seeing {
    webpki: Arc<WebPkiServerVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
    trusted: Arc<[CertificateDer<'static>]>,
    names: bool,
}

impl ServerCertVerifier for Seeing {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let checked = self
            .webpki
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        match checked {
            // The name is compared last.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            // The dates were already checked by then.
            Err(TlsError::InvalidCertificate(CertificateError::Other(OtherError(reason))))
                if reason.to_string() == "CaUsedAsEndEntity"
                    && self.trusted.iter().any(|t| t == certificate) =>
            {
                if self.names {
                    let parsed = ParsedCertificate::try_from(certificate)?;
                    rustls::client::verify_server_name(&parsed, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for Seeing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seeing")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Accepts every certificate. It does not check signatures either: an attacker in between could make valid
/// ones, and certificates that cannot be parsed would be rejected.
#[derive(Debug)]
struct Blind(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Verifies as another does, and keeps what the broker showed.
#[derive(Debug)]
struct Recording {
    verifier: Arc<dyn ServerCertVerifier>,
    shown: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Recording {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let chain = std::iter::once(certificate).chain(intermediates);
        let chain = chain.map(|c| c.clone().into_owned()).collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        self.verifier
            .verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
