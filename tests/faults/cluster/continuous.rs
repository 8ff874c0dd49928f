//! Jobs that run until they are stopped, as processes, while brokers are lost.

use std::process::Child;
use std::time::{Duration, Instant};

use super::tried::{CLIENTS, Outcomes, Tried, column, tried};
use crate::crash::{self, INSERT};
use crate::deliveries::outcome;
use crate::job::{self, Job};
use crate::support::documented::documented;
use crate::support::{KafkaCluster, Record, admin, cluster, produce};

documented!(
    "faults.md",
    "Jobs that never end",
    ["wire", "librdkafka"],
    [],
    slow [
        leader_killed,
        all_brokers_lost_for_20_s,
        all_brokers_lost_for_20_s_and_retried_for_3_s,
    ]
);

/// How long a job may take for what is there.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often a sink is looked at, which must not keep it from being written.
const LOOK: Duration = Duration::from_millis(300);

/// A job with its process.
struct Running {
    client: &'static str,
    job: Job,
    child: Child,
}

impl Running {
    fn start(client: &'static str, bootstrap: &str, topic: &str, retry_for: &str) -> Self {
        let job = Job::over(
            [bootstrap, bootstrap],
            topic.to_owned(),
            |folder| crash::sqlite_sink(folder.path()),
            INSERT,
            |_| String::new(),
        );
        let settings = [
            format!("kafka.client={client}"),
            "request.timeout.ms=6000".to_owned(),
            "read.timeout.ms=10000".to_owned(),
        ];
        let settings = settings.iter().flat_map(|set| ["-X", set.as_str()]);
        let mut command = job.command(&["-q", "--retry-for", retry_for]);
        let child = command.args(settings).spawn().expect("the shell starts");
        Self { client, job, child }
    }

    /// Whether the sink has all records of the topic.
    fn has_all(&self) -> bool {
        // There is no table before the first batch.
        self.job.batches() > 0 && crash::sqlite_held(&self.job) == self.job.expected()
    }

    /// Waits until it has all records.
    fn reads_all(mut self) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_all() {
            let has_ended = self.child.try_wait().expect("it can be asked").is_some();
            if has_ended || Instant::now() > deadline {
                self.gives_up();
            }
            std::thread::sleep(LOOK);
        }
        self
    }

    /// Fails with what the process has printed.
    fn gives_up(mut self) -> ! {
        let _ = self.child.kill();
        let output = self.child.wait_with_output().expect("it has ended");
        panic!("{}: {}", self.client, job::text(&output));
    }

    /// Waits until it has all records, or has ended; a job that has ended is run again.
    fn done(mut self) -> (String, String) {
        let deadline = Instant::now() + PATIENCE;
        let went_on = loop {
            if self.child.try_wait().expect("it can be asked").is_some() {
                break false;
            }
            if self.has_all() {
                break true;
            }
            if Instant::now() > deadline {
                self.gives_up();
            }
            std::thread::sleep(LOOK);
        };
        if went_on {
            job::signal(self.child.id(), "TERM");
        }
        let output = self.child.wait_with_output().expect("it ends");
        let text = job::text(&output);
        assert!(
            !went_on || output.status.success(),
            "{}: {text}",
            self.client
        );
        if !went_on {
            eprintln!("{}: {text}", self.client);
            assert!(
                text.contains("127.0.0.1:") || text.contains(&self.job.topic),
                "{text}"
            );
            self.job.finish();
        }
        self.job
            .assert_exactly_once(crash::sqlite_held(&self.job), 0);
        (column_of(self.client), outcome(output.status, went_on))
    }
}

fn column_of(client: &str) -> String {
    column("job", client)
}

/// A job of each client has made batches when the fault comes; after it there is more to read.
async fn go_on(retry_for: &str, fault: impl FnOnce(&mut KafkaCluster, &str)) -> Outcomes {
    let mut cluster = cluster::shared().await;
    tokio::task::block_in_place(|| {
        let bootstrap = cluster.bootstrap();
        let topic = admin::unique_topic("continuous");
        let replicas: [&[i32]; 3] = [&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]];
        admin::create_replicated_topic(&bootstrap, &topic, &replicas, &[]);
        let grow = || {
            let records: Vec<Record> = (0..300).map(|n| Record::new(n % 3).value("v")).collect();
            produce::produce(&bootstrap, &topic, &records);
        };
        grow();
        let jobs = CLIENTS.map(|client| Running::start(client, &bootstrap, &topic, retry_for));
        let jobs = jobs.map(Running::reads_all);
        fault(&mut cluster, &topic);
        grow();
        jobs.map(Running::done).into_iter().collect()
    })
}

async fn leader_killed(client: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let outcomes = go_on("2m", |cluster, topic| {
        cluster.node_mut(1).kill();
        cluster.wait_for_leader(topic, 0, 2);
    });
    tried(&ALL, &column_of(client), outcomes).await
}

fn lose_all(cluster: &mut KafkaCluster, _topic: &str) {
    (1..=3).for_each(|id| cluster.node_mut(id).kill());
    std::thread::sleep(Duration::from_secs(20));
    cluster.heal();
}

async fn all_brokers_lost_for_20_s(client: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, &column_of(client), go_on("2m", lose_all)).await
}

async fn all_brokers_lost_for_20_s_and_retried_for_3_s(client: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, &column_of(client), go_on("3s", lose_all)).await
}
