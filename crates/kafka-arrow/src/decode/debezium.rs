//! What is common to Debezium's envelopes, whatever they are encoded in.
//!
//! ```text
//! {"op": "u", "before": {…}, "after": {…}, "source": {…}, "ts_ms": 1768384800123, …}
//!   ─▶ op, before, after, source, ts
//! ```

use arrow::datatypes::{DataType, Fields, TimeUnit};

use crate::error::{Error, Result};

/// The columns of an envelope, in their order.
pub(crate) const COLUMNS: [&str; 5] = ["op", "before", "after", "source", "ts"];
/// The field that every envelope has: what was done to the row.
pub(super) const OP: &str = "op";

/// The field of an envelope that a column comes from.
pub(super) fn field(column: &str) -> &str {
    match column {
        "ts" => "ts_ms",
        other => other,
    }
}

/// Checks the columns that a table declares.
///
/// # Errors
/// When one is no column of an envelope, or `ts` has no milliseconds.
pub fn check(declared: &Fields) -> Result<()> {
    for column in declared {
        let name = column.name().as_str();
        if !COLUMNS.contains(&name) {
            return Err(Error::schema(format!(
                "column '{name}' is none of an envelope of Debezium, which are {}: declare the row's fields \
                 within after STRUCT<…> and before STRUCT<…>",
                COLUMNS.join(", ")
            )));
        }
        // A column of another unit would take the number for one in it.
        let milliseconds = matches!(
            column.data_type(),
            DataType::Timestamp(TimeUnit::Millisecond, _)
        );
        if name == "ts" && !milliseconds {
            return Err(Error::schema(format!(
                "column 'ts' is declared {}, and an envelope has milliseconds there: declare TIMESTAMP(3) WITH \
                 TIME ZONE",
                column.data_type()
            )));
        }
    }
    Ok(())
}
