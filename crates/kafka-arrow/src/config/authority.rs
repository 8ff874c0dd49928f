//! What settings can do besides tuning a connection: load code, read files, change which servers a client
//! talks to.
//!
//! Two lists cover every setting. A test compares them with [`known`](super::known), so that no setting of a
//! newer librdkafka is used unchecked.

use super::keys;
use crate::error::{Error, Result};
use crate::policy::Policy;

/// What a setting has power over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    /// Code is loaded or run. The text of a statement may never do this.
    Code,
    /// How a client authenticates, whom it trusts, and the files and addresses that this uses.
    Security,
    /// A file, or what is written to the log.
    Files,
    /// What is hidden of records. The text of a statement may never decide it.
    Shown,
    /// Which of its own connections another machine reads with.
    Elsewhere,
    /// The cluster.
    Cluster,
}

/// Settings with power, each with what it does. A name that ends with a dot stands for all names with this
/// prefix. The first match counts.
const POWERFUL: [(&str, Power, &str); 37] = [
    ("mask", Power::Shown, "decides what is hidden of records"),
    ("mask.salt", Power::Shown, "is the secret of what is hidden"),
    (
        "ssl.engine.",
        Power::Code,
        "names a library that OpenSSL loads",
    ),
    (
        "ssl.providers",
        Power::Code,
        "names libraries that OpenSSL loads",
    ),
    (
        "sasl.kerberos.kinit.cmd",
        Power::Code,
        "is a command line that a shell runs",
    ),
    (
        "sasl.kerberos.principal",
        Power::Code,
        "becomes part of a command line that a shell runs",
    ),
    (
        "sasl.kerberos.keytab",
        Power::Code,
        "becomes part of a command line that a shell runs",
    ),
    (
        "sasl.kerberos.service.name",
        Power::Code,
        "becomes part of a command line that a shell runs",
    ),
    (
        "test.mock.",
        Power::Code,
        "starts brokers inside the process",
    ),
    (
        "internal.termination.signal",
        Power::Code,
        "is a signal that threads of the process are sent",
    ),
    (
        "security.protocol",
        Power::Security,
        "decides whether passwords and records travel in clear",
    ),
    (
        "ssl.ca.",
        Power::Security,
        "decides which brokers are trusted, by files or certificates",
    ),
    (
        "ssl.crl.location",
        Power::Security,
        "is a file that decides which certificates are trusted",
    ),
    (
        "ssl.truststore.",
        Power::Security,
        "decides which brokers are trusted, by a file",
    ),
    (
        "ssl.keystore.",
        Power::Security,
        "is a file that the client authenticates with",
    ),
    (
        "ssl.key.",
        Power::Security,
        "is what the client authenticates with, perhaps a file",
    ),
    (
        "ssl.certificate.",
        Power::Security,
        "is what the client authenticates with, perhaps a file",
    ),
    (
        "ssl.endpoint.identification.algorithm",
        Power::Security,
        "decides whether a broker's name is checked",
    ),
    (
        "ssl.",
        Power::Security,
        "decides how connections are encrypted",
    ),
    (
        "enable.ssl.certificate.verification",
        Power::Security,
        "decides whether certificates are checked",
    ),
    (
        "https.ca.",
        Power::Security,
        "decides which token endpoints are trusted",
    ),
    (
        "sasl.oauthbearer.token.endpoint.url",
        Power::Security,
        "is where the client's secret is sent to",
    ),
    (
        "sasl.oauthbearer.assertion.",
        Power::Security,
        "is what tokens are asked for with, files among it",
    ),
    (
        "sasl.oauthbearer.metadata.",
        Power::Security,
        "asks the machine's own service for its identity",
    ),
    (
        "enable.sasl.oauthbearer.unsecure.jwt",
        Power::Security,
        "makes unsigned tokens",
    ),
    (
        "enable_sasl_queue",
        Power::Security,
        "hands logins to a queue that is never served",
    ),
    (
        "sasl.",
        Power::Security,
        "decides who the client is and how it authenticates",
    ),
    (
        "security.",
        Power::Security,
        "decides how connections are secured",
    ),
    (
        "client.dns.lookup",
        Power::Security,
        "decides which name of a broker is checked",
    ),
    (
        "schema.registry.ssl.",
        Power::Security,
        "decides which registries are trusted, by a file",
    ),
    (
        "schema.registry.basic.auth.",
        Power::Security,
        "is a registry's login",
    ),
    (
        "schema.registry.bearer.auth.",
        Power::Security,
        "is a registry's login",
    ),
    (
        "debug",
        Power::Files,
        "writes logins and records to the log",
    ),
    ("log", Power::Files, "decides what is logged"),
    (
        "connection.name",
        Power::Elsewhere,
        "decides with whose login a worker reads",
    ),
    ("bootstrap.servers", Power::Cluster, "names the brokers"),
    (
        "schema.registry.url",
        Power::Cluster,
        "names the schema registry",
    ),
];

/// Settings that only tune queues, sizes and times, and those of consumers.
const TUNING: [&str; 72] = [
    "acks",
    "api.version.fallback.ms",
    "api.version.request",
    "api.version.request.timeout.ms",
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "broker.version.fallback",
    "builtin.features",
    "client",
    "client.id",
    "client.rack",
    "client.sessions.max",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.metrics.push",
    "enable.random.seed",
    "enabled_events",
    "key.partitioner",
    "linger.ms",
    "max.in.flight.requests.per.connection",
    "max.scan.bytes",
    "max.scan.records",
    "max.scan.time",
    "message.copy.max.bytes",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "partitioner",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queuing.strategy",
    "read.buffer.bytes",
    "read.timeout.ms",
    "receive.message.max.bytes",
    "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retries",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "schema.registry.request.timeout.ms",
    "socket.blocking.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "statistics.interval.ms",
    "sticky.partitioning.linger.ms",
    "topic.blacklist",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
    "transaction.timeout.ms",
    "metadata.request.timeout.ms",
    "enable.sparse.connections",
    "client.software.name",
    "client.software.version",
];

/// Whether a setting only tunes.
pub(super) fn tunes(key: &str) -> bool {
    TUNING.contains(&key) || keys::is_of_consumers(key)
}

/// What a setting has power over, and how; `None` if it only tunes, or is unknown.
fn power(key: &str) -> Option<(Power, &'static str)> {
    let fits = |name: &str| {
        let begins = name.ends_with('.') && key.starts_with(name);
        begins || key == name || (name == "log" && (key == "log_level" || key.starts_with("log.")))
    };
    let found = POWERFUL.iter().find(|(name, _, _)| fits(name));
    found.map(|(_, power, does)| (*power, *does))
}

/// Whether a setting decides who a client is, whom it trusts, or how it authenticates. Credentials given for
/// one value of such a setting must not be used with another.
pub(super) fn is_security(key: &str) -> bool {
    matches!(power(key), Some((Power::Security | Power::Code, _)))
}

/// Refuses what the text of a statement may not set. That is code in any session, and in a restricted session
/// everything but tuning. Addresses are checked where they are used.
///
/// # Errors
/// [`Error::Config`], which says what the setting does.
pub(super) fn check(key: &str, canonical: &str, policy: &Policy) -> Result<()> {
    match power(canonical) {
        Some((Power::Code | Power::Shown, does)) => Err(Error::config(
            key,
            format!(
                "{does}, which the text of a statement may not choose: set it with -X, or in the file of -F"
            ),
        )),
        Some((Power::Cluster, _)) => Ok(()),
        Some((_, does)) if policy.is_restricted() => Err(Error::config(
            key,
            format!("{does}: it is fixed in a restricted session"),
        )),
        None if policy.is_restricted() && !tunes(canonical) => Err(Error::config(
            key,
            "is not among the settings that the text of a restricted session may choose",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConnectionConfig;

    #[test]
    fn every_setting_was_judged() {
        let all = ConnectionConfig::known_keys().into_iter();
        let open: Vec<String> = all
            .filter(|name| power(name).is_none() && !tunes(name))
            .collect();
        assert_eq!(open, Vec::<String>::new());
    }

    #[test]
    fn what_this_build_does_not_have_is_judged_all_the_same() {
        for name in [
            "sasl.oauthbearer.token.endpoint.url",
            "sasl.oauthbearer.assertion.private.key.file",
            "https.ca.location",
            "enable.ssl.certificate.verification",
        ] {
            assert!(is_security(name), "{name}");
        }
    }

    #[test]
    fn what_tunes_has_no_power() {
        for name in ConnectionConfig::known_keys() {
            assert!(power(&name).is_none() || !tunes(&name), "{name}");
            assert_eq!(keys::refused(&name), None, "{name}");
        }
    }
}
