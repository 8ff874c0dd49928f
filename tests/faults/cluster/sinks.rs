//! Jobs into each sink while a broker dies: of their source, of their target, or of their transactions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion_kafka::driver::{MicroBatch, Stop};

use super::bed::{Bed, COLUMNS, LIMIT, Read, Reader, marked, rows, start};
use super::gate::Gate;
use super::tried::{CLIENTS, Outcomes, Row, Tried, column, tried};
use crate::support::documented::documented;
use crate::support::read::{Isolation, read};
use crate::support::{KafkaCluster, admin, cluster, postgres};

documented!(
    "faults.md",
    "Sinks while a broker dies",
    ["wire", "librdkafka"],
    [],
    slow [
        into_sqlite_the_source_s_leader_is_killed,
        into_parquet_the_source_s_leader_is_killed,
        into_postgresql_the_source_s_leader_is_killed,
        into_kafka_the_source_s_leader_is_killed,
        into_kafka_the_target_s_leader_is_killed,
        into_kafka_the_target_s_leader_is_paused,
        into_kafka_the_coordinator_of_transactions_is_killed,
    ]
);

const RECORDS: i64 = 600;
const HELD_AT: i64 = 150;
/// Twice what the sink into Kafka waits for brokers that stall.
const RETRY_FOR: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    Sqlite,
    Parquet,
    Postgres,
    Kafka,
}

/// The sink of a job, in its folder or as its name says.
struct Target {
    sink: Sink,
    folder: tempfile::TempDir,
    name: String,
    bootstrap: String,
}

impl Target {
    fn new(sink: Sink, bed: &Bed) -> Self {
        let name = admin::unique_topic("target").replace('-', "_");
        if sink == Sink::Kafka {
            // The first record's node leads no partition of the source but the last.
            admin::create_replicated_topic(&bed.bootstrap, &name, &[&[TARGET as i32, 1, 2]], &[]);
        }
        Self {
            sink,
            folder: tempfile::tempdir().expect("a folder"),
            name,
            bootstrap: bed.bootstrap.clone(),
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("out")
    }

    fn create(&self) -> String {
        let (name, file) = (&self.name, self.file());
        let file = file.display();
        let place = match self.sink {
            Sink::Sqlite => format!("SQLITE LOCATION '{file}' OPTIONS ('table' 'out')"),
            Sink::Parquet => format!("PARQUET LOCATION '{file}/'"),
            Sink::Postgres => {
                let url = postgres::shared().url("postgres");
                format!("POSTGRES LOCATION '{url}' OPTIONS ('table' '{name}')")
            }
            Sink::Kafka => format!("KAFKA LOCATION '{name}'"),
        };
        format!("CREATE EXTERNAL TABLE out STORED AS {place}")
    }

    fn insert(&self) -> String {
        let columns = match self.sink {
            Sink::Kafka => {
                "partition || ' ' || \"offset\" || ' ' || substr(CAST(value AS VARCHAR), 1, 1) AS value"
            }
            _ => COLUMNS,
        };
        format!("INSERT INTO out SELECT {columns} FROM orders")
    }

    async fn job(
        &self,
        bed: &Bed,
        client: &str,
        gate: &Arc<Gate>,
    ) -> datafusion_kafka::Result<MicroBatch> {
        let session = bed.session(client, gate, "").await?;
        session
            .sql(&self.create())
            .await
            .expect("the sink is understood");
        let job = MicroBatch::builder(session, &self.name).insert(self.insert());
        start(job, self.folder.path(), 900, RETRY_FOR).await
    }

    async fn run(self, bed: Bed, client: &'static str, gate: Arc<Gate>) -> Read {
        let error = match self.job(&bed, client, &gate).await {
            Ok(mut job) => job.run(&Stop::new()).await.err(),
            Err(error) => Some(error),
        };
        (self.rows().await, error)
    }

    /// What readers of the sink see.
    async fn rows(&self) -> Vec<Row> {
        match self.sink {
            Sink::Sqlite => sqlite_rows(&self.file()),
            Sink::Parquet => parquet_rows(&self.file()).await,
            Sink::Postgres => {
                let sql = format!(
                    "SELECT concat_ws(' ', partition, \"offset\", mark) FROM {}",
                    self.name
                );
                postgres::shared().sql(&sql).lines().map(row).collect()
            }
            Sink::Kafka => {
                let records = read(&self.bootstrap, &self.name, 0, Isolation::ReadCommitted);
                let values = records
                    .into_iter()
                    .map(|record| record.value.expect("a value"));
                values
                    .map(|value| row(&String::from_utf8_lossy(&value)))
                    .collect()
            }
        }
    }
}

/// `partition offset mark`
fn row(text: &str) -> Row {
    let mut words = text.split(' ');
    let mut word = || {
        words
            .next()
            .unwrap_or_else(|| panic!("three words: {text}"))
    };
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("a number: {text}"));
    let (partition, offset): (i64, i64) = (number(word()), number(word()));
    let mark = word().chars().next().expect("a letter");
    (partition as i32, offset, mark)
}

fn sqlite_rows(file: &Path) -> Vec<Row> {
    let connection = rusqlite::Connection::open(file).expect("the file is there");
    let sql = "SELECT partition || ' ' || \"offset\" || ' ' || mark FROM \"out\" ORDER BY rowid";
    let mut statement = connection.prepare(sql).expect("the table is there");
    let texts = statement.query_map([], |found| found.get::<_, String>(0));
    texts
        .expect("rows")
        .map(|text| row(&text.expect("a row")))
        .collect()
}

async fn parquet_rows(folder: &Path) -> Vec<Row> {
    let session = datafusion_kafka::session::KafkaSessionBuilder::new()
        .build()
        .unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (partition INT, \"offset\" BIGINT, mark TEXT) STORED AS PARQUET \
         LOCATION '{}/'",
        folder.display()
    );
    session.sql(&create).await.unwrap();
    let sql = "SELECT partition, \"offset\", mark FROM t ORDER BY partition, \"offset\"";
    rows(&session.sql(sql).await.unwrap().collect().await.unwrap())
}

/// The node that leads partition 0 of the source.
const SOURCE: usize = 2;
/// The node that leads the target in Kafka.
const TARGET: usize = 3;

/// Jobs of both clients into sinks, all in the midst of their first batch when the fault comes.
async fn deliver(sinks: &[Sink], fault: impl FnOnce(&mut KafkaCluster)) -> Outcomes {
    let mut cluster = cluster::shared().await;
    let bed = tokio::task::block_in_place(|| {
        let bed = Bed::new(&cluster, &[&[2, 3, 1], &[1, 2, 3], &[1, 3, 2]], &[]);
        (0..3).for_each(|p| bed.produce(p, RECORDS as usize, 'a'));
        bed
    });
    let mut jobs: Vec<Reader> = vec![];
    for client in CLIENTS {
        for sink in sinks {
            let target = tokio::task::block_in_place(|| Target::new(*sink, &bed));
            let name = column(&format!("{sink:?}"), client);
            jobs.push(bed.reader(name, &Gate::at(HELD_AT), move |bed, gate| {
                target.run(bed, client, gate)
            }));
        }
    }
    for job in &mut jobs {
        job.stands().await;
    }
    tokio::task::block_in_place(|| fault(&mut cluster));
    let expected: Vec<Row> = (0..3).flat_map(|p| marked(p, 0, RECORDS, 'a')).collect();
    let mut outcomes = Outcomes::new();
    for job in &jobs {
        job.gate.open();
    }
    for job in jobs {
        let name = job.column.clone();
        let read = job.done(LIMIT + 2 * RETRY_FOR).await;
        outcomes.insert(name, bed.outcome(&read, &expected));
    }
    outcomes
}

async fn source_killed(sink: Sink, client: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let name = column(&format!("{sink:?}"), client);
    tried(&ALL, &name, async {
        let all = [Sink::Sqlite, Sink::Parquet, Sink::Postgres, Sink::Kafka];
        deliver(&all, |cluster| cluster.node_mut(SOURCE).kill()).await
    })
    .await
}

async fn into_sqlite_the_source_s_leader_is_killed(client: &str) -> String {
    source_killed(Sink::Sqlite, client).await
}

async fn into_parquet_the_source_s_leader_is_killed(client: &str) -> String {
    source_killed(Sink::Parquet, client).await
}

async fn into_postgresql_the_source_s_leader_is_killed(client: &str) -> String {
    source_killed(Sink::Postgres, client).await
}

async fn into_kafka_the_source_s_leader_is_killed(client: &str) -> String {
    source_killed(Sink::Kafka, client).await
}

async fn into_kafka_the_target_s_leader_is_killed(client: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, &column("Kafka", client), async {
        deliver(&[Sink::Kafka], |cluster| cluster.node_mut(TARGET).kill()).await
    })
    .await
}

async fn into_kafka_the_target_s_leader_is_paused(client: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, &column("Kafka", client), async {
        deliver(&[Sink::Kafka], |cluster| cluster.node(TARGET).freeze()).await
    })
    .await
}

async fn into_kafka_the_coordinator_of_transactions_is_killed(client: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, &column("Kafka", client), async {
        let kill = |cluster: &mut KafkaCluster| {
            let bootstrap = cluster.bootstrap();
            let coordinator = admin::leader(&bootstrap, "__transaction_state", 0);
            let id = coordinator.expect("the topic has one partition, which has a leader");
            cluster.node_mut(id as usize).kill();
        };
        deliver(&[Sink::Kafka], kill).await
    })
    .await
}
