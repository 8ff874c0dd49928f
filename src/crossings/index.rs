//! Each verb on a table with an index: the rows are those without it, and most records are not fetched.

use std::sync::Arc;

use datafusion::physical_plan::collect;
use serde_json::Value;

use super::world::{json, rows, session, text};
use crate::client::KafkaClient;
use crate::client::memory::{MemoryCluster, Record};
use crate::driver::{MicroBatch, Stop, Trigger, create_index};
use crate::export::{Export, ExportFormat, ExportProgress, Verify};
use crate::receipt::{Receipt, Verdict, with_checksums};
use crate::sink::MemorySink;
use crate::table::KafkaTable;

const RECORDS: i64 = 1000;
const WHERE: &str = "key IN ('k3', 'k77')";

struct Bed {
    cluster: MemoryCluster,
    folder: tempfile::TempDir,
}

impl Bed {
    /// Two partitions in which the records with one key are neighbours, and an index in blocks of 16 offsets.
    async fn new() -> Self {
        let cluster = MemoryCluster::builder().fetch_records(16).build();
        cluster.create_topic("t", 2).unwrap();
        for partition in 0..2 {
            let records =
                (0..RECORDS).map(|n| Record::new(format!("v{n}")).with_key(format!("k{}", n / 5)));
            cluster.append_all("t", partition, records).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let bed = Self { cluster, folder };
        let context = session();
        let table = Arc::new(bed.table(false));
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

    fn table(&self, indexed: bool) -> KafkaTable {
        let table = KafkaTable::builder_with_client(Arc::new(self.cluster.client())).topic("t");
        match indexed {
            true => table.index(self.path("index")).build_lazy().unwrap(),
            false => table.build_lazy().unwrap(),
        }
    }

    /// What a verb yields on a table with the index and on one without.
    async fn run(&self, verb: &str, indexed: bool) -> Result<Vec<Value>, String> {
        let context = session();
        let table = self.table(indexed);
        let named = if indexed { "with" } else { "without" };
        let registered = context.register_table("t", Arc::new(table.clone()));
        registered.map_err(text)?;
        let plain = format!("SELECT partition, \"offset\", key, value FROM t WHERE {WHERE}");
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
                let sql = "SELECT a.partition, a.\"offset\", b.\"offset\" AS other FROM t a JOIN t b \
                           ON a.partition = b.partition WHERE a.key = 'k3' AND b.key = 'k77' ORDER BY 1, 2, 3";
                rows(&context, sql).await
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
                    .checkpoint(self.path(named))
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
                let place = self.path(&format!("export-{named}"));
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
async fn each_verb_has_the_rows_of_a_table_without_an_index() {
    let bed = Bed::new().await;
    for verb in ["query", "limit", "join", "receipt", "job", "export"] {
        let mut fetched = vec![];
        let mut found = vec![];
        for indexed in [true, false] {
            bed.cluster.reset_stats();
            found.push(
                bed.run(verb, indexed)
                    .await
                    .map_err(|e| format!("{verb}: {e}"))
                    .unwrap(),
            );
            fetched.push(bed.cluster.stats().records);
        }
        assert_eq!(found[0], found[1], "{verb}");
        assert!(!found[0].is_empty(), "{verb}");
        assert!(fetched[0] * 4 < fetched[1], "{verb}: {fetched:?} records");
    }
}
