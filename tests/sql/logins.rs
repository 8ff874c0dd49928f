//! TLS and logins with both clients: what works, and the messages when something is wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion_kafka::client::{
    ClientPool, KafkaClient, Token, TokenError, TokenProvider, TopicSelection, WireClient,
};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::{Error, ErrorKind};

use super::{error, filled, rows, session_with};
use crate::support::{KafkaOptions, KafkaServer, Listener, Login, PASSWORD, shared};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_mechanism_that_is_not_offered_is_named() {
    let server = tokio::task::block_in_place(|| {
        let mechanisms = "listener.name.sasl_plaintext.sasl.enabled.mechanisms";
        let options = KafkaOptions::default().listener(Listener::SaslPlaintext);
        KafkaServer::start(options.property(mechanisms, "PLAIN,SCRAM-SHA-256"))
    });
    let login = Login::ScramSha512("admin", PASSWORD);
    let config = config_of(&server, "wire", Listener::SaslPlaintext, login, &[]);
    let broker = server.bootstrap_of(Listener::SaslPlaintext);
    assert_eq!(
        reason(config).await,
        format!(
            "broker {broker} does not accept 'sasl.mechanism' = 'SCRAM-SHA-512' here; it offers PLAIN, \
             SCRAM-SHA-256"
        )
    );
}
