//! Runs crossings, as many at a time as there are processors, and reports which ones differ from the table.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::{Cell, pairs::pairs};

/// Runs some of `all`: those that `chosen` selects, or with `KAFKA_SQL_CROSSINGS` those whose line contains
/// that text. With `KAFKA_SQL_CROSSINGS=all`, `chosen` selects the whole product. `check` reports
/// differences.
///
/// # Panics
/// When some crossings differ from the table, after all have run. Each has a line on standard output.
pub(crate) fn run(
    all: Vec<Cell>,
    chosen: impl FnOnce(&[Cell], bool) -> Vec<Cell>,
    check: impl Fn(Cell) -> Result<(), String> + Sync,
) {
    let cells = match std::env::var("KAFKA_SQL_CROSSINGS").as_deref() {
        Ok("all") => chosen(&all, true),
        Ok(part) => {
            let these = all.into_iter();
            these
                .filter(|cell| cell.to_string().contains(part))
                .collect()
        }
        Err(_) => chosen(&all, false),
    };
    let (number, began) = (cells.len(), Instant::now());
    let by_design = cells.iter().filter(|cell| cell.refused().is_some()).count();
    let (next, wrong) = (Mutex::new(cells.into_iter()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, Into::into) {
            scope.spawn(|| {
                loop {
                    let cell = next.lock().expect("nobody panics with it").next();
                    let Some(cell) = cell else { return };
                    // A panic counts as a failure like any other.
                    let done = catch_unwind(AssertUnwindSafe(|| check(cell)));
                    let done = done.unwrap_or_else(|_| Err("panics".to_owned()));
                    if let Err(message) = cell.judge(done) {
                        println!("{cell}: {message}");
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (wrong, seconds) = (wrong.into_inner(), began.elapsed().as_secs());
    println!(
        "{number} crossings, {by_design} of them refused by design, {wrong} not as they must be: {seconds} s"
    );
    assert!(
        wrong == 0,
        "{wrong} of {number} crossings are not as they must be, see above"
    );
}

/// Few crossings in which every pair of two dimensions' values occurs.
pub(crate) fn all_pairs(all: &[Cell], seed: u64) -> Vec<Cell> {
    let indexes: Vec<Vec<usize>> = all.iter().map(Cell::indexes).collect();
    let chosen = pairs(&indexes, seed);
    chosen.iter().map(|cell| Cell::of(cell)).collect()
}
