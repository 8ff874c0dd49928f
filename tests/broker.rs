//! Tests against real Kafka brokers.

mod support;

#[path = "support/tests.rs"]
mod support_tests;
