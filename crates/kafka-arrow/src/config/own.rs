//! The settings of this crate, which librdkafka does not know.

use std::time::Duration;

use super::{ConnectionConfig, ScanBudget};
use crate::error::{Error, Result};
use crate::mask::Masks;
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

/// Set where a table has another registry than the connection whose masks it has. Nobody else can set it.
pub(super) const FOREIGN_REGISTRY: &str = "mask.registry";
/// A shorter secret is found by trying.
const SALT_CHARACTERS: usize = 16;

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

    /// `mask`, with `mask.salt`: what is hidden of records.
    ///
    /// # Errors
    /// When a mask hashes and there is no salt, and when a setting writes records to the log.
    pub fn masks(&self) -> Result<Option<Masks>> {
        let list = self.values.get("mask").map_or("", String::as_str);
        let masks = Masks::new(list, self.values.get("mask.salt").map(String::as_str))?;
        if masks.is_some() && self.values.contains_key("debug") {
            return Err(Error::config(
                "debug",
                "writes to the log what 'mask' hides: leave one of them out",
            ));
        }
        Ok(masks)
    }

    /// Whether the registry of these settings is that of the connection whose masks they have. Another one could tell
    /// other names of fields.
    pub(crate) fn masks_by_registry(&self) -> bool {
        !self.values.contains_key(FOREIGN_REGISTRY)
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

/// Whether a setting says what is hidden.
pub(super) fn is_mask(key: &str) -> bool {
    matches!(key, "mask" | "mask.salt" | FOREIGN_REGISTRY)
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
    if canonical == "mask" {
        // Whether there is a salt shows when a client is made.
        return Masks::new(value, Some("")).map(drop);
    }
    if canonical == "mask.salt" {
        return match value.chars().count() {
            SALT_CHARACTERS.. => Ok(()),
            _ => Err(Error::config(
                key,
                format!("is too short: take at least {SALT_CHARACTERS} characters by chance"),
            )),
        };
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
