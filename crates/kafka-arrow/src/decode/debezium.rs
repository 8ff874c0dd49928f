//! What Debezium's envelopes have in common in all encodings. Debezium publishes the changes of a database's
//! rows; each record's value is an envelope around one change.
//!
//! ```text
//! {"op": "u", "before": {…}, "after": {…}, "source": {…}, "ts_ms": 1768384800123, …}
//!   ─▶ op, before, after, source, ts
//! ```

use arrow::datatypes::{DataType, Fields, TimeUnit};

use crate::error::{Error, Result};

/// The columns of an envelope, in order.
pub(crate) const COLUMNS: [&str; 5] = ["op", "before", "after", "source", "ts"];
/// The field that every envelope has: the kind of change.
pub(super) const OP: &str = "op";

/// The envelope's field that supplies a column.
pub(super) fn field(column: &str) -> &str {
    match column {
        "ts" => "ts_ms",
        other => other,
    }
}

/// Checks the columns that a table declares.
///
/// # Errors
/// When a column does not belong to an envelope, or `ts` is not in milliseconds.
pub fn check(declared: &Fields) -> Result<()> {
    for column in declared {
        let name = column.name().as_str();
        if !COLUMNS.contains(&name) {
            return Err(Error::invalid(format!(
                "column '{name}' is not part of Debezium's envelope, whose columns are {}: declare the row's fields \
                 within after STRUCT<…> and before STRUCT<…>",
                COLUMNS.join(", ")
            )));
        }
        // A column of another unit would misread the number.
        let milliseconds = matches!(
            column.data_type(),
            DataType::Timestamp(TimeUnit::Millisecond, _)
        );
        if name == "ts" && !milliseconds {
            return Err(Error::invalid(format!(
                "column 'ts' is declared {}, and an envelope has milliseconds there: declare TIMESTAMP(3) WITH \
                 TIME ZONE",
                column.data_type()
            )));
        }
    }
    Ok(())
}
