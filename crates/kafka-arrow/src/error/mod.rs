//! What can go wrong, by what the caller can do about it.
//!
//! Every variant that concerns data carries its coordinates, printed as `topic[partition]@offset`. [`Error::kind`]
//! sorts the variants into the classes that programs act on; the shell's exit codes are made from it.
//!
//! The message of an error is complete: it includes what the library below reported. [`source`](std::error::Error::source)
//! gives the error of that library to programs that look for it, for example for an [`std::io::Error`]. Print an error
//! and not its chain, which would say the same twice.
//!
//! What brokers, registries, databases and records say stands in a message as it came, line breaks and
//! escape sequences included. Before a terminal gets it, [`visible`](crate::text::visible) escapes that.

mod kind;
mod make;
mod syntax;
#[cfg(test)]
mod tests;
mod words;

pub use kind::ErrorKind;
pub use syntax::RangeSyntaxError;
pub(crate) use syntax::excerpt;
pub use words::nearest_names;
pub(crate) use words::with_causes;

use std::sync::Arc;

use words::{did_you_mean, grant, replicas_in_words};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of another library behind an [`Error`]. Clones share it.
///
/// It dereferences to that error and is none itself: [`source`](std::error::Error::source) has to give the
/// library's own, which programs downcast.
#[derive(Debug, Clone)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl Cause {
    /// Keeps an error.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
        Self(Arc::from(error))
    }
}

impl std::ops::Deref for Cause {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// Why a range cannot be read, a setting is refused or a cluster cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text of a range does not follow the grammar.
    #[error(transparent)]
    RangeSyntax(#[from] RangeSyntaxError),

    /// A range, an option or an argument contradicts another or the topic's shape.
    #[error("{message}")]
    Invalid {
        /// What was asked, what was expected, what to do next.
        message: String,
        /// What another library reported.
        source: Option<Cause>,
    },

    /// A table or a statement names an option that there is not.
    #[error("option '{option}' is not known: {hint}")]
    UnknownOption {
        /// The option as the user wrote it.
        option: String,
        /// The nearest option there is, or all of them.
        hint: String,
    },

    /// The value of an option is none that it takes.
    #[error("option '{option}' = '{value}': expected {expected}")]
    OptionValue {
        /// The option as the user wrote it.
        option: String,
        /// What was given.
        value: String,
        /// What it takes.
        expected: String,
    },

    /// A schema is none, or does not fit the columns that are wanted of it or written with it.
    #[error("{message}")]
    Schema {
        /// The schema or the column, what is wrong with it and what to do next.
        message: String,
        /// What another library reported.
        source: Option<Cause>,
    },

    /// What was asked for is not in this build.
    #[error("{what} (feature '{feature}')")]
    MissingFeature {
        /// What was asked for, and that this build does not have it.
        what: String,
        /// The feature of Cargo that has it.
        feature: &'static str,
    },

    /// DataFusion could not plan or run a query.
    #[error("{message}")]
    Query {
        /// What DataFusion reported.
        message: String,
        /// What another library reported.
        source: Option<Cause>,
    },

    /// A connection setting is unknown, refused or unreadable.
    #[error("setting '{key}': {message}")]
    Config {
        /// The setting as the user wrote it.
        key: String,
        /// Why it is refused and what to write instead. Never holds the value of a secret.
        message: String,
        /// What another library reported.
        source: Option<Cause>,
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
        /// What another library reported.
        source: Option<Cause>,
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
    #[error("not authorized: {operation} on {resource}: {reason}{}", grant(.operation, .resource))]
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

    /// A statement would read more than it may, or has read as much.
    #[error("{message}")]
    Budget {
        /// What is to be read or was read, which setting allows how much, and what to do next.
        message: String,
    },

    /// What another machine reported, which executed a part of the plan.
    #[error("{message} (on {machine})")]
    Elsewhere {
        /// The address of the machine.
        machine: String,
        /// The class that the error has there.
        kind: ErrorKind,
        /// The error there, with its coordinates.
        message: String,
        /// Whether the same attempt may succeed later.
        transient: bool,
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

    /// Another driver has gone on, or the target belongs to another job: going on would lose or repeat rows.
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
        /// What another library reported.
        source: Option<Cause>,
    },

    /// A file of an offset log, a manifest or an export does not hold what it must.
    #[error("{file}: {message}")]
    Corrupt {
        /// The file, as a URL or a path.
        file: String,
        /// What is wrong with it and what to do next.
        message: String,
        /// What another library reported.
        source: Option<Cause>,
    },

    /// The broker or the client library failed outside a partition.
    #[error("{operation} failed: {reason}")]
    Kafka {
        /// What was being done, for example `listing offsets`.
        operation: String,
        /// What was reported.
        reason: String,
    },

    /// A fault of this program and not of what it was given.
    #[error("{message}; this is a fault of the program, please report it")]
    Internal {
        /// What does not hold that must.
        message: String,
        /// What another library reported.
        source: Option<Cause>,
    },
}
