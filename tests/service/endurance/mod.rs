//! Ten jobs over every kind of sink and fifty connections for a long time, while brokers and the database are killed at
//! random.

mod clients;
mod probes;
mod sinks;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use self::clients::Clients;
use self::probes::{DEADLINE, Probes, SLACK, Truth};
use self::sinks::{Job, Kind};
use self::usage::Usage;
use crate::held::{self, AllHeld, Held};
use crate::running::{Files, LIMIT, PARTITIONS, Running, assert_no_secret, produce_to, section};
use crate::support::postgres::PostgresServer;
use crate::support::{KafkaCluster, KafkaOptions, admin, wait_until};

const JOBS: usize = 10;
const TOPICS: usize = 3;
const NODES: usize = 3;
/// The records of the topic that clients count.
const COUNTED: usize = 300;
/// How many records each topic gets in a second.
const RATE: u64 = 10;
/// How long all is well before something dies.
const CALM: Duration = Duration::from_secs(4);

/// What the process may hold more in the last quarter than in the second: connections come and go, and the allocator
/// keeps what was freed.
const MORE_DESCRIPTORS: u64 = 30;
const MORE_THREADS: u64 = 8;
const MORE_KB: u64 = 32 << 10;

/// What dies; each as often as the others, in an order of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    ABrokerDies,
    ABrokerFreezes,
    TwoBrokersDie,
    TheDatabaseDies,
    ABrokerAndTheDatabaseDie,
    TheFileIsReadAgain,
}

const FAULTS: [Fault; 6] = [
    Fault::ABrokerDies,
    Fault::ABrokerFreezes,
    Fault::TwoBrokersDie,
    Fault::TheDatabaseDies,
    Fault::ABrokerAndTheDatabaseDie,
    Fault::TheFileIsReadAgain,
];

/// A number below another.
fn random(below: u64) -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 % below
}

struct World {
    cluster: KafkaCluster,
    database: PostgresServer,
    files: Files,
    jobs: Vec<Job>,
    topics: Vec<String>,
    counted: String,
}

impl World {
    fn start() -> Self {
        let cluster = KafkaCluster::start(NODES, &KafkaOptions::default());
        let database = PostgresServer::start();
        database.sql("GRANT ALL ON SCHEMA public TO alice");
        let files = Files::over(&cluster.bootstrap());
        let topics: Vec<String> = (0..TOPICS)
            .map(|_| admin::unique_topic("endurance"))
            .collect();
        let counted = admin::unique_topic("counted");
        let jobs: Vec<Job> = (0..JOBS).map(|number| Job::new(number, &topics)).collect();
        let world = Self {
            cluster,
            database,
            files,
            jobs,
            topics,
            counted,
        };
        let outs = world.jobs.iter().filter(|job| job.kind == Kind::Kafka);
        let outs: Vec<String> = outs.map(Job::out).collect();
        for topic in world.topics.iter().chain([&world.counted]).chain(&outs) {
            let replicas: [&[i32]; 3] = [&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]];
            admin::create_replicated_topic(&world.cluster.bootstrap(), topic, &replicas, &[]);
        }
        produce_to(&world.cluster.bootstrap(), &world.counted, COUNTED);
        let mut file = "history = 20\n".to_owned();
        for job in &world.jobs {
            let more = format!(
                "trigger = \"every 1s\"\ndeadline = \"{}s\"",
                DEADLINE.as_secs()
            );
            file.push_str(&section(&job.name, &more));
            world
                .files
                .write(&format!("{}.sql", job.name), &job.statements(&world));
        }
        file.push_str(
            "[postgres]\nlisten = \"127.0.0.1:0\"\nconnection = \"main\"\nmax_statements = 20\n\
             login_timeout = \"5s\"\nidle_timeout = \"15s\"\nstalled_timeout = \"4s\"\n\
             [postgres.users.ada]\npassword = \"env:TEST_CLIENT_PASSWORD\"\n",
        );
        world.files.service(&file);
        world
    }

    /// What each sink must hold: every record of its job's topic, once. All brokers must be up.
    fn expected(&self) -> BTreeMap<&str, AllHeld> {
        let of = |topic: &String| {
            let ends = (0..PARTITIONS).map(|partition| {
                let ends = admin::watermarks(&self.cluster.bootstrap(), topic, partition);
                (partition, Held::whole(ends.high))
            });
            ends.filter(|(_, held)| held.rows > 0).collect()
        };
        let topics = self.topics.iter();
        topics.map(|topic| (topic.as_str(), of(topic))).collect()
    }

    /// Lets something die for a time, and come back.
    fn strike(&mut self, fault: Fault, probes: &Probes, service: &Running) -> String {
        let down = |which: &dyn Fn(&&Job) -> bool, others_deliver| Truth::Down {
            since: Instant::now(),
            jobs: (self.jobs.iter().filter(which))
                .map(|job| job.name.clone())
                .collect(),
            others_deliver,
        };
        let writes = |job: &&Job| job.kind == Kind::Postgres;
        let some = usize::try_from(random(3)).expect("small");
        let (first, second) = (some + 1, (some + 1) % NODES + 1);
        // Where nothing can be said of the probes, whether it lasts longer than the deadline is left to chance.
        let mut time = Duration::from_millis(2_000 + random(28_000));
        probes.know(Truth::Unsure);
        match fault {
            Fault::ABrokerDies => self.cluster.node_mut(first).kill(),
            Fault::ABrokerFreezes => self.cluster.node(first).freeze(),
            Fault::TwoBrokersDie => {
                // What the third one leads can be read, and nothing is added to it: those jobs have nothing to do.
                let brokers = self.cluster.bootstrap();
                let is_led = |topic: &str| {
                    let leaders = (0..PARTITIONS).map(|p| admin::leader(&brokers, topic, p));
                    let mut leaders = leaders.map(|leader| usize::try_from(leader?).ok());
                    leaders.all(|leader| leader.is_some_and(|id| id != first && id != second))
                };
                let topics = self.topics.iter();
                let cut: BTreeSet<&String> = topics.filter(|topic| !is_led(topic)).collect();
                self.cluster.node_mut(first).kill();
                self.cluster.node_mut(second).kill();
                time = time.max(DEADLINE + SLACK + CALM);
                probes.know(down(&|job| cut.contains(&job.topic), false));
            }
            Fault::TheDatabaseDies => {
                time = time.max(DEADLINE + SLACK + CALM);
                self.database.stop();
                probes.know(down(&writes, true));
            }
            Fault::ABrokerAndTheDatabaseDie => {
                time = time.max(DEADLINE + SLACK + CALM);
                self.cluster.node_mut(first).kill();
                self.database.stop();
                probes.know(down(&writes, false));
            }
            Fault::TheFileIsReadAgain => {
                let told = || service.said().matches("was read again").count();
                let before = told();
                service.signal("HUP");
                wait_until(LIMIT, "the file is read again", || {
                    (told() > before).then_some(())
                });
                time = CALM;
            }
        }
        std::thread::sleep(time);
        probes.know(Truth::Unsure);
        if matches!(
            fault,
            Fault::TheDatabaseDies | Fault::ABrokerAndTheDatabaseDie
        ) {
            self.database.start_again();
        }
        self.cluster.heal();
        format!("{fault:?} for {time:.0?}")
    }

    /// Every record is in every sink once, and the service says so. Nothing is produced meanwhile.
    fn settle(&self, service: &Running) -> BTreeMap<&str, i64> {
        let expected = self.expected();
        let mut rows = BTreeMap::new();
        for job in &self.jobs {
            let expected = &expected[job.topic.as_str()];
            let end = Instant::now() + LIMIT;
            loop {
                let held = job.held(self);
                if held == *expected {
                    break;
                }
                let is_once = held.values().all(|held| held.rows == held.distinct);
                assert!(
                    is_once && Instant::now() < end,
                    "{} holds {held:?} of {expected:?}",
                    job.name
                );
                std::thread::sleep(Duration::from_millis(500));
            }
            rows.insert(job.name.as_str(), held::rows(expected));
        }
        service.wait_until_ready();
        for job in &self.jobs {
            agrees(service, &job.name, rows[job.name.as_str()]);
        }
        rows
    }
}

/// The metrics, the API and the page say of a job that it has delivered so many rows, and is not behind.
fn agrees(service: &Running, job: &str, rows: i64) {
    let mut said = String::new();
    let what = format!("{job}: the metrics and the page say {rows} rows");
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        let metrics = service.get("/metrics").1;
        let sum = |metric: &str| -> Option<f64> {
            let series = format!("kafka_sql_job_{metric}{{job=\"{job}\",");
            let mut values = metrics
                .lines()
                .filter_map(|line| line.strip_prefix(&series)?.rsplit_once(' '))
                .filter_map(|(_, value)| value.parse::<f64>().ok())
                .peekable();
            values.peek()?;
            Some(values.sum())
        };
        let api = service.job(job);
        let totals = api["totals"]["rows"].as_object();
        let total: i64 = totals
            .into_iter()
            .flat_map(|sinks| sinks.values().filter_map(serde_json::Value::as_i64))
            .sum();
        let page = service.get(&format!("/jobs/{job}")).1;
        let shown = page.split("id=\"sinks\"").nth(1).and_then(|sinks| {
            let (_, cell) = sinks.split_once("<td class=\"number\">")?;
            let digits: String = (cell.split('<').next()?.chars())
                .filter(char::is_ascii_digit)
                .collect();
            digits.parse::<i64>().ok()
        });
        let (sinks, behind) = (sum("sink_rows_total"), sum("lag_records"));
        if sinks == Some(rows as f64) && behind == Some(0.0) && total == rows && shown == Some(rows)
        {
            return;
        }
        said = format!("metrics {sinks:?}, behind {behind:?}, API {total}, page {shown:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("{what}; they say {said}");
}

/// Adds records to all topics, all the time; what is not acknowledged may be in the log or not.
struct Producer {
    producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
    topics: Vec<String>,
    pauses: AtomicBool,
    over: AtomicBool,
}

impl Producer {
    fn start(world: &World) -> Arc<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", world.cluster.bootstrap())
            .set("message.timeout.ms", "120000")
            .create()
            .expect("the settings are valid");
        let this = Arc::new(Self {
            producer,
            topics: world.topics.clone(),
            pauses: AtomicBool::default(),
            over: AtomicBool::default(),
        });
        let producing = Arc::clone(&this);
        std::thread::spawn(move || {
            while !producing.over.load(Ordering::Acquire) {
                if !producing.pauses.load(Ordering::Acquire) {
                    producing.produce();
                }
                std::thread::sleep(Duration::from_millis(1_000 / RATE));
            }
        });
        this
    }

    fn produce(&self) {
        for topic in &self.topics {
            let partition = i32::try_from(random(3)).expect("small");
            let record: BaseRecord<'_, (), str> = BaseRecord::to(topic);
            // A queue that is full is no record.
            let _ = self.producer.send(record.partition(partition).payload("x"));
        }
    }

    /// Waits until the fate of all records is known, and lets `then` run before more come.
    fn quiet<T>(&self, then: impl FnOnce() -> T) -> T {
        self.pauses.store(true, Ordering::Release);
        self.producer.flush(2 * LIMIT).expect("it ends");
        let done = then();
        self.pauses.store(false, Ordering::Release);
        done
    }
}

/// `KAFKA_SQL_TEST_MINUTES=60` makes it an hour.
#[test]
#[ignore = "slow: runs for ten minutes, or KAFKA_SQL_TEST_MINUTES"]
fn ten_jobs_and_fifty_connections_endure_what_dies() {
    let minutes = std::env::var("KAFKA_SQL_TEST_MINUTES");
    let minutes: u64 = minutes.map_or(10, |text| text.parse().expect("minutes"));
    let mut world = World::start();
    let service = Running::start(&world.files);
    let postgres = wait_until(LIMIT, "the PostgreSQL port is open", || {
        let said = service.said();
        let (_, rest) = said.split_once("PostgreSQL on ")?;
        Some(rest.lines().next()?.trim().to_owned())
    });
    let producer = Producer::start(&world);
    let clients = Clients::start(&postgres, &world.counted, COUNTED);
    let probes = Probes::watch(&service.address);
    for job in &world.jobs {
        wait_until(LIMIT, "each job has a first batch", || {
            service.job(&job.name)["last_commit_ms"].as_i64()
        });
    }
    let mut delivered = producer.quiet(|| world.settle(&service).values().sum::<i64>());
    let usage = Usage::watch(service.child.id());
    let begun = Instant::now();
    let mut struck: BTreeMap<Fault, u32> = BTreeMap::new();
    let mut bag = vec![];
    while begun.elapsed() < Duration::from_secs(60 * minutes) {
        if bag.is_empty() {
            bag = FAULTS.to_vec();
        }
        probes.know(Truth::Fine);
        let answers = clients.answers();
        std::thread::sleep(CALM);
        wait_until(LIMIT, "all who ask are answered", || {
            let now = clients.answers().into_iter().zip(&answers);
            now.into_iter()
                .all(|(now, before)| now > *before)
                .then_some(())
        });
        clients.strand();
        let which = usize::try_from(random(bag.len() as u64)).expect("small");
        let fault = bag.swap_remove(which);
        let what = world.strike(fault, &probes, &service);
        let rows = producer.quiet(|| world.settle(&service));
        let (before, now) = (delivered, rows.values().sum::<i64>());
        assert!(now > before, "{now} rows, {before} before {what}");
        delivered = now;
        *struck.entry(fault).or_default() += 1;
        let (at, last) = (begun.elapsed(), usage.quarters());
        println!("{at:.0?}: {what}; {} rows; {:?}", delivered, last.last());
        probes.assert_true();
        clients.assert_true();
    }
    producer.over.store(true, Ordering::Release);
    let rows = producer.quiet(|| world.settle(&service));
    let quarters = usage.quarters();
    println!("{struck:?}\n{rows:?}\n{quarters:#?}");
    println!("{:?}\n{:#?}", clients.counts(), probes.seen());
    probes.assert_true();
    clients.assert_true();
    assert!(
        (clients.counts().iter()).all(|(kind, count)| *count > 0 || *kind == "errors"),
        "each kind of client was there: {:?}",
        clients.counts()
    );
    let judged = [
        Fault::TwoBrokersDie,
        Fault::TheDatabaseDies,
        Fault::ABrokerAndTheDatabaseDie,
    ];
    let named = probes.seen();
    let named = named.get("not ready, and all that cannot deliver are named");
    assert!(named.is_some() || !judged.iter().any(|fault| struck.contains_key(fault)));
    let (warm, end) = (quarters[1], quarters[quarters.len() - 1]);
    let said = format!("{end:?} in the end, {warm:?} when it was warm");
    assert!(
        end.descriptors <= warm.descriptors + MORE_DESCRIPTORS,
        "{said}"
    );
    assert!(end.threads <= warm.threads + MORE_THREADS, "{said}");
    assert!(end.rss_kb <= warm.rss_kb + MORE_KB, "{said}");

    let mut outputs = clients.said();
    let pages = world.jobs.iter().map(|job| format!("/jobs/{}", job.name));
    let api = world
        .jobs
        .iter()
        .map(|job| format!("/api/jobs/{}", job.name));
    let lists = ["/", "/api/jobs", "/metrics", "/readyz"].map(str::to_owned);
    for path in pages.chain(api).chain(lists) {
        outputs.push(service.get(&path).1);
    }
    drop((clients, probes));
    let (ended, said) = service.end();
    assert!(ended.success(), "{said}");
    outputs.push(said);
    assert_no_secret(outputs.iter().map(String::as_str));
    let expected = world.expected();
    for job in &world.jobs {
        assert_eq!(
            job.held(&world),
            expected[job.topic.as_str()],
            "{}",
            job.name
        );
    }
}
