//! `kafka-sql serve` as a process, over real brokers: what its jobs deliver, what it says of them, and to whom.

#[path = "service/endurance.rs"]
mod endurance;
#[path = "service/jobs.rs"]
mod jobs;
#[path = "service/manager.rs"]
mod manager;
#[path = "service/refusals.rs"]
mod refusals;
#[path = "service/running.rs"]
mod running;
mod support;
