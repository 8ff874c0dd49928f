//! Records that do not decode, set aside with the batch.

use arrow::datatypes::DataType;

use super::*;
use crate::decode::{Format, OnBadRow};
use crate::kafka_sink::letters;
use crate::table::DeadLetters;

const INSERT_ID: &str = "INSERT INTO out SELECT partition, \"offset\", value FROM orders";
const TEXT: &[u8] = b"text";
const NO_TEXT: &[u8] = b"\xff\xfe";

struct Letters {
    world: World,
    place: TempDir,
}

impl Letters {
    fn new() -> Self {
        Self {
            world: World::new(2),
            place: tempfile::tempdir().unwrap(),
        }
    }

    fn append(&self, partition: i32, values: &[&'static [u8]]) {
        for value in values {
            let record = Record::new(*value).with_header("trace", Some(b"7".as_slice()));
            self.world
                .cluster
                .append("orders", partition, record)
                .unwrap();
        }
    }

    fn location(&self) -> String {
        self.place.path().join("dead").to_str().unwrap().to_owned()
    }

    fn builder(&self) -> KafkaTableBuilder {
        let table = self.world.table("orders").value_format(Format::Text);
        let place = DeadLetters::Location(self.location());
        table.on_bad_row(OnBadRow::Dlq).dead_letters(place)
    }

    fn table(&self) -> KafkaTable {
        self.builder().build_lazy().unwrap()
    }

    /// A table that puts up with so many records that do not decode.
    fn limited(&self, most: u64) -> KafkaTable {
        let limit = crate::decode::BadRowLimit::Count(most);
        self.builder().bad_row_limit(limit).build_lazy().unwrap()
    }

    async fn job(&self, insert: &str) -> MicroBatch {
        self.job_of(self.table(), insert).await
    }

    async fn job_of(&self, table: KafkaTable, insert: &str) -> MicroBatch {
        let context = KafkaSessionBuilder::new().build().unwrap();
        context.register_table("orders", Arc::new(table)).unwrap();
        MicroBatch::builder(context, "job")
            .checkpoint(self.world.checkpoint().to_str().unwrap())
            .sink("out", Arc::new(self.world.sink.clone()))
            .unwrap()
            .trigger(Trigger::AvailableNow)
            .insert(insert)
            .build()
            .await
            .unwrap()
    }

    async fn run(&self) -> crate::Result<super::super::RunSummary> {
        self.job(INSERT_ID).await.run(&Stop::new()).await
    }

    /// The dead letters, as sorted (partition, offset).
    async fn dead(&self) -> Vec<(i32, i64)> {
        let context = KafkaSessionBuilder::new().build().unwrap();
        let make = format!(
            "CREATE EXTERNAL TABLE dead STORED AS PARQUET LOCATION '{}'",
            self.location()
        );
        context.sql(&make).await.unwrap();
        let rows = context.sql("SELECT * FROM dead").await.unwrap();
        let rows = rows.collect().await.unwrap();
        let mut dead: Vec<(i32, i64)> = rows.iter().flat_map(offsets).collect();
        dead.sort_unstable();
        dead
    }
}

#[tokio::test]
async fn each_record_is_a_row_or_a_dead_letter() {
    let letters = Letters::new();
    letters.append(0, &[TEXT, NO_TEXT, TEXT]);
    letters.append(1, &[NO_TEXT]);
    letters.run().await.unwrap();
    assert_eq!(letters.world.held(), [(0, 0), (0, 2)]);
    assert_eq!(letters.dead().await, [(0, 1), (1, 0)]);
    // A batch without any, and one more with one.
    letters.append(0, &[TEXT]);
    letters.run().await.unwrap();
    letters.append(1, &[TEXT, NO_TEXT]);
    letters.run().await.unwrap();
    assert_eq!(letters.world.held(), [(0, 0), (0, 2), (0, 3), (1, 1)]);
    assert_eq!(letters.dead().await, [(0, 1), (1, 0), (1, 2)]);
}

#[tokio::test]
async fn a_batch_that_is_run_again_sets_nothing_aside_twice() {
    for operation in ["stage", "commit", "answer"] {
        let letters = Letters::new();
        letters.append(0, &[TEXT, NO_TEXT]);
        letters.world.sink.fail(operation, 1, false);
        letters.run().await.unwrap_err();
        letters.append(0, &[NO_TEXT]);
        letters.run().await.unwrap();
        assert_eq!(letters.world.held(), [(0, 0)], "{operation}");
        assert_eq!(letters.dead().await, [(0, 1), (0, 2)], "{operation}");
    }
}

#[tokio::test]
async fn what_a_query_leaves_out_is_set_aside_all_the_same() {
    let letters = Letters::new();
    letters.append(0, &[TEXT, NO_TEXT, TEXT]);
    letters.append(1, &[NO_TEXT]);
    let insert = format!("{INSERT_ID} WHERE partition = 0 AND \"offset\" > 1");
    let mut job = letters.job(&insert).await;
    let progress = job.step().await.unwrap().unwrap();
    assert_eq!(letters.world.held(), [(0, 2)]);
    assert_eq!(letters.dead().await, [(0, 1), (1, 0)]);
    // What was read for the rows is counted, and not what was read for dead letters.
    assert_eq!(progress.sources[0].records, 1);
    assert_eq!(progress.sinks.len(), 2);
    assert_eq!(progress.sinks[1].rows, 2);
}

#[tokio::test]
async fn a_letter_says_what_and_why() {
    let letters = Letters::new();
    letters.append(1, &[TEXT, NO_TEXT]);
    letters.run().await.unwrap();
    let context = KafkaSessionBuilder::new().build().unwrap();
    let make = format!(
        "CREATE EXTERNAL TABLE dead STORED AS PARQUET LOCATION '{}'",
        letters.location()
    );
    context.sql(&make).await.unwrap();
    let rows = context
        .sql("SELECT topic, value, header(headers, 'trace') AS trace, error_class, error_message, schema_id FROM dead")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&rows)
        .unwrap()
        .to_string();
    assert_eq!(
        text,
        "+--------+-------+-------+-------------+----------------------------------------------------------+-----------+\n\
         | topic  | value | trace | error_class | error_message                                            | schema_id |\n\
         +--------+-------+-------+-------------+----------------------------------------------------------+-----------+\n\
         | orders | fffe  | 37    | syntax      | value: not UTF-8 text: byte 0 is not part of a character |           |\n\
         +--------+-------+-------+-------------+----------------------------------------------------------+-----------+"
    );
}

#[tokio::test]
async fn more_than_the_limit_leaves_nothing_anywhere() {
    let letters = Letters::new();
    letters.append(0, &[TEXT, NO_TEXT, NO_TEXT]);
    let mut job = letters.job_of(letters.limited(1), INSERT_ID).await;
    let error = job.run(&Stop::new()).await.unwrap_err();
    assert!(
        matches!(error, crate::Error::BadRowLimit { bad: 2, .. }),
        "{error}"
    );
    assert!(letters.world.held().is_empty());
    let store = crate::store::Store::open(&letters.location(), &Default::default()).unwrap();
    let files = store.list("").await.unwrap();
    assert!(!files.iter().any(|f| f.ends_with(".parquet")), "{files:?}");
}

#[tokio::test]
async fn a_query_is_refused_and_a_place_is_needed() {
    let letters = Letters::new();
    letters.append(0, &[TEXT]);
    let context = KafkaSessionBuilder::new().build().unwrap();
    context
        .register_table("orders", Arc::new(letters.table()))
        .unwrap();
    let frame = context.sql("SELECT value FROM orders").await.unwrap();
    let error = frame.collect().await.unwrap_err().to_string();
    assert!(
        error.contains("in a query choose 'fail', 'null' or 'skip'"),
        "{error}"
    );

    let table = || letters.world.table("orders").value_format(Format::Text);
    let error = table().on_bad_row(OnBadRow::Dlq).build_lazy().unwrap_err();
    assert!(error.to_string().contains("'dlq.topic'"), "{error}");
    let place = DeadLetters::Topic("dead".into());
    let error = table()
        .dead_letters(place.clone())
        .build_lazy()
        .unwrap_err();
    assert!(
        error.to_string().contains("only with 'on.bad.row' = 'dlq'"),
        "{error}"
    );
    // A table made of a client has no settings to write with.
    let table = table()
        .on_bad_row(OnBadRow::Dlq)
        .dead_letters(place)
        .build_lazy()
        .unwrap();
    let error = letters::sink(&table).unwrap_err().to_string();
    assert!(error.contains("cannot write to its cluster"), "{error}");
}

#[tokio::test]
async fn redecode_reads_the_records_of_dead_letters_and_no_other() {
    let letters = Letters::new();
    letters.append(0, &[NO_TEXT, NO_TEXT, TEXT, NO_TEXT]);
    letters.append(1, &[TEXT]);
    letters.run().await.unwrap();
    letters.append(0, &[NO_TEXT]);
    let place = DeadLetters::Location(letters.location());
    let again = letters.world.table("orders").redecode(place.clone());
    let again = again.build().await.unwrap();
    let ranges: Vec<String> = again
        .snapshot()
        .await
        .unwrap()
        .offset_ranges()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ranges, ["orders[0] 0..2", "orders[0] 3..4"]);
    let context = KafkaSessionBuilder::new().build().unwrap();
    let rows = context
        .read_table(Arc::new(again))
        .unwrap()
        .collect()
        .await
        .unwrap();
    let rows: Vec<_> = rows.iter().flat_map(offsets).collect();
    assert_eq!(rows, [(0, 0), (0, 1), (0, 3)]);

    let other = letters.world.cluster.create_topic("other", 1);
    other.unwrap();
    let refused = letters
        .world
        .table("other")
        .redecode(place.clone())
        .build()
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.ends_with("has no dead letters of other; it has those of orders"),
        "{refused}"
    );
    let refused = letters
        .world
        .table("orders")
        .range("0:1")
        .redecode(place)
        .build()
        .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("a range is given too")
    );
    let refused = letters
        .world
        .table("other")
        .redecode(DeadLetters::Topic("orders".into()));
    let refused = refused.build().await.unwrap_err().to_string();
    assert!(
        refused.contains("holds something else than dead letters"),
        "{refused}"
    );
}

/// A job with two sinks whose table has these columns.
async fn two_sinks(letters: &Letters, second: &MemorySink, id: DataType) -> MicroBatch {
    let fields = vec![arrow::datatypes::Field::new("id", id, true)];
    let table = letters.world.table("orders").value_format(Format::Json);
    let table = table
        .fields(fields)
        .on_bad_row(OnBadRow::Dlq)
        .dead_letters(DeadLetters::Location(letters.location()));
    let context = KafkaSessionBuilder::new().build().unwrap();
    let table = Arc::new(table.build_lazy().unwrap());
    context.register_table("orders", table).unwrap();
    MicroBatch::builder(context, "job")
        .checkpoint(letters.world.checkpoint().to_str().unwrap())
        .sink("out", Arc::new(letters.world.sink.clone()))
        .unwrap()
        .sink("second", Arc::new(second.clone()))
        .unwrap()
        .trigger(Trigger::AvailableNow)
        .insert("INSERT INTO out SELECT partition, \"offset\" FROM orders")
        .insert("INSERT INTO second SELECT partition, \"offset\" FROM orders")
        .build()
        .await
        .unwrap()
}

#[tokio::test]
async fn half_of_a_batch_is_not_completed_by_another_decoding() {
    let letters = Letters::new();
    letters.append(0, &[b"{\"id\":1}", b"{\"id\":\"x\"}"]);
    let second = MemorySink::new("second");
    second.fail("commit", 1, false);
    let mut job = two_sinks(&letters, &second, DataType::Int64).await;
    job.run(&Stop::new()).await.unwrap_err();
    assert_eq!(letters.world.held(), [(0, 0)]);
    // As text both records decode: the second one would be no row of the first sink and no dead letter.
    let mut job = two_sinks(&letters, &second, DataType::Utf8).await;
    let refused = job.run(&Stop::new()).await.unwrap_err();
    assert_eq!(
        refused.kind(),
        crate::error::ErrorKind::Conflict,
        "{refused}"
    );
    assert!(
        refused.to_string().contains("then as key raw, value json"),
        "{refused}"
    );
    let mut job = two_sinks(&letters, &second, DataType::Int64).await;
    job.run(&Stop::new()).await.unwrap();
    assert_eq!(letters.world.held(), [(0, 0)]);
    assert_eq!(letters.dead().await, [(0, 1)]);
    // Between batches it may change.
    letters.append(0, &[b"{\"id\":\"y\"}"]);
    let mut job = two_sinks(&letters, &second, DataType::Utf8).await;
    job.run(&Stop::new()).await.unwrap();
    assert_eq!(letters.world.held(), [(0, 0), (0, 2)]);
}

#[tokio::test]
async fn the_limit_holds_for_what_a_query_leaves_out() {
    let letters = Letters::new();
    letters.append(0, &[TEXT, NO_TEXT, NO_TEXT]);
    let insert = format!("{INSERT_ID} WHERE \"offset\" < 1");
    let mut job = letters.job_of(letters.limited(1), &insert).await;
    let error = job.run(&Stop::new()).await.unwrap_err();
    assert!(
        matches!(error, crate::Error::BadRowLimit { bad: 2, .. }),
        "{error}"
    );
    assert!(letters.world.held().is_empty());
}

#[tokio::test]
async fn dead_letters_do_not_lie_among_other_rows() {
    let letters = Letters::new();
    letters.append(0, &[TEXT]);
    let context = KafkaSessionBuilder::new().build().unwrap();
    let plain = letters.world.table("orders").build_lazy().unwrap();
    context.register_table("orders", Arc::new(plain)).unwrap();
    let make = format!(
        "CREATE EXTERNAL TABLE out STORED AS PARQUET LOCATION '{}'",
        letters.location()
    );
    context.sql(&make).await.unwrap();
    let other = MicroBatch::builder(context, "other")
        .checkpoint(letters.place.path().join("log").to_str().unwrap())
        .trigger(Trigger::AvailableNow)
        .insert("INSERT INTO out SELECT \"offset\" AS number FROM orders");
    other
        .build()
        .await
        .unwrap()
        .run(&Stop::new())
        .await
        .unwrap();
    let context = KafkaSessionBuilder::new().build().unwrap();
    context
        .register_table("orders", Arc::new(letters.table()))
        .unwrap();
    let refused = MicroBatch::builder(context, "job")
        .checkpoint(letters.world.checkpoint().to_str().unwrap())
        .sink("out", Arc::new(letters.world.sink.clone()))
        .unwrap()
        .insert(INSERT_ID)
        .build()
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("have a column 'number'"), "{refused}");
}

#[tokio::test]
async fn tables_that_decode_otherwise_are_other_sources() {
    let letters = Letters::new();
    let client: Arc<dyn crate::client::KafkaClient> = Arc::new(letters.world.cluster.client());
    let table = |format| {
        let table = KafkaTable::builder_with_client(Arc::clone(&client)).topic("orders");
        table.value_format(format).build_lazy().unwrap()
    };
    assert!(table(Format::Text).is_same_source(&table(Format::Text)));
    assert!(!table(Format::Text).is_same_source(&table(Format::Uuid)));
}

#[tokio::test]
async fn redecode_refuses_a_topic_that_was_created_anew() {
    let letters = Letters::new();
    letters.append(0, &[NO_TEXT]);
    letters.run().await.unwrap();
    letters.world.cluster.recreate_topic("orders").unwrap();
    letters.append(0, &[TEXT]);
    let place = DeadLetters::Location(letters.location());
    let refused = letters.world.table("orders").redecode(place).build().await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, crate::Error::TopicRecreated { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn redecode_needs_a_place_of_dead_letters() {
    let letters = Letters::new();
    let place = DeadLetters::Location(letters.location());
    let refused = letters.world.table("orders").redecode(place).build().await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .ends_with("holds no dead letters")
    );
}
