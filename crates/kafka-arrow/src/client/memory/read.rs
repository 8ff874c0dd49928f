//! The stream of a read: it fetches a part of a range, cuts it into batches, and continues after it.
//!
//! ```text
//! range ──check bounds──> fetch ──visible records──> pending ──batch_rows, batch_bytes──> batch
//!   ^                       │ none visible: an empty batch reports the progress
//!   └──position == end──────┘
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    BinaryBuilder, BinaryViewArray, Int32Array, Int64Array, ListArray, StringBuilder, StructArray,
    TimestampMillisecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Fields};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::time::timeout_at;

use super::faults::Call;
use super::log::{FetchLimits, Fetched, Visible};
use super::record::{Entry, Record};
use super::state::{Shared, State};
use crate::client::{Needle, PassedOffsets, RawBatch, RawColumns, ReadRequest, headers_type};
use crate::error::{Error, Result};
use crate::range::{OffsetRange, TopicPartition};

/// Reads the ranges of a request one after another.
#[derive(Debug)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    request: ReadRequest,
    /// The ranges that are not read to their end yet, the current one first.
    ranges: VecDeque<OffsetRange>,
    /// Fetched records of the current range that are not part of a batch yet.
    pending: VecDeque<Visible>,
    /// The offsets passed between the last of them and the position.
    tail: PassedOffsets,
    /// The position of the last fetched record, with its leader epoch.
    last: Option<(TopicPartition, i64, i32)>,
    /// The number of rows yielded so far, to compare with the request's limit.
    rows: usize,
    /// Offsets lost since the previous batch.
    lost_offsets: i64,
    fetch_wait_ns: u64,
}

/// The result of an attempt to fetch.
enum Attempt {
    Fetched(Fetched),
    /// There is no answer, with the reason.
    Silent(&'static str),
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, request: ReadRequest) -> Self {
        Self {
            shared,
            ranges: request.ranges.iter().cloned().collect(),
            request,
            pending: VecDeque::new(),
            tail: PassedOffsets::default(),
            last: None,
            rows: 0,
            lost_offsets: 0,
            fetch_wait_ns: 0,
        }
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, Result<RawBatch>> {
        stream::try_unfold(self, |mut reader| async move {
            let batch = reader.next_batch().await?;
            Ok(batch.map(|batch| (batch, reader)))
        })
        .boxed()
    }

    async fn next_batch(&mut self) -> Result<Option<RawBatch>> {
        // The `start` of the first range is the position, where the next fetch begins.
        while self
            .ranges
            .front()
            .is_some_and(|range| range.is_empty() && self.pending.is_empty())
        {
            self.ranges.pop_front();
        }
        let Some(range) = self.ranges.front() else {
            return Ok(None);
        };
        let partition = TopicPartition::new(Arc::clone(range.topic()), range.partition());
        if self.pending.is_empty() {
            self.fetch(&partition).await?;
        }
        Ok(Some(self.cut_batch(partition)))
    }

    /// Fetches once and moves the position. Waits while the partition is silent.
    async fn fetch(&mut self, partition: &TopicPartition) -> Result<()> {
        let started = tokio::time::Instant::now();
        let shared = Arc::clone(&self.shared);
        loop {
            // Registered before the attempt, so that no change in between is missed.
            let mut changed = std::pin::pin!(shared.changed.notified());
            changed.as_mut().enable();
            let reason = match self.attempt(partition)? {
                Attempt::Fetched(fetched) => {
                    self.pending = fetched.entries.into();
                    self.tail = fetched.tail;
                    if let Some(range) = self.ranges.front_mut() {
                        *range = range.part(fetched.next_offset, range.end());
                    }
                    self.fetch_wait_ns += nanoseconds(started.elapsed().as_nanos());
                    return Ok(());
                }
                Attempt::Silent(reason) => reason,
            };
            let deadline = started + shared.read_timeout;
            if timeout_at(deadline, changed).await.is_err() {
                let (offset, end) = self.ranges.front().map_or((0, 0), |r| (r.start(), r.end()));
                return Err(Error::Stalled {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    offset,
                    end,
                    waited_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                    reason: reason.to_owned(),
                });
            }
        }
    }

    /// Checks the range against the current log, and fetches if it can be read.
    fn attempt(&mut self, partition: &TopicPartition) -> Result<Attempt> {
        let mut state = self.shared.lock();
        let Some(range) = self.ranges.front_mut() else {
            return Err(Error::invalid("a fetch without a range"));
        };
        check_topic_id(&state, &self.request, range)?;
        let log = state.log(range.topic(), range.partition())?;
        if let Some((of, offset, epoch)) = &self.last
            && of == partition
            && let Some(end) = log.epoch_end(*epoch)
            && (end.epoch < *epoch || end.end <= *offset)
        {
            return Err(Error::Truncated {
                topic: range.topic().to_string(),
                partition: range.partition(),
                offset: range.start(),
                cut: end.end.min(range.start() - 1).max(0),
                message: Error::READ_AGAIN.to_owned(),
            });
        }
        let lost_offsets = self
            .request
            .lost_offsets(range, range.start(), log.start())?;
        *range = range.part(range.start() + lost_offsets, range.end());
        self.request
            .check_log_end(range, log.end(self.request.isolation))?;
        self.lost_offsets += lost_offsets;
        if range.is_empty() {
            // All of it is lost, so there is nothing to fetch.
            return Ok(Attempt::Fetched(Fetched::nothing(range.end())));
        }
        if let Some(reason) = state.faults.silence(partition) {
            return Ok(Attempt::Silent(reason));
        }
        state.faults.check(Call::Fetch)?;
        let log = state.log(range.topic(), range.partition())?;
        let limits = FetchLimits {
            records: match self.request.limit {
                Some(limit) if limit > self.rows => {
                    self.shared.fetch.records.min(limit - self.rows)
                }
                _ => self.shared.fetch.records,
            },
            bytes: self.shared.fetch.bytes,
        };
        let mut fetched = log.fetch(range.start(), range.end(), self.request.isolation, limits);
        let newest_epoch = self.request.newest_epoch(partition);
        let mut entries = fetched.entries.iter().map(|visible| &visible.entry);
        if let Some(later) = entries.find(|entry| entry.leader_epoch > newest_epoch) {
            return Err(ReadRequest::cut_within(range, later.offset));
        }
        if let Some(Visible { entry, .. }) = fetched.entries.last() {
            self.last = Some((partition.clone(), entry.offset, entry.leader_epoch));
        }
        let stats = &mut state.stats;
        stats.count_fetch(partition, fetched.records, fetched.bytes);
        if let Some(needle) = &self.request.needle {
            fetched.leave_out(|record| !has(record, needle));
        }
        Ok(Attempt::Fetched(fetched))
    }

    /// Builds the next batch from the pending records, or an empty one if there are none.
    fn cut_batch(&mut self, partition: TopicPartition) -> RawBatch {
        let started = Instant::now();
        let (mut rows, mut bytes) = (0, 0_usize);
        for visible in &self.pending {
            let record = visible.entry.record();
            let grown = bytes.saturating_add(record.map_or(0, Record::key_value_bytes));
            let full = rows >= self.request.batch_rows || grown > self.request.batch_bytes;
            if rows > 0 && (full || bytes >= self.request.batch_bytes) {
                break;
            }
            rows += 1;
            bytes = grown;
        }
        let mut passed = PassedOffsets::default();
        let entries: Vec<Arc<Entry>> = self
            .pending
            .drain(..rows)
            .map(|visible| {
                passed += visible.before;
                visible.entry
            })
            .collect();
        self.rows += rows;
        let next_offset = match self.pending.front_mut() {
            Some(next) => {
                passed += std::mem::take(&mut next.before);
                next.entry.offset
            }
            None => {
                passed += std::mem::take(&mut self.tail);
                self.ranges.front().map_or(0, |range| range.start())
            }
        };
        let mut batch = build(partition, next_offset, &entries, self.request.columns);
        batch.passed = passed;
        batch.lost_offsets = std::mem::take(&mut self.lost_offsets);
        batch.fetch_wait_ns = std::mem::take(&mut self.fetch_wait_ns);
        batch.decode_ns = nanoseconds(started.elapsed().as_nanos());
        batch
    }
}

/// Refuses a topic that is not the one the ranges were taken from.
fn check_topic_id(state: &State, request: &ReadRequest, range: &OffsetRange) -> Result<()> {
    let found = &state.topic(range.topic())?.id;
    match request.topic_ids.get(range.topic()) {
        Some(expected) if expected != found => Err(Error::TopicRecreated {
            topic: range.topic().to_string(),
            expected: expected.clone(),
            found: found.clone(),
        }),
        _ => Ok(()),
    }
}

/// Whether a record may be one of those that contain the needle.
fn has(record: &Record, needle: &Needle) -> bool {
    let parts = [&record.key, &record.value];
    let mut parts = parts.into_iter().flatten();
    parts.any(|part| needle.may_be_in(part))
}

/// Builds the requested columns and no others.
fn build(
    partition: TopicPartition,
    next_offset: i64,
    entries: &[Arc<Entry>],
    columns: RawColumns,
) -> RawBatch {
    // Every pending entry is a record, because control records never leave the log.
    let records = || entries.iter().filter_map(|entry| entry.record());
    let offsets = Int64Array::from_iter_values(entries.iter().map(|e| e.offset));
    RawBatch {
        timestamps: columns.timestamp.then(|| {
            let values = entries.iter().map(|e| e.timestamp_ms);
            TimestampMillisecondArray::from_iter(values).with_timezone("UTC")
        }),
        timestamp_types: columns
            .timestamp_type
            .then(|| entries.iter().map(|e| e.timestamp_type).collect()),
        keys: columns
            .key
            .then(|| BinaryViewArray::from_iter(records().map(|r| r.key.as_deref()))),
        values: columns
            .value
            .then(|| BinaryViewArray::from_iter(records().map(|r| r.value.as_deref()))),
        headers: columns.headers.then(|| build_headers(records())),
        leader_epochs: columns
            .leader_epoch
            .then(|| Int32Array::from_iter_values(entries.iter().map(|e| e.leader_epoch))),
        bytes: records().map(Record::payload_bytes).sum(),
        ..RawBatch::new(partition, next_offset, offsets)
    }
}

fn build_headers<'a>(records: impl Iterator<Item = &'a Record> + Clone) -> ListArray {
    let lengths = OffsetBuffer::from_lengths(records.clone().map(|r| r.headers.len()));
    let (mut names, mut values) = (StringBuilder::new(), BinaryBuilder::new());
    for (name, value) in records.flat_map(|r| &r.headers) {
        names.append_value(name);
        values.append_option(value.as_deref());
    }
    let (field, fields) = header_fields();
    let arrays: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(names.finish()), Arc::new(values.finish())];
    let entries = StructArray::new(fields, arrays, None);
    ListArray::new(field, lengths, Arc::new(entries), None)
}

/// The type of the list's items and their fields, taken from [`headers_type`] so that they cannot differ.
fn header_fields() -> (arrow::datatypes::FieldRef, Fields) {
    let DataType::List(item) = headers_type() else {
        unreachable!("headers_type is a list by its definition");
    };
    let DataType::Struct(fields) = item.data_type() else {
        unreachable!("headers_type holds structs by its definition");
    };
    let fields = fields.clone();
    (item, fields)
}

fn nanoseconds(ns: u128) -> u64 {
    u64::try_from(ns).unwrap_or(u64::MAX)
}
