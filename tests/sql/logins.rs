//! TLS and logins with both clients: what works, and the messages when something is wrong.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::prelude::SessionConfig;
use datafusion_kafka::client::{
    ClientPool, KafkaClient, Token, TokenError, TokenProvider, TopicSelection, WireClient,
};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::{Error, ErrorKind};
use futures::StreamExt;

use super::{error, filled, rows, session_with};
use crate::support::produce::{Fill, fill};
use crate::support::{KafkaOptions, KafkaServer, Listener, Login, PASSWORD, admin, shared};

const CLIENTS: [&str; 2] = ["wire", "librdkafka"];

/// Settings for the tests' broker. Those in `over` take precedence.
fn config(
    client: &str,
    listener: Listener,
    login: Login<'_>,
    over: &[(&str, &str)],
) -> ConnectionConfig {
    config_of(shared(), client, listener, login, over)
}

fn config_of(
    server: &KafkaServer,
    client: &str,
    listener: Listener,
    login: Login<'_>,
    over: &[(&str, &str)],
) -> ConnectionConfig {
    let settings = server.client_settings(listener, login);
    let settings = settings.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let mut config = ConnectionConfig::empty();
    for (key, value) in settings.chain([("kafka.client", client)]) {
        config
            .set(key, value)
            .unwrap_or_else(|e| panic!("{key}: {e}"));
    }
    let mut changed = ConnectionConfig::empty();
    for (key, value) in over {
        changed
            .set(key, value)
            .unwrap_or_else(|e| panic!("{key}: {e}"));
    }
    config.merge(&changed);
    config
}

async fn count(config: ConnectionConfig, topic: &str) -> Vec<String> {
    let sql = format!("SELECT count(*) FROM \"{topic}\"");
    rows(&session_with(config), &sql).await
}

/// The error of a query, which must fail quickly and not by running into a time limit.
async fn failure(config: ConnectionConfig) -> Error {
    let begun = Instant::now();
    let found = error(&session_with(config), "SELECT * FROM anything").await;
    assert_eq!(found.kind(), ErrorKind::Connection, "{found}");
    assert!(
        begun.elapsed().as_secs() < 15,
        "{:?}: {found}",
        begun.elapsed()
    );
    found
}

/// As [`failure`], but with the reason where the wire client knows it.
async fn reason(config: ConnectionConfig) -> String {
    match failure(config).await {
        Error::Authentication { reason, .. } | Error::Connection { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mechanism_reads_through_every_client() {
    let topic = filled(1, 5);
    for client in CLIENTS {
        for listener in [Listener::SaslPlaintext, Listener::SaslSsl] {
            for login in [
                Login::Plain("admin", PASSWORD),
                Login::ScramSha256("admin", PASSWORD),
                Login::ScramSha512("admin", PASSWORD),
                Login::OAuthBearer("admin"),
            ] {
                let found = count(config(client, listener, login, &[]), &topic).await;
                assert_eq!(found, ["5"], "{client} {listener:?} {login:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_as_pem_and_pkcs12() {
    let topic = filled(1, 5);
    admin::allow_topic(shared(), "User:alice", "Read", &topic);
    for client in CLIENTS {
        for login in [Login::Certificate, Login::CertificateStore] {
            let found = count(config(client, Listener::Ssl, login, &[]), &topic).await;
            assert_eq!(found, ["5"], "{client} {login:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_refused_at_once() {
    const WRONG: &str = "wrong-password";
    for client in CLIENTS {
        for login in [
            Login::Plain("alice", WRONG),
            Login::ScramSha256("alice", WRONG),
            Login::ScramSha512("nobody", WRONG),
        ] {
            let found = failure(config(client, Listener::SaslSsl, login, &[])).await;
            assert!(
                matches!(&found, Error::Authentication { .. }),
                "{client} {login:?}: {found}"
            );
            assert!(!found.to_string().contains(WRONG), "{found}");
        }
    }
    let login = Login::ScramSha512("alice", WRONG);
    let broker = shared().bootstrap_of(Listener::SaslSsl);
    assert_eq!(
        reason(config("wire", Listener::SaslSsl, login, &[])).await,
        format!(
            "the login of 'alice' by SCRAM-SHA-512 failed at broker {broker}: Authentication failed \
             during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512; \
             check 'sasl.username', 'sasl.password' and 'sasl.mechanism'"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_authority_is_not_trusted() {
    let other = shared().other_ca_pem_path().display().to_string();
    for client in CLIENTS {
        let login = Login::Plain("admin", PASSWORD);
        let over = [("ssl.ca.location", other.as_str())];
        let found = failure(config(client, Listener::SaslSsl, login, &over)).await;
        assert!(
            matches!(&found, Error::Authentication { .. }),
            "{client}: {found}"
        );
        if client == "wire" {
            let text = found.to_string();
            let hint = format!("not signed by an authority among '{other}'; name the authority's");
            assert!(text.contains(&hint), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_client_certificate_is_named() {
    for client in CLIENTS {
        failure(config(client, Listener::Ssl, Login::Nobody, &[])).await;
    }
    let text = reason(config("wire", Listener::Ssl, Login::Nobody, &[])).await;
    assert!(text.contains("'ssl.certificate.location'"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_protocol_is_named() {
    let (user, tls) = (Login::Plain("admin", PASSWORD), Listener::SaslSsl);
    let cases = [
        // The listener, the login, the protocol set by mistake, and the message.
        (
            Listener::Plaintext,
            Login::Nobody,
            "ssl",
            "'plaintext' or 'sasl_plaintext'",
        ),
        (
            Listener::SaslPlaintext,
            user,
            "sasl_ssl",
            "'plaintext' or 'sasl_plaintext'",
        ),
        (
            tls,
            Login::Nobody,
            "plaintext",
            "answers in TLS; set 'security.protocol'",
        ),
        (
            tls,
            user,
            "sasl_plaintext",
            "answers in TLS; set 'security.protocol'",
        ),
        (
            tls,
            Login::Nobody,
            "ssl",
            "'security.protocol' = 'sasl_ssl'",
        ),
        (
            Listener::SaslPlaintext,
            Login::Nobody,
            "plaintext",
            "'security.protocol' = 'sasl_plaintext'",
        ),
        (
            Listener::Plaintext,
            user,
            "sasl_plaintext",
            "accepts no login at this listener",
        ),
    ];
    for (listener, login, protocol, said) in cases {
        let over = [("security.protocol", protocol)];
        let text = reason(config("wire", listener, login, &over)).await;
        assert!(
            text.contains(said),
            "{listener:?} {login:?} as {protocol}: {text}"
        );
        failure(config("librdkafka", listener, login, &over)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_need_librdkafka_choose_it() {
    let topic = filled(1, 5);
    let over = [("ssl.cipher.suites", "ECDHE-ECDSA-AES128-GCM-SHA256")];
    let login = Login::Plain("admin", PASSWORD);
    let auto = config("auto", Listener::SaslSsl, login, &over);
    let client = ClientPool::global().client(&auto).expect("a client");
    assert_eq!(client.name(), "librdkafka");
    assert_eq!(count(auto, &topic).await, ["5"]);
    let wire = config("wire", Listener::SaslSsl, login, &over);
    let found = ClientPool::global()
        .client(&wire)
        .expect_err("not supported");
    assert_eq!(
        found.to_string(),
        "setting 'kafka.client': 'wire' does not support 'ssl.cipher.suites'; leave it out, or write \
         'librdkafka'"
    );
    let auto = config("auto", Listener::SaslSsl, login, &[]);
    let client = ClientPool::global().client(&auto).expect("a client");
    assert_eq!(client.name(), "wire");
}

/// Provides unsecured tokens, or others.
#[derive(Debug)]
struct Tokens(&'static str);

#[async_trait::async_trait]
impl TokenProvider for Tokens {
    async fn token(&self) -> Result<Token, TokenError> {
        let lifetime = Duration::from_secs(60);
        match self.0 {
            "none" => Err("the identity provider is down".into()),
            "foreign" => Ok(Token::lasting("not.a.token", lifetime)),
            user => {
                let now = std::time::SystemTime::now();
                let now = now.duration_since(std::time::UNIX_EPOCH)?.as_secs();
                let claims = format!(r#"{{"sub":"{user}","iat":{now},"exp":{}}}"#, now + 60);
                let encode = |text: &str| {
                    use base64::Engine;
                    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
                };
                let value = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims));
                Ok(Token::lasting(value, lifetime)
                    .principal(user)
                    .extension("trace", "1"))
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_program() {
    let over = [
        ("sasl.mechanism", "OAUTHBEARER"),
        ("security.protocol", "sasl_ssl"),
        ("request.timeout.ms", "3000"),
    ];
    let config = config("wire", Listener::SaslSsl, Login::Nobody, &over);
    let describe = async |tokens| {
        let client = WireClient::connect_with_tokens(&config, Arc::new(Tokens(tokens)))?;
        client.describe(TopicSelection::Named(&[])).await
    };
    let cluster = describe("admin").await.expect("logged in");
    assert_eq!(cluster.brokers.len(), 1);
    let found = describe("foreign").await.expect_err("no such token");
    assert!(matches!(&found, Error::Authentication { .. }), "{found}");
    let text = found.to_string();
    assert!(text.contains("OAUTHBEARER failed at broker"), "{text}");
    assert!(text.contains("invalid_token"), "{text}");
    assert!(!text.contains("not.a.token"), "{text}");
    let found = describe("none").await.expect_err("no token");
    assert!(matches!(&found, Error::Connection { .. }), "{found}");
    assert!(
        found.to_string().contains("the identity provider is down"),
        "{found}"
    );
}

/// The local ports of connections to this port of a broker.
fn connections_to(port: u16) -> BTreeSet<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells its connections");
    let port_of = |address: &str| {
        let (_, port) = address.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    let connections = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        let established = state == "01";
        (established && port_of(remote) == Some(port)).then(|| port_of(local))?
    });
    connections.collect()
}

/// A broker that ends a login after two seconds, and only supports PLAIN and SCRAM-SHA-256.
fn strict() -> KafkaServer {
    let mechanisms = "listener.name.sasl_plaintext.sasl.enabled.mechanisms";
    KafkaServer::start(
        KafkaOptions::default()
            .listener(Listener::SaslPlaintext)
            .listener(Listener::SaslSsl)
            .property("connections.max.reauth.ms", "2000")
            .property(mechanisms, "PLAIN,SCRAM-SHA-256"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_read_logs_in_anew() {
    const RECORDS: usize = 120_000;
    let server = tokio::task::block_in_place(strict);
    let topic = admin::unique_topic("reauth");
    admin::create_topic(server.bootstrap(), &topic, 1, &[]);
    fill(
        server.bootstrap(),
        &topic,
        Fill {
            records: RECORDS,
            partitions: 1,
            value_bytes: 200,
            settings: &[],
        },
    );

    // The other clients' mechanism is not offered. The message names the offered ones and the setting.
    let login = Login::ScramSha512("admin", PASSWORD);
    let text = reason(config_of(
        &server,
        "wire",
        Listener::SaslPlaintext,
        login,
        &[],
    ))
    .await;
    let broker = server.bootstrap_of(Listener::SaslPlaintext);
    assert_eq!(
        text,
        format!(
            "broker {broker} does not accept 'sasl.mechanism' = 'SCRAM-SHA-512' here; it offers PLAIN, \
             SCRAM-SHA-256"
        )
    );

    for (listener, login) in [
        (
            Listener::SaslPlaintext,
            Login::ScramSha256("admin", PASSWORD),
        ),
        (Listener::SaslSsl, Login::OAuthBearer("admin")),
    ] {
        let port = server.bootstrap_of(listener);
        let port = port.rsplit_once(':').expect("host:port").1;
        let port: u16 = port.parse().expect("a port");
        for client in CLIENTS {
            let connection = config_of(&server, client, listener, login, &[]);
            let session = KafkaSessionBuilder::new().connection(connection).config(
                SessionConfig::new()
                    .with_target_partitions(1)
                    .with_batch_size(1000),
            );
            let session = session.build().expect("the settings are valid");
            let sql = format!("SELECT value FROM \"{topic}\"");
            let read = session.sql(&sql).await.expect("planned");
            let mut stream = read.execute_stream().await.expect("begun");
            let (mut rows, mut at_first) = (0, None);
            let begun = Instant::now();
            while let Some(batch) = stream.next().await {
                let batch = batch.unwrap_or_else(|e| panic!("{client} {login:?}: {e}"));
                rows += batch.num_rows();
                at_first.get_or_insert_with(|| connections_to(port));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(rows, RECORDS, "{client} {login:?}");
            // At least two logins have expired.
            assert!(
                begun.elapsed() > Duration::from_millis(5500),
                "{:?}",
                begun.elapsed()
            );
            if client == "wire" {
                let (first, last) = (at_first.expect("rows"), connections_to(port));
                assert!(
                    !last.is_empty() && last.is_subset(&first),
                    "{first:?} {last:?}"
                );
            }
        }
    }
}
