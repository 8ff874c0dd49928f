//! Turns binary values into text, at any depth of nesting.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, ListArray, MapArray, RecordBatch,
    StringViewBuilder, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::error::ArrowError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// How binary values are written in text formats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum BytesAs {
    /// As text where the value is valid UTF-8, else in base64
    #[default]
    Auto,
    /// As text; a value that is not UTF-8 is an error
    Utf8,
    /// In base64, always
    Base64,
    /// In hexadecimal digits, always
    Hex,
}

/// `batch` with every binary column replaced by text.
///
/// # Errors
/// With [`BytesAs::Utf8`], [`ArrowError::InvalidArgumentError`] when a value is not UTF-8.
pub fn to_text(batch: &RecordBatch, mode: BytesAs) -> Result<RecordBatch, ArrowError> {
    if !batch.columns().iter().any(|c| holds_binary(c.data_type())) {
        return Ok(batch.clone());
    }
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let column = array_to_text(column, mode).map_err(|e| name_column(e, field.name()))?;
        fields.push(retyped(field, &column));
        columns.push(column);
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    RecordBatch::try_new(schema, columns)
}

/// Whether values of this type contain binary values that [`to_text`] replaces.
fn holds_binary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds_binary(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| holds_binary(f.data_type())),
        DataType::Dictionary(_, value) => holds_binary(value),
        _ => false,
    }
}

fn retyped(field: &FieldRef, column: &ArrayRef) -> Field {
    field
        .as_ref()
        .clone()
        .with_data_type(column.data_type().clone())
}

fn name_column(error: ArrowError, column: &str) -> ArrowError {
    match error {
        ArrowError::InvalidArgumentError(message) => {
            ArrowError::InvalidArgumentError(format!("column \"{column}\": {message}"))
        }
        other => other,
    }
}

fn array_to_text(array: &ArrayRef, mode: BytesAs) -> Result<ArrayRef, ArrowError> {
    if !holds_binary(array.data_type()) {
        return Ok(Arc::clone(array));
    }
    let child = |field: &FieldRef, values: &ArrayRef| -> Result<(FieldRef, ArrayRef), ArrowError> {
        let values = array_to_text(values, mode)?;
        Ok((Arc::new(retyped(field, &values)), values))
    };
    Ok(match array.data_type() {
        DataType::Binary => values_to_text(array.as_binary::<i32>().iter(), mode)?,
        DataType::LargeBinary => values_to_text(array.as_binary::<i64>().iter(), mode)?,
        DataType::FixedSizeBinary(_) => values_to_text(array.as_fixed_size_binary().iter(), mode)?,
        DataType::BinaryView => {
            let view = array.as_binary_view();
            if let (BytesAs::Auto | BytesAs::Utf8, Ok(text)) = (mode, view.clone().to_string_view())
            {
                // Everything is text already: the result shares the buffers and copies nothing.
                Arc::new(text)
            } else {
                values_to_text(view.iter(), mode)?
            }
        }
        DataType::List(field) => {
            let list = array.as_list::<i32>();
            let (field, values) = child(field, list.values())?;
            Arc::new(ListArray::try_new(
                field,
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            )?)
        }
        DataType::LargeList(field) => {
            let list = array.as_list::<i64>();
            let (field, values) = child(field, list.values())?;
            Arc::new(LargeListArray::try_new(
                field,
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            )?)
        }
        DataType::FixedSizeList(field, size) => {
            let list = array.as_fixed_size_list();
            let (field, values) = child(field, list.values())?;
            Arc::new(FixedSizeListArray::try_new(
                field,
                *size,
                values,
                list.nulls().cloned(),
            )?)
        }
        DataType::Struct(fields) => struct_to_text(fields, array.as_struct(), mode)?,
        DataType::Map(field, sorted) => {
            let map = array.as_map();
            let entries = map.entries();
            let entries = struct_to_text(entries.fields(), entries, mode)?;
            let field = Arc::new(retyped(field, &entries));
            Arc::new(MapArray::try_new(
                field,
                map.offsets().clone(),
                entries.as_struct().clone(),
                map.nulls().cloned(),
                *sorted,
            )?)
        }
        DataType::Dictionary(_, value) => array_to_text(&cast(array, value)?, mode)?,
        _ => Arc::clone(array),
    })
}

fn struct_to_text(
    fields: &arrow::datatypes::Fields,
    array: &StructArray,
    mode: BytesAs,
) -> Result<ArrayRef, ArrowError> {
    let mut children = Vec::with_capacity(fields.len());
    let mut retyped_fields = Vec::with_capacity(fields.len());
    for (field, column) in fields.iter().zip(array.columns()) {
        let column = array_to_text(column, mode)?;
        retyped_fields.push(retyped(field, &column));
        children.push(column);
    }
    Ok(Arc::new(StructArray::try_new_with_length(
        retyped_fields.into(),
        children,
        array.nulls().cloned(),
        array.len(),
    )?))
}

fn values_to_text<'a>(
    values: impl Iterator<Item = Option<&'a [u8]>>,
    mode: BytesAs,
) -> Result<ArrayRef, ArrowError> {
    let mut out = StringViewBuilder::new();
    let mut scratch = String::new();
    for (row, value) in values.enumerate() {
        let Some(value) = value else {
            out.append_null();
            continue;
        };
        scratch.clear();
        match (mode, std::str::from_utf8(value)) {
            (BytesAs::Auto | BytesAs::Utf8, Ok(text)) => {
                out.try_append_value(text)?;
                continue;
            }
            (BytesAs::Utf8, Err(error)) => {
                return Err(ArrowError::InvalidArgumentError(format!(
                    "row {row} of a batch is not UTF-8 after {} bytes; write --bytes auto, base64 or hex",
                    error.valid_up_to()
                )));
            }
            (BytesAs::Auto | BytesAs::Base64, _) => BASE64.encode_string(value, &mut scratch),
            (BytesAs::Hex, _) => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                for byte in value {
                    scratch.push(char::from(DIGITS[usize::from(byte >> 4)]));
                    scratch.push(char::from(DIGITS[usize::from(byte & 15)]));
                }
            }
        }
        out.try_append_value(&scratch)?;
    }
    Ok(Arc::new(out.finish()))
}
