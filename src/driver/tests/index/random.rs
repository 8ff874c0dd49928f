//! Random conditions, with an index and without.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// What is done to the topic, before and after the index is made.
type Circumstance = (&'static str, IsolationLevel, fn(&Bed), fn(&Bed));

fn circumstances() -> Vec<Circumstance> {
    fn nothing(_: &Bed) {}
    fn more(bed: &Bed) {
        bed.produce(150, 190);
    }
    fn compact(bed: &Bed) {
        for partition in 0..2 {
            let keep = |offset: i64, _: &Record| offset % 3 != 0;
            bed.cluster.compact("orders", partition, keep).unwrap();
        }
    }
    fn delete(bed: &Bed) {
        bed.cluster.truncate_before("orders", 0, 37).unwrap();
        bed.cluster.truncate_before("orders", 1, 150).unwrap();
    }
    fn transactions(bed: &Bed) {
        for commits in [true, false, false, true] {
            let mut transaction = bed.cluster.begin();
            for n in 100..125 {
                transaction.append("orders", 0, record(n)).unwrap();
            }
            match commits {
                true => transaction.commit().unwrap(),
                false => transaction.abort().unwrap(),
            }
        }
        more(bed);
    }
    fn partitions(bed: &Bed) {
        bed.cluster.add_partitions("orders", 3).unwrap();
        bed.cluster
            .append_all("orders", 2, (0..40).map(record))
            .unwrap();
    }
    vec![
        ("covered", ReadCommitted, nothing, nothing),
        ("stale", ReadCommitted, nothing, more),
        ("compacted before", ReadCommitted, compact, nothing),
        ("compacted after", ReadCommitted, nothing, compact),
        ("deleted before", ReadCommitted, delete, more),
        ("deleted after", ReadCommitted, nothing, delete),
        ("transactions", ReadCommitted, transactions, transactions),
        (
            "transactions, uncommitted",
            ReadUncommitted,
            transactions,
            transactions,
        ),
        ("partitions added", ReadCommitted, nothing, partitions),
    ]
}

/// A random condition, most of which are of what the index has.
fn conditions() -> impl Strategy<Value = String> {
    let of = |n: i64| {
        [
            ("key", format!("'key {}'", n / 3)),
            ("kafka_text(key)", format!("'key {}'", n / 3)),
            (
                "kafka_text(header(headers, 'h'))",
                format!("'h {}'", n / 30),
            ),
            ("json_get_int(kafka_text(value), 'id')", (n / 5).to_string()),
            ("kafka_text(value)->>'name'", format!("'name {}'", n / 20)),
            ("(length(value) > 20)", (n % 2 == 0).to_string()),
            ("partition", (n % 3).to_string()),
            ("\"offset\"", n.to_string()),
            ("timestamp", format!("to_timestamp_millis({})", n * 1000)),
            ("length(value)", "25".to_owned()),
        ]
    };
    let leaf = (0..10usize, -5..220i64, -5..220i64, 0..9u8).prop_map(move |(which, a, b, kind)| {
        let (expression, value) = of(a)[which].clone();
        let other = &of(b)[which].1;
        match kind {
            0..4 => format!("{expression} = {value}"),
            4 => format!("{expression} IN ({value}, {other}, {value})"),
            5 => format!("{expression} <> {value}"),
            6 => format!("{expression} IS NULL"),
            7 if which != 5 => format!("{expression} <= {value}"),
            _ => format!("{expression} NOT IN ({value}, {other})"),
        }
    });
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            1 => inner.prop_map(|a| format!("(NOT {a})")),
        ]
    })
}

#[tokio::test]
async fn random_conditions_have_the_same_rows_with_an_index_and_without() {
    let mut runner = TestRunner::deterministic();
    for (name, isolation, before, after) in circumstances() {
        let mut bed = Bed::new(150);
        bed.isolation = isolation;
        before(&bed);
        bed.index(ALL).await;
        after(&bed);
        let context = bed.context().await;
        let mut skipped = 0;
        let mut seen = BTreeSet::new();
        for _ in 0..80 {
            let condition = conditions().new_tree(&mut runner).unwrap().current();
            let sql = format!(
                "SELECT partition, \"offset\", key, value FROM orders WHERE {condition} ORDER BY 1, 2"
            );
            let found = rows(&context, &sql).await;
            let plain = rows(&context, &sql.replace("orders", "plain")).await;
            assert_eq!(found, plain, "{name}: {condition}");
            let plan = rows(&context, &format!("EXPLAIN {sql}"))
                .await
                .unwrap()
                .join("");
            skipped += usize::from(plan.contains("pruned_by_index"));
            seen.extend(found.unwrap());
        }
        assert!(skipped > 20, "{name}: {skipped} conditions skipped a block");
        assert!(seen.len() > 20, "{name}: {} rows", seen.len());
    }
}
