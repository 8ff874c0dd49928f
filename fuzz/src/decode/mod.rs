//! The decoders' sources, as in the crate, so that they find each other at the same paths.

#[path = "../../../src/decode/avro/mod.rs"]
mod avro;
#[path = "../../../src/decode/budget.rs"]
mod budget;
#[path = "../../../src/decode/build.rs"]
mod build;
#[path = "../../../src/decode/column.rs"]
mod column;
#[path = "../../../src/decode/csv.rs"]
mod csv;
#[path = "../../../src/decode/debezium.rs"]
mod debezium;
#[path = "../../../src/decode/json/mod.rs"]
mod json;
#[path = "../../../src/decode/laws/mod.rs"]
pub mod laws;
#[path = "../../../src/decode/payload.rs"]
mod payload;
#[path = "../../../src/decode/protobuf/mod.rs"]
mod protobuf;
pub mod registry;
#[path = "../../../src/decode/scalar.rs"]
mod scalar;
#[path = "../../../src/decode/value.rs"]
mod value;
