//! What happens to records that do not decode.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, Result, nearest_names};

/// What to do about a record that does not decode: `on.bad.row`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnBadRow {
    /// Fail the query with an error that names the record.
    #[default]
    Fail,
    /// Set the fields of its key or value to NULL. The column `_error` says why.
    Null,
    /// Leave the record out. The ledger counts it as bad.
    Skip,
    /// Leave the record out as `Skip` does, and write it to a separate topic or folder together with the
    /// reason. Only jobs and exports can do this; a query is refused.
    Dlq,
}

impl OnBadRow {
    const NAMES: [(&'static str, Self); 4] = [
        ("fail", Self::Fail),
        ("null", Self::Null),
        ("skip", Self::Skip),
        ("dlq", Self::Dlq),
    ];

    /// Whether records that do not decode are left out of the rows.
    pub fn leaves_out(self) -> bool {
        matches!(self, Self::Skip | Self::Dlq)
    }
}

impl fmt::Display for OnBadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, policy)| policy == self);
        f.write_str(name.map_or("fail", |(name, _)| name))
    }
}

impl FromStr for OnBadRow {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = text.to_ascii_lowercase();
        let known = Self::NAMES.iter().find(|(name, _)| *name == wanted);
        if let Some((_, policy)) = known {
            return Ok(*policy);
        }
        let nearest = nearest_names(&wanted, Self::NAMES.map(|(name, _)| name));
        let hint = nearest.first().map(|n| format!(", did you mean '{n}'?"));
        let expected = "'fail', 'null', 'skip' or 'dlq'";
        let expected = format!("{expected}{}", hint.unwrap_or_default());
        Err(Error::option_value("on.bad.row", text, expected))
    }
}

/// How many bad records a statement, or a batch of a job, tolerates: `bad.row.limit`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum BadRowLimit {
    /// A number of records: `100`.
    Count(u64),
    /// A share of the records, in percent: `0.1%`. It is checked at the end, and from 1,000 records on.
    Percent(f64),
}

impl BadRowLimit {
    /// Whether these are too many. A share is judged at the end, and from 1,000 records on.
    pub fn is_exceeded(self, records: u64, bad: u64, at_end: bool) -> bool {
        match self {
            Self::Count(most) => bad > most,
            Self::Percent(most) => (at_end || records >= JUDGED_FROM) && share(bad, records) > most,
        }
    }
}

impl FromStr for BadRowLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let expected = "a number of records such as '100' or a share such as '0.1%'";
            Error::option_value("bad.row.limit", text, expected)
        };
        match text.trim().strip_suffix('%') {
            Some(share) => {
                let share: f64 = share.trim().parse().map_err(|_| refused())?;
                let fits = (0.0..=100.0).contains(&share);
                fits.then_some(Self::Percent(share)).ok_or_else(refused)
            }
            None => text.trim().parse().map(Self::Count).map_err(|_| refused()),
        }
    }
}

impl fmt::Display for BadRowLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(records) => write!(f, "{records}"),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// A table's policy for bad records.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BadRows {
    /// What to do about a record that does not decode.
    pub on: OnBadRow,
    /// How many bad records to tolerate.
    pub limit: Option<BadRowLimit>,
}

impl BadRows {
    /// Whether to check all fields of every record, whichever columns a query names. The choice of columns
    /// must change neither rows nor failures.
    pub fn checks_all(&self) -> bool {
        self.on != OnBadRow::Null || self.limit.is_some()
    }
}

/// A share is judged once this many records were read.
const JUDGED_FROM: u64 = 1000;

/// The bad records of a statement, which is read in parts. A part that is read again is counted from
/// nothing, so that a record counts once.
#[derive(Debug, Default)]
pub struct BadRowCount {
    limit: Option<BadRowLimit>,
    /// The last reading of each part.
    parts: Mutex<Vec<Arc<Reading>>>,
    /// One of the bad records, and what is wrong with it.
    example: OnceLock<String>,
}

/// What one reading of a part has counted.
#[derive(Debug)]
struct Reading {
    records: AtomicU64,
    bad: AtomicU64,
    /// Streams that have not ended.
    open: AtomicUsize,
}

impl Reading {
    fn new(streams: usize) -> Arc<Self> {
        Arc::new(Self {
            records: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            open: AtomicUsize::new(streams),
        })
    }
}

/// The count of one reading of a part, shared by its streams.
#[derive(Debug, Clone)]
pub struct BadRowPart {
    statement: Arc<BadRowCount>,
    reading: Arc<Reading>,
}

impl BadRowCount {
    /// For a statement that is read in `parts`.
    pub fn new(limit: Option<BadRowLimit>, parts: usize) -> Self {
        Self {
            limit,
            // What was not begun has not ended either.
            parts: Mutex::new((0..parts).map(|_| Reading::new(1)).collect()),
            ..Self::default()
        }
    }

    /// Begins to read a part with `streams`. What was counted of it before is forgotten.
    pub fn begin(self: &Arc<Self>, part: usize, streams: usize) -> BadRowPart {
        let reading = Reading::new(streams);
        if let Some(last) = self.lock().get_mut(part) {
            *last = Arc::clone(&reading);
        }
        BadRowPart {
            statement: Arc::clone(self),
            reading,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Reading>>> {
        // The list is whole after any panic: its elements are only ever replaced.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the bad records, and what is wrong with it.
    pub fn example(&self) -> Option<&str> {
        self.example.get().map(String::as_str)
    }

    /// Records and bad ones among them.
    fn total(&self) -> (u64, u64) {
        self.lock().iter().fold((0, 0), |(records, bad), part| {
            (
                records + part.records.load(Ordering::Relaxed),
                bad + part.bad.load(Ordering::Relaxed),
            )
        })
    }

    fn error(&self, limit: BadRowLimit, records: u64, bad: u64) -> Error {
        Error::BadRowLimit {
            limit: limit.to_string(),
            records,
            bad,
            example: self.example().unwrap_or_default().to_owned(),
        }
    }
}

impl BadRowPart {
    /// Counts the records of a batch and the bad ones among them; `first` tells of one.
    ///
    /// # Errors
    /// [`Error::BadRowLimit`] when the statement has more than the limit allows.
    pub fn add(&self, records: u64, bad: u64, first: Option<String>) -> Result<()> {
        let statement = &self.statement;
        let Some(limit) = statement.limit else {
            return Ok(());
        };
        if let Some(first) = first {
            statement.example.get_or_init(|| first);
        }
        self.reading.records.fetch_add(records, Ordering::Relaxed);
        self.reading.bad.fetch_add(bad, Ordering::Relaxed);
        let (records, bad) = statement.total();
        if limit.is_exceeded(records, bad, false) {
            return Err(statement.error(limit, records, bad));
        }
        Ok(())
    }

    /// Notes that a stream has ended. With the last stream a share is checked, however few records there
    /// were.
    ///
    /// # Errors
    /// [`Error::BadRowLimit`] when the limit is exceeded.
    pub fn end(&self) -> Result<()> {
        self.reading.open.fetch_sub(1, Ordering::AcqRel);
        let statement = &self.statement;
        let Some(limit @ BadRowLimit::Percent(_)) = statement.limit else {
            return Ok(());
        };
        let open = |part: &Arc<Reading>| part.open.load(Ordering::Acquire) > 0;
        if statement.lock().iter().any(open) {
            return Ok(());
        }
        let (records, bad) = statement.total();
        if limit.is_exceeded(records, bad, true) {
            return Err(statement.error(limit, records, bad));
        }
        Ok(())
    }
}

fn share(bad: u64, records: u64) -> f64 {
    if records == 0 {
        return 0.0;
    }
    bad as f64 * 100.0 / records as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_counts_or_shares() {
        assert_eq!(
            "100".parse::<BadRowLimit>().unwrap(),
            BadRowLimit::Count(100)
        );
        assert_eq!(
            "0.1%".parse::<BadRowLimit>().unwrap(),
            BadRowLimit::Percent(0.1)
        );
        for wrong in ["", "%", "-1", "101%", "many", "nan%"] {
            assert!(wrong.parse::<BadRowLimit>().is_err(), "{wrong}");
        }
        let error = "skp".parse::<OnBadRow>().unwrap_err().to_string();
        assert!(error.ends_with("did you mean 'skip'?"), "{error}");
    }

    fn count(limit: BadRowLimit, parts: usize) -> Arc<BadRowCount> {
        Arc::new(BadRowCount::new(Some(limit), parts))
    }

    #[test]
    fn a_count_fails_when_it_is_exceeded() {
        let count = count(BadRowLimit::Count(2), 2);
        let (first, second) = (count.begin(0, 1), count.begin(1, 1));
        first.add(10, 2, None).unwrap();
        second.add(10, 0, None).unwrap();
        let error = second
            .add(10, 1, Some("t[0]@7: bad".to_owned()))
            .unwrap_err();
        assert!(
            error.to_string().contains("for example t[0]@7: bad"),
            "{error}"
        );
        assert!(
            matches!(
                error,
                Error::BadRowLimit {
                    records: 30,
                    bad: 3,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_share_is_judged_from_a_thousand_records_on_and_at_the_end() {
        let limit = BadRowLimit::Percent(1.0);
        let part = count(limit, 1).begin(0, 1);
        part.add(100, 50, None).unwrap();
        assert!(part.add(900, 0, None).is_err());

        let both = count(limit, 2);
        let part = both.begin(0, 1);
        part.add(10, 1, None).unwrap();
        part.end().unwrap();
        let part = both.begin(1, 2);
        part.add(80, 0, None).unwrap();
        part.end().unwrap();
        assert!(part.clone().end().is_err());

        count(limit, 1).begin(0, 1).end().unwrap();
    }

    #[test]
    fn a_part_that_is_read_again_counts_anew() {
        let count = count(BadRowLimit::Count(3), 2);
        count.begin(0, 1).add(10, 2, None).unwrap();
        let before = count.begin(1, 1);
        before.add(10, 1, None).unwrap();
        let again = count.begin(1, 1);
        again.add(10, 1, None).unwrap();
        // The reading before may still go on; it counts for nothing.
        before.add(10, 9, None).unwrap();
        assert!(again.add(10, 1, None).is_err());
    }
}
