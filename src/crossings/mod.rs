//! The table of crossings: every format with every verb, policy, isolation level and kind of values, over
//! the cluster in memory. What must come of a crossing is worked out from the records alone, in
//! `tests/crossings/model.rs`; a crossing that is refused by design is in [`refused`] with its message.
//!
//! All crossings are run, then the test fails with a line for each that is not as it must be. By itself it
//! runs each format with each verb on each kind of values, with parts, policies and isolation levels in
//! turn, and some more so that all pairs occur; `KAFKA_SQL_CROSSINGS=all` runs the whole product.
//! `tests/jobs/crossings.rs` runs pairs on real brokers.

mod export;
mod job;
#[path = "../../tests/crossings/model.rs"]
mod model;
#[path = "../../tests/crossings/pairs.rs"]
mod pairs;
mod query;
mod world;

use std::fmt;
use std::sync::Arc;

use model::{Format, Isolation, Part, Policy, Values, dimension};
use world::{Common, World};

dimension!(
    /// What is done with the records. A verb that writes also checks what it wrote, reads it back, and
    /// proves that a changed record is found.
    Verb {
        Query, SelfJoin, OrderDescLimit, ReceiptRerun,
        ExportParquet, ExportParquetSql, ExportParquetBy,
        ExportCsv, ExportCsvSql, ExportCsvBy,
        ExportNdjson, ExportNdjsonSql, ExportNdjsonBy,
        JobMemory, JobSqlite, JobParquet, JobWindow, JobCrash,
        Redecode,
    }
);

impl Verb {
    fn is_query(self) -> bool {
        matches!(
            self,
            Self::Query | Self::SelfJoin | Self::OrderDescLimit | Self::ReceiptRerun
        )
    }
}

/// A crossing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    format: Format,
    part: Part,
    values: Values,
    verb: Verb,
    policy: Policy,
    isolation: Isolation,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            format,
            part,
            values,
            verb,
            policy,
            isolation,
        } = self;
        write!(
            f,
            "{format:?} {part:?} {values:?} {verb:?} {policy:?} {isolation:?}"
        )
    }
}

impl Cell {
    /// Whether there is such a crossing at all.
    fn is_possible(&self) -> bool {
        let has_values = self.format.has(self.values);
        let has_part = self.part == Part::Value || !self.format.of_values_alone();
        let set_aside = self.policy == Policy::Dlq && self.values == Values::Bad;
        // Ten megabytes take their time, and policies make no difference to them.
        let usual = self.part == Part::Value
            && self.policy == Policy::Fail
            && self.isolation == Isolation::Committed
            && matches!(
                self.verb,
                Verb::Query | Verb::ReceiptRerun | Verb::ExportParquet | Verb::JobSqlite
            );
        has_values
            && has_part
            && (self.verb != Verb::Redecode || set_aside)
            && (self.values != Values::Big || usual)
    }

    /// The part of the message with which a crossing is refused by design.
    fn refused(&self) -> Option<&'static str> {
        if self.verb.is_query() && self.policy == Policy::Dlq {
            return Some("in a query choose 'fail', 'null' or 'skip'");
        }
        let bad = self.values == Values::Bad;
        if bad && self.policy == Policy::Fail {
            return Some("t[0]@");
        }
        if bad && self.policy == Policy::Skip && self.verb == Verb::ReceiptRerun {
            return Some("a receipt covers every record that was read");
        }
        None
    }

    fn indexes(&self) -> Vec<usize> {
        vec![
            self.format as usize,
            self.part as usize,
            self.values as usize,
            self.verb as usize,
            self.policy as usize,
            self.isolation as usize,
        ]
    }

    fn of(indexes: &[usize]) -> Self {
        Self {
            format: Format::ALL[indexes[0]],
            part: Part::ALL[indexes[1]],
            values: Values::ALL[indexes[2]],
            verb: Verb::ALL[indexes[3]],
            policy: Policy::ALL[indexes[4]],
            isolation: Isolation::ALL[indexes[5]],
        }
    }

    /// Runs it, and says what is not as it must be.
    async fn check(self, common: Arc<Common>) -> Result<(), String> {
        let world = World::new(self, common);
        let done = match self.verb {
            verb if verb.is_query() => query::run(&world).await,
            Verb::JobMemory
            | Verb::JobSqlite
            | Verb::JobParquet
            | Verb::JobWindow
            | Verb::JobCrash
            | Verb::Redecode => job::run(&world).await,
            _ => export::run(&world).await,
        };
        match (done, self.refused()) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(message)) => Err(format!("works, and is to be refused: {message}")),
            (Err(found), Some(message)) if found.contains(message) => Ok(()),
            (Err(found), _) => Err(found),
        }
    }
}

/// All crossings that there are, those of one format, kind of values and verb together.
fn all() -> Vec<Cell> {
    let mut cells = vec![];
    for format in Format::ALL {
        for values in Values::ALL {
            for verb in Verb::ALL {
                for part in Part::ALL {
                    for policy in Policy::ALL {
                        for isolation in Isolation::ALL {
                            cells.push(Cell {
                                format: *format,
                                part: *part,
                                values: *values,
                                verb: *verb,
                                policy: *policy,
                                isolation: *isolation,
                            });
                        }
                    }
                }
            }
        }
    }
    cells.retain(Cell::is_possible);
    cells
}

/// Each format with each kind of values and each verb, with parts, policies and isolation levels in turn;
/// and what is missing of all pairs.
fn chosen(all: &[Cell]) -> Vec<Cell> {
    let mut chosen: Vec<Cell> = vec![];
    let mut turn = 0;
    let same = |a: &Cell, b: &Cell| (a.format, a.values, a.verb) == (b.format, b.values, b.verb);
    for of_one in all.chunk_by(same) {
        chosen.push(of_one[turn % of_one.len()]);
        turn += 3;
    }
    let indexes: Vec<Vec<usize>> = all.iter().map(Cell::indexes).collect();
    for pair in pairs::pairs(&indexes, 12) {
        let cell = Cell::of(&pair);
        if !chosen.contains(&cell) {
            chosen.push(cell);
        }
    }
    chosen
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crossing_is_as_the_table_says() {
    let all = all();
    let cells = match std::env::var("KAFKA_SQL_CROSSINGS").as_deref() {
        Ok("all") => all,
        // A part of a cell's line, to look into it.
        Ok(part) => {
            let these = all
                .into_iter()
                .filter(|cell| cell.to_string().contains(part));
            these.collect()
        }
        Err(_) => chosen(&all),
    };
    let number = cells.len();
    let common = Arc::new(Common::new().await);
    let mut running = tokio::task::JoinSet::new();
    let mut wrong = vec![];
    let mut cells = cells.into_iter();
    let at_once = std::thread::available_parallelism().map_or(2, Into::into);
    loop {
        while running.len() < at_once
            && let Some(cell) = cells.next()
        {
            let checked = tokio::spawn(cell.check(Arc::clone(&common)));
            // A panic is one more way to be wrong.
            running
                .spawn(async move { (cell, checked.await.unwrap_or_else(|e| Err(e.to_string()))) });
        }
        match running.join_next().await {
            Some(Ok((_, Ok(())))) => {}
            Some(Ok((cell, Err(message)))) => wrong.push(format!("{cell}: {message}")),
            Some(Err(error)) => wrong.push(error.to_string()),
            None => break,
        }
    }
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "{} of {number} crossings are not as they must be:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
