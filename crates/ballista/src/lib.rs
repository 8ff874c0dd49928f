//! The queries of `datafusion-kafka` on a cluster of Ballista.
//!
//! The client fixes the offset ranges and plans as always. What it submits is the physical plan, in which each
//! execution partition of a scan is a row of an in-memory table: Ballista cuts such tables into tasks, and would
//! let every task run the whole of a scan that it does not know.
//!
//! ```text
//! client                                        scheduler          executor
//! KafkaScanExec ── plan ──▶ KafkaUnitsExec
//!                             DataSourceExec:   ── a slice of ──▶ KafkaUnitsExec ─▶ KafkaScanExec ─▶ brokers
//!                             one row a unit       the rows            │
//! ScansElsewhereExec ◀──────────── metrics of the job: reports ────────┘
//! ```
//!
//! - A session plans for a cluster by [`Ballista::apply`].
//! - [`scheduler_config`] and [`executor_config`] are what the cluster starts with. Executors have connections of
//!   their own, and get no credentials.

mod client;
mod codec;
mod job;
mod rule;
mod server;
mod units;

pub use client::Ballista;
pub use codec::KafkaCodec;
pub use server::{executor_config, scheduler_config, serve_executor, serve_scheduler};

/// The version that client, scheduler and executors must share.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
