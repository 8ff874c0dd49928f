//! A plan as a job of Ballista: submits it, waits for it, fetches its rows, and takes over what its scans counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ballista_core::client::BallistaClient;
use ballista_core::config::BallistaConfig;
use ballista_core::extension::{SessionConfigExt, SessionConfigHelperExt};
use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::execute_query_result::Result as Submitted;
use ballista_core::serde::protobuf::job_status::Status;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelJobParams, CleanJobDataParams, ExecuteQueryParams, GetJobMetricsParams,
    GetJobStatusParams, PartitionLocation, RemoveSessionParams, operator_metric,
};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use ballista_core::version::{check_compatibility, insert_version_header, version_from_metadata};
use ballista_core::{BALLISTA_VERSION, error::BallistaError};
use datafusion::arrow::array::RecordBatch;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_kafka::scan::{ExecuteElsewhere, KafkaScanExec, ScanReport, wants_checksums};
use datafusion_kafka::{Error, Result as KafkaResult, external};
use futures::TryStreamExt;
use tokio::sync::mpsc::Sender;
use tonic::Request;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::client::Ballista;
use crate::rule::{encode, travelling_plan};
use crate::units::{KafkaUnitsExec, STAGE_AGAIN, failure_in, report_in};

/// How often the scheduler is asked how a job is.
const LOOK: Duration = Duration::from_millis(50);

/// How often a plan runs again when executors are lost.
const RETRIES: usize = 3;

/// What the units of scans have counted, by the scan's key and their numbers.
type Told = BTreeMap<String, BTreeMap<usize, ScanReport>>;

type Scheduler = SchedulerGrpcClient<Channel>;

/// Executes plans as jobs.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    cluster: Ballista,
}

impl Execution {
    pub(crate) fn new(cluster: &Ballista) -> Self {
        Self {
            cluster: cluster.clone(),
        }
    }

    /// Runs the plan, again if an executor was lost with rows that Ballista would give twice. Rows come after a job
    /// has ended, so none has been handed on then.
    async fn run(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        context: &TaskContext,
        to: &Sender<Result<RecordBatch>>,
    ) -> Result<()> {
        let scans = Counted::of(plan)?;
        let bytes = encode(&travelling_plan(plan, wants_checksums(context))?)?;
        let mut left = RETRIES;
        let (mut job, parts) = loop {
            scans.forget()?;
            let scheduler = connect(&self.cluster.scheduler).await.map_err(external)?;
            let mut job = Job::submit(scheduler, bytes.clone(), context).await?;
            match job.finish().await {
                Ok(parts) => break (job, parts),
                Err(error) if left > 0 && is_lost(&error) => log::warn!("{error}; it runs again"),
                Err(error) => return Err(error),
            }
            left -= 1;
        };
        for part in parts {
            let mut rows = fetch(part, &context.session_config().ballista_config()).await?;
            while let Some(batch) = rows.try_next().await? {
                // Whoever wanted the rows has gone.
                if to.send(Ok(batch)).await.is_err() {
                    return Ok(());
                }
            }
        }
        // The rows are right all the same.
        let told = job.reports().await.unwrap_or_else(|error| {
            log::warn!("{error}");
            BTreeMap::new()
        });
        scans.put(&told)
    }
}

fn is_lost(error: &DataFusionError) -> bool {
    let error = Error::find(error);
    matches!(error, Some(Error::Elsewhere { message, .. }) if message.starts_with(STAGE_AGAIN))
}

impl ExecuteElsewhere for Execution {
    fn execute(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 || plan.output_partitioning().partition_count() != 1 {
            return internal_err!("a plan on Ballista has one partition");
        }
        let mut builder = RecordBatchReceiverStreamBuilder::new(plan.schema(), 1);
        let to = builder.tx();
        // The partitions are fetched here: no task of the cluster need collect them.
        let plan = match plan.downcast_ref::<CoalescePartitionsExec>() {
            Some(collected) if collected.fetch().is_none() => Arc::clone(collected.input()),
            _ => Arc::clone(plan),
        };
        let execution = self.clone();
        builder.spawn(async move { execution.run(&plan, &context, &to).await });
        Ok(builder.build())
    }
}

/// A connection to the scheduler.
pub(crate) async fn connect(address: &str) -> KafkaResult<Scheduler> {
    let unavailable = |reason: String| Error::Unavailable {
        operation: format!("connecting to the scheduler of Ballista at {address}"),
        reason,
    };
    let config = BallistaConfig::default();
    let client = GrpcClientConfig::from(&config);
    let endpoint = create_grpc_client_endpoint(format!("http://{address}"), Some(&client))
        .map_err(|e| {
            Error::config(
                "ballista",
                format!("expected host:port, found '{address}': {e}"),
            )
        })?;
    let channel = endpoint.connect().await;
    let channel = channel.map_err(|e| unavailable(format!("{e}: is it running?")).because(e))?;
    let most = config.grpc_client_max_message_size();
    Ok(SchedulerGrpcClient::new(channel)
        .max_encoding_message_size(most)
        .max_decoding_message_size(most))
}

/// A job that was submitted. It is cancelled, and what it left on executors is removed, when nobody wants it any more.
struct Job {
    scheduler: Scheduler,
    id: String,
    session: String,
    over: bool,
}

impl Job {
    async fn submit(
        mut scheduler: Scheduler,
        plan: Vec<u8>,
        context: &TaskContext,
    ) -> Result<Self> {
        let mut request = Request::new(ExecuteQueryParams {
            query: Some(Query::PhysicalPlan(plan)),
            settings: context.session_config().to_key_value_pairs(),
            session_id: Uuid::new_v4().to_string(),
            operation_id: Uuid::new_v4().to_string(),
        });
        insert_version_header(request.metadata_mut());
        let answer = scheduler.execute_query(request).await;
        let answer = answer.map_err(|e| external(asking("submitting a plan", &e)))?;
        let theirs = version_from_metadata(answer.metadata());
        let same = check_compatibility(Some(BALLISTA_VERSION), theirs);
        same.map_err(|message| external(Error::invalid(message)))?;
        match answer.into_inner().result {
            Some(Submitted::Success(submitted)) => Ok(Self {
                scheduler,
                id: submitted.job_id,
                session: submitted.session_id,
                over: false,
            }),
            Some(Submitted::Failure(refused)) => Err(failed(&format!(
                "the scheduler of Ballista refuses the plan: {refused:?}"
            ))),
            None => internal_err!("the scheduler of Ballista gave no answer"),
        }
    }

    /// Where the rows are, once the job has ended.
    async fn finish(&mut self) -> Result<Vec<PartitionLocation>> {
        loop {
            let asked = GetJobStatusParams {
                job_id: self.id.clone(),
            };
            let answer = self.scheduler.get_job_status(asked).await;
            let answer = answer.map_err(|e| external(asking("asking for a job's status", &e)))?;
            match answer.into_inner().status.and_then(|status| status.status) {
                Some(Status::Successful(done)) => {
                    self.over = true;
                    return Ok(done.partition_location);
                }
                Some(Status::Failed(job)) => {
                    self.over = true;
                    return Err(failed(&job.error));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// What the units of scans have counted. A task that was run again tells it again, and one of them counts.
    async fn reports(&mut self) -> Result<Told> {
        let asked = GetJobMetricsParams {
            job_id: self.id.clone(),
        };
        let answer = self.scheduler.get_job_metrics(asked).await;
        let answer = answer.map_err(|e| external(asking("asking for a job's metrics", &e)))?;
        let stages = answer.into_inner().stages.into_iter();
        let operators = stages.flat_map(|stage| stage.operators);
        let mut told = Told::new();
        for metric in operators.flat_map(|operator| operator.metrics) {
            if let Some(operator_metric::Metric::Count(count)) = metric.metric
                && let Some((key, unit, report)) = report_in(&count.name)
            {
                told.entry(key.to_owned()).or_default().insert(unit, report);
            }
        }
        Ok(told)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (mut scheduler, over) = (self.scheduler.clone(), self.over);
        let (job_id, session_id) = (self.id.clone(), self.session.clone());
        runtime.spawn(async move {
            let ended = match over {
                true => {
                    let asked = CleanJobDataParams {
                        job_id,
                        remove_stage_ids: vec![],
                    };
                    scheduler.clean_job_data(asked).await.map(|_| ())
                }
                false => {
                    let asked = CancelJobParams { job_id };
                    scheduler.cancel_job(asked).await.map(|_| ())
                }
            };
            let asked = RemoveSessionParams { session_id };
            let removed = scheduler.remove_session(asked).await.map(|_| ());
            if let Err(error) = ended.and(removed) {
                log::warn!("the scheduler of Ballista keeps a job that is over: {error}");
            }
        });
    }
}

fn asking(what: &str, status: &tonic::Status) -> Error {
    Error::Unavailable {
        operation: format!("{what} (scheduler of Ballista)"),
        reason: format!("{:?}: {}", status.code(), status.message()),
    }
}

/// What a job failed with: the error of a scan, or else what Ballista says.
fn failed(text: &str) -> DataFusionError {
    match failure_in(text) {
        Some(failure) => external(failure.on("an executor of Ballista".to_owned())),
        None if text.contains("executors were lost") => external(Error::Unavailable {
            operation: "running a plan on Ballista".to_owned(),
            reason: text.to_owned(),
        }),
        None => DataFusionError::Execution(text.to_owned()),
    }
}

/// The rows of a partition of the last stage.
async fn fetch(
    part: PartitionLocation,
    config: &BallistaConfig,
) -> Result<SendableRecordBatchStream> {
    let layout = part.layout();
    let (Some(executor), Some(partition)) = (part.executor_meta, part.partition_id) else {
        return internal_err!("the scheduler of Ballista does not say where rows are");
    };
    let place = format!("{}:{}", executor.host, executor.port);
    let lost = |error: BallistaError| {
        external(Error::Unavailable {
            operation: format!("fetching rows from executor {place}"),
            reason: format!("{error}; run the statement again"),
        })
    };
    let port = u16::try_from(executor.port).unwrap_or_default();
    let client = GrpcClientConfig::from(config);
    let mut client = BallistaClient::try_new(
        &executor.host,
        port,
        client.max_message_size,
        client.use_tls,
        None,
        client.io_retries_times,
        client.io_retry_wait_time_ms,
        0,
        0,
    )
    .await
    .map_err(lost)?;
    let partition = partition.into();
    let rows = client
        .fetch_partition(&executor.id, &partition, part.file_id, layout, true)
        .await;
    rows.map_err(lost)
}

/// The scans of a plan that is executed elsewhere.
struct Counted {
    units: Vec<Arc<dyn ExecutionPlan>>,
}

impl Counted {
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Self> {
        let mut units = vec![];
        plan.apply(|node| {
            if node.is::<KafkaUnitsExec>() {
                units.push(Arc::clone(node));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(Self { units })
    }

    fn scans(&self) -> impl Iterator<Item = (&str, &KafkaScanExec)> {
        let units = self.units.iter();
        let units = units.filter_map(|node| node.downcast_ref::<KafkaUnitsExec>());
        units.filter_map(|units| Some((units.key.as_str(), units.scan()?)))
    }

    /// Nothing has been read of any unit yet.
    fn forget(&self) -> Result<()> {
        for (_, scan) in self.scans() {
            set(scan, &BTreeMap::new())?;
        }
        Ok(())
    }

    /// Puts what is known into the scans. What is not known of a unit is unread.
    fn put(&self, told: &Told) -> Result<()> {
        for (key, scan) in self.scans() {
            let missing = match told.get(key) {
                Some(told) => set(scan, told)?,
                None => set(scan, &BTreeMap::new())?,
            };
            if missing > 0 {
                log::warn!(
                    "Ballista lost what {missing} parts of a scan counted: their offsets are shown as unread"
                );
            }
            scan.check_bad_rows(true).map_err(external)?;
            scan.check_budget().map_err(external)?;
        }
        Ok(())
    }
}

/// Puts the reports of units into their scan, and says how many there are none of.
fn set(scan: &KafkaScanExec, told: &BTreeMap<usize, ScanReport>) -> Result<usize> {
    let units = scan.properties().partitioning.partition_count();
    let reports = (0..units).map(|unit| match told.get(&unit) {
        Some(report) => Ok(report.clone()),
        None => Ok(scan.of_partition(unit)?.report()),
    });
    scan.set_reports(reports.collect::<Result<_>>()?);
    Ok((0..units).filter(|unit| !told.contains_key(unit)).count())
}
