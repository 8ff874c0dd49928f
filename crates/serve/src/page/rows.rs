//! Rows of a result as cells of a table.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use askama::Template;
use datafusion_kafka::text::{BytesAs, to_text};

use super::words::shown;

/// How many characters of a value are shown.
const MOST_CHARACTERS: usize = 1_000;

#[derive(Template)]
#[template(path = "answer.html")]
pub(super) enum Answer {
    None,
    Rows(Rows),
    Problem(String),
}

#[derive(Template)]
#[template(path = "rows.html")]
pub(super) struct Rows {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    summary: String,
}

struct Column {
    name: String,
    numeric: bool,
}

struct Cell {
    /// `None` for NULL.
    text: Option<String>,
    numeric: bool,
}

impl Rows {
    /// Binary values as text where they are, else in base64.
    ///
    /// # Errors
    /// When a type cannot be shown.
    pub(super) fn new(
        schema: &arrow::datatypes::Schema,
        batches: &[RecordBatch],
        summary: String,
    ) -> Result<Self, ArrowError> {
        let columns = schema.fields().iter().map(|field| Column {
            name: shown(field.name()),
            numeric: is_number(field.data_type()),
        });
        let mut rows = vec![];
        for batch in batches {
            let batch = to_text(batch, BytesAs::Auto)?;
            let options = FormatOptions::default().with_display_error(true);
            let formatters = batch.columns().iter().map(|column| {
                let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
                Ok((column, formatter, is_number(column.data_type())))
            });
            let formatters = formatters.collect::<Result<Vec<_>, ArrowError>>()?;
            for row in 0..batch.num_rows() {
                let cell = |(column, formatter, numeric): &(_, ArrayFormatter<'_>, bool)| {
                    let column: &dyn Array = column;
                    Cell {
                        text: column
                            .is_valid(row)
                            .then(|| cut(&formatter.value(row).to_string())),
                        numeric: *numeric,
                    }
                };
                rows.push(formatters.iter().map(cell).collect());
            }
        }
        Ok(Self {
            columns: columns.collect(),
            rows,
            summary,
        })
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// The beginning of a text.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}… ({} bytes)", shown(&text[..end]), text.len()),
        None => shown(text),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Int64Array};

    use super::*;

    #[test]
    fn values_of_others_are_only_text() {
        let long = "x".repeat(MOST_CHARACTERS + 1);
        let values: Vec<Option<&[u8]>> = vec![
            Some(b"<script>alert(1)</script>"),
            None,
            Some(&[0xff, 0xfe]),
            Some(long.as_bytes()),
        ];
        let columns: [(&str, ArrayRef); 2] = [
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
            ("<b>v</b>", Arc::new(BinaryArray::from(values))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let rows = Rows::new(&batch.schema(), &[batch], "4 rows".to_owned()).unwrap();
        let html = rows.to_string();
        assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
        assert!(html.contains("&#60;script&#62;alert(1)"), "{html}");
        assert!(
            html.contains(r#"<span class="quiet">NULL</span>"#),
            "{html}"
        );
        assert!(html.contains("//4="), "{html}");
        assert!(html.contains("… (1001 bytes)"), "{html}");
    }
}
