//! Tokens of OAUTHBEARER, given to librdkafka when it asks for one.

use std::ffi::{c_char, c_void};

use rdkafka::bindings as rd;

use super::handle::Shared;
use super::{c_text, code, text};
use crate::client::wire::Token;

/// Gives an instance a token. The instance's background thread calls it, so it may wait.
pub(super) unsafe extern "C" fn on_refresh(
    rk: *mut rd::rd_kafka_t,
    _config: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque pointer is that of the instance.
    let Some(tokens) = &unsafe { Shared::of(opaque) }.tokens else {
        return;
    };
    // SAFETY: librdkafka passes an instance that is alive during the call.
    let given = tokens.wait().and_then(|token| unsafe { set(rk, &token) });
    if let Err(reason) = given {
        // SAFETY: as above. The call copies the text, and asks again after some seconds.
        unsafe { rd::rd_kafka_oauthbearer_set_token_failure(rk, c_text(&reason).as_ptr()) };
    }
}

/// # Safety
/// The instance is alive.
unsafe fn set(rk: *mut rd::rd_kafka_t, token: &Token) -> Result<(), String> {
    let parts = token.parts()?;
    let extensions = parts
        .extensions
        .iter()
        .flat_map(|(name, value)| [name, value]);
    let extensions: Vec<_> = extensions.map(|text| c_text(text)).collect();
    let mut extensions: Vec<_> = extensions.iter().map(|text| text.as_ptr()).collect();
    let (value, principal) = (c_text(parts.value), c_text(parts.principal));
    let mut message = [0 as c_char; 512];
    // SAFETY: promised by the caller; texts and buffer outlive the call, which copies them. The code is an
    // int in C.
    unsafe {
        let result = rd::rd_kafka_oauthbearer_set_token(
            rk,
            value.as_ptr(),
            parts.expires_ms,
            principal.as_ptr(),
            extensions.as_mut_ptr(),
            extensions.len(),
            message.as_mut_ptr(),
            message.len(),
        );
        match result as i32 {
            code::OK => Ok(()),
            _ => Err(text(message.as_ptr()).unwrap_or_default()),
        }
    }
}
