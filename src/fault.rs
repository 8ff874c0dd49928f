//! Named places at which tests make a process die, to show what a crash there leaves behind.
//!
//! Builds without debug assertions contain none of this.

/// The environment variable that names the place: `NAME`, or `NAME:N` for the Nth time (from 1) that
/// execution passes it.
#[cfg(debug_assertions)]
const VARIABLE: &str = "KAFKA_SQL_FAULT";

/// Ends the process as SIGKILL would, if a test has requested a crash at `name`.
#[inline]
pub(crate) fn point(name: &str) {
    #[cfg(debug_assertions)]
    crash(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
fn crash(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let Ok(wanted) = std::env::var(VARIABLE) else {
        return;
    };
    let (wanted, times) = match wanted.split_once(':') {
        Some((wanted, times)) => (wanted.to_owned(), times.parse().unwrap_or(1)),
        None => (wanted, 1),
    };
    if wanted == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == times {
        eprintln!("crash at {name}, as {VARIABLE} says");
        std::process::abort();
    }
}
