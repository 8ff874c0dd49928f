//! Dead letters: records that do not decode, kept unchanged together with the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, RecordBatch, StringViewArray};
use arrow::compute::not;
use arrow::datatypes::SchemaRef;

use super::reasons::{Letter, Reasons};
use super::{Column, DecodedPart, OnBadRow, Part, RecordDecoder, Rows, failed};
use crate::client::{HeaderLists, RawBatch};
use crate::decode::{BadRowLimit, BadRows};
use crate::error::Result;

/// The columns of dead letters in a table.
pub const LETTER_COLUMNS: [Column; 11] = [
    Column::Topic,
    Column::TopicId,
    Column::Partition,
    Column::Offset,
    Column::Timestamp,
    Column::Headers,
    Column::Key,
    Column::Value,
    Column::BadClass,
    Column::BadReason,
    Column::BadSchemaId,
];

/// The columns of dead letters that are written as Kafka records; the headers hold the rest.
pub const LETTER_RECORD: [Column; 3] = [Column::Key, Column::Value, Column::DeadLetterHeaders];

/// The name of [`Column::BadReason`] among [`LETTER_COLUMNS`].
const MESSAGE: &str = "error_message";

impl RecordDecoder {
    /// A decoder of the same records that keeps exactly those that do not decode, with these columns.
    ///
    /// `limit` bounds their number.
    pub fn dead_letters(&self, columns: &[Column], limit: Option<BadRowLimit>) -> Self {
        let plain = Self::raw(columns.to_vec());
        let fields = plain.schema.fields().iter();
        let fields = fields.map(|field| match field.name().as_str() {
            name if name == Column::BadReason.name() => {
                Arc::new(field.as_ref().clone().with_name(MESSAGE))
            }
            _ => Arc::clone(field),
        });
        let schema = arrow::datatypes::Schema::new(fields.collect::<Vec<_>>());
        Self {
            key: self.key.clone(),
            value: self.value.clone(),
            // Every record must be checked.
            bad_rows: BadRows {
                on: OnBadRow::Skip,
                limit,
            },
            only_bad: true,
            schema: Arc::new(schema),
            ..plain
        }
    }

    /// Sets the ids of the topics that dead letters come from.
    pub fn with_topic_ids(self, topic_ids: BTreeMap<Arc<str>, String>) -> Self {
        Self { topic_ids, ..self }
    }

    /// Whether the rows are the records that do not decode.
    pub fn keeps_bad(&self) -> bool {
        self.only_bad
    }

    /// The dead letters of a batch.
    pub(super) fn letters(
        &self,
        raw: &RawBatch,
        projection: &[usize],
        schema: &SchemaRef,
    ) -> Result<Rows> {
        let key = self.decode_part(Part::Key, raw, &[])?;
        let value = self.decode_part(Part::Value, raw, &[])?;
        let rows = raw.offsets.len();
        let reasons = Reasons::of(&key, &value, rows);
        let kept = not(&reasons.good(rows)).map_err(failed)?;
        let bad = raw.filter(&kept).map_err(failed)?;
        let letters: Vec<Letter<'_>> = reasons.letters().collect();
        let first_bad = self.bad_rows.limit.and_then(|_| reasons.first());
        let columns = projection
            .iter()
            .map(|i| self.letter_column(self.columns[*i], &bad, &letters))
            .collect::<Result<Vec<_>>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(letters.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options);
        Ok(Rows {
            batch: batch.map_err(failed)?,
            kept: Some(kept),
            bad: letters.len(),
            first_bad: first_bad.map(|first| first.located(raw)),
        })
    }

    fn letter_column(
        &self,
        column: Column,
        bad: &RawBatch,
        letters: &[Letter<'_>],
    ) -> Result<ArrayRef> {
        let letters = letters.iter();
        Ok(match column {
            Column::Key | Column::Value => super::bytes(bad, column),
            Column::BadClass => Arc::new(letters.map(Letter::class).collect::<StringViewArray>()),
            Column::BadReason => {
                let messages = letters.map(|letter| Some(letter.text()));
                Arc::new(messages.collect::<StringViewArray>())
            }
            Column::BadSchemaId => Arc::new(letters.map(Letter::schema_id).collect::<Int32Array>()),
            Column::TopicId => {
                let id = self.topic_ids.get(&bad.partition.topic);
                Arc::new(letters.map(|_| id).collect::<StringViewArray>())
            }
            Column::DeadLetterHeaders => {
                let letters: Vec<_> = letters.collect();
                let id = self.topic_ids.get(&bad.partition.topic);
                Arc::new(headers(bad, id, &letters)?)
            }
            other => {
                let none = (&DecodedPart::default(), &DecodedPart::default());
                self.build(other, bad, bad.offsets.len(), none, &Reasons::default())?
            }
        })
    }
}

/// The headers of dead letters: first the record's own, then where it came from and why.
fn headers(
    bad: &RawBatch,
    topic_id: Option<&String>,
    letters: &[&Letter<'_>],
) -> Result<ListArray> {
    let mut lists = HeaderLists::new();
    for (row, letter) in letters.iter().enumerate() {
        if let Some(own) = &bad.headers {
            let own = own.value(row);
            let own = own.as_struct();
            let (names, values) = (own.column(0).as_string::<i32>(), own.column(1));
            let values = values.as_binary::<i32>();
            for at in 0..own.len() {
                let value = values.is_valid(at).then(|| values.value(at));
                lists.push(names.value(at).as_bytes(), value);
            }
        }
        let timestamps = bad.timestamps.as_ref().filter(|t| t.is_valid(row));
        let said = [
            ("dlq.topic", Some(bad.partition.topic.to_string())),
            ("dlq.topic.id", topic_id.cloned()),
            ("dlq.partition", Some(bad.partition.partition.to_string())),
            ("dlq.offset", Some(bad.offsets.value(row).to_string())),
            (
                "dlq.timestamp",
                timestamps.map(|t| t.value(row).to_string()),
            ),
            ("dlq.error.class", letter.class().map(str::to_owned)),
            ("dlq.error.message", Some(letter.text())),
            ("dlq.schema.id", letter.schema_id().map(|id| id.to_string())),
        ];
        for (name, value) in said {
            if let Some(value) = value {
                lists.push(name.as_bytes(), Some(value.as_bytes()));
            }
        }
        lists.end_row();
    }
    lists.finish().map_err(failed)
}
