//! Random predicates: what is pushed down gives what filtering after reading gives.

use std::sync::Arc;

use proptest::prelude::*;

use super::{orders, over, query, rows};
use crate::client::memory::Record;

#[derive(Debug, Clone)]
enum Test {
    Compare(&'static str, &'static str, i64),
    In(&'static str, Vec<i64>, bool),
    Between(&'static str, i64, i64, bool),
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
    Not(Box<Test>),
    Null(&'static str),
}

impl Test {
    fn sql(&self) -> String {
        let literal = |column: &str, n: &i64| match column {
            "timestamp" => format!("to_timestamp_millis({})", n * 1000),
            "value" => format!("'value {n}'"),
            _ => n.to_string(),
        };
        match self {
            Self::Compare(column, op, n) => format!("{column} {op} {}", literal(column, n)),
            Self::In(column, list, negated) => {
                let list: Vec<String> = list.iter().map(|n| literal(column, n)).collect();
                let not = if *negated { "NOT " } else { "" };
                format!("{column} {not}IN ({})", list.join(", "))
            }
            Self::Between(column, low, high, negated) => {
                let not = if *negated { "NOT " } else { "" };
                format!(
                    "{column} {not}BETWEEN {} AND {}",
                    literal(column, low),
                    literal(column, high)
                )
            }
            Self::And(a, b) => format!("({} AND {})", a.sql(), b.sql()),
            Self::Or(a, b) => format!("({} OR {})", a.sql(), b.sql()),
            Self::Not(a) => format!("(NOT {})", a.sql()),
            Self::Null(column) => format!("{column} > NULL"),
        }
    }
}

fn tests() -> impl Strategy<Value = Test> {
    let column = || prop::sample::select(vec!["partition", "offset", "timestamp", "value"]);
    let op = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        6 => (column(), op, -2..105i64).prop_map(|(c, op, n)| Test::Compare(c, op, n)),
        2 => (column(), prop::collection::vec(-2..105i64, 1..4), any::<bool>())
            .prop_map(|(c, l, n)| Test::In(c, l, n)),
        2 => (column(), -2..105i64, -2..105i64, any::<bool>())
            .prop_map(|(c, a, b, n)| Test::Between(c, a, b, n)),
        1 => Just(Test::Null("offset")),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Test::And(a.into(), b.into())),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Test::Or(a.into(), b.into())),
            inner.prop_map(|a| Test::Not(a.into())),
        ]
    })
}

#[test]
fn pushed_down_predicates_equal_filtering_after_reading() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let cluster = orders();
    cluster
        .append("orders", 0, Record::new("late").with_timestamp_ms(5))
        .unwrap();
    cluster.append("orders", 1, Record::new("untimed")).unwrap();
    cluster.remove("orders", 2, 50).unwrap();
    let context = over(&cluster, "orders");
    runtime.block_on(async {
        let all = query(&context, "SELECT * FROM orders").await.unwrap();
        let schema = all[0].schema();
        let plain = datafusion::datasource::MemTable::try_new(schema, vec![all]).unwrap();
        context.register_table("plain", Arc::new(plain)).unwrap();
    });
    let config = ProptestConfig::with_cases(300);
    proptest!(config, |(test in tests())| {
        let sql = |table: &str| format!(
            "SELECT partition, offset FROM {table} WHERE {} ORDER BY partition, offset",
            test.sql()
        );
        let (pushed, filtered) = runtime.block_on(async {
            (rows(&context, &sql("orders")).await, rows(&context, &sql("plain")).await)
        });
        prop_assert_eq!(pushed, filtered, "{}", test.sql());
    });
}
