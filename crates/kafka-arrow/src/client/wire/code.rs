//! Kafka's error codes, as far as this client distinguishes them.

use kafka_protocol::error::ResponseError;

pub(super) const OK: i16 = 0;
pub(super) const OFFSET_OUT_OF_RANGE: i16 = 1;
pub(super) const CORRUPT_MESSAGE: i16 = 2;
pub(super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub(super) const LEADER_NOT_AVAILABLE: i16 = 5;
pub(super) const NOT_LEADER_OR_FOLLOWER: i16 = 6;
pub(super) const REQUEST_TIMED_OUT: i16 = 7;
pub(super) const REPLICA_NOT_AVAILABLE: i16 = 9;
pub(super) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
pub(super) const INVALID_TOPIC: i16 = 17;
pub(super) const UNKNOWN_MEMBER_ID: i16 = 25;
pub(super) const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
pub(super) const GROUP_AUTHORIZATION_FAILED: i16 = 30;
pub(super) const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
pub(super) const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
pub(super) const ILLEGAL_SASL_STATE: i16 = 34;
pub(super) const UNSUPPORTED_VERSION: i16 = 35;
pub(super) const KAFKA_STORAGE_ERROR: i16 = 56;
pub(super) const SASL_AUTHENTICATION_FAILED: i16 = 58;
pub(super) const FENCED_LEADER_EPOCH: i16 = 74;
pub(super) const UNKNOWN_LEADER_EPOCH: i16 = 75;
pub(super) const UNKNOWN_TOPIC_ID: i16 = 100;
pub(super) const INCONSISTENT_TOPIC_ID: i16 = 103;

/// Whether another broker should be asked, now or soon. One with a broken disk does not recover.
pub(super) fn is_of_leadership(code: i16) -> bool {
    matches!(
        code,
        LEADER_NOT_AVAILABLE
            | NOT_LEADER_OR_FOLLOWER
            | REPLICA_NOT_AVAILABLE
            | FENCED_LEADER_EPOCH
            | UNKNOWN_LEADER_EPOCH
            | KAFKA_STORAGE_ERROR
    )
}

/// Whether trying again later may help, according to Kafka. That includes missing and damaged data.
pub(super) fn is_retriable(code: i16) -> bool {
    ResponseError::try_from_code(code).is_some_and(|error| error.is_retriable())
}

/// Whether the topic or the partition does not exist.
pub(super) fn is_missing(code: i16) -> bool {
    matches!(
        code,
        UNKNOWN_TOPIC_OR_PARTITION | INVALID_TOPIC | UNKNOWN_TOPIC_ID
    )
}

/// The error code in words.
pub(super) fn text(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        Some(ResponseError::Unknown(_)) | None => format!("error {code} of the broker"),
        Some(error) => error.to_string(),
    }
}
