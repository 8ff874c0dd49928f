//! The settings of this crate, which librdkafka does not know.

use std::time::Duration;

use super::{ConnectionConfig, ScanBudget};
use crate::error::{Error, Result};
use crate::range::KeyPartitioner;

/// The default of `request.timeout.ms`.
const REQUEST_TIMEOUT_MS: u64 = 15_000;
/// The default of `read.timeout.ms`.
const READ_TIMEOUT_MS: u64 = 60_000;
/// The default of `client.sessions.max`: two for each core of a small machine. Each costs a connection and a
/// thread per broker.
const SESSIONS_MAX: usize = 8;
/// The default of `read.buffer.bytes`: 16 MiB.
const READ_BUFFER_BYTES: usize = 16 << 20;

/// Which client reads: `kafka.client`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientChoice {
    /// [`WireClient`](crate::client::WireClient) where it supports the settings, librdkafka elsewhere.
    #[default]
    Auto,
    /// [`WireClient`](crate::client::WireClient), or an error that names what it does not support.
    Wire,
    /// [`LibrdkafkaClient`](crate::client::librdkafka::LibrdkafkaClient).
    Librdkafka,
}

impl ClientChoice {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "auto" => Self::Auto,
            "wire" => Self::Wire,
            "librdkafka" => Self::Librdkafka,
            _ => return None,
        })
    }
}

impl ConnectionConfig {
    /// `request.timeout.ms`: how long a request to the cluster may take with all retries.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.own("request.timeout.ms", REQUEST_TIMEOUT_MS))
    }

    /// `kafka.client`: which client reads.
    pub fn client(&self) -> ClientChoice {
        // It was checked when it was set.
        let choice = self
            .values
            .get("client")
            .and_then(|v| ClientChoice::parse(v));
        choice.unwrap_or_default()
    }

    /// `connection.name`: what a worker on another machine knows these settings by; the brokers unless set.
    pub fn name(&self) -> &str {
        self.values
            .get("connection.name")
            .map_or_else(|| self.bootstrap_servers(), String::as_str)
    }

    /// `key.partitioner`: how the producers of topics choose partitions by keys, if all of them do.
    pub fn key_partitioner(&self) -> Option<KeyPartitioner> {
        // It was checked when it was set.
        self.values.get("key.partitioner")?.parse().ok()
    }

    /// `read.timeout.ms`: how long a read may go without progress.
    pub fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.own("read.timeout.ms", READ_TIMEOUT_MS))
    }

    /// `client.sessions.max`: how many streams of one client read at once.
    pub fn sessions_max(&self) -> usize {
        self.own("client.sessions.max", SESSIONS_MAX)
    }

    /// `read.buffer.bytes`: payload bytes that one stream may fetch ahead.
    pub fn read_buffer_bytes(&self) -> usize {
        self.own("read.buffer.bytes", READ_BUFFER_BYTES)
    }

    fn own<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        // It was checked when it was set.
        self.values
            .get(key)
            .and_then(|v| v.parse().ok())
            .unwrap_or(default)
    }
}

/// Checks a value of one of these settings.
pub(super) fn check(key: &str, canonical: &str, value: &str) -> Result<()> {
    if canonical == "client" {
        return ClientChoice::parse(value).map(drop).ok_or_else(|| {
            Error::config(
                key,
                format!("expected 'auto', 'wire' or 'librdkafka', found '{value}'"),
            )
        });
    }
    if canonical == "connection.name" {
        return Ok(());
    }
    if canonical == "key.partitioner" {
        return match value {
            "none" => Ok(()),
            _ => (value.parse().map(|_: KeyPartitioner| ()))
                .map_err(|e| Error::config(key, format!("{e}; or 'none'"))),
        };
    }
    if super::budget::owns(canonical) {
        return ScanBudget::default()
            .set(canonical, value)
            .map_err(|e| match e {
                Error::Config { message, .. } => Error::config(key, message),
                other => other,
            });
    }
    let (unit, least) = match canonical {
        "client.sessions.max" => ("readers", 1),
        // Below this, not even one small Fetch fits.
        "read.buffer.bytes" => ("bytes", 64 << 10),
        _ => ("ms", 1),
    };
    // Java's and librdkafka's largest int.
    let most = i64::from(i32::MAX);
    match value.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(()),
        _ => Err(Error::config(
            key,
            format!("expected a whole number of {unit} from {least} to {most}, found '{value}'"),
        )),
    }
}
