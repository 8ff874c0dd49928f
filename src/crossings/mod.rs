//! Runs the table of crossings against the cluster in memory. The table is in `tests/crossings`.
//!
//! By default it runs each format with each verb on each kind of values, cycling through parts, policies and
//! isolation levels, plus more cells so that all pairs occur. `KAFKA_SQL_CROSSINGS=all` runs the whole
//! product. `tests/jobs/crossings.rs` runs pairs on real brokers.

mod export;
mod job;
mod less;
mod masked;
mod query;
#[path = "../../tests/crossings/mod.rs"]
mod table;
mod world;

use std::sync::Arc;

use table::{Cell, Client, Verb, all_pairs, model};
use world::{Common, World};

/// Runs one crossing. The error says what differs from the expectation.
async fn check(cell: Cell, common: Arc<Common>) -> Result<(), String> {
    let world = World::new(cell, common);
    match cell.verb {
        verb if verb.is_query() => query::run(&world).await,
        verb if verb.is_export() => export::run(&world).await,
        _ => job::run(&world).await,
    }
}

/// Each format with each kind of values and each verb, cycling through parts, policies and isolation levels;
/// and cells for the pairs that are still missing.
fn chosen(all: &[Cell]) -> Vec<Cell> {
    let mut chosen: Vec<Cell> = vec![];
    let mut turn = 0;
    let same = |a: &Cell, b: &Cell| (a.format, a.values, a.verb) == (b.format, b.values, b.verb);
    for of_one in all.chunk_by(same) {
        chosen.push(of_one[turn % of_one.len()]);
        turn += 3;
    }
    for cell in all_pairs(all, 12) {
        if !chosen.contains(&cell) {
            chosen.push(cell);
        }
    }
    chosen
}

#[test]
fn every_crossing_is_as_the_table_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let common = Arc::new(runtime.block_on(Common::new()));
    let choose = |all: &[Cell], every: bool| if every { all.to_vec() } else { chosen(all) };
    table::run(Cell::all(&[Client::Memory]), choose, |cell| {
        runtime.block_on(check(cell, Arc::clone(&common)))
    });
}
