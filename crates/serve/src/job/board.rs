//! All jobs that run in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use futures::future::join_all;
use tokio::sync::broadcast;

use super::{Event, JobStatus, Monitor};
use crate::config::JobConfig;
use crate::pg::Meter;

/// How many events a follower may be behind before it misses some.
const EVENTS: usize = 1024;

/// All jobs that run in this process, to be looked at.
#[derive(Debug)]
pub struct Board {
    jobs: RwLock<BTreeMap<String, Arc<Monitor>>>,
    events: broadcast::Sender<Event>,
    max_partition_labels: usize,
    history: usize,
    /// The numbers of the PostgreSQL port, once it is open.
    postgres: OnceLock<Meter>,
}

impl Board {
    /// A board without jobs; metrics have labels for so many partitions of each job, and so many batches and errors
    /// of each are kept.
    pub fn new(max_partition_labels: usize, history: usize) -> Self {
        Self {
            jobs: RwLock::default(),
            events: broadcast::Sender::new(EVENTS),
            max_partition_labels,
            history,
            postgres: OnceLock::new(),
        }
    }

    /// Adds a job, in place of another of its name.
    pub fn add(&self, name: &str, config: JobConfig) -> Arc<Monitor> {
        let events = self.events.clone();
        let monitor = Arc::new(Monitor::new(name, config, events, self.history));
        let mut jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
        jobs.insert(name.to_owned(), Arc::clone(&monitor));
        monitor
    }

    pub(crate) fn remove(&self, name: &str) {
        let mut jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
        if jobs.remove(name).is_some() {
            let _ = self.events.send(Event::Removed { job: name.into() });
        }
    }

    /// The jobs by name.
    pub fn monitors(&self) -> Vec<Arc<Monitor>> {
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        jobs.values().cloned().collect()
    }

    /// A job.
    pub fn monitor(&self, name: &str) -> Option<Arc<Monitor>> {
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        jobs.get(name).cloned()
    }

    /// What is known of each job.
    pub fn statuses(&self) -> Vec<JobStatus> {
        let monitors = self.monitors();
        monitors.iter().map(|monitor| monitor.status()).collect()
    }

    /// What happens from now on. A follower that is too slow misses events, and is told so.
    pub fn follow(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Asks the cluster how far jobs are behind, but waits no longer than a moment.
    pub(crate) async fn glance(&self) {
        let monitors = self.monitors();
        join_all(monitors.iter().map(Monitor::glance)).await;
    }

    /// How many partitions of a job metrics have labels for.
    pub(crate) fn max_partition_labels(&self) -> usize {
        self.max_partition_labels
    }

    /// Lets metrics show the numbers of a PostgreSQL port.
    pub(crate) fn add_postgres(&self, meter: Meter) {
        // A service opens one port.
        let _ = self.postgres.set(meter);
    }

    pub(crate) fn postgres(&self) -> Option<&Meter> {
        self.postgres.get()
    }
}
