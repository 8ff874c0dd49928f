//! Records and reports, as they come off a queue.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::Arc;

use rdkafka::bindings as rd;

use super::{Handle, Queue, code, header_get_all_raw, message_headers_raw};
use crate::client::TimestampType;

/// Messages taken off a queue, in order. Each is freed after it was read.
pub(crate) struct Messages {
    taken: Vec<*mut rd::rd_kafka_message_t>,
    /// The index of the first unread message.
    next: usize,
    handle: Option<Arc<Handle>>,
}

// SAFETY: messages belong to the code that took them off the queue.
unsafe impl Send for Messages {}

impl Messages {
    pub(crate) fn new() -> Self {
        Self {
            taken: Vec::new(),
            next: 0,
            handle: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next >= self.taken.len()
    }

    /// Takes up to `count` available messages without waiting. Unread messages from before are dropped.
    pub(crate) fn take(&mut self, queue: &Queue, count: usize) -> usize {
        self.clear();
        self.taken.reserve(count);
        // SAFETY: the vector has room for `count` pointers; the call initialises as many as it returns.
        unsafe {
            let taken =
                rd::rd_kafka_consume_batch_queue(queue.rkqu, 0, self.taken.as_mut_ptr(), count);
            self.taken.set_len(usize::try_from(taken).unwrap_or(0));
        }
        self.handle = Some(Arc::clone(&queue.handle));
        self.taken.len()
    }

    /// The unread messages.
    pub(crate) fn rest(&self) -> impl Iterator<Item = Message<'_>> {
        // SAFETY: not freed before `advance` or `clear`, which need `&mut self`.
        self.taken[self.next.min(self.taken.len())..]
            .iter()
            .map(|m| Message(unsafe { &**m }))
    }

    /// Frees the next `count` messages.
    pub(crate) fn advance(&mut self, count: usize) {
        let end = (self.next + count).min(self.taken.len());
        for message in &self.taken[self.next..end] {
            // SAFETY: owned, and never read again.
            unsafe { rd::rd_kafka_message_destroy(*message) };
        }
        self.next = end;
    }

    pub(crate) fn clear(&mut self) {
        self.advance(usize::MAX - self.next);
        self.taken.clear();
        self.next = 0;
        self.handle = None;
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A record, or a report about its partition.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a>(&'a rd::rd_kafka_message_t);

impl<'a> Message<'a> {
    /// Zero for a record, otherwise the code of the report.
    #[inline]
    pub(crate) fn code(self) -> i32 {
        // SAFETY: the field is an int in C; reading it as an int makes unlisted values harmless.
        unsafe { (&raw const self.0.err).cast::<i32>().read() }
    }

    #[inline]
    pub(crate) fn offset(self) -> i64 {
        self.0.offset
    }

    #[inline]
    pub(crate) fn key(self) -> Option<&'a [u8]> {
        bytes(self.0.key, self.0.key_len)
    }

    /// The value; for a report, its text.
    #[inline]
    pub(crate) fn value(self) -> Option<&'a [u8]> {
        bytes(self.0.payload, self.0.len)
    }

    /// Bytes of key and value.
    #[inline]
    pub(crate) fn size(self) -> usize {
        self.0.len + self.0.key_len
    }

    pub(crate) fn timestamp(self) -> (i64, TimestampType) {
        let mut kind = 0u32;
        // SAFETY: a live message; the enum is an unsigned int in C.
        let ms = unsafe { rd::rd_kafka_message_timestamp(self.0, (&raw mut kind).cast()) };
        let kind = match kind {
            1 => TimestampType::CreateTime,
            2 => TimestampType::LogAppendTime,
            _ => TimestampType::NotAvailable,
        };
        // Message format v0 has no timestamps, for which librdkafka reports zero.
        if ms < 0 || kind == TimestampType::NotAvailable {
            return (-1, TimestampType::NotAvailable);
        }
        (ms, kind)
    }

    /// The leader epoch, -1 where unknown.
    pub(crate) fn leader_epoch(self) -> i32 {
        // SAFETY: a live message.
        unsafe { rd::rd_kafka_message_leader_epoch(self.0) }
    }

    /// Whether librdkafka has misread a record in a message format from before Kafka 0.11, taking its lengths
    /// for variable ones. The result has no key, no value and no epoch, while all later formats have an
    /// epoch.
    #[inline]
    pub(crate) fn is_misread(self) -> bool {
        self.0.payload.is_null() && self.0.key.is_null() && self.leader_epoch() < 0
    }

    /// Calls `each` with the name and value of every header, in wire order.
    pub(crate) fn headers(self, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the headers belong to the message, which lives for 'a; names are terminated.
        unsafe {
            if message_headers_raw(self.0, &raw mut headers) != code::OK || headers.is_null() {
                return;
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            for i in 0.. {
                let err =
                    header_get_all_raw(headers, i, &raw mut name, &raw mut value, &raw mut size);
                if err != code::OK {
                    break;
                }
                each(
                    CStr::from_ptr(name).to_bytes(),
                    bytes(value.cast_mut(), size),
                );
            }
        }
    }
}

/// NULL is different from empty.
#[inline]
fn bytes<'a>(ptr: *mut c_void, len: usize) -> Option<&'a [u8]> {
    if ptr.is_null() {
        return None;
    }
    // SAFETY: pointer and length come from librdkafka; the callers tie them to the message's lifetime.
    Some(unsafe { std::slice::from_raw_parts(ptr.cast(), len) })
}
