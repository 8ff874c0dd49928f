//! The batches of offset logs as a table.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_kafka::driver::{CommitRecord, Intent, OffsetLog};
use datafusion_kafka::store::Store;

use crate::failure::{Exit, Failure};

/// One batch of a job.
struct Row {
    intent: Intent,
    commit: Option<CommitRecord>,
}

/// The batches of a job's offset log, or of every one in a folder; the newest last.
///
/// # Errors
/// When there is no log, or one cannot be read.
pub(crate) async fn table(url: &str) -> Result<RecordBatch, Failure> {
    let mut rows = vec![];
    let mut found = read(url, &mut rows).await?;
    if !found {
        for folder in folders(url) {
            found |= read(&folder, &mut rows).await?;
        }
    }
    if !found {
        return Err(Failure::new(
            Exit::DataUnavailable,
            format!("{url}: there is no offset log of a job"),
        ));
    }
    batch(&rows)
}

/// The folders in a local folder; an object store's logs are named one by one.
fn folders(url: &str) -> Vec<String> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    let Ok(entries) = std::fs::read_dir(Path::new(path)) else {
        return vec![];
    };
    let mut folders: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("job.json").exists())
        .map(|entry| entry.path().display().to_string())
        .collect();
    folders.sort();
    folders
}

async fn read(url: &str, rows: &mut Vec<Row>) -> Result<bool, Failure> {
    let log = OffsetLog::new(Store::open(url, &HashMap::new())?);
    if log.job().await?.is_none() {
        return Ok(false);
    }
    for batch in log.intents().await? {
        rows.push(Row {
            intent: log.intent(batch).await?,
            commit: log.commit(batch).await?,
        });
    }
    Ok(true)
}

fn batch(rows: &[Row]) -> Result<RecordBatch, Failure> {
    let progress = |row: &Row| row.commit.as_ref().map(|c| c.progress.clone());
    let text = |of: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<StringArray>())
    };
    let count = |of: &dyn Fn(&Row) -> Option<u64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<UInt64Array>())
    };
    let created = rows.iter().map(|row| Some(row.intent.created_ms));
    let created = created.collect::<TimestampMillisecondArray>();
    let durations = rows.iter().map(|row| progress(row).map(|p| p.duration_ms));
    let offsets = rows.iter().map(|row| {
        let sources = row.intent.sources.iter();
        Some(sources.fold(0i64, |sum, s| sum.saturating_add(s.snapshot.len())))
    });
    let behind = rows.iter().map(|row| {
        let progress = progress(row)?;
        let sources = progress.sources.iter().filter_map(|s| s.behind);
        sources.map(|behind| behind.max).max()
    });
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("job", text(&|row| Some(row.intent.job.clone()))),
        ("batch", count(&|row| Some(row.intent.batch))),
        (
            "state",
            text(&|row| {
                let state = if row.commit.is_some() {
                    "committed"
                } else {
                    "fixed"
                };
                Some(state.to_owned())
            }),
        ),
        ("created", Arc::new(created.with_timezone("UTC"))),
        ("duration_ms", Arc::new(durations.collect::<Float64Array>())),
        ("offsets", Arc::new(offsets.collect::<Int64Array>())),
        ("records", count(&|row| progress(row).map(|p| p.records()))),
        ("rows", count(&|row| progress(row).map(|p| p.rows()))),
        ("behind", Arc::new(behind.collect::<Int64Array>())),
        ("ranges", text(&|row| Some(ranges(&row.intent)))),
    ];
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| {
            let data_type = if *name == "created" {
                timestamp.clone()
            } else {
                column.data_type().clone()
            };
            Field::new(*name, data_type, true)
        })
        .collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

/// `orders[0] 5..9, orders[1] 0..3`.
fn ranges(intent: &Intent) -> String {
    let ranges: Vec<String> = intent
        .sources
        .iter()
        .flat_map(|source| source.snapshot.offset_ranges())
        .filter(|range| !range.is_empty())
        .map(ToString::to_string)
        .collect();
    ranges.join(", ")
}
