//! Rows as a multiset, for comparing what was computed with what is held.

use std::collections::HashMap;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use super::job;
use crate::error::{Error, Result};

/// How many rows of a difference are shown.
const SHOWN: usize = 5;

/// Rows by their text, with how often each comes. The text is that of the values alone, by column
/// name, so that a sink may hold an Int32 as an Int64 or a dictionary as its values.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    counts: HashMap<String, u64>,
    total: u64,
}

impl Rows {
    /// How many rows there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// How many rows are not in `other`, and the first of them.
    pub(crate) fn without(&self, other: &Self) -> (u64, Vec<String>) {
        let mut missing = 0;
        let mut examples = vec![];
        for (row, count) in &self.counts {
            let found = other.counts.get(row).copied().unwrap_or(0);
            let lacks = count.saturating_sub(found);
            if lacks > 0 {
                missing += lacks;
                if examples.len() < SHOWN {
                    examples.push(row.clone());
                }
            }
        }
        examples.sort();
        (missing, examples)
    }
}

/// Reads all rows. The memory grows with the rows that differ from each other.
pub(crate) async fn count_rows(mut rows: SendableRecordBatchStream) -> Result<Rows> {
    let schema = rows.schema();
    let mut order: Vec<usize> = (0..schema.fields().len()).collect();
    order.sort_by_key(|column| schema.field(*column).name().clone());
    let mut counted = Rows::default();
    let options = FormatOptions::default().with_null("NULL");
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(job::query_error)?;
        let columns: Vec<(&str, ArrayFormatter<'_>)> = order
            .iter()
            .map(|column| {
                let array = batch.column(*column).as_ref();
                let formatter = ArrayFormatter::try_new(array, &options);
                formatter.map(|f| (schema.field(*column).name().as_str(), f))
            })
            .collect::<Result<_, _>>()
            .map_err(|error| Error::Query {
                message: error.to_string(),
            })?;
        for row in 0..batch.num_rows() {
            let mut text = String::new();
            for (name, column) in &columns {
                if !text.is_empty() {
                    text.push_str(", ");
                }
                text.push_str(&format!("{name}: {}", column.value(row)));
            }
            *counted.counts.entry(text).or_default() += 1;
            counted.total += 1;
        }
    }
    Ok(counted)
}
