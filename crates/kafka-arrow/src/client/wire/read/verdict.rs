//! What a broker's answer means for a range: functions of values, without a socket or a clock.

use std::collections::VecDeque;

use super::plan::Part;
use crate::client::wire::code;
use crate::client::wire::decode::{PartitionEnd, PartitionHead};
use crate::range::{IsolationLevel, TopicPartition};

/// Whose records a partition's part of an answer holds.
#[derive(Debug)]
pub(super) enum Begun {
    /// Those of the range that is read.
    Current(Part),
    /// Those of a range behind it, which is not complete yet.
    Later,
    /// Those of a partition that was not asked for.
    Strange,
}

/// Takes the part that begins with `head` off those asked for. `position` is that of the range which is
/// read, `here` its partition.
pub(super) fn begin(
    asked: &mut VecDeque<Part>,
    head: &PartitionHead,
    here: &TopicPartition,
    position: i64,
    isolation: IsolationLevel,
) -> Begun {
    let named = |part: &Part| part.is_named(&head.topic, head.partition);
    let Some(mut part) = asked
        .iter()
        .position(named)
        .and_then(|index| asked.remove(index))
    else {
        return Begun::Strange;
    };
    if !part.holds(here, position) {
        return Begun::Later;
    }
    let stable = head.last_stable_offset;
    part.end_seen = if isolation == IsolationLevel::ReadCommitted && stable >= 0 {
        stable
    } else {
        head.high_watermark
    };
    part.start = position;
    part.preferred_replica = head.preferred_replica;
    Begun::Current(part)
}

/// What a partition's part of an answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The log has other records below the position: both agree up to `agreed`.
    Cut { epoch: i32, agreed: i64 },
    /// Records, of which one takes `mean_bytes`.
    Records { mean_bytes: usize },
    /// Records, but none of those asked for.
    Strange,
    /// The name of a replica to read from instead.
    Replica(i32),
    /// Nothing, for which there is a reason: what is missing is asked for next.
    Nothing,
    /// A part of a record batch, which is larger than what was asked for.
    TooLarge,
    /// Nothing from a replica, which may lag behind.
    ReplicaLags,
    /// Nothing, although the log goes on behind the range.
    Silence,
    /// Nothing from a leader whose log ends within the range, at this offset.
    LogEnds(i64),
}

/// What came of `part`, which was read up to `position` of a range up to `range_end`. A broker that holds
/// this client back (`throttled`) sends nothing, whatever its log holds.
pub(super) fn end(
    part: &Part,
    end: PartitionEnd,
    position: i64,
    range_end: i64,
    throttled: bool,
) -> Ended {
    if let Some((epoch, agreed)) = end.diverging {
        return Ended::Cut { epoch, agreed };
    }
    let passed = position - part.start;
    if part.bytes > 0 {
        return match usize::try_from(passed) {
            Ok(offsets @ 1..) => Ended::Records {
                mean_bytes: (part.bytes / offsets).max(1),
            },
            _ => Ended::Strange,
        };
    }
    if part.preferred_replica >= 0 && !part.from_replica {
        return Ended::Replica(part.preferred_replica);
    }
    // Of those behind the first an answer that is full holds nothing.
    if !part.first || passed > 0 {
        return Ended::Nothing;
    }
    if end.cut {
        return Ended::TooLarge;
    }
    if throttled {
        return Ended::Nothing;
    }
    if part.from_replica {
        return Ended::ReplicaLags;
    }
    if part.end_seen >= range_end {
        return Ended::Silence;
    }
    Ended::LogEnds(part.end_seen)
}

/// What a broker's refusal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The user may not read the topic.
    TopicDenied,
    /// The user may not read from the cluster.
    ClusterDenied,
    /// Another attempt; the leader may be another one by now.
    AskLeader,
    /// Another attempt.
    AskAgain,
    /// A look at the log's bounds.
    OutOfRange,
    /// A look whether the topic is there, and the same.
    Missing,
    /// The records once more.
    Corrupt,
    /// Nothing: the broker is too old.
    Unsupported,
    /// A few attempts: it is not said why.
    Unexplained,
}

impl Refusal {
    pub(super) fn of(code: i16, from_replica: bool) -> Self {
        match code {
            code::TOPIC_AUTHORIZATION_FAILED => Self::TopicDenied,
            code::CLUSTER_AUTHORIZATION_FAILED => Self::ClusterDenied,
            // A replica may lag behind the leader.
            code::OFFSET_OUT_OF_RANGE if from_replica => Self::AskAgain,
            code::OFFSET_OUT_OF_RANGE => Self::OutOfRange,
            code::INCONSISTENT_TOPIC_ID => Self::Missing,
            c if code::is_missing(c) => Self::Missing,
            code::CORRUPT_MESSAGE => Self::Corrupt,
            c if code::is_of_leadership(c) => Self::AskLeader,
            c if code::is_retriable(c) => Self::AskAgain,
            code::UNSUPPORTED_VERSION => Self::Unsupported,
            _ => Self::Unexplained,
        }
    }
}
