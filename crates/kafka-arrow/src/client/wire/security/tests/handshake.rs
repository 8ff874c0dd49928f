use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::super::{Security, Transport, Trouble};
use super::made::{Authority, Leaf, own};
use super::security;

fn server(leaf: &Leaf) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let key = PrivatePkcs8KeyDer::from(leaf.key.serialize_der());
    builder
        .with_no_client_auth()
        .with_single_cert(vec![leaf.certificate.clone().into()], key.into())
        .unwrap()
}

fn client(settings: &[(&str, &str)]) -> Security {
    let mut all = vec![("security.protocol", "ssl")];
    all.extend(settings);
    security(&all).unwrap().unwrap()
}

/// Both ends of a TCP connection.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// Both ends of a handshake.
async fn shaken(
    client: &Security,
    host: &str,
    server: ServerConfig,
) -> (Result<Transport, Trouble>, io::Result<TlsStream<TcpStream>>) {
    let (ours, theirs) = connected().await;
    let acceptor = TlsAcceptor::from(Arc::new(server));
    tokio::join!(client.wrap(ours, host), acceptor.accept(theirs))
}

async fn passes(client: &Security, host: &str, server: ServerConfig) {
    let (ours, theirs) = shaken(client, host, server).await;
    if let Err(trouble) = ours {
        panic!("{host}: {trouble:?}");
    }
    theirs.unwrap();
}

async fn refused(client: &Security, host: &str, server: ServerConfig) -> String {
    match shaken(client, host, server).await.0 {
        Err(Trouble::Refused(reason)) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("no handshake with {host} was expected"),
    }
}

#[tokio::test]
async fn names_and_addresses_are_compared() {
    let authority = Authority::new("ca");
    let leaf = authority.sign(&["broker.example", "127.0.0.1", "::1"]);
    let settings = [("ssl.ca.pem", authority.pem.as_str())];
    let checking = client(&settings);
    for host in ["broker.example", "127.0.0.1", "::1"] {
        passes(&checking, host, server(&leaf)).await;
    }
    let lax = client(&[
        settings[0],
        ("ssl.endpoint.identification.algorithm", "none"),
    ]);
    let blind = client(&[("enable.ssl.certificate.verification", "false")]);
    for host in ["other.example", "127.0.0.2"] {
        assert_eq!(
            refused(&checking, host, server(&leaf)).await,
            format!(
                "TLS handshake with {host}: its certificate is for broker.example, 127.0.0.1, ::1, \
                 not for {host}; connect by a name that it is for, or set \
                 'ssl.endpoint.identification.algorithm' = 'none'"
            )
        );
        passes(&lax, host, server(&leaf)).await;
        passes(&blind, host, server(&leaf)).await;
    }
    let nameless = authority.sign(&[]);
    let reason = refused(&checking, "broker.example", server(&nameless)).await;
    assert!(reason.contains("names no host"), "{reason}");
    let reason = refused(&checking, "not/a/name", server(&leaf)).await;
    assert_eq!(
        reason,
        "'not/a/name' is not a name that a certificate can have"
    );
    passes(&lax, "not/a/name", server(&leaf)).await;
}

#[tokio::test]
async fn certificates_that_are_not_trusted() {
    let authority = Authority::new("ca");
    let (trusting, blind) = (
        client(&[("ssl.ca.pem", &authority.pem)]),
        client(&[("enable.ssl.certificate.verification", "false")]),
    );
    let lax = client(&[
        ("ssl.ca.pem", &authority.pem),
        ("ssl.endpoint.identification.algorithm", "none"),
    ]);
    let other = Authority::new("other").sign(&["localhost"]);
    for leaf in [&other, &own(&["localhost"], false)] {
        for client in [&trusting, &lax] {
            assert_eq!(
                refused(client, "localhost", server(leaf)).await,
                "TLS handshake with localhost: its certificate is not signed by an authority among \
                 'ssl.ca.pem'; name the authority's certificate (PEM) in 'ssl.ca.location'"
            );
        }
        passes(&blind, "localhost", server(leaf)).await;
    }
    let expired = authority.sign_until(&["localhost"], 2001);
    for client in [&trusting, &lax] {
        assert_eq!(
            refused(client, "localhost", server(&expired)).await,
            "TLS handshake with localhost: its certificate expired on 2001-01-02T00:00:00Z; have it \
             renewed, or set this machine's clock"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_is_trusted_itself() {
    for authority in [false, true] {
        let leaf = own(&["localhost"], authority);
        let trusting = client(&[("ssl.ca.pem", &leaf.pem)]);
        passes(&trusting, "localhost", server(&leaf)).await;
        let reason = refused(&trusting, "127.0.0.1", server(&leaf)).await;
        assert!(
            reason.contains("is for localhost, not for 127.0.0.1"),
            "{reason}"
        );
        let other = own(&["localhost"], authority);
        refused(&trusting, "localhost", server(&other)).await;
    }
}

/// Requires a client certificate.
fn demanding(leaf: &Leaf, authority: &Authority) -> ServerConfig {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivatePkcs8KeyDer::from(leaf.key.serialize_der());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![leaf.certificate.clone().into()], key.into())
        .unwrap()
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_says_so() {
    let authority = Authority::new("ca");
    let leaf = authority.sign(&["localhost"]);
    let me = authority.sign(&[]);
    let ca = ("ssl.ca.pem", authority.pem.as_str());
    let key = me.key.serialize_pem();
    let with = client(&[ca, ("ssl.certificate.pem", &me.pem), ("ssl.key.pem", &key)]);
    passes(&with, "localhost", demanding(&leaf, &authority)).await;

    // Under TLS 1.3 the client finishes before the server has checked its certificate.
    let (ours, theirs) = shaken(&client(&[ca]), "localhost", demanding(&leaf, &authority)).await;
    theirs.unwrap_err();
    let mut ours = ours.unwrap();
    let error = ours.read(&mut [0; 8]).await.unwrap_err();
    let reason = super::super::refusal(&error).unwrap();
    assert!(reason.contains("CertificateRequired"), "{reason}");
    assert!(reason.contains("'ssl.keystore.location'"), "{reason}");

    // An expired certificate gives another message than a missing one.
    let old = authority.sign_until(&[], 2001);
    let key = old.key.serialize_pem();
    let expired = client(&[ca, ("ssl.certificate.pem", &old.pem), ("ssl.key.pem", &key)]);
    let (ours, theirs) = shaken(&expired, "localhost", demanding(&leaf, &authority)).await;
    theirs.unwrap_err();
    let error = ours.unwrap().read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(
        super::super::refusal(&error).unwrap(),
        "it refuses with the TLS alert 'CertificateExpired': this client's certificate has expired: \
         have it renewed, or look at the broker's clock"
    );

    // The same when writing fails first.
    let (ours, theirs) = shaken(&client(&[ca]), "localhost", demanding(&leaf, &authority)).await;
    theirs.unwrap_err();
    let mut ours = ours.unwrap();
    let error = loop {
        match ours.write_all(&[0; 1 << 10]).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(super::super::refusal(&error).is_some(), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls() {
    let checking = client(&[("enable.ssl.certificate.verification", "false")]);
    for answer in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let (ours, mut theirs) = connected().await;
        let serve = async {
            assert!(theirs.read(&mut [0; 4096]).await.unwrap() > 0);
            theirs.write_all(answer).await.unwrap();
            drop(theirs);
        };
        let (outcome, ()) = tokio::join!(checking.wrap(ours, "localhost"), serve);
        match outcome {
            Err(Trouble::Refused(reason)) => {
                assert!(
                    reason.contains("'plaintext' or 'sasl_plaintext'"),
                    "{reason}"
                );
            }
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("no handshake was expected"),
        }
    }
    // After a first success, failures are blamed on the network.
    passes(&checking, "localhost", server(&own(&["localhost"], false))).await;
    let (ours, theirs) = connected().await;
    drop(theirs);
    let outcome = checking.wrap(ours, "localhost").await;
    assert!(
        matches!(outcome, Err(Trouble::Io(_))),
        "expected a trouble of the network"
    );
}

#[tokio::test]
async fn silence_is_told_from_data_tickets_and_an_end() {
    let leaf = own(&["localhost"], false);
    let client = client(&[("ssl.ca.pem", &leaf.pem)]);
    let (ours, theirs) = shaken(&client, "localhost", server(&leaf)).await;
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    // TLS 1.3 sends its tickets with the first data.
    assert!(ours.is_silent());
    theirs.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(ours.is_silent());
    let mut buffer = BytesMut::with_capacity(64);
    assert_eq!(ours.try_read_buf(&mut buffer).unwrap(), None);

    theirs.write_all(b"hello").await.unwrap();
    theirs.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!ours.is_silent());
    assert!(!ours.is_silent());
    assert_eq!(ours.try_read_buf(&mut buffer).unwrap(), Some(5));
    assert_eq!(&buffer[..], b"hello");
    assert!(ours.is_silent());

    // A waiting reader is woken, whatever was polled before.
    assert_eq!(ours.try_read_buf(&mut buffer).unwrap(), None);
    let write = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        theirs.write_all(b" you").await.unwrap();
        theirs.flush().await.unwrap();
    };
    let read = tokio::time::timeout(Duration::from_secs(10), ours.read_buf(&mut buffer));
    let (read, ()) = tokio::join!(read, write);
    assert_eq!(read.expect("woken").unwrap(), 4);
    assert_eq!(&buffer[..], b"hello you");

    theirs.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!ours.is_silent());
    assert_eq!(ours.try_read_buf(&mut buffer).unwrap(), Some(0));
}

#[tokio::test]
async fn silence_in_clear() {
    let plain = security(&[]).unwrap().unwrap();
    let (ours, mut theirs) = connected().await;
    let mut ours = plain.wrap(ours, "localhost").await.unwrap();
    assert!(ours.is_silent());
    theirs.write_all(b"x").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!ours.is_silent());
    let mut buffer = BytesMut::with_capacity(8);
    assert_eq!(ours.try_read_buf(&mut buffer).unwrap(), Some(1));
    assert!(ours.is_silent());
    drop(theirs);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!ours.is_silent());
}

#[tokio::test]
async fn sessions_are_resumed() {
    let leaf = own(&["localhost"], false);
    let client = client(&[("ssl.ca.pem", &leaf.pem)]);
    let config = Arc::new(server(&leaf));
    for kind in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let (ours, theirs) = connected().await;
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        let (ours, theirs) = tokio::join!(client.wrap(ours, "localhost"), acceptor.accept(theirs));
        let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!(theirs.get_ref().1.handshake_kind(), Some(kind));
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 1);
    }
}
