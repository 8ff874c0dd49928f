//! The parquet sink on local folders and an object store in memory.

mod files;
mod states;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;

use datafusion::execution::memory_pool::MemoryPool;

use super::*;
use crate::sink::{BatchRanges, OpenSink, SourcePartition, SourceRange, Staged};
use crate::store::Created;

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

pub(super) fn batch(number: u64, from: Option<i64>, end: i64) -> BatchRanges {
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

async fn open(store: &Store, options: ParquetOptions) -> Arc<dyn OpenSink> {
    let sink = ParquetSink::new(store.clone(), options);
    sink.open(&job()).await.unwrap().sink
}

async fn stage(sink: &Arc<dyn OpenSink>, batch: &BatchRanges, rows: RecordBatch) -> Vec<Staged> {
    let schema = rows.schema();
    let stream = futures::stream::iter([Ok(rows)]);
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema, stream));
    vec![sink.stage(batch, 0, stream).await.unwrap()]
}

async fn deliver(sink: &Arc<dyn OpenSink>, batch: &BatchRanges, ids: std::ops::Range<i64>) {
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
