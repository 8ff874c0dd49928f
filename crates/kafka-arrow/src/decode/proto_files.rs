//! What Protobuf decoders are made of: files, and what lies before messages.

use std::sync::Arc;

use arrow::datatypes::Fields;

use super::protobuf::ProtobufSchema;
use super::registry::WriterSchemas;

/// A schema as files: one that matters and what it imports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProtoFiles {
    /// What errors call the file, for example its path or `schema 7`.
    pub name: String,
    /// `.proto` text, or the base64 of a FileDescriptorProto or FileDescriptorSet.
    pub text: String,
    /// What it imports, directly or not: names as in `import`, and texts as above. Those of
    /// `google/protobuf/` and `confluent/` are known without.
    pub references: Vec<(String, String)>,
}

/// What lies before messages.
#[derive(Debug, Clone)]
pub enum Framing {
    /// Nothing.
    Plain,
    /// A frame with the id of the writer's schema.
    Registry(Arc<dyn WriterSchemas>),
}

/// What a [`ProtobufDecoder`](super::ProtobufDecoder) is made of.
#[derive(Debug)]
pub struct ProtobufOptions<'a> {
    /// The message that payloads are read as.
    pub schema: ProtobufSchema,
    /// The columns, where the table declares them: fields by name, of their type or a wider one.
    pub declared: Option<&'a Fields>,
    /// What lies before the messages.
    pub framing: Framing,
}
