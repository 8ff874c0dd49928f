//! The most that the scans of a statement may read: `max.scan.records`, `max.scan.bytes`, `max.scan.time`.

use std::time::Duration;

use super::ConnectionConfig;
use crate::error::{Error, Result};

/// The most that scans may read; no limit unless set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ScanBudget {
    /// `max.scan.records`: records, with those that conditions leave out.
    pub records: Option<u64>,
    /// `max.scan.bytes`: bytes of keys, values and headers, unpacked.
    pub bytes: Option<u64>,
    /// `max.scan.time`: the time from the beginning of the first scan.
    pub time: Option<Duration>,
}

/// Thousands, for numbers of records.
const DECIMAL: u64 = 1000;
/// Thousands, for bytes, as `--memory-limit` has them.
const BINARY: u64 = 1024;

impl ScanBudget {
    /// The names of its settings.
    pub const KEYS: [&str; 3] = ["max.scan.records", "max.scan.bytes", "max.scan.time"];

    /// Whether it limits nothing.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// Sets one of [`KEYS`](Self::KEYS): `1000000` or `5M` records, `500M` or `10G` bytes, a time span such as `30s`;
    /// `none` for no limit.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such setting, or the value is none.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let limited = Some(value.trim()).filter(|value| !value.eq_ignore_ascii_case("none"));
        let refused = |expected: &str| {
            Error::config(
                key,
                format!("expected {expected}, or 'none', found '{value}'"),
            )
        };
        let amount = |thousand: u64, expected: &str| {
            let amount = |value| amount(value, thousand).ok_or_else(|| refused(expected));
            limited.map(amount).transpose()
        };
        match key {
            "max.scan.records" => {
                self.records = amount(DECIMAL, "a number of records such as 1000000 or 50M")?;
            }
            "max.scan.bytes" => {
                self.bytes = amount(BINARY, "a number of bytes such as 500M or 10G")?;
            }
            "max.scan.time" => {
                let span = |value: &str| value.parse::<jiff::SignedDuration>().ok();
                let time = |value| {
                    let time = span(value).and_then(|span| Duration::try_from(span).ok());
                    time.filter(|time| !time.is_zero())
                        .ok_or_else(|| refused("a time span such as '30s' or '10m'"))
                };
                self.time = limited.map(time).transpose()?;
            }
            _ => {
                let keys = Self::KEYS.join(", ");
                let message = format!("there is no such setting; there are {keys}");
                return Err(Error::config(key, message));
            }
        }
        Ok(())
    }

    /// The value of a setting as it is written; `None` where it is no limit.
    pub fn get(&self, key: &str) -> Option<String> {
        match key {
            "max.scan.records" => self.records.map(|n| n.to_string()),
            "max.scan.bytes" => self.bytes.map(|n| n.to_string()),
            "max.scan.time" => {
                let span = jiff::SignedDuration::try_from(self.time?).ok()?;
                Some(format!("{span:#}"))
            }
            _ => None,
        }
    }

    /// The smaller of both limits, each.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.into_iter().chain(other).min()
        }
        Self {
            records: least(self.records, other.records),
            bytes: least(self.bytes, other.bytes),
            time: least(self.time, other.time),
        }
    }
}

/// `10`, `5k`, `20M`, `3G`, `1T`, above 0.
fn amount(text: &str, thousand: u64) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    number
        .checked_mul(thousand.pow(power))
        .filter(|amount| *amount > 0)
}

/// Whether a setting is one of a budget.
pub(super) fn owns(key: &str) -> bool {
    ScanBudget::KEYS.contains(&key)
}

impl ConnectionConfig {
    /// `max.scan.records`, `max.scan.bytes`, `max.scan.time`: what scans with these settings may read.
    pub fn scan_budget(&self) -> ScanBudget {
        let mut budget = ScanBudget::default();
        for key in ScanBudget::KEYS {
            if let Some(value) = self.values.get(key) {
                // It was checked when it was set.
                let _ = budget.set(key, value);
            }
        }
        budget
    }

    /// These settings without a budget, for a session that counts for all of its tables together.
    #[must_use]
    pub fn without_scan_budget(mut self) -> Self {
        self.values.retain(|key, _| !owns(key));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str) -> Result<ScanBudget> {
        let mut budget = ScanBudget::default();
        budget.set(key, value).map(|()| budget)
    }

    #[test]
    fn values_have_units_and_may_be_none() {
        for (key, value, expected) in [
            ("max.scan.records", "1", Some("1")),
            ("max.scan.records", "50M", Some("50000000")),
            ("max.scan.records", "2k", Some("2000")),
            ("max.scan.bytes", "10g", Some("10737418240")),
            ("max.scan.bytes", "512", Some("512")),
            ("max.scan.time", "90s", Some("1m 30s")),
            ("max.scan.time", "PT1H", Some("1h")),
            ("max.scan.time", "none", None),
            ("max.scan.bytes", " None ", None),
        ] {
            let budget = set(key, value).unwrap();
            assert_eq!(budget.get(key).as_deref(), expected, "{key} {value}");
            assert_eq!(budget.is_unlimited(), expected.is_none());
            // What is printed means the same.
            let again = budget.get(key).map(|text| set(key, &text).unwrap());
            assert_eq!(again.unwrap_or_default(), budget, "{key} {value}");
        }
    }

    #[test]
    fn other_values_are_refused() {
        for (key, value) in [
            ("max.scan.records", "0"),
            ("max.scan.records", "-1"),
            ("max.scan.records", "1.5M"),
            ("max.scan.records", "18446744073709551615k"),
            ("max.scan.bytes", "10GB"),
            ("max.scan.bytes", "M"),
            ("max.scan.bytes", ""),
            ("max.scan.time", "10"),
            ("max.scan.time", "-5s"),
            ("max.scan.time", "0s"),
            ("max.scan.rows", "10"),
        ] {
            assert!(set(key, value).is_err(), "{key} {value}");
        }
        assert_eq!(
            set("max.scan.bytes", "10GB").unwrap_err().to_string(),
            "setting 'max.scan.bytes': expected a number of bytes such as 500M or 10G, or 'none', found '10GB'"
        );
    }

    #[test]
    fn both_limits_hold() {
        let one = set("max.scan.records", "10").unwrap();
        let mut other = set("max.scan.records", "20").unwrap();
        other.set("max.scan.time", "1s").unwrap();
        let both = one.and(&other);
        assert_eq!(both.records, Some(10));
        assert_eq!(both.time, Some(Duration::from_secs(1)));
        assert_eq!(both.bytes, None);
    }

    #[test]
    fn a_budget_makes_no_other_client() {
        let mut config = ConnectionConfig::new("a:9092");
        let plain = config.for_reading();
        config.set("kafka.max.scan.records", "5M").unwrap();
        assert_eq!(config.scan_budget().records, Some(5_000_000));
        assert_eq!(config.for_reading(), plain);
        assert_eq!(config.without_scan_budget().for_reading(), plain);
    }
}
