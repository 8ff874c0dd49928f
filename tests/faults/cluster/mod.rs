//! Faults of a cluster of three nodes, as the tables of `docs/faults.md` list them.

mod bed;
mod brokers;
mod gate;
mod logs;
mod racks;
mod sinks;
mod topics;
mod tried;
