//! Takes a Fetch answer apart while it arrives. Fetch is the request that reads records from a broker.
//!
//! [`FetchAnswer`] owns neither a socket nor bytes. Given the bytes that have arrived so far, it takes a
//! piece off their front and says what the piece is, or how many bytes it needs for the next one.
//!
//! ```text
//! head ─▶ topic ─▶ partition ─▶ record batches … ─▶ partition's end ─▶ … ─▶ end
//!           ▲          ▲                                  │
//!           └──────────┴──────────────────────────────────┘
//! ```

use std::fmt;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use uuid::Uuid;

use super::batch::{HEAD_BYTES, MAGIC_AT};
use super::cursor::Cursor;
use super::old;

/// The bytes from which the length of a record batch is known: its base offset and its length.
const BATCH_LENGTH: usize = 12;
/// The highest version of Fetch that this client understands.
pub(crate) const FETCH_VERSION_MOST: i16 = 17;
/// The first version in which brokers answer a throttled client immediately, mostly without records, and
/// leave its next request unread for a while (KIP-219). Before, the answer came late.
const HELD_AHEAD: i16 = 8;

/// Why bytes are not a Fetch answer, or not one that this client understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A piece of an answer.
#[derive(Debug)]
pub(crate) enum Event {
    /// The next piece needs this many bytes at the front of the buffer.
    More(usize),
    /// The answer as a whole.
    Head(AnswerHead),
    /// A partition's part begins.
    Partition(PartitionHead),
    /// Whole record batches of the partition, one after another; at least one.
    Records(Bytes),
    /// The partition's part has ended.
    PartitionEnd(PartitionEnd),
    /// The answer has ended.
    End,
}

/// What an answer says before its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnswerHead {
    /// For how long the broker will leave this client's next request unread, in ms.
    pub(crate) throttle_ms: i32,
    /// Kafka's error code for the whole request.
    pub(crate) error: i16,
}

impl AnswerHead {
    /// [`throttle_ms`](Self::throttle_ms) as a duration.
    pub(crate) fn throttle(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.throttle_ms).unwrap_or(0))
    }
}

/// What an answer says about a partition before its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionHead {
    /// The topic, by name up to version 12 and by id from 13 on.
    pub(crate) topic: TopicRef,
    pub(crate) partition: i32,
    /// Kafka's error code for the partition.
    pub(crate) error: i16,
    pub(crate) high_watermark: i64,
    /// -1 where the broker does not report it.
    pub(crate) last_stable_offset: i64,
    /// -1 where the broker does not report it.
    pub(crate) log_start: i64,
    /// Producer id and first offset of each aborted transaction, under `read_committed`.
    pub(crate) aborted: Vec<(i64, i64)>,
    /// The replica to ask instead (KIP-392); -1 if there is none.
    pub(crate) preferred_replica: i32,
    /// The size of the record batches that follow, in bytes.
    pub(crate) record_bytes: usize,
}

/// How an answer names a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicRef {
    Name(String),
    Id(Uuid),
}

/// What an answer says about a partition after its records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PartitionEnd {
    /// The log has other records before the position than those that were read (KIP-595). Holds the epoch and
    /// the offset up to which both agree.
    pub(crate) diverging: Option<(i32, i64)>,
    /// The limit of bytes cut off the last record batch.
    pub(crate) cut: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct FetchAnswer {
    version: i16,
    /// Bytes of the answer that were not consumed yet.
    left: usize,
    state: State,
    topic: TopicRef,
    topics: usize,
    partitions: usize,
    /// Bytes of the partition's record batches that are still to come.
    records: usize,
    /// Whether to drop the rest of the partition's records.
    skipping: bool,
    cut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Topic,
    Partition,
    Records,
    PartitionEnd,
    TopicEnd,
    AnswerEnd,
    Ended,
}

impl FetchAnswer {
    /// An answer in `version` (4 to [`FETCH_VERSION_MOST`]), of which `left` bytes after the correlation id
    /// are still to come.
    pub(crate) fn new(version: i16, left: usize) -> Self {
        Self {
            version,
            left,
            state: State::Head,
            topic: TopicRef::Name(String::new()),
            topics: 0,
            partitions: 0,
            records: 0,
            skipping: false,
            cut: false,
        }
    }

    /// Bytes of the answer that were not consumed yet.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Drops the rest of the partition's records.
    pub(crate) fn skip_records(&mut self) {
        self.skipping = true;
    }

    fn is_flexible(&self) -> bool {
        self.version >= 12
    }

    /// Takes the next piece off the front of `buffer`.
    ///
    /// # Errors
    /// When the bytes are not an answer to a Fetch in this version.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Event, Malformed> {
        loop {
            let step = match self.state {
                State::Records => self.records(buffer)?,
                State::Ended => return Ok(Event::End),
                _ => self.fields(buffer)?,
            };
            if let Some(event) = step {
                return Ok(event);
            }
        }
    }

    /// Parses everything but records, once all of it has arrived.
    fn fields(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Malformed> {
        let there = buffer.len().min(self.left);
        let mut cursor = Cursor::new(&buffer[..there]);
        let parsed = match self.state {
            State::Head => self.head(&mut cursor),
            State::Topic => self.topic(&mut cursor),
            State::Partition => self.partition(&mut cursor),
            State::PartitionEnd => self.partition_end(&mut cursor),
            State::TopicEnd => self.topic_end(&mut cursor),
            State::AnswerEnd => self.answer_end(&mut cursor),
            State::Records | State::Ended => return Ok(None),
        };
        match parsed {
            Some(event) => {
                let event = event?;
                let taken = cursor.at();
                self.take(buffer, taken);
                Ok(event)
            }
            None if there == self.left => Err(Malformed(format!(
                "a Fetch answer is cut off {} bytes before its end",
                self.left
            ))),
            None => {
                // The caller needs a hint how much to receive, because lists of aborted transactions may be
                // long.
                let more = cursor.missing().max(1) + there;
                Ok(Some(Event::More(more.min(self.left))))
            }
        }
    }

    fn take(&mut self, buffer: &mut BytesMut, bytes: usize) {
        buffer.advance(bytes);
        self.left -= bytes;
    }

    fn records(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Malformed> {
        if self.records == 0 {
            self.state = State::PartitionEnd;
            return Ok(None);
        }
        let there = buffer.len().min(self.records);
        if self.skipping {
            if there == 0 {
                return Ok(Some(Event::More(1)));
            }
            self.records -= there;
            self.take(buffer, there);
            return Ok(None);
        }
        let mut whole = 0;
        let mut wanted = BATCH_LENGTH;
        loop {
            let rest = &buffer[whole..there];
            let in_answer = self.records - whole;
            let Some(size) = batch_size(rest)? else {
                if in_answer < BATCH_LENGTH.max(MAGIC_AT + 1) {
                    self.cut_off(in_answer > 0 && whole == 0);
                }
                wanted = (MAGIC_AT + 1).min(in_answer);
                break;
            };
            if size > in_answer {
                self.cut_off(whole == 0);
                break;
            }
            if size > rest.len() {
                wanted = size;
                break;
            }
            whole += size;
        }
        if whole > 0 {
            let batches = buffer.split_to(whole).freeze();
            self.records -= whole;
            self.left -= whole;
            return Ok(Some(Event::Records(batches)));
        }
        if self.skipping {
            return Ok(None);
        }
        Ok(Some(Event::More(wanted)))
    }

    /// The rest of the records is the beginning of a batch, which cannot be used. If whole batches came
    /// before it, this is checked again after those were taken.
    fn cut_off(&mut self, alone: bool) {
        if alone {
            self.cut = true;
            self.skipping = true;
        }
    }

    fn head(&mut self, cursor: &mut Cursor<'_>) -> Option<Result<Option<Event>, Malformed>> {
        if self.is_flexible() {
            cursor.skip_tagged_fields()?;
        }
        let throttle_ms = cursor.i32()?;
        let throttle_ms = if self.version >= HELD_AHEAD {
            throttle_ms
        } else {
            0
        };
        let error = if self.version >= 7 { cursor.i16()? } else { 0 };
        if self.version >= 7 {
            cursor.i32()?; // the session, of which there is none
        }
        self.topics = match self.count(cursor)? {
            Ok(topics) => topics,
            Err(e) => return Some(Err(e)),
        };
        self.state = if self.topics == 0 {
            State::AnswerEnd
        } else {
            State::Topic
        };
        let head = AnswerHead { throttle_ms, error };
        Some(Ok(Some(Event::Head(head))))
    }

    fn topic(&mut self, cursor: &mut Cursor<'_>) -> Option<Result<Option<Event>, Malformed>> {
        self.topic = if self.version >= 13 {
            TopicRef::Id(Uuid::from_bytes(cursor.array()?))
        } else {
            let name = if self.is_flexible() {
                let length = usize::try_from(cursor.uvarint()?).ok()?;
                cursor.bytes(length.saturating_sub(1))?
            } else {
                let length = usize::try_from(cursor.i16()?).unwrap_or(0);
                cursor.bytes(length)?
            };
            TopicRef::Name(String::from_utf8_lossy(name).into_owned())
        };
        self.partitions = match self.count(cursor)? {
            Ok(partitions) => partitions,
            Err(e) => return Some(Err(e)),
        };
        self.topics -= 1;
        self.state = if self.partitions == 0 {
            State::TopicEnd
        } else {
            State::Partition
        };
        Some(Ok(None))
    }

    fn partition(&mut self, cursor: &mut Cursor<'_>) -> Option<Result<Option<Event>, Malformed>> {
        let partition = cursor.i32()?;
        let error = cursor.i16()?;
        let high_watermark = cursor.i64()?;
        let last_stable_offset = cursor.i64()?;
        let log_start = if self.version >= 5 { cursor.i64()? } else { -1 };
        let count = match self.count(cursor)? {
            Ok(count) => count,
            Err(e) => return Some(Err(e)),
        };
        let entry = if self.is_flexible() { 17 } else { 16 };
        if !cursor.has(count.saturating_mul(entry)) {
            return None;
        }
        let mut aborted = Vec::with_capacity(count);
        for _ in 0..count {
            aborted.push((cursor.i64()?, cursor.i64()?));
            if self.is_flexible() {
                cursor.skip_tagged_fields()?;
            }
        }
        let preferred_replica = if self.version >= 11 {
            cursor.i32()?
        } else {
            -1
        };
        let record_bytes = if self.is_flexible() {
            usize::try_from(cursor.uvarint()?).ok()?.saturating_sub(1)
        } else {
            usize::try_from(cursor.i32()?).unwrap_or(0)
        };
        if record_bytes > self.left - cursor.at() {
            return Some(Err(Malformed(format!(
                "a Fetch answer announces {record_bytes} bytes of records and has {}",
                self.left - cursor.at()
            ))));
        }
        self.partitions -= 1;
        self.records = record_bytes;
        self.skipping = false;
        self.cut = false;
        self.state = State::Records;
        Some(Ok(Some(Event::Partition(PartitionHead {
            topic: self.topic.clone(),
            partition,
            error,
            high_watermark,
            last_stable_offset,
            log_start,
            aborted,
            preferred_replica,
            record_bytes,
        }))))
    }

    fn partition_end(
        &mut self,
        cursor: &mut Cursor<'_>,
    ) -> Option<Result<Option<Event>, Malformed>> {
        let mut end = PartitionEnd {
            diverging: None,
            cut: self.cut,
        };
        if self.is_flexible() {
            for _ in 0..cursor.uvarint()? {
                const DIVERGING_EPOCH: u32 = 0;
                let tag = cursor.uvarint()?;
                let size = usize::try_from(cursor.uvarint()?).ok()?;
                let mut field = Cursor::new(cursor.bytes(size)?);
                if tag == DIVERGING_EPOCH
                    && let (Some(epoch), Some(offset)) = (field.i32(), field.i64())
                {
                    end.diverging = Some((epoch, offset));
                }
            }
        }
        self.state = if self.partitions > 0 {
            State::Partition
        } else {
            State::TopicEnd
        };
        Some(Ok(Some(Event::PartitionEnd(end))))
    }

    fn topic_end(&mut self, cursor: &mut Cursor<'_>) -> Option<Result<Option<Event>, Malformed>> {
        if self.is_flexible() {
            cursor.skip_tagged_fields()?;
        }
        self.state = if self.topics > 0 {
            State::Topic
        } else {
            State::AnswerEnd
        };
        Some(Ok(None))
    }

    fn answer_end(&mut self, cursor: &mut Cursor<'_>) -> Option<Result<Option<Event>, Malformed>> {
        if self.is_flexible() {
            cursor.skip_tagged_fields()?;
        }
        if cursor.at() != self.left {
            return Some(Err(Malformed(format!(
                "a Fetch answer is {} bytes longer than its content",
                self.left - cursor.at()
            ))));
        }
        self.state = State::Ended;
        Some(Ok(Some(Event::End)))
    }

    /// The length of an array. It is refused if it cannot fit into the answer.
    fn count(&self, cursor: &mut Cursor<'_>) -> Option<Result<usize, Malformed>> {
        let count = if self.is_flexible() {
            usize::try_from(cursor.uvarint()?).ok()?.saturating_sub(1)
        } else {
            // -1 stands for a missing list.
            usize::try_from(cursor.i32()?).unwrap_or(0)
        };
        if count > self.left {
            return Some(Err(Malformed(format!(
                "a Fetch answer of {} bytes announces a list of {count}",
                self.left
            ))));
        }
        Some(Ok(count))
    }
}

/// For how long the broker will leave this client's next request unread. `answer` is an answer in `version`,
/// from its correlation id on.
pub(crate) fn throttle_of(answer: &[u8], version: i16) -> Duration {
    match FetchAnswer::new(version, answer.len()).head(&mut Cursor::new(answer)) {
        Some(Ok(Some(Event::Head(head)))) => head.throttle(),
        _ => Duration::ZERO,
    }
}

/// The size of the record batch at the front, once enough of it has arrived.
fn batch_size(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(magic) = bytes.get(MAGIC_AT) else {
        return Ok(None);
    };
    let least = if *magic < 2 {
        old::BYTES_LEAST
    } else {
        HEAD_BYTES
    };
    let length = bytes[8..BATCH_LENGTH]
        .iter()
        .fold(0u32, |length, byte| length << 8 | u32::from(*byte));
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    let size = size.saturating_add(BATCH_LENGTH);
    if *magic > 2 || size < least || length > i32::MAX as u32 {
        return Err(Malformed(format!(
            "a record batch of {size} bytes in format v{magic}; expected format v0, v1 or v2"
        )));
    }
    Ok(Some(size))
}
