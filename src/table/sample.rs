//! Fields that are not declared, learned from a sample of records.

use arrow::array::BinaryViewArray;
use arrow::datatypes::Fields;
use futures::TryStreamExt;

use super::builder::DEFAULT_BATCH_BYTES;
use super::resolve::{Selection, SharedBounds, now_ms};
use crate::client::{RawColumns, ReadRequest};
use crate::decode::{Inference, unframed, unwrapped};
use crate::error::{Error, Result};
use crate::formats::Sampling;
use crate::range::{OffsetRange, OnDataLoss, Snapshot};

/// How many records are looked at.
const RECORDS: usize = 1000;
/// In how many places of a range.
const PLACES: i64 = 4;
/// In how many places [`thirds`] are.
pub(super) const THIRDS: i64 = 3;

/// The beginning, the middle and the end of a range, with this many offsets each; or all of a short one.
pub(super) fn thirds(range: &OffsetRange, offsets: i64) -> Vec<OffsetRange> {
    let (start, end) = (range.start(), range.end());
    if range.len() <= THIRDS * offsets {
        return vec![range.clone()];
    }
    let middle = start + (end - start) / 2;
    [start, middle, end - offsets]
        .map(|start| range.part(start, start + offsets))
        .to_vec()
}

/// The fields of keys and of values, of those that are asked for.
#[derive(Debug)]
pub(super) struct SampledFields {
    pub(super) key: Option<Fields>,
    pub(super) value: Option<Fields>,
}

/// Learns the fields from up to 1,000 records spread over the range.
///
/// # Errors
/// When the range is empty, no record in the sample is a JSON object, or one has the frame of a registry
/// that has no schema for it.
pub(super) async fn fields(
    selection: &Selection,
    wanted: [Option<Sampling>; 2],
) -> Result<SampledFields> {
    let [key, value] = [wanted[0].is_some(), wanted[1].is_some()];
    let bounds = SharedBounds::default();
    let snapshot = selection.resolve(now_ms(), &bounds).await?;
    let ranges = places(&snapshot);
    if ranges.is_empty() {
        return Err(Error::invalid(format!(
            "{} {} has no records to learn the columns from: declare them in CREATE EXTERNAL TABLE",
            selection.topics, selection.range
        )));
    }
    let each = RECORDS.div_ceil(ranges.len());
    let mut learners = wanted.map(|wanted| wanted.map(Learner::new));
    for range in ranges {
        // Single requests: a limit holds for a request as a whole.
        let request = ReadRequest {
            topic_ids: snapshot.topic_ids(),
            columns: RawColumns {
                key,
                value,
                ..RawColumns::default()
            },
            isolation: selection.isolation,
            batch_rows: each,
            batch_bytes: DEFAULT_BATCH_BYTES,
            limit: Some(each),
            on_data_loss: OnDataLoss::Skip,
            ..ReadRequest::new(vec![range])
        };
        let mut records = selection.client.read(request);
        let mut left = each;
        while let Some(batch) = records.try_next().await? {
            for (learner, payloads) in learners.iter_mut().zip([&batch.keys, &batch.values]) {
                if let (Some(learner), Some(payloads)) = (learner, payloads) {
                    learner.look(payloads, left);
                }
            }
            left = left.saturating_sub(batch.offsets.len());
            if left == 0 {
                break;
            }
        }
    }
    let [key, value] = learners;
    Ok(SampledFields {
        key: key.map(|l| l.fields("key", selection)).transpose()?,
        value: value.map(|l| l.fields("value", selection)).transpose()?,
    })
}

/// Pieces of the ranges, each of which is read from its start for some records.
fn places(snapshot: &Snapshot) -> Vec<OffsetRange> {
    let ranges = snapshot.ranges().iter().map(|r| &r.range);
    let ranges: Vec<&OffsetRange> = ranges.filter(|r| r.start() < r.end()).collect();
    // With more partitions than records, some are not looked at.
    let ranges = ranges.into_iter().take(RECORDS);
    ranges
        .flat_map(|range| {
            let length = range.end() - range.start();
            let places = PLACES.min(length);
            (0..places).map(move |place| {
                let start = range.start() + length / places * place;
                let end = if place + 1 == places {
                    range.end()
                } else {
                    start + length / places
                };
                range.part(start, end)
            })
        })
        .collect()
}

struct Learner {
    wanted: Sampling,
    inference: Inference,
    looked_at: usize,
    framed: usize,
    fault: Option<String>,
}

impl Learner {
    fn new(wanted: Sampling) -> Self {
        Self {
            wanted,
            inference: Inference::default(),
            looked_at: 0,
            framed: 0,
            fault: None,
        }
    }

    fn look(&mut self, payloads: &BinaryViewArray, most: usize) {
        for payload in payloads.iter().take(most).flatten() {
            self.looked_at += 1;
            let framed = unframed(payload);
            self.framed += usize::from(framed.is_some());
            let json = framed.map_or(payload, |(_, json)| json);
            let wrapped = Some(json).filter(|_| self.wanted.wrapped);
            let json = wrapped.and_then(unwrapped).unwrap_or(json);
            if let Err(fault) = self.inference.add(json) {
                self.fault.get_or_insert(fault);
            }
        }
    }

    fn fields(self, name: &str, selection: &Selection) -> Result<Fields> {
        let Selection { topics, range, .. } = selection;
        if let (Some(reason), 1..) = (self.wanted.unregistered, self.framed) {
            return Err(Error::invalid(format!(
                "{topics} {range}: the {name} of {} of {} records in a sample has the frame of a registry, and \
                 {reason}; or declare the columns in CREATE EXTERNAL TABLE",
                self.framed, self.looked_at
            )));
        }
        let found = self.inference.objects() > 0;
        let why = match self.fault {
            _ if found && !self.wanted.envelopes => match self.inference.fields() {
                Ok(fields) => return Ok(fields),
                Err(many) => format!("the objects of a sample have {many} in the {name}"),
            },
            _ if found => match self.inference.debezium_columns() {
                Some(columns) => return Ok(columns),
                None => format!(
                    "none of {} records of a sample has a {name} that is an envelope of Debezium, which has a \
                     field 'op'",
                    self.looked_at
                ),
            },
            Some(fault) => format!(
                "none of {} records of a sample has a {name} that is a JSON object ({fault})",
                self.looked_at
            ),
            None => format!("no record of a sample has a {name}"),
        };
        Err(Error::invalid(format!(
            "{topics} {range}: {why}; declare the columns in CREATE EXTERNAL TABLE, or choose another \
             '{name}.format'"
        )))
    }
}
