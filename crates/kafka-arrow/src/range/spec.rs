//! What a user may write for a range, before anything is looked up.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::parse;
use super::spark::{Limit, SparkRange};
use super::syntax::RangeSyntaxError;
use super::time::TimeRef;

/// Which offsets of which partitions to read, as the user wrote it.
///
/// - Printing gives a canonical text, which parses to an equal value.
/// - It does not belong to a topic. [`RangeSpec::plan`] checks whether it fits one.
/// - The default is `start:end`.
///
/// ```
/// # use kafka_arrow::range::RangeSpec;
/// let spec: RangeSpec = "0=100:200, 3=50:".parse()?;
/// assert_eq!(spec.to_string(), "0=100:200,3=50:end");
/// # Ok::<(), kafka_arrow::range::RangeSyntaxError>(())
/// ```
///
/// # One range for all partitions
///
/// | text | reads | printed as |
/// |---|---|---|
/// | `start` (`earliest`, `beginning`, `oldest`) | everything | `start:end` |
/// | `end` (`latest`, `newest`) | nothing: the position at the end of the log | `end:end` |
/// | `N`, `N:` | from offset N | `N:end` |
/// | `N:M` | offsets N to M, M excluded | `N:M` |
/// | `:M` | up to offset M | `start:M` |
/// | `+N` | from N offsets after the log start | `+N:end` |
/// | `-N` | the last N offsets | `-N:end` |
/// | `+N:-M`, `100:end`, `start:100`, `:-5` | any two of these bounds | the same |
/// | `@T` | records from time T on | `@T:end` |
/// | `@T1:T2` | records with T1 <= timestamp < T2 | `@T1:T2` |
/// | `@:T2`, `100:@T2` | records before T2 | `@:T2`, `100:@T2` |
/// | `@-48h:-24h`, `@2026-01-14:1h` | times counted from now, or from the first time | the same, dates as instants |
/// | `group:NAME` | from the committed offsets of a consumer group | `group:NAME` |
/// | `s@MS`, `e@MS` | kcat's forms in ms: `@T`, and `@:T` | `@T:end`, `@:T` |
///
/// [`TimeRef`] lists the forms of a time. `+N` and `-N` count offsets in the log, also as an end: `:+10` is
/// the first ten. `s@MS:e@MS` selects records by their timestamp, like `@T1:T2`. kcat itself stops at the
/// first record that is too new, and misses older ones after it.
///
/// # Ranges by partition
///
/// `0=100:200,3=50:` reads two partitions and no others. One item may lack a number; it gives the range of
/// all other partitions: `start:end,3=50:`. With several topics, a number means that partition of each.
///
/// # Spark's forms
///
/// `{"orders":{"0":100,"1":-2}}` gives the start of *every* partition (-2 is the log start, -1 the end).
/// `{"orders":"earliest"}` gives the start of a whole topic. The end is the latest offset. Ranges from
/// [`RangeSpec::from_spark`] print as `spark:{"endingTimestamp":…}` if no other form can express them.
///
/// # Where a `:` separates
///
/// Times contain colons. The first time in `@T1:T2` is the longest text that is a time and leaves a time (or
/// `end`, or nothing) after its `:`. So `@2026-01-14T10:00:30` is one time with seconds, and not the time
/// 10:00 followed by the epoch second 30.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RangeSpec(pub(super) Form);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Form {
    Listed {
        /// The interval of partitions that are not listed. Without it, they are not read.
        rest: Option<Interval>,
        /// Not empty when `rest` is `None`.
        partitions: BTreeMap<i32, Interval>,
    },
    Spark(SparkRange),
}

/// Two bounds. The first is inclusive, the second exclusive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interval {
    pub(super) start: Bound,
    pub(super) end: Bound,
}

/// One side of an [`Interval`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// The first offset that the log still holds.
    LogStart,
    /// The end of the log at the isolation level.
    LogEnd,
    /// This offset; it must exist, or be the end of the log.
    Offset(i64),
    /// This many offsets after the log start, at most the end of the log.
    AfterStart(i64),
    /// This many offsets before the end of the log, at least its start.
    BeforeEnd(i64),
    /// Records by their timestamp.
    Time(TimeRef),
    /// The committed offset of this consumer group. Only valid as a start.
    Group(String),
}

impl RangeSpec {
    pub(super) fn all(interval: Interval) -> Self {
        Self(Form::Listed {
            rest: Some(interval),
            partitions: BTreeMap::new(),
        })
    }

    /// The interval of all partitions that are not listed by number.
    ///
    /// `None` when those are not read, and for Spark's forms.
    pub fn default_interval(&self) -> Option<&Interval> {
        match &self.0 {
            Form::Listed { rest, .. } => rest.as_ref(),
            Form::Spark(_) => None,
        }
    }

    /// The partitions that are listed by number, in ascending order. Empty for Spark's forms.
    pub fn partition_intervals(&self) -> impl Iterator<Item = (i32, &Interval)> {
        match &self.0 {
            Form::Listed { partitions, .. } => Some(partitions),
            Form::Spark(_) => None,
        }
        .into_iter()
        .flatten()
        .map(|(partition, interval)| (*partition, interval))
    }

    /// Whether every partition is read to the end of its log.
    pub fn ends_at_log_end(&self) -> bool {
        match &self.0 {
            Form::Listed { rest, partitions } => {
                let mut intervals = rest.iter().chain(partitions.values());
                intervals.all(|interval| interval.end == Bound::LogEnd)
            }
            Form::Spark(range) => range.end == Limit::Latest,
        }
    }

    /// Whether partitions that are not listed are read too.
    pub fn covers_all_partitions(&self) -> bool {
        match &self.0 {
            Form::Listed { rest, .. } => rest.is_some(),
            Form::Spark(_) => true,
        }
    }
}

impl Default for RangeSpec {
    fn default() -> Self {
        Self::all(Interval {
            start: Bound::LogStart,
            end: Bound::LogEnd,
        })
    }
}

impl Interval {
    /// Where reading starts.
    pub fn start(&self) -> &Bound {
        &self.start
    }

    /// Where reading ends; this offset is not read.
    pub fn end(&self) -> &Bound {
        &self.end
    }
}

impl FromStr for RangeSpec {
    type Err = RangeSyntaxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse::range(text)
    }
}

impl fmt::Display for RangeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Listed { rest, partitions } => {
                let mut separator = "";
                if let Some(interval) = rest {
                    write!(f, "{interval}")?;
                    separator = ",";
                }
                for (partition, interval) in partitions {
                    write!(f, "{separator}{partition}={interval}")?;
                    separator = ",";
                }
                Ok(())
            }
            Form::Spark(range) => range.fmt(f),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.start, &self.end) {
            (Bound::Group(name), _) => write!(f, "group:{name}"),
            (Bound::Time(from), Bound::Time(to)) => write!(f, "@{from}:{to}"),
            (Bound::LogStart, Bound::Time(to)) => write!(f, "@:{to}"),
            (start, end) => write!(f, "{start}:{end}"),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogStart => f.write_str("start"),
            Self::LogEnd => f.write_str("end"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::AfterStart(count) => write!(f, "+{count}"),
            Self::BeforeEnd(count) => write!(f, "-{count}"),
            Self::Time(time) => write!(f, "@{time}"),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}
