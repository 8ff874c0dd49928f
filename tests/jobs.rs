//! Tests of jobs: sinks, the driver and exports, against real servers.

#[macro_use]
#[path = "jobs/conformance.rs"]
mod conformance;
#[cfg(feature = "postgres")]
#[path = "jobs/postgres/mod.rs"]
mod postgres;
#[cfg(feature = "sqlite")]
#[path = "jobs/sqlite.rs"]
mod sqlite;
mod support;
