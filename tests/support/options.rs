//! How a broker can be set up, and what that means in server properties.

use std::fmt::Write as _;
use std::path::Path;

use super::certificates::Certificates;

/// Users that can log in with PLAIN and SCRAM; `admin` may do everything, the others nothing that
/// was not granted. OAUTHBEARER lets in whatever name the token has.
pub const USERS: [&str; 3] = ["admin", "alice", "bob"];

/// The password of each of [`USERS`].
pub const PASSWORD: &str = "correct horse";

/// What a broker listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listener {
    /// No encryption, no login: the principal `User:ANONYMOUS`, who may do everything.
    Plaintext,
    /// A login without encryption.
    SaslPlaintext,
    /// A login over TLS.
    SaslSsl,
    /// TLS with a client certificate; the principal is its common name.
    Ssl,
}

impl Listener {
    /// As Kafka and librdkafka call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
            Self::Ssl => "SSL",
        }
    }

    pub(super) fn has_tls(self) -> bool {
        matches!(self, Self::SaslSsl | Self::Ssl)
    }
}

/// How a client proves who it is.
#[derive(Debug, Clone, Copy)]
pub enum Login<'a> {
    /// Not at all.
    Nobody,
    /// PLAIN with user and password.
    Plain(&'a str, &'a str),
    /// SCRAM-SHA-256 with user and password.
    ScramSha256(&'a str, &'a str),
    /// SCRAM-SHA-512 with user and password.
    ScramSha512(&'a str, &'a str),
    /// OAUTHBEARER with an unsecured token for this user.
    OAuthBearer(&'a str),
    /// The certificate of `alice` as PEM, for [`Listener::Ssl`].
    Certificate,
    /// The same as PKCS12.
    CertificateStore,
}

/// How a broker is set up; the default has a plaintext listener only.
#[derive(Debug, Clone, Default)]
pub struct KafkaOptions {
    pub(super) listeners: Vec<Listener>,
    pub(super) properties: Vec<(String, String)>,
    pub(super) full_speed: bool,
}

impl KafkaOptions {
    /// A broker with every listener.
    pub fn secured() -> Self {
        Self::default()
            .listener(Listener::SaslPlaintext)
            .listener(Listener::SaslSsl)
            .listener(Listener::Ssl)
    }

    /// Adds a listener; the plaintext one is always there.
    pub fn listener(mut self, listener: Listener) -> Self {
        if listener != Listener::Plaintext && !self.listeners.contains(&listener) {
            self.listeners.push(listener);
        }
        self
    }

    /// Sets a server property, over what the harness would set.
    pub fn property(mut self, key: &str, value: &str) -> Self {
        self.properties.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Java as brokers run it, where tests want it to start fast: for measurements.
    pub fn full_speed(mut self) -> Self {
        self.full_speed = true;
        self
    }
}

/// What every node of the harness is told.
pub(super) const NODE_PROPERTIES: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("num.network.threads", "2"),
    ("num.io.threads", "2"),
    ("auto.create.topics.enable", "true"),
    ("num.partitions", "1"),
    // Internal topics on one node.
    ("offsets.topic.num.partitions", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    // What a test waits for should come soon.
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "200",
    ),
    ("log.initial.task.delay.ms", "500"),
    ("log.retention.check.interval.ms", "500"),
    ("log.cleaner.backoff.ms", "200"),
    // A killed broker may register again only when its session has ended.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("log.segment.delete.delay.ms", "1000"),
    // The cleaner's map of keys: 8 MiB hold 300,000 of them, the default takes 128 MiB of heap.
    ("log.cleaner.dedupe.buffer.size", "8388608"),
    // Records with old timestamps must not expire under a test.
    ("log.retention.ms", "-1"),
    ("message.max.bytes", "67108864"),
    ("replica.fetch.max.bytes", "67108864"),
    (
        "authorizer.class.name",
        "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    ),
    ("super.users", "User:ANONYMOUS;User:admin"),
];

/// Warnings and errors go to the standard output, which is the broker's log file.
pub(super) const LOG4J: &str = "\
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1}: %m%n
";

/// The listeners' protocols, certificates and login modules.
pub(super) fn security_properties(
    listeners: &[Listener],
    certificates: &Certificates,
) -> Vec<(String, String)> {
    let mut protocols = "CONTROLLER:PLAINTEXT".to_owned();
    let mut properties = Vec::new();
    let mut set = |key: &str, value: String| properties.push((key.to_owned(), value));
    for listener in listeners {
        let name = listener.name();
        write!(protocols, ",{name}:{name}").expect("text can be written");
        let prefix = format!("listener.name.{}", name.to_lowercase());
        if listener.has_tls() {
            set("ssl.keystore.type", "PEM".into());
            set("ssl.keystore.location", path_text(&certificates.server));
            set("ssl.truststore.type", "PEM".into());
            set("ssl.truststore.location", path_text(&certificates.ca));
        }
        match listener {
            Listener::Plaintext => {}
            Listener::Ssl => {
                set(&format!("{prefix}.ssl.client.auth"), "required".into());
                set(
                    "ssl.principal.mapping.rules",
                    "RULE:^CN=([^,]+).*$/$1/,DEFAULT".into(),
                );
            }
            Listener::SaslPlaintext | Listener::SaslSsl => {
                set(
                    &format!("{prefix}.sasl.enabled.mechanisms"),
                    "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".into(),
                );
                for (mechanism, module) in LOGIN_MODULES {
                    let users: String = if *mechanism == "plain" {
                        USERS
                            .iter()
                            .map(|user| format!(" user_{user}=\"{PASSWORD}\""))
                            .collect()
                    } else {
                        String::new()
                    };
                    set(
                        &format!("{prefix}.{mechanism}.sasl.jaas.config"),
                        format!("org.apache.kafka.common.security.{module} required{users};"),
                    );
                }
            }
        }
    }
    set("listener.security.protocol.map", protocols);
    properties
}

const LOGIN_MODULES: &[(&str, &str)] = &[
    ("plain", "plain.PlainLoginModule"),
    ("scram-sha-256", "scram.ScramLoginModule"),
    ("scram-sha-512", "scram.ScramLoginModule"),
    ("oauthbearer", "oauthbearer.OAuthBearerLoginModule"),
];

/// A path as it is written into a configuration.
pub(super) fn path_text(path: &Path) -> String {
    path.to_str()
        .expect("the temporary folder's path is not UTF-8")
        .to_owned()
}
