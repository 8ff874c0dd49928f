//! A line of comma-separated values.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

/// What is wrong with a line: of which kind that is, and in words.
type Fault = (&'static str, String);

/// The fields of a line, unquoted.
pub(crate) struct Line {
    reader: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Line {
    pub(crate) fn new(delimiter: u8) -> Self {
        Self {
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            text: vec![],
            ends: vec![],
        }
    }

    pub(crate) fn field(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }

    /// Splits a payload, which must have exactly `fields` fields.
    pub(crate) fn split(&mut self, payload: &[u8], fields: usize) -> Result<(), Fault> {
        let found = self.split_up_to(payload, fields)?;
        if found != fields {
            let message = format!("{found} fields for {fields} columns");
            return Err(("type", message));
        }
        Ok(())
    }

    /// Splits a payload. Returns how many fields there are; `None` if it is not one line.
    pub(crate) fn split_all(&mut self, payload: &[u8], delimiter: u8) -> Option<usize> {
        let most = payload.iter().filter(|byte| **byte == delimiter).count() + 1;
        self.split_up_to(payload, most).ok()
    }

    fn split_up_to(&mut self, payload: &[u8], fields: usize) -> Result<usize, Fault> {
        if payload.is_empty() {
            return Err((
                "empty",
                "the payload has no bytes, not even a separator".to_owned(),
            ));
        }
        if payload.starts_with(b"\r") || payload.starts_with(b"\n") {
            return Err(("syntax", "begins with an empty line".to_owned()));
        }
        self.reader.reset();
        // Unquoted text is never longer than the payload, but the reader wants room before it reports a
        // line's end. One extra field shows that there are too many.
        self.text.resize(payload.len() + 1, 0);
        self.ends.resize(fields + 1, 0);
        let (mut input, mut written, mut ended) = (payload, 0, 0);
        // First the payload, then a line end in case it has none.
        let mut line_end: &[u8] = b"\n";
        loop {
            let (result, read, text, ends) =
                self.reader
                    .read_record(input, &mut self.text[written..], &mut self.ends[ended..]);
            input = &input[read..];
            written += text;
            ended += ends;
            match result {
                ReadRecordResult::InputEmpty if line_end.is_empty() => {
                    return Err(("syntax", "ends within quotes".to_owned()));
                }
                ReadRecordResult::InputEmpty => input = std::mem::take(&mut line_end),
                ReadRecordResult::Record => break,
                ReadRecordResult::OutputEndsFull => {
                    let message = format!("more fields than the {fields} columns");
                    return Err(("type", message));
                }
                ReadRecordResult::OutputFull | ReadRecordResult::End => {
                    return Err(("syntax", "no line of comma-separated values".to_owned()));
                }
            }
        }
        if !input.iter().all(|b| matches!(b, b'\r' | b'\n')) {
            return Err(("syntax", "more than one line".to_owned()));
        }
        Ok(ended)
    }
}

/// Appends a field, in quotes where it needs them.
pub(crate) fn quoted(text: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let special = |byte: &u8| *byte == delimiter || matches!(byte, b'"' | b'\n' | b'\r');
    // Readers drop a byte order mark at the start of a line.
    if !text.iter().any(special) && !text.starts_with("\u{feff}".as_bytes()) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}
