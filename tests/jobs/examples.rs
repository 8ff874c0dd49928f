//! The examples that users read, `sql-examples/jobs` and `examples/jobs`, on real servers.

#[path = "examples/rust.rs"]
mod rust;
#[path = "examples/sql.rs"]
mod sql;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{KafkaOptions, KafkaServer};

/// The broker of the examples. They name their topics as users do, and must not share the topic in which
/// Kafka sinks record their ends with tests that crash.
fn broker() -> &'static KafkaServer {
    static BROKER: OnceLock<KafkaServer> = OnceLock::new();
    BROKER.get_or_init(|| KafkaServer::start(KafkaOptions::default()))
}

/// The start of the current minute, in ms since the epoch; the same for the whole process.
fn now_minute_ms() -> i64 {
    static NOW: OnceLock<i64> = OnceLock::new();
    *NOW.get_or_init(|| {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        now_ms - now_ms.rem_euclid(60_000)
    })
}

/// The time this many minutes and seconds before [`now_minute_ms`].
fn at(minutes_ago: i64, seconds: i64) -> i64 {
    now_minute_ms() - minutes_ago * 60_000 + seconds * 1_000
}

/// `2026-01-14`, in UTC.
fn day_of(timestamp_ms: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(timestamp_ms).unwrap();
    timestamp.strftime("%Y-%m-%d").to_string()
}

/// `2026-01-14T12:30:00.000Z`, as SQLite stores timestamps.
fn text_of(timestamp_ms: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(timestamp_ms).unwrap();
    timestamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Rows of text, sorted.
fn sorted<const N: usize>(
    rows: impl IntoIterator<Item = [impl Into<String>; N]>,
) -> Vec<Vec<String>> {
    let rows = rows.into_iter().map(|row| row.map(Into::into).to_vec());
    let mut rows: Vec<Vec<String>> = rows.collect();
    rows.sort();
    rows
}

/// The rows of a query on a SQLite file, as text, sorted.
fn sqlite(file: &Path, query: &str) -> Vec<Vec<String>> {
    let connection = rusqlite::Connection::open(file).unwrap();
    let mut query = connection.prepare(query).unwrap();
    let columns = query.column_count();
    let text = |value: rusqlite::types::Value| match value {
        rusqlite::types::Value::Null => "NULL".to_owned(),
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        other => panic!("unexpected in an example: {other:?}"),
    };
    let rows = query.query_map([], |row| {
        (0..columns).map(|c| Ok(text(row.get(c)?))).collect()
    });
    let mut rows: Vec<Vec<String>> = rows.unwrap().map(Result::unwrap).collect();
    rows.sort();
    rows
}

/// The rows that psql printed, sorted.
fn lines(text: &str) -> Vec<Vec<String>> {
    let rows = text
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect());
    let mut rows: Vec<Vec<String>> = rows.collect();
    rows.sort();
    rows
}

/// The parquet files that ordinary readers see in a folder: their Hive folder and path, sorted.
fn published(folder: &Path) -> Vec<(String, PathBuf)> {
    let hidden = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with('_');
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut files = vec![];
    for hive in entries(folder) {
        if hidden(&hive) {
            continue;
        }
        let name = hive.file_name().unwrap().to_str().unwrap().to_owned();
        files.extend(entries(&hive).into_iter().map(|file| (name.clone(), file)));
    }
    files.sort();
    files
}

/// `day=… partition offset value` for all rows in such a folder, with duplicates.
async fn landed(folder: &Path) -> Vec<Vec<String>> {
    use arrow::array::AsArray;
    use datafusion::prelude::{ParquetReadOptions, SessionContext};
    let mut rows = vec![];
    for (day, file) in published(folder) {
        let frame = SessionContext::new()
            .read_parquet(file.to_str().unwrap(), ParquetReadOptions::default())
            .await
            .unwrap();
        let batches = frame
            .select_exprs(&[
                "CAST(partition AS VARCHAR)",
                "CAST(\"offset\" AS VARCHAR)",
                "CAST(value AS VARCHAR)",
            ])
            .unwrap()
            .collect()
            .await
            .unwrap();
        for batch in batches {
            let columns: Vec<_> = batch
                .columns()
                .iter()
                .map(|c| {
                    let text = arrow::compute::cast(c, &arrow::datatypes::DataType::Utf8).unwrap();
                    text.as_string::<i32>().clone()
                })
                .collect();
            for row in 0..batch.num_rows() {
                let cells = columns.iter().map(|column| column.value(row).to_owned());
                rows.push([day.clone()].into_iter().chain(cells).collect());
            }
        }
    }
    rows.sort();
    rows
}
