//! Columns to payloads, and back again through the decoders.

mod avro;
mod declared;
#[cfg(feature = "protobuf")]
mod laws;
#[cfg(feature = "protobuf")]
mod protobuf;
mod samples;
mod text;

use arrow::array::{Array, ArrayRef, BinaryViewArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::FieldRef;

use super::*;
use crate::decode::{PayloadDecoder, Wanted};
use crate::error::Result;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn fields(batch: &RecordBatch) -> Vec<FieldRef> {
    batch.schema().fields().iter().cloned().collect()
}

fn encoded(
    encoder: &dyn PayloadEncoder,
    batch: &RecordBatch,
) -> std::result::Result<BinaryViewArray, Misfit> {
    encoder.encode(batch.columns(), batch.num_rows(), &|_| false)
}

/// The payloads as text.
fn texts(encoder: &dyn PayloadEncoder, batch: &RecordBatch) -> Vec<String> {
    let payloads = encoded(encoder, batch).unwrap();
    let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
    payloads
        .iter()
        .map(|p| p.map_or("-".to_owned(), text))
        .collect()
}

/// The fault of the first row that does not fit.
fn misfit(encoder: &dyn PayloadEncoder, batch: &RecordBatch) -> String {
    let Misfit { row, message } = encoded(encoder, batch).unwrap_err();
    format!("{row} {message}")
}

/// All columns of payloads, all of which must be good.
fn decoded(decoder: &dyn PayloadDecoder, payloads: &BinaryViewArray) -> Vec<ArrayRef> {
    let all: Vec<usize> = (0..decoder.fields().len()).collect();
    let wanted = Wanted {
        fields: &all,
        check_all: true,
        schema_ids: false,
    };
    let decoded = decoder.decode(payloads, &wanted).unwrap();
    assert_eq!(decoded.bad, []);
    decoded.columns
}

/// Checks that columns hold the same values, whatever their types.
fn assert_same(found: &[ArrayRef], expected: &RecordBatch) {
    assert_eq!(found.len(), expected.num_columns());
    for (index, (found, expected_column)) in found.iter().zip(expected.columns()).enumerate() {
        let found = cast(found, expected_column.data_type()).unwrap();
        let name = expected.schema().field(index).name().clone();
        assert_eq!(found.as_ref(), expected_column.as_ref(), "{name}");
    }
}
