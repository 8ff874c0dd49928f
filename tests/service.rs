//! `kafka-sql serve` as a process, over real brokers: what its jobs deliver, what it says of them, and to whom.

#[path = "service/cost.rs"]
mod cost;
#[path = "service/endurance/mod.rs"]
mod endurance;
#[path = "service/held.rs"]
mod held;
#[path = "service/jobs.rs"]
mod jobs;
#[path = "service/lineage.rs"]
mod lineage;
#[path = "service/manager.rs"]
mod manager;
#[path = "service/moving.rs"]
mod moving;
#[path = "service/page/mod.rs"]
mod page;
#[path = "service/postgres.rs"]
mod postgres;
#[path = "service/refusals.rs"]
mod refusals;
#[path = "service/running.rs"]
mod running;
#[path = "service/secrets.rs"]
mod secrets;
#[path = "service/shipped.rs"]
mod shipped;
mod support;
