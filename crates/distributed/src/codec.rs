//! The tasks of scans in plans that travel.

use std::sync::Arc;

use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_kafka::scan::{Connections, KafkaScanExec};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use prost::Message;

use crate::external;
use crate::nodes::{Origin, TaskExec};
use crate::reports::Reports;

/// Writes [`TaskExec`]s on the coordinator, and reads them on a worker.
#[derive(Debug, Default)]
pub(crate) struct TaskCodec {
    receiver: Option<Receiver>,
}

/// What a worker has for the scans that it receives.
struct Receiver {
    connections: Arc<dyn Connections>,
    reports: Arc<Reports>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

impl TaskCodec {
    /// That of a worker.
    pub(crate) fn receiving(connections: Arc<dyn Connections>, reports: Arc<Reports>) -> Self {
        Self {
            receiver: Some(Receiver {
                connections,
                reports,
            }),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct SentTask {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint64, tag = "2")]
    task: u64,
    #[prost(bytes = "vec", tag = "3")]
    scan: Vec<u8>,
}

impl PhysicalExtensionCodec for TaskCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        _inputs: &[Arc<dyn ExecutionPlan>],
        _context: &TaskContext,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(Receiver {
            connections,
            reports,
        }) = &self.receiver
        else {
            return internal_err!("a coordinator receives no plans");
        };
        let SentTask { key, task, scan } = SentTask::decode(buf)
            .map_err(|e| internal_datafusion_err!("no task of a scan: {e}"))?;
        let scan = KafkaScanExec::decode(&scan, connections.as_ref());
        let scan = scan.inspect_err(|error| reports.failed(&key, error));
        let scan = scan.map_err(external)?;
        let (scan, task) = (Arc::new(scan), usize::try_from(task).unwrap_or(usize::MAX));
        reports.add(&key, task, &scan);
        Ok(Arc::new(TaskExec::received(scan, task, reports, key)))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(TaskExec {
            scan, task, run, ..
        }) = node.downcast_ref()
        else {
            return internal_err!("{} is no node of Kafka", node.name());
        };
        let Origin::Planned(run, _) = run else {
            return internal_err!("a task of a scan is sent on by a worker");
        };
        let sent = SentTask {
            key: run.key(),
            task: *task as u64,
            scan: scan.encode(run.checksums()).map_err(external)?,
        };
        sent.encode(buf)
            .map_err(|e| internal_datafusion_err!("a task of a scan: {e}"))
    }
}
