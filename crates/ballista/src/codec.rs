//! Scans in plans that travel.

use std::fmt;
use std::sync::Arc;

use ballista_core::execution_plans::{RangeShuffleReaderExec, ShuffleReaderExec};
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_kafka::scan::Connections;
use datafusion_kafka::{Error, external};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use datafusion_proto::protobuf;
use prost::Message;

use crate::VERSION;
use crate::units::{KafkaUnitsExec, Place, is_stage_again, travelling};

/// What the bytes of a scan begin with; those of Ballista's own nodes are messages of protobuf, which do not.
const MAGIC: &[u8] = b"\0datafusion-kafka\0";

/// The codec of client, scheduler and executors. What is none of its nodes goes to Ballista's codec.
#[derive(Default)]
pub struct KafkaCodec {
    ballista: BallistaPhysicalExtensionCodec,
    connections: Option<Arc<dyn Connections>>,
}

impl KafkaCodec {
    /// That of the client and the scheduler, which read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// That of an executor with these connections.
    pub fn reading(connections: Arc<dyn Connections>) -> Self {
        Self {
            connections: Some(connections),
            ..Self::default()
        }
    }
}

impl fmt::Debug for KafkaCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KafkaCodec")
    }
}

#[derive(Clone, PartialEq, Message)]
struct SentUnits {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(message, optional, tag = "3")]
    schema: Option<protobuf::Schema>,
}

impl PhysicalExtensionCodec for KafkaCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(sent) = buf.strip_prefix(MAGIC) else {
            let node = self.ballista.try_decode(buf, inputs, context, converter)?;
            let reads = node.is::<ShuffleReaderExec>() || node.is::<RangeShuffleReaderExec>();
            return Ok(match &self.connections {
                // Refused once it is executed: what fails before, Ballista takes for news of the first attempt.
                Some(connections) if reads && is_stage_again(context) => {
                    let place = Place::Received(Arc::clone(connections));
                    let (key, schema) = (String::new(), node.schema());
                    Arc::new(KafkaUnitsExec::over_units(key, schema, &node, place))
                }
                _ => node,
            });
        };
        let sent = SentUnits::decode(sent)
            .map_err(|e| internal_datafusion_err!("no units of a scan: {e}"))?;
        if sent.version != VERSION {
            return Err(travelling(external(Error::invalid(format!(
                "the plan was made by version {} of datafusion-kafka-ballista, this is version {VERSION}: run the \
                 same on all machines",
                sent.version
            )))));
        }
        let (Some(schema), [input]) = (&sent.schema, inputs) else {
            return internal_err!("units of a scan need their schema and one input");
        };
        let place = match &self.connections {
            Some(connections) => Place::Received(Arc::clone(connections)),
            None => Place::Planned,
        };
        let schema = Arc::new(Schema::try_from(schema)?);
        let units = KafkaUnitsExec::over_units(sent.key, schema, input, place);
        Ok(Arc::new(units))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(units) = node.downcast_ref::<KafkaUnitsExec>() else {
            return self.ballista.try_encode(node, buf, converter);
        };
        let sent = SentUnits {
            version: VERSION.to_owned(),
            key: units.key.clone(),
            schema: Some(units.schema().as_ref().try_into()?),
        };
        buf.extend_from_slice(MAGIC);
        sent.encode(buf)
            .map_err(|e| internal_datafusion_err!("units of a scan: {e}"))
    }
}
