//! Tests against real Kafka brokers.

#[macro_use]
mod conformance;
mod sql;
mod support;
mod wire;

#[path = "support/tests.rs"]
mod support_tests;

/// Every implementation of `KafkaClient` under the same suite.
mod client {
    mod memory {
        conformance_suite!(crate::conformance::memory::MemoryFixture::new());
    }

    /// The shared broker, read by the client of that name.
    async fn fixture(name: &str) -> crate::conformance::kafka::KafkaFixture {
        // Starting a broker takes seconds and blocks.
        let server = tokio::task::block_in_place(crate::support::shared);
        let bootstrap = server.bootstrap();
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
}
