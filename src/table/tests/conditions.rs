//! Conditions inside the scan: the rows are those of filtering after reading, whatever the format, the policy and
//! the condition, and the ledger says what was ruled out.

use arrow::datatypes::{DataType, Field};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::collect;
use proptest::prelude::*;

use super::*;
use crate::decode::{BadRowLimit, Format, OnBadRow};
use crate::receipt::with_checksums;
use crate::scan::{ScanSettings, ledger};

/// What a table makes of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bytes,
    Text(OnBadRow),
    Json(OnBadRow),
    Csv(OnBadRow),
}

const KINDS: [Kind; 10] = [
    Kind::Bytes,
    Kind::Text(OnBadRow::Null),
    Kind::Text(OnBadRow::Skip),
    Kind::Text(OnBadRow::Fail),
    Kind::Json(OnBadRow::Null),
    Kind::Json(OnBadRow::Skip),
    Kind::Json(OnBadRow::Fail),
    Kind::Csv(OnBadRow::Null),
    Kind::Csv(OnBadRow::Skip),
    Kind::Csv(OnBadRow::Fail),
];

impl Kind {
    fn table(self, cluster: &MemoryCluster) -> KafkaTableBuilder {
        let fields = || {
            vec![
                Field::new("a", DataType::Utf8, true),
                Field::new("n", DataType::Int64, true),
                Field::new("b", DataType::Boolean, true),
            ]
        };
        let table = builder(cluster).topic("t");
        match self {
            Self::Bytes => table,
            Self::Text(on) => table.value_format(Format::Text).on_bad_row(on),
            Self::Json(on) => {
                let table = table.value_format(Format::Json).fields(fields());
                table.on_bad_row(on)
            }
            Self::Csv(on) => {
                let table = table.value_format(Format::Csv).fields(fields());
                table.on_bad_row(on)
            }
        }
    }

    /// A text column and a number that the table has.
    fn columns(self) -> (&'static str, &'static str) {
        match self {
            Self::Bytes | Self::Text(_) => ("value", "octet_length(value)"),
            Self::Json(_) | Self::Csv(_) => ("a", "n"),
        }
    }

    fn payload(self, made: &Made) -> Option<Vec<u8>> {
        let Made { word, number, flaw } = made;
        let text = WORDS[*word % WORDS.len()];
        Some(match (self, flaw) {
            (_, Flaw::Null) => return None,
            (_, Flaw::NotText) => b"\xff order".to_vec(),
            (Self::Json(_), Flaw::Field) => format!("{{\"a\":\"{text}\",\"b\":7,\"n\":1}}").into(),
            (Self::Json(_), Flaw::Escaped) => {
                let hidden: String = (text.chars())
                    .map(|c| format!("\\u{:04x}", u32::from(c)))
                    .collect();
                format!("{{\"n\": {number}, \"a\": \"{hidden}\"}}").into()
            }
            (Self::Json(_), Flaw::Other) => {
                format!("{{\"a\": [1, true, \"{text}\"], \"n\":2}}").into()
            }
            (Self::Json(_), Flaw::None) => {
                format!("{{\"a\":\"{text}\",\"n\":{number},\"b\":true}}").into()
            }
            (Self::Csv(_), Flaw::Field) => format!("{text},1,maybe").into(),
            (Self::Csv(_), Flaw::Escaped) => format!("\"{text}\",{number},true").into(),
            (Self::Csv(_), Flaw::Other) => text.into(),
            (Self::Csv(_), Flaw::None) => format!("{text},{number},false").into(),
            (Self::Bytes | Self::Text(_), _) => format!("{text} {number}").into(),
        })
    }
}

const WORDS: [&str; 8] = [
    "order",
    "orders",
    "ordex",
    "reorder",
    "17",
    "",
    "[1,true,\"order\"]",
    "ORDER",
];

#[derive(Debug, Clone)]
struct Made {
    word: usize,
    number: i64,
    flaw: Flaw,
}

#[derive(Debug, Clone, Copy)]
enum Flaw {
    None,
    Null,
    /// Bytes that are no text.
    NotText,
    /// A field that does not decode beside others that do.
    Field,
    /// Written in another way.
    Escaped,
    Other,
}

fn made() -> impl Strategy<Value = Made> {
    let flaw = prop_oneof![
        8 => Just(Flaw::None),
        1 => Just(Flaw::Null),
        1 => Just(Flaw::NotText),
        2 => Just(Flaw::Field),
        2 => Just(Flaw::Escaped),
        1 => Just(Flaw::Other),
    ];
    let parts = (0..WORDS.len(), -3..4i64, flaw);
    parts.prop_map(|(word, number, flaw)| Made { word, number, flaw })
}

/// Conditions as templates: `{a}` is the text column, `{n}` the number.
fn conditions() -> impl Strategy<Value = String> {
    let word = || prop::sample::select(WORDS.map(|w| w.replace('\'', "")).to_vec());
    let leaf = prop_oneof![
        3 => word().prop_map(|w| format!("{{a}} = '{w}'")),
        1 => word().prop_map(|w| format!("{{a}} <> '{w}'")),
        3 => word().prop_map(|w| format!("{{a}} LIKE '%{w}%'")),
        1 => word().prop_map(|w| format!("{{a}} LIKE '{w}_'")),
        1 => word().prop_map(|w| format!("{{a}} NOT LIKE '%{w}%'")),
        1 => word().prop_map(|w| format!("{{a}} ILIKE '%{w}%'")),
        // Written with a space.
        1 => Just("{a} LIKE '%1,true%'".to_owned()),
        1 => Just("kafka_text({a}) ~ 'order'".to_owned()),
        1 => Just("{a} IN ('order', 'ordex')".to_owned()),
        1 => Just("{a} IS NULL".to_owned()),
        1 => Just("coalesce(kafka_text({a}), 'none') = 'none'".to_owned()),
        2 => (-3..4i64).prop_map(|n| format!("{{n}} > {n}")),
        1 => Just("{n} IS NOT NULL".to_owned()),
        2 => (0..30i64).prop_map(|n| format!("offset < {n}")),
        1 => (0..30i64).prop_map(|n| format!("timestamp > to_timestamp_millis({n})")),
        2 => (0..4i64).prop_map(|n| format!("key = 'key {n}'")),
        1 => Just("kafka_text(key) LIKE '%ey 2%'".to_owned()),
        1 => Just("header(headers, 'h') = 'odd'".to_owned()),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            1 => inner.prop_map(|a| format!("(NOT {a})")),
        ]
    })
}

/// A topic with these records, of which some are compacted away, and an aborted transaction.
fn topic(kind: Kind, records: &[Made], fetch: usize) -> MemoryCluster {
    let cluster = MemoryCluster::builder().fetch_records(fetch).build();
    cluster.create_topic("t", 1).unwrap();
    for (at, made) in records.iter().enumerate() {
        let parity = if at % 2 == 0 { "even" } else { "odd" };
        let record = Record {
            key: (at % 5 > 0).then(|| format!("key {}", at % 5).into_bytes()),
            value: kind.payload(made),
            timestamp_ms: (at % 7 > 0).then_some(at as i64),
            headers: vec![("h".to_owned(), Some(parity.into()))],
        };
        if at % 11 == 10 {
            let mut aborted = cluster.begin();
            aborted.append("t", 0, record.clone()).unwrap();
            aborted.abort().unwrap();
        }
        cluster.append("t", 0, record).unwrap();
    }
    cluster.remove("t", 0, 3).unwrap();
    cluster
}

fn with_table(table: KafkaTableBuilder, push_down: bool) -> SessionContext {
    let context = session();
    let table = table.build_lazy().unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    let state = context.state_ref();
    let mut state = state.write();
    let settings = ScanSettings {
        push_down,
        ..ScanSettings::default()
    };
    let extensions = &mut state.config_mut().options_mut().extensions;
    extensions.insert(settings);
    drop(state);
    context
}

/// The rows, or the first line of the error.
async fn outcome(context: &SessionContext, sql: &str) -> Result<Vec<String>, String> {
    match query(context, sql).await {
        Ok(batches) => {
            let table = pretty_format_batches(&batches).unwrap().to_string();
            let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
            Ok(rows.map(str::to_owned).collect())
        }
        Err(error) => Err(error.strip_backtrace()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn conditions_inside_the_scan_equal_filtering_after_reading(
        kind in prop::sample::select(KINDS.to_vec()),
        records in prop::collection::vec(made(), 1..40),
        condition in conditions(),
        fetch in 1..20usize,
        limited in any::<bool>(),
        order in prop::sample::select(vec!["", "ORDER BY offset", "ORDER BY offset DESC", "ORDER BY {n}, offset LIMIT 3"]),
        columns in prop::sample::select(vec!["*", "offset", "{a}", "{n}, key, offset", "count(*)"]),
    ) {
        prop_assume!(columns != "count(*)" || order.is_empty());
        let cluster = topic(kind, &records, fetch);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (a, n) = kind.columns();
        let sql = format!("SELECT {columns} FROM t WHERE {condition} {order}");
        let sql = sql.replace("{a}", a).replace("{n}", n);
        let table = || {
            let table = kind.table(&cluster);
            match limited && kind != Kind::Bytes {
                true => table.bad_row_limit(BadRowLimit::Count(4)),
                false => table,
            }
        };
        let (pushed, filtered) = runtime.block_on(async {
            let pushed = outcome(&with_table(table(), true), &sql).await;
            (pushed, outcome(&with_table(table(), false), &sql).await)
        });
        match (&pushed, &filtered) {
            // The first bad record depends on the order in which records are read.
            (Err(pushed), Err(filtered)) if order.contains("DESC") => {
                let is_bad = |error: &String| error.contains("does not decode");
                prop_assert_eq!(is_bad(pushed), is_bad(filtered), "{} and {}", pushed, filtered);
            }
            _ => prop_assert_eq!(pushed, filtered, "{}", sql),
        }
    }
}

#[tokio::test]
async fn a_condition_is_the_scans_and_is_shown() {
    let context = over(&orders(), "orders");
    let sql = "SELECT offset, key FROM orders WHERE key = '2-17' AND value LIKE '%value 1%'";
    assert_eq!(rows(&context, sql).await, ["17 322d3137"]);
    let shown = plan(&context, sql).await;
    assert!(!shown.contains("FilterExec"), "{shown}");
    assert!(shown.contains("conditions=["), "{shown}");
    assert!(shown.contains("searched_for='value 1'"), "{shown}");
    context.sql("SET kafka.push_down = false").await.unwrap();
    let shown = plan(&context, sql).await;
    assert!(
        shown.contains("FilterExec") && !shown.contains("conditions="),
        "{shown}"
    );
    assert_eq!(rows(&context, sql).await, ["17 322d3137"]);
}

#[tokio::test]
async fn a_limit_behind_a_condition_stops_the_fetch() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let sql = "SELECT offset FROM orders WHERE partition = 1 AND octet_length(value) = 7 LIMIT 2";
    assert_eq!(rows(&context, sql).await, ["0", "1"]);
    assert!(cluster.stats().records < 50, "{:?}", cluster.stats());
    let sql = "SELECT offset, value FROM orders WHERE partition = 1 AND value LIKE '%value 9%' \
               ORDER BY offset DESC LIMIT 2";
    let before = cluster.stats().records;
    let expected = ["99 76616c7565203939", "98 76616c7565203938"];
    assert_eq!(rows(&context, sql).await, expected);
    assert!(
        cluster.stats().records - before < 80,
        "{:?}",
        cluster.stats()
    );
}

/// A LIMIT below a condition chooses the rows that it is about.
#[tokio::test]
async fn a_condition_does_not_pass_a_limit_below_it() {
    let context = over(&orders(), "orders");
    let inner = "SELECT * FROM orders WHERE partition = 0 LIMIT 10";
    let sql = format!("SELECT count(*) FROM ({inner}) WHERE octet_length(key) = 4");
    assert_eq!(count(&context, &sql).await, 0);
    let sql = format!("SELECT offset FROM ({inner}) ORDER BY value DESC LIMIT 1");
    assert_eq!(rows(&context, &sql).await, ["9"]);
}

#[tokio::test]
async fn what_fails_in_a_condition_fails_in_the_scan() {
    let context = over(&orders(), "orders");
    for wrong in [
        "10 / (offset - 50) > 1",
        "CAST(kafka_text(value) AS INT) = 1",
    ] {
        let sql = format!("SELECT * FROM orders WHERE {wrong}");
        let pushed = outcome(&context, &sql).await.unwrap_err();
        context.sql("SET kafka.push_down = false").await.unwrap();
        assert_eq!(pushed, outcome(&context, &sql).await.unwrap_err());
        context.sql("SET kafka.push_down = true").await.unwrap();
        // Records without the text would not fail: they must be looked at.
        let sql = format!("SELECT * FROM orders WHERE {wrong} AND value LIKE '%no such text%'");
        let shown = plan(&context, &sql).await;
        assert!(!shown.contains("searched_for"), "{shown}");
    }
    let sql = "SELECT count(*) FROM orders WHERE random() < 2 AND value LIKE '%value%'";
    assert_eq!(count(&context, sql).await, 400);
    let shown = plan(&context, sql).await;
    assert!(shown.contains("FilterExec: random()"), "{shown}");
}

#[tokio::test]
async fn hints_of_a_top_k_and_of_a_join_leave_the_rows_as_they_are() {
    let cluster = orders();
    let context = over(&cluster, "orders");
    let top = "SELECT partition, offset FROM orders ORDER BY timestamp DESC LIMIT 3";
    assert_eq!(rows(&context, top).await, ["3 99", "2 99", "1 99"]);
    let shown = plan(&context, top).await;
    assert!(shown.contains("hints=["), "{shown}");
    let keys = "(SELECT * FROM (VALUES ('1-7'), ('2-9')) AS few(k))";
    let join = format!(
        "SELECT partition, offset FROM orders JOIN {keys} ON kafka_text(key) = k ORDER BY 1, 2"
    );
    assert_eq!(rows(&context, &join).await, ["1 7", "2 9"]);
    // What an execution has learned must not rule out rows of the next.
    let plan = planned(&context, top).await;
    for _ in 0..2 {
        let found = collect(Arc::clone(&plan), context.task_ctx())
            .await
            .unwrap();
        let found: usize = found.iter().map(RecordBatch::num_rows).sum();
        assert!(found <= 3);
        // How fast nodes are does not show in the ledger.
        assert_eq!(ledger(&plan).total().to_string(), "400 delivered");
    }
    // Lists have no least value, which a join asks for where its hint is used.
    let made = Made {
        word: 0,
        number: 1,
        flaw: Flaw::None,
    };
    let cluster = topic(Kind::Bytes, &vec![made; 10], 64);
    let context = with_table(Kind::Bytes.table(&cluster), true);
    let none = "SELECT topic, headers FROM t EXCEPT SELECT topic, headers FROM t";
    assert_eq!(rows(&context, none).await, Vec::<String>::new());
}

/// What docs/ledger.md says of conditions, row by row.
#[tokio::test]
async fn the_page_of_the_ledger_says_what_becomes_of_a_condition() {
    let page = include_str!("../../../docs/ledger.md");
    let (_, table) = page
        .split_once("### What a condition makes of records")
        .unwrap();
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with("| `"))
        .take_while(|l| l.starts_with('|'));
    let mut checked = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [format, policy, receipt, searched, expected] = cells[..] else {
            panic!("{row}");
        };
        let on: OnBadRow = policy.trim_matches('`').parse().unwrap_or_default();
        let kind = match format {
            "`raw`" => Kind::Bytes,
            "`text`" => Kind::Text(on),
            "`json`" => Kind::Json(on),
            "`csv`" => Kind::Csv(on),
            other => panic!("{other}"),
        };
        // Three have the word, four have another, and one does not decode.
        let words = [0, 4, 0, 4, 0, 4, 4, 0].into_iter().enumerate();
        let records = words.map(|(at, word)| Made {
            word,
            number: 1,
            flaw: if at == 7 { Flaw::NotText } else { Flaw::None },
        });
        let cluster = MemoryCluster::new();
        cluster.create_topic("t", 1).unwrap();
        for made in records {
            let record = Record {
                value: kind.payload(&made),
                ..Record::new("")
            };
            cluster.append("t", 0, record).unwrap();
        }
        let mut table = kind.table(&cluster);
        if policy.contains("limit") {
            table = table
                .on_bad_row(OnBadRow::Null)
                .bad_row_limit(BadRowLimit::Count(9));
        }
        let context = with_table(table, true);
        let (column, _) = kind.columns();
        let is = match kind {
            Kind::Json(_) | Kind::Csv(_) => "= 'order'",
            Kind::Bytes | Kind::Text(_) => "LIKE '%order%'",
        };
        let sql = format!("SELECT * FROM t WHERE {column} {is}");
        let plan = planned(&context, &sql).await;
        let shown = datafusion::physical_plan::displayable(plan.as_ref())
            .indent(true)
            .to_string();
        assert!(!shown.contains("FilterExec"), "{row}\n{shown}");
        let task = match receipt {
            "yes" => Arc::new(with_checksums(TaskContext::from(&context))),
            _ => context.task_ctx(),
        };
        let is_searched = shown.contains("searched_for") && receipt == "no";
        assert_eq!(is_searched, searched == "yes", "{row}\n{shown}");
        let found = match collect(Arc::clone(&plan), task).await {
            Ok(_) => ledger(&plan).total().to_string(),
            Err(error) if error.to_string().contains("does not decode") => "an error".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{row}");
        checked += 1;
    }
    assert_eq!(checked, 13, "rows of the page");
}
