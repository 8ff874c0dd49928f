//! Options of a broker, and the server properties that they become.

use std::fmt::Write as _;
use std::path::Path;

use super::certificates::Certificates;
use super::release::Release;

/// Users that can log in with PLAIN and SCRAM. `admin` may do everything, the others only what they were
/// granted. OAUTHBEARER accepts whatever name the token has.
pub const USERS: [&str; 3] = ["admin", "alice", "bob"];

/// The password of each of [`USERS`].
pub const PASSWORD: &str = "correct horse";

/// A listener of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listener {
    /// No encryption and no login. The principal `User:ANONYMOUS` may do everything.
    Plaintext,
    /// A login without encryption.
    SaslPlaintext,
    /// A login over TLS.
    SaslSsl,
    /// TLS with a client certificate; the principal is its common name.
    Ssl,
    /// Another one with this name, which properties of the test configure: by default TLS without a client
    /// certificate. The principal `User:ANONYMOUS` may do everything.
    Named(&'static str),
}

impl Listener {
    /// Its name in the broker's properties.
    pub fn name(self) -> &'static str {
        match self {
            Self::Named(name) => name,
            other => other.protocol(),
        }
    }

    /// The protocol, as Kafka and librdkafka name it.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
            Self::Ssl | Self::Named(_) => "SSL",
        }
    }

    pub(super) fn has_tls(self) -> bool {
        matches!(self, Self::SaslSsl | Self::Ssl | Self::Named(_))
    }
}

/// How a client logs in.
#[derive(Debug, Clone, Copy)]
pub enum Login<'a> {
    /// Without a login.
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

/// The options of a broker. By default it only has a plaintext listener.
#[derive(Debug, Clone, Default)]
pub struct KafkaOptions {
    pub(super) listeners: Vec<Listener>,
    pub(super) properties: Vec<(String, String)>,
    pub(super) java: Vec<String>,
    pub(super) full_speed: bool,
    /// The addresses of the proxies in front of the broker.
    pub(super) proxies: Vec<String>,
    pub(super) log_requests: bool,
    pub(super) release: Release,
}

impl KafkaOptions {
    /// A broker with every listener.
    pub fn secured() -> Self {
        Self::default()
            .listener(Listener::SaslPlaintext)
            .listener(Listener::SaslSsl)
            .listener(Listener::Ssl)
    }

    /// Adds a listener. The plaintext listener always exists.
    pub fn listener(mut self, listener: Listener) -> Self {
        if listener != Listener::Plaintext && !self.listeners.contains(&listener) {
            self.listeners.push(listener);
        }
        self
    }

    /// Sets a server property, overriding the harness. `{folder}` in the value is the broker's own folder.
    pub fn property(mut self, key: &str, value: &str) -> Self {
        self.properties.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Adds a plaintext listener that the broker advertises as `address`, which is that of a proxy. Whoever
    /// connects through the proxy stays behind it. See [`KafkaServer::behind`](super::KafkaServer::behind).
    pub fn behind(mut self, address: String) -> Self {
        self.proxies.push(address);
        self
    }

    /// Logs each request with its answer, to show what the broker served.
    pub(super) fn logging_requests(mut self) -> Self {
        self.log_requests = true;
        self
    }

    /// Starts another release than the newest. Those with ZooKeeper only have the plaintext listener.
    pub fn release(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    /// Gives Java an argument.
    pub fn java(mut self, argument: &str) -> Self {
        self.java.push(argument.to_owned());
        self
    }

    /// Runs Java as in production rather than for a fast start, for benchmarks.
    pub fn full_speed(mut self) -> Self {
        self.full_speed = true;
        self
    }
}

/// Properties of a node without ZooKeeper.
pub(super) const NODE_PROPERTIES: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("controller.listener.names", "CONTROLLER"),
    (
        "authorizer.class.name",
        "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    ),
    ("super.users", "User:ANONYMOUS;User:admin"),
];

/// Properties of every broker in the harness.
pub(super) const BROKER_PROPERTIES: &[(&str, &str)] = &[
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("num.network.threads", "2"),
    ("num.io.threads", "2"),
    ("auto.create.topics.enable", "true"),
    // The default is false before Kafka 1.0.
    ("delete.topic.enable", "true"),
    ("num.partitions", "1"),
    // Internal topics work on a single node.
    ("offsets.topic.num.partitions", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    // What a test waits for should happen soon.
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "200",
    ),
    ("log.initial.task.delay.ms", "500"),
    ("log.retention.check.interval.ms", "500"),
    ("log.cleaner.backoff.ms", "200"),
    // A killed broker can only register again when its session has expired.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("log.segment.delete.delay.ms", "1000"),
    // The cleaner's map of keys. 8 MiB hold 300,000 keys; the default would take 128 MiB of heap.
    ("log.cleaner.dedupe.buffer.size", "8388608"),
    // Records with old timestamps must not expire during a test.
    ("log.retention.ms", "-1"),
    ("message.max.bytes", "67108864"),
    ("replica.fetch.max.bytes", "67108864"),
];

/// Warnings and errors go to standard output, which is the broker's log file.
pub(super) const LOG4J: &str = "\
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1}: %m%n
";

/// Added to [`LOG4J`].
pub(super) const LOG_REQUESTS: &str = "\
logger.requests.name=kafka.request.logger
logger.requests.level=debug
";

/// The same for Kafka 3 and older.
pub(super) const LOG4J_OLD: &str = "\
log4j.rootLogger=WARN, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{HH:mm:ss.SSS} %p %c{1}: %m%n
";

/// The listeners' protocols, certificates and login modules.
pub(super) fn security_properties(
    listeners: &[Listener],
    proxies: usize,
    certificates: &Certificates,
) -> Vec<(String, String)> {
    let mut protocols = "CONTROLLER:PLAINTEXT".to_owned();
    for number in 0..proxies {
        write!(protocols, ",PROXY{number}:PLAINTEXT").expect("text can be written");
    }
    let mut properties = Vec::new();
    let mut set = |key: &str, value: String| properties.push((key.to_owned(), value));
    for listener in listeners {
        let name = listener.name();
        write!(protocols, ",{name}:{}", listener.protocol()).expect("text can be written");
        let prefix = format!("listener.name.{}", name.to_lowercase());
        if listener.has_tls() {
            set("ssl.keystore.type", "PEM".into());
            set("ssl.keystore.location", path_text(&certificates.server));
            set("ssl.truststore.type", "PEM".into());
            set("ssl.truststore.location", path_text(&certificates.ca));
        }
        match listener {
            Listener::Plaintext | Listener::Named(_) => {}
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

/// A path, as written into a configuration.
pub(super) fn path_text(path: &Path) -> String {
    path.to_str()
        .expect("the temporary folder's path is not UTF-8")
        .to_owned()
}
