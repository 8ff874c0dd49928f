//! [`KafkaClient`](super::KafkaClient) over Kafka's wire protocol, made for reading.

mod connection;
mod security;
mod settings;

pub use self::security::{Token, TokenError, TokenProvider};
