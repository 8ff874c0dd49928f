//! Every `unsafe` line of the crate: safe wrappers over librdkafka's C interface.
//!
//! What the wrappers promise each other: a [`Queue`], [`Topic`], [`Messages`] or [`Event`] keeps
//! its [`Handle`] alive, so that `rd_kafka_destroy` always runs last, and error codes are read as
//! plain integers, because a newer broker may send codes that the bindings' enum does not list.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Resp;
use tokio::sync::Notify;

use crate::client::TimestampType;
use crate::range::IsolationLevel;

/// librdkafka's and Kafka's error codes, as far as the client tells them apart.
pub(super) mod code {
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
    pub(crate) const OFFSET_OUT_OF_RANGE: i32 = Resp::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE as i32;
    pub(crate) const UNKNOWN_PARTITION_LOCAL: i32 =
        Resp::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION as i32;
    pub(crate) const UNKNOWN_TOPIC_LOCAL: i32 = Resp::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC as i32;
    pub(crate) const UNKNOWN_TOPIC_OR_PART: i32 =
        Resp::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART as i32;
    pub(crate) const UNKNOWN_TOPIC_ID: i32 = Resp::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID as i32;
    pub(crate) const INVALID_TOPIC: i32 = Resp::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION as i32;
    pub(crate) const NO_LEADERS: i32 = Resp::RD_KAFKA_RESP_ERR__NOENT as i32;
    pub(crate) const TOPIC_AUTHORIZATION_FAILED: i32 =
        Resp::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as i32;
    pub(crate) const GROUP_AUTHORIZATION_FAILED: i32 =
        Resp::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED as i32;
    pub(crate) const CLUSTER_AUTHORIZATION_FAILED: i32 =
        Resp::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED as i32;
    pub(crate) const UNSUPPORTED_FEATURE: i32 = Resp::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE as i32;
    /// Codes that go away once the metadata is fresh or the broker has caught up.
    pub(crate) const RETRIABLE: [i32; 12] = [
        Resp::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE as i32,
        Resp::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as i32,
        Resp::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE as i32,
        Resp::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE as i32,
        Resp::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT as i32,
        Resp::RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION as i32,
        Resp::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE as i32,
        Resp::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH as i32,
        Resp::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH as i32,
        Resp::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR as i32,
        TRANSPORT,
        TIMED_OUT,
    ];
}

// The same functions as in the bindings, but with the error code as the integer that it is in C.
unsafe extern "C" {
    #[link_name = "rd_kafka_err2str"]
    fn err2str_raw(err: c_int) -> *const c_char;
    #[link_name = "rd_kafka_event_error"]
    fn event_error_raw(event: *mut rd::rd_kafka_event_t) -> c_int;
    #[link_name = "rd_kafka_error_code"]
    fn error_code_raw(error: *const rd::rd_kafka_error_t) -> c_int;
    #[link_name = "rd_kafka_ConfigResource_error"]
    fn resource_error_raw(resource: *const rd::rd_kafka_ConfigResource_t) -> c_int;
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

/// What an error code means, in librdkafka's words.
pub(super) fn error_text(err: i32) -> String {
    // SAFETY: takes any integer, returns a static or thread-local text.
    unsafe { text(err2str_raw(err)) }.unwrap_or_default()
}

/// # Safety
/// `ptr` is NULL or a NUL-terminated text that lives during the call.
unsafe fn text(ptr: *const c_char) -> Option<String> {
    if ptr.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(
        unsafe { CStr::from_ptr(ptr) }
            .to_string_lossy()
            .into_owned(),
    )
}

/// A text for C; what follows a NUL byte is cut, no name or value of Kafka holds one.
fn c_text(value: &str) -> CString {
    let end = value.find('\0').unwrap_or(value.len());
    CString::new(&value[..end]).unwrap_or_default()
}

/// Why librdkafka refuses a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingError {
    /// There is no such setting.
    Unknown,
    /// The value is not accepted, in librdkafka's words; these may quote the value.
    Invalid(String),
}

/// Settings on their way into a [`Handle`].
pub(crate) struct Conf(*mut rd::rd_kafka_conf_t);

impl Conf {
    pub(crate) fn new() -> Self {
        // SAFETY: no precondition.
        Self(unsafe { rd::rd_kafka_conf_new() })
    }

    /// Sets a value, which is checked at once.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let (key, value) = (c_text(key), c_text(value));
        let mut message = [0 as c_char; 512];
        // SAFETY: the conf is owned, texts and buffer outlive the call.
        let result = unsafe {
            rd::rd_kafka_conf_set(
                self.0,
                key.as_ptr(),
                value.as_ptr(),
                message.as_mut_ptr(),
                message.len(),
            )
        };
        match result {
            rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => Err(SettingError::Unknown),
            rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_INVALID => {
                // SAFETY: librdkafka terminates what it writes; the buffer starts as zeros.
                let message = unsafe { text(message.as_ptr()) }.unwrap_or_default();
                Err(SettingError::Invalid(message))
            }
        }
    }

    /// The names of the settings that have a value without being set.
    pub(crate) fn names() -> Vec<String> {
        let conf = Self::new();
        let mut count = 0;
        let mut names = Vec::new();
        // SAFETY: the dump is an array of `count` texts, key and value in turn, freed below.
        unsafe {
            let dump = rd::rd_kafka_conf_dump(conf.0, &raw mut count);
            for i in (0..count).step_by(2) {
                names.extend(text(*dump.add(i)));
            }
            rd::rd_kafka_conf_dump_free(dump, count);
        }
        names
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: still owned: `Handle::new` takes the pointer out.
            unsafe { rd::rd_kafka_conf_destroy(self.0) }
        }
    }
}

/// What a handle reported about its connections since the last success.
#[derive(Debug, Default, Clone)]
pub(super) struct Health {
    /// All known brokers are down.
    pub(super) down: bool,
    /// When a broker last refused the credentials or the TLS handshake failed, and why.
    pub(super) refused: Option<(Instant, String)>,
    /// The last failure of a connection.
    pub(super) last: Option<String>,
}

/// A client instance of librdkafka: its threads, its connections.
pub(super) struct Handle {
    rk: *mut rd::rd_kafka_t,
    /// Also the callbacks' opaque pointer, so it is freed after the instance.
    health: Arc<Mutex<Health>>,
}

// SAFETY: rd_kafka_t is thread-safe by librdkafka's documentation; the rest is behind a mutex.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// Creates a consumer without a group.
    ///
    /// # Errors
    /// librdkafka's reason: settings that contradict each other, files that cannot be read.
    pub(super) fn new(mut conf: Conf, oauth: bool) -> Result<Arc<Self>, String> {
        let health = Arc::new(Mutex::new(Health::default()));
        let mut message = [0 as c_char; 512];
        // SAFETY: the conf is owned; the callbacks match their types; `health` outlives the
        // instance because `Drop` releases it after rd_kafka_destroy.
        unsafe {
            rd::rd_kafka_conf_set_opaque(conf.0, Arc::as_ptr(&health).cast_mut().cast());
            rd::rd_kafka_conf_set_error_cb(conf.0, Some(on_error));
            rd::rd_kafka_conf_set_log_cb(conf.0, Some(on_log));
            if oauth {
                rd::rd_kafka_conf_enable_sasl_queue(conf.0, 1);
            }
            let rk = rd::rd_kafka_new(
                rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                conf.0,
                message.as_mut_ptr(),
                message.len(),
            );
            if rk.is_null() {
                return Err(text(message.as_ptr()).unwrap_or_default());
            }
            // The instance owns the conf now.
            conf.0 = ptr::null_mut();
            let handle = Arc::new(Self { rk, health });
            if oauth {
                // Token refresh runs on librdkafka's own thread: nobody need poll for it.
                let error = rd::rd_kafka_sasl_background_callbacks_enable(rk);
                if !error.is_null() {
                    let reason = text(rd::rd_kafka_error_string(error)).unwrap_or_default();
                    rd::rd_kafka_error_destroy(error);
                    return Err(reason);
                }
            }
            Ok(handle)
        }
    }

    /// What is known of the connections, after serving the callbacks that wait.
    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        // SAFETY: the instance is alive; poll is thread-safe and does not wait.
        unsafe { rd::rd_kafka_poll(self.rk, 0) };
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of the brokers, in one request.
    pub(super) fn brokers(&self, timeout_ms: i32) -> Result<Vec<i32>, i32> {
        let mut metadata: *const rd::rd_kafka_metadata = ptr::null();
        // SAFETY: as in `all_topics`. No topic is local to a handle that never reads, so that none
        // is asked for.
        unsafe {
            let err = metadata_raw(self.rk, 0, ptr::null_mut(), &raw mut metadata, timeout_ms);
            if err != code::OK {
                return Err(err);
            }
            let count = usize::try_from((*metadata).broker_cnt).unwrap_or(0);
            let ids = (0..count)
                .map(|i| (*(*metadata).brokers.add(i)).id)
                .collect();
            rd::rd_kafka_metadata_destroy(metadata);
            Ok(ids)
        }
    }

    /// All topics' names, in one request.
    pub(super) fn all_topics(&self, timeout_ms: i32) -> Result<Vec<String>, i32> {
        let mut metadata: *const rd::rd_kafka_metadata = ptr::null();
        let mut names = Vec::new();
        // SAFETY: on success the metadata is ours until rd_kafka_metadata_destroy; its arrays have
        // the lengths that stand beside them.
        unsafe {
            let err = metadata_raw(self.rk, 1, ptr::null_mut(), &raw mut metadata, timeout_ms);
            if err != code::OK {
                return Err(err);
            }
            for i in 0..usize::try_from((*metadata).topic_cnt).unwrap_or(0) {
                names.extend(text((*(*metadata).topics.add(i)).topic));
            }
            rd::rd_kafka_metadata_destroy(metadata);
        }
        Ok(names)
    }

    /// The position of a started partition: it passes control records, which are never delivered.
    pub(super) fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let list = PartitionList::new([(topic, partition, 0)]);
        // SAFETY: the list has one element; the call fills in its offset.
        let offset = unsafe {
            rd::rd_kafka_position(self.rk, list.0);
            (*(*list.0).elems).offset
        };
        (offset >= 0).then_some(offset)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        struct Closing {
            rk: *mut rd::rd_kafka_t,
            _health: Arc<Mutex<Health>>,
        }
        // SAFETY: the closing thread is the only one that still has the pointer.
        unsafe impl Send for Closing {}
        impl Drop for Closing {
            fn drop(&mut self) {
                let flags = rd::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE as c_int;
                // SAFETY: queues, topics and messages kept the handle alive, so they are gone.
                unsafe { rd::rd_kafka_destroy_flags(self.rk, flags) };
            }
        }
        let closing = Closing {
            rk: self.rk,
            _health: Arc::clone(&self.health),
        };
        // Destroying joins librdkafka's threads: up to some 100 ms, not for a runtime's worker.
        // Without a thread to be had the closure is dropped, and closes, right here.
        let _ = std::thread::Builder::new()
            .name("kafka-close".into())
            .spawn(move || drop(closing));
    }
}

/// Keeps what concerns connections; called from `rd_kafka_poll`.
unsafe extern "C" fn on_error(
    _rk: *mut rd::rd_kafka_t,
    err: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque pointer is the health of the handle that is being polled.
    let health = unsafe { &*opaque.cast::<Mutex<Health>>() };
    // SAFETY: a text of librdkafka's or NULL.
    let reason = unsafe { text(reason) }.unwrap_or_default();
    let mut health = health.lock().unwrap_or_else(PoisonError::into_inner);
    match err {
        code::ALL_BROKERS_DOWN => health.down = true,
        code::AUTHENTICATION | code::SSL | code::SASL_AUTHENTICATION_FAILED => {
            health.refused = Some((Instant::now(), reason.clone()));
            health.last = Some(reason);
        }
        _ => health.last = Some(reason),
    }
}

/// Hands librdkafka's log lines to the `log` crate.
unsafe extern "C" fn on_log(
    _rk: *const rd::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    let level = match level {
        ..=3 => log::Level::Error,
        4 => log::Level::Warn,
        5 => log::Level::Info,
        6 => log::Level::Info,
        _ => log::Level::Debug,
    };
    if log::log_enabled!(target: "librdkafka", level) {
        // SAFETY: texts of librdkafka's or NULL.
        let (facility, line) = unsafe { (text(facility), text(line)) };
        log::log!(target: "librdkafka", level, "{}: {}", facility.unwrap_or_default(), line.unwrap_or_default());
    }
}

/// A topic that a handle reads.
pub(super) struct Topic {
    rkt: *mut rd::rd_kafka_topic_t,
    handle: Arc<Handle>,
}

// SAFETY: reference counted and thread-safe in librdkafka.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    pub(super) fn new(handle: &Arc<Handle>, name: &str) -> Result<Self, String> {
        let name = c_text(name);
        // SAFETY: the handle is alive, NULL means default settings.
        let rkt = unsafe { rd::rd_kafka_topic_new(handle.rk, name.as_ptr(), ptr::null_mut()) };
        if rkt.is_null() {
            // SAFETY: reads a thread-local.
            return Err(error_text(unsafe { last_error_raw() }));
        }
        Ok(Self {
            rkt,
            handle: Arc::clone(handle),
        })
    }

    /// Starts fetching a partition into a queue; it must not be started on this handle already.
    pub(super) fn start(&self, partition: i32, offset: i64, queue: &Queue) -> Result<(), String> {
        debug_assert!(Arc::ptr_eq(&self.handle, &queue.handle));
        // SAFETY: topic and queue are of one live handle.
        let result =
            unsafe { rd::rd_kafka_consume_start_queue(self.rkt, partition, offset, queue.rkqu) };
        if result != 0 {
            // SAFETY: reads a thread-local.
            return Err(error_text(unsafe { last_error_raw() }));
        }
        Ok(())
    }

    /// Stops fetching a partition; returns when it has stopped.
    pub(super) fn stop(&self, partition: i32) {
        // SAFETY: the topic is alive; an unknown partition is an error code that changes nothing.
        unsafe { rd::rd_kafka_consume_stop(self.rkt, partition) };
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { rd::rd_kafka_topic_destroy(self.rkt) }
    }
}

/// A queue of messages or events.
pub(super) struct Queue {
    rkqu: *mut rd::rd_kafka_queue_t,
    handle: Arc<Handle>,
    /// Woken when the queue becomes non-empty; the C side holds a pointer to it.
    _wake: Option<Arc<Notify>>,
}

// SAFETY: queues are thread-safe in librdkafka.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    pub(super) fn new(handle: &Arc<Handle>, wake: Option<Arc<Notify>>) -> Self {
        // SAFETY: the handle is alive; `_wake` lives until `Drop` has taken the callback off.
        let rkqu = unsafe {
            let rkqu = rd::rd_kafka_queue_new(handle.rk);
            if let Some(wake) = &wake {
                let opaque = Arc::as_ptr(wake).cast_mut().cast();
                rd::rd_kafka_queue_cb_event_enable(rkqu, Some(on_filled), opaque);
            }
            rkqu
        };
        Self {
            rkqu,
            handle: Arc::clone(handle),
            _wake: wake,
        }
    }

    /// Takes the next event, waiting at most `timeout_ms`.
    pub(super) fn event(&self, timeout_ms: i32) -> Option<Event> {
        // SAFETY: the queue is alive; the event is ours.
        let event = unsafe { rd::rd_kafka_queue_poll(self.rkqu, timeout_ms) };
        (!event.is_null()).then(|| Event {
            event,
            _handle: Arc::clone(&self.handle),
        })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: owned; taking the callback off waits for the queue's lock, under which it runs.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(self.rkqu, None, ptr::null_mut());
            rd::rd_kafka_queue_destroy(self.rkqu);
        }
    }
}

/// Runs under the queue's lock, on a thread of librdkafka's.
unsafe extern "C" fn on_filled(_rk: *mut rd::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the queue holds an Arc of this Notify as long as the callback is set.
    unsafe { &*opaque.cast::<Notify>() }.notify_one();
}

/// Messages taken off a queue, in order, each freed once it has been read.
pub(super) struct Messages {
    taken: Vec<*mut rd::rd_kafka_message_t>,
    /// The first that is not read yet.
    next: usize,
    handle: Option<Arc<Handle>>,
}

// SAFETY: messages belong to whoever took them off the queue.
unsafe impl Send for Messages {}

impl Messages {
    pub(super) fn new() -> Self {
        Self {
            taken: Vec::new(),
            next: 0,
            handle: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.taken.len()
    }

    /// Takes what is there, at most `count`, without waiting; drops what was not read before.
    pub(super) fn take(&mut self, queue: &Queue, count: usize) -> usize {
        self.clear();
        self.taken.reserve(count);
        // SAFETY: the vector has room for `count` pointers; so many as returned are initialised.
        unsafe {
            let taken =
                rd::rd_kafka_consume_batch_queue(queue.rkqu, 0, self.taken.as_mut_ptr(), count);
            self.taken.set_len(usize::try_from(taken).unwrap_or(0));
        }
        self.handle = Some(Arc::clone(&queue.handle));
        self.taken.len()
    }

    /// The messages that are not read yet.
    pub(super) fn rest(&self) -> impl Iterator<Item = Message<'_>> {
        // SAFETY: not freed before `advance` or `clear`, which need `&mut self`.
        self.taken[self.next.min(self.taken.len())..]
            .iter()
            .map(|m| Message(unsafe { &**m }))
    }

    /// Frees the next `count` messages.
    pub(super) fn advance(&mut self, count: usize) {
        let end = (self.next + count).min(self.taken.len());
        for message in &self.taken[self.next..end] {
            // SAFETY: owned, and passed for good.
            unsafe { rd::rd_kafka_message_destroy(*message) };
        }
        self.next = end;
    }

    pub(super) fn clear(&mut self) {
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

/// A record, or a report about the partition.
#[derive(Clone, Copy)]
pub(super) struct Message<'a>(&'a rd::rd_kafka_message_t);

impl<'a> Message<'a> {
    /// Zero for a record, else what is reported.
    #[inline]
    pub(super) fn code(self) -> i32 {
        // SAFETY: the field is an int in C; read as such, an unlisted value is no undefined enum.
        unsafe { (&raw const self.0.err).cast::<i32>().read() }
    }

    #[inline]
    pub(super) fn offset(self) -> i64 {
        self.0.offset
    }

    #[inline]
    pub(super) fn key(self) -> Option<&'a [u8]> {
        bytes(self.0.key, self.0.key_len)
    }

    /// The value; of a report, its text.
    #[inline]
    pub(super) fn value(self) -> Option<&'a [u8]> {
        bytes(self.0.payload, self.0.len)
    }

    /// Bytes of key and value.
    #[inline]
    pub(super) fn size(self) -> usize {
        self.0.len + self.0.key_len
    }

    pub(super) fn timestamp(self) -> (i64, TimestampType) {
        let mut kind = 0u32;
        // SAFETY: a live message; the enum is an unsigned int in C.
        let ms = unsafe { rd::rd_kafka_message_timestamp(self.0, (&raw mut kind).cast()) };
        let kind = match kind {
            1 => TimestampType::CreateTime,
            2 => TimestampType::LogAppendTime,
            _ => TimestampType::NotAvailable,
        };
        if ms < 0 {
            return (-1, TimestampType::NotAvailable);
        }
        (ms, kind)
    }

    /// The leader epoch, -1 where unknown.
    pub(super) fn leader_epoch(self) -> i32 {
        // SAFETY: a live message.
        unsafe { rd::rd_kafka_message_leader_epoch(self.0) }
    }

    /// Calls `each` with name and value of every header, in wire order.
    pub(super) fn headers(self, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
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

/// NULL is not empty.
#[inline]
fn bytes<'a>(ptr: *mut c_void, len: usize) -> Option<&'a [u8]> {
    if ptr.is_null() {
        return None;
    }
    // SAFETY: librdkafka's pair of pointer and length; the callers tie it to the message's life.
    Some(unsafe { std::slice::from_raw_parts(ptr.cast(), len) })
}

/// Partitions with an offset each.
struct PartitionList(*mut rd::rd_kafka_topic_partition_list_t);

impl PartitionList {
    fn new<'a>(partitions: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Self {
        // SAFETY: the list grows as needed; the element returned by add is valid until the next.
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

/// One partition of an answer.
pub(super) struct PartitionOffset {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) code: i32,
}

/// # Safety
/// `p` points to a live element.
unsafe fn partition_offset(p: *const rd::rd_kafka_topic_partition_t) -> PartitionOffset {
    // SAFETY: the caller's promise; the code is an int in C.
    unsafe {
        PartitionOffset {
            topic: text((*p).topic).unwrap_or_default(),
            partition: (*p).partition,
            offset: (*p).offset,
            code: (&raw const (*p).err).cast::<i32>().read(),
        }
    }
}

/// A broker as an answer names it.
pub(super) struct Node {
    pub(super) id: i32,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) rack: Option<String>,
}

/// A topic as an answer describes it.
pub(super) struct TopicInfo {
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) internal: bool,
    pub(super) code: i32,
    pub(super) partitions: Vec<PartitionInfo>,
}

/// A partition as an answer describes it.
pub(super) struct PartitionInfo {
    pub(super) partition: i32,
    pub(super) leader: Option<i32>,
    pub(super) replicas: Vec<i32>,
    pub(super) isr: Vec<i32>,
}

/// A topic's settings as an answer lists them.
pub(super) struct SettingsInfo {
    pub(super) topic: String,
    pub(super) code: i32,
    pub(super) entries: Vec<(String, String)>,
}

/// An admin request; the answer arrives on the queue that it is sent with.
#[derive(Clone, Copy)]
pub(super) enum AdminRequest<'a> {
    DescribeCluster,
    DescribeTopics(&'a [Arc<str>]),
    /// Partitions and what to look for: -1 the end, -2 the start, else a timestamp. No duplicates.
    ListOffsets(&'a [(&'a str, i32, i64)], IsolationLevel),
    DescribeConfigs(&'a [Arc<str>]),
    GroupOffsets(&'a str, &'a [(&'a str, i32, i64)]),
}

/// Sends a request, to a broker of one's choice where any will do; its answer, an [`Event`], comes
/// on `queue` within the time-out.
pub(super) fn send(
    handle: &Arc<Handle>,
    queue: &Queue,
    request: &AdminRequest<'_>,
    broker: Option<i32>,
    timeout_ms: i32,
) {
    use rd::rd_kafka_admin_op_t as Op;
    let op = match request {
        AdminRequest::DescribeCluster => Op::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER,
        AdminRequest::DescribeTopics(_) => Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        AdminRequest::ListOffsets(..) => Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
        AdminRequest::DescribeConfigs(_) => Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
        AdminRequest::GroupOffsets(..) => Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
    };
    let mut message = [0 as c_char; 256];
    // SAFETY: options, lists and resources are owned here and copied by the calls; every text
    // outlives the call that reads it.
    unsafe {
        let options = rd::rd_kafka_AdminOptions_new(handle.rk, op);
        rd::rd_kafka_AdminOptions_set_request_timeout(
            options,
            timeout_ms.max(1),
            message.as_mut_ptr(),
            message.len(),
        );
        if let Some(broker) = broker {
            let (buffer, size) = (message.as_mut_ptr(), message.len());
            rd::rd_kafka_AdminOptions_set_broker(options, broker, buffer, size);
        }
        match request {
            AdminRequest::DescribeCluster => {
                rd::rd_kafka_DescribeCluster(handle.rk, options, queue.rkqu);
            }
            AdminRequest::DescribeTopics(topics) => {
                let names: Vec<CString> = topics.iter().map(|t| c_text(t)).collect();
                let mut names: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
                let set =
                    rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                rd::rd_kafka_DescribeTopics(handle.rk, set, options, queue.rkqu);
                rd::rd_kafka_TopicCollection_destroy(set);
            }
            AdminRequest::ListOffsets(partitions, isolation) => {
                let level = match isolation {
                    IsolationLevel::ReadCommitted => {
                        rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
                    }
                    IsolationLevel::ReadUncommitted => {
                        rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
                    }
                };
                let error = rd::rd_kafka_AdminOptions_set_isolation_level(options, level);
                if !error.is_null() {
                    rd::rd_kafka_error_destroy(error);
                }
                let list = PartitionList::new(partitions.iter().copied());
                rd::rd_kafka_ListOffsets(handle.rk, list.0, options, queue.rkqu);
            }
            AdminRequest::DescribeConfigs(topics) => {
                let mut resources: Vec<_> = topics
                    .iter()
                    .map(|t| {
                        rd::rd_kafka_ConfigResource_new(
                            rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
                            c_text(t).as_ptr(),
                        )
                    })
                    .collect();
                let (first, count) = (resources.as_mut_ptr(), resources.len());
                rd::rd_kafka_DescribeConfigs(handle.rk, first, count, options, queue.rkqu);
                rd::rd_kafka_ConfigResource_destroy_array(first, count);
            }
            AdminRequest::GroupOffsets(group, partitions) => {
                let list = PartitionList::new(partitions.iter().copied());
                let group = c_text(group);
                let mut one = [rd::rd_kafka_ListConsumerGroupOffsets_new(
                    group.as_ptr(),
                    list.0,
                )];
                rd::rd_kafka_ListConsumerGroupOffsets(
                    handle.rk,
                    one.as_mut_ptr(),
                    1,
                    options,
                    queue.rkqu,
                );
                rd::rd_kafka_ListConsumerGroupOffsets_destroy(one[0]);
            }
        }
        rd::rd_kafka_AdminOptions_destroy(options);
    }
}

/// An answer to an [`AdminRequest`].
pub(super) struct Event {
    event: *mut rd::rd_kafka_event_t,
    _handle: Arc<Handle>,
}

// SAFETY: events belong to whoever took them off the queue.
unsafe impl Send for Event {}

impl Event {
    /// The error of the request as a whole, if any.
    pub(super) fn error(&self) -> Option<(i32, String)> {
        // SAFETY: a live event.
        unsafe {
            let err = event_error_raw(self.event);
            (err != code::OK).then(|| {
                (
                    err,
                    text(rd::rd_kafka_event_error_string(self.event)).unwrap_or_default(),
                )
            })
        }
    }

    /// Cluster id and brokers, if the event answers `DescribeCluster`.
    pub(super) fn cluster(&self) -> Option<(Option<String>, Vec<Node>)> {
        // SAFETY: the result and all it points to live as long as the event.
        unsafe {
            let result = rd::rd_kafka_event_DescribeCluster_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let nodes = rd::rd_kafka_DescribeCluster_result_nodes(result, &raw mut count);
            let nodes = (0..count).map(|i| node(*nodes.add(i))).collect();
            Some((
                text(rd::rd_kafka_DescribeCluster_result_cluster_id(result)),
                nodes,
            ))
        }
    }

    /// The topics, if the event answers `DescribeTopics`.
    pub(super) fn topics(&self) -> Option<Vec<TopicInfo>> {
        // SAFETY: as in `cluster`.
        unsafe {
            let result = rd::rd_kafka_event_DescribeTopics_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            Some((0..count).map(|i| topic_info(*topics.add(i))).collect())
        }
    }

    /// The offsets, if the event answers `ListOffsets`.
    pub(super) fn offsets(&self) -> Option<Vec<PartitionOffset>> {
        // SAFETY: as in `cluster`.
        unsafe {
            let result = rd::rd_kafka_event_ListOffsets_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let infos = rd::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            let one = |i| {
                let info = *infos.add(i);
                partition_offset(rd::rd_kafka_ListOffsetsResultInfo_topic_partition(info))
            };
            Some((0..count).map(one).collect())
        }
    }

    /// The topics' settings, if the event answers `DescribeConfigs`.
    pub(super) fn settings(&self) -> Option<Vec<SettingsInfo>> {
        // SAFETY: as in `cluster`.
        unsafe {
            let result = rd::rd_kafka_event_DescribeConfigs_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let all = rd::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
            let one = |i| {
                let resource = *all.add(i);
                let mut entry_count = 0;
                let entries = rd::rd_kafka_ConfigResource_configs(resource, &raw mut entry_count);
                SettingsInfo {
                    topic: text(rd::rd_kafka_ConfigResource_name(resource)).unwrap_or_default(),
                    code: resource_error_raw(resource),
                    entries: (0..entry_count)
                        .filter_map(|j| {
                            let entry = *entries.add(j);
                            Some((
                                text(rd::rd_kafka_ConfigEntry_name(entry))?,
                                text(rd::rd_kafka_ConfigEntry_value(entry))?,
                            ))
                        })
                        .collect(),
                }
            };
            Some((0..count).map(one).collect())
        }
    }

    /// A group's offsets or the group's error, if the event answers `GroupOffsets`.
    pub(super) fn group_offsets(&self) -> Option<Result<Vec<PartitionOffset>, (i32, String)>> {
        // SAFETY: as in `cluster`.
        unsafe {
            let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(self.event);
            if result.is_null() {
                return None;
            }
            let mut count = 0;
            let groups =
                rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
            if count == 0 {
                return Some(Ok(Vec::new()));
            }
            let error = rd::rd_kafka_group_result_error(*groups);
            if !error.is_null() {
                let reason = text(rd::rd_kafka_error_string(error)).unwrap_or_default();
                return Some(Err((error_code_raw(error), reason)));
            }
            let list = rd::rd_kafka_group_result_partitions(*groups);
            if list.is_null() {
                return Some(Ok(Vec::new()));
            }
            let count = usize::try_from((*list).cnt).unwrap_or(0);
            Some(Ok((0..count)
                .map(|i| partition_offset((*list).elems.add(i)))
                .collect()))
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { rd::rd_kafka_event_destroy(self.event) }
    }
}

/// # Safety
/// `node` is live.
unsafe fn node(node: *const rd::rd_kafka_Node_t) -> Node {
    // SAFETY: the caller's promise.
    unsafe {
        Node {
            id: rd::rd_kafka_Node_id(node),
            host: text(rd::rd_kafka_Node_host(node)).unwrap_or_default(),
            port: rd::rd_kafka_Node_port(node),
            rack: text(rd::rd_kafka_Node_rack(node)).filter(|r| !r.is_empty()),
        }
    }
}

/// # Safety
/// `topic` is live.
unsafe fn topic_info(topic: *const rd::rd_kafka_TopicDescription_t) -> TopicInfo {
    // SAFETY: the caller's promise; arrays have the lengths that the calls return.
    unsafe {
        let error = rd::rd_kafka_TopicDescription_error(topic);
        let id = rd::rd_kafka_TopicDescription_topic_id(topic);
        let id = if id.is_null() {
            None
        } else {
            // Kafka prints the URL-safe alphabet, librdkafka the standard one.
            text(rd::rd_kafka_Uuid_base64str(id))
                .filter(|id| id != ZERO_ID)
                .map(|id| id.replace('+', "-").replace('/', "_"))
        };
        let mut count = 0;
        let partitions = rd::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let ids = |nodes: *mut *const rd::rd_kafka_Node_t, count: usize| -> Vec<i32> {
            (0..count)
                .map(|i| rd::rd_kafka_Node_id(*nodes.add(i)))
                .collect()
        };
        let one = |i| {
            let p = *partitions.add(i);
            let leader = rd::rd_kafka_TopicPartitionInfo_leader(p);
            let (mut replica_count, mut isr_count) = (0, 0);
            let replicas = rd::rd_kafka_TopicPartitionInfo_replicas(p, &raw mut replica_count);
            let isr = rd::rd_kafka_TopicPartitionInfo_isr(p, &raw mut isr_count);
            PartitionInfo {
                partition: rd::rd_kafka_TopicPartitionInfo_partition(p),
                leader: (!leader.is_null())
                    .then(|| rd::rd_kafka_Node_id(leader))
                    .filter(|id| *id >= 0),
                replicas: ids(replicas, replica_count),
                isr: ids(isr, isr_count),
            }
        };
        TopicInfo {
            name: text(rd::rd_kafka_TopicDescription_name(topic)).unwrap_or_default(),
            id,
            internal: rd::rd_kafka_TopicDescription_is_internal(topic) != 0,
            code: if error.is_null() {
                code::OK
            } else {
                error_code_raw(error)
            },
            partitions: (0..count).map(one).collect(),
        }
    }
}

/// What a broker without topic ids answers: 16 zero bytes.
const ZERO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";
