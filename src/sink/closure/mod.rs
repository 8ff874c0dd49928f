//! A sink of one's own, from closures: `for_each_batch`.
//!
//! A job's driver calls the first closure for each execution partition of a batch, side by side, and
//! the second one, if there is one, when all partitions have succeeded. That serves both patterns of
//! Koeninger's article:
//!
//! - *idempotent*: the first closure writes rows under a key that a repetition writes again, such as
//!   topic, partition and offset. There is no second closure. See [`ForEachBatch::new`].
//! - *transactional*: the first closure prepares, the second writes results and offsets in one
//!   transaction of the user's store, and the store tells how far it got. See
//!   [`ForEachBatch::on_commit`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::future::BoxFuture;

use super::*;

#[cfg(test)]
mod tests;

/// Any error, for closures: `?` works on whatever their store reports.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

type OnRows<T> = dyn Fn(
        Arc<BatchRanges>,
        usize,
        SendableRecordBatchStream,
    ) -> BoxFuture<'static, Result<T, BoxError>>
    + Send
    + Sync;
type OnCommit<T> =
    dyn Fn(Arc<BatchRanges>, Vec<T>) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync;
type Recorded =
    dyn Fn(SinkJob) -> BoxFuture<'static, Result<Option<Committed>, BoxError>> + Send + Sync;

/// A [`Sink`] of closures; see the module's documentation for the patterns.
///
/// - An error of a closure fails the batch. One of this crate's passes unchanged, so that a closure
///   can say [`Error::Conflict`], or [`Error::Sink`] with `transient` for a batch to be tried again;
///   any other becomes an [`Error::Sink`] that is not.
/// - What the first closure returned is dropped when the batch is aborted.
/// - A batch whose ends are known to be recorded is not committed again.
pub struct ForEachBatch<T = ()> {
    name: String,
    guarantee: Guarantee,
    on_rows: Arc<OnRows<T>>,
    on_commit: Option<Arc<OnCommit<T>>>,
    recorded: Option<Arc<Recorded>>,
}

impl<T: Send + 'static> ForEachBatch<T> {
    /// A sink that calls `on_rows` with the batch, the execution partition and its rows.
    ///
    /// By itself it delivers at least once: after a crash a batch comes again, with exactly its
    /// ranges. Where that makes no difference, each row comes once:
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use std::sync::{Arc, Mutex};
    ///
    /// use datafusion::arrow::array::{AsArray, RecordBatch};
    /// use datafusion::arrow::datatypes::{Int32Type, Int64Type};
    /// use datafusion_kafka::sink::{ForEachBatch, Guarantee};
    /// use futures::TryStreamExt;
    ///
    /// // Keyed by partition and offset: to write a record again changes nothing.
    /// let store: Arc<Mutex<BTreeMap<(i32, i64), String>>> = Arc::default();
    /// let target = Arc::clone(&store);
    /// let sink = ForEachBatch::new("orders by offset", move |_batch, _partition, mut rows| {
    ///     let target = Arc::clone(&target);
    ///     async move {
    ///         while let Some(rows) = rows.try_next().await? {
    ///             let partitions = rows["partition"].as_primitive::<Int32Type>();
    ///             let offsets = rows["offset"].as_primitive::<Int64Type>();
    ///             let values = rows["value"].as_string::<i32>();
    ///             let mut target = target.lock().map_err(|_| "a writer died")?;
    ///             for row in 0..rows.num_rows() {
    ///                 let key = (partitions.value(row), offsets.value(row));
    ///                 target.insert(key, values.value(row).to_owned());
    ///             }
    ///         }
    ///         Ok(())
    ///     }
    /// })
    /// .guarantee(Guarantee::ExactlyOnce);
    /// # use datafusion::arrow::array::{Int32Array, Int64Array, StringArray, ArrayRef};
    /// # use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    /// # use datafusion_kafka::sink::{BatchRanges, Sink, SinkJob};
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let rows = RecordBatch::try_from_iter([
    /// #     ("partition", Arc::new(Int32Array::from(vec![0, 0])) as ArrayRef),
    /// #     ("offset", Arc::new(Int64Array::from(vec![7, 8]))),
    /// #     ("value", Arc::new(StringArray::from(vec!["a", "b"]))),
    /// # ])?;
    /// # let batch = BatchRanges { job: "j".into(), batch: 0, attempt: "1".into(), ranges: vec![] };
    /// # let open = sink.open(&SinkJob::new("j", rows.schema())).await?.sink;
    /// # for _crash in 0..2 {
    /// #     let stream = futures::stream::iter([Ok(rows.clone())]);
    /// #     let stream = Box::pin(RecordBatchStreamAdapter::new(rows.schema(), stream));
    /// #     let staged = open.stage(&batch, 0, stream).await?;
    /// #     open.commit(&batch, vec![staged]).await?;
    /// # }
    /// # assert_eq!(store.lock().unwrap().len(), 2);
    /// # assert_eq!(store.lock().unwrap()[&(0, 8)], "b");
    /// # Ok::<(), datafusion_kafka::sink::BoxError>(())
    /// # })?;
    /// # Ok::<(), datafusion_kafka::sink::BoxError>(())
    /// ```
    pub fn new<F, Fut>(name: impl Into<String>, on_rows: F) -> Self
    where
        F: Fn(Arc<BatchRanges>, usize, SendableRecordBatchStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, BoxError>> + Send + 'static,
    {
        Self {
            name: name.into(),
            guarantee: Guarantee::AtLeastOnce,
            on_rows: Arc::new(move |batch, partition, rows| {
                Box::pin(on_rows(batch, partition, rows))
            }),
            on_commit: None,
            recorded: None,
        }
    }

    /// Calls `on_commit` once all partitions of a batch have succeeded, with what they returned, in
    /// their order.
    ///
    /// With a store that has transactions, results and offsets go into one, and each row comes once.
    /// Two drivers cannot both succeed, because an offset is moved only from where the batch starts:
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # fn main() -> Result<(), datafusion_kafka::sink::BoxError> {
    /// use std::sync::{Arc, Mutex};
    ///
    /// use datafusion_kafka::sink::{Committed, ForEachBatch, Guarantee, Position, SourcePartition};
    /// use futures::TryStreamExt;
    /// use rusqlite::{Connection, params};
    ///
    /// let store = Connection::open_in_memory()?;
    /// store.execute_batch(
    ///     "create table totals (batch integer primary key, n integer);
    ///      create table ends (source text, topic text, part integer, next integer, batch integer,
    ///                         primary key (source, topic, part));",
    /// )?;
    /// let store = Arc::new(Mutex::new(store));
    /// let (writes, reads) = (Arc::clone(&store), Arc::clone(&store));
    ///
    /// let sink = ForEachBatch::new("totals", |_batch, _partition, mut rows| async move {
    ///     let mut count = 0;
    ///     while let Some(rows) = rows.try_next().await? {
    ///         count += rows.num_rows() as i64;
    ///     }
    ///     Ok(count)
    /// })
    /// .on_commit(move |batch, counts: Vec<i64>| {
    ///     let store = Arc::clone(&writes);
    ///     async move {
    ///         let mut store = store.lock().map_err(|_| "a writer died")?;
    ///         let transaction = store.transaction()?;
    ///         let number = i64::try_from(batch.batch)?;
    ///         let count: i64 = counts.iter().sum();
    ///         transaction.execute("insert into totals values (?1, ?2)", [number, count])?;
    ///         for range in batch.moved() {
    ///             let of = &range.partition;
    ///             let moved = match range.previous {
    ///                 Some(previous) => transaction.execute(
    ///                     "update ends set next = ?1, batch = ?2
    ///                      where source = ?3 and topic = ?4 and part = ?5 and next = ?6",
    ///                     params![range.end, number, &*of.source, &*of.topic, of.partition, previous],
    ///                 )?,
    ///                 None => transaction.execute(
    ///                     "insert or ignore into ends values (?1, ?2, ?3, ?4, ?5)",
    ///                     params![&*of.source, &*of.topic, of.partition, range.end, number],
    ///                 )?,
    ///             };
    ///             if moved != 1 {
    ///                 return Err("another driver has gone on".into());
    ///             }
    ///         }
    ///         transaction.commit()?;
    ///         Ok(())
    ///     }
    /// })
    /// .recorded(move |_job| {
    ///     let store = Arc::clone(&reads);
    ///     async move {
    ///         let store = store.lock().map_err(|_| "a writer died")?;
    ///         let mut query = store.prepare("select source, topic, part, next, batch from ends")?;
    ///         let mut rows = query.query([])?;
    ///         let mut committed: Option<Committed> = None;
    ///         while let Some(row) = rows.next()? {
    ///             let partition = SourcePartition {
    ///                 source: row.get::<_, String>(0)?.into(),
    ///                 topic: row.get::<_, String>(1)?.into(),
    ///                 partition: row.get(2)?,
    ///             };
    ///             let batch = u64::try_from(row.get::<_, i64>(4)?)?;
    ///             let so_far = committed.get_or_insert(Committed::new(batch, Default::default()));
    ///             so_far.batch = so_far.batch.max(batch);
    ///             so_far.ends.insert(partition, Position {
    ///                 next: row.get(3)?, topic_id: None, leader_epoch: None,
    ///             });
    ///         }
    ///         Ok(committed)
    ///     }
    /// })
    /// .guarantee(Guarantee::ExactlyOnce);
    /// # use datafusion::arrow::array::{Int64Array, RecordBatch, ArrayRef};
    /// # use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    /// # use datafusion_kafka::sink::{BatchRanges, Sink, SinkJob, SourceRange};
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let column = Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef;
    /// # let rows = RecordBatch::try_from_iter([("offset", column)])?;
    /// # let partition = SourcePartition { source: "s".into(), topic: "t".into(), partition: 0 };
    /// # let range = |previous, start, end| SourceRange {
    /// #     partition: partition.clone(), previous, start, end, topic_id: None, leader_epoch: None,
    /// # };
    /// # let batch = |batch, range| BatchRanges {
    /// #     job: "j".into(), batch, attempt: format!("{batch}"), ranges: vec![range],
    /// # };
    /// # let job = SinkJob::new("j", rows.schema());
    /// # let opened = sink.open(&job).await?;
    /// # assert_eq!(opened.committed, None);
    /// # let open = opened.sink;
    /// # let stage = async |of: &BatchRanges| {
    /// #     let stream = futures::stream::iter([Ok(rows.clone())]);
    /// #     open.stage(of, 0, Box::pin(RecordBatchStreamAdapter::new(rows.schema(), stream))).await
    /// # };
    /// # let first = batch(0, range(None, 7, 9));
    /// # open.commit(&first, vec![stage(&first).await?]).await?;
    /// # assert_eq!(sink.open(&job).await?.committed.map(|c| c.ends), Some(first.ends()));
    /// # open.commit(&first, vec![stage(&first).await?]).await?;
    /// # let second = batch(1, range(Some(9), 9, 11));
    /// # open.commit(&second, vec![stage(&second).await?]).await?;
    /// # let overtaken = batch(2, range(Some(9), 9, 12));
    /// # let refused = open.commit(&overtaken, vec![stage(&overtaken).await?]).await.unwrap_err();
    /// # assert_eq!(refused.kind(), datafusion_kafka::ErrorKind::Conflict);
    /// # let total = store.lock().unwrap().query_row("select sum(n) from totals", [], |r| r.get(0));
    /// # assert_eq!(total, Ok(4_i64));
    /// # Ok::<(), datafusion_kafka::sink::BoxError>(())
    /// # })
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn on_commit<F, Fut>(mut self, on_commit: F) -> Self
    where
        F: Fn(Arc<BatchRanges>, Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.on_commit = Some(Arc::new(move |batch, results| {
            Box::pin(on_commit(batch, results))
        }));
        self
    }

    /// Asks `recorded` how far a job got, before its first batch and after each failure.
    ///
    /// Without it the driver's offset log alone knows: a lost log begins the job again.
    #[must_use]
    pub fn recorded<F, Fut>(mut self, recorded: F) -> Self
    where
        F: Fn(SinkJob) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Committed>, BoxError>> + Send + 'static,
    {
        self.recorded = Some(Arc::new(move |job| Box::pin(recorded(job))));
        self
    }

    /// What the closures promise; at-least-once unless said otherwise.
    #[must_use]
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.guarantee = guarantee;
        self
    }
}

#[async_trait]
impl<T: Send + 'static> Sink for ForEachBatch<T> {
    fn target(&self) -> String {
        format!("for_each_batch '{}'", self.name)
    }

    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    fn records_ends(&self) -> bool {
        self.recorded.is_some()
    }

    async fn open(&self, job: &SinkJob) -> Result<Opened> {
        let (known, committed) = match &self.recorded {
            None => (None, None),
            Some(recorded) => {
                let committed = recorded(job.clone()).await.map_err(|e| {
                    let operation = format!("asking how far job '{}' got", job.name);
                    failed(&self.target(), operation, e)
                })?;
                (Some(committed.as_ref().map(|c| c.ends.clone())), committed)
            }
        };
        let sink = OpenForEachBatch {
            target: self.target(),
            on_rows: Arc::clone(&self.on_rows),
            on_commit: self.on_commit.clone(),
            known: Mutex::new(known),
            results: Mutex::default(),
        };
        Ok(Opened {
            sink: Arc::new(sink),
            committed,
        })
    }
}

/// A [`ForEachBatch`] that a job has opened.
struct OpenForEachBatch<T> {
    target: String,
    on_rows: Arc<OnRows<T>>,
    on_commit: Option<Arc<OnCommit<T>>>,
    /// What is known to be recorded; `None`: unknown.
    known: Mutex<Option<Option<Ends>>>,
    /// What the first closure returned, by attempt and partition.
    results: Mutex<HashMap<String, BTreeMap<usize, T>>>,
}

impl<T> OpenForEachBatch<T> {
    fn results_of(&self, attempt: &str) -> BTreeMap<usize, T> {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.remove(attempt).unwrap_or_default()
    }

    fn know(&self, ends: Option<Option<Ends>>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }
}

#[async_trait]
impl<T: Send + 'static> OpenSink for OpenForEachBatch<T> {
    async fn stage(
        &self,
        batch: &BatchRanges,
        partition: usize,
        rows: SendableRecordBatchStream,
    ) -> Result<Staged> {
        let counted = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let rows = counting(rows, Arc::clone(&counted));
        let result = (self.on_rows)(Arc::new(batch.clone()), partition, rows).await;
        let result = result.map_err(|e| {
            let operation = format!("partition {partition} of batch {}", batch.batch);
            failed(&self.target, operation, e)
        })?;
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let of_batch = results.entry(batch.attempt.clone()).or_default();
        of_batch.insert(partition, result);
        Ok(Staged {
            partition,
            rows: counted.load(std::sync::atomic::Ordering::Relaxed),
            ..Staged::default()
        })
    }

    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()> {
        let results = self.results_of(&batch.attempt);
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(recorded) = known
            && batch.against(&self.target, recorded.as_ref())? == Standing::Committed
        {
            return Ok(());
        }
        if let Some(missing) = staged.iter().find(|s| !results.contains_key(&s.partition)) {
            return Err(Error::Sink {
                target: self.target.clone(),
                operation: format!("committing batch {}", batch.batch),
                reason: format!(
                    "partition {} was not staged by this attempt",
                    missing.partition
                ),
                transient: true,
                source: None,
            });
        }
        if let Some(on_commit) = &self.on_commit {
            let results = results.into_values().collect();
            if let Err(error) = on_commit(Arc::new(batch.clone()), results).await {
                // Whether the closure's store has it is unknown.
                self.know(None);
                let operation = format!("committing batch {}", batch.batch);
                return Err(failed(&self.target, operation, error));
            }
        }
        let mut ends = match &*self.known.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Some(ends)) => ends.clone(),
            _ => Ends::new(),
        };
        ends.extend(batch.ends());
        self.know(Some(Some(ends)));
        Ok(())
    }

    async fn abort(&self, batch: &BatchRanges) -> Result<()> {
        drop(self.results_of(&batch.attempt));
        Ok(())
    }
}

/// The error of a closure: this crate's own as it is.
fn failed(target: &str, operation: String, error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => match Error::find(error.as_ref()) {
            Some(found) => found.clone(),
            None => Error::Sink {
                target: target.to_owned(),
                operation,
                reason: error.to_string(),
                transient: false,
                source: Some(crate::error::Cause::new(error)),
            },
        },
    }
}

/// Counts the rows that go by.
fn counting(
    rows: SendableRecordBatchStream,
    count: Arc<std::sync::atomic::AtomicU64>,
) -> SendableRecordBatchStream {
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::StreamExt;

    let schema = rows.schema();
    let counted = rows.inspect(move |batch| {
        let rows = batch.as_ref().map_or(0, |batch| batch.num_rows());
        count.fetch_add(rows as u64, std::sync::atomic::Ordering::Relaxed);
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, counted))
}

impl<T> fmt::Debug for OpenForEachBatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenForEachBatch")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ForEachBatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForEachBatch")
            .field("name", &self.name)
            .field("guarantee", &self.guarantee)
            .finish_non_exhaustive()
    }
}
