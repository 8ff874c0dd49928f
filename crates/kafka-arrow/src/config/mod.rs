//! How to reach a cluster: librdkafka's settings, Java's `client.properties`, and a few settings of this
//! crate.
//!
//! # Keys
//!
//! Keys are librdkafka's, with or without a `kafka.` prefix, in any case. Java's names are translated where
//! they differ (`sasl.jaas.config`, `ssl.truststore.*`, …). These keys belong to this crate:
//!
//! | key | default | unit | meaning |
//! |---|---|---|---|
//! | `kafka.client` | `auto` | | `wire` reads with this crate's own client, `librdkafka` with librdkafka, `auto` with the former where it can |
//! | `connection.name` | the brokers | | what a worker on another machine knows these settings by |
//! | `key.partitioner` | `none` | | how producers choose partitions by keys: `murmur2`, `consistent_random`, `fnv1a` |
//! | `mask`, `mask.salt` | nothing | | what is hidden of records ([`mask`](crate::mask)) |
//! | `max.scan.records`, `max.scan.bytes`, `max.scan.time` | no limit | | the most that the scans of a statement may read ([`ScanBudget`]) |
//! | `request.timeout.ms` | 15000 | ms | how long a request to the cluster (topics, offsets) may take with all retries |
//! | `read.timeout.ms` | 60000 | ms | how long a read may go without progress before it fails |
//! | `client.sessions.max` | 8 | readers | how many streams of a client read at once; more take turns |
//! | `read.buffer.bytes` | 16777216 | bytes | payload that a stream may fetch ahead |
//! | `schema.registry.*` | | | the schema registry of tables that name none; the options of a table |
//!
//! # Secrets
//!
//! The value of a secret (passwords, keys, JAAS lines) may be `env:NAME` or `file:PATH`, which is read once,
//! when the setting is set. Secrets are never printed: not by `Debug`, not by `Display`, not in errors.
//!
//! # Settings in the text of statements
//!
//! The text of a statement may not set anything that loads or runs code (`ssl.engine.location`,
//! `ssl.providers`, `sasl.kerberos.kinit.cmd` and the settings that become part of it). A setting that
//! decides who a client is and whom it trusts drops the session's credentials. Nor may it set masks, and those of the
//! session hold for all its tables. A
//! [restricted](crate::policy::Policy) session refuses both.

mod authority;
mod budget;
mod file;
mod hosts;
mod java;
mod keys;
pub(crate) mod known;
mod own;
mod public;
// Settings are checked in every build; only a client of registries uses them.
#[cfg_attr(not(feature = "registry"), allow(dead_code))]
pub(crate) mod registry;
mod stores;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

pub use budget::ScanBudget;
pub use own::ClientChoice;
pub use registry::RegistryConfig;

use crate::error::{Error, Result, nearest_names};
use crate::policy::{MAX_FILE_BYTES, MAX_SECRET_BYTES, Policy, read_text};
use crate::range::IsolationLevel;

/// Printed instead of a secret.
const REDACTED: &str = "[redacted]";

/// How to reach a cluster and how to read from it; see the module's documentation.
///
/// - Equal configurations share clients in a [`ClientPool`](crate::client::ClientPool).
/// - Every value is checked when it is set. Some problems only show when a client is made: settings that do
///   not fit together (a key file and its certificate), and features that the build lacks.
///
/// ```
/// use kafka_arrow::config::ConnectionConfig;
///
/// let mut config = ConnectionConfig::new("localhost:9092");
/// config.set("kafka.security.protocol", "SASL_SSL")?;
/// config.set("sasl.password", "hunter2")?;
/// assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
/// assert!(!format!("{config:?}").contains("hunter2"));
///
/// let error = config.set("fetch.min.byte", "1").unwrap_err();
/// assert!(error.to_string().contains("fetch.min.bytes"));
/// # Ok::<(), kafka_arrow::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ConnectionConfig {
    /// Settings of librdkafka and of this crate, by canonical name.
    values: BTreeMap<String, String>,
    /// Java's key store settings, which depend on each other; see [`stores`].
    stores: BTreeMap<String, String>,
}

impl ConnectionConfig {
    /// A configuration for brokers `host:port[,host:port…]`, with defaults for everything else.
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        let mut config = Self::empty();
        config
            .values
            .insert("bootstrap.servers".into(), bootstrap_servers.into());
        config
    }

    /// A configuration without brokers, to fill with [`set`](Self::set) or [`merge`](Self::merge).
    pub fn empty() -> Self {
        Self {
            values: BTreeMap::new(),
            stores: BTreeMap::new(),
        }
    }

    /// Sets a value.
    ///
    /// # Errors
    /// When the key is unknown (the error suggests the nearest names), when this crate decides the setting
    /// itself, when the value is invalid, or when the key already has another value. Use
    /// [`merge`](Self::merge) to override.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        self.apply(key, value, Origin::Explicit)
    }

    /// Sets a value that comes from the text of a statement.
    ///
    /// # Errors
    /// As [`set`](Self::set), and when the policy does not allow text to set it.
    pub fn set_by_statement(&mut self, key: &str, value: &str, policy: &Policy) -> Result<()> {
        self.apply(key, value, Origin::Statement(policy))
    }

    /// Reads a file: `key=value` lines for librdkafka, or a Java `client.properties`.
    ///
    /// Settings for consumers that mean nothing here (`group.id`, `auto.offset.reset`, `enable.auto.commit`,
    /// deserializers) are ignored with a log line.
    ///
    /// # Errors
    /// When the file cannot be read, or as for [`set`](Self::set); the error names the line.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let content = read_text(path, MAX_FILE_BYTES)
            .map_err(|e| Error::config(&name, format!("cannot read the file: {e}")).because(e))?;
        Self::from_text(&content, &name)
    }

    /// The settings in a file's text; messages call it `name`.
    pub(crate) fn from_text(content: &str, name: &str) -> Result<Self> {
        let mut config = Self::empty();
        for entry in file::parse(content) {
            config
                .apply(&entry.key, &entry.value, Origin::File)
                .map_err(|e| match e {
                    Error::Config {
                        key,
                        message,
                        source,
                    } => Error::Config {
                        key,
                        message: format!("{message} ({name}, line {})", entry.line),
                        source,
                    },
                    other => other,
                })?;
        }
        config.translated_stores()?;
        Ok(config)
    }

    /// Takes over all values of another configuration. Where both have a value, the other's wins; masks add up.
    pub fn merge(&mut self, other: &Self) {
        for (key, value) in &other.values {
            let value = match self.values.get(key) {
                Some(own) if key == "mask" && own != value => format!("{own}, {value}"),
                _ => value.clone(),
            };
            self.values.insert(key.clone(), value);
        }
        for (key, value) in &other.stores {
            self.stores.insert(key.clone(), value.clone());
        }
    }

    /// The value of a setting if it was set, including secrets.
    pub fn get(&self, key: &str) -> Option<&str> {
        let key = keys::canonical(key);
        self.values
            .get(&key)
            .or_else(|| self.stores.get(&key))
            .map(String::as_str)
    }

    /// The names of all settings, sorted.
    pub fn known_keys() -> Vec<String> {
        let names = known::SETTINGS.iter().map(|(name, _, _)| *name);
        let names = names.chain(keys::OWN).chain(RegistryConfig::KEYS);
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort_unstable();
        names
    }

    /// `bootstrap.servers`, or an empty string.
    pub fn bootstrap_servers(&self) -> &str {
        self.get("bootstrap.servers").unwrap_or_default()
    }

    /// `isolation.level`: which records of transactions are visible. The default is `read_committed`.
    pub fn isolation(&self) -> IsolationLevel {
        match self.get("isolation.level") {
            Some("read_uncommitted") => IsolationLevel::ReadUncommitted,
            _ => IsolationLevel::ReadCommitted,
        }
    }

    /// All values by key. Secrets read `[redacted]`.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut all: Vec<(&str, &str)> = self
            .values
            .iter()
            .chain(&self.stores)
            .map(|(k, v)| {
                (
                    k.as_str(),
                    if keys::hides(k, v) {
                        REDACTED
                    } else {
                        v.as_str()
                    },
                )
            })
            .collect();
        all.sort_unstable();
        all.into_iter()
    }

    /// The settings that librdkafka gets for readers, including secrets.
    pub(crate) fn client_properties(&self) -> Result<BTreeMap<String, String>> {
        let mut all = self.properties_in_clear()?;
        all.retain(|key, _| !keys::is_of_producers(key));
        Ok(all)
    }

    /// The settings that librdkafka gets for producers, including secrets.
    #[cfg(any(test, feature = "librdkafka"))]
    pub(crate) fn producer_properties(&self) -> Result<BTreeMap<String, String>> {
        let mut all = self.properties_in_clear()?;
        all.retain(|key, _| !keys::is_of_consumers(key));
        Ok(all)
    }

    fn translated_stores(&self) -> Result<BTreeMap<String, String>> {
        stores::stores(&self.stores, self.get("ssl.key.password"))
    }

    fn properties_in_clear(&self) -> Result<BTreeMap<String, String>> {
        let mut all = self.translated_stores()?;
        for (key, value) in &self.values {
            if !keys::OWN.contains(&key.as_str())
                && !own::is_mask(key)
                && !RegistryConfig::owns(key)
            {
                all.insert(key.clone(), value.clone());
            }
        }
        Ok(all)
    }

    /// These settings without those of producers and of a schema registry. Tables that only differ in the
    /// latter share clients.
    pub fn for_reading(&self) -> Self {
        let mut config = self.clone();
        // How records were written, and how many may be read, makes no other client.
        let reads = |key: &str| {
            !keys::is_of_producers(key) && key != "key.partitioner" && !budget::owns(key)
        };
        config.values.retain(|key, _| reads(key));
        // Fields are hidden by its schemas.
        if config.values.contains_key("mask") {
            return config;
        }
        config.without_registry()
    }

    /// The settings of a schema registry, including secrets.
    pub fn registry(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.values.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        all.filter(|(key, _)| RegistryConfig::owns(key))
    }

    pub(crate) fn without_registry(mut self) -> Self {
        self.values.retain(|key, _| !RegistryConfig::owns(key));
        self
    }

    /// These settings as defaults for a table's own. Settings given for other brokers, another registry or
    /// another kind of security are left out. Masks stay in any case.
    pub fn base_for(&self, table: &Self) -> Self {
        let differs = |key: &str| table.get(key).is_some_and(|own| self.get(key) != Some(own));
        let brokers = table.bootstrap_servers();
        if !brokers.is_empty() && brokers != self.bootstrap_servers() {
            let mut base = Self::empty();
            let masks = self.values.iter().filter(|(key, _)| own::is_mask(key));
            base.values
                .extend(masks.map(|(k, v)| (k.clone(), v.clone())));
            base.note_registry(RegistryConfig::WHOM.into_iter().any(differs));
            return base;
        }
        let mut base = self.clone();
        let mut all = table.values.keys().chain(table.stores.keys());
        if all.any(|key| !RegistryConfig::owns(key) && authority::is_security(key) && differs(key))
        {
            let stays = |key: &str| {
                RegistryConfig::owns(key) || own::is_mask(key) || !keys::is_credential(key)
            };
            base.values.retain(|key, _| stays(key));
            base.stores.retain(|key, _| stays(key));
        }
        if RegistryConfig::WHOM.into_iter().any(differs) {
            base = base.without_registry();
            base.note_registry(true);
        }
        base
    }

    /// Notes that the masks are of another registry's connection.
    fn note_registry(&mut self, is_foreign: bool) {
        if is_foreign && self.values.contains_key("mask") {
            let noted = (own::FOREIGN_REGISTRY.to_owned(), "another".to_owned());
            self.values.extend([noted]);
        }
    }

    fn apply(&mut self, key: &str, value: &str, origin: Origin<'_>) -> Result<()> {
        let canonical = keys::canonical(key);
        if let Some(reason) = keys::refused(&canonical) {
            return match origin {
                Origin::Explicit | Origin::Statement(_) => Err(Error::config(key, reason)),
                Origin::File => {
                    log::warn!("setting '{key}' is ignored: {reason}");
                    Ok(())
                }
            };
        }
        let unrestricted = Policy::default();
        let policy = match origin {
            Origin::Statement(policy) => {
                authority::check(key, &canonical, policy)?;
                policy
            }
            Origin::Explicit | Origin::File => &unrestricted,
        };
        let value = match keys::is_secret(&canonical) {
            true => secret(key, value, policy)?,
            false => value.to_owned(),
        };
        if keys::is_store(&canonical) {
            let same = self.stores.insert(canonical, value.clone());
            return same
                .filter(|old| *old != value)
                .map_or(Ok(()), |_| Err(twice(key)));
        }
        if canonical == "sasl.jaas.config" {
            for (translated, value) in java::jaas(key, &value)? {
                if let Origin::Statement(policy) = origin {
                    authority::check(key, translated, policy)?;
                }
                self.put(key, translated, &value)?;
            }
            return Ok(());
        }
        let value = keys::normal_value(&canonical, &value);
        if keys::OWN.contains(&canonical.as_str()) {
            own::check(key, &canonical, &value)?;
            return self.insert(key, &canonical, value);
        }
        if RegistryConfig::owns(&canonical) {
            RegistryConfig::check(&canonical, &value)?;
            return self.insert(key, &canonical, value);
        }
        if keys::JAVA_ONLY.contains(&canonical.as_str()) {
            log::debug!("setting '{key}' makes no difference here and is ignored");
            return Ok(());
        }
        self.put(key, &canonical, &value)
    }

    /// Checks a value for a librdkafka setting, and keeps it.
    fn put(&mut self, key: &str, canonical: &str, value: &str) -> Result<()> {
        let Some((_, _, kind)) = known::find(canonical) else {
            let names = Self::known_keys();
            let nearest = nearest_names(canonical, names.iter().map(String::as_str));
            let mut message = "there is no such setting".to_owned();
            if !nearest.is_empty() {
                message.push_str("; did you mean ");
                message.push_str(&nearest.join(", "));
                message.push('?');
            }
            return Err(Error::config(key, message));
        };
        match known::normal(*kind, value) {
            Ok(value) => self.insert(key, canonical, value),
            Err(reason) => Err(Error::config(key, reason)),
        }
    }

    fn insert(&mut self, key: &str, canonical: &str, value: String) -> Result<()> {
        match self.values.get(canonical) {
            Some(old) if *old != value => Err(twice(key)),
            _ => {
                self.values.insert(canonical.to_owned(), value);
                Ok(())
            }
        }
    }
}

/// Whether a setting's value must never be printed.
#[cfg(feature = "librdkafka")]
pub(crate) fn is_secret(key: &str) -> bool {
    keys::is_secret(&keys::canonical(key))
}

/// Whether this value of a setting must never be printed.
pub fn hides(key: &str, value: &str) -> bool {
    keys::hides(&keys::canonical(key), value)
}

/// Where a setting comes from.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// Flags or code: written for this crate.
    Explicit,
    /// A file, which may have been written for another client.
    File,
    /// The text of a statement, in a session with this policy.
    Statement(&'a Policy),
}

fn twice(key: &str) -> Error {
    Error::config(key, "is set twice with different values; keep one of them")
}

/// Resolves a secret: `env:NAME` and `file:PATH` become the text that they name.
pub fn secret(key: &str, value: &str, policy: &Policy) -> Result<String> {
    policy.check_reference(key, value)?;
    if let Some(name) = value.strip_prefix("env:") {
        return std::env::var(name).map_err(|_| {
            Error::config(
                key,
                format!("the environment variable '{name}' is not set or not text"),
            )
        });
    }
    if let Some(path) = value.strip_prefix("file:") {
        let content = read_text(Path::new(path), MAX_SECRET_BYTES)
            .map_err(|e| Error::config(key, format!("cannot read '{path}': {e}")).because(e))?;
        return Ok(content.trim_end_matches(['\r', '\n']).to_owned());
    }
    Ok(value.to_owned())
}

impl fmt::Display for ConnectionConfig {
    /// One `key=value` per line, with secrets redacted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.properties().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ConnectionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.properties()).finish()
    }
}

#[cfg(test)]
mod tests;
