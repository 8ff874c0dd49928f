//! Columns as bytes and as text that keep all that Arrow knows of them: its stream format without a batch.

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hex::hex;

/// The columns as a file, and the name that its contents give it.
pub(crate) fn encode_columns(schema: &Schema) -> Result<(String, Bytes)> {
    let write = || {
        let mut writer = StreamWriter::try_new(vec![], schema)?;
        writer.finish()?;
        writer.into_inner()
    };
    let bytes = write()
        .map_err(|error| Error::schema(format!("the query's columns: {error}")).because(error))?;
    let name = hex(&Sha256::digest(&bytes)[..8]);
    Ok((name, bytes.into()))
}

/// Reads what [`encode_columns`] wrote.
pub(crate) fn decode_columns(file: &str, bytes: &[u8]) -> Result<SchemaRef> {
    let reader = StreamReader::try_new(std::io::Cursor::new(bytes), None);
    let reader = reader.map_err(|error| {
        Error::corrupt(
            file,
            format!("it does not hold the columns of the files: {error}"),
        )
        .because(error)
    })?;
    Ok(reader.schema())
}

/// Columns as text that keeps all of them.
pub(crate) fn columns_text(schema: &Schema) -> Result<String> {
    let (_, bytes) = encode_columns(schema)?;
    Ok(BASE64_STANDARD.encode(bytes))
}

/// Reads what [`columns_text`] wrote.
///
/// # Errors
/// When it is something else.
pub(crate) fn columns_of(text: &str) -> Result<SchemaRef> {
    let bytes = BASE64_STANDARD.decode(text);
    let bytes = bytes.map_err(|e| Error::internal(format!("recorded columns: {e}")).because(e))?;
    decode_columns("recorded columns", &bytes)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn columns_come_back_and_cut_ones_are_refused() {
        let schema = Schema::new(vec![Field::new("a", DataType::Utf8View, false)]);
        let (name, bytes) = encode_columns(&schema).unwrap();
        assert_eq!(name.len(), 16);
        assert_eq!(*decode_columns("x", &bytes).unwrap(), schema);
        assert!(decode_columns("x", &bytes[..20]).is_err());
        let text = columns_text(&schema).unwrap();
        assert_eq!(*columns_of(&text).unwrap(), schema);
        assert!(columns_of("no base64!").is_err());
    }
}
