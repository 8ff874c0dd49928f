//! What the codes of producers mean to a job.

use std::time::Duration;

use crate::client::librdkafka::writing::{TransactionError, Undelivered, code, error_text};
use crate::error::Error;

/// Bits of a tag that number the row; the others number the execution partition.
const ROW_BITS: u32 = usize::BITS / 3 * 2;

/// The tag of messages that are no rows.
pub(super) const NO_ROW: usize = usize::MAX;

/// A row's place, to travel with its message. Wraps beyond 4 10^12 rows and a million partitions:
/// it is only ever printed.
pub(super) fn tag(partition: usize, row: u64) -> usize {
    let rows = (1 << ROW_BITS) - 1;
    (partition << ROW_BITS) | (usize::try_from(row).unwrap_or(rows) & rows)
}

/// A row's place in words; rows count from 1.
pub(super) fn place(tag: usize) -> String {
    let row = tag & ((1 << ROW_BITS) - 1);
    let partition = tag >> ROW_BITS;
    format!("row {} of execution partition {partition}", row + 1)
}

/// A broker bounds the batches that records are sent in, so that small ones may be refused together.
const TOO_LARGE: &str = "; the bounds are 'kafka.message.max.bytes' here, and max.message.bytes of \
                         the topic, which also holds for the records that are sent together \
                         ('kafka.batch.size', in bytes)";

/// Makes errors of a target.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    target: String,
}

impl Trouble {
    pub(super) fn new(target: String) -> Self {
        Self { target }
    }

    pub(super) fn sink(&self, operation: &str, reason: &str, transient: bool) -> Error {
        Error::Sink {
            target: self.target.clone(),
            operation: operation.to_owned(),
            reason: reason.to_owned(),
            transient,
            source: None,
        }
    }

    /// A row that cannot be written.
    pub(super) fn row(&self, reason: String) -> Error {
        self.sink("writing rows", &reason, false)
    }

    /// A message that was refused, by the library or by a broker.
    pub(super) fn message(&self, tag: usize, topic: &str, partition: i32, c: i32) -> Error {
        let what = match tag {
            NO_ROW => "the job's recorded ends".to_owned(),
            tag => place(tag),
        };
        let at = match partition {
            0.. => format!("{topic}[{partition}]"),
            _ => topic.to_owned(),
        };
        let reason = error_text(c);
        let (advice, transient) = match c {
            code::MSG_SIZE_TOO_LARGE | code::RECORD_LIST_TOO_LARGE => (TOO_LARGE, false),
            code::TOPIC_AUTHORIZATION_FAILED => {
                return Error::Authorization {
                    resource: format!("topic {topic}"),
                    operation: "WRITE".to_owned(),
                    reason: format!("{what}: {reason}"),
                };
            }
            // That it is unknown passes, or the next attempt does not find it when it looks it up.
            code::INVALID_TOPIC
            | code::INVALID_TIMESTAMP
            | code::INVALID_RECORD
            | code::POLICY_VIOLATION => ("", false),
            _ => ("", true),
        };
        self.sink(
            &format!("writing to {at}"),
            &format!("{what}: {reason}{advice}"),
            transient,
        )
    }

    /// `held`: for how long brokers have held the producer back.
    pub(super) fn undelivered(&self, message: &Undelivered, held: Duration) -> Error {
        let Undelivered { tag, code, .. } = *message;
        let mut error = self.message(tag, &message.topic, message.partition, code);
        if code == code::MSG_TIMED_OUT
            && !held.is_zero()
            && let Error::Sink { reason, .. } = &mut error
        {
            reason.push_str(&format!(
                "; brokers held the producer back by a quota for {} ms: raise it \
                 (producer_byte_rate, request_percentage), take less in a batch, or wait longer \
                 ('kafka.message.timeout.ms')",
                held.as_millis()
            ));
        }
        error
    }

    /// A call about a transaction that failed.
    pub(super) fn transaction(&self, operation: &str, error: &TransactionError) -> Error {
        match error.code {
            code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Error::Authorization {
                resource: "the transactional id (see 'transactional.id.prefix')".to_owned(),
                operation: "WRITE".to_owned(),
                reason: error.reason.clone(),
            },
            code::TOPIC_AUTHORIZATION_FAILED => Error::Authorization {
                resource: format!("a topic of {}", self.target),
                operation: "WRITE".to_owned(),
                reason: error.reason.clone(),
            },
            code::INVALID_TRANSACTION_TIMEOUT => Error::config(
                "kafka.transaction.timeout.ms",
                "is longer than the brokers allow (their transaction.max.timeout.ms): set less here or more there",
            ),
            _ => self.sink(operation, &error.reason, true),
        }
    }
}

/// Whether a code says that this producer is not the one of its transactional id any more.
pub(super) fn is_fenced(c: i32) -> bool {
    matches!(
        c,
        code::FENCED | code::PRODUCER_FENCED | code::INVALID_PRODUCER_EPOCH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_row_and_partition() {
        assert_eq!(place(tag(0, 0)), "row 1 of execution partition 0");
        assert_eq!(place(tag(7, 41)), "row 42 of execution partition 7");
    }

    #[test]
    fn a_row_that_a_quota_held_back_may_pass_later() {
        let trouble = Trouble::new("kafka://h:1/t".to_owned());
        let message = Undelivered {
            tag: tag(0, 0),
            topic: "t".to_owned(),
            partition: 0,
            code: code::MSG_TIMED_OUT,
            size: 1,
        };
        let error = trouble.undelivered(&message, Duration::from_secs(100));
        assert_eq!(error.kind(), crate::ErrorKind::Connection);
        assert_eq!(
            error.to_string(),
            "kafka://h:1/t: writing to t[0] failed: row 1 of execution partition 0: Local: Message \
             timed out; brokers held the producer back by a quota for 100000 ms: raise it \
             (producer_byte_rate, request_percentage), take less in a batch, or wait longer \
             ('kafka.message.timeout.ms')"
        );
    }

    #[test]
    fn a_large_row_is_named_with_the_settings_that_bound_it() {
        let trouble = Trouble::new("kafka://h:1/t".to_owned());
        let error = trouble.message(tag(1, 2), "t", 3, code::MSG_SIZE_TOO_LARGE);
        assert!(matches!(
            &error,
            Error::Sink {
                transient: false,
                ..
            }
        ));
        assert_eq!(
            error.to_string(),
            "kafka://h:1/t: writing to t[3] failed: row 3 of execution partition 1: Broker: \
             Message size too large; the bounds are 'kafka.message.max.bytes' here, and \
             max.message.bytes of the topic, which also holds for the records that are sent \
             together ('kafka.batch.size', in bytes)"
        );
    }
}
