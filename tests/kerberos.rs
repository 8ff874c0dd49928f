//! Logins by Kerberos, at a KDC and a broker of this test: `make test-logins`.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use futures::TryStreamExt;
use kafka_arrow::Error;
use kafka_arrow::client::{ClientPool, OffsetAt, OffsetQuery, ReadRequest, TopicSelection};
use kafka_arrow::config::ConnectionConfig;
use kafka_arrow::range::{IsolationLevel, OffsetRange, TopicPartition};
use support::documented::documented;
use support::kerberos::Kdc;
use support::{KafkaOptions, KafkaServer, Listener, Record, admin, produce};

documented!(
    "security.md",
    "Kerberos",
    ["wire", "librdkafka"],
    [
        a_keytab,
        a_keytab_in_a_java_file,
        a_ticket_of_kinit,
        logins_that_end_in_mid_read,
        no_right_to_read,
        no_ticket,
        an_expired_ticket,
        an_unknown_principal,
        a_key_that_has_changed,
        another_service,
        no_kdc,
    ],
    slow []
);

const RECORDS: usize = 5;
/// What the process of [`reads_in_a_process_of_its_own`] is told: the file with the settings, the topic, and for how many
/// seconds it reads again and again.
const TOLD: &str = "KAFKA_SQL_TEST_KERBEROS";

struct Bed {
    kdc: Kdc,
    server: KafkaServer,
    topic: String,
    alice: std::path::PathBuf,
}

impl Bed {
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Bed> = OnceLock::new();
        tokio::task::block_in_place(|| SHARED.get_or_init(Self::start))
    }

    fn start() -> Self {
        let kdc = Kdc::start();
        let service = "kafka/127.0.0.1";
        let login = format!(
            "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true \
             keyTab=\"{}\" principal=\"{}\";",
            kdc.keytab(service).display(),
            kdc.principal(service)
        );
        let listener = "listener.name.sasl_plaintext";
        let options = KafkaOptions::default()
            .listener(Listener::SaslPlaintext)
            .property(&format!("{listener}.sasl.enabled.mechanisms"), "GSSAPI")
            .property(&format!("{listener}.gssapi.sasl.jaas.config"), &login)
            .property("sasl.kerberos.service.name", "kafka")
            // Logins end soon.
            .property("connections.max.reauth.ms", "2000")
            .java(&format!(
                "-Djava.security.krb5.conf={}",
                kdc.configuration().display()
            ));
        let server = KafkaServer::start(options);
        let topic = admin::unique_topic("secured");
        admin::create_topic(server.bootstrap(), &topic, 1, &[]);
        let records = (0..RECORDS).map(|n| Record::new(0).value(format!("v{n}")));
        produce::produce(server.bootstrap(), &topic, &records.collect::<Vec<_>>());
        admin::allow_topic(&server, "User:alice", "READ", &topic);
        let alice = kdc.keytab("alice");
        Self {
            kdc,
            server,
            topic,
            alice,
        }
    }

    fn tried(&self, client: &str) -> Tried<'_> {
        Tried {
            bed: self,
            client: client.to_owned(),
            settings: vec![],
            krb5_conf: self.kdc.configuration(),
            cache: None,
            seconds: 0,
        }
    }
}

/// A process that reads.
struct Tried<'a> {
    bed: &'a Bed,
    client: String,
    settings: Vec<(&'static str, String)>,
    krb5_conf: std::path::PathBuf,
    cache: Option<std::path::PathBuf>,
    seconds: u64,
}

impl Tried<'_> {
    fn set(mut self, key: &'static str, value: impl ToString) -> Self {
        self.settings.push((key, value.to_string()));
        self
    }

    /// With the key of a principal, in librdkafka's names.
    fn keytab(self, path: &Path, principal: &str) -> Self {
        let principal = self.bed.kdc.principal(principal);
        self.set("sasl.kerberos.keytab", path.display())
            .set("sasl.kerberos.principal", principal)
    }

    /// With the tickets of a cache. librdkafka runs no `kinit`.
    fn cache(mut self, cache: std::path::PathBuf) -> Self {
        self.cache = Some(cache);
        self.set("sasl.kerberos.min.time.before.relogin", 0)
    }

    /// `reads`, or what the error says in few words.
    fn outcome(self) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("client.properties");
        let bootstrap = self.bed.server.bootstrap_of(Listener::SaslPlaintext);
        let mut text = format!(
            "bootstrap.servers={bootstrap}\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=GSSAPI\n\
             kafka.client={}\nrequest.timeout.ms=5000\n",
            self.client
        );
        for (key, value) in &self.settings {
            text += &format!("{key}={value}\n");
        }
        std::fs::write(&file, text).expect("a file");
        let cache = self.cache.unwrap_or_else(|| folder.path().join("cache"));
        let told = format!("{} {} {}", file.display(), self.bed.topic, self.seconds);
        let output = tokio::task::block_in_place(|| {
            Command::new(std::env::current_exe().expect("this is one"))
                .args([
                    "--exact",
                    "reads_in_a_process_of_its_own",
                    "--nocapture",
                    "--ignored",
                ])
                .env(TOLD, &told)
                .env("KRB5_CONFIG", &self.krb5_conf)
                .env("KRB5CCNAME", format!("FILE:{}", cache.display()))
                .output()
                .expect("it starts")
        });
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let found = said
            .lines()
            .find_map(|line| line.split_once("kerberos: "))
            .map(|(_, found)| found);
        let found = found.unwrap_or_else(|| panic!("it said: {said}"));
        eprintln!("{found}");
        let words = [
            (
                "'wire' does not support 'sasl.mechanism' = 'GSSAPI'; leave it out, or write 'librdkafka'",
                "the other client",
            ),
            (
                &format!("READ on topic {}", self.bed.topic)[..],
                "READ on topic TOPIC",
            ),
            ("No Kerberos credentials available", "no ticket"),
            ("(Ticket expired)", "expired"),
            ("not found in Kerberos database", "unknown service"),
        ];
        let named = words.iter().find(|(word, _)| found.contains(word));
        named.map_or(found, |(_, outcome)| outcome).to_owned()
    }
}

/// Reads with the settings of a file, and prints what came of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the rows of Kerberos"]
async fn reads_in_a_process_of_its_own() {
    let Ok(told) = std::env::var(TOLD) else {
        return;
    };
    let told: Vec<&str> = told.split(' ').collect();
    let [file, topic, seconds] = told[..] else {
        panic!("{told:?}");
    };
    let end = std::time::Instant::now() + Duration::from_secs(seconds.parse().expect("a number"));
    let config = ConnectionConfig::from_file(file).expect("known settings");
    loop {
        match read(&config, topic).await {
            Ok(RECORDS) if std::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(RECORDS) => return println!("kerberos: reads"),
            Ok(records) => return println!("kerberos: {records} records"),
            Err(error) => return println!("kerberos: {}", error.to_string().replace('\n', " ")),
        }
    }
}

async fn read(config: &ConnectionConfig, topic: &str) -> Result<usize, Error> {
    let client = ClientPool::global().client(config)?;
    let isolation = IsolationLevel::ReadCommitted;
    client
        .describe(TopicSelection::Named(&[topic.into()]))
        .await?;
    let ends = [OffsetAt::Earliest, OffsetAt::Latest].map(|at| OffsetQuery {
        partition: TopicPartition::new(topic, 0),
        at,
    });
    let found = client.list_offsets(&ends, isolation).await?;
    let [Some(start), Some(end)] = [found[0].offset, found[1].offset] else {
        panic!("{found:?}");
    };
    let range = OffsetRange::try_new(topic, 0, start, end)?;
    let mut batches = client.read(ReadRequest::new(vec![range]));
    let mut records = 0;
    while let Some(batch) = batches.try_next().await? {
        records += batch.offsets.len();
    }
    Ok(records)
}

async fn a_keytab(client: &str) -> String {
    let bed = Bed::shared();
    bed.tried(client).keytab(&bed.alice, "alice").outcome()
}

async fn a_keytab_in_a_java_file(client: &str) -> String {
    let bed = Bed::shared();
    let login = format!(
        "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true keyTab=\"{}\" \
         principal=\"{}\";",
        bed.alice.display(),
        bed.kdc.principal("alice")
    );
    bed.tried(client)
        .set("sasl.kerberos.service.name", "kafka")
        .set("sasl.jaas.config", login)
        .outcome()
}

async fn a_ticket_of_kinit(client: &str) -> String {
    let bed = Bed::shared();
    let cache = bed.kdc.ticket(&bed.alice, "alice", "10m");
    bed.tried(client).cache(cache).outcome()
}

async fn logins_that_end_in_mid_read(client: &str) -> String {
    let bed = Bed::shared();
    let mut tried = bed.tried(client).keytab(&bed.alice, "alice");
    tried.seconds = 8;
    tried.outcome()
}

async fn no_right_to_read(client: &str) -> String {
    let bed = Bed::shared();
    let bob = bed.kdc.keytab("bob");
    admin::allow_topic(&bed.server, "User:bob", "DESCRIBE", &bed.topic);
    bed.tried(client).keytab(&bob, "bob").outcome()
}

async fn no_ticket(client: &str) -> String {
    let bed = Bed::shared();
    bed.tried(client)
        .set("sasl.kerberos.min.time.before.relogin", 0)
        .outcome()
}

async fn an_expired_ticket(client: &str) -> String {
    let bed = Bed::shared();
    let cache = bed.kdc.ticket(&bed.alice, "alice", "1s");
    tokio::time::sleep(Duration::from_secs(2)).await;
    bed.tried(client).cache(cache).outcome()
}

async fn an_unknown_principal(client: &str) -> String {
    let bed = Bed::shared();
    let mallory = bed.kdc.keytab("mallory");
    bed.kdc.administer("delprinc -force mallory");
    bed.tried(client).keytab(&mallory, "mallory").outcome()
}

async fn a_key_that_has_changed(client: &str) -> String {
    let bed = Bed::shared();
    let carol = bed.kdc.keytab("carol");
    bed.kdc.administer("cpw -randkey carol");
    bed.tried(client).keytab(&carol, "carol").outcome()
}

async fn another_service(client: &str) -> String {
    let bed = Bed::shared();
    bed.tried(client)
        .keytab(&bed.alice, "alice")
        .set("sasl.kerberos.service.name", "other")
        .outcome()
}

async fn no_kdc(client: &str) -> String {
    let bed = Bed::shared();
    let mut tried = bed.tried(client).keytab(&bed.alice, "alice");
    tried.krb5_conf = bed.kdc.lost_configuration();
    tried.outcome()
}
