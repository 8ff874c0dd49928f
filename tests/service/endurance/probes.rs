//! Asks the probes all the time, and compares what they say with what the test knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::running::ask;

/// Within what time each job must make progress.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
/// What a job that cannot deliver any more may have had in hand, and how long a machine that is busy may take.
pub(super) const SLACK: Duration = Duration::from_secs(10);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// What the test knows for certain.
#[derive(Debug, Clone)]
pub(super) enum Truth {
    /// Nothing: something has just died or come back.
    Unsure,
    /// Every job delivers.
    Fine,
    /// These jobs cannot deliver since then.
    Down {
        since: Instant,
        jobs: BTreeSet<String>,
        /// Whether all others deliver.
        others_deliver: bool,
    },
}

impl Truth {
    /// What an answer of `/readyz` is, if it is true.
    fn judge(&self, at: Instant, status: u16, body: &str) -> Result<&'static str, String> {
        let lie = |why: &str| Err(format!("{why}: {status} {body:?}, but {self:?}"));
        let mut named = BTreeSet::new();
        for line in body.lines().filter(|_| status != 200) {
            let Some((job, why)) = line.split_once(": ") else {
                return lie("a line without a job");
            };
            let waited = why.strip_prefix("no progress for ");
            let waited = waited.and_then(|why| why.split(' ').next()?.parse().ok());
            if waited.is_some_and(|waited: u64| waited < DEADLINE.as_secs()) {
                return lie("within its deadline");
            }
            named.insert(job.to_owned());
        }
        match (self, status) {
            (Self::Fine, 200) => Ok("ready, and all is well"),
            (Self::Fine, _) => lie("all is well"),
            (Self::Unsure, 200) => Ok("ready while things change"),
            (Self::Unsure, _) => Ok("not ready while things change"),
            (
                Self::Down {
                    jobs,
                    others_deliver,
                    since,
                },
                _,
            ) => {
                if *others_deliver && !named.is_subset(jobs) {
                    return lie("a job that delivers is named");
                }
                if at.duration_since(*since) > DEADLINE + SLACK {
                    return match named.is_superset(jobs) {
                        true => Ok("not ready, and all that cannot deliver are named"),
                        false => lie("a job that cannot deliver is not named"),
                    };
                }
                Ok("down for less than the deadline")
            }
        }
    }
}

/// The looks at the probes, until it is dropped.
pub(super) struct Probes {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    over: AtomicBool,
    /// How often it has changed, and what it is.
    truth: Mutex<(u64, Truth)>,
    seen: Mutex<BTreeMap<&'static str, u64>>,
    lies: Mutex<Vec<String>>,
}

impl Probes {
    pub(super) fn watch(address: &str) -> Self {
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            truth: Mutex::new((0, Truth::Unsure)),
            seen: Mutex::default(),
            lies: Mutex::default(),
        });
        let (watching, address) = (Arc::clone(&shared), address.to_owned());
        let thread = std::thread::spawn(move || {
            while !watching.over.load(Ordering::Acquire) {
                watching.look(&address);
                std::thread::sleep(PAUSE);
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// From now on this is true.
    pub(super) fn know(&self, truth: Truth) {
        let mut known = lock(&self.shared.truth);
        *known = (known.0 + 1, truth);
    }

    /// How often what was seen.
    pub(super) fn seen(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.shared.seen).clone()
    }

    /// Nothing that they said was wrong.
    pub(super) fn assert_true(&self) {
        let lies = lock(&self.shared.lies);
        assert!(lies.is_empty(), "{} lies: {}", lies.len(), lies.join("\n"));
    }
}

impl Shared {
    fn look(&self, address: &str) {
        let truth = lock(&self.truth).clone();
        let answers = ["/livez", "/readyz"].map(|path| ask(address, &format!("GET {path}"), None));
        let (live, ready) = match answers {
            [Ok(live), Ok(ready)] => (live, ready),
            [live, ready] => return self.lie(format!("no answer: {live:?}, {ready:?}")),
        };
        if live.0 != 200 {
            self.lie(format!("the process turns: {live:?}"));
        }
        // It may have changed while the answer was on its way.
        if lock(&self.truth).0 != truth.0 {
            return;
        }
        match truth.1.judge(Instant::now(), ready.0, &ready.1) {
            Ok(seen) => *lock(&self.seen).entry(seen).or_default() += 1,
            Err(lie) => self.lie(lie),
        }
    }

    fn lie(&self, lie: String) {
        lock(&self.lies).push(lie);
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}
