//! What a Protobuf decoder is made from: schema files, and the framing of messages.

use std::sync::Arc;

use arrow::datatypes::Fields;

use super::protobuf::ProtobufSchema;
use super::registry::WriterSchemas;

/// A schema as files: the main file and its imports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProtoFiles {
    /// What errors call the main file, for example its path or `schema 7`.
    pub name: String,
    /// `.proto` text, or the base64 of a FileDescriptorProto or FileDescriptorSet.
    pub text: String,
    /// Its direct and indirect imports: names as in `import`, and texts in the same forms. Imports from
    /// `google/protobuf/` and `confluent/` are built in.
    pub references: Vec<(String, String)>,
}

/// What precedes each message.
#[derive(Debug, Clone)]
pub enum Framing {
    /// Nothing.
    Plain,
    /// A frame with the id of the writer's schema.
    Registry(Arc<dyn WriterSchemas>),
}

/// What a [`ProtobufDecoder`](super::ProtobufDecoder) is made from.
#[derive(Debug)]
pub struct ProtobufOptions<'a> {
    /// The message type to read payloads as.
    pub schema: ProtobufSchema,
    /// The columns that the table declares: fields by name, with their own type or a wider one.
    pub declared: Option<&'a Fields>,
    /// What precedes each message.
    pub framing: Framing,
}
