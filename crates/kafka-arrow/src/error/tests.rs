//! The table of errors, which the documentation has too.

use std::io;

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

impl From<Sample> for ErrorKind {
    fn from(_: Sample) -> Self {
        Self::Internal
    }
}

impl<T> From<Sample> for Vec<T> {
    fn from(_: Sample) -> Self {
        vec![]
    }
}

impl From<Sample> for Option<Cause> {
    fn from(_: Sample) -> Self {
        Some(Cause::new(denied()))
    }
}

fn denied() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "denied")
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
    Invalid { message, source } => Query, false;
    UnknownOption { option, hint } => Query, false;
    OptionValue { option, value, expected } => Query, false;
    Schema { message, source } => Query, false;
    MissingFeature { what, feature } => Query, false;
    Query { message, source } => Query, false;
    Config { key, message, source } => Query, false;
    Connection { hosts, reason } => Connection, true;
    NoLeader { topic, partition, replicas, in_sync, waited_ms } => Connection, true;
    Authentication { hosts, reason } => Connection, false;
    Registry { url, operation, reason, source; transient } => Connection, false;
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
    Budget { message } => Budget, false;
    Elsewhere { machine, kind, message; transient } => Internal, false;
    Unaccounted { topic, partition, start, end, message } => Internal, false;
    Conflict { target, message } => Conflict, false;
    Sink { target, operation, reason, source; transient } => Sink, false;
    Corrupt { file, message, source } => Sink, false;
    Kafka { operation, reason } => Internal, false;
    Internal { message, source } => Internal, false;
}

#[test]
fn every_error_has_its_kind_and_is_retried_or_not() {
    for (name, error, kind, passes) in table() {
        assert_eq!((error.kind(), error.may_pass()), (kind, passes), "{name}");
    }
}

#[test]
fn a_source_is_what_another_library_reported() {
    for (name, error, ..) in table() {
        let source = |error: &Error| {
            let source = std::error::Error::source(error)?;
            // The library's own, not a pointer to it.
            Some(source.downcast_ref::<io::Error>().expect(name).kind())
        };
        let kept = error.clone().because(io::Error::other("later"));
        assert_eq!(kept.to_string(), error.to_string(), "{name}");
        let expected = source(&error).map(|kind| {
            assert_eq!(kind, io::ErrorKind::PermissionDenied, "{name}");
            io::ErrorKind::Other
        });
        assert_eq!(source(&kept), expected, "{name}");
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
    let docs = include_str!("../../../../docs/jobs.md");
    for (name, _, kind, passes) in table() {
        let exit = match kind {
            ErrorKind::Connection => 3,
            ErrorKind::Authorization => 4,
            ErrorKind::DataUnavailable => 5,
            ErrorKind::BadRowLimit => 6,
            ErrorKind::Memory | ErrorKind::Budget => 7,
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

#[test]
fn a_missing_right_comes_with_the_command_that_grants_it() {
    let denied = |operation: &str, resource: &str| {
        let error = Error::Authorization {
            resource: resource.into(),
            operation: operation.into(),
            reason: "denied".into(),
        };
        error.to_string()
    };
    let grant = "denied; grant it: kafka-acls --add --allow-principal User:NAME --operation";
    for (operation, resource, told) in [
        ("READ", "topic a", " Read --topic a"),
        ("DESCRIBE_CONFIGS", "topic a", " DescribeConfigs --topic a"),
        ("DESCRIBE", "group b", " Describe --group b"),
        ("READ", "the cluster", " Read --cluster"),
        (
            "WRITE",
            "the transactional id (see 'transactional.id.prefix')",
            " Write --transactional-id PREFIX --resource-pattern-type prefixed",
        ),
    ] {
        let expected = format!("not authorized: {operation} on {resource}: {grant}{told}");
        assert_eq!(denied(operation, resource), expected);
    }
    let unnamed = denied("READ", "topics of group b");
    assert_eq!(unnamed, "not authorized: READ on topics of group b: denied");
}

#[test]
fn causes_follow_a_message_once() {
    #[derive(Debug)]
    struct Loading(io::Error);

    impl std::fmt::Display for Loading {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("loading")
        }
    }

    impl std::error::Error for Loading {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    let refused = Loading(io::Error::other("status 403"));
    assert_eq!(with_causes(&refused), "loading: status 403");
    assert_eq!(with_causes(&refused.0), "status 403");
}
