//! The client against a registry with TLS.

use std::io::Write;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{refused, registry};

async fn server() -> (String, String) {
    server_for("localhost", (1975, 4096)).await
}

/// Starts a server with a certificate for a host and a span of years, which answers every request with one
/// schema. Returns its URL, and the authority that signed the certificate as PEM.
async fn server_for(host: &str, years: (i32, i32)) -> (String, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec![host.to_owned()]).unwrap();
    leaf.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut received = [0; 4096];
            // The request is short and arrives in one piece.
            let _ = stream.read(&mut received).await;
            let body = r#"{"schema":"\"int\""}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (format!("https://localhost:{port}"), pem)
}

#[tokio::test]
async fn authority_of_a_file_or_folder_is_trusted() {
    let (url, pem) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::File::create(&path)
        .and_then(|mut file| file.write_all(pem.as_bytes()))
        .unwrap();
    for location in [path.as_path(), folder.path()] {
        let registry = registry(&[
            ("schema.registry.url", &url),
            (
                "schema.registry.ssl.ca.location",
                location.to_str().unwrap(),
            ),
        ]);
        assert_eq!(registry.schema(1).await.unwrap().unwrap().text, "\"int\"");
    }
}

#[tokio::test]
async fn other_authorities_are_not_trusted() {
    let (url, _) = server().await;
    let (_, other) = server().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), other).unwrap();
    let registry = registry(&[
        ("schema.registry.url", &url),
        (
            "schema.registry.ssl.ca.location",
            file.path().to_str().unwrap(),
        ),
    ]);
    let reason = refused(&registry).await;
    assert!(
        reason.contains("'schema.registry.ssl.ca.location'"),
        "{reason}"
    );
}

#[tokio::test]
async fn errors_say_what_is_wrong_with_a_certificate() {
    for (host, years, hint) in [
        (
            "localhost",
            (1975, 2001),
            "; have it renewed, or set this machine's clock",
        ),
        ("localhost", (4000, 4096), "; set this machine's clock"),
        (
            "other",
            (1975, 4096),
            "; name the registry in the URL as its certificate does",
        ),
    ] {
        let (url, pem) = server_for(host, years).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        let registry = registry(&[
            ("schema.registry.url", &url),
            (
                "schema.registry.ssl.ca.location",
                file.path().to_str().unwrap(),
            ),
        ]);
        let reason = refused(&registry).await;
        assert!(reason.ends_with(hint), "{reason}");
    }
}

#[test]
fn file_without_authorities_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for location in [file.path().to_str().unwrap(), "/does/not/exist"] {
        let config = super::RegistryConfig::from_options([
            ("schema.registry.url", "https://a"),
            ("schema.registry.ssl.ca.location", location),
        ]);
        let error = super::Registry::new(config.unwrap().unwrap()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("setting 'schema.registry.ssl.ca.location': "),
            "{message}"
        );
        assert!(message.contains(location), "{message}");
    }
}
