//! What a producer's refusals say.

use super::*;
use crate::client::librdkafka::writing::Undelivered;

/// What a producer's refusal says, before it is known who is to blame.
#[derive(Debug)]
pub(in crate::kafka_sink::producer) struct Refused {
    pub(in crate::kafka_sink::producer) operation: String,
    pub(in crate::kafka_sink::producer) error: Box<Error>,
    /// The transaction is not this producer's any more.
    pub(in crate::kafka_sink::producer) fenced: bool,
}

impl Session {
    pub(super) fn not_queued(&self, tag: usize, topic: &str, partition: i32, c: i32) -> Refused {
        if let Some((c, reason)) = self.producer.fatal() {
            return self.fatal("writing rows", c, &reason);
        }
        if let Some(message) = self.producer.serve() {
            return self.undelivered(&message);
        }
        Refused {
            operation: "writing rows".to_owned(),
            error: Box::new(self.trouble.message(tag, topic, partition, c)),
            fenced: is_fenced(c),
        }
    }

    pub(super) fn undelivered(&self, message: &Undelivered) -> Refused {
        Refused {
            operation: "writing rows".to_owned(),
            error: Box::new(self.trouble.undelivered(message, self.producer.held())),
            fenced: is_fenced(message.code)
                || self.producer.fatal().is_some_and(|f| is_fenced(f.0)),
        }
    }

    pub(super) fn fatal(&self, operation: &str, c: i32, reason: &str) -> Refused {
        let reason = match reason {
            "" => error_text(c),
            reason => reason.to_owned(),
        };
        Refused {
            operation: operation.to_owned(),
            error: Box::new(self.trouble.sink(operation, &reason, true)),
            fenced: is_fenced(c),
        }
    }

    pub(super) fn refused(&self, operation: &str, error: &TransactionError) -> Refused {
        // What a message met comes first: the transaction failed because of it.
        if let Some(message) = self.producer.serve() {
            return Refused {
                fenced: is_fenced(error.code) || is_fenced(message.code),
                ..self.undelivered(&message)
            };
        }
        Refused {
            operation: operation.to_owned(),
            error: Box::new(self.trouble.transaction(operation, error)),
            fenced: is_fenced(error.code) || self.producer.fatal().is_some_and(|f| is_fenced(f.0)),
        }
    }

    pub(super) fn plain(&self, error: Error) -> Refused {
        Refused {
            operation: "writing rows".to_owned(),
            error: Box::new(error),
            fenced: false,
        }
    }
}
