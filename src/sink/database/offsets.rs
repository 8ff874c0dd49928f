//! What a commit does to the table of offsets.

use crate::error::{Error, Result};
use crate::sink::{BatchRanges, Committed, Ends, Position, SourcePartition, SourceRange, Standing};

/// The table's name unless the option `offsets.table` gives another.
pub(crate) const OFFSETS_TABLE: &str = "kafka_offsets";

/// The partition of the row that stands for the job itself; its source and topic are empty.
pub(crate) const JOB_ROW: i32 = -1;

/// The columns that tables of offsets of earlier versions lack, and their types in all databases.
const ADDED: [(&str, &str); 2] = [("leader_epoch", "integer"), ("epoch_offset", "bigint")];

/// The columns of [`ADDED`] as a new table has them.
pub(crate) fn added_columns() -> String {
    ADDED
        .map(|(name, type_name)| format!("{name} {type_name}"))
        .join(", ")
}

/// Gives a table of offsets the columns that it lacks; `None` if it has them all. Programs of the
/// version that made it go on writing to it.
pub(crate) fn add_columns<'a>(
    table: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    let lacking = ADDED
        .iter()
        .filter(|(name, _)| !known.clone().any(|known| known == *name));
    let add: Vec<String> = lacking
        .map(|(name, type_name)| format!("ALTER TABLE {table} ADD COLUMN {name} {type_name}"))
        .collect();
    (!add.is_empty()).then(|| add.join("; "))
}

/// A row of the table of offsets, of one job and target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetRow {
    pub(crate) source: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) next: i64,
    pub(crate) topic_id: Option<String>,
    pub(crate) leader_epoch: Option<i32>,
    /// The offset that the epoch was recorded with: an earlier version changes `next` alone.
    pub(crate) epoch_offset: Option<i64>,
    pub(crate) batch: i64,
}

/// What the rows of one job and target say; nothing if the job has committed no batch.
///
/// # Errors
/// [`Error::Corrupt`] when the rows are not those that a commit writes.
pub(crate) fn committed(target: &str, rows: Vec<OffsetRow>) -> Result<Option<Committed>> {
    let corrupt = |message: String| Error::corrupt(format!("the offsets of {target}"), message);
    let mut batch = None;
    let mut ends = Ends::new();
    for row in rows {
        if row.partition == JOB_ROW {
            let number = u64::try_from(row.batch)
                .map_err(|_| corrupt(format!("the last batch has the number {}", row.batch)))?;
            batch = Some(number);
            continue;
        }
        let partition = SourcePartition {
            source: row.source.into(),
            topic: row.topic.into(),
            partition: row.partition,
        };
        let position = Position {
            next: row.next,
            topic_id: row.topic_id,
            leader_epoch: row
                .leader_epoch
                .filter(|_| row.epoch_offset == Some(row.next)),
        };
        ends.insert(partition, position);
    }
    match batch {
        Some(batch) => Ok(Some(Committed { batch, ends })),
        None if ends.is_empty() => Ok(None),
        None => Err(corrupt(format!(
            "there are offsets, and the job's own row (partition {JOB_ROW}) is missing: restore it, \
             or remove the job's offsets and the rows that came with them"
        ))),
    }
}

/// What a commit has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Nothing: the batch is committed.
    Committed,
    /// Write the rows and the ends.
    Write {
        /// Recorded ends that change, each from its range's `previous`.
        update: Vec<&'a SourceRange>,
        /// Partitions that join.
        insert: Vec<&'a SourceRange>,
    },
}

/// Compares a batch with what is recorded.
///
/// # Errors
/// [`Error::Conflict`] when the batch neither follows what is recorded nor is it.
pub(crate) fn step<'a>(
    target: &str,
    batch: &'a BatchRanges,
    recorded: Option<&Committed>,
) -> Result<Step<'a>> {
    let standing = batch.against(target, recorded.map(|recorded| &recorded.ends))?;
    // Ends do not tell a batch that moves nothing from its repetition; its number does.
    let repeated = recorded.is_some_and(|recorded| recorded.batch >= batch.batch)
        && batch.moved().next().is_none();
    if standing == Standing::Committed || repeated {
        return Ok(Step::Committed);
    }
    let what_tells_it_changes = |range: &SourceRange| {
        let position = recorded.and_then(|recorded| recorded.ends.get(&range.partition));
        position.is_some_and(|position| {
            position.topic_id != range.topic_id || position.leader_epoch != range.leader_epoch
        })
    };
    let (insert, others): (Vec<_>, Vec<_>) = batch
        .ranges
        .iter()
        .partition(|range| range.previous.is_none());
    let update = others
        .into_iter()
        .filter(|range| range.previous != Some(range.end) || what_tells_it_changes(range))
        .collect();
    Ok(Step::Write { update, insert })
}

/// A batch's number as the databases keep it.
///
/// # Errors
/// [`Error::Invalid`] above 2^63 - 1.
pub(crate) fn signed(batch: u64) -> Result<i64> {
    i64::try_from(batch).map_err(|_| {
        Error::invalid(format!(
            "batch {batch} is above the largest number of a batch"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(partition: i32, next: i64, batch: i64) -> OffsetRow {
        let name = if partition == JOB_ROW { "" } else { "orders" };
        OffsetRow {
            source: name.to_owned(),
            topic: name.to_owned(),
            partition,
            next,
            topic_id: None,
            leader_epoch: None,
            epoch_offset: None,
            batch,
        }
    }

    fn batch(number: u64, ranges: &[(i32, Option<i64>, i64)]) -> BatchRanges {
        let range = |&(partition, previous, end): &(i32, Option<i64>, i64)| SourceRange {
            partition: SourcePartition {
                source: "orders".into(),
                topic: "orders".into(),
                partition,
            },
            previous,
            start: previous.unwrap_or(0),
            end,
            topic_id: None,
            leader_epoch: None,
        };
        BatchRanges {
            job: "job".to_owned(),
            batch: number,
            attempt: "0".repeat(32),
            ranges: ranges.iter().map(range).collect(),
        }
    }

    #[test]
    fn only_what_changes_is_written() {
        let recorded =
            committed("t", vec![row(JOB_ROW, 0, 4), row(0, 5, 3), row(1, 9, 4)]).unwrap();
        assert_eq!(recorded.as_ref().map(|recorded| recorded.batch), Some(4));
        let next = batch(5, &[(0, Some(5), 7), (1, Some(9), 9), (2, None, 0)]);
        let Step::Write { update, insert } = step("t", &next, recorded.as_ref()).unwrap() else {
            panic!("the batch is the next one");
        };
        assert_eq!(update, [&next.ranges[0]]);
        assert_eq!(insert, [&next.ranges[2]]);
    }

    #[test]
    fn a_recreated_topic_is_recorded() {
        let recorded = committed("t", vec![row(JOB_ROW, 0, 4), row(0, 5, 3)]).unwrap();
        let mut next = batch(5, &[(0, Some(5), 5)]);
        next.ranges[0].topic_id = Some("new".to_owned());
        let Step::Write { update, .. } = step("t", &next, recorded.as_ref()).unwrap() else {
            panic!("the batch is the next one");
        };
        assert_eq!(update.len(), 1);
    }

    #[test]
    fn a_leader_epoch_is_recorded_where_an_older_version_has_none() {
        let recorded = committed("t", vec![row(JOB_ROW, 0, 4), row(0, 5, 3)]).unwrap();
        let mut next = batch(5, &[(0, Some(5), 5)]);
        next.ranges[0].leader_epoch = Some(2);
        let Step::Write { update, .. } = step("t", &next, recorded.as_ref()).unwrap() else {
            panic!("the batch is the next one");
        };
        assert_eq!(update, [&next.ranges[0]]);
    }

    #[test]
    fn a_leader_epoch_counts_at_the_offset_that_it_was_recorded_with() {
        let epoch_at = |epoch_offset| {
            let row = OffsetRow {
                leader_epoch: Some(2),
                epoch_offset,
                ..row(0, 5, 3)
            };
            let recorded = committed("t", vec![self::row(JOB_ROW, 0, 4), row]).unwrap();
            recorded
                .unwrap()
                .ends
                .into_values()
                .next()
                .unwrap()
                .leader_epoch
        };
        assert_eq!(epoch_at(Some(5)), Some(2));
        assert_eq!(epoch_at(Some(4)), None);
        assert_eq!(epoch_at(None), None);
    }

    #[test]
    fn only_columns_that_a_table_lacks_are_added() {
        let add = |known: &[&str]| add_columns("t", known.iter().copied());
        let epoch = "ALTER TABLE t ADD COLUMN leader_epoch integer";
        let offset = "ALTER TABLE t ADD COLUMN epoch_offset bigint";
        assert_eq!(add(&["job"]), Some(format!("{epoch}; {offset}")));
        assert_eq!(add(&["job", "leader_epoch"]), Some(offset.to_owned()));
        assert_eq!(add(&["leader_epoch", "epoch_offset"]), None);
    }

    #[test]
    fn a_batch_that_moves_nothing_is_known_by_its_number() {
        let recorded = committed("t", vec![row(JOB_ROW, 0, 4), row(0, 5, 3)]).unwrap();
        let still = |number| batch(number, &[(0, Some(5), 5)]);
        assert_eq!(
            step("t", &still(4), recorded.as_ref()).unwrap(),
            Step::Committed
        );
        assert_ne!(
            step("t", &still(5), recorded.as_ref()).unwrap(),
            Step::Committed
        );
    }

    #[test]
    fn offsets_without_their_job_are_refused() {
        assert_eq!(committed("t", vec![]).unwrap(), None);
        let error = committed("t", vec![row(0, 5, 3)]).unwrap_err().to_string();
        assert!(
            error.starts_with("the offsets of t: there are offsets"),
            "{error}"
        );
    }
}
