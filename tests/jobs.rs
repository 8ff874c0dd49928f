//! Tests of jobs against real servers: sinks, the driver and exports.

#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "faults/clock.rs"]
mod clock;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "faults/cluster/mod.rs"]
mod cluster_faults;
#[cfg(feature = "sqlite")]
#[path = "jobs/commands.rs"]
mod commands;
#[macro_use]
#[path = "jobs/conformance.rs"]
mod conformance;
#[cfg(feature = "sqlite")]
#[path = "faults/addresses.rs"]
mod addresses;
#[path = "faults/bytes.rs"]
mod bytes;
#[path = "jobs/crash.rs"]
mod crash;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "jobs/crossings.rs"]
mod crossings;
#[cfg(feature = "sqlite")]
#[path = "faults/deliveries.rs"]
mod deliveries;
#[path = "faults/doctor.rs"]
mod doctor;
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
#[cfg(feature = "sqlite")]
#[path = "faults/load.rs"]
mod load;
#[cfg(feature = "sqlite")]
#[path = "faults/machine.rs"]
mod machine;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "jobs/masking.rs"]
mod masking;
#[path = "jobs/memory.rs"]
mod memory;
#[path = "faults/networks.rs"]
mod networks;
#[path = "jobs/parquet.rs"]
mod parquet;
#[cfg(feature = "postgres")]
#[path = "jobs/postgres.rs"]
mod postgres;
#[path = "faults/proxied.rs"]
mod proxied;
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
#[path = "jobs/search.rs"]
mod search;
#[cfg(feature = "sqlite")]
#[path = "jobs/sqlite.rs"]
mod sqlite;
mod support;
