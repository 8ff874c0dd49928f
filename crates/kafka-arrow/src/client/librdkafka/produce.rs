//! Everything that writes to a cluster: producers, a sink's state topic, and offsets of groups for lag tools.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ffi::{Kind, Producer};
use super::{Given, common, handle, meta};
use crate::config::ConnectionConfig;
use crate::error::{Error, Result};
use crate::range::TopicPartition;

/// The default of `transaction.timeout.ms`: ten minutes, within which a batch must be written. The brokers'
/// own limit, `transaction.max.timeout.ms`, is fifteen minutes by default.
const TRANSACTION_TIMEOUT_MS: u64 = 600_000;
/// The default of `message.timeout.ms`, as in Java: a message that the brokers do not accept within two
/// minutes fails the batch.
const MESSAGE_TIMEOUT_MS: u64 = 120_000;
/// The default of `queue.buffering.max.kbytes`: 64 MiB of keys and values in transit.
const QUEUE_KBYTES: u64 = 64 << 10;
/// The default of `queue.buffering.max.messages`. Each costs about 300 bytes in addition to key and value, so
/// they take 60 MB at most.
const QUEUE_MESSAGES: u64 = 200_000;

/// How a producer writes.
#[derive(Debug, Clone, Copy)]
pub enum Writing<'a> {
    /// In transactions under this id.
    Transactions(&'a str),
    /// Without transactions.
    Plain,
}

/// Makes a producer, without contacting a broker.
///
/// # Errors
/// When the settings conflict with each other or with exactly-once delivery.
pub fn producer(config: &ConnectionConfig, writing: Writing<'_>) -> Result<Producer> {
    let given = Given::new(config, config.producer_properties()?)?;
    let user = &given.properties;
    let number = |key: &str, default: u64| {
        let given = user.get(key).and_then(|value| value.parse().ok());
        given.unwrap_or(default)
    };
    let transaction_timeout_ms = number("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
    let mut conf = BTreeMap::new();
    common(&mut conf);
    for (key, value) in [
        ("partitioner", "murmur2_random".to_owned()),
        ("queue.buffering.max.kbytes", QUEUE_KBYTES.to_string()),
        ("queue.buffering.max.messages", QUEUE_MESSAGES.to_string()),
    ] {
        conf.insert(key.to_owned(), value);
    }
    let mut message_timeout_ms = MESSAGE_TIMEOUT_MS;
    let mut forced = vec![("delivery.report.only.error", "true")];
    match writing {
        Writing::Transactions(id) => {
            for (key, needed) in [("enable.idempotence", "true"), ("acks", "all")] {
                if let Some(value) = user.get(key)
                    && value != needed
                    && !(key == "acks" && value == "-1")
                {
                    return Err(Error::config(
                        key,
                        format!(
                            "transactions need '{needed}', found '{value}': leave it out, or ask \
                             for 'delivery' = 'at-least-once'"
                        ),
                    ));
                }
            }
            message_timeout_ms = message_timeout_ms.min(transaction_timeout_ms);
            let timeout = transaction_timeout_ms.to_string();
            conf.insert("transaction.timeout.ms".to_owned(), timeout);
            forced.push(("transactional.id", id));
            forced.push(("enable.idempotence", "true"));
        }
        // Retries make neither duplicates nor gaps, unless the settings rule that out.
        Writing::Plain
            if !["acks", "max.in.flight.requests.per.connection", "retries"]
                .iter()
                .any(|key| user.contains_key(*key)) =>
        {
            conf.insert("enable.idempotence".to_owned(), "true".to_owned());
        }
        Writing::Plain => {}
    }
    conf.insert(
        "message.timeout.ms".to_owned(),
        message_timeout_ms.to_string(),
    );
    handle(Kind::Producer, conf, &given, &forced).map(Producer::new)
}

/// Creates a topic with one partition and the brokers' replication. It succeeds if the topic already exists.
///
/// # Errors
/// The inner error has the code and reason of a refusal; the outer one means that no broker answered.
pub async fn create_topic(
    config: &ConnectionConfig,
    topic: &str,
    settings: &[(&str, &str)],
) -> Result<Result<(), (i32, String)>> {
    let meta = meta::Meta::new(config, &Given::new(config, config.client_properties()?)?)?;
    meta.create_topic(topic, settings).await
}

/// Requests about groups where the wire client does not support the settings.
#[derive(Debug, Clone)]
pub(in crate::client) struct GroupRequests(Arc<meta::Meta>);

impl GroupRequests {
    pub(in crate::client) fn connect(config: &ConnectionConfig) -> Result<Self> {
        let meta = meta::Meta::new(config, &Given::new(config, config.client_properties()?)?)?;
        Ok(Self(Arc::new(meta)))
    }

    pub(in crate::client) async fn commit(
        &self,
        group: &str,
        next: &BTreeMap<TopicPartition, i64>,
    ) -> Result<()> {
        self.0.commit_group_offsets(group, next).await
    }
}
