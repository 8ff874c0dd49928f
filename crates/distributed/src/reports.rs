//! What a worker remembers of the scans that it executes, until the coordinator has asked for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion_kafka::Error;
use datafusion_kafka::scan::{KafkaScanExec, ScanFailure, ScanReport};
use serde::{Deserialize, Serialize};

/// How long a worker remembers scans that no coordinator asks about any more.
const KEPT: Duration = Duration::from_secs(600);
/// After how long without a question a scan's coordinator is gone: it asks every second.
const GONE: Duration = Duration::from_secs(5);

/// The scans of a worker's tasks, by the execution that they belong to.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    runs: Mutex<HashMap<String, Run>>,
}

#[derive(Debug)]
struct Run {
    scans: Vec<(usize, Arc<KafkaScanExec>)>,
    failure: Option<ScanFailure>,
    asked: Instant,
}

/// What a worker has to tell of an execution of a scan.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RunReport {
    /// The reports of its tasks, by their numbers.
    pub(crate) tasks: Vec<(usize, ScanReport)>,
    pub(crate) failure: Option<ScanFailure>,
}

impl Reports {
    pub(crate) fn add(&self, key: &str, task: usize, scan: &Arc<KafkaScanExec>) {
        self.note(key, |run| run.scans.push((task, Arc::clone(scan))));
    }

    /// Keeps the first error of an execution.
    pub(crate) fn failed(&self, key: &str, error: &Error) {
        self.note(key, |run| {
            run.failure.get_or_insert_with(|| ScanFailure::of(error));
        });
    }

    fn note(&self, key: &str, note: impl FnOnce(&mut Run)) {
        let mut runs = self.lock();
        runs.retain(|_, run| run.asked.elapsed() < KEPT);
        note(runs.entry(key.to_owned()).or_insert_with(|| Run {
            scans: vec![],
            failure: None,
            asked: Instant::now(),
        }));
    }

    /// What is known of an execution, which is forgotten if it is `over`.
    pub(crate) fn of(&self, key: &str, over: bool) -> RunReport {
        let mut runs = self.lock();
        let Some(run) = runs.get_mut(key) else {
            return RunReport::default();
        };
        run.asked = Instant::now();
        let report = RunReport {
            tasks: run
                .scans
                .iter()
                .map(|(task, scan)| (*task, scan.report()))
                .collect(),
            failure: run.failure.clone(),
        };
        if over {
            runs.remove(key);
        }
        report
    }

    /// Whether no coordinator waits for a report.
    pub(crate) fn is_idle(&self) -> bool {
        let runs = self.lock();
        runs.values().all(|run| run.asked.elapsed() > GONE)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
