//! What can go wrong, by what the caller can do about it.
//!
//! Every variant that concerns data carries its coordinates, printed as
//! `topic[partition]@offset`. [`Error::kind`] sorts the variants into the
//! classes that programs act on; the shell's exit codes are made from it.
//!
//! What brokers, registries, databases and records say stands in a message as it came, line breaks and
//! escape sequences included. Before a terminal gets it, [`visible`](crate::text::visible) escapes that.

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The query, a range, an option or a setting is wrong: change what was asked.
    Query,
    /// The cluster or a sink could not be reached, or refused the credentials.
    Connection,
    /// The cluster knows the principal and denies the operation.
    Authorization,
    /// The topic, partition or offsets that were asked for are not there (any more).
    DataUnavailable,
    /// A record does not decode.
    BadRow,
    /// More records do not decode than the limit allows.
    BadRowLimit,
    /// A sink, an offset log or an export belongs to another job or has gone on without this one.
    Conflict,
    /// A sink or a store failed.
    Sink,
    /// The memory that the session may use does not suffice.
    Memory,
    /// A fault of the broker, the client library or this crate.
    Internal,
}

/// Why a range cannot be read, a setting is refused or a cluster cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text of a range does not follow the grammar.
    #[error(transparent)]
    RangeSyntax(#[from] crate::range::RangeSyntaxError),

    /// A range, an option or an argument contradicts another or the topic's shape.
    #[error("{message}")]
    Invalid {
        /// What was asked, what was expected, what to do next.
        message: String,
    },

    /// DataFusion could not plan or run a query.
    #[error("{message}")]
    Query {
        /// What DataFusion reported.
        message: String,
    },

    /// A connection setting is unknown, refused or unreadable.
    #[error("setting '{key}': {message}")]
    Config {
        /// The setting as the user wrote it.
        key: String,
        /// Why it is refused and what to write instead. Never holds the value of a secret.
        message: String,
    },

    /// No broker could be reached in time.
    #[error("cannot reach Kafka at {hosts}: {reason}")]
    Connection {
        /// The bootstrap servers or the broker.
        hosts: String,
        /// What the client library reported.
        reason: String,
    },

    /// The cluster answers, and none of its brokers leads the partition.
    #[error(
        "{topic}[{partition}]: there is no leader, waited {waited_ms} ms for one; {}",
        replicas_in_words(.replicas, .in_sync)
    )]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The brokers that have the partition, by id; empty where that is not known.
        replicas: Vec<i32>,
        /// Those of them that are in sync, of which one may lead.
        in_sync: Vec<i32>,
        /// How long a leader was waited for, in ms.
        waited_ms: u64,
    },

    /// The brokers refused the credentials or the TLS handshake failed.
    #[error("Kafka at {hosts} refused the connection: {reason}")]
    Authentication {
        /// The bootstrap servers or the broker.
        hosts: String,
        /// What the client library reported.
        reason: String,
    },

    /// A schema registry cannot be reached, refuses the credentials or gives answers of no use.
    #[error("schema registry {url}: {operation} failed: {reason}")]
    Registry {
        /// The registry's URL, without user and password.
        url: String,
        /// What was being done, for example `getting schema 7`.
        operation: String,
        /// What was reported and what to do next.
        reason: String,
        /// Whether the same question may be answered later: the registry was down, not the question
        /// or the credentials wrong.
        transient: bool,
    },

    /// Brokers can be reached, but none answers the question: a leader or coordinator is gone, moves
    /// or is too busy.
    #[error("{operation} failed: {reason}")]
    Unavailable {
        /// What was being done, for example `listing offsets of orders[3]`.
        operation: String,
        /// What was reported last, and how long was waited.
        reason: String,
    },

    /// The principal may not do what the query needs.
    #[error("not authorized: {operation} on {resource}: {reason}")]
    Authorization {
        /// For example `topic orders`.
        resource: String,
        /// The Kafka ACL operation, for example `READ`.
        operation: String,
        /// What the broker answered.
        reason: String,
    },

    /// The topic does not exist, or the principal may not see it.
    #[error("topic '{topic}' does not exist or may not be described{}", did_you_mean(.nearest))]
    UnknownTopic {
        /// The topic as the user wrote it.
        topic: String,
        /// Names of existing topics that look like it, the nearest first.
        nearest: Vec<String>,
    },

    /// The topic for records that do not decode is not there.
    #[error(
        "'dlq.topic' = '{topic}': the topic does not exist or may not be described; it takes the records \
         that do not decode and is not made by itself: kafka-topics.sh --bootstrap-server {hosts} --create \
         --topic {topic}, or name a folder by 'dlq.location'{}",
        did_you_mean(.nearest)
    )]
    NoLetterTopic {
        /// The topic that the option names.
        topic: String,
        /// Names of existing topics that look like it, the nearest first.
        nearest: Vec<String>,
        /// The bootstrap servers.
        hosts: String,
    },

    /// The topic has no such partition.
    #[error("{topic}[{partition}] does not exist: the topic has {available}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
        /// What there is, for example `partitions 0..4`.
        available: String,
    },

    /// The first offsets of the range are below the log start.
    #[error(
        "{topic}[{partition}]@{asked}: the log now starts at {available}, {lost} offsets of the range are gone; \
         start at {available} or later, or read what is left with 'on.data.loss' = 'skip' (failOnDataLoss = false)"
    )]
    BelowLogStart {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset that was asked for.
        asked: i64,
        /// The first offset that the log still has.
        available: i64,
        /// How many offsets of the range are gone.
        lost: i64,
    },

    /// The range ends beyond the end of the log.
    #[error(
        "{topic}[{partition}]@{asked}: the range ends beyond the log, which ends at {available} ({isolation}); \
         end the range at {available} or write 'end'"
    )]
    PastLogEnd {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The bound that was asked for.
        asked: i64,
        /// The end of the log at the isolation level: last stable offset or high watermark.
        available: i64,
        /// `read_committed` or `read_uncommitted`.
        isolation: &'static str,
    },

    /// The log was cut, as an unclean election does: what was read behind the cut is in no log any
    /// more, and other records may stand at its offsets.
    #[error(
        "{topic}[{partition}]@{offset}: the log was cut at {cut} by the loss of a leader: its records \
         {cut}..{offset} are in no log any more, and others may stand at these offsets; {message}"
    )]
    Truncated {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The position: all before it was read, or is named by a range.
        offset: i64,
        /// Where the log stops being the one that was read.
        cut: i64,
        /// Who read it and what to do next.
        message: String,
    },

    /// What a job was reading is not there any more.
    #[error("{topic}[{partition}]@{offset}: {message}")]
    DataLoss {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset that the job would have read.
        offset: i64,
        /// What is gone and what to do next.
        message: String,
    },

    /// The topic of a snapshot was deleted and created again.
    #[error(
        "topic '{topic}' was recreated: the snapshot holds id {expected}, the cluster has {found}; its offsets mean other records now"
    )]
    TopicRecreated {
        /// The topic.
        topic: String,
        /// The id in the snapshot.
        expected: String,
        /// The id in the cluster.
        found: String,
    },

    /// The broker stopped answering for a partition.
    #[error(
        "{topic}[{partition}]@{offset}: no progress for {waited_ms} ms, the range ends at {end}: {reason}; \
         'read.timeout.ms' sets how long to wait"
    )]
    Stalled {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset to read.
        offset: i64,
        /// The end of the range.
        end: i64,
        /// Time without progress, in ms.
        waited_ms: u64,
        /// The last thing the client library reported.
        reason: String,
    },

    /// A record's payload does not decode.
    #[error("{topic}[{partition}]@{offset}: {message}")]
    BadRow {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record.
        offset: i64,
        /// What is wrong with it and what to do next.
        message: String,
    },

    /// More records do not decode than the table's limit allows.
    #[error(
        "{bad} of {records} records so far do not decode, 'bad.row.limit' allows {limit}; \
         for example {example}; rows may have been handed out before"
    )]
    BadRowLimit {
        /// The limit, as it is written.
        limit: String,
        /// The records that were looked at.
        records: u64,
        /// Those that do not decode.
        bad: u64,
        /// One of them, with its coordinates, and what is wrong with it.
        example: String,
    },

    /// The broker or the client library failed while a partition was read.
    #[error("{topic}[{partition}]@{offset}: {reason}")]
    Read {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset to read.
        offset: i64,
        /// What was reported.
        reason: String,
        /// Whether the same offsets may be read later: brokers disagreed for a moment.
        transient: bool,
    },

    /// Records arrived damaged, and again when they were asked for once more.
    #[error(
        "{topic}[{partition}]@{offset}: {reason}, twice in succession; if it stays so, the log of the \
         partition's leader is damaged: move the leader to another replica, or read around it with a \
         range behind it"
    )]
    Corrupted {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset to read: that of the damaged records or before.
        offset: i64,
        /// What is wrong with them.
        reason: String,
    },

    /// What must be held in memory at once is more than the session may use.
    #[error("{place}: {message}")]
    Memory {
        /// The record as `topic[partition]@offset`, or the file that is written.
        place: String,
        /// What takes how many bytes, what the limit is and what to do next.
        message: String,
    },

    /// The client's report of a range does not account for every offset of it.
    #[error(
        "{topic}[{partition}] {start}..{end}: {message}; the client that reads is at fault, please report this"
    )]
    Unaccounted {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset that is not accounted for.
        start: i64,
        /// The end of the batch's or the range's offsets.
        end: i64,
        /// What was reported.
        message: String,
    },

    /// Another driver has gone on, or the target belongs to another job: going on would lose or
    /// repeat rows.
    #[error("{target}: {message}")]
    Conflict {
        /// The sink's target or the offset log.
        target: String,
        /// What was expected, what was found, what to do next.
        message: String,
    },

    /// A sink or a store refused or failed.
    #[error("{target}: {operation} failed: {reason}")]
    Sink {
        /// The sink's target or the store's URL, without secrets.
        target: String,
        /// What was being done, for example `committing batch 7`.
        operation: String,
        /// What was reported.
        reason: String,
        /// Whether the same attempt may succeed later: the target was down, not the rows wrong.
        transient: bool,
    },

    /// A file of an offset log, a manifest or an export does not hold what it must.
    #[error("{file}: {message}")]
    Corrupt {
        /// The file, as a URL or a path.
        file: String,
        /// What is wrong with it and what to do next.
        message: String,
    },

    /// The broker or the client library failed outside a partition.
    #[error("{operation} failed: {reason}")]
    Kafka {
        /// What was being done, for example `listing offsets`.
        operation: String,
        /// What was reported.
        reason: String,
    },
}

impl Error {
    /// What to do about a log that was cut while it was read.
    pub(crate) const READ_AGAIN: &'static str =
        "what was read before may be of either log: run the query again";

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RangeSyntax(_)
            | Self::Invalid { .. }
            | Self::Query { .. }
            | Self::Config { .. } => ErrorKind::Query,
            Self::Connection { .. }
            | Self::NoLeader { .. }
            | Self::Authentication { .. }
            | Self::Registry { .. }
            | Self::Unavailable { .. }
            | Self::Read {
                transient: true, ..
            }
            | Self::Stalled { .. } => ErrorKind::Connection,
            Self::Authorization { .. } => ErrorKind::Authorization,
            Self::UnknownTopic { .. }
            | Self::NoLetterTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::BelowLogStart { .. }
            | Self::PastLogEnd { .. }
            | Self::Truncated { .. }
            | Self::DataLoss { .. }
            | Self::TopicRecreated { .. } => ErrorKind::DataUnavailable,
            Self::BadRow { .. } => ErrorKind::BadRow,
            Self::BadRowLimit { .. } => ErrorKind::BadRowLimit,
            Self::Memory { .. } => ErrorKind::Memory,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Sink {
                transient: true, ..
            } => ErrorKind::Connection,
            Self::Sink { .. } | Self::Corrupt { .. } => ErrorKind::Sink,
            Self::Read { .. }
            | Self::Corrupted { .. }
            | Self::Unaccounted { .. }
            | Self::Kafka { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the same attempt may succeed later although nobody changes anything: a job tries such
    /// errors again, as jobs do. `docs/jobs.md` has the table.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connection { .. }
            | Self::NoLeader { .. }
            | Self::Unavailable { .. }
            | Self::Stalled { .. }
            // On its way, or by a replica that is not asked next time.
            | Self::Corrupted { .. } => true,
            Self::Registry { transient, .. }
            | Self::Read { transient, .. }
            | Self::Sink { transient, .. } => *transient,
            Self::RangeSyntax(_)
            | Self::Invalid { .. }
            | Self::Query { .. }
            | Self::Config { .. }
            // Wrong credentials do not become right.
            | Self::Authentication { .. }
            | Self::Authorization { .. }
            | Self::UnknownTopic { .. }
            | Self::NoLetterTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::BelowLogStart { .. }
            | Self::PastLogEnd { .. }
            | Self::Truncated { .. }
            | Self::DataLoss { .. }
            | Self::TopicRecreated { .. }
            | Self::BadRow { .. }
            | Self::BadRowLimit { .. }
            | Self::Memory { .. }
            | Self::Unaccounted { .. }
            | Self::Conflict { .. }
            | Self::Corrupt { .. }
            | Self::Kafka { .. } => false,
        }
    }

    /// Shorthand for [`Error::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
        }
    }

    /// A partition that is not among the `there` ones of its topic.
    #[doc(hidden)]
    pub fn unknown_partition(partition: &crate::range::TopicPartition, there: usize) -> Self {
        Self::UnknownPartition {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            available: match there {
                0 => "none".into(),
                1 => "partition 0".into(),
                n => format!("partitions 0 to {}", n - 1),
            },
        }
    }

    /// Shorthand for [`Error::Config`].
    pub fn config(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config {
            key: key.into(),
            message: message.into(),
        }
    }

    /// Finds an error of this crate inside another one, however deep it lies.
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut source = Some(error);
        while let Some(current) = source {
            if let Some(found) = current.downcast_ref::<Self>() {
                return Some(found);
            }
            source = current.source();
        }
        None
    }
}

fn did_you_mean(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("; did you mean {}?", names.join(", "))
}

/// Which brokers have a partition, and which of them must come back for it to have a leader.
fn replicas_in_words(replicas: &[i32], in_sync: &[i32]) -> String {
    let list = |ids: &[i32]| match ids {
        [] => "none".to_owned(),
        ids => ids
            .iter()
            .map(i32::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    format!(
        "replicas: {}, in sync: {}; one that is in sync must be up",
        list(replicas),
        list(in_sync)
    )
}

/// The candidates that look most like `name`, the nearest first, at most three.
#[doc(hidden)]
pub fn nearest_names<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    /// Below this Jaro-Winkler similarity a name is no help (0 to 1).
    const SIMILAR: f64 = 0.75;
    let wanted = name.to_lowercase();
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(&wanted, &c.to_lowercase()), c))
        .filter(|(score, _)| *score >= SIMILAR)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored
        .into_iter()
        .take(3)
        .map(|(_, c)| c.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line a variant: an example, its kind, and whether a job tries it again. Where a field
    /// decides, the example has it unset, and `transient` below sets it.
    macro_rules! table {
        ($($variant:ident $fields:tt => $kind:ident, $passes:literal;)*) => {
            fn table() -> Vec<(&'static str, Error, ErrorKind, bool)> {
                // Does not compile before a new variant has its line.
                fn name(error: &Error) -> &'static str {
                    match error {
                        $(Error::$variant { .. } => stringify!($variant),)*
                    }
                }
                let lines = [$((table!(@make $variant $fields), ErrorKind::$kind, $passes)),*];
                lines.map(|(error, kind, passes)| (name(&error), error, kind, passes)).to_vec()
            }
        };
        (@make $variant:ident ($value:expr)) => { Error::$variant($value) };
        (@make $variant:ident { $($field:ident),* $(; $flag:ident)? }) => {
            Error::$variant { $($field: sample(stringify!($field)).into(),)* $($flag: false,)? }
        };
    }

    /// A value for a field of any type.
    fn sample(field: &str) -> Sample {
        Sample(field.to_owned())
    }

    struct Sample(String);

    impl From<Sample> for String {
        fn from(sample: Sample) -> Self {
            sample.0
        }
    }

    impl From<Sample> for &'static str {
        fn from(_: Sample) -> Self {
            "read_committed"
        }
    }

    impl<T> From<Sample> for Vec<T> {
        fn from(_: Sample) -> Self {
            vec![]
        }
    }

    macro_rules! numbers {
        ($($number:ty),*) => { $(impl From<Sample> for $number {
            fn from(_: Sample) -> Self {
                7
            }
        })* };
    }
    numbers!(i32, i64, u64);

    table! {
        RangeSyntax("?".parse::<crate::range::RangeSpec>().unwrap_err()) => Query, false;
        Invalid { message } => Query, false;
        Query { message } => Query, false;
        Config { key, message } => Query, false;
        Connection { hosts, reason } => Connection, true;
        NoLeader { topic, partition, replicas, in_sync, waited_ms } => Connection, true;
        Authentication { hosts, reason } => Connection, false;
        Registry { url, operation, reason; transient } => Connection, false;
        Unavailable { operation, reason } => Connection, true;
        Authorization { resource, operation, reason } => Authorization, false;
        UnknownTopic { topic, nearest } => DataUnavailable, false;
        NoLetterTopic { topic, nearest, hosts } => DataUnavailable, false;
        UnknownPartition { topic, partition, available } => DataUnavailable, false;
        BelowLogStart { topic, partition, asked, available, lost } => DataUnavailable, false;
        PastLogEnd { topic, partition, asked, available, isolation } => DataUnavailable, false;
        Truncated { topic, partition, offset, cut, message } => DataUnavailable, false;
        DataLoss { topic, partition, offset, message } => DataUnavailable, false;
        TopicRecreated { topic, expected, found } => DataUnavailable, false;
        Stalled { topic, partition, offset, end, waited_ms, reason } => Connection, true;
        BadRow { topic, partition, offset, message } => BadRow, false;
        BadRowLimit { limit, records, bad, example } => BadRowLimit, false;
        Read { topic, partition, offset, reason; transient } => Internal, false;
        Corrupted { topic, partition, offset, reason } => Internal, true;
        Memory { place, message } => Memory, false;
        Unaccounted { topic, partition, start, end, message } => Internal, false;
        Conflict { target, message } => Conflict, false;
        Sink { target, operation, reason; transient } => Sink, false;
        Corrupt { file, message } => Sink, false;
        Kafka { operation, reason } => Internal, false;
    }

    #[test]
    fn every_error_has_its_kind_and_is_retried_or_not() {
        for (name, error, kind, passes) in table() {
            assert_eq!((error.kind(), error.may_pass()), (kind, passes), "{name}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_of_the_connection() {
        for (name, mut error, ..) in table() {
            let (Error::Registry { transient, .. }
            | Error::Read { transient, .. }
            | Error::Sink { transient, .. }) = &mut error
            else {
                continue;
            };
            *transient = true;
            assert_eq!(
                (error.kind(), error.may_pass()),
                (ErrorKind::Connection, true),
                "{name}"
            );
        }
    }

    #[test]
    fn the_table_of_the_docs_is_that_of_the_code() {
        let docs = include_str!("../../../docs/jobs.md");
        for (name, _, kind, passes) in table() {
            let exit = match kind {
                ErrorKind::Connection => 3,
                ErrorKind::Authorization => 4,
                ErrorKind::DataUnavailable => 5,
                ErrorKind::BadRowLimit => 6,
                ErrorKind::Memory => 7,
                ErrorKind::Conflict => 8,
                _ => 1,
            };
            let retried = if passes { "yes" } else { "no" };
            let line = docs
                .lines()
                .find(|line| line.starts_with(&format!("| `{name}` |")));
            let ends = format!("| {exit} | {retried} |");
            assert!(
                line.is_some_and(|line| line.ends_with(&ends)),
                "{name} {ends}: {line:?}"
            );
        }
    }

    #[test]
    fn nearest_topic_first() {
        let topics = ["orders", "order-items", "customers", "__x"];
        assert_eq!(nearest_names("ordres", topics)[0], "orders");
        assert!(nearest_names("zzz", topics).is_empty());
    }
}
