//! What happens to records that do not decode.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
        Err(Error::invalid(format!(
            "option 'on.bad.row' = '{text}': expected 'fail', 'null', 'skip' or 'dlq'{}",
            hint.unwrap_or_default()
        )))
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

impl FromStr for BadRowLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            Error::invalid(format!(
                "option 'bad.row.limit' = '{text}': expected a number of records such as '100' or a \
                 share such as '0.1%'"
            ))
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
    pub(crate) fn checks_all(&self) -> bool {
        self.on != OnBadRow::Null || self.limit.is_some()
    }
}

/// The number of records from which on a share is checked.
const JUDGED_FROM: u64 = 1000;

/// The bad records of a statement, counted across all its streams.
#[derive(Debug, Default)]
pub struct BadRowCount {
    limit: Option<BadRowLimit>,
    records: AtomicU64,
    bad: AtomicU64,
    /// One bad record, with its fault.
    example: OnceLock<String>,
    /// The number of streams that have not ended.
    open: AtomicUsize,
}

impl BadRowCount {
    /// A count for a statement that reads with `streams` streams.
    pub fn new(limit: Option<BadRowLimit>, streams: usize) -> Self {
        Self {
            limit,
            open: AtomicUsize::new(streams),
            ..Self::default()
        }
    }

    /// Adds the records of a batch and the bad ones among them. `first` describes one of the bad records.
    ///
    /// # Errors
    /// [`Error::BadRowLimit`] when the limit is exceeded.
    pub fn add(&self, records: u64, bad: u64, first: Option<String>) -> Result<()> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        if let Some(first) = first {
            self.example.get_or_init(|| first);
        }
        let records = records + self.records.fetch_add(records, Ordering::Relaxed);
        let bad = bad + self.bad.fetch_add(bad, Ordering::Relaxed);
        let exceeded = match limit {
            BadRowLimit::Count(most) => bad > most,
            BadRowLimit::Percent(most) => records >= JUDGED_FROM && share(bad, records) > most,
        };
        if exceeded {
            return Err(self.error(limit, records, bad));
        }
        Ok(())
    }

    /// Notes that a stream has ended. With the last stream a share is checked, however few records there
    /// were.
    ///
    /// # Errors
    /// [`Error::BadRowLimit`] when the limit is exceeded.
    pub fn end(&self) -> Result<()> {
        let last = self.open.fetch_sub(1, Ordering::Relaxed) == 1;
        let (records, bad) = (
            self.records.load(Ordering::Relaxed),
            self.bad.load(Ordering::Relaxed),
        );
        match self.limit {
            Some(limit @ BadRowLimit::Percent(most)) if last && share(bad, records) > most => {
                Err(self.error(limit, records, bad))
            }
            _ => Ok(()),
        }
    }

    fn error(&self, limit: BadRowLimit, records: u64, bad: u64) -> Error {
        Error::BadRowLimit {
            limit: limit.to_string(),
            records,
            bad,
            example: self.example.get().cloned().unwrap_or_default(),
        }
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

    #[test]
    fn a_count_fails_when_it_is_exceeded() {
        let count = BadRowCount::new(Some(BadRowLimit::Count(2)), 1);
        count.add(10, 2, None).unwrap();
        count.add(10, 0, None).unwrap();
        let error = count
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
        let limit = Some(BadRowLimit::Percent(1.0));
        let count = BadRowCount::new(limit, 1);
        count.add(100, 50, None).unwrap();
        assert!(count.add(900, 0, None).is_err());

        let count = BadRowCount::new(limit, 2);
        count.add(10, 1, None).unwrap();
        count.end().unwrap();
        count.add(80, 0, None).unwrap();
        assert!(count.end().is_err());

        let count = BadRowCount::new(limit, 1);
        count.end().unwrap();
    }
}
