//! Authorization, and Java's files.

use datafusion_kafka::ErrorKind;
use datafusion_kafka::config::ConnectionConfig;

use super::{error, filled, rows, session_with};
use crate::support::{Listener, Login, PASSWORD, admin, shared};

fn config(listener: Listener, login: Login<'_>) -> ConnectionConfig {
    let mut config = ConnectionConfig::empty();
    for (key, value) in shared().client_settings(listener, login) {
        config
            .set(&key, &value)
            .unwrap_or_else(|e| panic!("{key}: {e}"));
    }
    config
}

async fn count(config: ConnectionConfig, topic: &str) -> Vec<String> {
    rows(
        &session_with(config),
        &format!("SELECT count(*) FROM \"{topic}\""),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn describe_and_read_on_the_topic_are_enough() {
    let topic = filled(2, 10);
    let login = || config(Listener::SaslPlaintext, Login::Plain("bob", PASSWORD));
    let context = session_with(login());
    let sql = format!("SELECT count(*), max(offset) FROM \"{topic}\"");
    let denied = error(&context, &sql).await;
    assert_eq!(denied.kind(), ErrorKind::Authorization, "{denied}");

    admin::allow_topic(shared(), "User:bob", "Describe", &topic);
    let denied = error(&session_with(login()), &sql).await;
    assert_eq!(denied.kind(), ErrorKind::Authorization, "{denied}");
    assert!(denied.to_string().contains(&topic), "{denied}");

    admin::allow_topic(shared(), "User:bob", "Read", &topic);
    let context = session_with(login());
    assert_eq!(rows(&context, &sql).await, ["20 9"]);
    let sql = format!("SELECT count(*) FROM \"{topic}\" WHERE timestamp >= '1970-01-01T00:00:05Z'");
    assert_eq!(rows(&context, &sql).await, ["12"]);
    let sql = format!("SELECT count(*) FROM \"{topic}\" WHERE timestamp < '1970-01-01T00:00:05Z'");
    assert_eq!(rows(&context, &sql).await, ["8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn java_client_properties_work_unchanged() {
    let topic = filled(1, 3);
    let ca = shared().ca_pem_path().display().to_string();
    let properties = format!(
        "# written for a Java consumer\n\
         bootstrap.servers = {}\n\
         security.protocol=SASL_SSL\n\
         sasl.mechanism=SCRAM-SHA-512\n\
         sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n    \
         username=\"admin\" password=\"{PASSWORD}\";\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={ca}\n\
         group.id=somebody\n\
         auto.offset.reset=earliest\n\
         enable.auto.commit=true\n\
         key.deserializer=org.apache.kafka.common.serialization.StringDeserializer\n",
        shared().bootstrap_of(Listener::SaslSsl),
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("client.properties");
    std::fs::write(&file, properties).expect("written");
    let config = ConnectionConfig::from_file(&file).expect("a readable file");
    assert_eq!(count(config, &topic).await, ["3"]);
}
