//! Replaces [`protobuf`](super::protobuf) in builds without the feature. It refuses every schema, so no
//! decoder can exist.

use arrow::array::BinaryViewArray;
use arrow::datatypes::Fields;

use super::payload::{Decoded, PayloadDecoder, Wanted};
use super::proto_files::{ProtoFiles, ProtobufOptions};
use crate::error::{Error, Result};

/// A message's description, which cannot exist in this build.
#[derive(Debug, Clone)]
pub enum ProtobufSchema {}

impl ProtobufSchema {
    /// # Errors
    /// Always.
    pub fn from_files(files: &ProtoFiles, _message: Option<&str>) -> Result<Self> {
        Err(absent(&files.name))
    }

    /// # Errors
    /// Always.
    pub fn from_descriptor_set(name: &str, _bytes: &[u8], _message: Option<&str>) -> Result<Self> {
        Err(absent(name))
    }

    /// The name of the message.
    pub fn full_name(&self) -> &str {
        match *self {}
    }
}

/// # Errors
/// Always.
pub fn imports(name: &str, _text: &str) -> Result<Vec<String>> {
    Err(absent(name))
}

pub(crate) fn absent(name: &str) -> Error {
    Error::invalid(format!(
        "{name}: this build cannot read or write Protobuf (feature 'protobuf')"
    ))
}

/// A decoder, which cannot exist in this build.
#[derive(Debug)]
pub enum ProtobufDecoder {}

impl ProtobufDecoder {
    /// # Errors
    /// Never: there is no schema to call it with.
    pub fn new(options: ProtobufOptions<'_>) -> Result<Self> {
        match options.schema {}
    }
}

impl PayloadDecoder for ProtobufDecoder {
    fn fields(&self) -> &Fields {
        match *self {}
    }

    fn decode(&self, _payloads: &BinaryViewArray, _wanted: &Wanted<'_>) -> Result<Decoded> {
        match *self {}
    }
}
