//! Producing messages, with or without transactions.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_vtype_t as V;

use super::{
    Handle, Topic, Undelivered, code, error_code_raw, error_text, fatal_error_raw, flush_raw,
    header_add_raw, producev_raw, purge_raw, text,
};

/// A handle that writes. Thread-safe.
///
/// Callbacks run in [`Producer::serve`], [`Producer::flush`] and in the calls that wait.
pub struct Producer(Arc<Handle>);

/// A message, borrowed: librdkafka copies it.
pub struct Outgoing<'a> {
    pub topic: &'a Topic,
    /// `None` lets the partitioner decide.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// `None` means now. It must not be 0, which librdkafka also takes for "now".
    pub timestamp_ms: Option<i64>,
    pub headers: Option<Headers>,
    /// Returned with the report of a failed delivery.
    pub tag: usize,
}

/// Why a call on transactions failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionError {
    pub code: i32,
    pub reason: String,
    /// Repeating the same call continues where it stopped.
    pub retriable: bool,
}

impl Producer {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self(handle)
    }

    pub fn handle(&self) -> &Arc<Handle> {
        &self.0
    }

    /// Queues a message without waiting.
    ///
    /// # Errors
    /// librdkafka's code, for example [`code::QUEUE_FULL`].
    pub fn send(&self, message: Outgoing<'_>) -> Result<(), i32> {
        let bytes = |bytes: Option<&[u8]>| match bytes {
            // Empty slices still get a pointer, because NULL means no key or no value.
            Some(bytes) => (bytes.as_ptr().cast::<c_void>(), bytes.len()),
            None => (ptr::null(), 0),
        };
        let (key, key_size) = bytes(message.key);
        let (value, value_size) = bytes(message.value);
        let headers = message.headers.as_ref().map_or(ptr::null_mut(), |h| h.0);
        let flags = rd::RD_KAFKA_MSG_F_COPY as c_int;
        // SAFETY: the arguments have the types that their tags require; the call copies key and value; topic
        // and producer are alive and share a handle.
        let result = unsafe {
            producev_raw(
                self.0.rk,
                V::RD_KAFKA_VTYPE_RKT,
                message.topic.rkt,
                V::RD_KAFKA_VTYPE_PARTITION,
                message.partition.unwrap_or(-1),
                V::RD_KAFKA_VTYPE_MSGFLAGS,
                flags,
                V::RD_KAFKA_VTYPE_KEY,
                key,
                key_size,
                V::RD_KAFKA_VTYPE_VALUE,
                value,
                value_size,
                V::RD_KAFKA_VTYPE_OPAQUE,
                ptr::without_provenance_mut::<c_void>(message.tag),
                V::RD_KAFKA_VTYPE_TIMESTAMP,
                message.timestamp_ms.unwrap_or(0),
                V::RD_KAFKA_VTYPE_HEADERS,
                headers,
                V::RD_KAFKA_VTYPE_END,
            )
        };
        if result != code::OK {
            return Err(result);
        }
        // The message now owns them.
        std::mem::forget(message.headers);
        Ok(())
    }

    /// Runs pending callbacks. Returns the first message that was not delivered, if any.
    pub fn serve(&self) -> Option<Undelivered> {
        self.0.health().undelivered.clone()
    }

    /// The total time for which brokers have announced that they throttle the producer.
    pub fn held(&self) -> Duration {
        self.0.health().held
    }

    /// Forgets the undelivered message.
    pub fn forget_undelivered(&self) {
        self.0.health().undelivered = None;
    }

    /// Waits until the brokers have accepted or refused all messages; `false` after the timeout.
    pub fn flush(&self, timeout_ms: i32) -> bool {
        // SAFETY: the instance is alive.
        unsafe { flush_raw(self.0.rk, timeout_ms) == code::OK }
    }

    /// Discards the messages that were not sent yet.
    pub fn purge(&self) {
        let flags = rd::RD_KAFKA_PURGE_F_QUEUE as c_int;
        // SAFETY: as above; only unknown flags make it fail.
        unsafe { purge_raw(self.0.rk, flags) };
    }

    /// An error that makes the instance unusable, if one occurred.
    pub fn fatal(&self) -> Option<(i32, String)> {
        let mut message = [0 as c_char; 512];
        // SAFETY: the buffer outlives the call, which terminates the text.
        unsafe {
            let err = fatal_error_raw(self.0.rk, message.as_mut_ptr(), message.len());
            (err != code::OK).then(|| (err, text(message.as_ptr()).unwrap_or_default()))
        }
    }

    /// Takes over the transactional id. Earlier producers with it are fenced, and their transaction ends.
    pub fn init_transactions(&self, timeout_ms: i32) -> Result<(), TransactionError> {
        // SAFETY: the instance is alive; the error, if any, is ours.
        unsafe { outcome(rd::rd_kafka_init_transactions(self.0.rk, timeout_ms)) }
    }

    pub fn begin(&self) -> Result<(), TransactionError> {
        // SAFETY: as above.
        unsafe { outcome(rd::rd_kafka_begin_transaction(self.0.rk)) }
    }

    /// Flushes and commits.
    pub fn commit(&self, timeout_ms: i32) -> Result<(), TransactionError> {
        // SAFETY: as above.
        unsafe { outcome(rd::rd_kafka_commit_transaction(self.0.rk, timeout_ms)) }
    }

    /// Purges and aborts.
    pub fn abort(&self, timeout_ms: i32) -> Result<(), TransactionError> {
        // SAFETY: as above.
        unsafe { outcome(rd::rd_kafka_abort_transaction(self.0.rk, timeout_ms)) }
    }
}

/// # Safety
/// `error` is NULL, or owned by the caller, who hands it over.
unsafe fn outcome(error: *mut rd::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: promised by the caller.
    unsafe {
        let code = error_code_raw(error);
        let reason = text(rd::rd_kafka_error_string(error));
        let retriable = rd::rd_kafka_error_is_retriable(error) != 0;
        rd::rd_kafka_error_destroy(error);
        Err(TransactionError {
            code,
            reason: reason.unwrap_or_else(|| error_text(code)),
            retriable,
        })
    }
}

/// The headers of one message.
pub struct Headers(*mut rd::rd_kafka_headers_t);

impl Headers {
    pub fn with_capacity(count: usize) -> Self {
        // SAFETY: no precondition; librdkafka aborts when out of memory.
        Self(unsafe { rd::rd_kafka_headers_new(count) })
    }

    pub fn add(&mut self, name: &str, value: Option<&[u8]>) {
        let (value, size) = match value {
            Some(value) => (value.as_ptr().cast::<c_void>(), value.len().cast_signed()),
            None => (ptr::null(), 0),
        };
        // SAFETY: the call copies name and value, whose sizes are given; it only fails for headers that
        // already belong to a message.
        unsafe {
            header_add_raw(
                self.0,
                name.as_ptr().cast(),
                name.len().cast_signed(),
                value,
                size,
            );
        }
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: owned: `send` forgets headers that a message took over.
        unsafe { rd::rd_kafka_headers_destroy(self.0) }
    }
}
