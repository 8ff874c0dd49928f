//! Turns columns into payloads, which are the bytes of Kafka's keys or values: the reverse of
//! [`decode`](crate::decode).
//!
//! ```text
//! columns ─▶ cells: a few kinds instead of Arrow's many types ─▶ a format's plan ─▶ payloads
//! ```
//!
//! The decoder of a format reads back exactly what its encoder wrote. Making an encoder checks whether the
//! columns fit the schema at all. A value that does not fit is a [`Misfit`] with its row and column; it is
//! never rounded, truncated or left out.

mod avro;
mod cells;
mod csv;
mod declared;
mod json;
#[cfg(feature = "protobuf")]
mod protobuf;
#[cfg(not(feature = "protobuf"))]
#[path = "protobuf_absent.rs"]
mod protobuf;
mod scalar;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

use arrow::array::{ArrayRef, BinaryViewArray, BinaryViewBuilder};

pub use avro::{AvroEncoder, AvroFrame, derived as derived_avro};
pub use csv::CsvEncoder;
pub use declared::Declared;
pub use json::JsonEncoder;
pub use protobuf::{ProtobufEncoder, derived as derived_protobuf};
pub use scalar::ScalarEncoder;

use self::cells::{Cells, Member};

/// A format with its schema, fixed when a sink is opened.
pub trait PayloadEncoder: fmt::Debug + Send + Sync {
    /// Encodes rows. `columns` are those that the encoder was made for, in the same order. Rows marked in
    /// `absent` are not read and become NULL.
    ///
    /// # Errors
    /// The first row that does not fit.
    fn encode(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        absent: &dyn Fn(usize) -> bool,
    ) -> Result<BinaryViewArray, Misfit>;

    /// Sets the schema's id in a registry, for formats whose payloads have its frame. It comes late, because
    /// a schema is only registered once the columns are known to fit it.
    fn set_id(&mut self, _id: i32) {}
}

/// A row that cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Its place among the rows.
    pub row: usize,
    /// What is wrong, with the column's name.
    pub message: String,
}

/// What is wrong with a value, without its row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault(String);

impl Fault {
    #[cold]
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The same fault, attributed to the value called `name`.
    #[cold]
    fn of(self, name: &str) -> Self {
        Self(match self.0.strip_prefix("column '") {
            Some(rest) => format!("column '{name}.{rest}"),
            None => format!("column '{name}': {}", self.0),
        })
    }
}

type Outcome = Result<(), Fault>;

/// The columns of rows as cells.
fn cells_of(columns: &[ArrayRef]) -> Result<Vec<Cells>, Misfit> {
    // Making the encoder checked that the types are known.
    let cells: Result<Vec<_>, String> = columns.iter().map(Cells::of).collect();
    cells.map_err(|message| Misfit { row: 0, message })
}

/// The columns as members of a record.
fn members_of(names: &[String], columns: &[ArrayRef]) -> Result<Vec<Member>, Misfit> {
    let members = names.iter().zip(cells_of(columns)?);
    let members = members.map(|(name, cells)| Member {
        name: name.clone(),
        cells,
    });
    Ok(members.collect())
}

/// Encodes rows one after the other.
fn each_row(
    rows: usize,
    absent: &dyn Fn(usize) -> bool,
    mut write: impl FnMut(usize, &mut Vec<u8>) -> Outcome,
) -> Result<BinaryViewArray, Misfit> {
    let mut built = BinaryViewBuilder::with_capacity(rows);
    let mut payload = Vec::new();
    for row in 0..rows {
        if absent(row) {
            built.append_null();
            continue;
        }
        payload.clear();
        write(row, &mut payload).map_err(|Fault(message)| Misfit { row, message })?;
        built.append_value(&payload);
    }
    Ok(built.finish())
}

/// The magic byte and the schema id that a registry's serializers put first.
fn frame(id: i32) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(id.to_be_bytes());
    frame
}
