//! What the connection's settings mean to this client, and which ones it does not support.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::connection::SETUP_TIMEOUT;
use crate::config::ConnectionConfig;
use crate::error::{Error, Result};

/// The default of `fetch.message.max.bytes`. Larger pieces gain nothing, smaller ones need more requests.
const PARTITION_FETCH_BYTES: usize = 16 << 20;
/// The default of `receive.message.max.bytes`, as in librdkafka.
const ANSWER_BYTES_MOST: usize = 100_000_000;
/// Brokers limit an answer to 55 MiB by default (the broker's own `fetch.max.bytes`).
const FETCH_BYTES_MOST: usize = 50 << 20;

/// Settings of the network and of reading. Those of security are in [`super::security`].
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) client_id: String,
    /// `client.rack`: read from a replica in this rack, if the brokers allow it (KIP-392).
    pub(super) rack: String,
    /// The `host` and `port` pairs of `bootstrap.servers`.
    pub(super) bootstrap: Vec<(String, u16)>,
    pub(super) address_family: AddressFamily,
    /// Time limit for one address to accept a connection.
    pub(super) setup_timeout: Duration,
    /// `request.timeout.ms`.
    pub(super) request_timeout: Duration,
    /// `read.timeout.ms`.
    pub(super) read_timeout: Duration,
    /// `client.sessions.max`: the most connections per broker that fetch.
    pub(super) fetchers_most: usize,
    /// `fetch.message.max.bytes`: how much to request of a partition at once.
    pub(super) partition_bytes: usize,
    /// `fetch.max.bytes`: how much to request at once.
    pub(super) fetch_bytes: usize,
    /// `receive.message.max.bytes`: the largest answer, and the largest unpacked record batch.
    pub(super) answer_bytes_most: usize,
    /// `check.crcs`: on by default.
    pub(super) check_crcs: bool,
}

/// `broker.address.family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressFamily {
    Any,
    V4,
    V6,
}

impl AddressFamily {
    pub(super) fn allows(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

impl Settings {
    /// # Errors
    /// When `bootstrap.servers` is missing or not a list of `host:port`.
    pub(super) fn new(
        config: &ConnectionConfig,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let get = |key: &str| properties.get(key).map(String::as_str);
        // These were checked to be numbers when they were set.
        let number = |key: &str| get(key).and_then(|v| v.parse::<usize>().ok());
        let millis = |key: &str| number(key).map(|ms| Duration::from_millis(ms as u64));
        let fetch_bytes = number("fetch.max.bytes").unwrap_or(FETCH_BYTES_MOST);
        Ok(Self {
            client_id: get("client.id")
                .unwrap_or(concat!("datafusion-kafka/", env!("CARGO_PKG_VERSION")))
                .to_owned(),
            rack: get("client.rack").unwrap_or_default().to_owned(),
            bootstrap: bootstrap(config.bootstrap_servers())?,
            address_family: match get("broker.address.family") {
                Some("v4") => AddressFamily::V4,
                Some("v6") => AddressFamily::V6,
                _ => AddressFamily::Any,
            },
            setup_timeout: millis("socket.connection.setup.timeout.ms").unwrap_or(SETUP_TIMEOUT),
            request_timeout: config.request_timeout(),
            read_timeout: config.read_timeout(),
            fetchers_most: config.sessions_max(),
            partition_bytes: number("fetch.message.max.bytes").unwrap_or(PARTITION_FETCH_BYTES),
            fetch_bytes: fetch_bytes.clamp(1, FETCH_BYTES_MOST),
            answer_bytes_most: number("receive.message.max.bytes").unwrap_or(ANSWER_BYTES_MOST),
            check_crcs: get("check.crcs") != Some("false"),
        })
    }
}

/// Splits `host:port,[v6]:port,host`. As in librdkafka, a scheme such as `SASL_SSL://` is ignored. The
/// default port is 9092.
fn bootstrap(servers: &str) -> Result<Vec<(String, u16)>> {
    let refused = |server: &str| {
        Error::config(
            "bootstrap.servers",
            format!("expected host:port[,host:port…], found '{server}'"),
        )
    };
    let mut found = Vec::new();
    for server in servers.split(',').map(str::trim).filter(|s| !s.is_empty()) {
        let address = server.split_once("://").map_or(server, |(_, rest)| rest);
        let (host, port) = match address.strip_prefix('[').and_then(|a| a.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None if address.matches(':').count() > 1 => (address, None),
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        let port = port
            .map_or(Ok(9092), str::parse)
            .map_err(|_| refused(server))?;
        if host.is_empty() {
            return Err(refused(server));
        }
        found.push((host.to_owned(), port));
    }
    if found.is_empty() {
        return Err(Error::config(
            "bootstrap.servers",
            "is not set; name at least one broker as host:port",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_servers_are_split() {
        let split = |text| bootstrap(text).map_err(|e| e.to_string());
        let hosts = split("a:1, SASL_SSL://b:2,[::1]:3,c,::1,").unwrap();
        let expected = [("a", 1), ("b", 2), ("::1", 3), ("c", 9092), ("::1", 9092)];
        assert_eq!(hosts, expected.map(|(host, port)| (host.to_owned(), port)));
        for (text, message) in [
            (
                "",
                "setting 'bootstrap.servers': is not set; name at least one broker as host:port",
            ),
            (
                "a:x",
                "setting 'bootstrap.servers': expected host:port[,host:port…], found 'a:x'",
            ),
            (
                ":1",
                "setting 'bootstrap.servers': expected host:port[,host:port…], found ':1'",
            ),
        ] {
            assert_eq!(split(text).unwrap_err(), message);
        }
    }
}
