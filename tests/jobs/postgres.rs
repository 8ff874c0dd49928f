//! PostgreSQL as a sink.

#[path = "postgres/failures.rs"]
mod failures;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::postgres::PostgresSink;
use datafusion_kafka::sink::{Held, Sink, SinkJob};
use datafusion_kafka::{Error, ErrorKind};
use futures::TryStreamExt;

use crate::conformance::{self, Fixture, again, batch, deliver, job, open, stage, stream_of};
use crate::samples;
use crate::support::postgres::{PASSWORD, PostgresServer, shared};

/// A separate schema for each test.
fn schema() -> String {
    static SCHEMAS: AtomicU32 = AtomicU32::new(0);
    let schema = format!("test{}", SCHEMAS.fetch_add(1, Ordering::Relaxed));
    server().sql(&format!("CREATE SCHEMA {schema}"));
    schema
}

fn server() -> &'static PostgresServer {
    // Starting takes seconds, and blocks.
    tokio::task::block_in_place(shared)
}

fn sink(table: &str) -> PostgresSink {
    PostgresSink::new(&server().url("postgres"), table).unwrap()
}

fn rows(table: &str) -> Vec<conformance::Row> {
    let known = server().sql(&format!("SELECT to_regclass('{table}')"));
    if known.trim() == "\\N" {
        return Vec::new();
    }
    let text = server().sql(&format!("SELECT id, name FROM {table}"));
    text.lines()
        .map(|line| {
            let (id, name) = line.split_once('\t').unwrap();
            (
                id.parse().unwrap(),
                (name != "\\N").then(|| name.to_owned()),
            )
        })
        .collect()
}

fn fixture(key: &'static [&'static str]) -> Fixture {
    let schema = schema();
    let of = schema.clone();
    Fixture::new(
        move |target, shared| {
            let sink = sink(&format!("{schema}.{target}"))
                .with_shared(shared)
                .with_upsert_key(key.iter().map(|key| (*key).to_owned()).collect());
            async move { Arc::new(sink) as Arc<dyn Sink> }
        },
        move |target| {
            let rows = rows(&format!("{of}.{target}"));
            async move { rows }
        },
    )
}

mod appending {
    sink_conformance!(super::fixture(&[]));
}

mod upserting {
    sink_conformance!(super::fixture(&["id"]));
}

fn as_dyn(sink: PostgresSink) -> Arc<dyn Sink> {
    Arc::new(sink)
}

async fn deliver_one(sink: &Arc<dyn Sink>, rows: RecordBatch) -> datafusion_kafka::Result<()> {
    let job = SinkJob::new("job", rows.schema());
    let opened = sink.open(&job).await?.sink;
    let first = batch(0, &[(0, None, 1)]);
    let staged = opened.stage(&first, 0, samples::stream(rows)).await?;
    opened.commit(&first, vec![staged]).await
}

fn is_transient(error: &Error) -> bool {
    matches!(
        error,
        Error::Sink {
            transient: true,
            ..
        }
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_an_earlier_version_has_written_are_taken_over() {
    let schema = schema();
    let sql = |sql: String| drop(server().sql(&sql));
    let open = || as_dyn(sink(&format!("{schema}.t")));
    let offsets = format!("{schema}.kafka_offsets");
    conformance::takes_over_earlier_offsets(open, &offsets, sql).await;
}

/// While an ALTER waits, everyone who comes later waits behind it, even if they would not conflict with the
/// session that it waits for.
#[tokio::test(flavor = "multi_thread")]
async fn adding_columns_waits_no_longer_than_others_can_bear() {
    let schema = schema();
    let sink = as_dyn(sink(&format!("{schema}.t")));
    open(&sink).await;
    let drop_column = format!("ALTER TABLE {schema}.kafka_offsets DROP COLUMN epoch_offset");
    server().sql(&drop_column);
    let (holder, connection) =
        tokio_postgres::connect(&server().url("postgres"), tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    let hold = format!("BEGIN; SELECT * FROM {schema}.kafka_offsets FOR UPDATE");
    holder.batch_execute(&hold).await.unwrap();
    // A session's own lock timeout is 10 s.
    let job = job("job");
    let opening = tokio::time::timeout(Duration::from_secs(9), sink.open(&job));
    let error = opening.await.expect("the wait has an end").unwrap_err();
    assert!(is_transient(&error), "{error}");
    assert!(error.to_string().contains("lock timeout"), "{error}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(sink.open(&job).await.unwrap().committed, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_types_are_kept_and_read_back() {
    let table = format!("{}.types", schema());
    deliver_one(&as_dyn(sink(&table)), samples::all_types())
        .await
        .unwrap();
    let texts = samples::texts(&server().url("postgres"), "POSTGRES", &table).await;
    let expected = [
        ("nothing", "NULL"),
        ("flag", "true"),
        ("i8", "-128"),
        ("u8", "255"),
        ("u32", "4294967295"),
        ("u64", "9223372036854775807"),
        ("f32", "1.5"),
        ("f64", "-0.1"),
        ("d128", "-123.45"),
        (
            "d256",
            "12345678901234567890123456789012345678901234567890.01",
        ),
        ("utf8", "grüße"),
        ("large", "large"),
        ("view", "view"),
        ("dictionary", "word"),
        ("bytes", "00ff"),
        ("fixed", "0102"),
        ("date32", "2026-01-14"),
        ("date64", "2026-01-14"),
        ("time32", "01:02:03.004"),
        ("time64", "01:02:03.000004"),
        ("ts_s", "2026-01-14T00:00:00"),
        ("ts_ms", "2026-01-14T00:00:00.001"),
        ("ts_us", "2026-01-14T00:00:00.000001"),
        ("ts_ns", "2026-01-14T00:00:00.000001"),
        ("ts_zone", "2026-01-14T00:00:00.001Z"),
        ("interval", "14 mons 3 days 0.000001000 secs"),
        ("duration", "1.500000000 secs"),
        ("ints", "[1,null,3]"),
        ("words", "[\"a\",\"b\"]"),
        ("point", "{\"x\": 1, \"y\": null}"),
    ];
    samples::assert_texts(&texts, &expected);
    let types = server().sql(&format!(
        "SELECT string_agg(format_type(atttypid, atttypmod), ', ' ORDER BY attnum) \
         FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0"
    ));
    assert_eq!(
        types.trim(),
        "text, boolean, smallint, smallint, bigint, bigint, real, double precision, numeric(10,2), \
         numeric(60,2), text, text, text, text, bytea, bytea, date, date, time without time zone, \
         time without time zone, timestamp without time zone, timestamp without time zone, \
         timestamp without time zone, timestamp without time zone, timestamp with time zone, interval, \
         interval, integer[], text[], jsonb"
    );
    let values = server().sql(&format!("SELECT d256, ts_us, ints FROM {table} LIMIT 1"));
    assert_eq!(
        values.trim(),
        "12345678901234567890123456789012345678901234567890.01\t2026-01-14 00:00:00.000001\t{1,NULL,3}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn held_has_the_values_of_the_job() {
    let sink = as_dyn(sink(&format!("{}.held", schema())));
    let wanted = samples::all_types()
        .project(&[1, 2, 3, 5, 6, 7, 8, 9, 10, 14, 16, 19, 21, 24, 25])
        .unwrap();
    deliver_one(&sink, wanted.clone()).await.unwrap();
    let Held::Among(held) = sink
        .held(&batch(0, &[(0, None, 1)]), &wanted.schema())
        .await
        .unwrap()
    else {
        panic!("the table can be read");
    };
    let held: Vec<RecordBatch> = held.try_collect().await.unwrap();
    assert_eq!(held.len(), 1);
    for (column, field) in wanted.schema().fields().iter().enumerate() {
        let found = arrow::compute::cast(held[0].column(column), field.data_type()).unwrap();
        assert_eq!(&found, wanted.column(column), "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_cannot_be_kept_are_named() {
    let schema = schema();
    for (column, rows, expected) in samples::unfit_for_postgres() {
        let sink = as_dyn(sink(&format!("{schema}.unfit_{column}")));
        let error = deliver_one(&sink, rows).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("column '{column}'")), "{text}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(error.kind(), ErrorKind::Sink, "{text}");
        assert!(!is_transient(&error), "{text}");
        let seen = server().sql(&format!("SELECT count(*) FROM {schema}.unfit_{column}"));
        assert_eq!(seen.trim(), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_do_not_fit_are_named() {
    let table = format!("{}.orders", schema());
    server().sql(&format!(
        "CREATE TABLE {table} (id integer, name varchar(6), shop text NOT NULL, \
         made timestamptz NOT NULL DEFAULT now(), number int GENERATED ALWAYS AS IDENTITY)"
    ));
    let error = sink(&table).open(&job("job")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query);
    let text = error.to_string();
    for part in [
        "column 'id' is Int64 in the query and integer in the table; it goes into bigint or a wide enough numeric",
        "'shop' (text NOT NULL without a default) is not in the query",
    ] {
        assert!(text.contains(part), "{text}");
    }
    for fine in ["'name'", "'made'", "'number'"] {
        assert!(!text.contains(fine), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_table_takes_what_fits() {
    let table = format!("{}.orders", schema());
    server().sql(&format!(
        "CREATE TABLE {table} (note text, name varchar(6), id numeric(20,0), \
         number int GENERATED ALWAYS AS IDENTITY)"
    ));
    let sink = as_dyn(sink(&table));
    let opened = open(&sink).await.sink;
    let first = batch(0, &[(0, None, 2)]);
    deliver(&opened, &first, &[&[1, 2]]).await.unwrap();
    let found = server().sql(&format!("SELECT id, name, number FROM {table} ORDER BY id"));
    assert_eq!(found, "1\tname 1\t1\n2\tname 2\t2\n");
    let second = batch(1, &[(0, Some(2), 3)]);
    let error = deliver(&opened, &second, &[&[11]]).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("column 'name': value 'name 11' is longer than 6 characters"),
        "{error}"
    );
    assert!(!is_transient(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_row_of_a_key_stays() {
    let table = format!("{}.state", schema());
    let sink = as_dyn(sink(&table).with_upsert_key(vec!["id".to_owned()]));
    let opened = open(&sink).await.sink;
    let named = |rows: &[(i64, &str)]| samples::rows(rows);
    let first = batch(0, &[(0, None, 3)]);
    let late = opened
        .stage(&first, 1, stream_of([named(&[(2, "later")])]))
        .await
        .unwrap();
    let early = opened
        .stage(
            &first,
            0,
            stream_of([named(&[(1, "a"), (2, "b"), (1, "c")])]),
        )
        .await
        .unwrap();
    opened.commit(&first, vec![early, late]).await.unwrap();
    let second = batch(1, &[(0, Some(3), 4)]);
    let staged = opened
        .stage(&second, 0, stream_of([named(&[(2, "d"), (3, "e")])]))
        .await
        .unwrap();
    let mut found = rows(&table);
    found.sort();
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(found, [(1, name("c")), (2, name("later"))]);
    opened.commit(&second, vec![staged]).await.unwrap();
    let mut found = rows(&table);
    found.sort();
    assert_eq!(found, [(1, name("c")), (2, name("d")), (3, name("e"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_needs_a_key_of_the_table() {
    let table = format!("{}.state", schema());
    server().sql(&format!("CREATE TABLE {table} (id bigint, name text)"));
    let open = |key: &str| {
        let sink = sink(&table).with_upsert_key(vec![key.to_owned()]);
        async move { sink.open(&job("job")).await.unwrap_err() }
    };
    let unknown = open("ident").await;
    assert!(
        unknown.to_string().contains("there are id, name"),
        "{unknown}"
    );
    let missing = open("id").await;
    assert_eq!(missing.kind(), ErrorKind::Query, "{missing}");
    assert!(
        missing.to_string().contains("no primary key or unique"),
        "{missing}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_streamed() {
    let table = format!("{}.large", schema());
    let sink = as_dyn(sink(&table));
    let opened = open(&sink).await.sink;
    let first = batch(0, &[(0, None, 200_000)]);
    let staging = futures::future::try_join(
        opened.stage(&first, 0, samples::many(100_000)),
        opened.stage(&first, 1, samples::many(100_000)),
    );
    let (one, other) = staging.await.unwrap();
    opened.commit(&first, vec![one, other]).await.unwrap();
    let found = server().sql(&format!("SELECT count(*), count(DISTINCT id) FROM {table}"));
    assert_eq!(found.trim(), "200000\t100000");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified() {
    let server = tokio::task::block_in_place(PostgresServer::start_with_tls);
    server.sql("CREATE SCHEMA shop AUTHORIZATION alice");
    let (ca, other_ca) = server.authorities();
    let open = |mode: &str, ca| {
        let url = format!("{}?sslmode={mode}", server.url("alice"));
        let sink = PostgresSink::with_credentials(&url, "shop.t", Some(PASSWORD), ca).unwrap();
        async move { sink.open(&job("job")).await }
    };
    for mode in ["verify-full", "prefer"] {
        let opened = open(mode, Some(ca)).await.unwrap();
        assert_eq!(opened.committed, None, "{mode}");
    }
    for wrong in [Some(other_ca), None] {
        let error = open("require", wrong).await.unwrap_err();
        assert!(error.to_string().contains("'ssl.root.cert'"), "{error}");
        assert!(!is_transient(&error));
    }
    let error = open("disable", None).await.unwrap_err();
    assert!(error.to_string().contains("no encryption"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_and_read_in_sql() {
    let schema = schema();
    server().sql(&format!("GRANT ALL ON SCHEMA {schema} TO alice"));
    let url = server().url("alice");
    let url = url.replace(
        "alice@",
        &format!("alice:{}@", PASSWORD.replace(' ', "%20")),
    );
    let table = format!("{schema}.orders");
    let sink = as_dyn(PostgresSink::new(&url, &table).unwrap());
    let opened = open(&sink).await.sink;
    deliver(&opened, &batch(0, &[(0, None, 3)]), &[&[1, 2, 3]])
        .await
        .unwrap();
    let context = KafkaSessionBuilder::new().build().unwrap();
    let run = |sql: String| {
        let context = context.clone();
        async move { context.sql(&sql).await?.collect().await }
    };
    let create = |options: &str| {
        format!(
            "CREATE OR REPLACE EXTERNAL TABLE t STORED AS POSTGRES LOCATION '{url}' OPTIONS ({options})"
        )
    };
    run(create(&format!(
        "'table' '{table}', 'password' '{PASSWORD}'"
    )))
    .await
    .unwrap();
    let count = run("SELECT count(*) AS n FROM t".to_owned()).await.unwrap();
    samples::assert_number(&count, 3);
    let some = run("SELECT id FROM t WHERE name = 'name 2' LIMIT 1".to_owned()).await;
    samples::assert_number(&some.unwrap(), 2);
    let provider = context.table_provider("t").await.unwrap();
    let definition = provider.get_table_definition().unwrap().to_owned();
    let shown = format!("{definition} {provider:?}");
    assert!(!shown.contains("horse"), "{shown}");
    assert!(definition.contains("'password' '***'"), "{definition}");
    let unknown = run(create(&format!("'table' '{table}', 'upsert.keys' 'id'")))
        .await
        .unwrap_err();
    assert!(
        unknown.to_string().contains("did you mean 'upsert.key'"),
        "{unknown}"
    );
}
