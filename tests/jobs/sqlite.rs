//! SQLite as a sink.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::sqlite::SqliteSink;
use datafusion_kafka::sink::{Held, Sink, SinkJob};
use datafusion_kafka::{Error, ErrorKind};
use futures::TryStreamExt;
use tempfile::TempDir;

use crate::conformance::{self, Fixture, batch, deliver, job, stage, stream_of};
use crate::samples;

fn fixture() -> Fixture {
    let folder = Arc::new(TempDir::new().unwrap());
    let file = folder.path().join("sink.db");
    let path = file.clone();
    Fixture::new(
        move |target, shared| {
            let sink = sink(&file, &target).with_shared(shared);
            async move { Arc::new(sink) as Arc<dyn Sink> }
        },
        move |target| {
            let _keep = &folder;
            let rows = rows(&path, &target);
            async move { rows }
        },
    )
}

fn sink(path: &Path, table: &str) -> SqliteSink {
    SqliteSink::new(path, table).unwrap()
}

fn connection(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

fn rows(path: &Path, table: &str) -> Vec<conformance::Row> {
    let connection = connection(path);
    let known: i64 = connection
        .query_row(
            "SELECT count(*) FROM sqlite_master WHERE name = ?1",
            [table],
            |row| row.get(0),
        )
        .unwrap();
    if known == 0 {
        return Vec::new();
    }
    let mut sql = connection
        .prepare(&format!("SELECT id, name FROM \"{table}\""))
        .unwrap();
    let rows = sql.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

mod conforms {
    sink_conformance!(super::fixture());
}

#[tokio::test]
async fn offsets_that_an_earlier_version_has_written_are_taken_over() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sink.db");
    let sql = |sql: String| connection(&path).execute_batch(&sql).unwrap();
    let open = || as_dyn(sink(&path, "t"));
    conformance::takes_over_earlier_offsets(open, "kafka_offsets", sql).await;
}

fn as_dyn(sink: SqliteSink) -> Arc<dyn Sink> {
    Arc::new(sink)
}

async fn deliver_one(sink: &Arc<dyn Sink>, rows: RecordBatch) -> datafusion_kafka::Result<()> {
    let job = SinkJob {
        name: "job".to_owned(),
        schema: rows.schema(),
    };
    sink.open(&job).await?;
    let first = batch(0, &[(0, None, 1)]);
    let staged = sink.stage(&first, 0, samples::stream(rows)).await?;
    sink.commit(&first, vec![staged]).await
}

#[tokio::test]
async fn all_types_are_kept_and_read_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("types.db");
    let sink = as_dyn(sink(&path, "types"));
    deliver_one(&sink, samples::all_types()).await.unwrap();
    let texts = samples::texts(&path.display().to_string(), "SQLITE", "types").await;
    let expected = [
        ("nothing", "NULL"),
        ("flag", "true"),
        ("i8", "-128"),
        ("u8", "255"),
        ("u32", "4294967295"),
        ("u64", "9223372036854775807"),
        ("f32", "1.5"),
        ("f64", "-0.1"),
        ("d128", "-123.45"),
        (
            "d256",
            "12345678901234567890123456789012345678901234567890.01",
        ),
        ("utf8", "grüße"),
        ("large", "large"),
        ("view", "view"),
        ("dictionary", "word"),
        ("bytes", "00ff"),
        ("fixed", "0102"),
        ("date32", "2026-01-14"),
        ("date64", "2026-01-14"),
        ("time32", "01:02:03.004"),
        ("time64", "01:02:03.000004"),
        ("ts_s", "2026-01-14T00:00:00"),
        ("ts_ms", "2026-01-14T00:00:00.001"),
        ("ts_us", "2026-01-14T00:00:00.000001"),
        ("ts_ns", "2026-01-14T00:00:00.000001000"),
        ("ts_zone", "2026-01-14T00:00:00.001Z"),
        ("interval", "P14M3DT0.000001S"),
        ("duration", "P0M0DT1.5S"),
        ("ints", "[1,null,3]"),
        ("words", "[\"a\",\"b\"]"),
        ("point", "{\"x\":1,\"y\":null}"),
    ];
    samples::assert_texts(&texts, &expected);
}

#[tokio::test]
async fn held_has_the_values_of_the_job() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("held.db");
    let sink = as_dyn(sink(&path, "held"));
    let rows = samples::all_types();
    let wanted = rows
        .project(&[1, 2, 3, 5, 6, 7, 8, 10, 13, 16, 21, 24])
        .unwrap();
    deliver_one(&sink, wanted.clone()).await.unwrap();
    let Held::Among(held) = sink
        .held(&batch(0, &[(0, None, 1)]), &wanted.schema())
        .await
        .unwrap()
    else {
        panic!("the table can be read");
    };
    let held: Vec<RecordBatch> = held.try_collect().await.unwrap();
    assert_eq!(held.len(), 1);
    for (column, field) in wanted.schema().fields().iter().enumerate() {
        let found = arrow::compute::cast(held[0].column(column), field.data_type()).unwrap();
        assert_eq!(&found, wanted.column(column), "{field}");
    }
}

#[tokio::test]
async fn values_that_cannot_be_kept_are_named() {
    let folder = TempDir::new().unwrap();
    for (column, rows, expected) in samples::unfit_for_sqlite() {
        let sink = as_dyn(sink(&folder.path().join("unfit.db"), column));
        let error = deliver_one(&sink, rows).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sink, "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("column '{column}'")), "{text}");
        assert!(text.contains(expected), "{text}");
        assert!(
            !matches!(
                error,
                Error::Sink {
                    transient: true,
                    ..
                }
            ),
            "{text}"
        );
    }
}

#[tokio::test]
async fn columns_that_do_not_fit_are_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("fit.db");
    connection(&path)
        .execute_batch("CREATE TABLE orders (id TEXT, NAME TEXT, shop TEXT NOT NULL, extra INT)")
        .unwrap();
    let error = sink(&path, "orders").open(&job("job")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query);
    let text = error.to_string();
    for part in [
        "column 'id' is Int64 in the query and TEXT in the table; it goes into INTEGER or NUMERIC",
        "'shop' (TEXT NOT NULL without a default) is not in the query",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("'name'"), "names ignore case: {text}");
}

#[tokio::test]
async fn the_last_row_of_a_key_stays() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("upsert.db");
    let sink = as_dyn(sink(&path, "state").with_upsert_key(vec!["id".to_owned()]));
    sink.open(&job("job")).await.unwrap();
    let named = |rows: &[(i64, &str)]| samples::rows(rows);
    let first = batch(0, &[(0, None, 3)]);
    let staged = sink
        .stage(
            &first,
            0,
            stream_of([named(&[(1, "a"), (2, "b"), (1, "c")])]),
        )
        .await
        .unwrap();
    sink.commit(&first, vec![staged]).await.unwrap();
    let second = batch(1, &[(0, Some(3), 4)]);
    let staged = sink
        .stage(&second, 0, stream_of([named(&[(2, "d"), (3, "e")])]))
        .await
        .unwrap();
    sink.commit(&second, vec![staged]).await.unwrap();
    let mut found = rows(&path, "state");
    found.sort();
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(found, [(1, name("c")), (2, name("d")), (3, name("e"))]);
}

#[tokio::test]
async fn an_upsert_needs_a_key_of_the_table() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("nokey.db");
    connection(&path)
        .execute_batch("CREATE TABLE state (id INTEGER, name TEXT)")
        .unwrap();
    let error = |key: &str| {
        let sink = sink(&path, "state").with_upsert_key(vec![key.to_owned()]);
        async move { sink.open(&job("job")).await.unwrap_err() }
    };
    let unknown = error("ident").await;
    assert!(
        unknown.to_string().contains("there are id, name"),
        "{unknown}"
    );
    let missing = error("id").await;
    assert_eq!(missing.kind(), ErrorKind::Query, "{missing}");
    assert!(
        missing.to_string().contains("no primary key or unique"),
        "{missing}"
    );
}

#[tokio::test]
async fn a_violated_constraint_commits_nothing_and_is_permanent() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("constraint.db");
    connection(&path)
        .execute_batch("CREATE TABLE t (id INTEGER CHECK (id < 10), name TEXT)")
        .unwrap();
    let sink = as_dyn(sink(&path, "t"));
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 2)]);
    let error = deliver(&sink, &first, &[&[1, 11]]).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Sink {
                transient: false,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("CHECK"), "{error}");
    assert!(rows(&path, "t").is_empty());
    assert_eq!(sink.open(&job("job")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_stands_still_is_waited_for_and_then_an_error_that_passes() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("busy.db");
    let sink = as_dyn(sink(&path, "t"));
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 2)]);
    let frozen = connection(&path);
    frozen.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Staging does not need the lock.
    let staged = stage(&sink, &first, &[&[1, 2]]).await.unwrap();
    let error = sink.commit(&first, staged.clone()).await.unwrap_err();
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
    assert!(error.to_string().contains("another process"), "{error}");
    frozen.execute_batch("ROLLBACK").unwrap();
    sink.commit(&first, staged).await.unwrap();
    assert_eq!(rows(&path, "t").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_streamed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("large.db");
    let sink = as_dyn(sink(&path, "t"));
    sink.open(&job("job")).await.unwrap();
    let first = batch(0, &[(0, None, 100_000)]);
    let staging = sink.stage(&first, 0, samples::many(100_000));
    let staged = tokio::time::timeout(Duration::from_secs(120), staging).await;
    sink.commit(&first, vec![staged.unwrap().unwrap()])
        .await
        .unwrap();
    assert_eq!(rows(&path, "t").len(), 100_000);
}

#[tokio::test]
async fn tables_are_made_and_read_in_sql() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sql.db");
    let sink = as_dyn(sink(&path, "orders"));
    sink.open(&job("job")).await.unwrap();
    deliver(&sink, &batch(0, &[(0, None, 3)]), &[&[1, 2, 3]])
        .await
        .unwrap();
    let context = KafkaSessionBuilder::new().build().unwrap();
    let run = |sql: String| {
        let context = context.clone();
        async move { context.sql(&sql).await?.collect().await }
    };
    let create = |options: &str| {
        format!(
            "CREATE OR REPLACE EXTERNAL TABLE t STORED AS SQLITE LOCATION '{}' OPTIONS ({options})",
            path.display()
        )
    };
    run(create("'table' 'orders', 'upsert.key' 'id'"))
        .await
        .unwrap();
    let count = run("SELECT count(*) AS n FROM t".to_owned()).await.unwrap();
    samples::assert_number(&count, 3);
    let some = run("SELECT id FROM t WHERE name = 'name 2' LIMIT 1".to_owned()).await;
    samples::assert_number(&some.unwrap(), 2);
    let insert = run("INSERT INTO t VALUES (4, 'x')".to_owned())
        .await
        .unwrap_err();
    assert!(insert.to_string().contains("kafka-sql run"), "{insert}");
    let unknown = run(create("'table' 'orders', 'upsert.keys' 'id'"))
        .await
        .unwrap_err();
    assert!(
        unknown.to_string().contains("did you mean 'upsert.key'"),
        "{unknown}"
    );
    let missing = run(create("'shared' 'true'")).await.unwrap_err();
    assert!(missing.to_string().contains("option 'table'"), "{missing}");
}
