//! What is wrong with the records of a batch, and the messages about it.

use arrow::array::{BooleanArray, StringViewArray};

use super::{DecodedPart, Part};
use crate::client::RawBatch;
use crate::decode::payload::BadPayload;
use crate::error::Error;
use crate::hex::hex;

/// The bad payloads of a batch, by row.
#[derive(Default)]
pub(super) struct Reasons<'a> {
    /// In ascending order of rows; in each row the key before the value.
    all: Vec<(Part, &'a BadPayload)>,
    /// The rows, without duplicates.
    pub(super) rows: Vec<usize>,
}

impl<'a> Reasons<'a> {
    pub(super) fn of(key: &'a DecodedPart, value: &'a DecodedPart, rows: usize) -> Self {
        let of = |decoded: &'a DecodedPart| {
            let bad = decoded.decoded.bad.iter().filter(move |b| b.row < rows);
            bad.filter_map(|bad| Some((decoded.part?, bad)))
        };
        let mut all: Vec<_> = of(key).chain(of(value)).collect();
        all.sort_by_key(|(_, bad)| bad.row);
        let mut rows: Vec<usize> = all.iter().map(|(_, bad)| bad.row).collect();
        rows.dedup();
        Self { all, rows }
    }

    pub(super) fn first(&self) -> Option<Reason<'a>> {
        let (part, bad) = *self.all.first()?;
        Some(Reason { part, bad })
    }

    pub(super) fn good(&self, rows: usize) -> BooleanArray {
        let mut good = vec![true; rows];
        for row in &self.rows {
            good[*row] = false;
        }
        good.into()
    }

    pub(super) fn texts(&self, rows: usize) -> StringViewArray {
        let mut texts: Vec<Option<String>> = vec![None; rows];
        for letter in self.letters() {
            texts[letter.row()] = Some(letter.text());
        }
        texts.into_iter().collect()
    }

    /// The faults, record by record.
    pub(super) fn letters(&self) -> impl Iterator<Item = Letter<'_>> {
        self.all.chunk_by(|a, b| a.1.row == b.1.row).map(Letter)
    }
}

/// The faults of one record: of its key, its value, or both.
pub(super) struct Letter<'a>(&'a [(Part, &'a BadPayload)]);

impl Letter<'_> {
    fn row(&self) -> usize {
        self.0.first().map_or(0, |(_, bad)| bad.row)
    }

    /// The kind of fault. Where both are bad, the key's.
    pub(super) fn class(&self) -> Option<&'static str> {
        self.0.first().map(|(_, bad)| bad.class)
    }

    pub(super) fn schema_id(&self) -> Option<i32> {
        self.0.iter().find_map(|(_, bad)| bad.schema_id)
    }

    pub(super) fn text(&self) -> String {
        let texts = self.0.iter();
        let texts = texts.map(|(part, bad)| format!("{}: {}", part.name(), bad.message));
        texts.collect::<Vec<_>>().join("; ")
    }
}

pub(super) struct Reason<'a> {
    part: Part,
    bad: &'a BadPayload,
}

impl Reason<'_> {
    pub(super) fn error(&self, raw: &RawBatch) -> Error {
        Error::BadRow {
            topic: raw.partition.topic.to_string(),
            partition: raw.partition.partition,
            offset: raw.offsets.value(self.bad.row),
            message: format!(
                "{}; 'on.bad.row' = 'null' or 'skip' continues without it",
                self.message(raw)
            ),
        }
    }

    /// The message, with the record's coordinates.
    pub(super) fn located(&self, raw: &RawBatch) -> String {
        let offset = raw.offsets.value(self.bad.row);
        format!("{}@{offset}: {}", raw.partition, self.message(raw))
    }

    fn message(&self, raw: &RawBatch) -> String {
        let part = self.part.name();
        let payload = self.part.of(raw).map(|all| all.value(self.bad.row));
        let id = self.bad.schema_id.map(|id| format!(", schema id {id}"));
        format!(
            "the {part} does not decode: {}{} ({})",
            self.bad.message,
            id.unwrap_or_default(),
            preview(payload.unwrap_or_default()),
        )
    }
}

/// The beginning of a payload, as text if it is UTF-8, otherwise in hex.
pub fn preview(bytes: &[u8]) -> String {
    const PREVIEW_BYTES: usize = 64;
    let shown = &bytes[..bytes.len().min(PREVIEW_BYTES)];
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    let size = bytes.len();
    // The cut may fall within a character.
    let text = match std::str::from_utf8(shown) {
        Ok(text) => Some(text),
        Err(e) if e.error_len().is_none() && !more.is_empty() => {
            std::str::from_utf8(&shown[..e.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match text {
        Some(text) => format!("{size} bytes: {text:?}{more}"),
        None => {
            format!("{size} bytes in hex: {}{more}", hex(shown))
        }
    }
}
