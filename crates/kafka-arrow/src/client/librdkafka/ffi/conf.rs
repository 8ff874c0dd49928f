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

/// Starts OpenSSL without its handler at exit, before librdkafka starts it with one. The handler frees what
/// librdkafka's threads still use, so that a program that ended in the middle of a TLS handshake crashed.
/// The first start decides: a program that has used OpenSSL before has its own way.
fn keep_openssl_until_the_end() {
    #[cfg(any(feature = "ssl", feature = "gssapi"))]
    {
        use std::ffi::{c_int, c_void};

        const OPENSSL_INIT_NO_ATEXIT: u64 = 0x0008_0000;
        unsafe extern "C" {
            fn OPENSSL_init_crypto(options: u64, settings: *const c_void) -> c_int;
        }
        // SAFETY: librdkafka links the library; the call may come from any thread, at any time, and takes no
        // settings. If it fails, so does librdkafka, with a reason.
        unsafe { OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, std::ptr::null()) };
    }
}

/// Makes the end of this process take a while, after what later calls leave for the end.
#[cfg(test)]
pub(crate) fn end_slowly() {
    extern "C" fn wait() {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    unsafe extern "C" {
        fn atexit(last: extern "C" fn()) -> std::ffi::c_int;
    }
    // SAFETY: the function uses nothing that is gone at the end.
    unsafe { atexit(wait) };
}

/// Settings for a [`Handle`] that is about to be created.
pub(crate) struct Conf(pub(super) *mut rd::rd_kafka_conf_t);

impl Conf {
    pub(crate) fn new() -> Self {
        keep_openssl_until_the_end();
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
