//! Topics to fetch from, and the queues on which messages and answers arrive.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use rdkafka::bindings as rd;
use tokio::sync::Notify;

use super::{Event, Handle, c_text, error_text, last_error_raw};

/// A topic that a handle reads or writes.
pub struct Topic {
    pub(super) rkt: *mut rd::rd_kafka_topic_t,
    handle: Arc<Handle>,
}

// SAFETY: reference counted and thread-safe in librdkafka.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    pub fn new(handle: &Arc<Handle>, name: &str) -> Result<Self, String> {
        let name = c_text(name);
        // SAFETY: the handle is alive; NULL means default settings.
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

    /// Starts fetching a partition into a queue. It must not be started on this handle already.
    pub(crate) fn start(&self, partition: i32, offset: i64, queue: &Queue) -> Result<(), String> {
        debug_assert!(Arc::ptr_eq(&self.handle, &queue.handle));
        // SAFETY: topic and queue belong to one live handle.
        let result =
            unsafe { rd::rd_kafka_consume_start_queue(self.rkt, partition, offset, queue.rkqu) };
        if result != 0 {
            // SAFETY: reads a thread-local.
            return Err(error_text(unsafe { last_error_raw() }));
        }
        Ok(())
    }

    /// Stops fetching a partition. Returns once it has stopped.
    pub(crate) fn stop(&self, partition: i32) {
        // SAFETY: the topic is alive; an unknown partition yields an error code and changes nothing.
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
pub(crate) struct Queue {
    pub(super) rkqu: *mut rd::rd_kafka_queue_t,
    pub(super) handle: Arc<Handle>,
    /// Notified when the queue becomes non-empty. The C side holds a pointer to it.
    _wake: Option<Arc<Notify>>,
}

// SAFETY: queues are thread-safe in librdkafka.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    pub(crate) fn new(handle: &Arc<Handle>, wake: Option<Arc<Notify>>) -> Self {
        // SAFETY: the handle is alive; `_wake` lives until `Drop` has removed the callback.
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
    pub(crate) fn event(&self, timeout_ms: i32) -> Option<Event> {
        // SAFETY: the queue is alive; the event is ours.
        let event = unsafe { rd::rd_kafka_queue_poll(self.rkqu, timeout_ms) };
        (!event.is_null()).then(|| Event::new(event, &self.handle))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: owned; removing the callback waits for the queue's lock, under which the callback runs.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(self.rkqu, None, ptr::null_mut());
            rd::rd_kafka_queue_destroy(self.rkqu);
        }
    }
}

/// Runs under the queue's lock, on a thread of librdkafka.
unsafe extern "C" fn on_filled(_rk: *mut rd::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the queue holds an Arc of this Notify while the callback is set.
    unsafe { &*opaque.cast::<Notify>() }.notify_one();
}
