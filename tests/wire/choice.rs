//! Which client the setting `kafka.client` selects.

use datafusion_kafka::client::ClientPool;
use datafusion_kafka::config::ConnectionConfig;

use super::broker::Release;
use super::{END, RECORDS, Setup, of_partition, plain_log};
use crate::conformance::reading::{request, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wire_is_taken_unless_told_otherwise() {
    let setup = Setup::with(&[Release::V4_1], vec![plain_log()], &[]).await;
    for choice in [None, Some("auto"), Some("wire")] {
        let mut config = ConnectionConfig::new(setup.cluster.bootstrap());
        if let Some(choice) = choice {
            config.set("kafka.client", choice).unwrap();
        }
        let client = ClientPool::new().client(&config).unwrap();
        assert_eq!(client.name(), "wire", "{choice:?}");
        let outcome = run(client, request(vec![of_partition(0, 0, END)])).await;
        assert_eq!(outcome.whole().len(), RECORDS);
    }
    let mut config = ConnectionConfig::new(setup.cluster.bootstrap());
    config.set("kafka.client", "librdkafka").unwrap();
    let client = ClientPool::new().client(&config).unwrap();
    assert_eq!(client.name(), "librdkafka");
}

/// The settings decide, without contacting a broker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn librdkafka_is_taken_for_what_wire_lacks() {
    let client = |choice: &str, settings: &[(&str, &str)]| {
        let mut config = ConnectionConfig::new("127.0.0.1:1");
        config.set("kafka.client", choice).unwrap();
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        ClientPool::new().client(&config)
    };
    let ciphers = [
        ("security.protocol", "ssl"),
        ("ssl.cipher.suites", "ECDHE-RSA-AES256-GCM-SHA384"),
    ];
    #[cfg(feature = "ssl")]
    assert_eq!(client("auto", &ciphers).unwrap().name(), "librdkafka");
    assert!(
        client("wire", &ciphers)
            .unwrap_err()
            .to_string()
            .contains("ssl.cipher.suites")
    );
    let kerberos = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "GSSAPI"),
    ];
    match client("auto", &kerberos) {
        Ok(client) => assert_eq!(client.name(), "librdkafka"),
        // If librdkafka was built without the feature `gssapi`.
        Err(error) => assert!(error.to_string().contains("GSSAPI"), "{error}"),
    }
    assert!(
        client("wire", &kerberos)
            .unwrap_err()
            .to_string()
            .contains("GSSAPI")
    );
}
