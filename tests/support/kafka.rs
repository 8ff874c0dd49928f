//! One Apache Kafka node with its own ports and data: broker and controller in one, or an old broker with its
//! ZooKeeper.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::admin;
use super::certificates::{Certificates, STORE_PASSWORD};
use super::libs::{self, Jvm};
use super::options::{
    KafkaOptions, LOG_REQUESTS, Listener, Login, PASSWORD, USERS, path_text, security_properties,
};
use super::process::Watched;
use super::release::Release;
use super::unique::{accepts_connections, cluster_id, free_port};

/// How long a broker may take to answer. On an idle machine it is ready after 3 s.
const START_LIMIT: Duration = Duration::from_secs(180);

const SERVER_LOG: &str = "server.log";

/// A running (or stopped) node. Dropping it kills the process and removes the data.
///
/// - The process never outlives the test process, even if that is killed.
/// - Topics are created automatically. This is on purpose: it lets tests prove that reading creates none.
/// - Records never expire unless a topic's `retention.ms` says so, so timestamps may lie far in the past.
/// - The cleaner runs every 200 ms and compacts topics made by [`admin::create_compacted_topic`].
/// - Messages may have up to 64 MiB.
#[derive(Debug)]
pub struct KafkaServer {
    folder: TempDir,
    certificates: Certificates,
    ports: Vec<(Listener, u16)>,
    /// For each proxy its address, and the broker's port behind it.
    proxies: Vec<(String, u16)>,
    bootstrap: String,
    release: Release,
    jvm: Jvm,
    java: Vec<String>,
    /// Runs until the node is dropped.
    zookeeper: Option<Watched>,
    process: Option<Watched>,
}

/// The role of a node among others.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: usize,
    pub(super) controller_port: u16,
    /// `controller.quorum.voters`; `None` for a single node.
    pub(super) voters: Option<String>,
    pub(super) cluster_id: String,
}

impl KafkaServer {
    /// Starts a node and waits until it answers.
    ///
    /// # Panics
    /// When the broker does not start, with the end of its log; also when Kafka's jars are missing.
    pub fn start(options: KafkaOptions) -> Self {
        /// Another process may take a port before the broker starts.
        const ATTEMPTS: usize = 3;
        for _ in 1..ATTEMPTS {
            match Self::try_start(&options) {
                Ok(server) => return server,
                Err(log) if log.contains("Address already in use") => {}
                Err(log) => panic!("Kafka did not start:\n{log}"),
            }
        }
        Self::try_start(&options).unwrap_or_else(|log| panic!("Kafka did not start:\n{log}"))
    }

    fn try_start(options: &KafkaOptions) -> Result<Self, String> {
        /// Java starts up on all cores, so brokers started together on a small machine would all time out.
        static STARTING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let controller_port = free_port();
        let alone = Member {
            id: 1,
            controller_port,
            voters: (!options.release.stands_alone())
                .then(|| format!("1@127.0.0.1:{controller_port}")),
            cluster_id: cluster_id(),
        };
        let jvm = if options.full_speed {
            Jvm::FullSpeed
        } else {
            Jvm::FastStart
        };
        let mut server = Self::prepared(options, &alone, jvm);
        server.launch()?;
        Ok(server)
    }

    /// A node that is configured and formatted, but not started.
    pub(super) fn prepared(options: &KafkaOptions, member: &Member, jvm: Jvm) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("kafka-test-")
            .tempdir()
            .expect("cannot make a temporary folder");
        let certificates = Certificates::write(folder.path());
        let ports: Vec<(Listener, u16)> = std::iter::once(Listener::Plaintext)
            .chain(options.listeners.iter().copied())
            .map(|listener| (listener, free_port()))
            .collect();
        let bootstrap = format!("127.0.0.1:{}", ports[0].1);
        let mut server = Self {
            folder,
            certificates,
            ports,
            proxies: options
                .proxies
                .iter()
                .map(|proxy| (proxy.clone(), free_port()))
                .collect(),
            bootstrap,
            release: options.release,
            jvm,
            java: options.java.clone(),
            zookeeper: None,
            process: None,
        };
        server.write_configuration(member, options);
        if server.release.has_zookeeper() {
            server.start_zookeeper(member.controller_port);
        } else {
            server.format(member);
        }
        server
    }

    /// `host:port` of the plaintext listener.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// `host:port` of a listener. TLS listeners have the host `localhost`.
    ///
    /// # Panics
    /// When the broker was started without this listener.
    pub fn bootstrap_of(&self, listener: Listener) -> String {
        let port = self.ports.iter().find(|(known, _)| *known == listener);
        let (_, port) = port.unwrap_or_else(|| panic!("no listener {}", listener.name()));
        let host = if listener.has_tls() {
            "localhost"
        } else {
            "127.0.0.1"
        };
        format!("{host}:{port}")
    }

    /// `host:port` that a proxy must forward to.
    ///
    /// # Panics
    /// When the broker was started without this proxy.
    pub fn behind(&self, proxy: &str) -> String {
        let known = self.proxies.iter().find(|(address, _)| address == proxy);
        let (_, port) = known.unwrap_or_else(|| panic!("no proxy {proxy}"));
        format!("127.0.0.1:{port}")
    }

    /// The librdkafka settings for a client that logs in on a listener.
    pub fn client_settings(&self, listener: Listener, login: Login<'_>) -> Vec<(String, String)> {
        let mut settings = vec![
            ("bootstrap.servers", self.bootstrap_of(listener)),
            ("security.protocol", listener.protocol().to_lowercase()),
        ];
        if listener.has_tls() {
            settings.push(("ssl.ca.location", path_text(&self.certificates.ca)));
        }
        let mut sasl = |mechanism: &str, user: &str, password: &str| {
            settings.push(("sasl.mechanisms", mechanism.to_owned()));
            settings.push(("sasl.username", user.to_owned()));
            settings.push(("sasl.password", password.to_owned()));
        };
        match login {
            Login::Nobody => {}
            Login::Plain(user, password) => sasl("PLAIN", user, password),
            Login::ScramSha256(user, password) => sasl("SCRAM-SHA-256", user, password),
            Login::ScramSha512(user, password) => sasl("SCRAM-SHA-512", user, password),
            Login::OAuthBearer(user) => settings.extend([
                ("sasl.mechanisms", "OAUTHBEARER".to_owned()),
                ("enable.sasl.oauthbearer.unsecure.jwt", "true".to_owned()),
                ("sasl.oauthbearer.config", format!("principal={user}")),
            ]),
            Login::Certificate => settings.extend([
                (
                    "ssl.certificate.location",
                    path_text(self.client_certificate_path()),
                ),
                ("ssl.key.location", path_text(self.client_key_path())),
            ]),
            Login::CertificateStore => settings.extend([
                (
                    "ssl.keystore.location",
                    path_text(&self.certificates.client_store),
                ),
                ("ssl.keystore.password", STORE_PASSWORD.to_owned()),
            ]),
        }
        settings
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    /// The PEM file of the authority that signed the broker's certificate.
    pub fn ca_pem_path(&self) -> &Path {
        &self.certificates.ca
    }

    /// The PEM file of an authority that has signed nothing.
    pub fn other_ca_pem_path(&self) -> &Path {
        &self.certificates.other_ca
    }

    /// The PEM file of the client's certificate, whose principal is `User:alice`.
    pub fn client_certificate_path(&self) -> &Path {
        &self.certificates.client_certificate
    }

    /// The PEM file of the client's key (PKCS#8, without a password).
    pub fn client_key_path(&self) -> &Path {
        &self.certificates.client_key
    }

    /// The process id.
    ///
    /// # Panics
    /// When the broker is stopped.
    pub fn pid(&self) -> u32 {
        self.running().pid()
    }

    /// The folder with configuration, certificates, log and data. It is removed with the broker.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Shuts the broker down as an administrator would, keeping its data.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end("TERM");
        }
    }

    /// Kills the broker (SIGKILL), keeping its data.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.end("KILL");
        }
    }

    /// Stops the broker if it runs, and starts it with the same ports and data.
    ///
    /// # Panics
    /// When the broker does not start, with the end of its log.
    pub fn restart(&mut self) {
        self.stop();
        if let Err(log) = self.launch() {
            panic!("Kafka did not start again:\n{log}");
        }
    }

    /// Starts the broker if it is down, and lets it continue if it is frozen; does not wait until it answers.
    pub(super) fn revive(&mut self) {
        match &self.process {
            Some(process) if !process.has_ended() => process.signal("CONT"),
            _ => self.spawn(),
        }
    }

    /// Freezes the broker (SIGSTOP): connections stay open, but nothing is answered.
    pub fn freeze(&self) {
        self.running().signal("STOP");
    }

    /// Lets a frozen broker continue (SIGCONT).
    pub fn thaw(&self) {
        self.running().signal("CONT");
    }

    /// The topics that have a partition on disk, including internal ones. This contacts no broker.
    pub fn topics_on_disk(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.data()).expect("cannot list the broker's data");
        entries
            .map(|entry| entry.expect("cannot list the broker's data").file_name())
            .filter_map(|name| {
                let (topic, partition) = name.to_str()?.rsplit_once('-')?;
                let is_partition = partition.parse::<u32>().is_ok();
                (is_partition && topic != "__cluster_metadata").then(|| topic.to_owned())
            })
            .collect()
    }

    /// The topics that the broker lists, including internal ones.
    pub fn list_topics(&self) -> BTreeSet<String> {
        admin::list_topics(self.bootstrap())
    }

    /// What the broker logged.
    pub fn whole_log(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last lines of what the broker logged.
    pub fn log(&self) -> String {
        const LINES: usize = 60;
        let text = self.whole_log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Runs one of Kafka's own tools, such as `org.apache.kafka.tools.GetOffsetShell`, and returns its
    /// output. This takes a second or two.
    ///
    /// # Panics
    /// When the tool fails.
    pub fn run_tool(&self, class: &str, arguments: &[&str]) -> String {
        libs::run_tool(self.release, &self.log4j_path(), class, arguments)
    }

    fn running(&self) -> &Watched {
        self.process.as_ref().expect("the broker is stopped")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join(SERVER_LOG)
    }

    fn log4j_path(&self) -> PathBuf {
        self.folder.path().join("log4j.properties")
    }

    fn configuration_path(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    fn write_configuration(&self, member: &Member, options: &KafkaOptions) {
        let controller_port = member.controller_port;
        let listeners: Vec<Listener> = self.ports.iter().map(|(listener, _)| *listener).collect();
        let mut addresses: Vec<String> = listeners
            .iter()
            .map(|listener| format!("{}://{}", listener.name(), self.bootstrap_of(*listener)))
            .collect();
        let mut advertised = addresses.clone();
        for (number, (proxy, port)) in self.proxies.iter().enumerate() {
            addresses.push(format!("PROXY{number}://127.0.0.1:{port}"));
            advertised.push(format!("PROXY{number}://{proxy}"));
        }
        let controller = format!("127.0.0.1:{controller_port}");
        let (quorum, id) = if self.release.has_zookeeper() {
            (("zookeeper.connect", controller), "broker.id")
        } else {
            addresses.push(format!("CONTROLLER://{controller}"));
            let quorum = match &member.voters {
                Some(voters) => ("controller.quorum.voters", voters.clone()),
                None => ("controller.quorum.bootstrap.servers", controller),
            };
            (quorum, "node.id")
        };
        let own = [
            ("listeners", addresses.join(",")),
            ("advertised.listeners", advertised.join(",")),
            quorum,
            ("log.dirs", path_text(&self.data())),
            (id, member.id.to_string()),
        ];
        let mut properties: Vec<(String, String)> = Vec::new();
        properties.extend(own.map(|(key, value)| (key.to_owned(), value)));
        properties.extend(
            (self.release.properties())
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        properties.extend(security_properties(
            &listeners,
            self.proxies.len(),
            &self.certificates,
        ));
        let folder = path_text(self.folder.path());
        let extra = options.properties.iter();
        properties
            .extend(extra.map(|(key, value)| (key.clone(), value.replace("{folder}", &folder))));
        // The last line of a key wins, so a test's properties override the others.
        let text: String = properties
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect();
        fs::write(self.configuration_path(), text).expect("cannot write the configuration");
        let requests = if options.log_requests {
            LOG_REQUESTS
        } else {
            ""
        };
        let log4j = format!("{}{requests}", self.release.logging().1);
        fs::write(self.log4j_path(), log4j).expect("cannot write the configuration");
    }

    fn format(&self, member: &Member) {
        let configuration = path_text(&self.configuration_path());
        let mut arguments = vec![
            "format".to_owned(),
            "--cluster-id".to_owned(),
            member.cluster_id.clone(),
            "--config".to_owned(),
            configuration,
        ];
        if member.voters.is_none() {
            arguments.push("--standalone".to_owned());
        }
        if self.ports.len() > 1 {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                for user in USERS {
                    arguments.push("--add-scram".to_owned());
                    arguments.push(format!("{mechanism}=[name={user},password={PASSWORD}]"));
                }
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.run_tool("kafka.tools.StorageTool", &arguments);
    }

    fn start_zookeeper(&mut self, port: u16) {
        let folder = self.folder.path().join("zookeeper");
        let configuration = self.folder.path().join("zookeeper.properties");
        let text = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=500\nadmin.enableServer=false\n",
            path_text(&folder)
        );
        fs::write(&configuration, text).expect("cannot write the configuration");
        let class = "org.apache.zookeeper.server.ZooKeeperServerMain";
        self.zookeeper = Some(self.java(class, &configuration, "zookeeper.log"));
    }

    /// A Java process with a file as its only argument.
    fn java(&self, class: &str, configuration: &Path, log: &str) -> Watched {
        let mut java = vec!["java".into()];
        java.extend(self.java.iter().map(Into::into));
        java.extend(libs::java_arguments(
            self.release,
            self.jvm,
            &self.log4j_path(),
            class,
        ));
        java.push(configuration.into());
        let folder = self.folder.path();
        Watched::start(folder, &folder.join(log), "KILL", &java)
    }

    /// Starts the process and waits until it answers. The error is the end of its log.
    fn launch(&mut self) -> Result<(), String> {
        self.spawn();
        self.wait_until_ready()
    }

    pub(super) fn spawn(&mut self) {
        let process = self.java("kafka.Kafka", &self.configuration_path(), SERVER_LOG);
        self.process = Some(process);
    }

    pub(super) fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        let reason = loop {
            if self.running().has_ended() {
                break "the process ended".to_owned();
            }
            // An open port is not enough: the broker must be registered and lead its partitions.
            if accepts_connections(self.ports[0].1) && admin::is_ready(&self.bootstrap) {
                return Ok(());
            }
            if Instant::now() > deadline {
                break format!("no answer within {START_LIMIT:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let log = self.log();
        self.kill();
        Err(format!("{reason}\n{log}"))
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        self.kill();
        if let Some(zookeeper) = self.zookeeper.take() {
            zookeeper.end("KILL");
        }
    }
}
