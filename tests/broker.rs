//! Tests against real Kafka brokers.

#[macro_use]
mod conformance;
mod sql;
mod support;

#[path = "support/tests.rs"]
mod support_tests;

/// Every implementation of `KafkaClient` under the same suite.
mod client {
    mod memory {
        conformance_suite!(crate::conformance::memory::MemoryFixture::new());
    }

    mod librdkafka {
        use datafusion_kafka::client::ClientPool;
        use datafusion_kafka::config::ConnectionConfig;

        use crate::conformance::kafka::KafkaFixture;

        async fn fixture() -> KafkaFixture {
            // Starting a broker takes seconds and blocks.
            let server = tokio::task::block_in_place(crate::support::shared);
            let bootstrap = server.bootstrap();
            let client = ClientPool::global().client(&ConnectionConfig::new(bootstrap));
            KafkaFixture::new(bootstrap, client.expect("the settings are valid"))
        }

        conformance_suite!(crate::client::librdkafka::fixture());
    }
}
