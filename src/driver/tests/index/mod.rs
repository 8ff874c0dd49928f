//! Indexes: a table with one has the rows of a table without, reads less, and refuses what is of other rows.

mod random;
mod refused;

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionConfig;

use super::*;
use crate::client::memory::TopicOptions;
use crate::decode::{Format, OnBadRow};
use crate::range::IsolationLevel::{self, ReadCommitted, ReadUncommitted};

/// The blocks of the tests.
const BLOCK: i64 = 16;
const ALL: &str = "key, kafka_text(header(headers, 'h')), json_get_int(kafka_text(value), 'id'), kafka_text(value)->>'name', \
                   length(value) > 20";

struct Bed {
    cluster: MemoryCluster,
    folder: TempDir,
    isolation: IsolationLevel,
}

/// The n-th record: some have no key, no text, no JSON, or no timestamp.
fn record(n: i64) -> Record {
    let value = match n % 13 {
        0 => format!("no json {n}"),
        1 => format!(r#"{{"name": null, "id": {}}}"#, n % 7),
        _ => format!(r#"{{"id": {}, "name": "name {}"}}"#, n / 5, n / 20),
    };
    let record = Record::new(value);
    let record = match n % 11 {
        0 => record,
        1 => record.with_key([0xff, 1]),
        _ => record.with_key(format!("key {}", n / 3)),
    };
    let record = match n % 17 {
        0 => record,
        late => record.with_timestamp_ms(1000 * (n - late % 3)),
    };
    let header = format!("h {}", n / 30);
    record.with_header("h", (n % 5 != 0).then_some(header.as_bytes()))
}

impl Bed {
    /// `orders` with two partitions of so many records.
    fn new(records: i64) -> Self {
        Self::with(records, TopicOptions::default())
    }

    fn with(records: i64, options: TopicOptions) -> Self {
        let cluster = MemoryCluster::builder().fetch_records(16).build();
        cluster.create_topic_with("orders", 2, options).unwrap();
        let bed = Self {
            cluster,
            folder: tempfile::tempdir().unwrap(),
            isolation: ReadCommitted,
        };
        bed.produce(0, records);
        bed
    }

    fn produce(&self, from: i64, to: i64) {
        for partition in 0..2 {
            let records = (from..to).map(|n| record(n + i64::from(partition)));
            self.cluster
                .append_all("orders", partition, records)
                .unwrap();
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn table(&self) -> KafkaTableBuilder {
        KafkaTable::builder_with_client(Arc::new(self.cluster.client()))
            .topic("orders")
            .isolation(self.isolation)
    }

    /// Makes the index, or brings it up to date, from a table that may differ.
    async fn index_of(&self, table: KafkaTableBuilder, expressions: &str) -> crate::Result<()> {
        let (location, log) = (
            self.path("index"),
            self.path(&format!("log-{}", expressions.len())),
        );
        let context = session();
        let table = table.build().await?;
        context.register_table("orders", Arc::new(table)).unwrap();
        let create = format!(
            "CREATE INDEX ON orders ({expressions}) WITH (location = '{location}', block_offsets = {BLOCK})"
        );
        let job = MicroBatch::builder(context, "index")
            .checkpoint(log)
            .insert(create);
        let mut job = job.trigger(Trigger::AvailableNow).build().await?;
        job.run(&Stop::new()).await.map(drop)
    }

    async fn index(&self, expressions: &str) {
        self.index_of(self.table(), expressions).await.unwrap();
    }

    /// A session with the topic as `orders`, which has the index, and as `plain`, which has none.
    async fn context(&self) -> SessionContext {
        let context = session();
        let indexed = self.table().index(self.path("index"));
        for (name, table) in [("orders", indexed), ("plain", self.table())] {
            let table = table.build().await.unwrap();
            context.register_table(name, Arc::new(table)).unwrap();
        }
        context
    }
}

fn session() -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(2);
    KafkaSessionBuilder::new().config(config).build().unwrap()
}

async fn rows(context: &SessionContext, sql: &str) -> Result<Vec<String>, String> {
    let frame = context.sql(sql).await;
    let frame = frame.map_err(|e| e.strip_backtrace())?;
    let rows = frame.collect().await.map_err(|e| e.strip_backtrace())?;
    let shown = pretty_format_batches(&rows).unwrap().to_string();
    let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
    Ok(rows.map(str::to_owned).collect())
}

/// Of a plan, what the index said: blocks read, blocks skipped, offsets that are not covered.
async fn used(context: &SessionContext, condition: &str) -> (u64, u64, u64) {
    let sql = format!("EXPLAIN SELECT * FROM orders WHERE {condition}");
    let plan = rows(context, &sql).await.unwrap().join("\n");
    let number = |name: &str| {
        let found = plan.split_once(&format!("{name}=")).map(|(_, rest)| rest);
        let digits = found.unwrap_or_else(|| panic!("{condition}: no {name} in {plan}"));
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        digits[..end].parse().unwrap()
    };
    assert_eq!(
        plan.contains("pruned_by_index="),
        number("blocks_skipped") > 0,
        "{plan}"
    );
    (
        number("blocks_read"),
        number("blocks_skipped"),
        number("offsets_not_covered"),
    )
}

#[tokio::test]
async fn conditions_read_only_the_blocks_that_may_match() {
    let bed = Bed::new(320);
    bed.index(ALL).await;
    let context = bed.context().await;
    // Two partitions of 20 blocks, in which a key is in one or two neighbours.
    for condition in [
        "key = 'key 50'",
        "'key 50' = key",
        "kafka_text(key) = 'key 50'",
        "key IN ('key 50', NULL)",
        "key = 'key 50' AND value IS NOT NULL",
        "(key = 'key 50' OR key = 'key 51') AND NOT (partition < 0)",
        "json_get_int(kafka_text(value), 'id') = 31",
        "kafka_text(value)->>'name' = 'name 12'",
        "kafka_text(header(headers, 'h')) = 'h 4'",
        "header(headers, 'h') = 'h 4' AND json_get_int(kafka_text(value), 'id') = 25",
        "key = 'key 50' AND timestamp < to_timestamp_millis(160000)",
    ] {
        let (read, skipped, not_covered) = used(&context, condition).await;
        let is_header = condition.contains("'h 4'") || condition.contains("name 12");
        let most = if is_header { 8 } else { 5 };
        assert!((1..=most).contains(&read), "{condition}: {read}");
        assert_eq!((read + skipped, not_covered), (40, 0), "{condition}");
        bed.cluster.reset_stats();
        let sql =
            format!("SELECT partition, \"offset\" FROM orders WHERE {condition} ORDER BY 1, 2");
        let found = rows(&context, &sql).await.unwrap();
        let fetched = bed.cluster.stats().records;
        assert!(fetched < 200, "{condition}: {fetched} records");
        let plain = rows(&context, &sql.replace("orders", "plain"))
            .await
            .unwrap();
        assert_eq!(found, plain, "{condition}");
        assert!(!found.is_empty(), "{condition}");
    }
    // What is nowhere is not looked for.
    assert_eq!(used(&context, "key = 'nowhere at all'").await.0, 0);
    // These say nothing of what the index is of.
    for condition in [
        "key <> 'key 50'",
        "key IS NULL",
        "upper(kafka_text(key)) = 'KEY 50'",
    ] {
        let sql = format!("EXPLAIN SELECT * FROM orders WHERE {condition}");
        let plan = rows(&context, &sql).await.unwrap().join("\n");
        assert!(!plan.contains("pruned_by_index"), "{plan}");
    }
}

#[tokio::test]
async fn an_index_is_brought_up_to_date_and_the_rest_is_read() {
    let bed = Bed::new(100);
    bed.index("key").await;
    bed.produce(100, 140);
    let context = bed.context().await;
    let (_, skipped, not_covered) = used(&context, "key = 'key 40'").await;
    assert_eq!((skipped > 8, not_covered), (true, 80));
    bed.index("key").await;
    let context = bed.context().await;
    // A batch ended within a block, of which there are now two rows in each partition.
    let (read, skipped, not_covered) = used(&context, "key = 'key 40'").await;
    assert_eq!((read + skipped, not_covered), (20, 0));
    // An index that was made of a part.
    let part = Bed::new(100);
    let table = part.table().range("0=40:,1=90:");
    part.index_of(table, "key").await.unwrap();
    let context = part.context().await;
    assert_eq!(used(&context, "key = 'key 20'").await.2, 40 + 90);
    // A broker that gives no ids, so that the topic may be another one.
    part.cluster.set_without_ids(true);
    let context = part.context().await;
    assert_eq!(used(&context, "key = 'key 20'").await.2, 200);
    // One that has no batch yet.
    let none = Bed::new(0);
    none.index("key").await;
    none.produce(0, 50);
    let context = none.context().await;
    let sql = "SELECT count(*) FROM orders WHERE key = 'key 10'";
    let found = rows(&context, sql).await;
    assert_eq!(found, rows(&context, &sql.replace("orders", "plain")).await);
}

/// A log that was cut and has grown again has other records at offsets that the index covered.
#[tokio::test]
async fn a_cut_log_is_read_where_the_index_is_of_what_was_lost() {
    for policy in ["delete", "compact"] {
        let bed = Bed::with(100, TopicOptions::default().cleanup_policy(policy));
        bed.index("key").await;
        bed.cluster.elect_at("orders", 0, 40).unwrap();
        let records = (0..100).map(|n| Record::new("new").with_key(format!("new {n}")));
        bed.cluster.append_all("orders", 0, records).unwrap();
        let context = bed.context().await;
        assert_eq!(used(&context, "key = 'new 30'").await.2, 140, "{policy}");
        let sql = "SELECT count(*) FROM orders WHERE key = 'new 30'";
        let found = rows(&context, sql).await.unwrap();
        assert_eq!(
            found,
            rows(&context, &sql.replace("orders", "plain"))
                .await
                .unwrap()
        );
        assert!(found[0].contains(" 1 "), "{policy}: {found:?}");
    }
}

/// What other sources of its job are read to says nothing of an index.
#[tokio::test]
async fn an_index_covers_what_its_own_source_has_looked_at() {
    let bed = Bed::new(100);
    bed.cluster.create_topic("payments", 1).unwrap();
    let records = (0..50).map(|n| Record::new("x").with_key(format!("key {n}")));
    bed.cluster.append_all("payments", 0, records).unwrap();
    let context = session();
    let part = bed.table().range("0=40:,1=90:");
    for (name, table) in [
        ("part", part),
        ("plain", bed.table()),
        ("payments", bed.table().topic("payments")),
    ] {
        let table = table.build().await.unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    let location = bed.path("index");
    let create = format!(
        "CREATE INDEX ON part (key) WITH (location = '{location}', block_offsets = {BLOCK})"
    );
    let twice = MicroBatch::builder(context.clone(), "index")
        .checkpoint(bed.path("log"))
        .insert(create.clone())
        .insert(create.replace("key", "octet_length(value)"));
    let error = twice.build().await.err().unwrap().to_string();
    assert!(
        error.contains("an index needs a folder of its own"),
        "{error}"
    );
    let job = MicroBatch::builder(context, "index")
        .checkpoint(bed.path("log"))
        .sink("out", Arc::new(MemorySink::new("out")))
        .unwrap()
        .insert("INSERT INTO out SELECT key FROM plain")
        .insert("INSERT INTO out SELECT key FROM payments")
        .insert(create)
        .trigger(Trigger::AvailableNow);
    job.build().await.unwrap().run(&Stop::new()).await.unwrap();
    let indexed = bed.context().await;
    assert_eq!(used(&indexed, "key = 'key 3'").await.2, 40 + 90);
    let both = bed.table().location("orders,payments");
    let both = both.index(location).build().await.unwrap();
    indexed.register_table("both", Arc::new(both)).unwrap();
    let sql = "SELECT topic, partition, \"offset\" FROM both WHERE key = 'key 3' ORDER BY 1, 2, 3";
    let found = rows(&indexed, sql).await.unwrap();
    // Two in each partition of `orders`, of which some have no key.
    assert_eq!(found.len(), 2 * 2 + 1, "{found:?}");
}

/// A record that does not decode is where the plain scan would have met it, or the index is refused.
#[tokio::test]
async fn bad_records_are_not_skipped() {
    use OnBadRow::{Fail, Null, Skip};
    // Made with, read with, and whether the index serves.
    for (made, read, serves) in [
        (Fail, Fail, true),
        (Fail, Null, true),
        (Fail, Skip, true),
        (Null, Fail, false),
        (Null, Null, true),
        (Null, Skip, true),
        (Skip, Fail, false),
        (Skip, Null, false),
        (Skip, Skip, true),
    ] {
        let mut bed = Bed::new(0);
        bed.isolation = ReadUncommitted;
        for n in 0..100 {
            let value = if n == 50 && made != Fail {
                "bad".to_owned()
            } else {
                format!(r#"{{"id": {n}}}"#)
            };
            let record = Record::new(value).with_key(format!("key {n}"));
            bed.cluster.append("orders", 0, record).unwrap();
        }
        let fields = vec![arrow::datatypes::Field::new(
            "id",
            arrow::datatypes::DataType::Int64,
            true,
        )];
        let table = |on| {
            bed.table()
                .value_format(Format::Json)
                .fields(fields.clone())
                .on_bad_row(on)
        };
        bed.index_of(table(made), "id, key").await.unwrap();
        // One that came later is met whatever the index says.
        bed.cluster.append("orders", 1, Record::new("bad")).unwrap();
        let context = session();
        for (name, table) in [
            ("orders", table(read).index(bed.path("index"))),
            ("plain", table(read)),
        ] {
            let table = table.build().await.unwrap();
            context.register_table(name, Arc::new(table)).unwrap();
        }
        for condition in [
            "id = 20",
            "key = 'key 50'",
            "id = 20 AND partition = 0",
            "id IS NULL",
        ] {
            let sql = format!("SELECT \"offset\", id FROM orders WHERE {condition}");
            let found = rows(&context, &sql).await;
            let plain = rows(&context, &sql.replace("orders", "plain")).await;
            let case = format!("{made} {read} {condition}: {found:?} {plain:?}");
            match serves {
                true => assert_eq!(found, plain, "{case}"),
                false if condition == "id IS NULL" => {}
                false => assert!(found.unwrap_err().contains("may skip records"), "{case}"),
            }
        }
    }
    // An index cannot be made with bad records unless that is wanted.
    let bed = Bed::new(0);
    bed.cluster.append("orders", 0, Record::new("bad")).unwrap();
    let fields = vec![arrow::datatypes::Field::new(
        "id",
        arrow::datatypes::DataType::Int64,
        true,
    )];
    let table = bed.table().value_format(Format::Json).fields(fields);
    let error = bed.index_of(table, "key").await.unwrap_err();
    assert!(error.to_string().contains("orders[0]@0"), "{error}");
}
