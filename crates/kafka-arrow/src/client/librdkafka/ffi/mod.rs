//! The `unsafe` code of this client: safe wrappers around librdkafka's C interface.
//!
//! ```text
//! Conf ──> Handle <── Topic, Queue, Messages, Event
//! ```
//!
//! The wrappers keep these promises:
//!
//! - A [`Queue`], [`Topic`], [`Messages`] or [`Event`] keeps its [`Handle`] alive, so `rd_kafka_destroy`
//!   always runs last.
//! - Data that C callbacks use outlives them. A queue's waker is released only after its callback was
//!   removed, under the lock that callbacks run under. A handle's [`Health`] is released only after the
//!   instance's threads were joined.
//! - Messages and answers are read through references that end before they are freed.
//! - Error codes are read as plain integers, because a newer broker may send codes that the bindings' enum
//!   does not list.
#![allow(unsafe_code)]

mod admin;
mod answer;
mod conf;
mod handle;
mod message;
mod producer;
mod queue;
mod tokens;

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Resp;

pub(crate) use admin::{AdminRequest, send};
pub(crate) use answer::Event;
#[cfg(test)]
pub(crate) use conf::end_slowly;
pub(crate) use conf::{Conf, SettingError};
pub use handle::Undelivered;
pub(crate) use handle::{Handle, Health, Kind, OAuth};
pub(crate) use message::{Message, Messages};
pub use producer::{Headers, Outgoing, Producer, TransactionError};
pub(crate) use queue::Queue;
pub use queue::Topic;

/// Error codes of librdkafka and Kafka, as far as this client distinguishes them.
pub mod code {
    use kafka_protocol::error::ResponseError;

    use super::Resp;

    pub(crate) const OK: i32 = 0;
    pub(crate) const TRANSPORT: i32 = Resp::RD_KAFKA_RESP_ERR__TRANSPORT as i32;
    pub(crate) const RESOLVE: i32 = Resp::RD_KAFKA_RESP_ERR__RESOLVE as i32;
    pub(crate) const TIMED_OUT: i32 = Resp::RD_KAFKA_RESP_ERR__TIMED_OUT as i32;
    pub(crate) const ALL_BROKERS_DOWN: i32 = Resp::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as i32;
    pub(crate) const AUTHENTICATION: i32 = Resp::RD_KAFKA_RESP_ERR__AUTHENTICATION as i32;
    pub(crate) const SSL: i32 = Resp::RD_KAFKA_RESP_ERR__SSL as i32;
    pub(crate) const SASL_AUTHENTICATION_FAILED: i32 =
        Resp::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED as i32;
    pub(crate) const PARTITION_EOF: i32 = Resp::RD_KAFKA_RESP_ERR__PARTITION_EOF as i32;
    pub(crate) const AUTO_OFFSET_RESET: i32 = Resp::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET as i32;
    pub(crate) const LOG_TRUNCATION: i32 = Resp::RD_KAFKA_RESP_ERR__LOG_TRUNCATION as i32;
    pub(crate) const OFFSET_OUT_OF_RANGE: i32 = Resp::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE as i32;
    /// The broker does not say what went wrong.
    pub(crate) const UNKNOWN: i32 = Resp::RD_KAFKA_RESP_ERR_UNKNOWN as i32;
    pub(crate) const UNKNOWN_PARTITION_LOCAL: i32 =
        Resp::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION as i32;
    pub(crate) const UNKNOWN_TOPIC_LOCAL: i32 = Resp::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC as i32;
    pub(crate) const UNKNOWN_TOPIC_OR_PART: i32 =
        Resp::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART as i32;
    pub(crate) const UNKNOWN_TOPIC_ID: i32 = Resp::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID as i32;
    pub const INVALID_TOPIC: i32 = Resp::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION as i32;
    pub(crate) const LEADER_NOT_AVAILABLE: i32 =
        Resp::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE as i32;
    pub(crate) const NO_LEADERS: i32 = Resp::RD_KAFKA_RESP_ERR__NOENT as i32;
    pub const TOPIC_AUTHORIZATION_FAILED: i32 =
        Resp::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as i32;
    pub(crate) const GROUP_AUTHORIZATION_FAILED: i32 =
        Resp::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED as i32;
    pub(crate) const CLUSTER_AUTHORIZATION_FAILED: i32 =
        Resp::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED as i32;
    pub(crate) const GROUP_IN_USE: i32 = Resp::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID as i32;
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i32 =
        Resp::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED as i32;
    pub(crate) const TOPIC_ALREADY_EXISTS: i32 =
        Resp::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS as i32;
    pub const QUEUE_FULL: i32 = Resp::RD_KAFKA_RESP_ERR__QUEUE_FULL as i32;
    pub const MSG_TIMED_OUT: i32 = Resp::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT as i32;
    pub(crate) const PURGE_QUEUE: i32 = Resp::RD_KAFKA_RESP_ERR__PURGE_QUEUE as i32;
    pub(crate) const PURGE_INFLIGHT: i32 = Resp::RD_KAFKA_RESP_ERR__PURGE_INFLIGHT as i32;
    pub const FENCED: i32 = Resp::RD_KAFKA_RESP_ERR__FENCED as i32;
    pub const PRODUCER_FENCED: i32 = Resp::RD_KAFKA_RESP_ERR_PRODUCER_FENCED as i32;
    pub const INVALID_PRODUCER_EPOCH: i32 = Resp::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH as i32;
    pub const INVALID_TRANSACTION_TIMEOUT: i32 =
        Resp::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT as i32;
    pub const MSG_SIZE_TOO_LARGE: i32 = Resp::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as i32;
    pub const RECORD_LIST_TOO_LARGE: i32 = Resp::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE as i32;
    pub const INVALID_TIMESTAMP: i32 = Resp::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP as i32;
    pub const INVALID_RECORD: i32 = Resp::RD_KAFKA_RESP_ERR_INVALID_RECORD as i32;
    pub const POLICY_VIOLATION: i32 = Resp::RD_KAFKA_RESP_ERR_POLICY_VIOLATION as i32;
    pub(crate) const UNSUPPORTED_FEATURE: i32 = Resp::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE as i32;
    pub(crate) const BAD_MSG: i32 = Resp::RD_KAFKA_RESP_ERR__BAD_MSG as i32;
    pub(crate) const BAD_COMPRESSION: i32 = Resp::RD_KAFKA_RESP_ERR__BAD_COMPRESSION as i32;
    pub(crate) const NOT_IMPLEMENTED: i32 = Resp::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED as i32;
    pub(crate) const INVALID_MSG: i32 = Resp::RD_KAFKA_RESP_ERR_INVALID_MSG as i32;
    const BROKER_NOT_AVAILABLE: i32 = Resp::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE as i32;
    const TIMED_OUT_QUEUE: i32 = Resp::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE as i32;
    const WAIT_COORDINATOR: i32 = Resp::RD_KAFKA_RESP_ERR__WAIT_COORD as i32;

    /// Whether the error passes without help: metadata is refreshed, a broker catches up, a connection is
    /// re-established.
    pub fn is_retriable(c: i32) -> bool {
        let of_broker = || {
            let error = ResponseError::try_from_code(i16::try_from(c).ok()?)?;
            Some(error.is_retriable())
        };
        matches!(
            c,
            TRANSPORT
                | RESOLVE
                | TIMED_OUT
                | TIMED_OUT_QUEUE
                | ALL_BROKERS_DOWN
                | WAIT_COORDINATOR
                | BROKER_NOT_AVAILABLE
        ) || of_broker() == Some(true)
    }
}

// The same functions as in the bindings, but with error codes as integers, as in C.
unsafe extern "C" {
    #[link_name = "rd_kafka_err2str"]
    fn err2str_raw(err: c_int) -> *const c_char;
    #[link_name = "rd_kafka_event_error"]
    fn event_error_raw(event: *mut rd::rd_kafka_event_t) -> c_int;
    #[link_name = "rd_kafka_error_code"]
    fn error_code_raw(error: *const rd::rd_kafka_error_t) -> c_int;
    #[link_name = "rd_kafka_ConfigResource_error"]
    fn resource_error_raw(resource: *const rd::rd_kafka_ConfigResource_t) -> c_int;
    #[link_name = "rd_kafka_topic_result_error"]
    fn topic_result_error_raw(result: *const rd::rd_kafka_topic_result_t) -> c_int;
    #[link_name = "rd_kafka_producev"]
    fn producev_raw(rk: *mut rd::rd_kafka_t, ...) -> c_int;
    #[link_name = "rd_kafka_flush"]
    fn flush_raw(rk: *mut rd::rd_kafka_t, timeout_ms: c_int) -> c_int;
    #[link_name = "rd_kafka_purge"]
    fn purge_raw(rk: *mut rd::rd_kafka_t, flags: c_int) -> c_int;
    #[link_name = "rd_kafka_fatal_error"]
    fn fatal_error_raw(rk: *mut rd::rd_kafka_t, text: *mut c_char, size: usize) -> c_int;
    #[link_name = "rd_kafka_header_add"]
    fn header_add_raw(
        headers: *mut rd::rd_kafka_headers_t,
        name: *const c_char,
        name_size: isize,
        value: *const c_void,
        value_size: isize,
    ) -> c_int;
    #[link_name = "rd_kafka_metadata"]
    fn metadata_raw(
        rk: *mut rd::rd_kafka_t,
        all_topics: c_int,
        only_topic: *mut rd::rd_kafka_topic_t,
        metadata: *mut *const rd::rd_kafka_metadata,
        timeout_ms: c_int,
    ) -> c_int;
    #[link_name = "rd_kafka_last_error"]
    fn last_error_raw() -> c_int;
    #[link_name = "rd_kafka_message_headers"]
    fn message_headers_raw(
        message: *const rd::rd_kafka_message_t,
        headers: *mut *mut rd::rd_kafka_headers_t,
    ) -> c_int;
    #[link_name = "rd_kafka_header_get_all"]
    fn header_get_all_raw(
        headers: *const rd::rd_kafka_headers_t,
        index: usize,
        name: *mut *const c_char,
        value: *mut *const c_void,
        size: *mut usize,
    ) -> c_int;
}

/// librdkafka's description of an error code.
pub fn error_text(err: i32) -> String {
    // SAFETY: accepts any integer, and returns a static or thread-local text.
    unsafe { text(err2str_raw(err)) }.unwrap_or_default()
}

/// # Safety
/// `ptr` is NULL or a NUL-terminated text that lives during the call.
unsafe fn text(ptr: *const c_char) -> Option<String> {
    if ptr.is_null() {
        return None;
    }
    // SAFETY: promised by the caller.
    Some(
        unsafe { CStr::from_ptr(ptr) }
            .to_string_lossy()
            .into_owned(),
    )
}

/// A text for C, cut at the first NUL byte. No name or value in Kafka contains one.
fn c_text(value: &str) -> CString {
    let end = value.find('\0').unwrap_or(value.len());
    CString::new(&value[..end]).unwrap_or_default()
}

/// Partitions, each with an offset.
struct PartitionList(*mut rd::rd_kafka_topic_partition_list_t);

impl PartitionList {
    fn new<'a>(partitions: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Self {
        // SAFETY: the list grows as needed; the element that add returns is valid until the next call.
        unsafe {
            let list = rd::rd_kafka_topic_partition_list_new(16);
            for (topic, partition, offset) in partitions {
                let topic = c_text(topic);
                let added = rd::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition);
                (*added).offset = offset;
            }
            Self(list)
        }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.0) }
    }
}
