//! What a format does: payloads, which are the bytes of keys or of values, become columns.
//!
//! ```text
//! payloads ─▶ prepare (may ask a registry) ─▶ decode ─▶ columns, and what is wrong with which row
//! ```
//!
//! A decoder never decides what becomes of a bad payload: that is the table's policy, the same code
//! for every format.

use std::fmt;

use arrow::array::{ArrayRef, BinaryViewArray, Int32Array};
use arrow::datatypes::Fields;
use async_trait::async_trait;

use crate::error::Result;

/// A format with its schema, fixed when the table is planned.
#[async_trait]
pub trait PayloadDecoder: fmt::Debug + Send + Sync {
    /// The columns of a payload, all nullable.
    fn fields(&self) -> &Fields;

    /// Gets what decoding these payloads needs and is not at hand, such as writers' schemas.
    ///
    /// # Errors
    /// Those of the source alone, for example a registry that is down. What a payload is to blame
    /// for, such as an id that the registry does not know, is told by [`decode`](Self::decode).
    async fn prepare(&self, payloads: &BinaryViewArray) -> Result<()> {
        let _ = payloads;
        Ok(())
    }

    /// Decodes payloads; a NULL is one without fields, and not bad.
    ///
    /// # Errors
    /// Only for faults of this crate. A payload that does not decode is told in
    /// `Decoded::bad`.
    fn decode(&self, payloads: &BinaryViewArray, wanted: &Wanted<'_>) -> Result<Decoded>;
}

/// What is wanted of payloads.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The fields to build, as indices into [`PayloadDecoder::fields`], each at most once.
    pub fields: &'a [usize],
    /// Whether fields that are not built are checked as well: a payload is bad when any of the
    /// schema's fields does not fit. Without it a decoder may look at what it builds alone.
    pub check_all: bool,
    /// Whether `Decoded::schema_ids` is wanted.
    pub schema_ids: bool,
}

/// Payloads as columns.
#[derive(Debug, Default)]
pub struct Decoded {
    /// A column for each wanted field, in their order, of the field's type, and as long as the
    /// payloads are many; NULL where the payload is NULL or bad.
    pub columns: Vec<ArrayRef>,
    /// The bad payloads, by row; no row twice.
    pub bad: Vec<BadPayload>,
    /// The registry's id of each payload's schema, if it has one.
    pub(crate) schema_ids: Option<Int32Array>,
}

/// A payload that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPayload {
    /// Its place among the payloads.
    pub row: usize,
    /// The kind of the fault, for example `syntax`, `type`, `schema`, `frame`, `empty`.
    pub(crate) class: &'static str,
    /// What is wrong, in a few words, without coordinates and without the payload's bytes.
    pub message: String,
    /// The id of the schema that it names, where formats have one.
    pub(crate) schema_id: Option<i32>,
}

impl BadPayload {
    pub(crate) fn new(row: usize, class: &'static str, message: impl Into<String>) -> Self {
        Self {
            row,
            class,
            message: message.into(),
            schema_id: None,
        }
    }
}
