//! The decoder's sources, and copies of the few types that it needs of the crate's `client`: where
//! they differ from the crate's, this does not compile.

#[path = "../../../src/client/build.rs"]
mod build;
pub mod wire;

use std::sync::Arc;

use arrow::array::{BinaryViewArray, Int32Array, Int64Array, ListArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Fields};

use crate::range::TopicPartition;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RawColumns {
    pub timestamp: bool,
    pub timestamp_type: bool,
    pub key: bool,
    pub value: bool,
    pub headers: bool,
    pub leader_epoch: bool,
}

impl RawColumns {
    pub const ALL: Self = Self {
        timestamp: true,
        timestamp_type: true,
        key: true,
        value: true,
        headers: true,
        leader_epoch: true,
    };
}

/// Memory without a limit.
#[derive(Debug)]
pub(crate) struct Held(usize);

impl Held {
    pub(crate) fn unlimited() -> Self {
        Self(0)
    }

    pub(crate) fn part(&mut self) -> Self {
        Self(std::mem::take(&mut self.0))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0
    }

    pub(crate) fn try_hold(&mut self, bytes: usize) -> Result<(), String> {
        self.0 = bytes;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimestampBounds {
    pub from_ms: Option<i64>,
    pub to_ms: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct RawBatch {
    pub partition: TopicPartition,
    pub next_offset: i64,
    pub offsets: Int64Array,
    pub timestamps: Option<TimestampMillisecondArray>,
    pub timestamp_types: Option<Vec<TimestampType>>,
    pub keys: Option<BinaryViewArray>,
    pub values: Option<BinaryViewArray>,
    pub headers: Option<ListArray>,
    pub leader_epochs: Option<Int32Array>,
    pub bytes: usize,
    pub lost_offsets: i64,
    pub passed: PassedOffsets,
    pub fetch_wait_ns: u64,
    pub decode_ns: u64,
    pub throttle_ns: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassedOffsets {
    pub control: u64,
    pub aborted: u64,
    pub gap: u64,
    pub filtered: u64,
    pub untold: u64,
}

impl PassedOffsets {
    pub fn total(&self) -> u64 {
        self.control + self.aborted + self.gap + self.filtered + self.untold
    }
}

impl std::ops::AddAssign for PassedOffsets {
    fn add_assign(&mut self, more: Self) {
        self.control += more.control;
        self.aborted += more.aborted;
        self.gap += more.gap;
        self.filtered += more.filtered;
        self.untold += more.untold;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    NotAvailable,
    CreateTime,
    LogAppendTime,
}

pub fn headers_type() -> DataType {
    let header = DataType::Struct(Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ]));
    DataType::List(Arc::new(Field::new("item", header, false)))
}
