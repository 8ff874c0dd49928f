//! Settings that travel to another machine, and how that machine completes them.

use std::collections::BTreeMap;

use super::{ConnectionConfig, authority, keys};
use crate::error::{Error, Result};

impl ConnectionConfig {
    /// The settings that another machine may be told: the brokers, the address of a registry, and what tunes the
    /// connection, and what is hidden. Nothing in them is secret, names a file or decides who the client is and whom it trusts.
    pub fn public(&self) -> BTreeMap<String, String> {
        let all = self.values.iter().filter(|(key, value)| {
            let is_public = is_address(key) || (authority::tunes(key) && !keys::hides(key, value));
            *key == "mask" || (is_public && !value.contains('@'))
        });
        all.map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Whether [`public`](Self::public) leaves nothing out, so that the settings suffice on another machine.
    pub fn is_public(&self) -> bool {
        self.stores.is_empty() && self.public().len() == self.values.len()
    }

    /// These settings, which a machine has under this name, with what another machine tunes and hides in addition.
    ///
    /// # Errors
    /// [`Error::Config`] when a setting is unknown or has a value that is refused.
    pub fn tuned(&self, public: &BTreeMap<String, String>) -> Result<Self> {
        let mut tuned = Self::empty();
        for (key, value) in public.iter().filter(|(key, _)| !is_address(key)) {
            if key != "mask" && !authority::tunes(key) {
                return Err(Error::config(
                    key,
                    "another machine may not set it: it belongs into the worker's own configuration",
                ));
            }
            tuned.set(key, value)?;
        }
        let mut config = self.clone();
        config.merge(&tuned);
        Ok(config)
    }
}

/// What a machine with a connection of its own does not take from another one.
fn is_address(key: &str) -> bool {
    matches!(
        key,
        "bootstrap.servers" | "connection.name" | "schema.registry.url"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn config(settings: &[(&str, &str)]) -> ConnectionConfig {
        let mut config = ConnectionConfig::new("a:9092");
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        config
    }

    #[test]
    fn no_secret_and_no_trust_travels() {
        let secret = config(&[
            ("security.protocol", "sasl_ssl"),
            ("sasl.username", "alice"),
            ("sasl.password", "hunter2"),
            ("ssl.ca.location", "/etc/ca.pem"),
            ("schema.registry.url", "https://bob:pw@registry"),
            ("client.rack", "a"),
            ("connection.name", "prod"),
        ]);
        let public = secret.public();
        let keys: Vec<&str> = public.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["bootstrap.servers", "client.rack", "connection.name"]
        );
        assert!(!secret.is_public());
        assert_eq!(secret.name(), "prod");
        assert!(config(&[("fetch.max.bytes", "1000000")]).is_public());
        assert_eq!(config(&[]).name(), "a:9092");
    }

    #[test]
    fn a_restricted_session_does_not_choose_whose_login_a_machine_uses() {
        let set = |policy| {
            let mut config = ConnectionConfig::new("a:9092");
            config.set_by_statement("connection.name", "prod", &policy)
        };
        let error = set(Policy::restricted()).unwrap_err().to_string();
        assert!(
            error.contains("it is fixed in a restricted session"),
            "{error}"
        );
        set(Policy::default()).unwrap();
    }

    #[test]
    fn a_machine_keeps_its_own_login_and_addresses() {
        let own = config(&[("sasl.password", "own")]);
        let there = config(&[("fetch.max.bytes", "1000000")]);
        let mut public = there.public();
        public.insert("bootstrap.servers".into(), "elsewhere:1".into());
        let tuned = own.tuned(&public).unwrap();
        assert_eq!(tuned.bootstrap_servers(), "a:9092");
        assert_eq!(tuned.get("sasl.password"), Some("own"));
        assert_eq!(tuned.get("fetch.max.bytes"), Some("1000000"));

        for key in ["sasl.password", "ssl.ca.location", "security.protocol"] {
            let told = BTreeMap::from([(key.to_owned(), "plaintext".to_owned())]);
            assert!(own.tuned(&told).is_err(), "{key}");
        }
    }
}
