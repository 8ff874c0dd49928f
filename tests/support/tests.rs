//! Tests of the harness itself: everything that other tests rely on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::support::admin::{
    allow_topic, compact, create_compacted_topic, create_topic, delete_records, delete_topic,
    grow_topic, list_groups, list_topics, unique_topic, watermarks,
};
use crate::support::produce::{Fill, fill, fill_value, produce, produce_with};
use crate::support::read::{Isolation, ReadRecord, read};
use crate::support::{
    KafkaOptions, KafkaServer, Listener, Login, PASSWORD, Record, Transaction, shared, wait_until,
};

const LIMIT: Duration = Duration::from_secs(30);

fn values(records: &[ReadRecord]) -> Vec<&[u8]> {
    let values = records.iter().map(|record| record.value.as_deref());
    values.map(|value| value.expect("a value")).collect()
}

#[test]
fn records_come_back_as_they_were_produced() {
    let broker = shared().bootstrap();
    let topic = unique_topic("support-records");
    create_topic(broker, &topic, 2, &[]);
    let records = [
        Record::new(0).key("k").value("v").timestamp_ms(1_000),
        Record::new(0)
            .key("")
            .header("a", Some(b"1"))
            .header("a", None)
            .header("b", Some(b"")),
        Record::new(1).value(""),
    ];
    assert_eq!(produce(broker, &topic, &records), [0, 1, 0]);

    let first = read(broker, &topic, 0, Isolation::ReadCommitted);
    assert_eq!(first.len(), 2);
    assert_eq!(first[0].timestamp_ms, Some(1_000));
    assert_eq!(first[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(first[0].value.as_deref(), Some(&b"v"[..]));
    assert_eq!(first[0].headers, []);
    assert_eq!(first[1].key.as_deref(), Some(&b""[..]));
    assert_eq!(first[1].value, None);
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    assert_eq!(
        first[1].headers,
        [
            header("a", Some(b"1")),
            header("a", None),
            header("b", Some(b""))
        ]
    );
    let second = read(broker, &topic, 1, Isolation::ReadCommitted);
    assert_eq!(values(&second), [b""]);
}

#[test]
fn every_codec_is_accepted() {
    let broker = shared().bootstrap();
    let topic = unique_topic("support-codecs");
    create_topic(broker, &topic, 1, &[]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let record = Record::new(0).value(codec.repeat(100));
        produce_with(broker, &topic, &[record], &[("compression.type", codec)]);
    }
    let records = read(broker, &topic, 0, Isolation::ReadCommitted);
    assert_eq!(records.len(), 5);
    assert_eq!(values(&records)[3], "lz4".repeat(100).as_bytes());
}

#[test]
fn a_fill_is_dealt_out_in_order() {
    let broker = shared().bootstrap();
    let topic = unique_topic("support-fill");
    create_topic(broker, &topic, 3, &[]);
    let plan = Fill {
        records: 30_001,
        partitions: 3,
        value_bytes: 100,
        settings: &[],
    };
    fill(broker, &topic, plan);
    assert_eq!(watermarks(broker, &topic, 0).high, 10_001);
    assert_eq!(watermarks(broker, &topic, 2).high, 10_000);
    let records = read(broker, &topic, 2, Isolation::ReadCommitted);
    assert_eq!(values(&records)[1], fill_value(5, 100));
    assert_eq!(values(&records)[9_999], fill_value(29_999, 100));
}

#[test]
fn an_open_transaction_holds_the_last_stable_offset() {
    let broker = shared().bootstrap();
    let topic = unique_topic("support-transactions");
    create_topic(broker, &topic, 1, &[]);
    let one = [Record::new(0).value("x")];

    let transaction = Transaction::begin(broker, &topic);
    assert_eq!(transaction.produce(&topic, &one), [0]);
    let open = watermarks(broker, &topic, 0);
    assert_eq!((open.start, open.last_stable, open.high), (0, 0, 1));
    transaction.commit();
    // The control record takes an offset too.
    wait_until(LIMIT, "the commit marker is written", || {
        (watermarks(broker, &topic, 0).last_stable == 2).then_some(())
    });

    let transaction = Transaction::begin(broker, &topic);
    assert_eq!(transaction.produce(&topic, &one), [2]);
    transaction.abort();
    wait_until(LIMIT, "the abort marker is written", || {
        (watermarks(broker, &topic, 0).last_stable == 4).then_some(())
    });
    let committed = read(broker, &topic, 0, Isolation::ReadCommitted);
    let all = read(broker, &topic, 0, Isolation::ReadUncommitted);
    let offsets = |records: &[ReadRecord]| records.iter().map(|r| r.offset).collect::<Vec<_>>();
    assert_eq!(offsets(&committed), [0]);
    assert_eq!(offsets(&all), [0, 2]);

    // A producer that disappears leaves its transaction open.
    let transaction = Transaction::begin(broker, &topic);
    transaction.produce(&topic, &one);
    drop(transaction);
    let left_open = watermarks(broker, &topic, 0);
    assert_eq!((left_open.last_stable, left_open.high), (4, 5));
}

#[test]
fn deleted_records_move_the_log_start() {
    let broker = shared().bootstrap();
    let topic = unique_topic("support-delete-records");
    create_topic(broker, &topic, 1, &[]);
    let records: Vec<Record> = (0..10)
        .map(|n| Record::new(0).value(n.to_string()))
        .collect();
    produce(broker, &topic, &records);
    delete_records(broker, &topic, 0, 7);
    assert_eq!(watermarks(broker, &topic, 0).start, 7);
    let left = read(broker, &topic, 0, Isolation::ReadCommitted);
    assert_eq!(values(&left), [b"7", b"8", b"9"]);
}

#[test]
fn compaction_leaves_holes() {
    let broker = shared().bootstrap();
    let topic = unique_topic("support-compaction");
    create_compacted_topic(broker, &topic, 1);
    let records: Vec<Record> = (0..9)
        .map(|n| {
            Record::new(0)
                .key(format!("k{}", n % 3))
                .value(n.to_string())
        })
        .collect();
    produce(broker, &topic, &records);
    let left = compact(broker, &topic, 0);
    let offsets: Vec<i64> = left.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [6, 7, 8, 9]);
    // The log start stays: the offsets below are holes and not expired.
    assert_eq!(watermarks(broker, &topic, 0).start, 0);
}

#[test]
fn topics_can_grow_and_go() {
    let server = shared();
    let broker = server.bootstrap();
    let topic = unique_topic("support-topics");
    create_topic(broker, &topic, 1, &[]);
    grow_topic(broker, &topic, 3);
    produce(broker, &topic, &[Record::new(2)]);
    assert!(server.topics_on_disk().contains(&topic));
    assert!(server.list_topics().contains(&topic));
    delete_topic(broker, &topic);
    assert!(!list_topics(broker).contains(&topic));
    wait_until(LIMIT, "the partitions are off the disk", || {
        (!server.topics_on_disk().contains(&topic)).then_some(())
    });
}

/// Requests the metadata of a topic, as a client with these settings.
fn partitions_seen(
    settings: Vec<(String, String)>,
    topic: &str,
) -> Result<usize, RDKafkaErrorCode> {
    let mut config = ClientConfig::new();
    config.extend(settings);
    config.set_log_level(RDKafkaLogLevel::Emerg);
    let consumer: BaseConsumer = config.create().expect("the settings are valid");
    // OAUTHBEARER gets its token while events are handled.
    let _ = consumer.poll(Duration::from_millis(100));
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(10))
        .map_err(|error| error.rdkafka_error_code().expect("a code"))?;
    let found = &metadata.topics()[0];
    match found.error() {
        Some(code) => Err(code.into()),
        None => Ok(found.partitions().len()),
    }
}

#[test]
fn every_login_is_let_in() {
    let server = shared();
    let topic = unique_topic("support-logins");
    create_topic(server.bootstrap(), &topic, 2, &[]);
    for listener in [Listener::SaslPlaintext, Listener::SaslSsl] {
        for login in [
            Login::Plain("admin", PASSWORD),
            Login::ScramSha256("admin", PASSWORD),
            Login::ScramSha512("admin", PASSWORD),
            Login::OAuthBearer("admin"),
        ] {
            let seen = partitions_seen(server.client_settings(listener, login), &topic);
            assert_eq!(seen, Ok(2), "{listener:?} {login:?}");
        }
    }
}

/// Errors that librdkafka reports apart from the answers to requests.
#[derive(Default)]
struct Reported(Mutex<Vec<RDKafkaErrorCode>>);

impl ClientContext for Reported {
    fn error(&self, error: KafkaError, _reason: &str) {
        let mut all = self.0.lock().expect("nobody panics with the lock");
        all.extend(error.rdkafka_error_code());
    }
}

impl ConsumerContext for Reported {}

/// The error that keeps a client with these settings from connecting.
fn refusal(settings: Vec<(String, String)>) -> RDKafkaErrorCode {
    let mut config = ClientConfig::new();
    config.extend(settings);
    config.set_log_level(RDKafkaLogLevel::Emerg);
    let consumer: BaseConsumer<Reported> = config
        .create_with_context(Reported::default())
        .expect("the settings are valid");
    wait_until(LIMIT, "the broker refuses", || {
        // Errors are reported while events are handled. The summary error adds nothing.
        let _ = consumer.poll(Duration::from_millis(50));
        let mut reported = consumer.context().0.lock().expect("nobody panics with it");
        let mut reported = reported.drain(..);
        reported.find(|code| *code != RDKafkaErrorCode::AllBrokersDown)
    })
}

#[test]
fn a_wrong_password_is_refused() {
    let server = shared();
    for login in [
        Login::Plain("admin", "wrong"),
        Login::ScramSha256("admin", "wrong"),
        Login::ScramSha512("nobody", PASSWORD),
    ] {
        let settings = server.client_settings(Listener::SaslSsl, login);
        let refusal = refusal(settings);
        assert_eq!(refusal, RDKafkaErrorCode::Authentication, "{login:?}");
    }
}

#[test]
fn a_principal_may_do_what_it_was_granted() {
    let server = shared();
    let (granted, other) = (unique_topic("support-acl"), unique_topic("support-acl"));
    for topic in [&granted, &other] {
        create_topic(server.bootstrap(), topic, 1, &[]);
    }
    allow_topic(server, "User:alice", "Describe", &granted);
    // The certificate and the password name the same principal.
    for (listener, login) in [
        (Listener::Ssl, Login::Certificate),
        (Listener::SaslSsl, Login::ScramSha256("alice", PASSWORD)),
    ] {
        let settings = server.client_settings(listener, login);
        let seen = wait_until(LIMIT, "the grant is known", || {
            partitions_seen(settings.clone(), &granted).ok()
        });
        assert_eq!(seen, 1, "{listener:?}");
        assert_eq!(
            partitions_seen(settings, &other),
            Err(RDKafkaErrorCode::TopicAuthorizationFailed),
            "{listener:?}"
        );
    }
}

#[test]
fn tls_needs_the_right_certificates() {
    let server = shared();
    let mut stranger =
        server.client_settings(Listener::SaslSsl, Login::ScramSha256("admin", PASSWORD));
    for (key, value) in &mut stranger {
        if key == "ssl.ca.location" {
            *value = server.other_ca_pem_path().display().to_string();
        }
    }
    // On a busy machine, a connection may break for another reason, which proves nothing.
    wait_until(LIMIT, "the broker's certificate is refused", || {
        (refusal(stranger.clone()) == RDKafkaErrorCode::SSL).then_some(())
    });

    // The broker disconnects a client without a certificate.
    let without = server.client_settings(Listener::Ssl, Login::Nobody);
    let refusal = refusal(without);
    let hung_up = [
        RDKafkaErrorCode::SSL,
        RDKafkaErrorCode::BrokerTransportFailure,
    ];
    assert!(hung_up.contains(&refusal), "{refusal:?}");
}

#[test]
fn data_survives_stop_and_kill() {
    let mut server = KafkaServer::start(KafkaOptions::default().property("num.partitions", "2"));
    let broker = server.bootstrap().to_owned();
    // Topics are created automatically, with the configured property.
    produce(&broker, "auto", &[Record::new(1).value("a")]);
    let first_pid = server.pid();

    server.stop();
    assert!(!is_alive(first_pid));
    server.restart();
    assert_eq!(server.bootstrap(), broker);
    assert_ne!(server.pid(), first_pid);
    produce(&broker, "auto", &[Record::new(1).value("b")]);

    server.kill();
    server.restart();
    assert_eq!(produce(&broker, "auto", &[Record::new(1).value("c")]), [2]);
    // Nothing has looked for a group so far, but reading does.
    let topics: Vec<String> = server.topics_on_disk().into_iter().collect();
    assert_eq!(topics, ["auto"]);
    assert_eq!(
        values(&read(&broker, "auto", 1, Isolation::ReadCommitted)),
        [b"a", b"b", b"c"]
    );
    assert!(list_groups(&broker).is_empty());

    server.freeze();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &broker)
        .set_log_level(RDKafkaLogLevel::Emerg)
        .create()
        .expect("the settings are valid");
    let frozen = consumer.fetch_metadata(Some("auto"), Duration::from_secs(1));
    assert!(frozen.is_err(), "a frozen broker answered");
    server.thaw();
    let thawed = consumer.fetch_metadata(Some("auto"), LIMIT);
    assert!(thawed.is_ok(), "{:?}", thawed.err());

    let folder = server.folder().to_owned();
    let pid = server.pid();
    drop(server);
    assert!(!is_alive(pid));
    assert!(!folder.exists());
}

/// Set for the process that [`a_broker_ends_with_its_test_process`] kills.
const VICTIM: &str = "DATAFUSION_KAFKA_TEST_VICTIM";

#[test]
fn a_broker_ends_with_its_test_process() {
    if std::env::var_os(VICTIM).is_some() {
        // This is the process to be killed. It prints what must go with it, and waits.
        let server = KafkaServer::start(KafkaOptions::default());
        println!("\nvictim {} {}", server.pid(), server.folder().display());
        std::thread::sleep(Duration::from_secs(600));
        panic!("nobody has killed this process");
    }
    let mut victim = Command::new(std::env::current_exe().expect("this test is a file"))
        .args(["--exact", "--nocapture"])
        .arg("support_tests::a_broker_ends_with_its_test_process")
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test can be run");
    let output = BufReader::new(victim.stdout.take().expect("the output is piped"));
    let line = output
        .lines()
        .map(|line| line.expect("the output is text"))
        .find(|line| line.starts_with("victim "))
        .expect("the victim started no broker");
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    let pid: u32 = words[1].parse().expect("a pid");
    let folder = Path::new(words[2]);
    assert!(is_alive(pid) && folder.is_dir());

    // SIGKILL: the process cannot clean up.
    victim.kill().expect("the victim can be killed");
    victim.wait().expect("the victim can be waited for");
    wait_until(LIMIT, "the broker and its folder are gone", || {
        (!is_alive(pid) && !folder.exists()).then_some(())
    });
}

fn is_alive(pid: u32) -> bool {
    let check = Command::new("sh")
        .args(["-c", "kill -0 \"$1\" 2>/dev/null", "alive"])
        .arg(pid.to_string())
        .status();
    check.expect("cannot start sh").success()
}
