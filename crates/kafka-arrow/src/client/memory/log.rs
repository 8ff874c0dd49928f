//! The log of one partition: offsets, holes, transactions and bounds. It has no locks and does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::{Content, Entry, Record, TransactionId};
use crate::client::{EpochEnd, PassedOffsets, TimestampType};
use crate::range::IsolationLevel;

/// A partition's log.
///
/// - Entries are in offset order and lie within `start..end`.
/// - `end` is the high watermark. It only falls when an election cuts the log.
/// - Removing entries leaves holes and moves neither bound.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    entries: Vec<Arc<Entry>>,
    start: i64,
    end: i64,
    leader_epoch: i32,
    /// The start of each epoch that has records. Compaction keeps them.
    epochs: BTreeMap<i32, i64>,
    /// Open transactions, each with its first offset in this log.
    open: BTreeMap<TransactionId, i64>,
    aborted: BTreeSet<TransactionId>,
}

/// A part of a log, as returned by one fetch.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The visible records, in offset order.
    pub(super) entries: Vec<Visible>,
    /// The offsets passed after the last of them.
    pub(super) tail: PassedOffsets,
    /// The next offset to fetch: that of the next entry, or the requested end.
    pub(super) next_offset: i64,
    /// The number of records returned, including those of aborted transactions.
    pub(super) records: u64,
    /// The payload of these records, in bytes.
    pub(super) bytes: u64,
}

/// A record that the reader sees.
#[derive(Debug)]
pub(super) struct Visible {
    pub(super) entry: Arc<Entry>,
    /// The offsets passed between the previous visible record and this one.
    pub(super) before: PassedOffsets,
}

impl Fetched {
    /// Counts records as passed instead of keeping them.
    pub(super) fn leave_out(&mut self, is_unwanted: impl Fn(&Record) -> bool) {
        let mut before = PassedOffsets::default();
        let mut kept = Vec::new();
        for mut visible in self.entries.drain(..) {
            before += std::mem::take(&mut visible.before);
            if visible.entry.record().is_some_and(&is_unwanted) {
                before.filtered += 1;
            } else {
                visible.before = std::mem::take(&mut before);
                kept.push(visible);
            }
        }
        before += self.tail;
        (self.entries, self.tail) = (kept, before);
    }

    /// The result of a fetch that reaches `next_offset` without finding a record.
    pub(super) fn nothing(next_offset: i64) -> Self {
        Self {
            entries: Vec::new(),
            tail: PassedOffsets::default(),
            next_offset,
            records: 0,
            bytes: 0,
        }
    }
}

/// How much one fetch may return. The first record always fits.
#[derive(Debug, Clone, Copy)]
pub(super) struct FetchLimits {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl PartitionLog {
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The high watermark.
    pub(super) fn high_watermark(&self) -> i64 {
        self.end
    }

    /// The first offset of the oldest open transaction, or else the high watermark.
    pub(super) fn last_stable_offset(&self) -> i64 {
        let first_open = self.open.values().min().copied();
        first_open.unwrap_or(self.end).max(self.start)
    }

    pub(super) fn end(&self, isolation: IsolationLevel) -> i64 {
        match isolation {
            IsolationLevel::ReadCommitted => self.last_stable_offset(),
            IsolationLevel::ReadUncommitted => self.high_watermark(),
        }
    }

    pub(super) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    pub(super) fn bump_leader_epoch(&mut self) {
        self.leader_epoch = self.leader_epoch.saturating_add(1);
    }

    /// Makes a replica that ends at `end` the leader. Everything after `end` is lost.
    pub(super) fn cut(&mut self, end: i64) {
        let kept = self.index_of(end);
        self.entries.truncate(kept);
        self.epochs.retain(|_, start| *start < end);
        self.open.retain(|_, first| *first < end);
        self.end = self.end.min(end).max(self.start);
        self.bump_leader_epoch();
    }

    /// The last epoch up to `epoch`, and where the next one starts, as Kafka's leaders answer.
    pub(super) fn epoch_end(&self, epoch: i32) -> Option<EpochEnd> {
        if epoch == self.leader_epoch {
            return Some(EpochEnd {
                epoch,
                end: self.end,
            });
        }
        let later = self.epochs.range(epoch.saturating_add(1)..).next();
        let end = match later {
            Some((_, start)) => (*start).max(self.start),
            // While the leader's own epoch has no records, it starts at the end.
            None if epoch < self.leader_epoch => self.end,
            None => return None,
        };
        let known = self.epochs.range(..=epoch).next_back();
        Some(EpochEnd {
            epoch: known.map_or(epoch, |(known, _)| *known),
            end,
        })
    }

    /// Appends a record. `append_time_ms` is set where the broker stamps the records.
    pub(super) fn append(
        &mut self,
        record: Record,
        append_time_ms: Option<i64>,
        transaction: Option<TransactionId>,
    ) -> i64 {
        let (timestamp_ms, timestamp_type) = match (append_time_ms, record.timestamp_ms) {
            (Some(now_ms), _) => (Some(now_ms), TimestampType::LogAppendTime),
            // Kafka stores -1 for "no timestamp".
            (None, Some(ms)) if ms >= 0 => (Some(ms), TimestampType::CreateTime),
            (None, _) => (None, TimestampType::NotAvailable),
        };
        if let Some(id) = transaction {
            self.open.entry(id).or_insert(self.end);
        }
        self.push(
            timestamp_ms,
            timestamp_type,
            transaction,
            Content::Record(record),
        )
    }

    /// Ends a transaction with a control record. Does nothing if the transaction has no record here.
    pub(super) fn end_transaction(&mut self, id: TransactionId, committed: bool, now_ms: i64) {
        if self.open.remove(&id).is_none() {
            return;
        }
        if !committed {
            self.aborted.insert(id);
        }
        self.push(
            Some(now_ms),
            TimestampType::CreateTime,
            Some(id),
            Content::Control,
        );
    }

    fn push(
        &mut self,
        timestamp_ms: Option<i64>,
        timestamp_type: TimestampType,
        transaction: Option<TransactionId>,
        content: Content,
    ) -> i64 {
        let offset = self.end;
        self.epochs.entry(self.leader_epoch).or_insert(offset);
        self.entries.push(Arc::new(Entry {
            offset,
            timestamp_ms,
            timestamp_type,
            leader_epoch: self.leader_epoch,
            transaction,
            content,
        }));
        self.end += 1;
        offset
    }

    /// Removes the records for which `keep` is false. Control records stay.
    pub(super) fn compact(&mut self, mut keep: impl FnMut(i64, &Record) -> bool) -> usize {
        let before = self.entries.len();
        self.entries
            .retain(|entry| entry.record().is_none_or(|r| keep(entry.offset, r)));
        before - self.entries.len()
    }

    /// Keeps the last record of each key, as Kafka's log cleaner does; tombstones stay.
    ///
    /// Records without a key and those at or after the last stable offset are left alone.
    pub(super) fn compact_by_key(&mut self) -> usize {
        let stable = self.last_stable_offset();
        let mut last: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for entry in self.entries.iter().filter(|e| e.offset < stable) {
            let aborted = entry.transaction.is_some_and(|t| self.aborted.contains(&t));
            if let Some(key) = entry.record().and_then(|r| r.key.as_ref())
                && !aborted
            {
                last.insert(key.clone(), entry.offset);
            }
        }
        self.compact(|offset, record| match &record.key {
            Some(key) if offset < stable => last.get(key) == Some(&offset),
            _ => true,
        })
    }

    /// Removes the entry at an offset, even a control record.
    pub(super) fn remove(&mut self, offset: i64) -> bool {
        match self.entries.binary_search_by_key(&offset, |e| e.offset) {
            Ok(index) => {
                self.entries.remove(index);
                true
            }
            Err(_) => false,
        }
    }

    /// Moves the log start up to `offset`, which must not lie beyond the end.
    pub(super) fn truncate_before(&mut self, offset: i64) {
        if offset > self.start {
            self.start = offset.min(self.end);
            let gone = self.index_of(self.start);
            self.entries.drain(..gone);
            // Of the epochs that start before, Kafka keeps the last one.
            let before = self.epochs.values().filter(|start| **start <= self.start);
            for _ in 1..before.count() {
                self.epochs.pop_first();
            }
        }
    }

    /// The first stored offset whose timestamp is at or after `timestamp_ms`.
    ///
    /// As in Kafka, control records and aborted records count. The answer is `None` if the isolation level
    /// may not read that offset yet.
    pub(super) fn at_timestamp(&self, timestamp_ms: i64, isolation: IsolationLevel) -> Option<i64> {
        self.entries
            .iter()
            .find(|e| e.timestamp_ms.is_some_and(|t| t >= timestamp_ms))
            .map(|e| e.offset)
            .filter(|offset| *offset < self.end(isolation))
    }

    /// Returns the entries of `from..to`, as far as the limits allow.
    pub(super) fn fetch(
        &self,
        from: i64,
        to: i64,
        isolation: IsolationLevel,
        limits: FetchLimits,
    ) -> Fetched {
        let mut fetched = Fetched::nothing(to);
        let mut bytes = 0_usize;
        let mut passed = PassedOffsets::default();
        let mut position = from;
        let tail = &self.entries[self.index_of(from)..];
        for entry in tail.iter().take_while(|e| e.offset < to) {
            let Some(record) = entry.record() else {
                passed.gap += distance(position, entry.offset);
                passed.control += 1;
                position = entry.offset + 1;
                continue;
            };
            let grown = bytes.saturating_add(record.payload_bytes());
            let full = fetched.records >= limits.records as u64 || grown > limits.bytes;
            if fetched.records > 0 && full {
                fetched.next_offset = entry.offset;
                break;
            }
            bytes = grown;
            fetched.records += 1;
            passed.gap += distance(position, entry.offset);
            position = entry.offset + 1;
            if self.visible(entry, isolation) {
                fetched.entries.push(Visible {
                    entry: Arc::clone(entry),
                    before: std::mem::take(&mut passed),
                });
            } else {
                passed.aborted += 1;
            }
        }
        passed.gap += distance(position, fetched.next_offset);
        fetched.tail = passed;
        fetched.bytes = bytes as u64;
        fetched
    }

    fn visible(&self, entry: &Entry, isolation: IsolationLevel) -> bool {
        isolation == IsolationLevel::ReadUncommitted
            || entry.transaction.is_none_or(|t| !self.aborted.contains(&t))
    }

    fn index_of(&self, offset: i64) -> usize {
        self.entries.partition_point(|e| e.offset < offset)
    }
}

/// The number of offsets from `position` up to `offset`, which must not lie before it.
fn distance(position: i64, offset: i64) -> u64 {
    u64::try_from(offset - position).unwrap_or(0)
}
