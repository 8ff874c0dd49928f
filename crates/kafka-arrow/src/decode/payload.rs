//! The trait of formats, which turn payloads (the bytes of keys or of values) into columns.
//!
//! ```text
//! payloads ─▶ prepare (may ask a registry) ─▶ decode ─▶ columns, and the faults of bad rows
//! ```
//!
//! A decoder only reports bad payloads. The table's policy decides about them, with the same code for every
//! format.

use std::fmt;

use arrow::array::{ArrayRef, BinaryViewArray, Int32Array};
use arrow::datatypes::Fields;
use async_trait::async_trait;

use crate::error::Result;

/// A format with its schema, fixed when a table is planned.
#[async_trait]
pub trait PayloadDecoder: fmt::Debug + Send + Sync {
    /// The columns that a payload becomes, all nullable.
    fn fields(&self) -> &Fields;

    /// Whether the text in a column is in the payload as JSON writes it. Then it is there byte for byte, unless the
    /// payload has a backslash, or the text is an array, an object or a number.
    fn is_json(&self) -> bool {
        false
    }

    /// Fetches what decoding these payloads needs and does not have yet, such as writers' schemas.
    ///
    /// # Errors
    /// When the source fails, for example because a registry is down. Faults of a payload, such as an id that
    /// the registry does not know, are left to [`decode`](Self::decode).
    async fn prepare(&self, payloads: &BinaryViewArray) -> Result<()> {
        let _ = payloads;
        Ok(())
    }

    /// Decodes payloads. A NULL payload has NULL fields and is not bad.
    ///
    /// # Errors
    /// Only for faults of this crate. Payloads that do not decode are listed in `Decoded::bad`.
    fn decode(&self, payloads: &BinaryViewArray, wanted: &Wanted<'_>) -> Result<Decoded>;
}

/// What the caller wants of the payloads.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The fields to build, as indices into [`PayloadDecoder::fields`], without duplicates.
    pub fields: &'a [usize],
    /// Whether to check the other fields too: a payload is then bad when any of the schema's fields does not
    /// fit. Otherwise a decoder may check only what it builds.
    pub check_all: bool,
    /// Whether to fill `Decoded::schema_ids`.
    pub schema_ids: bool,
}

/// Payloads, decoded into columns.
#[derive(Debug, Default)]
pub struct Decoded {
    /// A column for each wanted field, in the order asked for, of the field's type, with a row for each
    /// payload. The row is NULL where the payload is NULL or bad.
    pub columns: Vec<ArrayRef>,
    /// The bad payloads, by row. No row occurs twice.
    pub bad: Vec<BadPayload>,
    /// The registry's id of each payload's schema, if it has one.
    pub(crate) schema_ids: Option<Int32Array>,
}

/// A payload that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPayload {
    /// Its place among the payloads.
    pub row: usize,
    /// The kind of fault, for example `syntax`, `type`, `schema`, `frame`, `empty`.
    pub(crate) class: &'static str,
    /// A few words about the fault, without coordinates and without the payload's bytes.
    pub message: String,
    /// The id of the schema that the payload names, in formats that have one.
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
