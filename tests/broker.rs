//! Tests against real Kafka brokers.

#[macro_use]
mod conformance;
#[path = "deploy/manifests.rs"]
mod manifests;
#[path = "faults/releases.rs"]
mod releases;
mod security;
mod sql;
mod support;
#[path = "faults/tiered.rs"]
mod tiered;
mod wire;

#[path = "support/tests.rs"]
mod support_tests;

/// Where the sessions of `sql` run their statements: here. `tests/workers.rs` runs the same tests on workers.
fn elsewhere(
    builder: datafusion_kafka::session::KafkaSessionBuilder,
) -> datafusion_kafka::session::KafkaSessionBuilder {
    builder
}

/// Runs the same suite on every implementation of `KafkaClient`.
mod client {
    mod memory {
        conformance_suite!(crate::conformance::memory::MemoryFixture::new());
    }

    /// The shared broker, read by the client with that name.
    async fn fixture(name: &str) -> crate::conformance::kafka::KafkaFixture {
        // Starting a broker takes seconds and blocks.
        let server = tokio::task::block_in_place(crate::support::shared);
        on(server.bootstrap(), name)
    }

    /// A broker, read by the client with that name.
    pub(crate) fn on(bootstrap: &str, name: &str) -> crate::conformance::kafka::KafkaFixture {
        let mut config = datafusion_kafka::config::ConnectionConfig::new(bootstrap);
        config.set("kafka.client", name).expect("the client exists");
        let client = datafusion_kafka::client::ClientPool::global().client(&config);
        let client = client.expect("the settings are valid");
        crate::conformance::kafka::KafkaFixture::new(bootstrap, client)
    }

    mod librdkafka {
        conformance_suite!(crate::client::fixture("librdkafka"));
    }

    mod wire {
        conformance_suite!(crate::client::fixture("wire"));
    }

    /// Both clients and a plain consumer read the same; see the module.
    mod differential {
        use crate::conformance::differential::{Kind, compare};

        async fn on_the_shared_broker(kind: Kind, seed: u64) {
            let server = tokio::task::block_in_place(crate::support::shared);
            compare(server.bootstrap(), kind, seed).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn plain_topics() {
            on_the_shared_broker(Kind::Plain, 0x5eed).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn topics_with_the_brokers_timestamps() {
            on_the_shared_broker(Kind::LogAppendTime, 0xacce).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn compacted_topics() {
            on_the_shared_broker(Kind::Compacted, 0xc0de).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn topics_whose_first_records_are_deleted() {
            on_the_shared_broker(Kind::Shortened, 0xdead).await;
        }
    }
}
