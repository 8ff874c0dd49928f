//! Jobs that write in formats, read by Confluent's deserializers and by this crate's tables.

use std::process::{Command, Output};

use arrow::array::{BooleanArray, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::util::display::array_value_to_string;
use datafusion_kafka::sink::Sink;

use super::*;
use crate::conformance::batch;
use crate::job::text;
use crate::support::registry::shared as registry;
use crate::support::{Record, produce};

/// A topic of orders in JSON: one is complete, one has NULL, one will become a tombstone.
fn orders() -> String {
    let topic = topic(1);
    let records = [
        r#"{"id":1,"name":"ä","amount":12.50,"at":"2026-01-14T10:00:00.5Z","tags":["a","b"]}"#,
        r#"{"id":2,"name":null,"amount":null,"at":null,"tags":[]}"#,
        r#"{"id":3,"name":"gone"}"#,
    ];
    let records = records.map(|value| Record::new(0).value(value).timestamp_ms(1_700_000_000_000));
    produce::produce(shared().bootstrap(), &topic, &records);
    topic
}

const COLUMNS: &str =
    "id BIGINT, name VARCHAR, amount DECIMAL(10, 2), at TIMESTAMP, tags VARCHAR[]";

/// The time as an instant.
const AT: &str = "arrow_cast(at, 'Timestamp(Microsecond, Some(\"UTC\"))') AS at";

/// Runs a job from the orders into a topic, with these options for the target.
fn run(from: &str, to: &str, options: &str, select: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("typed.sql");
    let text = format!(
        "CREATE EXTERNAL TABLE orders ({COLUMNS}) STORED AS KAFKA LOCATION '{from}'
           OPTIONS ('value.format' 'json', 'metadata.columns' 'partition,offset,timestamp');
         CREATE EXTERNAL TABLE out STORED AS KAFKA LOCATION '{to}'
           OPTIONS ('state.topic' '{to}-state', {options});
         INSERT INTO out SELECT {select} FROM orders;"
    );
    std::fs::write(&file, text).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
        .args(["-b", shared().bootstrap(), "run"])
        .arg(&file)
        .args(["--available-now", "-q"])
        .env_remove("KAFKA_SQL_BOOTSTRAP_SERVERS")
        .env_remove("KAFKA_SQL_CONFIG")
        .env_remove("KAFKA_SQL_FAULT")
        .output();
    output.expect("the shell starts")
}

async fn written(from: &str, to: &str, options: &str, select: &str) {
    let output = tokio::task::block_in_place(|| run(from, to, options, select));
    assert!(output.status.success(), "{}", text(&output));
    settled(shared().bootstrap(), to).await;
}

fn consumed(topic: &str, case: &str) -> Vec<String> {
    tokio::task::block_in_place(|| registry().consume(shared().bootstrap(), topic, case))
}

/// The rows of `SELECT columns` from a topic, read with these options.
async fn rows_of(columns: &str, topic: &str, options: &[&str]) -> Vec<String> {
    let options: String = options.iter().map(|o| format!(", '{o}'")).collect();
    let sql = format!("SELECT {columns} FROM kafka('{topic}', ':'{options}) ORDER BY \"offset\"");
    let context = records::session();
    let frame = context.sql(&sql).await.expect("it can be planned");
    let batches = frame.collect().await.expect("it can be read");
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter();
            let values = values.map(|c| array_value_to_string(c, row).expect("it can be shown"));
            rows.push(values.collect::<Vec<_>>().join(" "));
        }
    }
    rows
}

fn with_registry(options: &str) -> String {
    let url = registry().url();
    format!("'schema.registry.url' '{url}', {options}")
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_of_the_columns_is_registered_and_read_by_others() {
    let (from, to) = (orders(), topic(1));
    let options = with_registry(
        "'key.format' 'avro', 'value.format' 'avro', 'schema.registry.auto.register' 'true'",
    );
    let select = format!("id AS key_id, id, name, amount, {AT}, tags, name = 'gone' AS tombstone");
    written(&from, &to, &options, &select).await;
    let found = consumed(&to, "read-avro");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].starts_with(r#"[{"id": 1}, {"amount": "12.50", "at": "2026-01-14 10:00:00.5"#),
        "{}",
        found[0]
    );
    assert!(
        found[0].ends_with(r#""id": 1, "name": "ä", "tags": ["a", "b"]}]"#),
        "{}",
        found[0]
    );
    assert_eq!(
        found[1],
        r#"[{"id": 2}, {"amount": null, "at": null, "id": 2, "name": null, "tags": []}]"#
    );
    assert_eq!(found[2], r#"[{"id": 3}, null]"#);

    let url = format!("schema.registry.url={}", registry().url());
    let read = ["key.format=avro", "value.format=avro", &url];
    assert_eq!(
        rows_of(
            "key_id, id, name, amount, at, tags, value IS NULL",
            &to,
            &read
        )
        .await,
        [
            "1 1 ä 12.50 2026-01-14T10:00:00.500Z [a, b] false",
            "2 2    [] false",
            "3      true",
        ]
    );

    // From now on, jobs write with the subject's schema and register nothing.
    let options = with_registry("'key.format' 'avro', 'value.format' 'avro'");
    let misspelt = "id AS key_id, id, name AS nmae";
    let output = tokio::task::block_in_place(|| run(&from, &to, &options, misspelt));
    assert!(!output.status.success());
    let said = text(&output);
    assert!(
        said.contains("has no field for the column 'nmae'; did you mean 'name'?"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_of_a_file_is_registered_and_read_by_others() {
    let (from, to) = (orders(), topic(1));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(&to)).unwrap();
    std::fs::write(
        folder.path().join(&to).join("common.proto"),
        "syntax = \"proto3\"; package shop; message Money { int64 cents = 1; }",
    )
    .unwrap();
    let file = folder.path().join("order.proto");
    std::fs::write(
        &file,
        format!(
            "syntax = \"proto3\";
             package shop;
             import \"{to}/common.proto\";
             import \"google/protobuf/timestamp.proto\";
             message Other {{ int32 x = 1; }}
             message Order {{
               int64 id = 1;
               Money price = 2;
               google.protobuf.Timestamp at = 3;
               repeated Line lines = 4;
               message Line {{ string sku = 1; }}
             }}"
        ),
    )
    .unwrap();
    let options = with_registry(&format!(
        "'key.format' 'text', 'value.format' 'protobuf', 'value.schema.file' '{}',
         'value.schema.message' 'shop.Order'",
        file.display()
    ));
    let select = "CAST(id AS VARCHAR) AS key, id, at, \
                  CASE WHEN amount IS NULL THEN NULL \
                       ELSE named_struct('cents', CAST(amount * 100 AS BIGINT)) END AS price, \
                  make_array(named_struct('sku', coalesce(name, '-'))) AS lines, name = 'gone' AS tombstone";
    let output = tokio::task::block_in_place(|| run(&from, &to, &options, select));
    let said = text(&output);
    assert!(
        said.contains("is not registered under subject") && said.contains("auto.register"),
        "{said}"
    );
    assert!(!output.status.success());

    let options = format!("{options}, 'auto.register.schemas' 'true'");
    written(&from, &to, &options, select).await;
    assert_eq!(
        consumed(&to, "read-protobuf"),
        [
            r#"["1", {"at": "2026-01-14T10:00:00.500Z", "id": "1", "lines": [{"sku": "ä"}], "price": {"cents": "1250"}}]"#,
            r#"["2", {"id": "2", "lines": [{"sku": "-"}]}]"#,
            r#"["3", null]"#,
        ]
    );
    let url = format!("schema.registry.url={}", registry().url());
    let read = [
        "value.format=protobuf",
        "value.schema.message=shop.Order",
        &url,
    ];
    assert_eq!(
        rows_of("id, price, at, lines, value IS NULL", &to, &read).await,
        [
            "1 {cents: 1250} 2026-01-14T10:00:00.500Z [{sku: ä}] false",
            "2   [{sku: -}] false",
            "    true",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_of_the_columns_is_read_back() {
    let (from, to) = (orders(), topic(1));
    let options =
        with_registry("'value.format' 'protobuf', 'schema.registry.auto.register' 'true'");
    written(&from, &to, &options, "id, name, at, tags").await;
    let url = format!("schema.registry.url={}", registry().url());
    assert_eq!(
        rows_of("id, name, at, tags", &to, &["value.format=protobuf", &url]).await,
        [
            "1 ä 2026-01-14T10:00:00.500Z [a, b]",
            "2   []",
            "3 gone  []"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_framed_where_there_is_a_schema() {
    let (from, to) = (orders(), topic(1));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("order.json");
    std::fs::write(
        &file,
        r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"Order","type":"object",
            "properties":{"id":{"type":"integer"},"name":{"type":["string","null"]}}}"#,
    )
    .unwrap();
    let options = with_registry(&format!(
        "'key.format' 'int64', 'value.format' 'json', 'value.schema.file' '{}',
         'schema.registry.auto.register' 'true'",
        file.display()
    ));
    let select = format!("id AS key, id, name, amount, {AT}, tags, name = 'gone' AS tombstone");
    written(&from, &to, &options, &select).await;
    assert_eq!(
        consumed(&to, "read-json"),
        [
            r#"[1, {"amount": 12.5, "at": "2026-01-14T10:00:00.500Z", "id": 1, "name": "ä", "tags": ["a", "b"]}]"#
                .replace(".500Z", ".5Z"),
            r#"[2, {"amount": null, "at": null, "id": 2, "name": null, "tags": []}]"#.to_owned(),
            "[3, null]".to_owned(),
        ]
    );

    // Without a schema, the same objects have no frame.
    let bare = topic(1);
    let options = with_registry("'value.format' 'json'");
    written(&from, &bare, &options, "id, name").await;
    let seen = seen(&bare);
    assert_eq!(seen[0], r#"{"id":1,"name":"ä"}"#);
    let url = format!("schema.registry.url={}", registry().url());
    for topic in [&to, &bare] {
        let found = rows_of("id, name", topic, &["value.format=json", &url]).await;
        assert_eq!(found[..2], ["1 ä", "2 "]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_is_not_there_is_an_error_that_says_what_to_set() {
    let (from, to) = (orders(), topic(1));
    let options = with_registry("'value.format' 'avro'");
    let output = tokio::task::block_in_place(|| run(&from, &to, &options, "id"));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("has no subject '{to}-value' to write with"))
            && said.contains("'schema.registry.auto.register' = 'true'"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_of_another_format_is_refused() {
    let (from, to) = (orders(), topic(1));
    registry().produce(shared().bootstrap(), &to, "json");
    let options = with_registry("'value.format' 'avro', 'schema.registry.auto.register' 'true'");
    let output = tokio::task::block_in_place(|| run(&from, &to, &options, "id"));
    let said = text(&output);
    assert!(
        said.contains("has a schema of JSON Schema, but 'value.format' is 'avro'"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_keys_and_tombstones_arrive() {
    let topic = topic(1);
    let sink = sink(&topic, &own_state())
        .with_formats([
            ("key.format", "json"),
            ("value.format", "json"),
            ("metadata.prefix", "_"),
        ])
        .unwrap();
    let rows = rows(vec![
        (
            "key_id",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
        ),
        (
            "topic",
            Arc::new(StringArray::from(vec![Some("a"), None, Some("c")])),
        ),
        ("_partition", Arc::new(Int32Array::from(vec![0, 0, 0]))),
        (
            "_tombstone",
            Arc::new(BooleanArray::from(vec![Some(false), None, Some(true)])),
        ),
    ]);
    sink.open(&job_of(&rows)).await.unwrap();
    deliver(&sink, &batch(0, &[(0, None, 3)]), &rows)
        .await
        .unwrap();
    let text = |bytes: Option<Vec<u8>>| bytes.map(|b| String::from_utf8(b).unwrap());
    let found = committed(&topic, 0)
        .into_iter()
        .map(|r| (text(r.key), text(r.value)));
    let owned = |text: &str| Some(text.to_owned());
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            (owned(r#"{"id":1}"#), owned(r#"{"topic":"a"}"#)),
            (None, owned(r#"{"topic":null}"#)),
            (owned(r#"{"id":3}"#), None),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_does_not_fit_is_named_and_nothing_is_seen() {
    let topic = topic(1);
    let sink = sink(&topic, &own_state())
        .with_formats([("value.format", "json")])
        .unwrap();
    let rows = rows(vec![(
        "x",
        Arc::new(Float64Array::from(vec![1.0, f64::NAN])),
    )]);
    let first = batch(0, &[(0, None, 2)]);
    sink.open(&job_of(&rows)).await.unwrap();
    let refused = stage(&sink, &first, &rows).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("writing rows failed: row 2 of execution partition 0: column 'x': NaN"),
        "{refused}"
    );
    sink.abort(&first).await.unwrap();
    assert!(seen(&topic).is_empty());

    let other = rows_without_value();
    let refused = sink.open(&job_of(&other)).await.unwrap_err().to_string();
    assert!(
        refused.contains("no column is a field of the value"),
        "{refused}"
    );
    let sink = super::sink(&topic, &own_state());
    let refused = sink
        .with_formats([("startingOffsets", "latest")])
        .unwrap_err();
    assert!(
        refused.to_string().contains("is not about formats"),
        "{refused}"
    );
}

fn rows_without_value() -> RecordBatch {
    rows(vec![("key", Arc::new(StringArray::from(vec!["k"])))])
}
