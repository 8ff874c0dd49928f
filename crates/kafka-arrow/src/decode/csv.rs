//! Comma-separated values, one line per payload, into declared columns.
//!
//! Payloads have no header line: fields belong to columns by their order. An empty field is NULL, or `''` in
//! a column of text. Quoted fields may contain separators and line ends.

use arrow::array::BinaryViewArray;
use arrow::datatypes::{DataType, Fields};

use super::builder::{Builder, Values, builders};
use super::payload::{BadPayload, Decoded, PayloadDecoder, Wanted};
use super::value::{self, Fault};
use crate::error::{Error, Result};
use crate::line::Line;

/// See the module's documentation.
#[derive(Debug)]
pub struct CsvDecoder {
    fields: Fields,
    columns: Vec<Builder>,
    delimiter: u8,
}

impl CsvDecoder {
    /// # Errors
    /// When a column has a type that a CSV field cannot hold.
    pub fn new(fields: &Fields, delimiter: u8) -> Result<Self> {
        let nested = |t: &DataType| t.is_nested() || *t == DataType::Null;
        if let Some(field) = fields.iter().find(|f| nested(f.data_type())) {
            return Err(Error::schema(format!(
                "column '{}': CSV has no values of the type {}; declare VARCHAR",
                field.name(),
                field.data_type()
            )));
        }
        Ok(Self {
            columns: builders(fields)?,
            fields: fields.clone(),
            delimiter,
        })
    }
}

impl PayloadDecoder for CsvDecoder {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn decode(&self, payloads: &BinaryViewArray, wanted: &Wanted<'_>) -> Result<Decoded> {
        let mut columns = self.columns.clone();
        let mut line = Line::new(self.delimiter);
        let read: Vec<bool> = (0..columns.len())
            .map(|index| wanted.check_all || wanted.fields.contains(&index))
            .collect();
        let mut bad = vec![];
        for (row, payload) in payloads.iter().enumerate() {
            let outcome = match payload {
                Some(payload) => line
                    .split(payload, columns.len())
                    .map_err(|(kind, message)| Fault::new(kind, message))
                    .and_then(|()| self.take(&line, &mut columns, &read)),
                None => {
                    columns.iter_mut().for_each(Builder::null);
                    continue;
                }
            };
            if let Err(Fault { class, message }) = outcome {
                for column in &mut columns {
                    column.truncate(row);
                    column.null();
                }
                bad.push(BadPayload::new(row, class, message));
            }
        }
        let columns = wanted
            .fields
            .iter()
            .map(|index| columns[*index].finish())
            .collect::<Result<_, _>>()
            .map_err(|e| {
                Error::internal(format!("CSV does not fit into a batch: {e}")).because(e)
            })?;
        Ok(Decoded {
            columns,
            bad,
            schema_ids: None,
        })
    }
}

impl CsvDecoder {
    fn take(
        &self,
        line: &Line,
        columns: &mut [Builder],
        read: &[bool],
    ) -> std::result::Result<(), Fault> {
        let each = columns.iter_mut().zip(self.fields.iter()).zip(read);
        for (index, ((column, field), read)) in each.enumerate() {
            let text = line.field(index);
            let empty = text.is_empty() && !matches!(column.values, Values::Text(_));
            if empty || !read {
                column.null();
                continue;
            }
            let text = std::str::from_utf8(text)
                .map_err(|_| Fault::new("syntax", "not UTF-8 text"))
                .map_err(|fault| fault.of(field.name()))?;
            value::any_text(column, text).map_err(|fault| fault.of(field.name()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::datatypes::Field;
    use arrow::util::display::array_value_to_string;

    use super::*;

    fn decode(payloads: &[&[u8]]) -> (Vec<String>, Vec<(usize, String)>) {
        let fields = Fields::from(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("s", DataType::Utf8View, true),
            Field::new("b", DataType::Boolean, true),
        ]);
        let decoder = CsvDecoder::new(&fields, b',').unwrap();
        let payloads: BinaryViewArray = payloads.iter().map(|p| Some(*p)).collect();
        let wanted = Wanted {
            fields: &[0, 1, 2],
            check_all: true,
            schema_ids: false,
        };
        let decoded = decoder.decode(&payloads, &wanted).unwrap();
        let rows = (0..payloads.len()).map(|row| {
            let values = decoded.columns.iter().map(|column| {
                if column.is_null(row) {
                    return "-".to_owned();
                }
                array_value_to_string(column, row).unwrap()
            });
            values.collect::<Vec<_>>().join("|")
        });
        let bad = decoded.bad.iter().map(|b| (b.row, b.message.clone()));
        (rows.collect(), bad.collect())
    }

    #[test]
    fn fields_are_taken_in_their_order() {
        let (rows, bad) = decode(&[
            b"1,a,true",
            b"-2,\"x, \"\"y\"\"\nz\",f\r\n",
            b",,",
            b"3,\xc3\xa4,1",
        ]);
        assert_eq!(
            rows,
            ["1|a|true", "-2|x, \"y\"\nz|false", "-||-", "3|\u{e4}|true"]
        );
        assert_eq!(bad, []);
    }

    #[test]
    fn what_does_not_fit_is_bad() {
        let (rows, bad) = decode(&[
            b"",
            b"1,a",
            b"1,a,true,4",
            b"x,a,true",
            b"1,a,true\n2,b,false",
            b"1,\"a,true",
            b"1,a,\"true\n",
            b"\n1,a,true",
            b"\r\n1,a,true",
            b"\n",
            b"1,\xff,true",
            b"9,z,t",
        ]);
        assert_eq!(rows[..11], ["-|-|-"; 11]);
        assert_eq!(rows[11], "9|z|true");
        let bad: Vec<String> = bad.iter().map(|(row, m)| format!("{row} {m}")).collect();
        assert_eq!(
            bad,
            [
                "0 the payload has no bytes, not even a separator",
                "1 2 fields for 3 columns",
                "2 4 fields for 3 columns",
                "3 field 'n': expected Int64, found the text 'x'",
                "4 more than one line",
                "5 ends within quotes",
                "6 ends within quotes",
                "7 begins with an empty line",
                "8 begins with an empty line",
                "9 begins with an empty line",
                "10 field 's': not UTF-8 text",
            ]
        );
    }

    #[test]
    fn nested_columns_are_refused() {
        let list = DataType::List(std::sync::Arc::new(Field::new(
            "item",
            DataType::Int64,
            true,
        )));
        let fields = Fields::from(vec![Field::new("l", list, true)]);
        let error = CsvDecoder::new(&fields, b',').unwrap_err().to_string();
        assert!(
            error.starts_with("column 'l': CSV has no values of the type"),
            "{error}"
        );
    }
}
