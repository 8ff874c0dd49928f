//! How written bounds become exact offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use crate::error::{Error, ErrorKind};
use crate::range::{
    CLOCKS_DIFFER_MS, IsolationLevel, LogBounds, LookupFacts, LookupPlan, OnDataLoss, RangeSpec,
    TopicPartition,
};

/// 2026-01-14T00:00:00Z.
const NOW_MS: i64 = 1_768_348_800_000;

fn partitions(topic: &str, count: i32) -> Vec<TopicPartition> {
    (0..count).map(|n| TopicPartition::new(topic, n)).collect()
}

fn plan(text: &str, partitions: &[TopicPartition]) -> Result<LookupPlan, Error> {
    text.parse::<RangeSpec>().unwrap().plan(partitions, NOW_MS)
}

/// One partition `t[0]`, and the cluster's answers about it.
#[derive(Clone, Default)]
struct Log {
    start: i64,
    end: i64,
    look_ups: BTreeMap<i64, Option<i64>>,
    committed: Option<i64>,
    log_append_time: bool,
    skip: bool,
    past_end_is_end: bool,
}

fn log(start: i64, end: i64) -> Log {
    Log {
        start,
        end,
        ..Log::default()
    }
}

impl Log {
    fn facts(&self, plan: &LookupPlan) -> LookupFacts {
        let bounds = LogBounds {
            start: self.start,
            end: self.end,
        };
        LookupFacts {
            isolation: IsolationLevel::ReadCommitted,
            bounds: plan
                .partitions
                .iter()
                .map(|p| (p.clone(), bounds))
                .collect(),
            timestamps: plan
                .timestamps
                .iter()
                .filter_map(|key| Some((key.clone(), *self.look_ups.get(&key.1)?)))
                .collect(),
            groups: plan
                .groups
                .iter()
                .flat_map(|(name, partitions)| {
                    let committed = self.committed;
                    partitions
                        .iter()
                        .filter_map(move |p| Some(((name.clone(), p.clone()), committed?)))
                })
                .collect(),
            log_append_time: self
                .log_append_time
                .then(|| Arc::from("t"))
                .into_iter()
                .collect(),
            on_data_loss: if self.skip {
                OnDataLoss::Skip
            } else {
                OnDataLoss::Fail
            },
            past_end_is_end: self.past_end_is_end,
        }
    }

    fn bind(&self, text: &str) -> Result<(i64, i64), Error> {
        let plan = plan(text, &partitions("t", 1))?;
        let bound = plan.bind(&self.facts(&plan))?;
        assert_eq!(bound.len(), 1);
        assert_eq!(bound[0].range.topic_partition(), plan.partitions[0]);
        Ok((bound[0].range.start, bound[0].range.end))
    }

    fn refusal(&self, text: &str) -> String {
        self.bind(text).unwrap_err().to_string()
    }
}

#[test]
fn past_the_end_is_empty_where_allowed() {
    let strict = Log {
        skip: true,
        ..log(100, 200)
    };
    assert!(strict.refusal("150:300").starts_with("t[0]@300: "));
    let log = Log {
        past_end_is_end: true,
        ..strict
    };
    for (text, range) in [
        ("150:300", (150, 200)),
        ("50:300", (50, 200)),
        ("250:300", (200, 200)),
        ("250", (200, 200)),
        ("100:200", (100, 200)),
    ] {
        assert_eq!(log.bind(text).unwrap(), range, "{text}");
    }
    assert!(log.refusal("300:250").contains("starts at 300"));
}

#[test]
fn offsets_and_relative_bounds() {
    let log = log(100, 200);
    for (text, range) in [
        ("start", (100, 200)),
        ("end", (200, 200)),
        ("150", (150, 200)),
        ("100:200", (100, 200)),
        ("200:200", (200, 200)),
        (":150", (100, 150)),
        ("+10", (110, 200)),
        ("+500", (200, 200)),
        ("-10", (190, 200)),
        ("-500", (100, 200)),
        ("-0", (200, 200)),
        (":+10", (100, 110)),
        (":-10", (100, 190)),
        ("+10:-10", (110, 190)),
        ("150:+60", (150, 160)),
        ("+9223372036854775807", (200, 200)),
        ("-9223372036854775807", (100, 200)),
        // An empty range cannot lose anything.
        ("5:5", (5, 5)),
        // Relative bounds that cross in this log leave an empty range.
        ("+60:-60", (160, 160)),
        ("195:-10", (195, 195)),
    ] {
        assert_eq!(log.bind(text).unwrap(), range, "{text}");
    }
}

#[test]
fn an_empty_log_has_an_empty_range() {
    for text in ["start", "end", "+5", "-5", "+5:-5", "7", "7:7", "group:g"] {
        let log = Log {
            committed: Some(7),
            ..log(7, 7)
        };
        assert_eq!(log.bind(text).unwrap(), (7, 7), "{text}");
    }
    // The last stable offset is below the log start.
    assert_eq!(log(7, 5).bind("start").unwrap(), (7, 7));
}

#[test]
fn beyond_the_end_is_refused() {
    let log = log(100, 200);
    for (text, asked) in [
        ("100:201", 201),
        ("201", 201),
        ("201:300", 201),
        (":999", 999),
    ] {
        let error = log.bind(text).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "t[0]@{asked}: the range ends beyond the log, which ends at 200 (read_committed); \
                 end the range at 200 or write 'end'"
            )
        );
        assert_eq!(error.kind(), ErrorKind::DataUnavailable);
        // Data loss is about old offsets, not about future ones.
        let skip = Log {
            skip: true,
            ..log.clone()
        };
        assert!(matches!(skip.bind(text), Err(Error::PastLogEnd { .. })));
    }
}

#[test]
fn below_the_start_is_refused_or_kept() {
    let fail = log(100, 200);
    let skip = Log {
        skip: true,
        ..fail.clone()
    };
    for (text, expected_lost, range) in [
        ("50", 50, (50, 200)),
        ("50:150", 50, (50, 150)),
        ("50:80", 30, (50, 80)),
        ("0:100", 100, (0, 100)),
    ] {
        match fail.bind(text) {
            Err(Error::BelowLogStart {
                available: 100,
                lost,
                ..
            }) => assert_eq!(lost, expected_lost, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
        assert_eq!(skip.bind(text).unwrap(), range, "{text}");
    }
    assert_eq!(skip.bind(":50").unwrap(), (50, 50));
}

#[test]
fn reversed_ranges_are_refused_in_these_words() {
    let log = log(100, 200);
    for (text, message) in [
        (
            "180:120",
            "t[0]: the range starts at 180, after its end 120",
        ),
        (
            "end:start",
            "t[0]: the range starts at 'end' (offset 200), after its end 'start' (offset 100)",
        ),
        (
            "+20:+10",
            "t[0]: the range starts at '+20', after its end '+10'",
        ),
        (
            "-10:-20",
            "t[0]: the range starts at '-10', after its end '-20'",
        ),
        (
            "end:-20",
            "t[0]: the range starts at 'end', after its end '-20'",
        ),
        (
            "@-1h:-2h",
            "t[0]: the range starts at 2026-01-13T23:00:00Z, after its end 2026-01-13T22:00:00Z",
        ),
        (
            "-10:150",
            "t[0]: the range starts at '-10' (offset 190), after its end 150 (offset 150)",
        ),
        (
            ":50",
            "t[0]: the range starts at 'start' (offset 100), after its end 50 (offset 50)",
        ),
        (
            "@now:9999y",
            "t[0]: the time '119988mo' lies beyond the calendar, which ends with the year 9999",
        ),
    ] {
        assert_eq!(log.refusal(text), message);
    }
}

#[test]
fn times_select_records_and_cut_only_where_the_broker_stamps() {
    let hour = 3_600_000;
    let (from, to) = (NOW_MS - 2 * hour, NOW_MS - hour);
    let later = to + CLOCKS_DIFFER_MS;
    let partition = partitions("t", 1);
    let plan = plan("@-2h:-1h", &partition).unwrap();
    assert!(plan.needs_timestamp_type);
    assert_eq!(
        plan.timestamps,
        [(partition[0].clone(), from), (partition[0].clone(), later)]
    );
    let mut log = Log {
        look_ups: [(from, Some(120)), (later, Some(150))].into(),
        ..log(100, 200)
    };
    let bound = plan.bind(&log.facts(&plan)).unwrap();
    assert_eq!((bound[0].range.start, bound[0].range.end), (120, 200));
    assert_eq!((bound[0].from_ms, bound[0].to_ms), (Some(from), Some(to)));
    log.log_append_time = true;
    let bound = plan.bind(&log.facts(&plan)).unwrap();
    assert_eq!((bound[0].range.start, bound[0].range.end), (120, 150));
    assert_eq!((bound[0].from_ms, bound[0].to_ms), (Some(from), Some(to)));

    // No match, and matches that came after the end was listed or lie before the log start.
    for (first, second, range) in [
        (None, None, (200, 200)),
        (Some(120), None, (120, 200)),
        (Some(500), Some(600), (200, 200)),
        (Some(50), Some(60), (100, 100)),
        (Some(50), Some(600), (100, 200)),
    ] {
        log.look_ups = [(from, first), (later, second)].into();
        assert_eq!(log.bind("@-2h:-1h").unwrap(), range);
    }
    // An unused upper bound needs no look-up; a lower bound does.
    log.log_append_time = false;
    log.look_ups = [(from, Some(120))].into();
    assert_eq!(log.bind("@-2h:-1h").unwrap(), (120, 200));
    log.look_ups.clear();
    assert_eq!(
        log.refusal("@-2h"),
        "listing offsets by timestamp failed: no answer for 2026-01-13T22:00:00Z of t[0]"
    );
}

#[test]
fn open_sides_of_a_time_carry_no_filter() {
    let log = Log {
        look_ups: [(NOW_MS, Some(150))].into(),
        ..log(100, 200)
    };
    for (text, range, from_ms, to_ms, needs_type) in [
        ("@now", (150, 200), Some(NOW_MS), None, false),
        ("@:now", (100, 200), None, Some(NOW_MS), true),
        ("110:@now", (110, 200), None, Some(NOW_MS), true),
    ] {
        let plan = plan(text, &partitions("t", 1)).unwrap();
        let bound = plan.bind(&log.facts(&plan)).unwrap();
        assert_eq!((bound[0].range.start, bound[0].range.end), range);
        assert_eq!((bound[0].from_ms, bound[0].to_ms), (from_ms, to_ms));
        assert_eq!(plan.needs_timestamp_type, needs_type);
    }
}

#[test]
fn groups_start_at_their_commits() {
    let at = |committed| Log {
        committed,
        ..log(100, 200)
    };
    assert_eq!(at(Some(150)).bind("group:g").unwrap(), (150, 200));
    // The group made progress while the range was being resolved.
    assert_eq!(at(Some(250)).bind("group:g").unwrap(), (200, 200));
    assert!(matches!(
        at(Some(50)).bind("group:g"),
        Err(Error::BelowLogStart { lost: 50, .. })
    ));
    assert_eq!(
        at(None).refusal("group:g"),
        "group 'g' has no committed offset for t[0]; check the group's name, or write 'start:end' \
         for everything"
    );
    // A partition without a commit starts at the log start.
    let plan = plan("group:g", &partitions("t", 2)).unwrap();
    assert_eq!(plan.groups, [("g".to_owned(), partitions("t", 2))]);
    let mut facts = at(Some(150)).facts(&plan);
    facts.groups.pop_first();
    let bound = plan.bind(&facts).unwrap();
    assert_eq!((bound[0].range.start, bound[1].range.start), (100, 150));
}

#[test]
fn listed_partitions_and_the_rest() {
    let all = partitions("t", 4);
    let planned = |text: &str| -> Vec<i32> {
        let plan = plan(text, &all).unwrap();
        plan.partitions.iter().map(|p| p.partition).collect()
    };
    assert_eq!(planned("3=5:,1=start"), [1, 3]);
    assert_eq!(planned("start,3=5:"), [0, 1, 2, 3]);
    for (available, partitions) in [
        ("partitions 0..4", all.clone()),
        ("partition 0", all[..1].to_vec()),
        ("partitions 1, 3", vec![all[3].clone(), all[1].clone()]),
    ] {
        assert_eq!(
            plan("start,7=5:", &partitions).unwrap_err().to_string(),
            format!("t[7] does not exist: the topic has {available}")
        );
    }
    // With several topics, a number means that partition of each.
    let both = [partitions("a", 2), partitions("b", 1)].concat();
    assert_eq!(plan("0=start", &both).unwrap().partitions.len(), 2);
    assert_eq!(
        plan("1=start", &both).unwrap_err().to_string(),
        "b[1] does not exist: the topic has partition 0"
    );
    // Neither the order nor duplicates of the partitions matter.
    let mixed = [vec![both[2].clone()], both.clone()].concat();
    assert_eq!(
        plan("start", &mixed).unwrap(),
        plan("start", &both).unwrap()
    );
    assert!(plan("start", &[]).unwrap().partitions.is_empty());
}

#[test]
fn a_missing_answer_is_named() {
    let plan = plan("start", &partitions("t", 1)).unwrap();
    assert_eq!(
        plan.bind(&LookupFacts::default()).unwrap_err().to_string(),
        "listing offsets failed: no offsets of t[0]"
    );
}

/// Bounds near the logs of the law below.
fn bounds() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("start".to_owned()),
        Just("end".to_owned()),
        (0..40i64).prop_map(|n| n.to_string()),
        (0..40i64).prop_map(|n| format!("+{n}")),
        (0..40i64).prop_map(|n| format!("-{n}")),
    ]
}

fn ranges() -> impl Strategy<Value = String> {
    prop_oneof![
        (bounds(), bounds()).prop_map(|(a, b)| format!("{a}:{b}")),
        (0..40i64, 0..40i64).prop_map(|(a, b)| format!("s@{a}:e@{b}")),
        (bounds(), 0..40i64).prop_map(|(a, b)| format!("{a}:e@{b}")),
        Just("group:g".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn bound_ranges_lie_in_the_log(
        text in ranges(),
        start in 0..30i64,
        len in 0..30i64,
        matches in proptest::collection::vec(prop::option::of(0..60i64), 40),
        committed in prop::option::of(0..60i64),
        log_append_time in any::<bool>(),
        skip in any::<bool>(),
    ) {
        let log = Log {
            start,
            end: start + len,
            look_ups: (0..).zip(matches).collect(),
            committed,
            log_append_time,
            skip,
            past_end_is_end: false,
        };
        if let Ok((from, to)) = log.bind(&text) {
            prop_assert!(0 <= from && from <= to && to <= log.end);
            prop_assert!(from >= log.start || from == to || skip, "{} {}", from, to);
        }
    }

    #[test]
    fn no_offsets_overflow(
        text in (any::<i64>(), any::<i64>()).prop_map(|(a, b)| {
            let sign = |n: i64| match n % 3 {
                0 => "+",
                1 => "-",
                _ => "",
            };
            format!("{}{}:{}{}", sign(a), a.unsigned_abs() / 2, sign(b), b.unsigned_abs() / 2)
        }),
        (start, end) in (0..=i64::MAX, 0..=i64::MAX),
    ) {
        let log = log(start, end);
        if let Ok((from, to)) = log.bind(&text) {
            prop_assert!(0 <= from && from <= to && to <= end.max(start));
        }
    }

    #[test]
    fn no_time_overflows(now_ms in any::<i64>(), months in 0..200_000u32, text in "@-[0-9]{1,4}y:[0-9]{1,6}(d|mo|ms)") {
        let partition = partitions("t", 1);
        for text in [text, format!("@-{months}mo")] {
            if let Ok(spec) = text.parse::<RangeSpec>()
                && let Ok(plan) = spec.plan(&partition, now_ms)
            {
                // Brokers give negative timestamps other meanings.
                prop_assert!(plan.timestamps.iter().all(|(_, ms)| *ms >= 0));
            }
        }
    }
}

#[test]
fn look_ups_are_asked_once() {
    let plan = plan("@-1h,1=@-1h:now", &partitions("t", 3)).unwrap();
    let unique: BTreeSet<_> = plan.timestamps.iter().collect();
    assert_eq!(unique.len(), plan.timestamps.len());
    assert_eq!(plan.timestamps.len(), 4);
}
