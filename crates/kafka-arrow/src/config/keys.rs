//! What the names of settings mean here: aliases, secrets, and settings that this crate decides itself.

use super::known::{self, Side};

/// Settings of this crate, which librdkafka does not know.
pub(super) const OWN: [&str; 12] = [
    "client",
    "connection.name",
    "key.partitioner",
    "mask",
    "mask.salt",
    "max.scan.bytes",
    "max.scan.records",
    "max.scan.time",
    "request.timeout.ms",
    "read.timeout.ms",
    "client.sessions.max",
    "read.buffer.bytes",
];

/// Whether a setting only concerns producers.
pub(super) fn is_of_producers(key: &str) -> bool {
    is_of(key, Side::Producers)
}

/// Whether a setting only concerns consumers.
pub(super) fn is_of_consumers(key: &str) -> bool {
    is_of(key, Side::Consumers)
}

fn is_of(key: &str, side: Side) -> bool {
    known::find(key).is_some_and(|(_, of, _)| *of == side)
}

/// Settings of the Java client that librdkafka does not know and that make no difference here.
pub(super) const JAVA_ONLY: [&str; 44] = [
    "auto.include.jmx.reporter",
    "bootstrap.controllers",
    "buffer.memory",
    "config.providers",
    "default.api.timeout.ms",
    "exclude.internal.topics",
    "key.serializer",
    "max.block.ms",
    "max.poll.records",
    "max.request.size",
    "metadata.max.idle.ms",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "partitioner.adaptive.partitioning.enable",
    "partitioner.availability.timeout.ms",
    "partitioner.class",
    "partitioner.ignore.keys",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "sasl.client.callback.handler.class",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "sasl.login.connect.timeout.ms",
    "sasl.login.read.timeout.ms",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "sasl.login.retry.backoff.max.ms",
    "sasl.login.retry.backoff.ms",
    "security.providers",
    "share.acknowledgement.mode",
    "socket.connection.setup.timeout.max.ms",
    "ssl.enabled.protocols",
    "ssl.engine.factory.class",
    "ssl.keymanager.algorithm",
    "ssl.protocol",
    "ssl.provider",
    "ssl.secure.random.implementation",
    "ssl.trustmanager.algorithm",
    "transaction.two.phase.commit.enable",
    "value.serializer",
];

/// Aliases: Java's or old names, with librdkafka's names.
const ALIASES: [(&str, &str); 14] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("compression.codec", "compression.type"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("message.send.max.retries", "retries"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
];

/// The canonical name of a setting: without `kafka.` prefix, in lower case, with aliases resolved.
pub(super) fn canonical(key: &str) -> String {
    let key = key.trim().to_ascii_lowercase();
    let key = key.strip_prefix("kafka.").unwrap_or(&key);
    // librdkafka accepts topic settings with and without this prefix. Four of its own names begin with it.
    let key = match key.strip_prefix("topic.") {
        Some(of_topic) if of_topic != "blacklist" && !of_topic.starts_with("metadata.") => of_topic,
        _ => key,
    };
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == key)
        .map_or(key, |(_, name)| name)
        .to_owned()
}

/// Whether the value must never be printed.
pub(super) fn is_secret(key: &str) -> bool {
    const PARTS: [&str; 11] = [
        "mask.salt",
        "password",
        "passphrase",
        "secret",
        "jaas",
        "key.pem",
        "keystore.key",
        "oauthbearer.config",
        "token.value",
        "auth.user.info",
        "auth.token",
    ];
    PARTS.iter().any(|part| key.contains(part))
}

/// Whether a setting identifies the client. A value for one cluster must not be used for another.
pub(super) fn is_credential(key: &str) -> bool {
    const PARTS: [&str; 8] = [
        "sasl.username",
        "sasl.kerberos.",
        "oauthbearer.",
        "ssl.key.",
        "ssl.certificate.",
        "ssl.keystore.",
        "ssl.engine.",
        "unsecure.jwt",
    ];
    is_secret(key) || PARTS.iter().any(|part| key.contains(part))
}

/// Whether a value must never be printed: a secret, or a registry's URL that contains a login.
pub(super) fn hides(key: &str, value: &str) -> bool {
    is_secret(key) || (key == "schema.registry.url" && value.contains('@'))
}

/// Java's settings for key and trust stores, which only make sense together.
pub(super) fn is_store(key: &str) -> bool {
    key.starts_with("ssl.truststore.") || key.starts_with("ssl.keystore.")
}

/// Why the user cannot choose a setting; `None` if they can.
pub(super) fn refused(key: &str) -> Option<&'static str> {
    Some(match key {
        "group.id" | "group.instance.id" | "group.protocol" => {
            "ranges are read without a consumer group; to start from a group's offsets, write the range 'group:NAME'"
        }
        "auto.offset.reset" => {
            "a range names its start, and an offset that is gone is an error; set the range, or 'on.data.loss'"
        }
        "enable.auto.commit"
        | "auto.commit.enable"
        | "auto.commit.interval.ms"
        | "enable.auto.offset.store"
        | "offset.store.method"
        | "offset.store.path"
        | "offset.store.sync.interval.ms" => "nothing is ever committed to a consumer group",
        "enable.partition.eof" => "the reader needs end-of-partition reports and sets this itself",
        "transactional.id" => {
            "a sink makes it from the job's name and its topic, so that it is the same in every run; set 'transactional.id.prefix' of the table"
        }
        "delivery.report.only.error" => "sinks need it and set it themselves",
        "allow.auto.create.topics" => "reading never creates a topic",
        "interceptor.classes" | "interceptors" | "plugin.library.paths" => {
            "code cannot be loaded into the client by a setting"
        }
        "key.deserializer" | "value.deserializer" => {
            "keys and values are read as bytes; decode them with 'key.format' and 'value.format'"
        }
        "partition.assignment.strategy"
        | "session.timeout.ms"
        | "heartbeat.interval.ms"
        | "max.poll.interval.ms" => "there is no consumer group that it could apply to",
        _ => return None,
    })
}

/// A value in librdkafka's spelling.
pub(super) fn normal_value(key: &str, value: &str) -> String {
    let value = value.trim();
    match key {
        "client" => value.to_ascii_lowercase(),
        // In Java, an empty text disables the check.
        "ssl.endpoint.identification.algorithm" if value.is_empty() => "none".into(),
        // Leaves the size to the system: -1 in Java, 0 in librdkafka.
        "socket.send.buffer.bytes" | "socket.receive.buffer.bytes" if value == "-1" => "0".into(),
        _ => value.to_owned(),
    }
}
