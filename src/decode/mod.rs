//! From raw columns to the columns that SQL sees.
//!
//! ```text
//! RawBatch ─▶ key and value through their formats ─▶ policy for bad ones ─▶ columns, rows that stay
//! ```
//!
//! [`RecordDecoder`] fixes a table's schema and turns a [`RawBatch`] into an Arrow record batch of
//! it. Only the columns of a projection are built, and [`RecordDecoder::raw_columns`] tells the
//! client which raw ones they need, so that a projection reaches the reader.

pub(crate) mod avro;
mod budget;
mod build;
mod column;
mod csv;
pub(crate) mod debezium;
mod format;
mod json;
#[cfg(test)]
mod laws;
mod payload;
mod policy;
mod protobuf;
mod record;
mod registry;
mod scalar;
mod value;

pub(crate) use avro::{AvroDecoder, AvroOptions, Framing as AvroFraming};
pub(crate) use budget::BatchLimits;
pub use column::Column;
pub(crate) use csv::CsvDecoder;
pub use format::Format;
pub(crate) use json::{Inference, JsonDecoder, schema_fields, unframed, unwrapped};
pub(crate) use payload::{PayloadDecoder, Wanted};
pub(crate) use policy::{BadRowCount, BadRows};
pub use policy::{BadRowLimit, OnBadRow};
pub(crate) use protobuf::{
    Framing as ProtobufFraming, ProtoFiles, ProtobufDecoder, ProtobufOptions, ProtobufSchema,
    WriterSchemas, imports,
};
pub(crate) use record::{
    LETTER_COLUMNS, LETTER_RECORD, Payload, RecordDecoder, Rows, TableFormat, preview,
};
#[cfg(test)]
pub(crate) use registry::tests::stub;
pub(crate) use registry::{
    RegisteredSchema, Registry, RegistryConfig, SchemaKind, SubjectNames, Submitted,
};
