//! Producing: messages, with or without transactions.

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
    /// `None`: the partitioner decides.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Not 0, which librdkafka takes for "now"; `None` is now.
    pub timestamp_ms: Option<i64>,
    pub headers: Option<Headers>,
    /// Comes back with the report of a failed delivery.
    pub tag: usize,
}

/// Why a call about transactions failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionError {
    pub code: i32,
    pub reason: String,
    /// The same call may be made again and goes on where it was.
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
    /// The code, for example [`code::QUEUE_FULL`].
    pub fn send(&self, message: Outgoing<'_>) -> Result<(), i32> {
        let bytes = |bytes: Option<&[u8]>| match bytes {
            // Not NULL for empty ones: NULL is no key, no value.
            Some(bytes) => (bytes.as_ptr().cast::<c_void>(), bytes.len()),
            None => (ptr::null(), 0),
        };
        let (key, key_size) = bytes(message.key);
        let (value, value_size) = bytes(message.value);
        let headers = message.headers.as_ref().map_or(ptr::null_mut(), |h| h.0);
        let flags = rd::RD_KAFKA_MSG_F_COPY as c_int;
        // SAFETY: the arguments have the types that their tags ask for; key and value are copied
        // by the call; topic and producer are alive and of one handle.
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
        // The message owns them now.
        std::mem::forget(message.headers);
        Ok(())
    }

    /// Runs the callbacks that wait; returns the first message that was not delivered, if any.
    pub fn serve(&self) -> Option<Undelivered> {
        self.0.health().undelivered.clone()
    }

    /// For how long brokers have said that they hold the producer back.
    pub fn held(&self) -> Duration {
        self.0.health().held
    }

    /// Forgets the message that was not delivered.
    pub fn forget_undelivered(&self) {
        self.0.health().undelivered = None;
    }

    /// Waits until the brokers have all messages or have refused them; `false` after the time-out.
    pub fn flush(&self, timeout_ms: i32) -> bool {
        // SAFETY: the instance is alive.
        unsafe { flush_raw(self.0.rk, timeout_ms) == code::OK }
    }

    /// Throws away what was not sent yet.
    pub fn purge(&self) {
        let flags = rd::RD_KAFKA_PURGE_F_QUEUE as c_int;
        // SAFETY: as above; fails for unknown flags only.
        unsafe { purge_raw(self.0.rk, flags) };
    }

    /// The error after which the instance is of no more use.
    pub fn fatal(&self) -> Option<(i32, String)> {
        let mut message = [0 as c_char; 512];
        // SAFETY: the buffer outlives the call, which terminates what it writes.
        unsafe {
            let err = fatal_error_raw(self.0.rk, message.as_mut_ptr(), message.len());
            (err != code::OK).then(|| (err, text(message.as_ptr()).unwrap_or_default()))
        }
    }

    /// Takes over the transactional id: earlier producers of it are fenced, their transaction ends.
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
/// `error` is NULL or owned by the caller, who gives it away.
unsafe fn outcome(error: *mut rd::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's promise.
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
        // SAFETY: no precondition; librdkafka aborts when memory is out.
        Self(unsafe { rd::rd_kafka_headers_new(count) })
    }

    pub fn add(&mut self, name: &str, value: Option<&[u8]>) {
        let (value, size) = match value {
            Some(value) => (value.as_ptr().cast::<c_void>(), value.len().cast_signed()),
            None => (ptr::null(), 0),
        };
        // SAFETY: name and value are copied, their sizes are given; fails only for headers that
        // belong to a message already.
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
        // SAFETY: owned: `send` forgets those that were taken.
        unsafe { rd::rd_kafka_headers_destroy(self.0) }
    }
}
