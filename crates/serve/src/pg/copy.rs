//! Rows as the text and CSV of `COPY … TO STDOUT`.
//!
//! pgwire's `CopyEncoder` is not used: its CSV does not tell an empty text from NULL, and delimiters have one byte.

use bytes::{BufMut, BytesMut};
use pgwire::messages::data::DataRow;

/// How rows are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CopyFormat {
    pub(super) csv: bool,
    pub(super) header: bool,
    pub(super) delimiter: char,
    pub(super) quote: char,
    pub(super) null: String,
}

impl CopyFormat {
    pub(super) fn new(csv: bool) -> Self {
        Self {
            csv,
            header: false,
            delimiter: if csv { ',' } else { '\t' },
            quote: '"',
            null: if csv { "" } else { "\\N" }.to_owned(),
        }
    }

    /// Appends the line of names.
    pub(super) fn names<'a>(&self, names: impl Iterator<Item = &'a str>, line: &mut BytesMut) {
        self.fields(names.map(|name| Some(name.as_bytes())), line);
    }

    /// Appends the line of a row, whose values are text.
    pub(super) fn row(&self, row: &DataRow, line: &mut BytesMut) {
        let mut rest: &[u8] = &row.data;
        let fields = (0..row.field_count).map_while(|_| {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                rest = after;
                return Some(None);
            };
            let (field, after) = after.split_at_checked(length)?;
            rest = after;
            Some(Some(field))
        });
        self.fields(fields, line);
    }

    fn fields<'a>(&self, fields: impl Iterator<Item = Option<&'a [u8]>>, line: &mut BytesMut) {
        let mut utf8 = [0; 4];
        let delimiter = self.delimiter.encode_utf8(&mut utf8).as_bytes();
        for (at, field) in fields.enumerate() {
            if at > 0 {
                line.put_slice(delimiter);
            }
            match field {
                None => line.put_slice(self.null.as_bytes()),
                Some(field) if self.csv => self.quoted(field, delimiter, line),
                Some(field) => escaped(field, delimiter, line),
            }
        }
        line.put_u8(b'\n');
    }

    /// As PostgreSQL quotes: where it must, and a text that would be read as NULL.
    fn quoted(&self, field: &[u8], delimiter: &[u8], line: &mut BytesMut) {
        let mut utf8 = [0; 4];
        let quote = self.quote.encode_utf8(&mut utf8).as_bytes();
        let has = |part: &[u8]| field.windows(part.len()).any(|found| found == part);
        let must = field == self.null.as_bytes()
            || has(delimiter)
            || has(quote)
            || field.contains(&b'\n')
            || field.contains(&b'\r')
            || field == b"\\.";
        if !must {
            line.put_slice(field);
            return;
        }
        line.put_slice(quote);
        let mut rest = field;
        while let Some(at) = rest.windows(quote.len()).position(|found| found == quote) {
            let (before, after) = rest.split_at(at + quote.len());
            line.put_slice(before);
            line.put_slice(quote);
            rest = after;
        }
        line.put_slice(rest);
        line.put_slice(quote);
    }
}

fn escaped(field: &[u8], delimiter: &[u8], line: &mut BytesMut) {
    let mut rest = field;
    while let Some(&byte) = rest.first() {
        let letter = match byte {
            b'\\' => Some(b'\\'),
            b'\n' => Some(b'n'),
            b'\r' => Some(b'r'),
            b'\t' => Some(b't'),
            0x08 => Some(b'b'),
            0x0b => Some(b'v'),
            0x0c => Some(b'f'),
            _ => None,
        };
        if let Some(letter) = letter {
            line.put_slice(&[b'\\', letter]);
            rest = &rest[1..];
        } else if rest.starts_with(delimiter) {
            line.put_u8(b'\\');
            line.put_slice(delimiter);
            rest = &rest[delimiter.len()..];
        } else {
            line.put_u8(byte);
            rest = &rest[1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[Option<&str>]) -> DataRow {
        let mut data = BytesMut::new();
        for field in fields {
            match field {
                None => data.put_i32(-1),
                Some(field) => {
                    data.put_i32(i32::try_from(field.len()).unwrap());
                    data.put_slice(field.as_bytes());
                }
            }
        }
        DataRow::new(data, i16::try_from(fields.len()).unwrap())
    }

    fn line(format: &CopyFormat, fields: &[Option<&str>]) -> String {
        let mut line = BytesMut::new();
        format.row(&row(fields), &mut line);
        String::from_utf8(line.to_vec()).unwrap()
    }

    #[test]
    fn text_is_escaped_as_postgresql_does() {
        let format = CopyFormat::new(false);
        assert_eq!(
            line(&format, &[Some("a\tb\\\n"), None, Some(""), Some("ü")]),
            "a\\tb\\\\\\n\t\\N\t\tü\n"
        );
    }

    #[test]
    fn csv_tells_null_from_an_empty_text() {
        let mut format = CopyFormat::new(true);
        assert_eq!(
            line(
                &format,
                &[
                    Some("a,b"),
                    None,
                    Some(""),
                    Some("say \"hi\""),
                    Some("x\ny"),
                    Some("plain")
                ]
            ),
            "\"a,b\",,\"\",\"say \"\"hi\"\"\",\"x\ny\",plain\n"
        );
        format.null = "NULL".to_owned();
        format.delimiter = ';';
        assert_eq!(
            line(&format, &[None, Some("NULL"), Some(""), Some("a,b;c")]),
            "NULL;\"NULL\";;\"a,b;c\"\n"
        );
    }

    #[test]
    fn a_broken_row_ends_early_and_does_not_panic() {
        let mut broken = row(&[Some("abc"), Some("d")]);
        broken.data.truncate(9);
        let mut line = BytesMut::new();
        CopyFormat::new(true).row(&broken, &mut line);
        assert_eq!(&line[..], b"abc\n");
    }
}
