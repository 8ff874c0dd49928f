//! `kafka-sql serve` as a process, over real brokers: what its jobs deliver, what it says of them, and to whom.

#[path = "service/endurance.rs"]
mod endurance;
#[path = "service/jobs.rs"]
mod jobs;
#[path = "service/lineage.rs"]
mod lineage;
#[path = "service/manager.rs"]
mod manager;
#[path = "service/page/mod.rs"]
mod page;
#[path = "service/postgres.rs"]
mod postgres;
#[path = "service/refusals.rs"]
mod refusals;
#[path = "service/running.rs"]
mod running;
#[path = "service/shipped.rs"]
mod shipped;
mod support;
