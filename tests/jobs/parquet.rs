//! The parquet sink on local disks: its promises, and what other readers see.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::{ParquetOptions, ParquetSink, Sink, parquet};
use datafusion_kafka::store::Store;
use tempfile::TempDir;

use crate::conformance::{self, Fixture, batch, deliver, job, stage, stream_of};
use crate::support::{repository, s3};

/// A sink for a place, as a process would make it.
pub(crate) fn sink(store: Store, shared: bool) -> Arc<dyn Sink> {
    let options = ParquetOptions {
        shared,
        ..ParquetOptions::default()
    };
    Arc::new(ParquetSink::new(store, options))
}

fn local(path: &Path) -> Store {
    Store::open(path.to_str().unwrap(), &Default::default()).unwrap()
}

/// The `id` and `name` columns of batches.
pub(crate) fn pairs(batches: &[RecordBatch]) -> Vec<conformance::Row> {
    let pairs = batches.iter().flat_map(|rows| {
        let ids = rows["id"].as_primitive::<Int64Type>().clone();
        let names = arrow::compute::cast(&rows["name"], &arrow::datatypes::DataType::Utf8).unwrap();
        (0..rows.num_rows()).map(move |row| {
            let names = names.as_string::<i32>();
            let name = (!names.is_null(row)).then(|| names.value(row).to_owned());
            (ids.value(row), name)
        })
    });
    pairs.collect()
}

/// Reads a location as this crate's table does. `options` are those of its store.
pub(crate) async fn through_manifests(url: &str, options: &str) -> Vec<conformance::Row> {
    let context = KafkaSessionBuilder::new().build().unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id BIGINT, name TEXT) STORED AS PARQUET LOCATION '{url}' {options}"
    );
    context.sql(&create).await.unwrap();
    let rows = context.sql("SELECT id, name FROM t").await.unwrap();
    pairs(&rows.collect().await.unwrap())
}

/// Reads every visible file of a folder.
fn as_plain_files(folder: &Path) -> Vec<conformance::Row> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return vec![];
    };
    let mut found = vec![];
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with(['_', '.']) {
            continue;
        }
        if path.is_dir() {
            found.extend(as_plain_files(&path));
        } else {
            let file = std::fs::File::open(&path).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
            let rows: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
            found.extend(pairs(&rows));
        }
    }
    found
}

fn fixture(plain: bool) -> Fixture {
    let folder = Arc::new(TempDir::new().unwrap());
    let root = folder.path().to_owned();
    Fixture::new(
        {
            let root = root.clone();
            move |target, shared| {
                let sink = sink(local(&root.join(target)), shared);
                async move { sink }
            }
        },
        move |target| {
            let _keep = &folder;
            let path = root.join(target);
            async move {
                match plain {
                    true => as_plain_files(&path),
                    false => through_manifests(path.to_str().unwrap(), "").await,
                }
            }
        },
    )
}

mod conforms {
    sink_conformance!(super::fixture(false));
}

mod conforms_for_plain_readers {
    sink_conformance!(super::fixture(true));
}

/// The sorted ids that other programs read at a place, by program.
pub(crate) fn other_readers(arguments: &[&str]) -> Vec<(String, Vec<i64>)> {
    let script = repository().join("tests/jobs/readers.py");
    let output = Command::new(s3::python())
        .arg(script)
        .args(arguments)
        .output()
        .expect("Python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let found: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&output.stdout).expect("a line of JSON");
    let found = found.into_iter();
    let ids = |value| serde_json::from_value(value).expect("numbers");
    found.map(|(reader, value)| (reader, ids(value))).collect()
}

fn assert_others_read(folder: &Path, expected: &[i64], when: &str) {
    for (reader, ids) in other_readers(&[folder.to_str().unwrap(), "id"]) {
        assert_eq!(ids, expected, "{reader} {when}");
    }
}

/// Set for the process that shall crash: the location.
const CHILD: &str = "DATAFUSION_KAFKA_TEST_PARQUET";

/// Delivers the next batch of five rows, as a job's process would.
async fn deliver_next(store: Store) {
    let sink = sink(store, false);
    let done = sink.open(&job("job")).await.unwrap();
    let number = done.as_ref().map_or(0, |done| done.batch + 1);
    let from = number as i64 * 5;
    let previous = done.map(|_| from);
    let mut next = batch(number, &[(0, previous, from + 5)]);
    next.attempt = format!("{:032x}", std::process::id());
    let ids: Vec<i64> = (from..from + 5).collect();
    deliver(&sink, &next, &[&ids[..3], &ids[3..]])
        .await
        .unwrap();
}

/// Runs this test's own program again to deliver a batch. Returns whether it succeeded.
pub(crate) fn deliver_in_a_process(test: &str, place: &str, fault: Option<&str>) -> bool {
    let mut child = Command::new(std::env::current_exe().expect("this test is a file"));
    child
        .args(["--exact", "--nocapture", test])
        .env(CHILD, place);
    match fault {
        Some(fault) => child.env("KAFKA_SQL_FAULT", fault),
        None => child.env_remove("KAFKA_SQL_FAULT"),
    };
    let output = child.output().expect("this test can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let crashed = said.contains("crash at ");
    assert!(output.status.success() || crashed, "{said}");
    output.status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_readers_see_whole_batches_after_every_crash() {
    if let Ok(place) = std::env::var(CHILD) {
        return deliver_next(local(Path::new(&place))).await;
    }
    let test = "parquet::other_readers_see_whole_batches_after_every_crash";
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("target");
    std::fs::create_dir(&place).unwrap();
    let url = place.to_str().unwrap();
    let mut batches = 0;
    // Whether the batch is committed, and how many of its rows, in two files, may be published.
    for (fault, committed, published) in [
        ("parquet-file-staged", false, &[0][..]),
        ("parquet-file-staged:2", false, &[0]),
        ("manifest-before-put", false, &[0]),
        ("manifest-after-put", true, &[0]),
        // Files are published in parallel.
        ("parquet-file-published", true, &[2, 3, 5]),
        ("parquet-file-published:2", true, &[5]),
    ] {
        assert!(!deliver_in_a_process(test, url, Some(fault)), "{fault}");
        let before: Vec<i64> = (0..batches * 5).collect();
        let newest = batches * 5..batches * 5 + 5;
        for (reader, ids) in other_readers(&[url, "id"]) {
            let (old, new) = ids.split_at(before.len());
            assert_eq!(old, before, "{reader} after {fault}");
            assert!(
                published.contains(&new.len()),
                "{reader} after {fault}: {new:?}"
            );
            let known = new.iter().all(|id| newest.contains(id));
            let once = new.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(known && once, "{reader} after {fault}: {new:?}");
        }
        batches += i64::from(committed);
        let mut ours: Vec<i64> = through_manifests(url, "")
            .await
            .into_iter()
            .map(|r| r.0)
            .collect();
        ours.sort_unstable();
        assert_eq!(ours, (0..batches * 5).collect::<Vec<_>>(), "after {fault}");

        assert!(deliver_in_a_process(test, url, None));
        batches += 1;
        let all: Vec<i64> = (0..batches * 5).collect();
        assert_others_read(&place, &all, &format!("after {fault} and a restart"));
    }
    let staged = local(&place).list("_staged").await.unwrap();
    assert_eq!(staged.len(), 2, "those of the newest batch: {staged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_readers_know_the_folders_of_columns() {
    let folder = TempDir::new().unwrap();
    let options = ParquetOptions {
        partition_by: vec!["name".to_owned()],
        ..ParquetOptions::default()
    };
    let sink: Arc<dyn Sink> = Arc::new(ParquetSink::new(local(folder.path()), options));
    sink.open(&job("job")).await.unwrap();
    let ids: Vec<i64> = (0..12).collect();
    deliver(&sink, &batch(0, &[(0, None, 12)]), &[&ids])
        .await
        .unwrap();
    assert_others_read(folder.path(), &ids, "in folders");
    let (path, names) = (folder.path().to_str().unwrap(), "SELECT id, name FROM t");
    let context = KafkaSessionBuilder::new().build().unwrap();
    let create = format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{path}'");
    context.sql(&create).await.unwrap();
    let rows = context.sql(names).await.unwrap().collect().await.unwrap();
    let mut found = pairs(&rows);
    found.sort();
    let name = |id: &i64| (id % 3 != 0).then(|| format!("name {id}"));
    let expected: Vec<_> = ids.iter().map(|id| (*id, name(id))).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn footers_say_where_rows_come_from() {
    let folder = TempDir::new().unwrap();
    let sink = sink(local(folder.path()), false);
    sink.open(&job("job")).await.unwrap();
    deliver(&sink, &batch(0, &[(0, None, 2)]), &[&[1, 2]])
        .await
        .unwrap();
    let names = local(folder.path()).list("").await.unwrap();
    let name = names.iter().find(|name| name.starts_with("part-")).unwrap();
    let file = std::fs::File::open(folder.path().join(name)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let pairs = reader
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .unwrap();
    let value = |key: &str| {
        let pair = pairs.iter().find(|pair| pair.key == key).unwrap();
        pair.value.clone().unwrap()
    };
    assert_eq!(
        (value("kafka.job"), value("kafka.batch")),
        ("job".to_owned(), "0".to_owned())
    );
    let ranges: serde_json::Value = serde_json::from_str(&value("kafka.ranges")).unwrap();
    assert_eq!(
        (&ranges[0]["topic"], &ranges[0]["end"]),
        (&"orders".into(), &2.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_lists_and_removes_orphans() {
    let folder = TempDir::new().unwrap();
    let store = local(folder.path());
    let sink = sink(store.clone(), false);
    sink.open(&job("job")).await.unwrap();
    stage(&sink, &batch(0, &[(0, None, 9)]), &[&[1, 2]])
        .await
        .unwrap();
    deliver(&sink, &batch(0, &[(0, None, 2)]), &[&[1, 2]])
        .await
        .unwrap();
    stage(&sink, &batch(1, &[(0, Some(2), 9)]), &[&[3]])
        .await
        .unwrap();
    let clean = |flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
            .args(["clean", folder.path().to_str().unwrap()])
            .args(flags)
            .args(["--format", "csv"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text.lines().count() - 1
    };
    assert_eq!(clean(&[]), 0, "they are younger than an hour");
    assert_eq!(clean(&["--older-than", "0s", "--dry-run"]), 3);
    // One of them is the file of the newest batch, which is published.
    assert_eq!(clean(&["--older-than", "0s"]), 3);
    assert_eq!(clean(&["--older-than", "0s"]), 0);
    assert!(
        parquet::clean(&store, Duration::ZERO, true)
            .await
            .unwrap()
            .is_empty()
    );
    let rows = through_manifests(folder.path().to_str().unwrap(), "").await;
    assert_eq!(rows.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let sink = sink(local(&file.join("target")), false);
    let error = sink.open(&job("job")).await.unwrap_err().to_string();
    assert!(error.contains("file/target"), "{error}");
    let empty = stream_of(Vec::<RecordBatch>::new());
    let error = sink
        .stage(&batch(0, &[(0, None, 1)]), 0, empty)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("before it was opened"),
        "{error}"
    );
}
