use crate::range::OffsetRange;

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::try_new("orders", 3, start, end).unwrap()
}

#[test]
fn contradictions_are_refused_whether_made_or_read() {
    for (partition, start, end, problem) in [
        (-1, 0, 1, "partitions are numbered from 0"),
        (3, -1, 1, "offsets are numbered from 0"),
        (3, 2, 1, "the start lies after the end"),
    ] {
        let made = OffsetRange::try_new("orders", partition, start, end).unwrap_err();
        assert!(made.to_string().ends_with(problem), "{made}");
        let text =
            format!(r#"{{"topic":"orders","partition":{partition},"start":{start},"end":{end}}}"#);
        let read = serde_json::from_str::<OffsetRange>(&text).unwrap_err();
        assert!(read.to_string().contains(problem), "{read}");
    }
}

#[test]
fn ranges_come_back_from_json() {
    let text = serde_json::to_string(&range(5, 9)).unwrap();
    assert_eq!(
        text,
        r#"{"topic":"orders","partition":3,"start":5,"end":9}"#
    );
    assert_eq!(
        serde_json::from_str::<OffsetRange>(&text).unwrap(),
        range(5, 9)
    );
}

#[test]
fn parts_stay_within() {
    for (start, end, part) in [
        (6, 8, (6, 8)),
        (0, 7, (5, 7)),
        (7, 99, (7, 9)),
        (0, 3, (5, 5)),
        (20, 30, (9, 9)),
        (8, 6, (8, 8)),
        (i64::MIN, i64::MAX, (5, 9)),
    ] {
        assert_eq!(range(5, 9).part(start, end), range(part.0, part.1));
    }
    assert_eq!(range(5, 9).hull(&range(7, 12)), range(5, 12));
    assert_eq!(range(5, 9).hull(&range(0, 0)), range(0, 9));
}
