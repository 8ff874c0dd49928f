//! Our nodes in plans that travel: tasks of scans, what stages rows, and pieces of exports with their scans.

use std::sync::Arc;

use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_kafka::export::ExportExec;
use datafusion_kafka::external;
use datafusion_kafka::scan::{Connections, KafkaScanExec};
use datafusion_kafka::sink::StageExec;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalExprNode;
use prost::{Message, Oneof};

use crate::nodes::{Origin, TaskExec};
use crate::reports::Reports;

/// Writes [`TaskExec`]s and [`StageExec`]s on the coordinator, and reads them on a worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskCodec {
    receiver: Option<Receiver>,
    /// Whether a plan is a piece of an export, which is executed once. Each task of a plan of the engine would read
    /// all of a scan that is no [`TaskExec`].
    is_piece: bool,
}

/// What a worker has for the scans that it receives.
#[derive(Clone)]
struct Receiver {
    connections: Arc<dyn Connections>,
    reports: Arc<Reports>,
    /// The worker as messages name it.
    machine: String,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

impl TaskCodec {
    /// That of a worker.
    pub(crate) fn receiving(
        connections: Arc<dyn Connections>,
        reports: Arc<Reports>,
        machine: String,
    ) -> Self {
        Self {
            receiver: Some(Receiver {
                connections,
                reports,
                machine,
            }),
            is_piece: false,
        }
    }

    /// The same for pieces of exports.
    pub(crate) fn of_pieces(&self) -> Self {
        Self {
            is_piece: true,
            ..self.clone()
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct SentNode {
    #[prost(oneof = "Node", tags = "1, 2, 3, 4")]
    node: Option<Node>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Node {
    #[prost(message, tag = "1")]
    Task(SentTask),
    /// What [`StageExec::encode`] wrote.
    #[prost(bytes, tag = "2")]
    Stage(Vec<u8>),
    /// What [`ExportExec::encode`] wrote.
    #[prost(bytes, tag = "3")]
    Export(Vec<u8>),
    #[prost(message, tag = "4")]
    Scan(SentScan),
}

#[derive(Clone, PartialEq, Message)]
struct SentTask {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint64, tag = "2")]
    task: u64,
    #[prost(message, tag = "3")]
    scan: Option<SentScan>,
}

#[derive(Clone, PartialEq, Message)]
struct SentScan {
    /// What [`KafkaScanExec::encode`] wrote.
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    /// The conditions that the scan has taken over.
    #[prost(message, repeated, tag = "2")]
    conditions: Vec<PhysicalExprNode>,
}

impl SentScan {
    fn of(
        scan: &KafkaScanExec,
        checksums: bool,
        codec: &TaskCodec,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Self> {
        let conditions = scan.conditions().iter();
        let conditions =
            conditions.map(|condition| converter.physical_expr_to_proto(condition, codec));
        Ok(Self {
            bytes: scan.encode(checksums).map_err(external)?,
            conditions: conditions.collect::<Result<_>>()?,
        })
    }

    /// The scan, without its conditions.
    fn plain(&self, connections: &dyn Connections) -> datafusion_kafka::Result<KafkaScanExec> {
        KafkaScanExec::decode(&self.bytes, connections)
    }

    fn under_conditions(
        &self,
        scan: &KafkaScanExec,
        decoding: &PhysicalPlanDecodeContext<'_>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<KafkaScanExec> {
        let schema = scan.schema();
        let conditions = self.conditions.iter();
        let conditions = conditions
            .map(|condition| converter.proto_to_physical_expr(condition, &schema, decoding));
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        scan.with_conditions(conditions).map_err(external)
    }
}

impl PhysicalExtensionCodec for TaskCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(Receiver {
            connections,
            reports,
            machine,
        }) = &self.receiver
        else {
            return internal_err!("a coordinator receives no plans");
        };
        let sent =
            SentNode::decode(buf).map_err(|e| internal_datafusion_err!("no node of Kafka: {e}"))?;
        let decoding = PhysicalPlanDecodeContext::new(context, self);
        let SentTask { key, task, scan } = match (sent.node, inputs) {
            (Some(Node::Task(task)), []) => task,
            (Some(Node::Stage(stage)), [input]) => {
                let stage = StageExec::decode(&stage, Arc::clone(input), machine);
                return Ok(Arc::new(stage.map_err(external)?));
            }
            (Some(Node::Export(piece)), [input]) if self.is_piece => {
                let piece = ExportExec::decode(&piece, Arc::clone(input));
                return Ok(Arc::new(piece.map_err(external)?));
            }
            (Some(Node::Scan(scan)), []) if self.is_piece => {
                let plain = scan.plain(connections.as_ref()).map_err(external)?;
                let scan = scan.under_conditions(&plain, &decoding, converter)?;
                return Ok(Arc::new(scan));
            }
            _ => return internal_err!("no node of Kafka"),
        };
        let sent = scan.unwrap_or_default();
        let plain = sent.plain(connections.as_ref());
        let plain = plain.inspect_err(|error| reports.failed(&key, error));
        let scan = sent.under_conditions(&plain.map_err(external)?, &decoding, converter)?;
        let (scan, task) = (Arc::new(scan), usize::try_from(task).unwrap_or(usize::MAX));
        reports.add(&key, task, &scan);
        Ok(Arc::new(TaskExec::received(scan, task, reports, key)))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let sent = if let Some(stage) = node.downcast_ref::<StageExec>() {
            Node::Stage(stage.encode().map_err(external)?)
        } else if let (true, Some(piece)) = (self.is_piece, node.downcast_ref::<ExportExec>()) {
            Node::Export(piece.encode().map_err(external)?)
        } else if let (true, Some(scan)) = (self.is_piece, node.downcast_ref::<KafkaScanExec>()) {
            Node::Scan(SentScan::of(scan, false, self, converter)?)
        } else if let Some(TaskExec {
            scan, task, run, ..
        }) = node.downcast_ref()
        {
            let Origin::Planned(run, _) = run else {
                return internal_err!("a task of a scan is sent on by a worker");
            };
            Node::Task(SentTask {
                key: run.key(),
                task: *task as u64,
                scan: Some(SentScan::of(scan, run.checksums(), self, converter)?),
            })
        } else {
            return internal_err!("{} is no node of Kafka", node.name());
        };
        let sent = SentNode { node: Some(sent) };
        sent.encode(buf)
            .map_err(|e| internal_datafusion_err!("a node of Kafka: {e}"))
    }
}
