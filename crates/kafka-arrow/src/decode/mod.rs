//! Turns raw columns, as a client reads them from Kafka, into the columns that SQL sees.
//!
//! ```text
//! RawBatch ─▶ decode key and value by their formats ─▶ apply the policy for bad records ─▶ columns
//! ```
//!
//! [`RecordDecoder`] fixes a table's schema and turns each [`RawBatch`](crate::raw::RawBatch) into an
//! Arrow record batch with that schema. It builds only the columns of a projection.
//! [`RecordDecoder::raw_columns`] tells the client which raw columns those need, so the client reads no
//! others.

pub(crate) mod avro;
mod budget;
mod builder;
mod column;
mod csv;
pub mod debezium;
mod format;
mod json;
#[cfg(all(feature = "protobuf", any(test, feature = "fuzzing")))]
pub(crate) mod laws;
mod payload;
mod policy;
mod proto_files;
#[cfg(feature = "protobuf")]
mod protobuf;
#[cfg(not(feature = "protobuf"))]
#[path = "protobuf_absent.rs"]
mod protobuf;
mod registry;
mod rows;
mod scalar;
mod value;

pub(crate) use avro::hide::WrittenSchemas;
pub use avro::{AvroDecoder, AvroOptions, Framing as AvroFraming, record_name as avro_record_name};
pub use budget::BatchLimits;
pub use column::Column;
pub use csv::CsvDecoder;
pub use format::Format;
pub use json::{Inference, JsonDecoder, schema_fields, unframed, unwrapped};
pub use payload::{PayloadDecoder, Wanted};
pub use policy::{BadRowCount, BadRowLimit, BadRowPart, BadRows, OnBadRow};
pub use proto_files::{Framing as ProtobufFraming, ProtoFiles, ProtobufOptions};
#[cfg(not(feature = "protobuf"))]
pub(crate) use protobuf::absent as protobuf_absent;
#[cfg(feature = "protobuf")]
pub(crate) use protobuf::find_field;
pub use protobuf::{ProtobufDecoder, ProtobufSchema, imports};
pub use registry::{
    RegisteredSchema, Registry, RegistryConfig, SchemaKind, SubjectNames, Submitted, WriterSchemas,
};
pub use rows::{
    LETTER_COLUMNS, LETTER_RECORD, Payload, RecordDecoder, Rows, TableFormat, Written, preview,
};
