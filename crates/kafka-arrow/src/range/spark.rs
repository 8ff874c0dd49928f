//! Spark's options for offsets, with Spark's precedence and strictness.

use std::collections::BTreeMap;
use std::fmt;

use super::json::{self, Node, quoted};
use super::spec::{Form, RangeSpec};
use super::syntax::{Part, RangeSyntaxError, excerpt};
use super::time::{self, TimeRef};
use crate::error::Error;

/// The prefix of a text that holds Spark's options as JSON.
pub(super) const PREFIX: &str = "spark:";

/// Spark's number for the end of the log.
pub(super) const LATEST: i64 = -1;
/// Spark's number for the start of the log.
pub(super) const EARLIEST: i64 = -2;

/// Spark's options that choose offsets, as they were written; see [`RangeSpec::from_spark`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SparkOffsets {
    /// `startingOffsets`: `earliest`, or JSON.
    pub starting_offsets: Option<String>,
    /// `endingOffsets`: `latest`, or JSON.
    pub ending_offsets: Option<String>,
    /// `startingOffsetsByTimestamp`: JSON, in ms since the epoch.
    pub starting_offsets_by_timestamp: Option<String>,
    /// `endingOffsetsByTimestamp`: JSON, in ms since the epoch.
    pub ending_offsets_by_timestamp: Option<String>,
    /// `startingTimestamp`: ms since the epoch, for all partitions.
    pub starting_timestamp: Option<String>,
    /// `endingTimestamp`: ms since the epoch, for all partitions.
    pub ending_timestamp: Option<String>,
    /// `startingOffsetsByTimestampStrategy`: `error` (the default) or `latest`.
    pub starting_offsets_by_timestamp_strategy: Option<String>,
}

/// A range by Spark's rules. It is never `earliest` to `latest`, which is `start:end`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SparkRange {
    pub(super) start: Limit,
    pub(super) end: Limit,
    /// Whether a start time without a match means the end of the log. Otherwise it is an error.
    pub(super) no_match_is_latest: bool,
}

/// One side of a range.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Limit {
    Earliest,
    Latest,
    /// Explicit offsets, [`EARLIEST`] or [`LATEST`].
    Offsets(ByTopic),
    /// Times in ms.
    Times(ByTopic),
    /// The same time in ms for all partitions.
    Time(i64),
}

pub(super) type ByTopic = BTreeMap<String, ByPartition>;

/// The values of a topic's partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ByPartition {
    /// The same value for all.
    All(i64),
    /// A value for each.
    Each(BTreeMap<i32, i64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Start,
    End,
}

/// An option that is refused, with the reason.
struct Refused {
    key: &'static str,
    message: String,
}

impl SparkOffsets {
    /// Spark's name for an option that ends the range, if one is set.
    pub fn ending_option(&self) -> Option<&'static str> {
        let given = [
            &self.ending_timestamp,
            &self.ending_offsets_by_timestamp,
            &self.ending_offsets,
        ];
        let mut keys = given.into_iter().zip(Side::End.keys());
        keys.find_map(|(value, key)| value.as_ref().map(|_| key))
    }
}

impl RangeSpec {
    /// The range that Spark's batch source would read.
    ///
    /// - Timestamps are *looked up* on both sides. The range begins at the first offset whose record has at
    ///   least the starting timestamp. It ends before the first offset whose record has at least the ending
    ///   timestamp. Unlike `@T1:T2`, no record is filtered by its timestamp. A start without a match is an
    ///   error unless the strategy is `latest`; an end without a match is the latest offset.
    /// - A timestamp for all partitions overrides timestamps by partition, and those override offsets.
    ///   Overridden options are not even parsed.
    /// - Without options the range is everything: earliest to latest.
    /// - JSON must name exactly the partitions of the selected topics. [`RangeSpec::plan`] checks this.
    /// - Beyond Spark, the partitions of a topic may share a value (`{"a":"earliest"}`), and a timestamp may
    ///   be a date or RFC 3339.
    ///
    /// # Errors
    /// [`Error::Config`] with Spark's name of the option when a value is malformed, a start is
    /// `latest` or an end is `earliest`.
    pub fn from_spark(options: &SparkOffsets) -> Result<Self, Error> {
        from_options(options).map_err(|refused| Error::config(refused.key, refused.message))
    }
}

fn from_options(options: &SparkOffsets) -> Result<RangeSpec, Refused> {
    let start = side(
        Side::Start,
        options.starting_timestamp.as_deref(),
        options.starting_offsets_by_timestamp.as_deref(),
        options.starting_offsets.as_deref(),
    )?;
    let end = side(
        Side::End,
        options.ending_timestamp.as_deref(),
        options.ending_offsets_by_timestamp.as_deref(),
        options.ending_offsets.as_deref(),
    )?;
    let strategy = options.starting_offsets_by_timestamp_strategy.as_deref();
    let latest = match strategy.map(|s| s.trim().to_ascii_lowercase()).as_deref() {
        None | Some("error") => false,
        Some("latest") => true,
        Some(_) => {
            return Err(Refused {
                key: STRATEGY,
                message: format!(
                    "expected 'error' or 'latest', found '{}'",
                    excerpt(strategy.unwrap_or_default())
                ),
            });
        }
    };
    if start == Limit::Earliest && end == Limit::Latest {
        return Ok(RangeSpec::default());
    }
    let by_time = matches!(start, Limit::Time(_) | Limit::Times(_));
    Ok(RangeSpec(Form::Spark(SparkRange {
        start,
        end,
        no_match_is_latest: latest && by_time,
    })))
}

const STRATEGY: &str = "startingOffsetsByTimestampStrategy";

impl Side {
    /// The names of a side's three options, by falling precedence.
    fn keys(self) -> [&'static str; 3] {
        match self {
            Self::Start => [
                "startingTimestamp",
                "startingOffsetsByTimestamp",
                "startingOffsets",
            ],
            Self::End => [
                "endingTimestamp",
                "endingOffsetsByTimestamp",
                "endingOffsets",
            ],
        }
    }
}

fn side(
    side: Side,
    timestamp: Option<&str>,
    by_timestamp: Option<&str>,
    offsets: Option<&str>,
) -> Result<Limit, Refused> {
    let [timestamp_key, by_timestamp_key, offsets_key] = side.keys();
    let refused = |key| move |message| Refused { key, message };
    if let Some(text) = timestamp {
        return time_ms(text)
            .map(Limit::Time)
            .map_err(refused(timestamp_key));
    }
    if let Some(text) = by_timestamp {
        return json::parse(text)
            .and_then(|node| by_topic(node, &Values::Times))
            .map(Limit::Times)
            .map_err(refused(by_timestamp_key));
    }
    match offsets {
        Some(text) => offset_limit(side, text).map_err(refused(offsets_key)),
        None if side == Side::Start => Ok(Limit::Earliest),
        None => Ok(Limit::Latest),
    }
}

fn offset_limit(side: Side, text: &str) -> Result<Limit, String> {
    let text = text.trim();
    match (side, text.to_ascii_lowercase().as_str()) {
        (Side::Start, "earliest") => return Ok(Limit::Earliest),
        (Side::End, "latest") => return Ok(Limit::Latest),
        (Side::Start, "latest") => return Err(NO_LATEST_START.to_owned()),
        (Side::End, "earliest") => return Err(NO_EARLIEST_END.to_owned()),
        _ => {}
    }
    let word = match side {
        Side::Start => "earliest",
        Side::End => "latest",
    };
    if !text.starts_with('{') {
        return Err(format!(
            "expected '{word}' or JSON such as {{\"topic\":{{\"0\":100,\"1\":200}}}}, found '{}'; \
             other forms ('100:200', '-10', '@-1h:end') belong in the option 'range'",
            excerpt(text)
        ));
    }
    let sentinel = match side {
        Side::Start => EARLIEST,
        Side::End => LATEST,
    };
    let offsets = json::parse(text).and_then(|node| by_topic(node, &Values::Offsets))?;
    let wrong = |value: &i64| *value < 0 && *value != sentinel;
    let refused = offsets.iter().find_map(|(topic, partitions)| {
        let topic = excerpt(topic);
        match partitions {
            ByPartition::All(value) => wrong(value).then(|| format!("topic '{topic}'")),
            ByPartition::Each(values) => {
                let (partition, _) = values.iter().find(|(_, value)| wrong(value))?;
                Some(format!("{topic}[{partition}]"))
            }
        }
    });
    match (refused, side) {
        (None, _) => Ok(Limit::Offsets(offsets)),
        (Some(at), Side::Start) => Err(format!("{at}: {NO_LATEST_START}")),
        (Some(at), Side::End) => Err(format!("{at}: {NO_EARLIEST_END}")),
    }
}

const NO_LATEST_START: &str = "a query cannot start at 'latest' (-1): it would read nothing; \
     write 'earliest' (-2) or an offset";
const NO_EARLIEST_END: &str = "a query cannot end at 'earliest' (-2): it would read nothing; \
     write 'latest' (-1) or an offset";

/// A timestamp: ms since the epoch with any number of digits, a date or RFC 3339. It may lie beyond the
/// calendar: Spark's users write 9223372036854775807 for "never".
fn time_ms(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let parsed = match text.parse() {
        Ok(ms) => (ms >= 0).then_some(ms),
        Err(_) => match time::parse(text) {
            Ok(TimeRef::Instant(ms)) => Some(ms),
            _ => None,
        },
    };
    parsed.ok_or_else(|| {
        format!(
            "expected milliseconds since 1970, a date or RFC 3339, found '{}'",
            excerpt(text)
        )
    })
}

/// Parses `{"topic":{"partition":offset}}`, which gives the starts; ranges extend to the end of the log.
pub(super) fn parse_offsets_json(text: Part<'_>) -> Result<RangeSpec, RangeSyntaxError> {
    const EXPECTED: &str =
        r#"JSON such as {"topic":{"0":100,"1":-2}} (offsets, -2 for the start, -1 for the end)"#;
    let node = parse_json(text, EXPECTED)?;
    let offsets = by_topic(node, &Values::Offsets)
        .map_err(|message| text.error_found(0, EXPECTED, message))?;
    Ok(RangeSpec(Form::Spark(SparkRange {
        start: Limit::Offsets(offsets),
        end: Limit::Latest,
        no_match_is_latest: false,
    })))
}

/// Parses `spark:{"startingOffsets":…}`, which [`SparkRange`] prints.
pub(super) fn parse_options_json(text: Part<'_>) -> Result<RangeSpec, RangeSyntaxError> {
    const EXPECTED: &str = r#"Spark's options as JSON such as {"startingTimestamp":1768348800000}"#;
    let refuse = |message: String| text.error_found(0, EXPECTED, message);
    let Node::Object(entries) = parse_json(text, EXPECTED)? else {
        return Err(text.error_at_char(EXPECTED));
    };
    let mut options = SparkOffsets::default();
    for (key, value) in entries {
        let slot = match key.as_str() {
            "startingOffsets" => &mut options.starting_offsets,
            "endingOffsets" => &mut options.ending_offsets,
            "startingOffsetsByTimestamp" => &mut options.starting_offsets_by_timestamp,
            "endingOffsetsByTimestamp" => &mut options.ending_offsets_by_timestamp,
            "startingTimestamp" => &mut options.starting_timestamp,
            "endingTimestamp" => &mut options.ending_timestamp,
            STRATEGY => &mut options.starting_offsets_by_timestamp_strategy,
            _ => return Err(refuse(format!("the key '{}'", excerpt(&key)))),
        };
        let value = match value {
            Node::Text(text) => text,
            other => other.to_string(),
        };
        if slot.replace(value).is_some() {
            return Err(refuse(format!("the key '{key}' twice")));
        }
    }
    from_options(&options)
        .map_err(|refused| refuse(format!("'{}': {}", refused.key, refused.message)))
}

fn parse_json(text: Part<'_>, expected: &str) -> Result<Node, RangeSyntaxError> {
    serde_json::from_str(text.text()).map_err(|error| {
        text.error_found(
            json::position(text.text(), &error),
            expected,
            json::words(&error),
        )
    })
}

/// What kind of values a JSON map has.
#[derive(PartialEq, Eq)]
enum Values {
    Offsets,
    Times,
}

fn by_topic(node: Node, values: &Values) -> Result<ByTopic, String> {
    let Node::Object(entries) = node else {
        return Err(format!("expected an object of topics, found {node}"));
    };
    let mut topics = ByTopic::new();
    for (topic, node) in entries {
        let of_topic = match node {
            Node::Object(entries) => ByPartition::Each(by_partition(&topic, entries, values)?),
            other => ByPartition::All(topic_value(&topic, &other, values)?),
        };
        if topics.contains_key(&topic) {
            return Err(format!("the topic '{}' is named twice", excerpt(&topic)));
        }
        topics.insert(topic, of_topic);
    }
    if topics.is_empty() {
        return Err("expected at least one topic, found {}".to_owned());
    }
    Ok(topics)
}

fn topic_value(topic: &str, node: &Node, values: &Values) -> Result<i64, String> {
    match (values, node) {
        (Values::Offsets, Node::Text(text)) if text.eq_ignore_ascii_case("earliest") => {
            Ok(EARLIEST)
        }
        (Values::Offsets, Node::Text(text)) if text.eq_ignore_ascii_case("latest") => Ok(LATEST),
        (Values::Offsets, _) => Err(format!(
            "topic '{}': expected \"earliest\", \"latest\" or an object of partitions, found {node}",
            excerpt(topic)
        )),
        (Values::Times, _) => {
            time_value(node).map_err(|m| format!("topic '{}': {m}", excerpt(topic)))
        }
    }
}

fn by_partition(
    topic: &str,
    entries: Vec<(String, Node)>,
    values: &Values,
) -> Result<BTreeMap<i32, i64>, String> {
    let topic = excerpt(topic);
    let mut partitions = BTreeMap::new();
    for (key, node) in entries {
        let partition: i32 = key
            .parse()
            .ok()
            .filter(|p| *p >= 0)
            .ok_or_else(|| format!("topic '{topic}': '{}' is no partition", excerpt(&key)))?;
        let value = match values {
            Values::Times => time_value(&node),
            Values::Offsets => offset_value(&node),
        }
        .map_err(|message| format!("{topic}[{partition}]: {message}"))?;
        if partitions.insert(partition, value).is_some() {
            return Err(format!("{topic}[{partition}] is named twice"));
        }
    }
    Ok(partitions)
}

fn offset_value(node: &Node) -> Result<i64, String> {
    match node {
        Node::Number(offset) if *offset >= EARLIEST => Ok(*offset),
        _ => Err(format!(
            "expected an offset, -2 (earliest) or -1 (latest), found {node}"
        )),
    }
}

fn time_value(node: &Node) -> Result<i64, String> {
    match node {
        Node::Text(text) => time_ms(text),
        other => time_ms(&other.to_string()),
    }
}

impl fmt::Display for SparkRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Limit::Offsets(offsets), Limit::Latest) = (&self.start, &self.end) {
            return f.write_str(&topics_text(offsets, &Values::Offsets));
        }
        let mut options = Vec::new();
        for (side, limit) in [(Side::Start, &self.start), (Side::End, &self.end)] {
            let [timestamp, by_timestamp, offsets] = side.keys();
            match limit {
                // The defaults. `latest` is never a start here, and `earliest` never an end.
                Limit::Earliest | Limit::Latest => {}
                Limit::Offsets(topics) => {
                    options.push(format!(
                        "\"{offsets}\":{}",
                        topics_text(topics, &Values::Offsets)
                    ));
                }
                Limit::Times(topics) => options.push(format!(
                    "\"{by_timestamp}\":{}",
                    topics_text(topics, &Values::Times)
                )),
                Limit::Time(ms) => options.push(format!("\"{timestamp}\":{ms}")),
            }
        }
        if self.no_match_is_latest {
            options.push(format!("\"{STRATEGY}\":\"latest\""));
        }
        write!(f, "{PREFIX}{{{}}}", options.join(","))
    }
}

fn topics_text(topics: &ByTopic, values: &Values) -> String {
    let topics: Vec<String> = topics
        .iter()
        .map(|(topic, partitions)| {
            let value = match partitions {
                ByPartition::All(EARLIEST) if *values == Values::Offsets => {
                    "\"earliest\"".to_owned()
                }
                ByPartition::All(LATEST) if *values == Values::Offsets => "\"latest\"".to_owned(),
                ByPartition::All(value) => value.to_string(),
                ByPartition::Each(each) => {
                    let each: Vec<String> = each
                        .iter()
                        .map(|(p, value)| format!("\"{p}\":{value}"))
                        .collect();
                    format!("{{{}}}", each.join(","))
                }
            };
            format!("{}:{value}", quoted(topic))
        })
        .collect();
    format!("{{{}}}", topics.join(","))
}
