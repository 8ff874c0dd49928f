//! Each verb on tables that need not read everything: the rows are those of a plain table, and most records are not
//! fetched.

use std::sync::Arc;

use datafusion::physical_plan::collect;
use serde_json::Value;

use super::world::{json, rows, session, text};
use crate::client::KafkaClient;
use crate::client::memory::{MemoryCluster, Record};
use crate::driver::{MicroBatch, Stop, Trigger, create_index};
use crate::export::{Export, ExportFormat, ExportProgress, Verify};
use crate::range::KeyPartitioner;
use crate::receipt::{Receipt, Verdict, with_checksums};
use crate::sink::MemorySink;
use crate::table::KafkaTable;

const RECORDS: i64 = 8000;
const PARTITIONS: u32 = 16;

/// Why a table need not read everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Less {
    Nothing,
    /// It has an index.
    Index,
    /// It knows which partition has a key.
    Keys,
}

struct Bed {
    cluster: MemoryCluster,
    folder: tempfile::TempDir,
    /// Two keys of one partition.
    keys: [String; 2],
}

impl Bed {
    /// Partitions that a producer chose by the key, in which the records with one key are neighbours, and an index in
    /// blocks of 16 offsets.
    async fn new() -> Self {
        let cluster = MemoryCluster::builder().fetch_records(16).build();
        let partitions = PARTITIONS.cast_signed();
        cluster.create_topic("t", partitions).unwrap();
        let key = |n: i64| format!("k{}", n / 5);
        let home = |key: &str| KeyPartitioner::Murmur2.partition(key.as_bytes(), PARTITIONS);
        for partition in 0..partitions {
            let here = (0..RECORDS).filter(|n| home(&key(*n)) == Some(partition));
            let records = here.map(|n| Record::new(format!("v{n}")).with_key(key(n)));
            cluster.append_all("t", partition, records).unwrap();
        }
        let first = key(15);
        let other = (500..).map(key).find(|other| home(other) == home(&first));
        let keys = [first, other.unwrap()];
        let folder = tempfile::tempdir().unwrap();
        let bed = Self {
            cluster,
            folder,
            keys,
        };
        let context = session();
        let table = Arc::new(bed.table(Less::Nothing));
        context.register_table("t", table).unwrap();
        let place = bed.path("index");
        let create =
            format!("CREATE INDEX ON t (key) WITH (location = '{place}', block_offsets = 16)");
        create_index(&context, &create).await.unwrap();
        bed.cluster.reset_stats();
        bed
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn table(&self, less: Less) -> KafkaTable {
        let table = KafkaTable::builder_with_client(Arc::new(self.cluster.client())).topic("t");
        let table = match less {
            Less::Nothing => table,
            Less::Index => table.index(self.path("index")),
            Less::Keys => table.key_partitioner(KeyPartitioner::Murmur2),
        };
        table.build_lazy().unwrap()
    }

    /// What a verb yields.
    async fn run(&self, verb: &str, less: Less) -> Result<Vec<Value>, String> {
        let context = session();
        let table = self.table(less);
        let [one, other] = &self.keys;
        let registered = context.register_table("t", Arc::new(table.clone()));
        registered.map_err(text)?;
        let plain = format!(
            "SELECT partition, \"offset\", key, value FROM t WHERE key IN ('{one}', '{other}')"
        );
        match verb {
            "query" => rows(&context, &format!("{plain} ORDER BY 1, 2")).await,
            "limit" => {
                rows(
                    &context,
                    &format!("{plain} ORDER BY \"offset\" DESC, 1 LIMIT 3"),
                )
                .await
            }
            "join" => {
                let sql = format!(
                    "SELECT a.partition, a.\"offset\", b.\"offset\" AS other FROM t a JOIN t b \
                     ON a.partition = b.partition WHERE a.key = '{one}' AND b.key = '{other}' ORDER BY 1, 2, 3"
                );
                rows(&context, &sql).await
            }
            "receipt" => {
                let frame = context.sql(&plain).await.map_err(text)?;
                let task = Arc::new(with_checksums(frame.task_ctx()));
                let plan = frame.create_physical_plan().await.map_err(text)?;
                let found = collect(Arc::clone(&plan), task).await.map_err(text)?;
                let mut receipt = Receipt::new();
                receipt.add(&plain, &plan).map_err(text)?;
                let receipt: Receipt = receipt.to_json().parse().map_err(text)?;
                let client: Arc<dyn KafkaClient> = Arc::new(self.cluster.client());
                let verdict = receipt.rerun(&client).await.map_err(text)?.verdict();
                assert_eq!(verdict, Verdict::Identical);
                let mut found = json(&found)?;
                found.sort_by_key(|row| (row["partition"].as_i64(), row["offset"].as_i64()));
                Ok(found)
            }
            "job" => {
                let sink = MemorySink::new("out");
                let job = MicroBatch::builder(context, "job")
                    .checkpoint(self.path(&format!("log-{less:?}")))
                    .trigger(Trigger::AvailableNow)
                    .sink("out", Arc::new(sink.clone()))
                    .map_err(text)?
                    .insert(format!("INSERT INTO out {plain}"));
                let mut job = job.build().await.map_err(text)?;
                job.run(&Stop::new()).await.map_err(text)?;
                for difference in job.replay_diff(0).await.map_err(text)? {
                    assert_eq!((difference.missing, difference.extra), (Some(0), Some(0)));
                }
                let mut found = json(&sink.rows())?;
                found.sort_by_key(|row| (row["partition"].as_i64(), row["offset"].as_i64()));
                Ok(found)
            }
            "export" => {
                let place = self.path(&format!("export-{less:?}"));
                let export = Export::builder("t", table.clone(), &place)
                    .format(ExportFormat::Ndjson)
                    .sql(plain);
                let export = export.build().map_err(text)?;
                let done = export.run(&Arc::new(ExportProgress::default())).await;
                let rows = done.map_err(text)?.rows;
                let verify = Verify::open(&place).await.map_err(text)?;
                let progress = ExportProgress::default();
                let verified = verify.run(Some(&table), 2, &progress).await;
                let verified = verified.map_err(text)?;
                assert!(verified.problems.is_empty(), "{:?}", verified.problems);
                Ok(vec![rows.into()])
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_verb_has_the_rows_of_a_table_that_reads_everything() {
    let bed = Bed::new().await;
    for verb in ["query", "limit", "join", "receipt", "job", "export"] {
        let mut plain = (vec![], 0);
        for less in [Less::Nothing, Less::Index, Less::Keys] {
            bed.cluster.reset_stats();
            let found = bed.run(verb, less).await;
            let found = found.unwrap_or_else(|e| panic!("{verb}, {less:?}: {e}"));
            let fetched = bed.cluster.stats().records;
            if less == Less::Nothing {
                assert!(!found.is_empty(), "{verb}");
                plain = (found, fetched);
                continue;
            }
            assert_eq!(found, plain.0, "{verb}, {less:?}");
            assert!(
                fetched * 4 < plain.1,
                "{verb}, {less:?}: {fetched} of {} records",
                plain.1
            );
        }
    }
}
