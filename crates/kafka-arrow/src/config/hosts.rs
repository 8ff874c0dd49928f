//! The hosts that settings name, as a [`Policy`] allows them.

use url::Url;

use super::ConnectionConfig;
use crate::error::Result;
use crate::policy::{Policy, bare, split_host};

impl Policy {
    /// Allows the hosts in a session's own settings.
    pub fn allow_hosts_of(self, connection: &ConnectionConfig) -> Self {
        let registry = connection.get("schema.registry.url").unwrap_or_default();
        let urls = registry
            .split(',')
            .filter_map(|url| Url::parse(url.trim()).ok());
        let registries = urls.filter_map(|url| {
            let host = url.host_str()?.to_ascii_lowercase();
            Some((bare(&host).to_owned(), url.port_or_known_default()))
        });
        self.allow_hosts(brokers(connection).chain(registries))
    }

    /// Refuses brokers that are not allowed.
    ///
    /// # Errors
    /// As [`check_host`](Self::check_host).
    pub fn check_brokers(&self, connection: &ConnectionConfig) -> Result<()> {
        brokers(connection).try_for_each(|(host, port)| self.check_host("the broker", &host, port))
    }
}

/// The brokers in the settings, with Kafka's default port.
fn brokers(connection: &ConnectionConfig) -> impl Iterator<Item = (String, Option<u16>)> {
    const PORT: u16 = 9092;
    let list = connection.bootstrap_servers().split(',').map(str::trim);
    list.filter(|broker| !broker.is_empty()).map(|broker| {
        // librdkafka accepts a protocol in front.
        let broker = broker.split_once("://").map_or(broker, |(_, rest)| rest);
        // Text that clients might split in different ways is not a host, so that it never matches an allowed
        // one.
        if broker.contains(['/', '\\', '@']) || broker.contains(char::is_whitespace) {
            return (broker.to_ascii_lowercase(), None);
        }
        match split_host(broker) {
            Some((host, port)) => (host.to_ascii_lowercase(), port.or(Some(PORT))),
            None => (broker.to_ascii_lowercase(), None),
        }
    })
}
