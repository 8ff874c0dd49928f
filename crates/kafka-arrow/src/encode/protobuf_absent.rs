//! Replaces [`protobuf`](super::protobuf) in builds without the feature.

use arrow::array::{ArrayRef, BinaryViewArray};
use arrow::datatypes::FieldRef;

use super::{Misfit, PayloadEncoder};
use crate::decode::{ProtobufSchema, protobuf_absent};
use crate::error::Result;

/// An encoder, which cannot exist in this build.
#[derive(Debug)]
pub enum ProtobufEncoder {}

impl ProtobufEncoder {
    /// # Errors
    /// Never: there is no schema to call it with.
    pub fn new(schema: &ProtobufSchema, _fields: &[FieldRef], _id: Option<i32>) -> Result<Self> {
        match *schema {}
    }
}

impl PayloadEncoder for ProtobufEncoder {
    fn encode(
        &self,
        _columns: &[ArrayRef],
        _rows: usize,
        _absent: &dyn Fn(usize) -> bool,
    ) -> Result<BinaryViewArray, Misfit> {
        match *self {}
    }
}

/// # Errors
/// Always.
pub fn derived(name: &str, _fields: &[FieldRef]) -> Result<String> {
    Err(protobuf_absent(name))
}
