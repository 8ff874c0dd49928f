//! `kafka-sql doctor` as users run it: what it finds on real brokers, and on servers that are none.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::Value;

use crate::support::documented::documented;
use crate::support::{
    self, KafkaCluster, KafkaOptions, KafkaServer, Listener, Login, PASSWORD, Record, admin,
    produce, wait_until,
};

documented!("doctor.md", "What it finds", ["exit code", "failed", "warning"], [
    healthy,
    broker_down,
    one_of_two_bootstrap_servers_down,
    name_does_not_resolve,
    address_that_never_answers,
    web_server,
    server_that_accepts_and_says_nothing,
    tls_asked_of_a_listener_without,
    no_tls_asked_of_a_tls_listener,
    authority_not_trusted,
    authority_file_missing,
    certificate_for_another_host,
    certificate_expired,
    certificate_that_expires_within_a_week,
    client_certificate_missing,
    wrong_password,
    mechanism_not_offered,
    login_where_none_is_asked_for,
    no_login_where_one_is_asked_for,
    topic_that_does_not_exist,
    no_rights_on_the_topic,
    describe_but_not_read,
    no_rights_on_the_group,
    timestamps_of_the_future,
    client_in_a_rack_without_brokers,
    through_librdkafka,
    kerberos_which_only_librdkafka_has,
], slow [
    partition_without_a_leader,
]);

/// A run of `kafka-sql doctor --json`.
#[derive(Debug, Clone)]
struct Run {
    exit: i32,
    document: Value,
}

fn doctor(args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
    command
        .arg("doctor")
        .args(args)
        .env_remove("KAFKA_SQL_BOOTSTRAP_SERVERS")
        .env_remove("KAFKA_SQL_CONFIG")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn run(args: &[String]) -> Run {
    let mut json = args.to_vec();
    json.push("--json".to_owned());
    let output = doctor(&json).output().expect("the shell starts");
    let (out, err) = text(&output);
    assert!(
        !out.contains(PASSWORD) && !err.contains(PASSWORD),
        "{out}{err}"
    );
    let document: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    Run {
        exit: output.status.code().expect("it was not killed"),
        document,
    }
}

impl Run {
    fn checks(&self) -> &[Value] {
        self.document["checks"].as_array().expect("a list")
    }

    fn check(&self, name: &str) -> &Value {
        let found = self.checks().iter().find(|c| c["check"] == name);
        found.unwrap_or_else(|| panic!("no check {name}: {:#}", self.document))
    }

    /// The checks with this outcome, in their order, each once.
    fn with(&self, outcome: &str) -> String {
        let mut names: Vec<&str> = Vec::new();
        for check in self.checks().iter().filter(|c| c["outcome"] == outcome) {
            let name = check["check"].as_str().expect("text");
            if !names.contains(&name) {
                names.push(name);
            }
        }
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    }
}

/// The cell of a column for a case that runs with these arguments. Some finding must contain each of `says`.
fn cell<A: Into<Started>>(
    case: &'static str,
    column: &str,
    says: &[&str],
    start: impl FnOnce() -> A,
) -> String {
    static RUNS: Mutex<BTreeMap<&str, Run>> = Mutex::new(BTreeMap::new());
    let known = RUNS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(case)
        .cloned();
    let run = known.unwrap_or_else(|| {
        let run = tokio::task::block_in_place(|| {
            let started = start().into();
            run(&started.args)
        });
        let all = format!("{:#}", run.document);
        for phrase in says {
            assert!(
                all.contains(phrase),
                "{case} does not say {phrase:?}: {all}"
            );
        }
        // Every failure and every warning says what to do.
        let silent = run.checks().iter().find(|c| {
            (c["outcome"] == "failed" || c["outcome"] == "warning") && c["advice"].is_null()
        });
        assert!(silent.is_none(), "{case} gives no advice: {silent:?}");
        let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(case, run.clone());
        run
    });
    match column {
        "exit code" => run.exit.to_string(),
        "failed" => run.with("failed"),
        "warning" => run.with("warning"),
        other => panic!("no column {other}"),
    }
}

/// Arguments, and what must live while they are used.
struct Started {
    args: Vec<String>,
    _servers: Option<Box<dyn Any>>,
}

impl Started {
    fn with(servers: impl Any, args: Vec<String>) -> Self {
        Self {
            args,
            _servers: Some(Box::new(servers)),
        }
    }
}

impl From<Vec<String>> for Started {
    fn from(args: Vec<String>) -> Self {
        Self {
            args,
            _servers: None,
        }
    }
}

/// The shared broker, with a topic at least.
fn shared() -> &'static KafkaServer {
    static TOPIC: OnceLock<String> = OnceLock::new();
    TOPIC.get_or_init(|| {
        let topic = admin::unique_topic("doctor");
        admin::create_topic(support::shared().bootstrap(), &topic, 1, &[]);
        topic
    });
    support::shared()
}

fn at(bootstrap: &str) -> Vec<String> {
    let limit = ["--step-timeout", "20s"];
    let args = ["-b", bootstrap].into_iter().chain(limit);
    args.map(str::to_owned).collect()
}

/// The arguments for a login at a listener, with other settings in place of its own.
fn logged_in(
    server: &KafkaServer,
    listener: Listener,
    login: Login<'_>,
    over: &[(&str, &str)],
) -> Vec<String> {
    let mut args = at(&server.bootstrap_of(listener));
    let settings = server.client_settings(listener, login);
    let kept = settings.iter().filter(|(key, _)| {
        key != "bootstrap.servers" && over.iter().all(|(other, _)| *other != key.as_str())
    });
    let over = over.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    for (key, value) in kept.cloned().chain(over) {
        args.push("-X".to_owned());
        args.push(format!("{key}={value}"));
    }
    args
}

fn with(mut args: Vec<String>, more: &[&str]) -> Vec<String> {
    args.extend(more.iter().map(|a| (*a).to_owned()));
    args
}

/// A topic of the shared broker with a record in each of two partitions.
fn filled() -> String {
    let topic = admin::unique_topic("doctor");
    let bootstrap = shared().bootstrap();
    admin::create_topic(bootstrap, &topic, 2, &[]);
    produce::produce(
        bootstrap,
        &topic,
        &[0, 1].map(|p| Record::new(p).value("x")),
    );
    topic
}

/// A port on which nothing listens.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

async fn healthy(column: &str) -> String {
    let says = [
        "TLSv1.3",
        "SCRAM-SHA-512 as 'admin'",
        "READ is allowed: 2 records",
        "CN=broker",
    ];
    cell("healthy", column, &says, || {
        let login = Login::ScramSha512("admin", PASSWORD);
        let args = logged_in(shared(), Listener::SaslSsl, login, &[]);
        with(args, &["--topic", &filled(), "--group", "any"])
    })
}

async fn broker_down(column: &str) -> String {
    let says = [
        "onnection refused",
        "is a broker running there",
        "skipped, because there is no connection",
    ];
    cell("broker_down", column, &says, || {
        at(&format!("127.0.0.1:{}", closed_port()))
    })
}

async fn one_of_two_bootstrap_servers_down(column: &str) -> String {
    let says = ["another bootstrap server answers"];
    cell("one_of_two", column, &says, || {
        let up = shared().bootstrap();
        at(&format!("127.0.0.1:{},{up}", closed_port()))
    })
}

async fn name_does_not_resolve(column: &str) -> String {
    let says = ["cannot resolve 'no-such-host.invalid'", "DNS"];
    cell("name", column, &says, || at("no-such-host.invalid:9092"))
}

async fn address_that_never_answers(column: &str) -> String {
    let says = ["no answer within 700 ms", "a firewall drops"];
    cell("address", column, &says, || {
        let hole = BlackHole::new();
        let args = vec!["-b".to_owned(), hole.address.to_string()];
        Started::with(hole, with(args, &["--step-timeout", "700ms"]))
    })
}

/// A port whose queue of connections is full, so that further ones get no answer.
struct BlackHole {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _waiting: Vec<tokio::task::JoinHandle<std::io::Result<tokio::net::TcpStream>>>,
}

impl BlackHole {
    fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind("127.0.0.1:0".parse().expect("an address"))
            .expect("a free port");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("it is bound");
        let waiting = (0..8).map(|_| tokio::spawn(tokio::net::TcpStream::connect(address)));
        let waiting = waiting.collect();
        std::thread::sleep(Duration::from_millis(300));
        Self {
            address,
            _listener: listener,
            _waiting: waiting,
        }
    }
}

/// A server that sends this to whoever connects, once they have said something.
fn server(says: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 512]);
                if says.is_empty() {
                    let _ = stream.read_to_end(&mut Vec::new());
                }
                let _ = stream.write_all(says);
            });
        }
    });
    address.to_string()
}

async fn web_server(column: &str) -> String {
    let says = [
        "does not answer in Kafka's protocol",
        "the port of another listener or service",
    ];
    cell("web", column, &says, || {
        at(&server(
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        ))
    })
}

async fn server_that_accepts_and_says_nothing(column: &str) -> String {
    let says = ["does not answer ApiVersions within 700 ms"];
    cell("silent", column, &says, || {
        let args = vec!["-b".to_owned(), server(b"")];
        with(args, &["--step-timeout", "700ms"])
    })
}

async fn tls_asked_of_a_listener_without(column: &str) -> String {
    let says = ["set 'security.protocol' to 'plaintext' or 'sasl_plaintext'"];
    cell("tls_without", column, &says, || {
        let shared = shared();
        let ca = shared.ca_pem_path().display().to_string();
        let settings = [
            "-X",
            "security.protocol=ssl",
            "-X",
            &format!("ssl.ca.location={ca}"),
        ];
        with(at(shared.bootstrap()), &settings)
    })
}

async fn no_tls_asked_of_a_tls_listener(column: &str) -> String {
    let says = ["'ssl' or 'sasl_ssl'"];
    cell("without_tls", column, &says, || {
        at(&shared().bootstrap_of(Listener::SaslSsl))
    })
}

/// The arguments for the shared broker's listener with TLS and logins.
fn over_tls(over: &[(&str, &str)]) -> Vec<String> {
    let login = Login::ScramSha256("admin", PASSWORD);
    logged_in(shared(), Listener::SaslSsl, login, over)
}

async fn authority_not_trusted(column: &str) -> String {
    let says = [
        "signed by CN=test authority",
        "trusted: CN=another authority",
        "ssl.ca.location",
    ];
    cell("authority", column, &says, || {
        let other = shared().other_ca_pem_path().display().to_string();
        over_tls(&[("ssl.ca.location", &other)])
    })
}

async fn authority_file_missing(column: &str) -> String {
    let says = ["cannot read '/no/such/file'"];
    cell("authority_file", column, &says, || {
        over_tls(&[("ssl.ca.location", "/no/such/file")])
    })
}

async fn certificate_for_another_host(column: &str) -> String {
    let says = [
        "is for localhost, 127.0.0.1, not for 0.0.0.0",
        "connect by a name that it is for",
    ];
    cell("host", column, &says, || {
        let mut args = over_tls(&[]);
        // Linux connects to this machine, under a name that is not in the certificate.
        args[1] = args[1].replace("localhost", "0.0.0.0");
        args
    })
}

async fn certificate_expired(column: &str) -> String {
    let says = [
        "expired on 2001-01-02T00:00:00Z",
        "have it renewed",
        "CN=expired",
    ];
    cell("expired", column, &says, || {
        let dated = dated();
        let mut args = at(&dated.server.bootstrap_of(Listener::Ssl));
        args.extend(["-X".to_owned(), "security.protocol=ssl".to_owned()]);
        with(args, &["-X", &format!("ssl.ca.location={}", dated.ca)])
    })
}

async fn certificate_that_expires_within_a_week(column: &str) -> String {
    let says = ["expires in 6 days", "have it renewed before"];
    cell("week", column, &says, || {
        dated_with(Login::Plain("admin", PASSWORD), &[])
    })
}

/// The arguments for the broker whose certificate expires soon.
fn dated_with(login: Login<'_>, over: &[(&str, &str)]) -> Vec<String> {
    let dated = dated();
    let mut all = vec![("ssl.ca.location", dated.ca.as_str())];
    all.extend(over);
    logged_in(&dated.server, Listener::SaslSsl, login, &all)
}

/// A broker whose certificate for logins expires in a week. That of its other listener has expired. It only
/// offers PLAIN.
struct Dated {
    server: KafkaServer,
    ca: String,
    _folder: tempfile::TempDir,
}

fn dated() -> &'static Dated {
    static DATED: OnceLock<Dated> = OnceLock::new();
    DATED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "dated authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let now = std::time::SystemTime::now();
        let week = now + Duration::from_secs(7 * 24 * 3600 - 600);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let store = |name: &str, until: &dyn Fn(&mut CertificateParams)| {
            let file = path(&format!("{name}.pem"));
            std::fs::write(&file, format!("{}{ca}", leaf(&issuer, name, until))).expect("written");
            file
        };
        let soon = store("soon", &|params| params.not_after = week.into());
        let expired = store("expired", &|params| {
            params.not_after = rcgen::date_time_ymd(2001, 1, 2);
        });
        std::fs::write(path("ca.pem"), &ca).expect("written");
        let options = KafkaOptions::default()
            .listener(Listener::SaslSsl)
            .listener(Listener::Ssl)
            .property("listener.name.sasl_ssl.ssl.keystore.type", "PEM")
            .property("listener.name.sasl_ssl.ssl.keystore.location", &soon)
            .property("listener.name.ssl.ssl.keystore.type", "PEM")
            .property("listener.name.ssl.ssl.keystore.location", &expired)
            .property("listener.name.sasl_ssl.sasl.enabled.mechanisms", "PLAIN");
        let server = KafkaServer::start(options);
        admin::create_topic(server.bootstrap(), "any", 1, &[]);
        let ca = path("ca.pem");
        Dated {
            server,
            ca,
            _folder: folder,
        }
    })
}

/// A key and its certificate (PEM), which is good until then.
fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    until: &dyn Fn(&mut CertificateParams),
) -> String {
    let hosts = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    let mut params = CertificateParams::new(hosts).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    until(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    format!("{}{}", key.serialize_pem(), certificate.pem())
}

async fn client_certificate_missing(column: &str) -> String {
    let says = ["client certificate"];
    cell("client_certificate", column, &says, || {
        logged_in(shared(), Listener::Ssl, Login::Nobody, &[])
    })
}

async fn wrong_password(column: &str) -> String {
    let says = [
        "the login of 'admin' by SCRAM-SHA-256 failed",
        "check 'sasl.username'",
        "the broker offers PLAIN",
    ];
    cell("password", column, &says, || {
        over_tls(&[("sasl.password", "wrong")])
    })
}

async fn mechanism_not_offered(column: &str) -> String {
    let says = [
        "does not accept 'sasl.mechanism' = 'SCRAM-SHA-256' here",
        "it offers PLAIN",
    ];
    cell("mechanism", column, &says, || {
        dated_with(Login::ScramSha256("admin", PASSWORD), &[])
    })
}

async fn login_where_none_is_asked_for(column: &str) -> String {
    let says = [
        "accepts no login at this listener",
        "set 'security.protocol'",
    ];
    cell("login_unasked", column, &says, || {
        let login = Login::Plain("admin", PASSWORD);
        let mut args = logged_in(shared(), Listener::SaslPlaintext, login, &[]);
        args[1] = shared().bootstrap().to_owned();
        args
    })
}

async fn no_login_where_one_is_asked_for(column: &str) -> String {
    let says = ["does its listener expect a login"];
    cell("login_missing", column, &says, || {
        at(&shared().bootstrap_of(Listener::SaslPlaintext))
    })
}

async fn topic_that_does_not_exist(column: &str) -> String {
    let says = ["topic 'no-such-topic' does not exist or may not be described"];
    cell("no_topic", column, &says, || {
        with(at(shared().bootstrap()), &["--topic", "no-such-topic"])
    })
}

/// The arguments for a user who may do only these things with a topic of records.
fn as_user(user: &str, operations: &[&str]) -> Vec<String> {
    let topic = filled();
    for operation in operations {
        admin::allow_topic(shared(), &format!("User:{user}"), operation, &topic);
    }
    // Some topic that everybody sees, so that the cluster does not look empty.
    let login = Login::OAuthBearer(user);
    let args = logged_in(shared(), Listener::SaslPlaintext, login, &[]);
    with(args, &["--topic", &topic])
}

async fn no_rights_on_the_topic(column: &str) -> String {
    let says = ["DESCRIBE on topic doctor-", "--operation Describe --topic"];
    cell("no_rights", column, &says, || as_user("doctor-none", &[]))
}

async fn describe_but_not_read(column: &str) -> String {
    let says = [
        "READ on topic doctor-",
        "--operation Read --topic",
        "no record can be read",
    ];
    cell("describe", column, &says, || {
        as_user("doctor-describe", &["Describe", "DescribeConfigs"])
    })
}

async fn no_rights_on_the_group(column: &str) -> String {
    let says = [
        "DESCRIBE on group secret-group",
        "--operation Describe --group",
    ];
    cell("group", column, &says, || {
        let args = as_user("doctor-group", &["Read"]);
        with(args, &["--group", "secret-group"])
    })
}

async fn timestamps_of_the_future(column: &str) -> String {
    let says = ["by a producer's clock, which is 35", "set the clocks (NTP)"];
    cell("future", column, &says, || {
        let topic = admin::unique_topic("doctor");
        let bootstrap = shared().bootstrap();
        admin::create_topic(bootstrap, &topic, 1, &[]);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ms = now.expect("a clock after 1970").as_millis();
        let ahead_ms = i64::try_from(now_ms).expect("a time") + 3_599_000;
        let record = Record::new(0).value("x").timestamp_ms(ahead_ms);
        produce::produce(bootstrap, &topic, &[record]);
        with(at(bootstrap), &["--topic", &topic])
    })
}

async fn client_in_a_rack_without_brokers(column: &str) -> String {
    let says = ["'client.rack' = 'moon' makes no difference"];
    cell("rack", column, &says, || {
        with(at(shared().bootstrap()), &["-X", "client.rack=moon"])
    })
}

async fn through_librdkafka(column: &str) -> String {
    let says = ["'librdkafka' reads", "READ is allowed: 2 records"];
    cell("librdkafka", column, &says, || {
        let over = [("kafka.client", "librdkafka")];
        with(over_tls(&over), &["--topic", &filled()])
    })
}

/// No build of the tests has Kerberos.
async fn kerberos_which_only_librdkafka_has(column: &str) -> String {
    let says = ["GSSAPI"];
    cell("kerberos", column, &says, || {
        over_tls(&[("sasl.mechanisms", "GSSAPI")])
    })
}

async fn partition_without_a_leader(column: &str) -> String {
    let says = [
        "2 of 3 partitions have no leader",
        "start a broker that holds them",
        "doctor-offline[0] has replicas 2, of which in sync: 2",
        "doctor-offline[2] lacks 2",
    ];
    cell("offline", column, &says, || {
        let mut cluster = KafkaCluster::start(3, &KafkaOptions::default());
        let bootstrap = cluster.node(1).bootstrap().to_owned();
        let replicas: [&[i32]; 3] = [&[2], &[2], &[1, 2]];
        admin::create_replicated_topic(&bootstrap, "doctor-offline", &replicas, &[]);
        cluster.node_mut(2).kill();
        wait_until(
            Duration::from_secs(60),
            "the partition has no leader",
            || {
                let led = |partition| admin::leader(&bootstrap, "doctor-offline", partition);
                (led(0).is_none() && led(1).is_none() && led(2) == Some(1)).then_some(())
            },
        );
        let args = with(at(&bootstrap), &["--topic", "doctor-offline"]);
        Started::with(cluster, args)
    })
}

/// Secrets are hidden; each other setting has its value and where it comes from.
#[test]
fn settings_have_their_sources() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("client.properties");
    let lines = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=file\nsasl.password={PASSWORD}\n"
    );
    std::fs::write(&file, lines).expect("written");
    let port = closed_port();
    let output = doctor(&[
        "-X".to_owned(),
        "sasl.username=me".to_owned(),
        "--json".to_owned(),
    ])
    .env("KAFKA_SQL_BOOTSTRAP_SERVERS", format!("127.0.0.1:{port}"))
    .env("KAFKA_SQL_CONFIG", &file)
    .output()
    .expect("the shell starts");
    let (out, err) = text(&output);
    assert!(!out.contains(PASSWORD), "{out}");
    let document: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    assert_eq!(document["version"], 1);
    assert_eq!(document["outcome"], "failed");
    let settings = document["checks"][0]["facts"]["settings"]
        .as_array()
        .expect("a list");
    let find = |key: &str| {
        let found = settings.iter().find(|s| s["key"] == key);
        let found = found.unwrap_or_else(|| panic!("no {key}: {out}"));
        (
            found["value"].as_str().expect("text"),
            found["source"].as_str().expect("text"),
        )
    };
    let of_file = format!("file {} of KAFKA_SQL_CONFIG", file.display());
    assert_eq!(find("sasl.username"), ("me", "option -X"));
    assert_eq!(find("sasl.mechanism"), ("PLAIN", of_file.as_str()));
    assert_eq!(find("sasl.password"), ("[redacted]", of_file.as_str()));
    let from = "environment KAFKA_SQL_BOOTSTRAP_SERVERS";
    assert_eq!(find("bootstrap.servers").1, from);
    assert_eq!(find("isolation.level"), ("read_committed", "default"));
}

#[test]
fn text_has_a_line_a_check_and_what_to_do_below_it() {
    let args = at(&format!("127.0.0.1:{}", closed_port()));
    let output = doctor(&args).output().expect("the shell starts");
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("\n✓ name 127.0.0.1: 127.0.0.1 in "), "{out}");
    assert!(out.contains("\n✗ connect 127.0.0.1:"), "{out}");
    assert!(out.contains("\n    → is a broker running there"), "{out}");
    assert!(out.contains("\n– login 127.0.0.1:"), "{out}");
    assert!(out.ends_with(" skipped\n"), "{out}");
    assert_eq!(err, "kafka-sql: a check failed\n");
    let none = doctor(&[]).output().expect("the shell starts");
    assert_eq!(none.status.code(), Some(2), "{}", text(&none).1);
    let formatted = doctor(&with(args, &["--format", "csv"]))
        .output()
        .expect("it starts");
    assert_eq!(formatted.status.code(), Some(2), "{}", text(&formatted).1);
}

#[test]
fn an_interrupt_ends_it_at_once() {
    let args = vec!["-b".to_owned(), server(b"")];
    let child = doctor(&with(args, &["--step-timeout", "10m"]))
        .spawn()
        .expect("it starts");
    std::thread::sleep(Duration::from_millis(1500));
    crate::job::signal(child.id(), "INT");
    let begun = Instant::now();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{:?}", text(&output));
    assert!(begun.elapsed() < Duration::from_secs(60));
}
