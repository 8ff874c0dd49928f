//! What somebody can do about an error, by its kind.

use datafusion_kafka::ErrorKind;

/// What to do; nothing where only the message knows.
pub(super) fn of(kind: Option<ErrorKind>) -> Option<&'static str> {
    let advice = match kind? {
        ErrorKind::Query => {
            "Correct the statement, table or setting that the message names, then retry; a changed file is read when the \
             service is told to reload."
        }
        ErrorKind::Connection => {
            "Bring back what does not answer: the job tries again by itself. `kafka-sql doctor` says which step of a \
             connection fails."
        }
        ErrorKind::Authorization => {
            "Grant the right that the message names to the service's principal, then retry."
        }
        ErrorKind::DataUnavailable => {
            "Records that the job was to read are gone. Look for them in a mirror or an archive; to go on without them, set \
             'on.data.loss' = 'skip' on the source."
        }
        ErrorKind::BadRow => {
            "Look at the record. Correct its producer or the declared columns, or set such records aside with 'on.bad.row' = \
             'dlq'."
        }
        ErrorKind::BadRowLimit => {
            "Look at some of these records. Correct their producer or the declared columns, or raise bad.row.limit."
        }
        ErrorKind::Conflict => {
            "Make sure that one process alone runs the job. If a sink or the offset log was restored from a backup, remove \
             the offset log: the job goes on from the ends that its sinks have recorded."
        }
        ErrorKind::Sink => {
            "The sink has refused the batch: see there. Nothing of it is visible, and the same batch is tried again."
        }
        ErrorKind::Memory => "Lower max_offsets of the job, or raise memory_limit of the service.",
        ErrorKind::Budget => {
            "Lower max_offsets of the job, or raise the budget (max.scan.…) of its connection or tables."
        }
        ErrorKind::Internal => {
            "This should not happen. Keep the log of the service, and report it with the message."
        }
        _ => return None,
    };
    Some(advice)
}
