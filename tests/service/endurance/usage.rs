//! What a process holds: memory, descriptors, threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const PAUSE: Duration = Duration::from_secs(2);

/// At one moment, or what lies in the middle over a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) rss_kb: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
}

impl Held {
    fn now(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Self {
            rss_kb: number("VmRSS:")?,
            descriptors: u64::try_from(descriptors).ok()?,
            threads: number("Threads:")?,
        })
    }

    /// Of each number the one in the middle.
    fn middle(of: &[Self]) -> Self {
        let middle = |number: fn(&Self) -> u64| {
            let mut numbers: Vec<u64> = of.iter().map(number).collect();
            numbers.sort_unstable();
            numbers[numbers.len() / 2]
        };
        Self {
            rss_kb: middle(|held| held.rss_kb),
            descriptors: middle(|held| held.descriptors),
            threads: middle(|held| held.threads),
        }
    }
}

/// Looks at a process every two seconds until it is dropped.
pub(super) struct Usage {
    shared: Arc<(AtomicBool, Mutex<Vec<Held>>)>,
    thread: Option<JoinHandle<()>>,
}

impl Usage {
    pub(super) fn watch(pid: u32) -> Self {
        let shared = Arc::<(AtomicBool, Mutex<Vec<Held>>)>::default();
        let watching = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !watching.0.load(Ordering::Acquire) {
                let mut seen = watching.1.lock().expect("nobody panics with it");
                seen.extend(Held::now(pid));
                drop(seen);
                std::thread::sleep(PAUSE);
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// What it held in each quarter of the time.
    pub(super) fn quarters(&self) -> Vec<Held> {
        let seen = self.shared.1.lock().expect("nobody panics with it");
        let quarters = seen.chunks(seen.len().div_ceil(4).max(1));
        quarters.map(Held::middle).collect()
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        self.shared.0.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
