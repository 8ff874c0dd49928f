//! The states that crashes and slow drivers leave behind.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;

use super::*;
use crate::sink::{SourcePartition, SourceRange};
use crate::store::Durability;

fn local() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("target");
    let store = Store::open(path.to_str().unwrap(), &HashMap::new()).unwrap();
    (folder, store)
}

fn options() -> ParquetOptions {
    ParquetOptions {
        durability: Durability::None,
        ..ParquetOptions::default()
    }
}

fn batch(number: u64, from: Option<i64>, end: i64) -> BatchRanges {
    BatchRanges {
        job: "job".to_owned(),
        batch: number,
        attempt: uuid::Uuid::new_v4().simple().to_string(),
        ranges: vec![SourceRange {
            partition: SourcePartition {
                source: "orders".into(),
                topic: "orders".into(),
                partition: 0,
            },
            previous: from,
            start: from.unwrap_or(0),
            end,
            topic_id: None,
            leader_epoch: None,
        }],
    }
}

fn rows(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: Int64Array = ids.into_iter().collect();
    let names: StringArray = ids
        .iter()
        .map(|id| {
            id.filter(|id| id % 3 != 0)
                .map(|id| format!("n/{}", id % 4))
        })
        .collect();
    RecordBatch::try_from_iter_with_nullable([
        ("name", Arc::new(names) as _, true),
        ("id", Arc::new(ids) as _, true),
    ])
    .unwrap()
}

fn job() -> SinkJob {
    SinkJob {
        name: "job".to_owned(),
        schema: rows([]).schema(),
    }
}

async fn stage(sink: &ParquetSink, batch: &BatchRanges, rows: RecordBatch) -> Vec<Staged> {
    let schema = rows.schema();
    let stream = futures::stream::iter([Ok(rows)]);
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema, stream));
    vec![sink.stage(batch, 0, stream).await.unwrap()]
}

async fn deliver(sink: &ParquetSink, batch: &BatchRanges, ids: std::ops::Range<i64>) {
    let staged = stage(sink, batch, rows(ids)).await;
    sink.commit(batch, staged).await.unwrap();
}

async fn session(store: &Store, more: &str) -> SessionContext {
    let context = crate::session::KafkaSessionBuilder::new().build().unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{}' {more}",
        store.url()
    );
    context.sql(&create).await.unwrap();
    context
}

/// The ids that readers of manifests see, sorted.
async fn ids(store: &Store) -> Vec<i64> {
    let context = session(store, "").await;
    query(&context, "SELECT id FROM t ORDER BY id").await
}

async fn query(context: &SessionContext, sql: &str) -> Vec<i64> {
    let found = context.sql(sql).await.unwrap().collect().await.unwrap();
    let columns = found
        .iter()
        .flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec());
    columns.collect()
}

/// The files that plain readers see.
async fn plain(store: &Store) -> Vec<String> {
    let mut names = store.list("").await.unwrap();
    names.retain(|name| is_visible(name) && name.ends_with(".parquet"));
    names
}

fn conflict<T: fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn open_completes_what_a_crash_left_unpublished() {
    let (_folder, store) = local();
    let sink = ParquetSink::new(store.clone(), options());
    sink.open(&job()).await.unwrap();
    let first = batch(0, None, 3);
    deliver(&sink, &first, 0..3).await;
    let published = plain(&store).await;
    assert_eq!(published.len(), 1);
    // Between the manifest and the publication: the staged name alone.
    store.delete(&published).await.unwrap();
    assert_eq!(ids(&store).await, [0, 1, 2], "read under its staged name");
    let sink = ParquetSink::new(store.clone(), options());
    let committed = sink.open(&job()).await.unwrap().unwrap();
    assert_eq!(committed.ends, first.ends());
    assert_eq!(plain(&store).await, published);
    // Both names, and then the published one alone.
    let sink = ParquetSink::new(store.clone(), options());
    sink.open(&job()).await.unwrap();
    store.delete_folder(manifest::STAGED).await.unwrap();
    sink.open(&job()).await.unwrap();
    deliver(&sink, &batch(1, Some(3), 4), 3..4).await;
    assert_eq!(ids(&store).await, [0, 1, 2, 3]);
    // Neither: that is no crash.
    let names = store.list("").await.unwrap();
    let names: Vec<_> = names
        .into_iter()
        .filter(|n| n.contains("part-") || n.contains("staged"))
        .collect();
    store.delete(&names).await.unwrap();
    let error = sink.open(&job()).await.unwrap_err();
    assert!(
        error.to_string().contains("neither there nor staged"),
        "{error}"
    );
}

#[tokio::test]
async fn hundreds_of_batches_are_listed_in_few_files() {
    for store in [
        local().1,
        Store::open("memory:///t", &HashMap::new()).unwrap(),
    ] {
        let sink = ParquetSink::new(store.clone(), options());
        sink.open(&job()).await.unwrap();
        let slow = ParquetSink::new(store.clone(), options());
        slow.open(&job()).await.unwrap();
        let late = batch(0, None, 2);
        let late_staged = stage(&slow, &late, rows(0..2)).await;
        for number in 0..305 {
            let from = (number > 0).then_some(number);
            let next = batch(number as u64, from, number + 1);
            deliver(&sink, &next, number..number + 1).await;
        }
        let listed = store.list(manifest::MANIFESTS).await.unwrap();
        let checkpoints = listed.iter().filter(|name| name.ends_with(".jsonl"));
        assert_eq!(checkpoints.count(), 3);
        let singles = listed.iter().filter(|name| name.ends_with(".json"));
        assert_eq!(singles.count(), 105);
        let row = Row::new(&store, "job");
        let numbers: Vec<u64> = row
            .records()
            .await
            .unwrap()
            .iter()
            .map(|r| r.number)
            .collect();
        assert_eq!(numbers, (0..305).collect::<Vec<u64>>());
        let Held::Exactly(held) = sink
            .held(&batch(3, Some(3), 4), &job().schema)
            .await
            .unwrap()
        else {
            panic!("a batch that is in a checkpoint");
        };
        let held: Vec<RecordBatch> = held.try_collect().await.unwrap();
        assert_eq!(held.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        // The name of its manifest was taken, and is free again: it must not count.
        let before = plain(&store).await.len();
        assert_eq!(before, 305);
        let error = conflict(slow.commit(&late, late_staged).await);
        assert!(
            error.contains("staged files") || error.contains("driver"),
            "{error}"
        );
        assert_eq!(plain(&store).await.len(), before);
        let committed = sink.open(&job()).await.unwrap().unwrap();
        assert_eq!(committed.batch, 304);
        let again = ParquetSink::new(store.clone(), options());
        assert_eq!(again.open(&job()).await.unwrap(), Some(committed));
        deliver(&again, &batch(305, Some(305), 306), 305..306).await;
        assert_eq!(row.records().await.unwrap().len(), 306);
    }
}

#[tokio::test]
async fn a_manifest_under_a_pruned_number_is_withdrawn() {
    let (_folder, store) = local();
    let sink = ParquetSink::new(store.clone(), options());
    sink.open(&job()).await.unwrap();
    for number in 0..201 {
        let from = (number > 0).then_some(number);
        deliver(&sink, &batch(number as u64, from, number + 1), 0..0).await;
    }
    let row = Row::new(&store, "job");
    assert!(row.get(50).await.unwrap().is_none(), "pruned");
    let record = Record {
        number: 50,
        batch: 50,
        attempt: "f".repeat(32),
        schema: String::new(),
        partitioned_by: vec![],
        files: vec![],
    };
    let stray = Manifest::next(None, &batch(50, Some(50), 60), record);
    assert_eq!(
        row.put(&stray, Durability::None).await.unwrap(),
        Created::New
    );
    assert!(!row.took(&stray).await.unwrap());
    // It is not seen before it is withdrawn either.
    assert_eq!(row.newest().await.unwrap().unwrap().record.number, 200);
    assert_eq!(row.records().await.unwrap()[50].batch, 50);
    assert!(row.records().await.unwrap()[50].attempt != "f".repeat(32));
    row.withdraw(50).await.unwrap();
    // One that is followed is not taken for a stray.
    let last = row.get(199).await.unwrap().unwrap();
    assert!(row.took(&last).await.unwrap());
}

#[tokio::test]
async fn a_hundred_checkpoints_become_one() {
    let (_folder, store) = local();
    let row = Row::new(&store, "job");
    let attempt = "a".repeat(32);
    let record = |number| Record {
        number,
        batch: number,
        attempt: attempt.clone(),
        schema: String::new(),
        partitioned_by: vec![],
        files: vec![],
    };
    let folder = manifest::folder_of("job");
    for part in 0..99u64 {
        let records: Vec<_> = (part * 100..part * 100 + 100).map(record).collect();
        let name = format!(
            "{folder}/checkpoints/{:020}-{:020}.jsonl",
            part * 100,
            part * 100 + 99
        );
        let bytes = manifest::checkpoint("job", &records).unwrap();
        store.put(&name, bytes, Durability::None).await.unwrap();
    }
    for number in 9900..10_003 {
        let manifest = Manifest::next(None, &batch(number, None, 1), record(number));
        row.put(&manifest, Durability::None).await.unwrap();
    }
    row.compact(Durability::None).await.unwrap();
    let listed = store.list(&format!("{folder}/checkpoints")).await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(row.records().await.unwrap().len(), 10_003);
}

#[tokio::test]
async fn of_two_drivers_the_slower_one_is_refused_and_leaves_nothing() {
    let (_folder, store) = local();
    let one = ParquetSink::new(store.clone(), options());
    let other = ParquetSink::new(store.clone(), options());
    one.open(&job()).await.unwrap();
    other.open(&job()).await.unwrap();
    let (first, same, further) = (batch(0, None, 2), batch(0, None, 2), batch(0, None, 3));
    let first_staged = stage(&one, &first, rows(0..2)).await;
    let same_staged = stage(&other, &same, rows(0..2)).await;
    let further_staged = stage(&other, &further, rows(0..3)).await;
    one.commit(&first, first_staged).await.unwrap();
    other.commit(&same, same_staged).await.unwrap();
    conflict(other.commit(&further, further_staged).await);
    assert_eq!(plain(&store).await.len(), 1);
    assert_eq!(ids(&store).await, [0, 1]);
    other.abort(&further).await.unwrap();
    other.open(&job()).await.unwrap();
    deliver(&other, &batch(1, Some(2), 3), 2..3).await;
    other.open(&job()).await.unwrap();
    let staged = store.list(manifest::STAGED).await.unwrap();
    assert_eq!(staged.len(), 1, "only the newest batch's: {staged:?}");
}

#[tokio::test]
async fn a_commit_that_nobody_knows_the_end_of_is_not_undone() {
    let (_folder, store) = local();
    let sink = ParquetSink::new(store.clone(), options());
    sink.open(&job()).await.unwrap();
    let first = batch(0, None, 2);
    let staged = stage(&sink, &first, rows(0..2)).await;
    sink.commit(&first, staged).await.unwrap();
    sink.abort(&first).await.unwrap();
    assert_eq!(store.list(manifest::STAGED).await.unwrap().len(), 1);
    // Staged files of another driver's batch stay: its manifest may still come.
    let second = batch(1, Some(2), 4);
    let staged = stage(&sink, &second, rows(2..4)).await;
    let other = ParquetSink::new(store.clone(), options());
    other.open(&job()).await.unwrap();
    sink.commit(&second, staged).await.unwrap();
    assert_eq!(ids(&store).await, [0, 1, 2, 3]);
    // Those that were removed are missed before the commit, not after.
    let third = batch(2, Some(4), 5);
    let staged = stage(&sink, &third, rows(4..5)).await;
    store.delete_folder(manifest::STAGED).await.unwrap();
    let error = sink.commit(&third, staged).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Sink {
                transient: true,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(ids(&store).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn orphans_are_found_and_removed() {
    let (_folder, store) = local();
    let sink = ParquetSink::new(store.clone(), options());
    sink.open(&job()).await.unwrap();
    stage(&sink, &batch(0, None, 9), rows(0..9)).await;
    let first = batch(0, None, 2);
    deliver(&sink, &first, 0..2).await;
    stage(&sink, &batch(1, Some(2), 9), rows(0..9)).await;
    let published = plain(&store).await;
    store.delete(&published).await.unwrap();
    let hour = Duration::from_secs(3600);
    assert!(clean(&store, hour, false).await.unwrap().is_empty());
    let found = clean(&store, Duration::ZERO, true).await.unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(store.list(manifest::STAGED).await.unwrap().len(), 3);
    let removed = clean(&store, Duration::ZERO, false).await.unwrap();
    let names = |orphans: &[Orphan]| orphans.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&removed), names(&found));
    assert_eq!(
        ids(&store).await,
        [0, 1],
        "the newest batch is not published yet"
    );
    sink.open(&job()).await.unwrap();
    assert_eq!(clean(&store, Duration::ZERO, false).await.unwrap().len(), 1);
    assert_eq!(plain(&store).await, published);
    assert_eq!(ids(&store).await, [0, 1]);
}

#[tokio::test]
async fn files_are_cut_by_rows_and_bytes() {
    let (_folder, store) = local();
    let cut = ParquetOptions {
        max_file_rows: 4,
        ..options()
    };
    let sink = ParquetSink::new(store.clone(), cut);
    sink.open(&job()).await.unwrap();
    deliver(&sink, &batch(0, None, 10), 0..10).await;
    assert_eq!(plain(&store).await.len(), 3);
    let cut = ParquetOptions {
        max_file_bytes: 1,
        ..options()
    };
    let sink = ParquetSink::new(store.clone(), cut);
    sink.open(&job()).await.unwrap();
    deliver(&sink, &batch(1, Some(10), 12), 10..12).await;
    assert_eq!(plain(&store).await.len(), 4);
    assert_eq!(ids(&store).await, (0..12).collect::<Vec<_>>());
    let context = session(&store, "").await;
    assert_eq!(query(&context, "SELECT count(*) FROM t").await, [12]);
    assert_eq!(query(&context, "SELECT id FROM t LIMIT 3").await.len(), 3);
}

#[tokio::test]
async fn folders_come_back_as_columns_and_prune() {
    for store in [
        local().1,
        Store::open("memory:///t", &HashMap::new()).unwrap(),
    ] {
        let by_name = ParquetOptions {
            partition_by: vec!["name".to_owned()],
            max_open_files: 2,
            ..options()
        };
        let sink = ParquetSink::new(store.clone(), by_name);
        sink.open(&job()).await.unwrap();
        deliver(&sink, &batch(0, None, 20), 0..20).await;
        let files = plain(&store).await;
        assert!(
            files.iter().any(|f| f.starts_with("name=n%2F2/part-")),
            "{files:?}"
        );
        assert!(
            files
                .iter()
                .any(|f| f.starts_with("name=__HIVE_DEFAULT_PARTITION__/"))
        );
        let Held::Exactly(held) = sink.held(&batch(0, None, 20), &job().schema).await.unwrap()
        else {
            panic!("the batch is there");
        };
        let held: Vec<RecordBatch> = held.try_collect().await.unwrap();
        let mut found: Vec<(i64, Option<String>)> = vec![];
        for rows in &held {
            let ids = rows
                .column_by_name("id")
                .unwrap()
                .as_primitive::<Int64Type>();
            let names = rows.column_by_name("name").unwrap().as_string::<i32>();
            let names = names.iter().map(|name| name.map(str::to_owned));
            found.extend(ids.values().iter().copied().zip(names));
        }
        found.sort();
        let expected = (0..20).map(|id| (id, (id % 3 != 0).then(|| format!("n/{}", id % 4))));
        assert_eq!(found, expected.collect::<Vec<_>>());
        if store.local().is_none() {
            continue;
        }
        let context = session(&store, "").await;
        let of_two = "SELECT id FROM t WHERE name = 'n/2' ORDER BY id";
        assert_eq!(query(&context, of_two).await, [2, 10, 14]);
        let nulls = "SELECT count(*) FROM t WHERE name IS NULL";
        assert_eq!(query(&context, nulls).await, [7]);
        let explained = context.sql(&format!("EXPLAIN {of_two}")).await.unwrap();
        let explained = explained.collect().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&explained)
            .unwrap()
            .to_string();
        assert!(text.contains("name=n%2F2"), "{text}");
        assert!(!text.contains("name=n%2F1"), "{text}");
        let other = ParquetSink::new(store.clone(), options());
        let error = other.open(&job()).await.unwrap_err();
        assert!(
            error.to_string().contains("partitioned by (name)"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn columns_are_added_and_not_changed() {
    let (_folder, store) = local();
    let sink = ParquetSink::new(store.clone(), options());
    sink.open(&job()).await.unwrap();
    deliver(&sink, &batch(0, None, 2), 0..2).await;
    let more = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![2])) as _),
        ("extra", Arc::new(Int64Array::from(vec![7])) as _),
    ])
    .unwrap();
    let wider = SinkJob {
        name: "job".to_owned(),
        schema: more.schema(),
    };
    sink.open(&wider).await.unwrap();
    let next = batch(1, Some(2), 3);
    let staged = stage(&sink, &next, more).await;
    sink.commit(&next, staged).await.unwrap();
    let context = session(&store, "").await;
    let extra = "SELECT coalesce(extra, -1) FROM t ORDER BY id";
    assert_eq!(query(&context, extra).await, [-1, -1, 7]);
    let names = "SELECT count(name) FROM t";
    assert_eq!(query(&context, names).await, [1]);
    let changed = RecordBatch::try_from_iter([("id", Arc::new(StringArray::from(vec!["x"])) as _)]);
    let changed = SinkJob {
        name: "job".to_owned(),
        schema: changed.unwrap().schema(),
    };
    let error = sink.open(&changed).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert!(
        error.to_string().contains("column 'id' is Int64"),
        "{error}"
    );
}

#[tokio::test]
async fn ordinary_tables_stay_as_they_are() {
    let (folder, store) = local();
    let declared = format!(
        "CREATE EXTERNAL TABLE d (id BIGINT, name TEXT) STORED AS PARQUET LOCATION '{}/'",
        store.url()
    );
    let context = crate::session::KafkaSessionBuilder::new().build().unwrap();
    context.sql(&declared).await.unwrap();
    assert!(query(&context, "SELECT id FROM d").await.is_empty());
    let insert = context.sql("INSERT INTO d VALUES (5, 'a'), (6, 'b')").await;
    insert.unwrap().collect().await.unwrap();
    assert_eq!(
        query(&context, "SELECT id FROM d ORDER BY id").await,
        [5, 6]
    );
    // Inferred, by folder, file and pattern.
    let file = plain(&store).await.remove(0);
    let places = [
        format!("{}/", store.url()),
        format!("file://{}/", store.url()),
        format!("{}/{file}", store.url()),
        format!("{}/*.parquet", store.url()),
    ];
    for (number, place) in places.iter().enumerate() {
        let create =
            format!("CREATE EXTERNAL TABLE i{number} STORED AS PARQUET LOCATION '{place}'");
        context.sql(&create).await.unwrap();
        let count = format!("SELECT count(*) FROM i{number} WHERE name = 'a'");
        assert_eq!(query(&context, &count).await, [1], "{place}");
    }
    // A job must not mix with them.
    let sink = ParquetSink::new(store.clone(), options());
    let error = conflict(sink.open(&job()).await);
    assert!(error.contains("no job wrote"), "{error}");
    drop(folder);
}

#[tokio::test]
async fn a_declared_table_reads_what_a_job_wrote_meanwhile() {
    let (_folder, store) = local();
    let context = crate::session::KafkaSessionBuilder::new().build().unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id INT, missing TEXT) STORED AS PARQUET LOCATION '{}' \
         OPTIONS ('max.file.rows' '2', 'shared' 'true')",
        store.url()
    );
    context.sql(&create).await.unwrap();
    let table = context.table_provider("t").await.unwrap();
    let table = table.downcast_ref::<crate::sink::SinkTable>().unwrap();
    let sink = Arc::clone(table.sink());
    sink.open(&job()).await.unwrap();
    let first = batch(0, None, 5);
    let schema = rows([]).schema();
    let stream = futures::stream::iter([Ok(rows(0..5))]);
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema, stream));
    let staged = sink.stage(&first, 0, stream).await.unwrap();
    assert!(
        query(&context, "SELECT CAST(id AS BIGINT) AS n FROM t")
            .await
            .is_empty()
    );
    sink.commit(&first, vec![staged]).await.unwrap();
    assert_eq!(plain(&store).await.len(), 3);
    let sql = "SELECT CAST(id AS BIGINT) AS n FROM t WHERE missing IS NULL ORDER BY n";
    assert_eq!(query(&context, sql).await, [0, 1, 2, 3, 4]);
    let insert = context.sql("INSERT INTO t VALUES (1, 'x')").await.unwrap();
    let error = insert.collect().await.unwrap_err().to_string();
    assert!(error.contains("runs in a job"), "{error}");
    let wrong = create
        .replace("max.file.rows", "max.file.row")
        .replace("TABLE t", "TABLE u");
    let error = context.sql(&wrong).await.unwrap_err().to_string();
    assert!(error.contains("did you mean 'max.file.rows'"), "{error}");
}

/// Rows of payloads that do not compress, so many megabytes in batches of one.
fn payloads(megabytes: u64) -> Vec<RecordBatch> {
    let mut seed = 1u64;
    let batch = |_| {
        let mut next = || {
            // Xorshift.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()
        };
        let values = (0..1024).map(|_| (0..128).flat_map(|_| next()).collect::<Vec<u8>>());
        let values = arrow::array::BinaryArray::from_iter_values(values);
        RecordBatch::try_from_iter_with_nullable([("value", Arc::new(values) as _, true)]).unwrap()
    };
    (0..megabytes).map(batch).collect()
}

#[tokio::test]
async fn row_groups_end_early_where_the_pool_is_short() {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    let (_folder, store) = local();
    let batches = payloads(12);
    let schema = batches[0].schema();
    let sink = ParquetSink::new(store.clone(), options());
    let job = SinkJob {
        name: "job".to_owned(),
        schema: SchemaRef::clone(&schema),
    };
    sink.open(&job).await.unwrap();
    let stage = async |batch: &BatchRanges, limit: usize| {
        let rows = futures::stream::iter(batches.clone().into_iter().map(Ok));
        let rows = Box::pin(RecordBatchStreamAdapter::new(
            SchemaRef::clone(&schema),
            rows,
        ));
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(limit));
        let staged = sink.stage_within(batch, 0, rows, &pool).await;
        assert_eq!(pool.reserved(), 0);
        staged
    };
    let first = batch(0, None, 10);
    let staged = stage(&first, 4 << 20).await.unwrap();
    sink.commit(&first, vec![staged]).await.unwrap();
    let context = session(&store, "").await;
    let found = query(&context, "SELECT count(*) FROM t").await;
    assert_eq!(found, [12 * 1024]);
    let name = plain(&store).await.remove(0);
    let file = std::fs::File::open(format!("{}/{name}", store.url())).unwrap();
    let reader = datafusion::parquet::file::reader::SerializedFileReader::new(file).unwrap();
    let groups = datafusion::parquet::file::reader::FileReader::num_row_groups(&reader);
    assert!((4..=12).contains(&groups), "{groups} row groups");

    let refused = stage(&batch(1, Some(10), 20), 1 << 19).await.unwrap_err();
    assert_eq!(refused.kind(), crate::ErrorKind::Memory, "{refused}");
}

fn named(name: &str, id: i64) -> RecordBatch {
    let names: StringArray = [Some(name)].into_iter().collect();
    let ids: Int64Array = [id].into_iter().collect();
    RecordBatch::try_from_iter_with_nullable([
        ("name", Arc::new(names) as _, true),
        ("id", Arc::new(ids) as _, true),
    ])
    .unwrap()
}

fn by_name() -> ParquetOptions {
    ParquetOptions {
        partition_by: vec!["name".to_owned()],
        ..options()
    }
}

#[tokio::test]
async fn a_name_that_no_store_takes_fails_while_it_is_staged() {
    let (_folder, local) = local();
    let cloud = Store::open("memory:///target", &HashMap::new()).unwrap();
    for store in [local, cloud] {
        let sink = ParquetSink::new(store.clone(), by_name());
        sink.open(&job()).await.unwrap();
        let first = batch(0, None, 1);
        // A slash takes three bytes of a folder's name.
        for long in ["x".repeat(300), "/".repeat(90)] {
            let rows = named(&long, 1);
            let schema = rows.schema();
            let stream = futures::stream::iter([Ok(rows)]);
            let stream = Box::pin(RecordBatchStreamAdapter::new(schema, stream));
            let refused = sink.stage(&first, 0, stream).await.unwrap_err().to_string();
            let begins: String = long.chars().take(40).collect();
            assert!(
                refused.contains(&format!(
                    "PARTITIONED BY name: the value of {} bytes that begins '{begins}' gives files a name of",
                    long.len()
                )),
                "{refused}"
            );
            assert!(refused.contains("left(name, 100)"), "{refused}");
            sink.abort(&first).await.unwrap();
        }
        // What just fits, and what is special in paths.
        let fits = [
            "x".repeat(250),
            "/".repeat(83),
            "..".to_owned(),
            "%2F\u{1}".to_owned(),
            String::new(),
        ];
        let staged: Vec<RecordBatch> = fits
            .iter()
            .zip(0..)
            .map(|(name, id)| named(name, id))
            .collect();
        let rows = arrow::compute::concat_batches(&staged[0].schema(), &staged).unwrap();
        let staged = stage(&sink, &first, rows).await;
        sink.commit(&first, staged).await.unwrap();
        assert_eq!(plain(&store).await.len(), fits.len());
        if store.local().is_some() {
            let context = session(&store, "").await;
            for (name, id) in fits.iter().zip(0..) {
                let sql = format!("SELECT id FROM t WHERE name = '{name}'");
                assert_eq!(query(&context, &sql).await, [id], "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_batch_that_was_committed_with_such_a_name_is_published_and_the_job_goes_on() {
    let (_folder, store) = local();
    let sink = ParquetSink::new(store.clone(), by_name());
    sink.open(&job()).await.unwrap();
    let first = batch(0, None, 1);
    let staged = stage(&sink, &first, named("short", 7)).await;
    sink.commit(&first, staged).await.unwrap();
    // As a version before left it: committed under a name that cannot be, and not published.
    let long = "x".repeat(300);
    let manifest = manifest::name_of(&manifest::folder_of("job"), 0);
    let text = store.get(&manifest).await.unwrap().unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert_eq!(
        text.matches("short").count(),
        2,
        "a name and a value: {text}"
    );
    let bytes = text.replace("short", &long).into_bytes();
    store
        .put(&manifest, bytes.into(), Durability::None)
        .await
        .unwrap();
    store.delete(&plain(&store).await).await.unwrap();

    let by_value = format!("SELECT id FROM t WHERE name = '{long}'");
    let context = session(&store, "").await;
    assert_eq!(
        query(&context, &by_value).await,
        [7],
        "read from where it is staged"
    );
    let again = ParquetSink::new(store.clone(), by_name());
    again.open(&job()).await.unwrap();
    let second = batch(1, Some(1), 2);
    let staged = stage(&again, &second, named("short", 8)).await;
    again.commit(&second, staged).await.unwrap();
    assert_eq!(ids(&store).await, [7, 8]);
    assert_eq!(query(&context, &by_value).await, [7]);
    let published = plain(&store).await;
    assert_eq!(published.len(), 2, "{published:?}");
    assert!(
        published
            .iter()
            .any(|name| name.starts_with("name=xxx") && name.contains('~'))
    );
    assert!(
        store.list(manifest::STAGED).await.unwrap().len() < 2,
        "staged files are not kept"
    );
}
