//! A client instance of librdkafka, and what it reports about its connections.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::{Conf, PartitionList, code, metadata_raw, text, tokens};
use crate::client::wire::Tokens;

/// What a handle has reported about its connections since the last success.
#[derive(Debug, Default, Clone)]
pub(crate) struct Health {
    /// All known brokers are down.
    pub(crate) down: bool,
    /// A broker has answered, so that it takes the login.
    pub(crate) worked: bool,
    /// When a broker last refused the credentials or the TLS handshake failed, with the reason.
    pub(crate) refused: Option<(Instant, String)>,
    /// The most recent failure of a connection.
    pub(crate) last: Option<String>,
    /// A producer's first message that could not be delivered.
    pub(crate) undelivered: Option<Undelivered>,
    /// The time until which a broker throttles the client.
    pub(crate) held_until: Option<Instant>,
    /// The total time for which brokers have announced that they throttle the client.
    pub(crate) held: Duration,
}

/// A message that no broker accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The tag that the message was sent with.
    pub tag: usize,
    pub topic: String,
    pub partition: i32,
    pub code: i32,
    /// Bytes of key and value.
    pub size: usize,
}

/// What a handle is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads without a group, and sends requests.
    Consumer,
    /// Writes.
    Producer,
}

/// Where the tokens of OAUTHBEARER come from.
#[derive(Debug, Clone)]
pub(crate) enum OAuth {
    /// librdkafka makes or gets them itself.
    OfLibrdkafka,
    Ours(Arc<Tokens>),
}

/// A client instance of librdkafka, with its threads and connections.
pub struct Handle {
    pub(super) rk: *mut rd::rd_kafka_t,
    shared: Arc<Shared>,
}

/// The opaque pointer of the callbacks, so it is freed after the instance.
#[derive(Default)]
pub(super) struct Shared {
    health: Mutex<Health>,
    pub(super) tokens: Option<Arc<Tokens>>,
}

impl Shared {
    /// # Safety
    /// `opaque` is that of a callback of an instance that [`Handle::new`] made.
    pub(super) unsafe fn of<'a>(opaque: *mut c_void) -> &'a Self {
        // SAFETY: promised by the caller; the instance's handle keeps it.
        unsafe { &*opaque.cast::<Self>() }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: rd_kafka_t is thread-safe by librdkafka's documentation; the rest is behind a mutex.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// Creates a consumer without a group, or a producer.
    ///
    /// # Errors
    /// librdkafka's reason: settings that conflict, or files that cannot be read.
    pub(crate) fn new(
        mut conf: Conf,
        kind: Kind,
        oauth: Option<OAuth>,
    ) -> Result<Arc<Self>, String> {
        let is_oauth = oauth.is_some();
        let tokens = match oauth {
            Some(OAuth::Ours(tokens)) => Some(tokens),
            Some(OAuth::OfLibrdkafka) | None => None,
        };
        let health = Mutex::default();
        let shared = Arc::new(Shared { health, tokens });
        let mut message = [0 as c_char; 512];
        // SAFETY: the conf is owned; the callbacks match their types; `shared` outlives the
        // instance because `Drop` releases it after rd_kafka_destroy.
        unsafe {
            rd::rd_kafka_conf_set_opaque(conf.0, Arc::as_ptr(&shared).cast_mut().cast());
            rd::rd_kafka_conf_set_error_cb(conf.0, Some(on_error));
            rd::rd_kafka_conf_set_log_cb(conf.0, Some(on_log));
            rd::rd_kafka_conf_set_throttle_cb(conf.0, Some(on_throttle));
            if is_oauth {
                rd::rd_kafka_conf_enable_sasl_queue(conf.0, 1);
            }
            if shared.tokens.is_some() {
                rd::rd_kafka_conf_set_oauthbearer_token_refresh_cb(
                    conf.0,
                    Some(tokens::on_refresh),
                );
            }
            let kind = match kind {
                Kind::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                Kind::Producer => {
                    rd::rd_kafka_conf_set_dr_msg_cb(conf.0, Some(on_delivery));
                    rd::rd_kafka_type_t::RD_KAFKA_PRODUCER
                }
            };
            let rk = rd::rd_kafka_new(kind, conf.0, message.as_mut_ptr(), message.len());
            if rk.is_null() {
                return Err(text(message.as_ptr()).unwrap_or_default());
            }
            // The instance owns the conf now.
            conf.0 = ptr::null_mut();
            let handle = Arc::new(Self { rk, shared });
            if is_oauth {
                // Token refresh runs on a librdkafka thread, so it works without polling.
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

    /// The state of the connections, after running pending callbacks.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        // SAFETY: the instance is alive; poll is thread-safe and does not wait.
        unsafe { rd::rd_kafka_poll(self.rk, 0) };
        self.shared.health()
    }

    /// The ids of the brokers, from one request.
    pub(crate) fn brokers(&self, timeout_ms: i32) -> Result<Vec<i32>, i32> {
        let mut metadata: *const rd::rd_kafka_metadata = ptr::null();
        // SAFETY: as in `all_topics`. A handle that never reads has no local topics, so the answer lists
        // none.
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

    /// The names of all topics, from one request.
    pub(crate) fn all_topics(&self, timeout_ms: i32) -> Result<Vec<String>, i32> {
        let mut metadata: *const rd::rd_kafka_metadata = ptr::null();
        let mut names = Vec::new();
        // SAFETY: on success, the metadata is ours until rd_kafka_metadata_destroy; each array has the length
        // given next to it.
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

    /// The position of a started partition. It also counts control records, which are never delivered.
    pub(crate) fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let list = PartitionList::new([(topic, partition, 0)]);
        // SAFETY: the list has one element; the call fills in its offset.
        let offset = unsafe {
            rd::rd_kafka_position(self.rk, list.0);
            (*(*list.0).elems).offset
        };
        (offset >= 0).then_some(offset)
    }

    /// Where a partition's log ended by the last answer with its records; negative where unknown.
    pub(crate) fn log_end(&self, topic: &str, partition: i32) -> i64 {
        let (mut low, mut high) = (-1, -1);
        if let Ok(topic) = CString::new(topic) {
            // SAFETY: the name and both numbers outlive the call, which blocks on nothing.
            unsafe {
                let (low, high) = (&raw mut low, &raw mut high);
                rd::rd_kafka_get_watermark_offsets(self.rk, topic.as_ptr(), partition, low, high);
            }
        }
        high
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
            _shared: Arc<Shared>,
        }
        // SAFETY: only the closing thread still has the pointer.
        unsafe impl Send for Closing {}
        impl Drop for Closing {
            fn drop(&mut self) {
                let flags = rd::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE as c_int;
                // SAFETY: queues, topics and messages keep the handle alive, so all of them are gone.
                unsafe { rd::rd_kafka_destroy_flags(self.rk, flags) };
            }
        }
        let closing = Closing {
            rk: self.rk,
            _shared: Arc::clone(&self.shared),
        };
        // Destroying joins librdkafka's threads, which takes up to about 100 ms. That is too long for a
        // worker of the runtime. If no thread can be started, the closure is dropped, and closes the instance
        // right here.
        let _ = std::thread::Builder::new()
            .name("kafka-close".into())
            .spawn(move || drop(closing));
    }
}

/// Stores what concerns connections; `rd_kafka_poll` calls it.
unsafe extern "C" fn on_error(
    _rk: *mut rd::rd_kafka_t,
    err: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque pointer is that of the handle that is being polled.
    let shared = unsafe { Shared::of(opaque) };
    // SAFETY: a text from librdkafka, or NULL.
    let reason = unsafe { text(reason) }.unwrap_or_default();
    let mut health = shared.health();
    match err {
        code::ALL_BROKERS_DOWN => health.down = true,
        code::AUTHENTICATION if broke_off(&reason, health.worked) => health.last = Some(reason),
        code::AUTHENTICATION | code::SSL | code::SASL_AUTHENTICATION_FAILED => {
            let reason = explained(reason);
            health.refused = Some((Instant::now(), reason.clone()));
            health.last = Some(reason);
        }
        _ => health.last = Some(reason),
    }
}

/// Whether a login failed because the connection broke, as it does when a broker shuts down or ends a login.
/// librdkafka connects again. It does so too where it renews a login within a second of the last renewal, which a
/// broker does not take for one; a listener without logins says the same at first.
fn broke_off(reason: &str, worked: bool) -> bool {
    reason.contains("handshake failed: Local: Broker transport failure")
        || worked
            && reason.contains("handshake failed: Broker: Request not valid in current SASL state")
}

/// Stores for how long a broker throttles the client; `rd_kafka_poll` calls it.
unsafe extern "C" fn on_throttle(
    _rk: *mut rd::rd_kafka_t,
    _broker: *const c_char,
    _id: i32,
    throttle_ms: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_error`.
    let mut health = unsafe { Shared::of(opaque) }.health();
    let throttle = Duration::from_millis(u64::try_from(throttle_ms).unwrap_or(0));
    health.held_until = health.held_until.max(Some(Instant::now() + throttle));
    health.held += throttle;
}

/// librdkafka blames the authorities for every certificate that OpenSSL rejects.
fn explained(reason: String) -> String {
    if !reason.contains("certificate could not be verified") {
        return reason;
    }
    format!(
        "{reason}; if they are, the certificate has expired or is for another host, or this machine's \
         clock is wrong"
    )
}

/// Stores the first failed delivery. Among messages that failed for their size, it stores the largest.
/// `rd_kafka_poll` and `rd_kafka_flush` call it.
unsafe extern "C" fn on_delivery(
    _rk: *mut rd::rd_kafka_t,
    message: *const rd::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: the message is live during the call; its code is an int in C.
    let err = unsafe { (&raw const (*message).err).cast::<i32>().read() };
    // A message discarded with its transaction has not failed.
    if matches!(err, code::OK | code::PURGE_QUEUE | code::PURGE_INFLIGHT) {
        return;
    }
    // SAFETY: as in `on_error`; a report's topic lives as long as the report.
    unsafe {
        let mut health = Shared::of(opaque).health();
        let size = (*message).len + (*message).key_len;
        if let Some(first) = &health.undelivered
            && !(err == code::MSG_SIZE_TOO_LARGE && first.code == err && first.size < size)
        {
            return;
        }
        health.undelivered = Some(Undelivered {
            tag: (*message)._private.addr(),
            topic: text(rd::rd_kafka_topic_name((*message).rkt)).unwrap_or_default(),
            partition: (*message).partition,
            code: err,
            size,
        });
    }
}

/// Forwards librdkafka's log lines to the `log` crate.
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
        // SAFETY: texts from librdkafka, or NULL.
        let (facility, line) = unsafe { (text(facility), text(line)) };
        log::log!(target: "librdkafka", level, "{}: {}", facility.unwrap_or_default(), line.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::broke_off;

    #[test]
    fn a_connection_that_breaks_is_no_refusal() {
        for (reason, expected) in [
            (
                "sasl_ssl://b:1/1: SASL OAUTHBEARER mechanism handshake failed: Local: Broker transport \
                 failure: broker's supported mechanisms: (n/a) (after 0ms in state DOWN)",
                true,
            ),
            (
                "sasl_ssl://b:1/1: SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL \
                 mechanism: broker's supported mechanisms: SCRAM-SHA-256",
                false,
            ),
            (
                "sasl_ssl://b:1/bootstrap: SASL authentication error: Authentication failed",
                false,
            ),
        ] {
            for worked in [false, true] {
                assert_eq!(broke_off(reason, worked), expected, "{reason}");
            }
        }
        let renewed = "sasl_plaintext://b:1/1: SASL OAUTHBEARER mechanism handshake failed: Broker: Request not \
                       valid in current SASL state: broker's supported mechanisms:  (after 1ms in state \
                       AUTH_HANDSHAKE)";
        assert!(broke_off(renewed, true));
        assert!(!broke_off(renewed, false));
    }
}
