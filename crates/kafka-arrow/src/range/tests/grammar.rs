//! What the grammar accepts, what it refuses with which messages, and its laws.

use proptest::prelude::*;

use crate::range::{Bound, RangeSpec, TimeRef};

fn parse(text: &str) -> RangeSpec {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(text: &str) -> String {
    text.parse::<RangeSpec>().unwrap_err().to_string()
}

/// Accepted texts with their canonical form.
const ACCEPTED: &[(&str, &str)] = &[
    ("start", "start:end"),
    ("earliest", "start:end"),
    ("beginning", "start:end"),
    ("oldest", "start:end"),
    ("Earliest", "start:end"),
    (":", "start:end"),
    ("end", "end:end"),
    ("latest", "end:end"),
    ("newest", "end:end"),
    ("7", "7:end"),
    ("7:", "7:end"),
    ("007", "7:end"),
    ("100:200", "100:200"),
    (" 100 : 200 ", "100:200"),
    (":200", "start:200"),
    ("+10", "+10:end"),
    ("-10", "-10:end"),
    ("-0", "-0:end"),
    ("+10:-10", "+10:-10"),
    (":+10", "start:+10"),
    (":-10", "start:-10"),
    ("100:end", "100:end"),
    ("start:100", "start:100"),
    ("earliest:latest", "start:end"),
    ("9223372036854775807", "9223372036854775807:end"),
    ("@1768348800", "@2026-01-14T00:00:00Z:end"),
    ("@1768348800000", "@2026-01-14T00:00:00Z:end"),
    ("@2026-01-14", "@2026-01-14T00:00:00Z:end"),
    ("@2026-01-14:", "@2026-01-14T00:00:00Z:end"),
    ("@2026-01-14:1h", "@2026-01-14T00:00:00Z:1h"),
    ("@-1h:end", "@-1h:end"),
    ("@-1h", "@-1h:end"),
    ("@-48h:-24h", "@-2d:-1d"),
    ("@-2w:now", "@-14d:now"),
    ("@2 hours ago : 90 minutes", "@-2h:1h30m"),
    ("@:2026-01-14", "@:2026-01-14T00:00:00Z"),
    ("@:-1h", "@:-1h"),
    (":@-1h", "@:-1h"),
    ("100:@2026-01-14T10:00", "100:@2026-01-14T10:00:00Z"),
    ("-5:@now", "-5:@now"),
    (
        "@2026-01-14:@2026-01-15",
        "@2026-01-14T00:00:00Z:2026-01-15T00:00:00Z",
    ),
    // One time with seconds, not 10:00 and the epoch second 30.
    ("@2026-01-14T10:00:30", "@2026-01-14T10:00:30Z:end"),
    ("@2026-01-14T10:00:1h", "@2026-01-14T10:00:00Z:1h"),
    (
        "@2026-01-14T10:00:2026-01-14T11:00",
        "@2026-01-14T10:00:00Z:2026-01-14T11:00:00Z",
    ),
    (
        "@2026-01-14T10:00:00.5+02:00:2026-01-14T11:00:00-05:30",
        "@2026-01-14T08:00:00.5Z:2026-01-14T16:30:00Z",
    ),
    (
        "@1768348800:1768352400",
        "@2026-01-14T00:00:00Z:2026-01-14T01:00:00Z",
    ),
    ("s@1000", "@1970-01-01T00:00:01Z:end"),
    ("e@2000", "@:1970-01-01T00:00:02Z"),
    (
        "s@1000:e@2000",
        "@1970-01-01T00:00:01Z:1970-01-01T00:00:02Z",
    ),
    ("s@1000:end", "@1970-01-01T00:00:01Z:end"),
    ("100:e@2000", "100:@1970-01-01T00:00:02Z"),
    ("group:billing", "group:billing"),
    ("group: a.b:c=d ", "group:a.b:c=d"),
    ("0=100:200,3=50:", "0=100:200,3=50:end"),
    ("3=50, 0=100:200", "0=100:200,3=50:end"),
    ("start:end,3=50:", "start:end,3=50:end"),
    ("3=50:,start", "start:end,3=50:end"),
    ("0=group:g,1=@-1h", "0=group:g,1=@-1h:end"),
    (
        r#"{"orders":{"0":100,"1":-2}}"#,
        r#"{"orders":{"0":100,"1":-2}}"#,
    ),
    (
        r#" { "b" : {"10":-1, "9":23}, "a":"Earliest" } "#,
        r#"{"a":"earliest","b":{"9":23,"10":-1}}"#,
    ),
    (
        r#"spark:{"startingTimestamp":"1768348800000"}"#,
        r#"spark:{"startingTimestamp":1768348800000}"#,
    ),
    (r#"spark:{"startingOffsets":"earliest"}"#, "start:end"),
];

#[test]
fn accepted_forms_print_canonically() {
    for (text, canonical) in ACCEPTED {
        let spec = parse(text);
        assert_eq!(spec.to_string(), *canonical, "{text}");
        assert_eq!(parse(canonical), spec, "{text}");
    }
    assert_eq!(RangeSpec::default(), parse("start:end"));
}

#[test]
fn refused_in_these_words() {
    const TIME: &str =
        "a time (epoch seconds or milliseconds, a date, RFC 3339, a duration or 'now')";
    const RANGE: &str = "a range such as 'start:end', '100:200', '-10', '@-1h' or '0=100:200'";
    for (text, expected, column, found) in [
        ("0=100-200", "':'", 6, "'-'"),
        ("100-200", "':'", 4, "'-'"),
        ("", RANGE, 1, "the end of the text"),
        ("1:2,", RANGE, 5, "the end of the text"),
        ("1:2,,3=4", RANGE, 5, "','"),
        ("100:200:300", "the end of the range", 8, "':'"),
        ("+", "digits", 2, "the end of the text"),
        ("+x", "digits", 2, "'x'"),
        (
            "stored",
            "'group:NAME' (which consumer group's stored offsets must be said)",
            1,
            "'stored'",
        ),
        (
            "9223372036854775808",
            "an offset up to 9223372036854775807",
            1,
            "'9223372036854775808'",
        ),
        (
            "+99999999999999999999",
            "an offset up to 9223372036854775807",
            2,
            "'99999999999999999999'",
        ),
        (
            "2147483648=1:2",
            "the number of a partition, up to 2147483647",
            1,
            "'2147483648'",
        ),
        ("x=1:2", "the number of a partition before '='", 1, "'x'"),
        ("=1:2", "the number of a partition before '='", 1, "'='"),
        (
            "0=1:2, 0=3:4",
            "each partition once",
            8,
            "partition 0 again",
        ),
        (
            "1:2,3:4",
            "a partition and '=' (one range may stand for all others)",
            5,
            "'3:4'",
        ),
        (
            "0=",
            "an offset, '+N', '-N', 'start', 'end', '@' and a time, or 'group:' and a name",
            3,
            "the end of the text",
        ),
        (
            "tomorrow",
            "an offset, '+N', '-N', 'start', 'end', '@' and a time, or 'group:' and a name",
            1,
            "'tomorrow'",
        ),
        ("-1h", "'@' before a time", 1, "'-1h'"),
        ("2026-01-14:1h", "'@' before a time", 1, "'2026-01-14:1h'"),
        ("0=-1h:now", "'@' before a time", 3, "'-1h:now'"),
        (
            "group:",
            "the name of a consumer group",
            7,
            "the end of the text",
        ),
        (
            "5:group:g",
            "an offset, '+N', '-N', 'end', or '@' and a time",
            3,
            "'group:g'",
        ),
        ("@", TIME, 2, "the end of the text"),
        ("@:", TIME, 3, "the end of the text"),
        ("@yesterday", TIME, 2, "'yesterday'"),
        ("@-1h:yesterday", TIME, 6, "'yesterday'"),
        (
            "@2026-13-14:1h",
            "a date and time that exist",
            2,
            "'2026-13-14'",
        ),
        (
            "@12345678901:end",
            "epoch seconds (up to 10 digits) or epoch milliseconds (13 digits)",
            2,
            "'12345678901'",
        ),
        (
            "@-1h:17683488000000",
            "epoch seconds (up to 10 digits) or epoch milliseconds (13 digits)",
            6,
            "'17683488000000'",
        ),
        (
            "@1h",
            "a time, or a duration before now such as '-1h'",
            2,
            "'1h'",
        ),
        (
            "@-5",
            "a duration with its unit, such as '-1h' or '-30m'",
            2,
            "'-5'",
        ),
        (
            "@1969-01-01",
            "a time from 1970-01-01 on, as Kafka's timestamps are",
            2,
            "'1969-01-01'",
        ),
        (
            "@:1h",
            "a time, or a duration before now such as '-1h' (there is no first time to count from)",
            3,
            "'1h'",
        ),
        ("s@x", "milliseconds since 1970 after '@'", 3, "'x'"),
        ("1:s@5", "an end; 's@' starts a range", 3, "'s@5'"),
        ("s@5:100", "'end' or a time to end at", 5, "'100'"),
        ("e@5:100", "nothing more after an end 'e@'", 4, "':'"),
        // Columns count characters.
        (
            "0=1:é",
            "an offset, '+N', '-N', 'start', 'end', '@' and a time, or 'group:' and a name",
            5,
            "'é'",
        ),
    ] {
        assert_eq!(
            refusal(text),
            format!("range {text:?}: expected {expected} at column {column}, found {found}")
        );
    }
}

#[test]
fn refused_json_names_the_fault() {
    const OFFSETS: &str = r#"expected JSON such as {"topic":{"0":100,"1":-2}} (offsets, -2 for the start, -1 for the end)"#;
    for (text, column, found) in [
        (r#"{"a":{"0":1}"#, 12, "EOF while parsing an object"),
        (r#"{"a":{"0":1}} x"#, 15, "trailing characters"),
        ("{\"é\":\n?}", 7, "expected value"),
        ("{}", 1, "expected at least one topic, found {}"),
        (
            r#"{"a":5}"#,
            1,
            r#"topic 'a': expected "earliest", "latest" or an object of partitions, found 5"#,
        ),
        (
            r#"{"a":{"0":-3}}"#,
            1,
            "a[0]: expected an offset, -2 (earliest) or -1 (latest), found -3",
        ),
        (
            r#"{"a":{"0":1.5}}"#,
            1,
            "a[0]: expected an offset, -2 (earliest) or -1 (latest), found a number that is not an offset",
        ),
        (
            r#"{"a":{"0":"1"}}"#,
            1,
            r#"a[0]: expected an offset, -2 (earliest) or -1 (latest), found "1""#,
        ),
        (r#"{"a":{"-1":1}}"#, 1, "topic 'a': '-1' is no partition"),
        (r#"{"a":{"0":1,"0":2}}"#, 1, "a[0] is named twice"),
        (
            r#"{"a":"earliest","a":{"0":2}}"#,
            1,
            "the topic 'a' is named twice",
        ),
        (
            r#"{"a":[0]}"#,
            1,
            r#"topic 'a': expected "earliest", "latest" or an object of partitions, found an array"#,
        ),
    ] {
        assert_eq!(
            refusal(text),
            format!("range {text:?}: {OFFSETS} at column {column}, found {found}")
        );
    }
    assert_eq!(
        refusal(r#"spark:{"startingOffsets":"latest"}"#),
        "range \"spark:{\\\"startingOffsets\\\":\\\"latest\\\"}\": expected Spark's options as JSON such as \
         {\"startingTimestamp\":1768348800000} at column 7, found 'startingOffsets': a query cannot start at \
         'latest' (-1): it would read nothing; write 'earliest' (-2) or an offset"
    );
}

#[test]
fn parts_can_be_looked_at() {
    let spec = parse("@-1h:end,2=5:");
    let rest = spec.default_interval().unwrap();
    assert!(matches!(rest.start(), Bound::Time(TimeRef::Ago(p)) if p.ms() == 3_600_000));
    assert_eq!(*rest.end(), Bound::LogEnd);
    let listed: Vec<_> = spec.partition_intervals().collect();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].0, listed[0].1.start()), (2, &Bound::Offset(5)));
    let error = "0=100-200".parse::<RangeSpec>().unwrap_err();
    assert_eq!(
        (error.column(), error.expected(), error.found()),
        (6, "':'", "'-'")
    );
    assert_eq!(error.input(), "0=100-200");
}

#[test]
fn long_texts_are_quick_and_shortened() {
    for unit in [
        ":", "@", ",", "é", "@-1h:", " ", "1:", "{", "[", "s@1:", "{\"a\":",
    ] {
        let text = unit.repeat(20_000);
        let _ = text.parse::<RangeSpec>();
        if let Err(error) = format!("@{text}").parse::<RangeSpec>() {
            assert!(error.to_string().len() < 2_000);
        }
    }
}

/// A time as text.
fn times() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..=9_999_999_999i64).prop_map(|s| s.to_string()),
        (1_000_000_000_000..=9_999_999_999_999i64).prop_map(|ms| ms.to_string()),
        (1970..=9998i32, 1..=12u8, 1..=28u8).prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}")),
        (
            1971..=9998i32,
            1..=12u8,
            1..=28u8,
            (0..24u8, 0..60u8),
            prop::option::of((0..60u8, prop::option::of("[0-9]{1,9}"))),
            prop::sample::select(vec!["", "Z", "z", "+02:00", "-05:30", "+0100"]),
            prop::sample::select(vec!["T", "t", " "]),
        )
            .prop_map(|(y, mo, d, (h, mi), s, zone, sep)| {
                let s = s.map_or(String::new(), |(s, fraction)| {
                    format!(
                        ":{s:02}{}",
                        fraction.map_or(String::new(), |f| format!(".{f}"))
                    )
                });
                format!("{y:04}-{mo:02}-{d:02}{sep}{h:02}:{mi:02}{s}{zone}")
            }),
        Just("now".to_owned()),
        durations().prop_map(|d| format!("-{d}")),
        (0..1000u32).prop_map(|n| format!("{n} minutes ago")),
    ]
}

fn durations() -> impl Strategy<Value = String> {
    let units = prop::sample::select(vec![
        "y", "mo", "w", "d", "h", "m", "s", "ms", "hours", "minutes",
    ]);
    prop_oneof![
        (0..1000u32, units).prop_map(|(n, unit)| format!("{n}{unit}")),
        (0..50u32, 0..100u32, 0..100u32).prop_map(|(d, h, m)| format!("{d}d {h}h{m}m")),
        (0..50u32).prop_map(|h| format!("PT{h}H")),
    ]
}

fn offset_bounds() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("start".to_owned()),
        Just("end".to_owned()),
        Just("latest".to_owned()),
        (0..=i64::MAX).prop_map(|n| n.to_string()),
        (0..=i64::MAX).prop_map(|n| format!("+{n}")),
        (0..=i64::MAX).prop_map(|n| format!("-{n}")),
    ]
}

fn intervals() -> impl Strategy<Value = String> {
    let end_time = prop_oneof![
        times(),
        durations(),
        Just("end".to_owned()),
        Just(String::new())
    ];
    prop_oneof![
        offset_bounds(),
        (offset_bounds(), offset_bounds()).prop_map(|(a, b)| format!("{a}:{b}")),
        offset_bounds().prop_map(|a| format!("{a}:")),
        offset_bounds().prop_map(|b| format!(":{b}")),
        (offset_bounds(), times()).prop_map(|(a, b)| format!("{a}:@{b}")),
        times().prop_map(|t| format!("@{t}")),
        times().prop_map(|t| format!("@:{t}")),
        (times(), end_time).prop_map(|(a, b)| format!("@{a}:{b}")),
        "[a-zA-Z0-9._:=-]{1,12}".prop_map(|name| format!("group:{name}")),
        (0..=253_402_207_200_000i64).prop_map(|ms| format!("s@{ms}")),
        (0..=253_402_207_200_000i64).prop_map(|ms| format!("e@{ms}")),
    ]
}

fn spark_offsets() -> impl Strategy<Value = String> {
    let each = proptest::collection::btree_map(0..=i32::MAX, -2..=i64::MAX, 0..4).prop_map(|map| {
        let each: Vec<String> = map.iter().map(|(p, o)| format!("\"{p}\":{o}")).collect();
        format!("{{{}}}", each.join(","))
    });
    let value = prop_oneof![
        each,
        Just("\"earliest\"".to_owned()),
        Just("\"latest\"".to_owned())
    ];
    proptest::collection::btree_map("[a-z._\"é-]{1,5}", value, 1..4).prop_map(|topics| {
        let topics: Vec<String> = topics
            .iter()
            .map(|(t, v)| format!("{}:{v}", serde_json::Value::from(t.as_str())))
            .collect();
        format!("{{{}}}", topics.join(","))
    })
}

/// Texts that the grammar accepts.
fn valid() -> impl Strategy<Value = String> {
    let listed = proptest::collection::btree_map(0..=i32::MAX, intervals(), 1..4);
    prop_oneof![
        4 => intervals(),
        2 => (prop::option::of(intervals()), listed).prop_map(|(rest, listed)| {
            let items: Vec<String> = rest
                .into_iter()
                .chain(listed.into_iter().map(|(p, i)| format!("{p}={i}")))
                .collect();
            items.join(",")
        }),
        1 => spark_offsets(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn printed_ranges_parse_to_the_same_value(text in valid()) {
        let spec: RangeSpec = match text.parse() {
            Ok(spec) => spec,
            Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
        };
        let printed = spec.to_string();
        prop_assert_eq!(&printed.parse::<RangeSpec>().unwrap(), &spec, "{}", printed);
        // The form is canonical: equal values print alike.
        prop_assert_eq!(printed.parse::<RangeSpec>().unwrap().to_string(), printed);
    }

    #[test]
    fn no_text_panics(text in ".*") {
        if let Err(error) = text.parse::<RangeSpec>() {
            prop_assert!(error.column() >= 1);
            prop_assert!(error.column() <= text.chars().count() + 1);
            let _ = error.to_string();
        }
    }

    #[test]
    fn no_grammatical_noise_panics(text in r#"[0-9:@=,+\-a-zTZ. {}"é]{0,40}"#) {
        let _ = text.parse::<RangeSpec>();
    }

    #[test]
    fn no_mutated_text_panics(
        text in valid(),
        prefix in prop::sample::select(vec!["", "@", "spark:", "spark:{\"startingTimestamp\":", "0="]),
        cut in any::<prop::sample::Index>(),
        with in r#"[\PC]{0,2}"#,
    ) {
        let mut chars: Vec<char> = format!("{prefix}{text}").chars().collect();
        let at = cut.index(chars.len());
        chars.splice(at..=at, with.chars());
        let text: String = chars.into_iter().collect();
        match text.parse::<RangeSpec>() {
            Ok(spec) => prop_assert_eq!(spec.to_string().parse::<RangeSpec>().unwrap(), spec),
            Err(error) => prop_assert!(error.column() <= text.chars().count() + 1),
        }
    }
}
