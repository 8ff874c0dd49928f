//! Tests of jobs: sinks, the driver and exports, against real servers.

#[path = "jobs/driver.rs"]
mod driver;
mod support;
