//! Reads through the client under test, and checks the promises that every stream makes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use datafusion_kafka::Error;
use datafusion_kafka::client::memory::Record;
use datafusion_kafka::client::{
    KafkaClient, OffsetAt, OffsetQuery, PassedOffsets, RawBatch, ReadRequest, TimestampType,
    headers_type,
};
use datafusion_kafka::range::{IsolationLevel, OffsetRange, TopicPartition};
use futures::StreamExt;

use super::Fixture;

pub use IsolationLevel::{ReadCommitted, ReadUncommitted};

/// A stream that takes longer than this counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// A record as it was read. Columns that were not requested have their default.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub partition: TopicPartition,
    pub offset: i64,
    pub timestamp_type: Option<TimestampType>,
    pub record: Record,
}

/// Everything that a stream yielded.
#[derive(Debug, Default)]
pub struct Outcome {
    pub rows: Vec<Row>,
    /// The row counts of the batches that had rows.
    pub batches: Vec<usize>,
    pub lost_offsets: i64,
    /// Offsets without a row, by reason.
    pub passed: PassedOffsets,
    pub error: Option<Error>,
    pub took: Duration,
    /// The time for which quotas throttled the client.
    pub throttled: Duration,
}

impl Outcome {
    /// The offsets, if nothing failed.
    pub fn offsets(&self) -> Vec<i64> {
        self.whole().iter().map(|row| row.offset).collect()
    }

    /// The rows, if nothing failed.
    pub fn whole(&self) -> &[Row] {
        assert!(self.error.is_none(), "reading failed: {:?}", self.error);
        &self.rows
    }

    /// The records, if nothing failed.
    pub fn records(&self) -> Vec<Record> {
        self.whole().iter().map(|row| row.record.clone()).collect()
    }

    /// The error, which must exist.
    pub fn failure(self) -> Error {
        let rows = self.rows.len();
        self.error
            .unwrap_or_else(|| panic!("expected an error, read {rows} rows"))
    }
}

pub fn range(partition: &TopicPartition, start: i64, end: i64) -> OffsetRange {
    OffsetRange::try_new(
        Arc::clone(&partition.topic),
        partition.partition,
        start,
        end,
    )
    .unwrap()
}

/// A request for all columns of committed records.
pub fn request(ranges: Vec<OffsetRange>) -> ReadRequest {
    ReadRequest::new(ranges)
}

/// Reads `start..end` of a partition.
pub async fn read(
    fixture: &dyn Fixture,
    partition: &TopicPartition,
    start: i64,
    end: i64,
) -> Outcome {
    read_as(fixture, partition, start, end, ReadCommitted).await
}

pub async fn read_as(
    fixture: &dyn Fixture,
    partition: &TopicPartition,
    start: i64,
    end: i64,
    isolation: IsolationLevel,
) -> Outcome {
    let request = ReadRequest {
        isolation,
        ..request(vec![range(partition, start, end)])
    };
    run(fixture.client(), request).await
}

/// Runs a request to its end, or to its first error.
pub async fn run(client: Arc<dyn KafkaClient>, request: ReadRequest) -> Outcome {
    let mut outcome = Outcome::default();
    let mut checked = Checked::new(&request);
    let started = Instant::now();
    let mut stream = client.read(request.clone());
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await;
        match next.unwrap_or_else(|_| panic!("hung after {} rows", outcome.rows.len())) {
            None => break,
            Some(Ok(batch)) => {
                checked.check(&batch);
                outcome.lost_offsets += batch.lost_offsets;
                outcome.passed += batch.passed;
                outcome.throttled += Duration::from_nanos(batch.throttle_ns);
                if !batch.offsets.is_empty() {
                    outcome.batches.push(batch.offsets.len());
                }
                outcome.rows.extend(rows(&batch));
            }
            Some(Err(error)) => {
                outcome.error = Some(error);
                break;
            }
        }
    }
    if outcome.error.is_none() {
        checked.end();
    }
    outcome.took = started.elapsed();
    outcome
}

/// Checks what holds for every batch of every stream.
pub struct Checked<'a> {
    request: &'a ReadRequest,
    /// The index of the range being read.
    range: usize,
    position: i64,
}

impl<'a> Checked<'a> {
    pub fn new(request: &'a ReadRequest) -> Self {
        let mut checked = Self {
            request,
            range: 0,
            position: request.ranges.first().map_or(0, |range| range.start()),
        };
        checked.skip_ended();
        checked
    }

    pub fn check(&mut self, batch: &RawBatch) {
        let rows = batch.offsets.len();
        let columns = self.request.columns;
        let lengths = [
            (
                columns.timestamp,
                batch.timestamps.as_ref().map(|a| a.len()),
            ),
            (
                columns.timestamp_type,
                batch.timestamp_types.as_ref().map(|a| a.len()),
            ),
            (columns.key, batch.keys.as_ref().map(|a| a.len())),
            (columns.value, batch.values.as_ref().map(|a| a.len())),
            (columns.headers, batch.headers.as_ref().map(|a| a.len())),
            (
                columns.leader_epoch,
                batch.leader_epochs.as_ref().map(|a| a.len()),
            ),
        ];
        for (asked, length) in lengths {
            assert_eq!(length, asked.then_some(rows), "of the columns {columns:?}");
        }
        assert_eq!(batch.offsets.null_count(), 0);
        assert!(batch.lost_offsets >= 0);
        assert!(rows <= self.request.batch_rows.max(1), "{rows} rows");

        let offsets = batch.offsets.values();
        assert!(offsets.is_sorted_by(|a, b| a < b), "out of order");
        self.place(batch);
        if let Some(last) = offsets.last() {
            assert!(
                batch.next_offset > *last,
                "position {} after {last}",
                batch.next_offset
            );
        }
        // All records but the last fit, because a batch is closed by the first record that does not fit.
        if rows > 1 && columns.key && columns.value {
            let all_but_last: usize = (0..rows - 1).map(|row| payload(batch, row)).sum();
            assert!(
                all_but_last <= self.request.batch_bytes,
                "{all_but_last} bytes before the last"
            );
        }
    }

    /// Checks that the batch continues where the previous one ended, and accounts for every offset that it
    /// passes.
    fn place(&mut self, batch: &RawBatch) {
        let Some(range) = self.request.ranges.get(self.range) else {
            panic!("a batch of {} after the last range", batch.partition);
        };
        let from = self.position;
        let what = format!("{} {from}..{}", batch.partition, batch.next_offset);
        assert_eq!(batch.partition, range.topic_partition(), "{what}");
        assert!((from..=range.end()).contains(&batch.next_offset), "{what}");
        let first = batch.offsets.values().first();
        assert!(first.is_none_or(|first| *first >= from), "{what}");
        let told = batch.offsets.len() as u64 + batch.passed.total();
        let told = i64::try_from(told).unwrap() + batch.lost_offsets;
        assert_eq!(told, batch.next_offset - from, "{what}: {:?}", batch.passed);
        self.position = batch.next_offset;
        self.skip_ended();
    }

    fn skip_ended(&mut self) {
        while let Some(range) = self.request.ranges.get(self.range)
            && self.position >= range.end()
        {
            self.range += 1;
            let next = self.request.ranges.get(self.range);
            self.position = next.map_or(0, |range| range.start());
        }
    }

    /// Checks a stream that has ended without an error.
    pub fn end(&self) {
        if let Some(range) = self.request.ranges.get(self.range) {
            panic!("the stream ended at {} in {range}", self.position);
        }
    }
}

fn payload(batch: &RawBatch, row: usize) -> usize {
    let length = |column: &Option<arrow::array::BinaryViewArray>| {
        let column = column.as_ref();
        column.map_or(0, |c| {
            if c.is_null(row) {
                0
            } else {
                c.value(row).len()
            }
        })
    };
    length(&batch.keys) + length(&batch.values)
}

fn rows(batch: &RawBatch) -> impl Iterator<Item = Row> {
    let bytes = |column: &Option<arrow::array::BinaryViewArray>, row: usize| {
        let column = column.as_ref()?;
        (!column.is_null(row)).then(|| column.value(row).to_vec())
    };
    (0..batch.offsets.len()).map(move |row| Row {
        partition: batch.partition.clone(),
        offset: batch.offsets.value(row),
        timestamp_type: batch.timestamp_types.as_ref().map(|types| types[row]),
        record: Record {
            timestamp_ms: batch
                .timestamps
                .as_ref()
                .and_then(|t| (!t.is_null(row)).then(|| t.value(row))),
            key: bytes(&batch.keys, row),
            value: bytes(&batch.values, row),
            headers: headers(batch, row),
        },
    })
}

fn headers(batch: &RawBatch, row: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let Some(column) = &batch.headers else {
        return Vec::new();
    };
    assert_eq!(column.data_type(), &headers_type());
    assert!(!column.is_null(row), "no headers are an empty list");
    let entries = column.value(row);
    let entries = entries.as_struct();
    let (names, values) = (entries.column(0), entries.column(1));
    let (names, values) = (names.as_string::<i32>(), values.as_binary::<i32>());
    (0..entries.len())
        .map(|i| {
            let value = (!values.is_null(i)).then(|| values.value(i).to_vec());
            (names.value(i).to_owned(), value)
        })
        .collect()
}

/// Looks up one offset.
pub async fn offset(
    fixture: &dyn Fixture,
    partition: &TopicPartition,
    at: OffsetAt,
    isolation: IsolationLevel,
) -> Option<i64> {
    let query = OffsetQuery {
        partition: partition.clone(),
        at,
    };
    let client = fixture.client();
    let answers = client.list_offsets(&[query], isolation).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers[0].offset
}

/// `start..end` as a list.
pub fn span(start: i64, end: i64) -> Vec<i64> {
    (start..end).collect()
}
