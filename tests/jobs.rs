//! Tests of jobs against real servers: sinks, the driver and exports.

#[cfg(feature = "sqlite")]
#[path = "jobs/commands.rs"]
mod commands;
#[macro_use]
#[path = "jobs/conformance.rs"]
mod conformance;
#[path = "jobs/crash.rs"]
mod crash;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "jobs/crossings.rs"]
mod crossings;
#[path = "jobs/driver.rs"]
mod driver;
#[path = "jobs/elections.rs"]
mod elections;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "jobs/examples.rs"]
mod examples;
#[path = "jobs/export/mod.rs"]
mod export;
#[path = "jobs/job.rs"]
mod job;
#[path = "jobs/kafka.rs"]
mod kafka;
#[cfg(feature = "sqlite")]
#[path = "jobs/letters.rs"]
mod letters;
#[path = "jobs/memory.rs"]
mod memory;
#[path = "jobs/parquet.rs"]
mod parquet;
#[cfg(feature = "postgres")]
#[path = "jobs/postgres.rs"]
mod postgres;
#[path = "jobs/receipts.rs"]
mod receipts;
#[path = "faults/release_jobs.rs"]
mod release_jobs;
#[cfg(feature = "s3")]
#[path = "jobs/s3.rs"]
mod s3;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[path = "jobs/samples.rs"]
mod samples;
#[cfg(feature = "sqlite")]
#[path = "jobs/sqlite.rs"]
mod sqlite;
mod support;
