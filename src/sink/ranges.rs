//! The ranges of a batch against the ends that a sink has recorded.

use super::*;

/// A partition of one of a job's sources. Two sources may read one topic, each at its own pace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourcePartition {
    /// The source: the table's name in the job.
    #[serde(with = "shared_str")]
    pub source: Arc<str>,
    /// The topic.
    #[serde(with = "shared_str")]
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl fmt::Display for SourcePartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self.source != *self.topic {
            write!(f, "{}:", self.source)?;
        }
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// How far a source partition was taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next offset: the last one and 1.
    pub next: i64,
    /// The topic id under which that offset was counted, where the broker gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// The leader epoch of the record before it, where that is known: a log that was cut and has grown
    /// again has another one there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<i32>,
}

/// The next offset of each source partition.
pub type Ends = BTreeMap<SourcePartition, Position>;

/// Whether both say the same offsets of the same topics. Leader epochs may be known to one alone.
pub(crate) fn same_ends(a: &Ends, b: &Ends) -> bool {
    let key = |(partition, position): (&SourcePartition, &Position)| {
        (partition.clone(), position.next, position.topic_id.clone())
    };
    a.iter().map(key).eq(b.iter().map(key))
}

/// What a batch takes over of one source partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRange {
    /// The partition.
    #[serde(flatten)]
    pub partition: SourcePartition,
    /// The end that must be recorded before the batch; `None` where the partition joins the job.
    ///
    /// It is the range's start, except after a topic was recreated or its log was cut, and the loss
    /// permitted: then it is the end in the old log.
    pub previous: Option<i64>,
    /// The first offset.
    pub start: i64,
    /// The end, which is recorded with the batch.
    pub end: i64,
    /// The topic id, where the broker gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// The leader epoch of the record before the end, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<i32>,
}

/// A batch: what it takes over, fixed before it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRanges {
    /// The job's name.
    pub job: String,
    /// The batch's number, from 0.
    pub batch: u64,
    /// Tells this attempt from every other one at the same batch: 32 hexadecimal digits.
    pub attempt: String,
    /// One entry for each partition of each source, also for those without new offsets.
    pub ranges: Vec<SourceRange>,
}

/// How a batch stands to the ends that a sink has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The recorded ends are the batch's starts: it is the next one.
    Next,
    /// The recorded ends are the batch's ends: it is committed.
    Committed,
}

impl BatchRanges {
    /// The ranges that the batch moves or adds: those whose recorded end changes.
    pub fn moved(&self) -> impl Iterator<Item = &SourceRange> {
        self.ranges
            .iter()
            .filter(|range| range.previous != Some(range.end))
    }

    /// The ends that are recorded once the batch is committed.
    pub fn ends(&self) -> Ends {
        let position = |range: &SourceRange| Position {
            next: range.end,
            topic_id: range.topic_id.clone(),
            leader_epoch: range.leader_epoch,
        };
        self.ranges
            .iter()
            .map(|range| (range.partition.clone(), position(range)))
            .collect()
    }

    /// Compares the batch with what `target` has recorded of its job.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the recorded ends are neither the batch's starts nor its ends.
    pub fn against(&self, target: &str, recorded: Option<&Ends>) -> Result<Standing> {
        let recorded_end = |range: &SourceRange| {
            let position = recorded.and_then(|ends| ends.get(&range.partition));
            position.map(|position| position.next)
        };
        if self.ranges.iter().all(|r| recorded_end(r) == r.previous) {
            return Ok(Standing::Next);
        }
        if self.ranges.iter().all(|r| recorded_end(r) == Some(r.end)) {
            return Ok(Standing::Committed);
        }
        let differs = self
            .ranges
            .iter()
            .find(|r| recorded_end(r) != r.previous && recorded_end(r) != Some(r.end))
            .or_else(|| self.ranges.iter().find(|r| recorded_end(r) != r.previous));
        let found = differs.map_or_else(String::new, |range| {
            let end = |end: Option<i64>| end.map_or("nothing".to_owned(), |end| end.to_string());
            format!(
                ": of {} it has recorded {}, the batch takes it from {} to {}",
                range.partition,
                end(recorded_end(range)),
                end(range.previous),
                range.end
            )
        });
        Err(Error::Conflict {
            target: target.to_owned(),
            message: format!(
                "batch {} of job '{}' does not continue what is recorded there{found}; \
                 another driver has gone on with the job, or its offset log and this target do not belong together",
                self.batch, self.job
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(ranges: &[(i32, Option<i64>, i64)]) -> BatchRanges {
        BatchRanges {
            job: "job".to_owned(),
            batch: 3,
            attempt: "0".repeat(32),
            ranges: ranges
                .iter()
                .map(|(partition, previous, end)| SourceRange {
                    partition: SourcePartition {
                        source: "orders".into(),
                        topic: "orders".into(),
                        partition: *partition,
                    },
                    previous: *previous,
                    start: previous.unwrap_or(0),
                    end: *end,
                    topic_id: None,
                    leader_epoch: None,
                })
                .collect(),
        }
    }

    #[test]
    fn next_committed_or_refused() {
        let first = batch(&[(0, None, 5), (1, None, 0)]);
        let second = batch(&[(0, Some(5), 9), (1, Some(0), 0), (2, None, 4)]);
        assert_eq!(first.against("t", None).unwrap(), Standing::Next);
        assert_eq!(
            first.against("t", Some(&first.ends())).unwrap(),
            Standing::Committed
        );
        assert_eq!(
            second.against("t", Some(&first.ends())).unwrap(),
            Standing::Next
        );
        assert_eq!(
            second.against("t", Some(&second.ends())).unwrap(),
            Standing::Committed
        );
        let overtaken = first.against("t", Some(&second.ends())).unwrap_err();
        assert_eq!(
            overtaken.to_string(),
            "t: batch 3 of job 'job' does not continue what is recorded there: of orders[0] it has \
             recorded 9, the batch takes it from nothing to 5; another driver has gone on with the \
             job, or its offset log and this target do not belong together"
        );
        assert!(second.against("t", None).is_err());
    }

    #[test]
    fn half_of_a_batch_is_refused() {
        let next = batch(&[(0, Some(5), 9), (1, Some(0), 7)]);
        let mut half = batch(&[(0, None, 5), (1, None, 0)]).ends();
        half.extend(batch(&[(0, None, 9)]).ends());
        assert!(next.against("t", Some(&half)).is_err());
    }
}
