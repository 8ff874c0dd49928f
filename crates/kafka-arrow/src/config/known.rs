//! librdkafka's settings: their values, and whether they concern consumers or producers.
//!
//! The table is kept here so that checking a setting needs no C library. A test compares it with librdkafka's
//! own (`client::librdkafka::tests::settings`). It leaves out what this crate decides itself, see
//! [`keys::refused`](super::keys::refused). Whether a build of librdkafka supports a value is not checked
//! here, but when a client is made.

use self::Kind::{Bool, Decimal, Int, IntOr, Text, Word, Words};
use self::Side::{Both, Consumers, Producers};

/// Which clients use a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Both,
    Consumers,
    Producers,
}

/// The values that a setting accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Text,
    Bool,
    /// A whole number between two others, inclusive.
    Int(i32, i32),
    /// The same, or one of several words.
    IntOr(i32, i32, &'static [&'static str]),
    Decimal(f64, f64),
    /// One of several words, in any case.
    Word(&'static [&'static str]),
    /// A comma-separated list of some of these words, each optionally with a `+` or `-` before it.
    Words(&'static [&'static str]),
}

/// A setting: its name, which clients use it, and its values.
pub(crate) type Setting = (&'static str, Side, Kind);

/// The setting with a canonical name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|(known, _, _)| *known == name)
}

/// A value in the only spelling used within this crate: `true`, not `T`.
///
/// # Errors
/// What was expected, if the value is invalid.
pub(crate) fn normal(kind: Kind, value: &str) -> Result<String, String> {
    let expected = |what: String| format!("expected {what}, found '{value}'");
    let word = |words: &[&'static str]| {
        let mut words = words.iter();
        words.find(|word| word.eq_ignore_ascii_case(value)).copied()
    };
    let whole = |least: i32, most: i32| {
        let number: i32 = value.parse().ok()?;
        (least..=most).contains(&number).then(|| number.to_string())
    };
    match kind {
        Text => Ok(value.to_owned()),
        Bool => match value.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok("true".to_owned()),
            "false" | "f" | "0" => Ok("false".to_owned()),
            _ => Err(expected("'true' or 'false'".to_owned())),
        },
        Int(least, most) => whole(least, most)
            .ok_or_else(|| expected(format!("a whole number from {least} to {most}"))),
        IntOr(least, most, words) => word(words)
            .map(str::to_owned)
            .or_else(|| whole(least, most))
            .ok_or_else(|| {
                let words = listed(words);
                expected(format!("{words} or a whole number from {least} to {most}"))
            }),
        Decimal(least, most) => match value.parse::<f64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(value.to_owned()),
            _ => Err(expected(format!("a number from {least} to {most}"))),
        },
        Word(words) => word(words)
            .map(str::to_owned)
            .ok_or_else(|| expected(format!("one of {}", listed(words)))),
        Words(words) => {
            let bare = |part: &str| {
                let part = part.trim();
                part.strip_prefix(['+', '-']).unwrap_or(part).to_owned()
            };
            let known = |part: &String| words.iter().any(|w| w.eq_ignore_ascii_case(part));
            let mut parts = value.split(',').map(bare).filter(|part| !part.is_empty());
            match parts.all(|part| known(&part)) {
                true if !value.is_empty() => Ok(value.to_owned()),
                _ => Err(expected(format!("a list of {}", listed(words)))),
            }
        }
    }
}

fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    quoted.join(", ")
}

/// librdkafka 2.12's settings, by name.
pub(crate) const SETTINGS: &[Setting] = &[
    ("acks", Producers, IntOr(-1, 1_000, &["all"])),
    ("api.version.fallback.ms", Both, Int(0, 604_800_000)),
    ("api.version.request", Both, Bool),
    ("api.version.request.timeout.ms", Both, Int(1, 300_000)),
    ("batch.num.messages", Producers, Int(1, 1_000_000)),
    ("batch.size", Producers, Int(1, i32::MAX)),
    ("bootstrap.servers", Both, Text),
    ("broker.address.family", Both, Word(&["any", "v4", "v6"])),
    ("broker.address.ttl", Both, Int(0, 86_400_000)),
    ("broker.version.fallback", Both, Text),
    (
        "builtin.features",
        Both,
        Words(&[
            "gzip",
            "snappy",
            "ssl",
            "sasl",
            "regex",
            "lz4",
            "sasl_gssapi",
            "sasl_plain",
            "sasl_scram",
            "plugins",
            "zstd",
            "sasl_oauthbearer",
            "http",
            "oidc",
        ]),
    ),
    ("check.crcs", Consumers, Bool),
    (
        "client.dns.lookup",
        Both,
        Word(&[
            "use_all_dns_ips",
            "resolve_canonical_bootstrap_servers_only",
        ]),
    ),
    ("client.id", Both, Text),
    ("client.rack", Both, Text),
    ("client.software.name", Both, Text),
    ("client.software.version", Both, Text),
    ("compression.level", Producers, Int(-1, 12)),
    (
        "compression.type",
        Producers,
        Word(&["none", "gzip", "snappy", "lz4", "zstd"]),
    ),
    ("connections.max.idle.ms", Both, Int(0, i32::MAX)),
    (
        "consume.callback.max.messages",
        Consumers,
        Int(0, 1_000_000),
    ),
    (
        "coordinator.query.interval.ms",
        Consumers,
        Int(1, 3_600_000),
    ),
    (
        "debug",
        Both,
        Words(&[
            "generic",
            "broker",
            "topic",
            "metadata",
            "feature",
            "queue",
            "msg",
            "protocol",
            "cgrp",
            "security",
            "fetch",
            "interceptor",
            "plugin",
            "consumer",
            "admin",
            "eos",
            "mock",
            "assignor",
            "conf",
            "telemetry",
            "all",
        ]),
    ),
    ("enable.gapless.guarantee", Producers, Bool),
    ("enable.idempotence", Producers, Bool),
    ("enable.metrics.push", Both, Bool),
    ("enable.random.seed", Both, Bool),
    ("enable.sasl.oauthbearer.unsecure.jwt", Both, Bool),
    ("enable.sparse.connections", Both, Bool),
    ("enable.ssl.certificate.verification", Both, Bool),
    ("enable_sasl_queue", Both, Bool),
    ("enabled_events", Both, Int(0, i32::MAX)),
    ("fetch.error.backoff.ms", Consumers, Int(0, 300_000)),
    ("fetch.max.bytes", Consumers, Int(0, 2_147_483_135)),
    ("fetch.message.max.bytes", Consumers, Int(1, 1_000_000_000)),
    ("fetch.min.bytes", Consumers, Int(1, 100_000_000)),
    ("fetch.queue.backoff.ms", Consumers, Int(0, 300_000)),
    ("fetch.wait.max.ms", Consumers, Int(0, 300_000)),
    ("group.protocol.type", Consumers, Text),
    ("group.remote.assignor", Consumers, Text),
    ("https.ca.location", Both, Text),
    ("https.ca.pem", Both, Text),
    ("internal.termination.signal", Both, Int(0, 128)),
    (
        "isolation.level",
        Consumers,
        Word(&["read_uncommitted", "read_committed"]),
    ),
    ("linger.ms", Producers, Decimal(0.0, 900_000.0)),
    ("log.connection.close", Both, Bool),
    ("log.queue", Both, Bool),
    ("log.thread.name", Both, Bool),
    ("log_level", Both, Int(0, 7)),
    (
        "max.in.flight.requests.per.connection",
        Both,
        Int(1, 1_000_000),
    ),
    ("message.copy.max.bytes", Both, Int(0, 1_000_000_000)),
    ("message.max.bytes", Both, Int(1_000, 1_000_000_000)),
    ("message.timeout.ms", Producers, Int(0, i32::MAX)),
    ("metadata.max.age.ms", Both, Int(1, 86_400_000)),
    (
        "metadata.recovery.rebootstrap.trigger.ms",
        Both,
        Int(0, i32::MAX),
    ),
    (
        "metadata.recovery.strategy",
        Both,
        Word(&["none", "rebootstrap"]),
    ),
    ("metadata.request.timeout.ms", Both, Int(10, 900_000)),
    (
        "partitioner",
        Producers,
        Word(&[
            "random",
            "consistent",
            "consistent_random",
            "murmur2",
            "murmur2_random",
            "fnv1a",
            "fnv1a_random",
        ]),
    ),
    ("produce.offset.report", Producers, Bool),
    (
        "queue.buffering.backpressure.threshold",
        Producers,
        Int(1, 1_000_000),
    ),
    ("queue.buffering.max.kbytes", Producers, Int(1, i32::MAX)),
    ("queue.buffering.max.messages", Producers, Int(0, i32::MAX)),
    ("queued.max.messages.kbytes", Consumers, Int(1, 2_097_151)),
    ("queued.min.messages", Consumers, Int(1, 10_000_000)),
    ("queuing.strategy", Producers, Word(&["fifo", "lifo"])),
    ("receive.message.max.bytes", Both, Int(1_000, i32::MAX)),
    ("reconnect.backoff.jitter.ms", Both, Int(0, 3_600_000)),
    ("reconnect.backoff.max.ms", Both, Int(0, 3_600_000)),
    ("reconnect.backoff.ms", Both, Int(0, 3_600_000)),
    ("retries", Producers, Int(0, i32::MAX)),
    ("retry.backoff.max.ms", Both, Int(1, 300_000)),
    ("retry.backoff.ms", Both, Int(1, 300_000)),
    ("sasl.kerberos.keytab", Both, Text),
    ("sasl.kerberos.kinit.cmd", Both, Text),
    (
        "sasl.kerberos.min.time.before.relogin",
        Both,
        Int(0, 86_400_000),
    ),
    ("sasl.kerberos.principal", Both, Text),
    ("sasl.kerberos.service.name", Both, Text),
    ("sasl.mechanism", Both, Text),
    (
        "sasl.oauthbearer.assertion.algorithm",
        Both,
        Word(&["RS256", "ES256"]),
    ),
    ("sasl.oauthbearer.assertion.claim.aud", Both, Text),
    (
        "sasl.oauthbearer.assertion.claim.exp.seconds",
        Both,
        Int(1, i32::MAX),
    ),
    ("sasl.oauthbearer.assertion.claim.iss", Both, Text),
    ("sasl.oauthbearer.assertion.claim.jti.include", Both, Bool),
    (
        "sasl.oauthbearer.assertion.claim.nbf.seconds",
        Both,
        Int(0, i32::MAX),
    ),
    ("sasl.oauthbearer.assertion.claim.sub", Both, Text),
    ("sasl.oauthbearer.assertion.file", Both, Text),
    ("sasl.oauthbearer.assertion.jwt.template.file", Both, Text),
    ("sasl.oauthbearer.assertion.private.key.file", Both, Text),
    (
        "sasl.oauthbearer.assertion.private.key.passphrase",
        Both,
        Text,
    ),
    ("sasl.oauthbearer.assertion.private.key.pem", Both, Text),
    ("sasl.oauthbearer.client.id", Both, Text),
    ("sasl.oauthbearer.client.secret", Both, Text),
    ("sasl.oauthbearer.config", Both, Text),
    ("sasl.oauthbearer.extensions", Both, Text),
    (
        "sasl.oauthbearer.grant.type",
        Both,
        Word(&[
            "client_credentials",
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
        ]),
    ),
    (
        "sasl.oauthbearer.metadata.authentication.type",
        Both,
        Word(&["none", "azure_imds"]),
    ),
    ("sasl.oauthbearer.method", Both, Word(&["default", "oidc"])),
    ("sasl.oauthbearer.scope", Both, Text),
    ("sasl.oauthbearer.token.endpoint.url", Both, Text),
    ("sasl.password", Both, Text),
    ("sasl.username", Both, Text),
    (
        "security.protocol",
        Both,
        Word(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]),
    ),
    ("socket.blocking.max.ms", Both, Int(1, 60_000)),
    (
        "socket.connection.setup.timeout.ms",
        Both,
        Int(1_000, i32::MAX),
    ),
    ("socket.keepalive.enable", Both, Bool),
    ("socket.max.fails", Both, Int(0, 1_000_000)),
    ("socket.nagle.disable", Both, Bool),
    ("socket.receive.buffer.bytes", Both, Int(0, 100_000_000)),
    ("socket.send.buffer.bytes", Both, Int(0, 100_000_000)),
    ("socket.timeout.ms", Both, Int(10, 300_000)),
    ("ssl.ca.certificate.stores", Both, Text),
    ("ssl.ca.location", Both, Text),
    ("ssl.ca.pem", Both, Text),
    ("ssl.certificate.location", Both, Text),
    ("ssl.certificate.pem", Both, Text),
    ("ssl.cipher.suites", Both, Text),
    ("ssl.crl.location", Both, Text),
    ("ssl.curves.list", Both, Text),
    (
        "ssl.endpoint.identification.algorithm",
        Both,
        Word(&["none", "https"]),
    ),
    ("ssl.engine.id", Both, Text),
    ("ssl.engine.location", Both, Text),
    ("ssl.key.location", Both, Text),
    ("ssl.key.password", Both, Text),
    ("ssl.key.pem", Both, Text),
    ("ssl.keystore.location", Both, Text),
    ("ssl.keystore.password", Both, Text),
    ("ssl.providers", Both, Text),
    ("ssl.sigalgs.list", Both, Text),
    ("statistics.interval.ms", Both, Int(0, 86_400_000)),
    ("sticky.partitioning.linger.ms", Producers, Int(0, 900_000)),
    ("test.mock.broker.rtt", Both, Int(0, 3_600_000)),
    ("test.mock.num.brokers", Both, Int(0, 10_000)),
    ("topic.blacklist", Both, Text),
    ("topic.metadata.propagation.max.ms", Both, Int(0, 3_600_000)),
    ("topic.metadata.refresh.fast.cnt", Both, Int(0, 1_000)),
    (
        "topic.metadata.refresh.fast.interval.ms",
        Both,
        Int(1, 60_000),
    ),
    (
        "topic.metadata.refresh.interval.ms",
        Both,
        Int(-1, 3_600_000),
    ),
    ("topic.metadata.refresh.sparse", Both, Bool),
    ("transaction.timeout.ms", Producers, Int(1_000, i32::MAX)),
];
