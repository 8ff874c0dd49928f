//! Spark's options: precedence, strictness and messages.

use proptest::prelude::*;

use crate::error::Error;
use crate::range::{
    IsolationLevel, LogBounds, LookupFacts, RangeSpec, SparkOffsets, TopicPartition,
};

const T: &str = "1768348800000";

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn spec(options: SparkOffsets) -> String {
    RangeSpec::from_spark(&options).unwrap().to_string()
}

fn partitions() -> Vec<TopicPartition> {
    [("a", 0), ("a", 1), ("b", 0)]
        .map(|(topic, partition)| TopicPartition::new(topic, partition))
        .to_vec()
}

/// The ranges of a[0], a[1] and b[0], whose logs are 10..100 each.
fn bound(
    options: &SparkOffsets,
    look_up: impl Fn(i64) -> Option<i64>,
) -> Result<Vec<(i64, i64)>, Error> {
    let plan = RangeSpec::from_spark(options)?.plan(&partitions(), 0)?;
    assert!(!plan.needs_timestamp_type);
    let log = LogBounds {
        start: 10,
        end: 100,
    };
    let facts = LookupFacts {
        isolation: IsolationLevel::ReadUncommitted,
        bounds: partitions().into_iter().map(|p| (p, log)).collect(),
        timestamps: plan
            .timestamps
            .iter()
            .map(|key| (key.clone(), look_up(key.1)))
            .collect(),
        ..Default::default()
    };
    let ranges = plan.bind(&facts)?;
    assert!(ranges.iter().all(|r| (r.from_ms, r.to_ms) == (None, None)));
    Ok(ranges
        .iter()
        .map(|r| (r.range.start, r.range.end))
        .collect())
}

#[test]
fn without_options_everything_is_read() {
    assert_eq!(
        RangeSpec::from_spark(&SparkOffsets::default()).unwrap(),
        RangeSpec::default()
    );
    let options = SparkOffsets {
        starting_offsets: text(" EARLIEST "),
        ending_offsets: text("latest"),
        ..Default::default()
    };
    assert_eq!(spec(options), "start:end");
}

#[test]
fn timestamp_beats_timestamps_beat_offsets() {
    // As in Spark, overridden options are not parsed.
    let mut options = SparkOffsets {
        starting_timestamp: text(T),
        starting_offsets_by_timestamp: text(r#"{"a":{"0":5}}"#),
        starting_offsets: text("nonsense"),
        ending_timestamp: text("1768348800001"),
        ending_offsets_by_timestamp: text(r#"{"a":{"0":6}}"#),
        ending_offsets: text("nonsense"),
        ..Default::default()
    };
    assert_eq!(
        spec(options.clone()),
        r#"spark:{"startingTimestamp":1768348800000,"endingTimestamp":1768348800001}"#
    );
    options.starting_timestamp = None;
    options.ending_timestamp = None;
    assert_eq!(
        spec(options.clone()),
        r#"spark:{"startingOffsetsByTimestamp":{"a":{"0":5}},"endingOffsetsByTimestamp":{"a":{"0":6}}}"#
    );
    options.starting_offsets_by_timestamp = None;
    options.ending_offsets_by_timestamp = None;
    assert!(RangeSpec::from_spark(&options).is_err());
}

#[test]
fn refused_in_these_words() {
    const JSON_HINT: &str =
        "other forms ('100:200', '-10', '@-1h:end') belong in the option 'range'";
    let start = |value: &str| SparkOffsets {
        starting_offsets: text(value),
        ..Default::default()
    };
    let end = |value: &str| SparkOffsets {
        ending_offsets: text(value),
        ..Default::default()
    };
    for (options, message) in [
        (
            start("latest"),
            "setting 'startingOffsets': a query cannot start at 'latest' (-1): it would read nothing; \
             write 'earliest' (-2) or an offset"
                .to_owned(),
        ),
        (
            start(r#"{"a":{"0":-2,"1":-1}}"#),
            "setting 'startingOffsets': a[1]: a query cannot start at 'latest' (-1): it would read nothing; \
             write 'earliest' (-2) or an offset"
                .to_owned(),
        ),
        (
            end("earliest"),
            "setting 'endingOffsets': a query cannot end at 'earliest' (-2): it would read nothing; \
             write 'latest' (-1) or an offset"
                .to_owned(),
        ),
        (
            end(r#"{"a":"earliest"}"#),
            "setting 'endingOffsets': topic 'a': a query cannot end at 'earliest' (-2): it would read nothing; \
             write 'latest' (-1) or an offset"
                .to_owned(),
        ),
        (
            start("100:200"),
            format!(
                "setting 'startingOffsets': expected 'earliest' or JSON such as \
                 {{\"topic\":{{\"0\":100,\"1\":200}}}}, found '100:200'; {JSON_HINT}"
            ),
        ),
        (
            end("100"),
            format!(
                "setting 'endingOffsets': expected 'latest' or JSON such as \
                 {{\"topic\":{{\"0\":100,\"1\":200}}}}, found '100'; {JSON_HINT}"
            ),
        ),
        (
            start(r#"{"a":{"0":1}"#),
            "setting 'startingOffsets': expected JSON: EOF while parsing an object at column 12".to_owned(),
        ),
        (
            SparkOffsets {
                starting_timestamp: text("-1h"),
                ..Default::default()
            },
            "setting 'startingTimestamp': expected milliseconds since 1970, a date or RFC 3339, found '-1h'"
                .to_owned(),
        ),
        (
            SparkOffsets {
                ending_offsets_by_timestamp: text(r#"{"a":{"0":-5}}"#),
                ..Default::default()
            },
            "setting 'endingOffsetsByTimestamp': a[0]: expected milliseconds since 1970, a date or RFC 3339, \
             found '-5'"
                .to_owned(),
        ),
        (
            SparkOffsets {
                starting_offsets_by_timestamp_strategy: text("earliest"),
                ..Default::default()
            },
            "setting 'startingOffsetsByTimestampStrategy': expected 'error' or 'latest', found 'earliest'"
                .to_owned(),
        ),
    ] {
        let error = RangeSpec::from_spark(&options).unwrap_err();
        assert!(matches!(error, Error::Config { .. }));
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn offsets_bind_as_written() {
    let options = SparkOffsets {
        starting_offsets: text(r#"{"a":{"0":20,"1":-2},"b":"earliest"}"#),
        ending_offsets: text(r#"{"a":{"0":30,"1":-1},"b":"latest"}"#),
        ..Default::default()
    };
    assert_eq!(
        bound(&options, |_| None).unwrap(),
        [(20, 30), (10, 100), (10, 100)]
    );
}

#[test]
fn json_must_name_exactly_the_partitions() {
    let message = |options: &SparkOffsets| bound(options, |_| None).unwrap_err().to_string();
    let mut options = SparkOffsets {
        starting_offsets: text(r#"{"a":{"0":20,"7":3}}"#),
        ..Default::default()
    };
    assert_eq!(
        message(&options),
        "startingOffsets must name exactly the partitions that are read; missing: a[1], b[0]; \
         not read: a[7] (KAFKA_START_OFFSET_DOES_NOT_MATCH_ASSIGNED)"
    );
    options.starting_offsets_by_timestamp = text(r#"{"a":5}"#);
    assert_eq!(
        message(&options),
        "startingOffsetsByTimestamp must name exactly the partitions that are read; missing: b[0] \
         (KAFKA_TIMESTAMP_OFFSET_DOES_NOT_MATCH_ASSIGNED)"
    );
    options = SparkOffsets {
        ending_offsets: text(r#"{"a":"latest","b":"latest","c":"latest"}"#),
        ..Default::default()
    };
    assert_eq!(
        message(&options),
        "endingOffsets names topics that are not read: c (KAFKA_TOPIC_OFFSET_DOES_NOT_MATCH_ASSIGNED)"
    );
    // The range option's JSON follows the same rule.
    let spec: RangeSpec = r#"{"a":{"0":20}}"#.parse().unwrap();
    assert!(spec.plan(&partitions(), 0).is_err());
}

#[test]
fn times_are_looked_up_on_both_sides() {
    let options = SparkOffsets {
        starting_timestamp: text("1000"),
        ending_offsets_by_timestamp: text(
            r#"{"a":{"0":2000,"1":"1970-01-01T00:00:03Z"},"b":4000}"#,
        ),
        ..Default::default()
    };
    // An end without a match is the latest offset. A match beyond the listed end means that end.
    let look_up = |ms| match ms {
        1000 => Some(40),
        2000 => Some(50),
        3000 => Some(5000),
        _ => None,
    };
    assert_eq!(
        bound(&options, look_up).unwrap(),
        [(40, 50), (40, 100), (40, 100)]
    );
}

#[test]
fn a_start_time_without_a_match_follows_the_strategy() {
    let mut options = SparkOffsets {
        starting_timestamp: text(T),
        ..Default::default()
    };
    assert_eq!(
        bound(&options, |_| None).unwrap_err().to_string(),
        "a[0]: no record has a timestamp of 2026-01-14T00:00:00Z or later; \
         'startingOffsetsByTimestampStrategy' = 'latest' starts at the end instead"
    );
    options.starting_offsets_by_timestamp_strategy = text("LATEST");
    assert_eq!(bound(&options, |_| None).unwrap(), [(100, 100); 3]);
}

#[test]
fn never_is_the_greatest_number() {
    let never = i64::MAX.to_string();
    let options = SparkOffsets {
        starting_timestamp: text("1000"),
        ending_timestamp: text(&never),
        ..Default::default()
    };
    let look_up = |ms| (ms == 1000).then_some(40);
    assert_eq!(bound(&options, look_up).unwrap(), [(40, 100); 3]);
    let options = SparkOffsets {
        starting_offsets_by_timestamp: text(&format!(
            r#"{{"a":{{"0":1000,"1":{never}}},"b":{never}}}"#
        )),
        starting_offsets_by_timestamp_strategy: text("latest"),
        ending_offsets_by_timestamp: text(&format!(r#"{{"a":{never},"b":"{never}"}}"#)),
        ..Default::default()
    };
    assert_eq!(
        bound(&options, look_up).unwrap(),
        [(40, 100), (100, 100), (100, 100)]
    );
}

#[test]
fn a_start_after_the_end_is_refused() {
    let options = SparkOffsets {
        starting_timestamp: text("1000"),
        ending_timestamp: text("2000"),
        ..Default::default()
    };
    let look_up = |ms| Some(if ms == 1000 { 60 } else { 50 });
    assert_eq!(
        bound(&options, look_up).unwrap_err().to_string(),
        "a[0]: the range starts at 1970-01-01T00:00:01Z (offset 60), after its end \
         1970-01-01T00:00:02Z (offset 50)"
    );
}

fn values() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop_oneof![
        Just("earliest".to_owned()),
        Just("latest".to_owned()),
        Just("error".to_owned()),
        (-5..=i64::MAX).prop_map(|n| n.to_string()),
        (-2..=i64::MAX, 0..9i32)
            .prop_map(|(n, p)| format!(r#"{{"a":{{"{p}":{n}}},"b":"earliest"}}"#)),
        (0..5_000_000_000_000i64).prop_map(|n| format!(r#"{{"a":{{"0":{n}}},"b":{n}}}"#)),
        (0..5_000_000_000_000i64).prop_map(|n| format!(r#"{{"a":{{"0":{n}}},"b":"latest"}}"#)),
        ".{0,12}",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_options_panic_and_ranges_survive_printing(v in proptest::array::uniform7(values())) {
        let [a, b, c, d, e, f, g] = v;
        let options = SparkOffsets {
            starting_offsets: a,
            ending_offsets: b,
            starting_offsets_by_timestamp: c,
            ending_offsets_by_timestamp: d,
            starting_timestamp: e.filter(|_| g.is_none()),
            ending_timestamp: f.filter(|_| g.is_none()),
            starting_offsets_by_timestamp_strategy: g,
        };
        if let Ok(spec) = RangeSpec::from_spark(&options) {
            let printed = spec.to_string();
            prop_assert_eq!(printed.parse::<RangeSpec>().unwrap(), spec, "{}", printed);
        }
    }
}
