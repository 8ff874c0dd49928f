//! A query's columns, arranged as a table declares them.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::*;

fn declare(columns: &[(&str, DataType)]) -> Vec<FieldRef> {
    let columns = columns.iter();
    columns
        .map(|(name, of)| Arc::new(Field::new(*name, of.clone(), true)))
        .collect()
}

fn aligned(declared: &[FieldRef], batch: &RecordBatch) -> Result<Arc<dyn PayloadEncoder>> {
    let aligned = Declared::of(declared, &fields(batch))?;
    let encoder = JsonEncoder::new(aligned.fields(), None)?;
    Ok(aligned.over(Arc::new(encoder)))
}

#[test]
fn order_types_and_missing_fields_follow_the_declaration() {
    let declared = declare(&[
        ("a", DataType::Int32),
        ("b", DataType::Utf8View),
        ("c", DataType::Decimal128(10, 2)),
        ("d", DataType::Timestamp(TimeUnit::Millisecond, None)),
    ]);
    let batch = batch(vec![
        ("c", Arc::new(Int64Array::from(vec![Some(3), None]))),
        ("a", Arc::new(Int64Array::from(vec![Some(1), None]))),
        (
            "d",
            Arc::new(TimestampNanosecondArray::from(vec![Some(5_000_000), None])),
        ),
    ]);
    let encoder = aligned(&declared, &batch).unwrap();
    assert_eq!(
        texts(encoder.as_ref(), &batch),
        [
            r#"{"a":1,"b":null,"c":3.00,"d":"1970-01-01T00:00:00.005"}"#,
            r#"{"a":null,"b":null,"c":null,"d":null}"#,
        ]
    );
}

#[test]
fn values_outside_the_declared_type_are_errors() {
    let cases: Vec<(DataType, ArrayRef, &str)> = vec![
        (
            DataType::Int8,
            Arc::new(Int64Array::from(vec![1, 300])),
            "1 column 'x': 300 does not fit into Int8",
        ),
        (
            DataType::Int64,
            Arc::new(Float64Array::from(vec![1.0, 1.5])),
            "1 column 'x': 1.5 does not fit into Int64",
        ),
        (
            DataType::Timestamp(TimeUnit::Second, None),
            Arc::new(TimestampMillisecondArray::from(vec![1000, 1001])),
            "1 column 'x': 1970-01-01T00:00:01.001 does not fit into Timestamp(s)",
        ),
    ];
    for (of, array, expected) in cases {
        let batch = batch(vec![("x", array)]);
        let encoder = aligned(&declare(&[("x", of)]), &batch).unwrap();
        assert_eq!(misfit(encoder.as_ref(), &batch), expected);
    }
}

#[test]
fn columns_that_are_not_declared_are_refused() {
    let batch = batch(vec![("amuont", Arc::new(StringArray::from(vec!["1"])))]);
    let refused = |columns| aligned(&declare(columns), &batch).unwrap_err().to_string();
    assert_eq!(
        refused(&[("amount", DataType::Int64)]),
        "the table declares no column 'amuont'; did you mean 'amount'?"
    );
    assert_eq!(
        refused(&[("amuont", DataType::Int64)]),
        "the column 'amuont' is Utf8, and the table declares Int64: CAST it in the query"
    );
}
