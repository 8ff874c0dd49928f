//! Which client the setting `kafka.client` gives.

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
