//! Settings for a handle that is about to be created.

use std::ffi::c_char;

use rdkafka::bindings as rd;

use super::{c_text, text};

/// Why librdkafka rejects a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingError {
    /// There is no such setting.
    Unknown,
    /// The value is rejected. The text is librdkafka's and may quote the value.
    Invalid(String),
}

/// Settings for a [`Handle`] that is about to be created.
pub(crate) struct Conf(pub(super) *mut rd::rd_kafka_conf_t);

impl Conf {
    pub(crate) fn new() -> Self {
        // SAFETY: no precondition.
        Self(unsafe { rd::rd_kafka_conf_new() })
    }

    /// Sets a value. librdkafka checks it immediately.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let (key, value) = (c_text(key), c_text(value));
        let mut message = [0 as c_char; 512];
        // SAFETY: the conf is owned; texts and buffer outlive the call.
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
                // SAFETY: librdkafka terminates the message; the buffer starts as zeros.
                let message = unsafe { text(message.as_ptr()) }.unwrap_or_default();
                Err(SettingError::Invalid(message))
            }
        }
    }

    /// The names of all settings that have a default value.
    #[cfg(test)]
    pub(crate) fn names() -> Vec<String> {
        let conf = Self::new();
        let mut count = 0;
        let mut names = Vec::new();
        // SAFETY: the dump is an array of `count` texts, alternating keys and values, freed below.
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
