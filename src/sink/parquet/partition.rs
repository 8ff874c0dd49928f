//! The rows that belong into each Hive folder.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use crate::store::hive;

/// The values of the partition columns, as text; `None` is NULL.
pub(super) type Values = Vec<Option<String>>;

/// The folders of some values: `country=NL/day=2026-01-14`.
pub(super) fn folders(columns: &[String], values: &Values) -> String {
    let parts = columns.iter().zip(values);
    let parts = parts.map(|(column, value)| hive::folder(column, value.as_deref()));
    parts.collect::<Vec<_>>().join("/")
}

/// Sorts rows into their folders.
#[derive(Debug)]
pub(super) struct Partitioner {
    columns: Vec<usize>,
    rest: Vec<usize>,
    converter: RowConverter,
}

impl Partitioner {
    /// `columns` are the positions of the partition columns, `types` their types.
    pub(super) fn new(
        columns: Vec<usize>,
        types: &[DataType],
        width: usize,
    ) -> Result<Self, ArrowError> {
        let fields = types.iter().map(|t| SortField::new(t.clone())).collect();
        Ok(Self {
            rest: (0..width).filter(|c| !columns.contains(c)).collect(),
            columns,
            converter: RowConverter::new(fields)?,
        })
    }

    /// The rows of each folder, in the order of their first rows, without the partition columns.
    pub(super) fn split(
        &self,
        batch: &RecordBatch,
    ) -> Result<Vec<(Values, RecordBatch)>, ArrowError> {
        let keys: Vec<_> = self
            .columns
            .iter()
            .map(|column| Arc::clone(batch.column(*column)))
            .collect();
        let rows = self.converter.convert_columns(&keys)?;
        let mut groups: Vec<Vec<u32>> = vec![];
        let mut known = HashMap::new();
        for (number, row) in (0u32..).zip(rows.iter()) {
            let group = *known.entry(row).or_insert_with(|| {
                groups.push(vec![]);
                groups.len() - 1
            });
            groups[group].push(number);
        }
        let texts: Vec<_> = keys
            .iter()
            .map(|key| cast(key, &DataType::Utf8))
            .collect::<Result<_, _>>()?;
        let value = |text: &Arc<dyn Array>, row: u32| {
            let text = text.as_string::<i32>();
            (!text.is_null(row as usize)).then(|| text.value(row as usize).to_owned())
        };
        let rest = batch.project(&self.rest)?;
        let one = groups.len() == 1;
        let split = groups.into_iter().map(|group| {
            // A group has the row that opened it.
            let values = texts.iter().map(|text| value(text, group[0])).collect();
            let rows = match one {
                true => rest.clone(),
                false => take_record_batch(&rest, &UInt32Array::from(group))?,
            };
            Ok((values, rows))
        });
        split.collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn each_partition_column_is_a_folder() {
        let columns = ["a b".to_owned(), "c".to_owned()];
        let values = vec![Some("x/é".to_owned()), None];
        assert_eq!(
            folders(&columns, &values),
            "a b=x%2Fé/c=__HIVE_DEFAULT_PARTITION__"
        );
    }

    #[test]
    fn rows_go_to_their_folders_in_order() {
        let batch = RecordBatch::try_from_iter([
            (
                "k",
                Arc::new(StringArray::from(vec![
                    Some("a"),
                    None,
                    Some("a"),
                    Some(""),
                ])) as _,
            ),
            ("v", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as _),
        ])
        .unwrap();
        let partitioner = Partitioner::new(vec![0], &[DataType::Utf8], 2).unwrap();
        let split = partitioner.split(&batch).unwrap();
        let split: Vec<_> = split
            .iter()
            .map(|(values, rows)| {
                assert_eq!(rows.num_columns(), 1);
                let rows = rows.column(0).as_primitive::<arrow::datatypes::Int64Type>();
                (values[0].clone(), rows.values().to_vec())
            })
            .collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            split,
            [
                (text("a"), vec![1, 3]),
                (None, vec![2]),
                (text(""), vec![4])
            ]
        );
    }
}
