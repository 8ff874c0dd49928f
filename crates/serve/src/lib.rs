//! Jobs and questions over exact Kafka offset ranges, as one service.
//!
//! A [`Service`] runs the jobs of a [`Config`] side by side, each again and again after failures, and lets others look
//! at them: over HTTP ([`http`]), in metrics ([`metrics`]) and to the service manager. Clients of PostgreSQL ask for
//! records ([`pg`]). The program that has the shell implements [`Opener`], which opens sessions and plans job files.
//!
//! ```text
//! Config ──▶ Service ──▶ one task for each job: open, run, wait, again      service.rs, job/
//!               │            ╰─▶ Monitor: what happened, as the driver says it
//!               ╰─▶ Board ◀── all monitors; HTTP, metrics and probes read it
//! ```

#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub, clippy::clone_on_ref_ptr)]

pub mod config;
pub mod http;
pub mod job;
pub mod lineage;
pub mod logs;
pub mod mcp;
pub mod metrics;
mod notify;
mod opener;
mod page;
pub mod pg;
mod pipe;
mod planning;
mod problem;
mod process;
mod service;
#[cfg(test)]
mod testing;
pub mod tls;

pub use config::Config;
pub use job::{Board, Event, JobState, JobStatus, Monitor};
pub use notify::{Notifier, NotifyState};
pub use opener::{Access, Opener};
pub use problem::Problem;
pub use service::{Action, Refused, Reloaded, Service};
