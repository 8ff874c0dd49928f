//! Faults of a cluster of three nodes, as the tables of `docs/faults.md` list them.

pub(crate) mod bed;
mod brokers;
mod continuous;
pub(crate) mod gate;
mod logs;
mod racks;
mod sinks;
mod topics;
pub(crate) mod tried;
