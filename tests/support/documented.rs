//! Tables of `docs/` whose rows are test cases, so that a page says nothing that no test has seen.
//!
//! The first column names the case. Some of the other columns hold outcomes, each under the name of what is
//! tried (a client, say); the rest explain. A cell `—` means that the case does not apply there.

#![allow(unused_macros)] // each test file uses a part of this module

use std::collections::BTreeSet;

/// A test for each row of a table, and one that finds rows without a case and cases without a row.
///
/// A case is an `async fn(column: &str) -> String` beside the macro. It returns what must stand in the cell
/// of that column. Its name is that of the row, in lower case with `_` for everything but letters and digits.
/// Slow cases only run with `make test-slow`.
///
/// ```ignore
/// documented!("faults.md", "Leaders", ["wire", "librdkafka"], [killed_in_mid_scan], slow [rolling_restart]);
/// ```
macro_rules! documented {
    ($page:literal, $heading:literal, $columns:expr, [$($case:ident),* $(,)?], slow [$($slow:ident),* $(,)?]) => {
        mod rows {
            use $crate::support::documented::Table;

            fn table() -> Table {
                Table::read($page, $heading, &$columns)
            }

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                table().check(stringify!($case), async |column| super::$case(column).await).await;
            })*

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "slow: make test-slow"]
            async fn $slow() {
                table().check(stringify!($slow), async |column| super::$slow(column).await).await;
            })*

            #[test]
            fn each_is_a_case() {
                table().lists(&[$(stringify!($case),)* $(stringify!($slow),)*]);
            }
        }
    };
}
pub(crate) use documented;

/// A table of a page.
pub struct Table {
    place: String,
    /// For each row the name of its case, and for each column its name and its cell.
    rows: Vec<(String, Vec<(String, String)>)>,
}

impl Table {
    /// The first table below a heading of a page in `docs/`, with those of its columns that hold outcomes.
    ///
    /// # Panics
    /// When the page has no such heading, or the table no such columns.
    pub fn read(page: &str, heading: &str, columns: &[&str]) -> Self {
        let text = std::fs::read_to_string(super::repository().join("docs").join(page));
        let text = text.unwrap_or_else(|error| panic!("docs/{page}: {error}"));
        let place = format!("docs/{page}, {heading:?}");
        let mut lines = text
            .lines()
            .skip_while(|line| {
                line.trim_start_matches('#').trim() != heading || !line.starts_with('#')
            })
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                line.trim_matches('|')
                    .split('|')
                    .map(str::trim)
                    .collect::<Vec<_>>()
            });
        let header = lines
            .next()
            .unwrap_or_else(|| panic!("{place}: no such table"));
        let places = columns.iter().map(|column| {
            let place_of = header.iter().position(|name| name == column);
            place_of.unwrap_or_else(|| panic!("{place}: no column {column:?} among {header:?}"))
        });
        let places: Vec<usize> = places.collect();
        let rows = lines.skip(1).map(|cells| {
            let outcomes = places.iter().zip(columns);
            let outcomes =
                outcomes.map(|(at, column)| ((*column).to_owned(), cells[*at].to_owned()));
            (case_of(cells[0]), outcomes.collect())
        });
        let rows = rows.collect();
        Self { place, rows }
    }

    /// Runs a case for each column in which its row says an outcome.
    ///
    /// # Panics
    /// When outcomes differ from the row, with all of them.
    pub async fn check(&self, case: &str, run: impl AsyncFn(&str) -> String) {
        let row = self.rows.iter().find(|(name, _)| name == case);
        let (_, cells) = row.unwrap_or_else(|| panic!("{}: no row for {case}", self.place));
        let applying: Vec<_> = cells.iter().filter(|(_, cell)| cell != "—").collect();
        assert!(
            !applying.is_empty(),
            "{}: {case} applies nowhere",
            self.place
        );
        let mut differ = String::new();
        for (column, told) in applying {
            let found = run(column).await;
            if found != *told {
                differ += &format!("\n{column}: the page says {told:?}, the test found {found:?}");
            }
        }
        assert!(differ.is_empty(), "{}: {case}:{differ}", self.place);
    }

    /// # Panics
    /// Unless these are the cases of all rows.
    pub fn lists(&self, cases: &[&str]) {
        let rows: BTreeSet<&str> = self.rows.iter().map(|(case, _)| case.as_str()).collect();
        assert_eq!(
            rows.len(),
            self.rows.len(),
            "{}: two rows are one case",
            self.place
        );
        assert_eq!(rows, cases.iter().copied().collect(), "{}", self.place);
    }
}

/// `Leader killed, in mid-scan` is `leader_killed_in_mid_scan`.
fn case_of(cell: &str) -> String {
    let words = cell.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<String> = words
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("_")
}
