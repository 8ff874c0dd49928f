//! The job files. Each runs on the first records of a shop, and again after more have arrived.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::{at, broker, day_of, landed, lines, now_minute_ms, sorted, sqlite, text_of};
use crate::job::text;
use crate::support::postgres::{self, PostgresServer};
use crate::support::read::{Isolation, ReadRecord, read};
use crate::support::{Record, admin, produce, repository, s3};

const PARTITIONS: i32 = 4;

/// A record of `orders`, as in the demo.
struct Order {
    partition: i32,
    timestamp_ms: i64,
    number: u32,
    item: &'static str,
    amount: &'static str,
    status: &'static str,
}

/// The orders before the first runs, and those that arrive between the runs.
fn orders() -> [Vec<Order>; 2] {
    let order = |partition, timestamp_ms, number, item, amount, status| Order {
        partition,
        timestamp_ms,
        number,
        item,
        amount,
        status,
    };
    let first = vec![
        order(0, at(300, 0), 1, "teapot", "27.90", "shipped"),
        order(0, at(10, 5), 2, "mug", "8.90", "shipped"),
        order(1, at(10, 20), 3, "tea kettle", "34.90", "new"),
        order(2, at(10, 50), 4, "scale", "29.90", "cancelled"),
        order(3, at(9, 1), 5, "espresso machine", "498.00", "shipped"),
        order(1, at(9, 3), 6, "gift card", "25.00", "new"),
    ];
    let second = vec![
        // Late, for a minute that already has rows.
        order(0, at(10, 30), 7, "mug", "17.80", "shipped"),
        order(1, at(5, 0), 8, "coffee grinder", "89.50", "cancelled"),
        order(2, at(5, 10), 9, "espresso machine", "747.00", "new"),
        // Too late for the hour that the windowed counts cover.
        order(2, at(200, 0), 10, "teapot", "27.90", "shipped"),
    ];
    [first, second]
}

/// The payments before the first and before the second runs: numbers of orders, with times.
fn payments() -> [Vec<(u32, i64)>; 2] {
    [
        vec![(2, at(8, 0)), (3, at(7, 0))],
        // Order 5 came before, 9 arrives with its payment, and 1 is paid after five hours.
        vec![(5, at(3, 0)), (9, at(2, 0)), (6, at(2, 30)), (1, at(1, 0))],
    ]
}

fn value(order: &Order) -> String {
    format!(
        r#"{{"order":"o-{:05}","customer":"c-{:03}","item":"{}","quantity":1,"amount":{},"currency":"EUR","status":"{}"}}"#,
        order.number, order.partition, order.item, order.amount, order.status
    )
}

/// What the jobs have written after both runs.
struct Shop {
    folder: TempDir,
    database: &'static PostgresServer,
    /// The output of jobs that did not succeed, by name.
    failures: BTreeMap<String, String>,
}

/// The job files, sorted.
fn files() -> Vec<PathBuf> {
    let folder = repository().join("sql-examples/jobs");
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "sql"))
        .collect();
    files.sort();
    files
}

/// The name by which sinks know a file's job.
fn name_of(file: &Path) -> String {
    file.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// The flags in the comment at the top of a file, without `--every`.
fn flags(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    let call = format!(" run sql-examples/jobs/{name} ");
    let line = text.lines().find_map(|line| line.split_once(&call));
    let (_, flags) = line.unwrap_or_else(|| panic!("{name} does not say how to run it"));
    let mut flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let every = flags.iter().position(|flag| flag == "--every");
    let every = every.unwrap_or_else(|| panic!("{name} is run without --every"));
    flags.drain(every..every + 2);
    flags
}

/// A statement in the comment at the top of a file, from these words to its semicolon.
fn commented(file: &str, begin: &str) -> String {
    let files = files();
    let file = files.iter().find(|path| path.ends_with(file)).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let comment = text.lines().filter_map(|line| line.strip_prefix("-- "));
    let mut statement = vec![];
    for line in comment.skip_while(|line| !line.trim().starts_with(begin)) {
        statement.push(line.trim());
        if line.ends_with(';') {
            return statement.join("\n");
        }
    }
    panic!("no '{begin}' in the comment");
}

impl Shop {
    fn produce(run: usize) {
        let records: Vec<Record> = orders()[run]
            .iter()
            .map(|order| {
                Record::new(order.partition)
                    .key(format!("c-{:03}", order.partition))
                    .value(value(order))
                    .timestamp_ms(order.timestamp_ms)
                    .header("source", Some(b"web"))
            })
            .collect();
        produce::produce(broker().bootstrap(), "orders", &records);
        let records: Vec<Record> = payments()[run]
            .iter()
            .map(|(number, timestamp_ms)| {
                let order = format!("o-{number:05}");
                let partition = i32::try_from(*number).unwrap() % PARTITIONS;
                Record::new(partition)
                    .key(order.as_str())
                    .value(format!(r#"{{"order":"{order}","method":"card"}}"#))
                    .timestamp_ms(*timestamp_ms)
            })
            .collect();
        produce::produce(broker().bootstrap(), "payments", &records);
    }

    /// Runs every file to the end of the available records.
    fn run(&mut self) {
        let checkpoints = self.folder.path().join("checkpoints");
        let products = repository().join("sql-examples/jobs/products.csv");
        for file in files() {
            let name = name_of(&file);
            let counts = self.folder.path().join(&name).with_extension("db");
            let output = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
                .args(["-b", broker().bootstrap(), "run"])
                .arg(&file)
                .args(flags(&file))
                .arg("--available-now")
                .arg("--checkpoint")
                .arg(checkpoints.join(&name))
                .env("LAKE", self.lake())
                .env("SHOP", self.database.url("postgres"))
                .env("TARGET", broker().bootstrap())
                .env("COUNTS", counts)
                .env("INDEX", self.folder.path().join("index"))
                .env("PRODUCTS", &products)
                .env_remove("KAFKA_SQL_BOOTSTRAP_SERVERS")
                .env_remove("KAFKA_SQL_CONFIG")
                .env_remove("KAFKA_SQL_FAULT")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            if !output.status.success() {
                self.failures.insert(name.to_owned(), text(&output));
            }
        }
    }

    fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    fn sql(&self, query: &str) -> Vec<Vec<String>> {
        lines(&self.database.sql(query))
    }

    /// The rows of a query on a file of counts.
    fn counts(&self, job: &str, query: &str) -> Vec<Vec<String>> {
        let file = self.folder.path().join(job).with_extension("db");
        sqlite(&file, query)
    }
}

/// The shop after both runs of this job, which must have succeeded.
fn shop(job: &str) -> &'static Shop {
    static SHOP: OnceLock<Shop> = OnceLock::new();
    let shop = SHOP.get_or_init(|| {
        let targets = ["cancelled-orders", "large-orders", "order-states"];
        for topic in ["orders", "payments"].iter().chain(&targets) {
            admin::create_topic(broker().bootstrap(), topic, PARTITIONS, &[]);
        }
        let mut shop = Shop {
            folder: TempDir::new().unwrap(),
            database: postgres::shared(),
            failures: BTreeMap::new(),
        };
        for run in 0..2 {
            Shop::produce(run);
            shop.run();
        }
        shop
    });
    let failure = shop.failures.get(job);
    assert!(failure.is_none(), "{}", failure.unwrap());
    shop
}

/// The records in a topic, as committed readers see them.
fn records(topic: &str) -> Vec<ReadRecord> {
    let partitions = 0..PARTITIONS;
    let read = |partition| {
        read(
            broker().bootstrap(),
            topic,
            partition,
            Isolation::ReadCommitted,
        )
    };
    partitions.flat_map(read).collect()
}

/// Orders with their offsets.
fn with_offsets() -> Vec<(Order, i64)> {
    let mut next = [0; PARTITIONS as usize];
    let orders = orders().into_iter().flatten();
    let offset_of = |order: Order| {
        let next = &mut next[order.partition as usize];
        *next += 1;
        (order, *next - 1)
    };
    orders.map(offset_of).collect()
}

/// A minute in PostgreSQL, in the form that the tests compare.
fn epoch(timestamp_ms: i64) -> String {
    (timestamp_ms / 1_000).to_string()
}

#[test]
fn every_file_is_tested_here() {
    let names: Vec<String> = files().iter().map(|path| name_of(path)).collect();
    assert_eq!(
        names,
        [
            "01-landing",
            "02-per-minute",
            "03-copy",
            "04-windowed-counts",
            "05-join",
            "06-several-sinks",
            "07-states",
            "08-index"
        ]
    );
}

#[tokio::test]
async fn landing_has_each_order_in_the_folder_of_its_day() {
    let shop = tokio::task::spawn_blocking(|| shop("01-landing"))
        .await
        .unwrap();
    let expected = with_offsets().into_iter().map(|(order, offset)| {
        [
            format!("day={}", day_of(order.timestamp_ms)),
            order.partition.to_string(),
            offset.to_string(),
            value(&order),
        ]
    });
    assert_eq!(landed(&shop.lake()).await, sorted(expected));
}

#[test]
fn minutes_add_up_with_late_orders() {
    let shop = shop("02-per-minute");
    let minutes = "SELECT extract(epoch FROM minute)::bigint, orders, amount FROM per_minute";
    let expected = sorted([
        [epoch(at(300, 0)), "1".to_owned(), "27.90".to_owned()],
        [epoch(at(200, 0)), "1".to_owned(), "27.90".to_owned()],
        [epoch(at(10, 0)), "3".to_owned(), "61.60".to_owned()],
        [epoch(at(9, 0)), "2".to_owned(), "523.00".to_owned()],
        [epoch(at(5, 0)), "1".to_owned(), "747.00".to_owned()],
    ]);
    let file = "02-per-minute.sql";
    shop.database.sql(&commented(file, "CREATE VIEW"));
    assert_eq!(shop.sql(minutes), expected);
    let shares = || shop.sql("SELECT count(*) FROM minute_shares");
    assert_eq!(shares(), [["6"]]);
    shop.database.sql(&commented(file, "WITH shares"));
    assert_eq!(shop.sql(minutes), expected);
    assert_eq!(shares(), [["5"]]);
}

#[test]
fn copies_keep_key_headers_and_timestamp() {
    shop("03-copy");
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
    let copied = records("cancelled-orders").into_iter().map(|record| {
        let headers = [("source".to_owned(), Some(b"web".to_vec()))];
        assert_eq!(record.headers, headers);
        [
            text(record.key),
            text(record.value),
            record.timestamp_ms.unwrap().to_string(),
        ]
    });
    let cancelled = orders()
        .into_iter()
        .flatten()
        .filter(|order| order.status == "cancelled");
    let expected = cancelled.map(|order| {
        [
            format!("c-{:03}", order.partition),
            value(&order),
            order.timestamp_ms.to_string(),
        ]
    });
    assert_eq!(sorted(copied), sorted(expected));
}

#[test]
fn windowed_counts_are_of_whole_minutes() {
    let counts = "SELECT minute, orders FROM per_minute";
    assert_eq!(
        shop("04-windowed-counts").counts("04-windowed-counts", counts),
        sorted([
            [text_of(at(10, 0)), "4".to_owned()],
            [text_of(at(9, 0)), "2".to_owned()],
            [text_of(at(5, 0)), "2".to_owned()],
        ]),
        "now is {}",
        text_of(now_minute_ms())
    );
}

#[test]
fn a_join_finds_what_came_in_another_batch() {
    let joined = "SELECT order_id, item, category, extract(epoch FROM ordered_at)::bigint, \
                         extract(epoch FROM paid_at)::bigint FROM paid_orders";
    let row = |order: &str, item: &str, category: &str, ordered_at, paid_at| {
        [
            order.to_owned(),
            item.to_owned(),
            category.to_owned(),
            epoch(ordered_at),
            epoch(paid_at),
        ]
    };
    assert_eq!(
        shop("05-join").sql(joined),
        sorted([
            row("o-00002", "mug", "tableware", at(10, 5), at(8, 0)),
            row("o-00003", "tea kettle", "tableware", at(10, 20), at(7, 0)),
            row(
                "o-00005",
                "espresso machine",
                "machines",
                at(9, 1),
                at(3, 0)
            ),
            row("o-00006", "gift card", "\\N", at(9, 3), at(2, 30)),
            row(
                "o-00009",
                "espresso machine",
                "machines",
                at(5, 10),
                at(2, 0)
            ),
        ])
    );
}

#[test]
fn several_sinks_have_the_same_orders() {
    let shop = shop("06-several-sinks");
    let all = "SELECT partition, \"offset\", extract(epoch FROM timestamp)::bigint, customer, \
                      order_id, status, amount FROM all_orders";
    let expected = with_offsets().into_iter().map(|(order, offset)| {
        [
            order.partition.to_string(),
            offset.to_string(),
            epoch(order.timestamp_ms),
            format!("c-{:03}", order.partition),
            format!("o-{:05}", order.number),
            order.status.to_owned(),
            order.amount.to_owned(),
        ]
    });
    assert_eq!(shop.sql(all), sorted(expected));

    let large = records("large-orders").into_iter().map(|record| {
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
        [text(record.key), text(record.value)]
    });
    let expected = [
        ["c-003", "o-00005 costs 498.00"],
        ["c-002", "o-00009 costs 747.00"],
    ];
    assert_eq!(sorted(large), sorted(expected));

    let counts = "SELECT status, sum(orders) FROM status_shares GROUP BY status";
    let expected = [["cancelled", "2"], ["new", "3"], ["shipped", "5"]];
    assert_eq!(shop.counts("06-several-sinks", counts), sorted(expected));
}

#[test]
fn states_are_json_and_tombstones() {
    shop("07-states");
    let text =
        |bytes: Option<Vec<u8>>| bytes.map_or("NULL".to_owned(), |b| String::from_utf8(b).unwrap());
    let found = records("order-states").into_iter();
    let found = found.map(|record| [text(record.key), text(record.value)]);
    let expected = orders().into_iter().flatten().map(|order| {
        let state = match order.status {
            "cancelled" => "NULL".to_owned(),
            status => format!(
                r#"{{"item":"{}","amount":{},"status":"{status}"}}"#,
                order.item, order.amount
            ),
        };
        [format!("o-{:05}", order.number), state]
    });
    assert_eq!(sorted(found), sorted(expected));
}

/// The job has made one in a folder; the statement makes another one in a bucket.
#[test]
fn an_order_is_found_by_the_index() {
    let folder = shop("08-index").folder.path().join("index");
    let bucket = format!("s3://{}/{}/", s3::BUCKET, uuid::Uuid::new_v4().simple());
    let run = |client: &str, sql: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
            .args([
                "-b",
                broker().bootstrap(),
                "-X",
                &format!("kafka.client={client}"),
            ])
            .args(["query", "--format", "ndjson", sql])
            .envs(s3::shared().environment())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut places = vec![folder.to_str().unwrap()];
    if cfg!(feature = "s3") {
        let create =
            "CREATE INDEX ON orders (key, (kafka_text(value)->>'order')) WITH (location = ";
        run("wire", &format!("{create}'{bucket}')"));
        places.push(&bucket);
    }
    let make = commented("08-index.sql", "CREATE EXTERNAL TABLE");
    let find = commented("08-index.sql", "SELECT");
    for place in places {
        let make = make.replace("/data/orders.index/", place);
        for client in ["wire", "librdkafka"] {
            let find = find.replace('*', "partition, kafka_text(value) AS value");
            let rows = run(client, &format!("{make} {find}"));
            assert_eq!(rows.lines().count(), 1, "{rows}");
            let is_there = rows.contains("\"partition\":2") && rows.contains("o-00009");
            assert!(is_there, "{rows}");
            let plan = run(client, &format!("{make} EXPLAIN {find}"));
            assert!(plan.contains("offsets_not_covered=0"), "{plan}");
            assert!(plan.contains("pruned_by_index=[orders[0]"), "{plan}");
        }
        let found = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
            .args(["-b", broker().bootstrap(), "search", "orders"])
            .args(["--option", &format!("index={place}")])
            .args(["--where", "kafka_text(value)->>'order' = 'o-00009'"])
            .envs(s3::shared().environment())
            .output()
            .unwrap();
        assert!(found.status.success(), "{}", text(&found));
        assert_eq!(
            String::from_utf8_lossy(&found.stdout).lines().count(),
            1,
            "{}",
            text(&found)
        );
        let told = String::from_utf8_lossy(&found.stderr);
        assert!(
            told.contains("1 hit in ") && told.contains(" by index"),
            "{told}"
        );
    }
}
