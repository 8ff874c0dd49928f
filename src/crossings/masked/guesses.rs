//! A guess of what is hidden learns nothing: one that is right and one that is wrong, which differ in what no mask shows,
//! yield the same rows, plans and ledgers, at the same cost.

use std::sync::Arc;

use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::super::world::json;
use super::marker::MARKER;
use super::{MASKS, SALT};
use crate::client::ClientPool;
use crate::client::memory::{MemoryCluster, MemoryStats, Record};
use crate::config::ConnectionConfig;
use crate::driver::create_index;
use crate::range::{KeyPartitioner, Ledger};
use crate::scan;
use crate::session::KafkaSessionBuilder;
use crate::statement;

const PARTITIONS: u32 = 8;
/// Its last characters are those of the marker, and its first ones, which plans show of bytes.
const WRONG: &str = "Zq7mCarrotVy93kT";

/// Conditions of all kinds, and what could take the short way for one: ranges of keys, blocks of an index, searched
/// batches, the keys of joins, the best rows so far.
const STATEMENTS: [&str; 16] = [
    "SELECT \"offset\" FROM t WHERE key = '{}'",
    "SELECT \"offset\" FROM t WHERE key IN ('{}', 'k-none')",
    "SELECT \"offset\" FROM t WHERE key < '{}'",
    "SELECT \"offset\" FROM t WHERE NOT (key <> '{}') AND partition >= 0",
    "SELECT \"offset\" FROM t WHERE kafka_text(value) LIKE '%{}%'",
    "SELECT \"offset\" FROM t WHERE strpos(kafka_text(value), '{}') > 0",
    "SELECT \"offset\" FROM t WHERE has_header(headers, 'h', '{}')",
    "SELECT \"offset\" FROM x WHERE card = '{}'",
    "SELECT \"offset\" FROM x WHERE card >= '{}' AND card <= '{}'",
    "SELECT \"offset\" FROM x WHERE card LIKE '{}%' OR id = 3",
    "SELECT count(*) FILTER (WHERE card = '{}'), max(card) = '{}' FROM x",
    "SELECT t.\"offset\" FROM t JOIN (VALUES ('{}')) AS w (k) ON t.key = w.k",
    "SELECT x.\"offset\" FROM x WHERE x.card IN (SELECT k FROM (VALUES ('{}'), ('k')) AS w (k))",
    "SELECT least(kafka_text(key), '{}') = '{}' AS g FROM t ORDER BY kafka_text(key) LIMIT 3",
    "SELECT count(*) FROM i WHERE key = '{}'",
    "SELECT count(*) FROM i WHERE kafka_text(value) = '{\"id\":1,\"card\":\"{}\"}'",
];

/// What somebody sees of a statement.
type Seen = (Result<String, String>, String, Option<Ledger>, MemoryStats);

struct Bed {
    cluster: MemoryCluster,
    masks: Option<&'static str>,
    push_down: bool,
    index: tempfile::TempDir,
}

impl Bed {
    async fn new(masks: Option<&'static str>, push_down: bool) -> Self {
        let cluster = MemoryCluster::builder().build();
        cluster.create_topic("t", PARTITIONS.cast_signed()).unwrap();
        for n in 0..60 {
            let secret = match n {
                20 => MARKER.to_owned(),
                n => format!("k-{n}"),
            };
            let home = KeyPartitioner::Murmur2.partition(secret.as_bytes(), PARTITIONS);
            let value = format!("{{\"id\":1,\"card\":\"{secret}\"}}");
            let record = Record::new(value)
                .with_header("h", Some(secret.as_bytes()))
                .with_key(secret);
            cluster.append_all("t", home.unwrap(), [record]).unwrap();
        }
        let bed = Self {
            cluster,
            masks,
            push_down,
            index: tempfile::tempdir().unwrap(),
        };
        let create = format!(
            "CREATE INDEX ON t (key, kafka_text(value)) WITH (location = '{}')",
            bed.index.path().display()
        );
        create_index(&bed.session(), &create).await.unwrap();
        bed
    }

    fn session(&self) -> SessionContext {
        let mut config = ConnectionConfig::new("memory:1");
        config.set("key.partitioner", "murmur2").unwrap();
        if let Some(masks) = self.masks {
            config.set("mask", masks).unwrap();
            config.set("mask.salt", SALT).unwrap();
        }
        let cluster = self.cluster.clone();
        KafkaSessionBuilder::new()
            .config(SessionConfig::new().with_target_partitions(1))
            .connection(config)
            .pool(ClientPool::with_factory(move |_| {
                Ok(Arc::new(cluster.client()))
            }))
            .build()
            .unwrap()
    }

    /// In a session of its own, since the first statement of one looks at keys.
    async fn see(&self, statement: &str, guess: &str) -> Seen {
        let context = self.session();
        let index = self.index.path().display();
        for sql in [
            format!("SET kafka.push_down = {}", self.push_down),
            "CREATE EXTERNAL TABLE x (id BIGINT, card VARCHAR) STORED AS KAFKA LOCATION 't' OPTIONS ('value.format' 'json')"
                .to_owned(),
            format!("CREATE EXTERNAL TABLE i STORED AS KAFKA LOCATION 't' OPTIONS ('index' '{index}')"),
        ] {
            // A mask of the whole value leaves no JSON.
            let made = statement::sql(&context, &sql).await;
            assert!(made.is_ok() || self.masks.is_some(), "{sql}");
        }
        self.cluster.reset_stats();
        let same = |text: String| text.replace(guess, "GUESS");
        let mut told = (String::new(), None);
        let rows = async {
            let frame = context.sql(&statement.replace("{}", guess)).await?;
            let plan = frame.create_physical_plan().await?;
            told.0 = same(displayable(plan.as_ref()).indent(true).to_string());
            let rows = collect(Arc::clone(&plan), context.task_ctx()).await;
            told.1 = Some(scan::ledger(&plan));
            rows
        };
        let rows = rows.await;
        let rows = rows.map(|rows| same(format!("{:?}", json(&rows).unwrap())));
        let rows = rows.map_err(|error| same(error.to_string()));
        (rows, told.0, told.1, self.cluster.stats())
    }
}

#[tokio::test]
async fn a_guess_that_is_right_looks_like_one_that_is_wrong() {
    let home = |text: &str| KeyPartitioner::Murmur2.partition(text.as_bytes(), PARTITIONS);
    assert_ne!(home(MARKER), home(WRONG), "they could not be told apart");
    for push_down in [true, false] {
        for masks in MASKS {
            let bed = Bed::new(Some(masks), push_down).await;
            for statement in STATEMENTS {
                let right = bed.see(statement, MARKER).await;
                let wrong = bed.see(statement, WRONG).await;
                assert_eq!(right, wrong, "{masks}: {statement}");
            }
        }
        // The same statements tell where nothing is hidden.
        let bed = Bed::new(None, push_down).await;
        for statement in STATEMENTS {
            let right = bed.see(statement, MARKER).await;
            let wrong = bed.see(statement, WRONG).await;
            assert!(right.0.is_ok(), "{statement}: {right:?}");
            assert_ne!(right, wrong, "{statement}");
        }
    }
}
