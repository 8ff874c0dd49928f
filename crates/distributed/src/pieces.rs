//! Pieces of exports: each is a plan that one worker executes whole, which writes its files.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use datafusion::arrow::array::{AsArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion_kafka::client::Broker;
use datafusion_kafka::export::{Export, ExportExec};
use datafusion_kafka::scan::{ExecuteElsewhere, KafkaScanExec, ScanFailure};
use datafusion_kafka::{Error, Result as KafkaResult, external};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc::Sender;
use url::Url;

use crate::codec::TaskCodec;
use crate::coordinator::{Coordinator, WorkerInfo};
use crate::nodes::address;
use crate::placement::nearness;
use crate::service::{OfPiece, write};

/// How many workers may be lost while they write a piece: it may be the piece that they die of.
const MOST_LOST: usize = 3;

impl Coordinator {
    /// The export with its pieces written by the workers, as many at one time as they have cores. `None` if they
    /// cannot: the folder is on this machine and they are not, or its store or the cluster needs what only this
    /// process has.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and when the export's URL is not valid.
    pub async fn export(&self, export: &Export) -> KafkaResult<Option<Export>> {
        let workers = self.workers(false).await?;
        if !export.travels(workers.iter().all(WorkerInfo::is_on_this_machine))? {
            return Ok(None);
        }
        let cores = workers.iter().map(|worker| worker.cores.max(1)).sum();
        let pieces = Pieces {
            coordinator: self.clone(),
            busy: Arc::default(),
        };
        Ok(Some(export.clone().elsewhere(Arc::new(pieces), cores)))
    }
}

/// Sends pieces to workers, and sends a piece to another one when its worker is lost.
#[derive(Clone)]
struct Pieces {
    coordinator: Coordinator,
    /// How many pieces each worker has.
    busy: Arc<Mutex<HashMap<Url, usize>>>,
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pieces")
    }
}

/// A worker that has a piece, until this is dropped.
struct Turn {
    pieces: Pieces,
    worker: Url,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(busy) = self.pieces.busy().get_mut(&self.worker) {
            *busy = busy.saturating_sub(1);
        }
    }
}

impl Pieces {
    fn busy(&self) -> MutexGuard<'_, HashMap<Url, usize>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next worker for a piece with this leader: of those that are not lost and have a core free the nearest,
    /// else the one with the least to do.
    fn turn(
        &self,
        workers: &[WorkerInfo],
        leader: Option<&Broker>,
        lost: &BTreeSet<Url>,
    ) -> KafkaResult<Turn> {
        let mut all = self.busy();
        let next = workers.iter().min_by_key(|worker| {
            let busy = all.get(&worker.url).copied().unwrap_or_default();
            let load = busy * 1000 / worker.cores.max(1);
            let near = Reverse(nearness(worker, leader));
            match busy < worker.cores.max(1) {
                true => (lost.contains(&worker.url), 0, near, load),
                false => (lost.contains(&worker.url), load, near, 0),
            }
        });
        let Some(WorkerInfo { url, .. }) = next else {
            return Err(Error::internal("an export on no workers"));
        };
        *all.entry(url.clone()).or_default() += 1;
        Ok(Turn {
            pieces: self.clone(),
            worker: url.clone(),
        })
    }

    /// Has workers execute the plan until one has.
    async fn run(
        &self,
        plan: &Sent,
        schema: &SchemaRef,
        to: &Sender<Result<RecordBatch>>,
    ) -> KafkaResult<()> {
        let scan = &plan.scan;
        let mut lost = BTreeSet::new();
        for left in (0..MOST_LOST).rev() {
            let workers = self.coordinator.workers(!lost.is_empty()).await?;
            if workers.len() > 1 {
                self.coordinator.learn_brokers(scan).await?;
            }
            let brokers = self.coordinator.brokers(scan);
            let leader = plan.leader.and_then(|id| brokers.get(&id));
            let turn = self.turn(&workers, leader, &lost)?;
            let worker = &turn.worker;
            match self.on(worker, plan, schema, to).await {
                Err(Error::Unavailable { reason, .. }) if left > 0 => {
                    let worker = address(worker);
                    log::warn!(
                        "worker {worker} is lost: {reason}; {} goes to another worker",
                        plan.piece
                    );
                }
                Err(Error::Unavailable { reason, .. }) => {
                    return Err(Error::Unavailable {
                        operation: format!(
                            "exporting {} on worker {}",
                            plan.piece,
                            address(worker)
                        ),
                        reason: format!(
                            "{reason}; it is the last of {MOST_LOST} workers that were lost: see why, and resume \
                             the export"
                        ),
                    });
                }
                done => return done,
            }
            lost.insert(turn.worker.clone());
        }
        Err(Error::internal("an export without an attempt"))
    }

    /// Has a worker execute the plan. [`Error::Unavailable`] says that the worker is lost; errors of the plan are
    /// those of the worker.
    async fn on(
        &self,
        worker: &Url,
        plan: &Sent,
        schema: &SchemaRef,
        to: &Sender<Result<RecordBatch>>,
    ) -> KafkaResult<()> {
        let channel = self.coordinator.channels.get(worker)?;
        let mut rows = std::pin::pin!(write(channel, worker, plan.bytes.clone()).await?);
        while let Some(message) = rows.try_next().await? {
            match message {
                OfPiece::Row(text) => {
                    let column = Arc::new(StringArray::from(vec![text]));
                    let row = RecordBatch::try_new(Arc::clone(schema), vec![column]);
                    let row = row.map_err(|e| Error::internal(e.to_string()))?;
                    // If nothing waits any more, the stream is dropped and the worker stops.
                    if to.send(Ok(row)).await.is_err() {
                        return Ok(());
                    }
                }
                OfPiece::Failed(failure) => {
                    return Err(failure.on(format!("worker {}", address(worker))));
                }
            }
        }
        Ok(())
    }
}

/// A piece as it travels, and what says where to.
struct Sent {
    bytes: Bytes,
    piece: String,
    scan: KafkaScanExec,
    leader: Option<i32>,
}

impl ExecuteElsewhere for Pieces {
    fn execute(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (Some(piece), 0) = (plan.downcast_ref::<ExportExec>(), partition) else {
            return internal_err!("{} is no piece of an export", plan.name());
        };
        let piece = piece.piece().to_string();
        let mut scan = None;
        plan.apply(|node| {
            scan = scan
                .take()
                .or_else(|| node.downcast_ref::<KafkaScanExec>().cloned());
            Ok(TreeNodeRecursion::Continue)
        })?;
        let Some(scan) = scan else {
            // A query that is never true reads nothing.
            return plan.execute(0, context);
        };
        let codec = TaskCodec::default().of_pieces();
        let sent = Sent {
            bytes: physical_plan_to_bytes_with_extension_codec(Arc::clone(plan), &codec)?,
            piece,
            leader: scan.pieces(1).first().and_then(|piece| piece.leader()),
            scan,
        };
        let schema = plan.schema();
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), 1);
        let to = builder.tx();
        let pieces = self.clone();
        builder.spawn(async move { pieces.run(&sent, &schema, &to).await.map_err(external) });
        Ok(builder.build())
    }
}

/// A worker's side.
#[derive(Debug)]
pub(crate) struct PieceWriter {
    codec: TaskCodec,
    context: Arc<TaskContext>,
    running: Arc<AtomicUsize>,
}

impl PieceWriter {
    pub(crate) fn new(codec: TaskCodec, context: Arc<TaskContext>) -> Self {
        Self {
            codec,
            context,
            running: Arc::default(),
        }
    }

    /// Executes a plan; dropping the stream stops it.
    pub(crate) fn write(&self, plan: &[u8]) -> BoxStream<'static, OfPiece> {
        let running = Running::of(&self.running);
        let failed = |error: DataFusionError| {
            let found = Error::find(&error).cloned();
            let error = found.unwrap_or_else(|| Error::query(error.strip_backtrace()));
            OfPiece::Failed(ScanFailure::of(&error))
        };
        let rows = match self.rows(plan) {
            Ok(rows) => rows,
            Err(error) => return futures::stream::iter([failed(error)]).boxed(),
        };
        let told = move |rows: Result<RecordBatch>| {
            let _running = &running;
            match rows {
                Ok(rows) => {
                    let texts = rows.column(0).as_string::<i32>().iter().flatten();
                    texts.map(|text| OfPiece::Row(text.to_owned())).collect()
                }
                Err(error) => vec![failed(error)],
            }
        };
        rows.flat_map(move |rows| futures::stream::iter(told(rows)))
            .boxed()
    }

    fn rows(&self, plan: &[u8]) -> Result<SendableRecordBatchStream> {
        let plan = physical_plan_from_bytes_with_extension_codec(plan, &self.context, &self.codec)?;
        if !plan.is::<ExportExec>() {
            return internal_err!("{} is no piece of an export", plan.name());
        }
        plan.execute(0, Arc::clone(&self.context))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }
}

/// Counts as running until it is dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn of(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(all))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
