//! The queries of `datafusion-kafka` on many machines, by `datafusion-distributed`.
//!
//! The coordinator fixes the offset ranges and plans as always. Scans are cut into tasks, each with ranges of
//! its own, and sent to workers near the partitions' leaders; a worker reads them as the coordinator would.
//! Ledgers, checksums and errors come back with their coordinates. Files of a job are staged by the tasks whose
//! rows they have; the driver on the coordinator commits them. Pieces of an export are plans that a worker executes
//! whole; the coordinator publishes their files.
//!
//! ```text
//! coordinator                                   worker
//! KafkaScanExec ─ placement ─▶ TasksExec
//!        TaskExec 0: orders[0] 0..100  ─ plan ─▶ TaskExec ─▶ KafkaScanExec ─▶ brokers
//!        TaskExec 1: orders[1] 0..90   ─ …            │
//! ScansElsewhereExec ◀──── service: reports ──────────┘
//! ```
//!
//! - A worker starts with [`Worker`]; it has connections of its own, and gets no credentials.
//! - A session plans for workers by [`Coordinator::apply`].

mod codec;
mod coordinator;
mod exec;
mod link;
mod nodes;
mod pieces;
mod placement;
mod planner;
mod remembered;
mod reports;
#[cfg(test)]
mod scale_tests;
mod service;
mod settings;
mod worker;

pub use coordinator::{Coordinator, CoordinatorOptions, WorkerInfo, Workers};
pub use datafusion_kafka::scan::OwnConnections;
pub use link::{Link, Token};
pub use worker::Worker;

/// The version that coordinator and workers must share.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
