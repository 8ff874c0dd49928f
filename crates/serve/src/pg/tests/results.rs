//! What queries give: rows, types, cursors, copies, and what is said about them.

use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::create_index;
use futures::{StreamExt, TryStreamExt, pin_mut};
use tokio_postgres::types::{FromSql, Type};

use super::*;

/// The bytes of a value of any type, in hexadecimal digits.
struct Sent(String);

impl<'a> FromSql<'a> for Sent {
    fn from_sql(
        _: &Type,
        bytes: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[tokio::test]
async fn topics_and_tables_of_the_catalog_are_asked() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    let sql = "SELECT partition, offset, key, value FROM orders WHERE offset < 2 ORDER BY 1, 2";
    assert_eq!(
        ada.rows(sql).await.unwrap(),
        [
            "0|0|\\x6b30|\\x30",
            "0|1|\\x6b31|\\x31",
            "1|0|\\x6b30|\\x30",
            "1|1|\\x6b31|\\x31"
        ]
    );
    assert_eq!(ada.value("SELECT count(*) FROM public.few").await, "3");
    assert_eq!(
        ada.value("SELECT string_agg(name, ',' ORDER BY id) FROM cheap")
            .await,
        "n0,n1"
    );
    assert_eq!(
        ada.rows("SELECT * FROM (SELECT id, name, price, at FROM typed) WHERE id = 3")
            .await
            .unwrap(),
        ["3|n3|3.5|2026-01-14 00:00:03.000000"]
    );
    assert_eq!(
        ada.value("SELECT timestamp FROM few LIMIT 1").await,
        "2026-01-14 00:00:00.000000+00"
    );
}

#[tokio::test]
async fn prepared_statements_have_types_and_parameters() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    let statement = ada
        .prepare("SELECT id, name, price, at FROM typed WHERE id >= $1 AND name <> $2 ORDER BY id LIMIT 2")
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::INT8, Type::TEXT]);
    let types: Vec<&Type> = statement
        .columns()
        .iter()
        .map(|column| column.type_())
        .collect();
    assert_eq!(
        types,
        [&Type::INT8, &Type::TEXT, &Type::FLOAT8, &Type::TIMESTAMP]
    );
    let rows = ada.query(&statement, &[&2_i64, &"n3"]).await.unwrap();
    let found: Vec<(i64, &str, f64)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(found, [(2, "n2", 2.5), (4, "n4", 4.5)]);

    let rows = ada
        .query("SELECT partition, offset, value, leader_epoch, $1::int + 1 FROM orders WHERE partition = 1 AND offset = 7", &[&41_i32])
        .await
        .unwrap();
    assert_eq!(rows[0].get::<_, i32>(0), 1);
    assert_eq!(rows[0].get::<_, i64>(1), 7);
    assert_eq!(rows[0].get::<_, &[u8]>(2), b"7");
    assert_eq!(rows[0].get::<_, i64>(4), 42);
}

#[tokio::test]
async fn each_execution_of_a_statement_sees_the_offsets_of_now() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    let statement = ada.prepare("SELECT count(*) FROM orders").await.unwrap();
    let count = async || {
        ada.query_one(&statement, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
    };
    assert_eq!(count().await, 190);
    served
        .cluster
        .append("orders", 0, Record::new("new"))
        .unwrap();
    assert_eq!(count().await, 191);
}

#[tokio::test]
async fn a_notice_says_what_was_read() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    ada.rows("SELECT offset FROM orders WHERE partition = 0")
        .await
        .unwrap();
    ada.rows("SELECT count(*) FROM typed, few").await.unwrap();
    ada.rows("SET client_min_messages = warning").await.unwrap();
    ada.rows("SELECT count(*) FROM typed").await.unwrap();
    ada.query("SELECT 1", &[]).await.unwrap();
    assert_eq!(
        *ada.notices.lock().unwrap(),
        [
            "read 100 offsets of orders: 90 records, 10 gap",
            "read 3 offsets of orders: 3 records",
            "read 5 offsets of typed: 5 records",
        ]
    );
}

#[tokio::test]
async fn errors_have_codes_and_coordinates() {
    let served = serve("", "").await;
    served
        .cluster
        .append("typed", 0, Record::new("no JSON"))
        .unwrap();
    let ada = served.ada().await;
    let (code, message) = ada.failure("SELECT * FROM typed").await;
    assert_eq!(code, "22P02");
    assert!(message.contains("typed[0]@5"), "{message}");
    for (sql, code, part) in [
        ("SELECT * FROM ordrs", "42P01", "orders"),
        ("SELECT * FROM a.b.c", "42P01", "not found"),
        ("SELECT nothing FROM orders", "42703", "nothing"),
        ("SELECT nothing(1)", "42883", "nothing"),
        ("SELECT 1 FROM", "42601", "xpected"),
        ("SELECT 1/0", "22012", "zero"),
        (
            "SELECT * FROM kafka('orders', '0=5:3')",
            "22023",
            "after its end 3",
        ),
        ("SELECT CAST('x' AS INT)", "22P02", "x"),
    ] {
        let (found, message) = ada.failure(sql).await;
        assert_eq!(found, code, "{sql}: {message}");
        assert!(message.contains(part), "{sql}: {message}");
    }
    assert_eq!(ada.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn rows_are_sent_before_the_last_one_is_made() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    // Both protocols would need gigabytes, and minutes, for all rows.
    let endless = "SELECT value, repeat('x', 100) FROM generate_series(1, 1000000000)";
    let rows = ada
        .query_raw(endless, std::iter::empty::<i32>())
        .await
        .unwrap();
    pin_mut!(rows);
    assert_eq!(rows.next().await.unwrap().unwrap().get::<_, i64>(0), 1);
    let other = served.ada().await;
    let rows = other.simple_query_raw(endless).await.unwrap();
    pin_mut!(rows);
    let row = loop {
        if let SimpleQueryMessage::Row(row) = rows.next().await.unwrap().unwrap() {
            break row;
        }
    };
    assert_eq!(row.get(0), Some("1"));
    let copying = served.ada().await;
    let lines = copying
        .copy_out(&format!("COPY ({endless}) TO STDOUT"))
        .await
        .unwrap();
    pin_mut!(lines);
    let first = lines.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"1\tx"), "{first:?}");
}

#[tokio::test]
async fn cursors_are_read_on() {
    let served = serve("", "").await;
    let mut ada = served.ada().await;
    assert_eq!(
        ada.failure("DECLARE c CURSOR FOR SELECT 1").await.0,
        "25P01"
    );
    ada.rows(
        "BEGIN; DECLARE c CURSOR FOR SELECT offset FROM orders WHERE partition = 1 ORDER BY offset",
    )
    .await
    .unwrap();
    assert_eq!(ada.rows("FETCH 2 FROM c").await.unwrap(), ["0", "1"]);
    assert_eq!(ada.rows("FETCH FORWARD 1 FROM c").await.unwrap(), ["2"]);
    assert_eq!(ada.rows("FETCH ALL FROM c").await.unwrap().len(), 97);
    assert_eq!(ada.rows("FETCH ALL FROM c").await.unwrap().len(), 0);
    ada.rows("COMMIT").await.unwrap();
    assert_eq!(ada.failure("FETCH 1 FROM c").await.0, "34000");
    // In the format that FETCH asks for, in mid-batch, with parameters.
    let transaction = ada.client.transaction().await.unwrap();
    let declare =
        "DECLARE p CURSOR FOR SELECT offset, key FROM orders WHERE partition = $1 ORDER BY offset";
    let declare = transaction.prepare(declare).await.unwrap();
    assert_eq!(
        (declare.params(), declare.columns().len()),
        (&[Type::INT4][..], 0)
    );
    transaction.execute(&declare, &[&1_i32]).await.unwrap();
    for n in 0..3 {
        let rows = transaction.query("FETCH 2 FROM p", &[]).await.unwrap();
        assert_eq!(rows[0].get::<_, i64>(0), 3 * n);
        assert_eq!(
            rows[1].get::<_, &[u8]>(1),
            format!("k{}", 3 * n + 1).as_bytes()
        );
        let text = transaction.simple_query("FETCH 1 FROM p").await.unwrap();
        let row = text.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        assert_eq!(row, Some((3 * n + 2).to_string().as_str()));
    }
    // Another cursor of the name, with other columns.
    let fetch = transaction.prepare("FETCH 1 FROM p").await.unwrap();
    let other = "CLOSE p; DECLARE p CURSOR FOR SELECT 1, 2, 3";
    transaction.batch_execute(other).await.unwrap();
    let refused = transaction.query(&fetch, &[]).await.unwrap_err();
    assert_eq!(failure(&refused).0, "0A000");
    transaction.rollback().await.unwrap();
    ada.rows("DECLARE h CURSOR WITH HOLD FOR SELECT 7")
        .await
        .unwrap();
    assert_eq!(ada.rows("FETCH 1 FROM h").await.unwrap(), ["7"]);
    ada.rows("CLOSE h").await.unwrap();
    assert_eq!(ada.failure("CLOSE h").await.0, "34000");

    let transaction = ada.client.transaction().await.unwrap();
    let portal = transaction
        .bind(
            "SELECT offset FROM orders WHERE partition = 1 ORDER BY offset",
            &[],
        )
        .await
        .unwrap();
    let parts = [60, 60, 60];
    let mut counts = vec![];
    for most in parts {
        counts.push(transaction.query_portal(&portal, most).await.unwrap().len());
    }
    assert_eq!(counts, [60, 40, 0]);
    // Another portal and statement, while one is open.
    let open = transaction.bind("SELECT * FROM orders", &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&open, 5).await.unwrap().len(), 5);
    assert_eq!(transaction.query("SELECT 1", &[]).await.unwrap().len(), 1);
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_has_failed_waits_for_its_end() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    ada.rows("BEGIN").await.unwrap();
    assert_eq!(ada.failure("SELECT nothing").await.0, "42703");
    assert_eq!(ada.failure("SELECT 1").await.0, "25P02");
    ada.rows("ROLLBACK").await.unwrap();
    assert_eq!(ada.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn rows_are_copied_to_the_client() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    let copied = async |sql: &str| {
        let lines = ada.copy_out(sql).await.unwrap();
        let bytes: Vec<_> = lines.try_collect().await.unwrap();
        String::from_utf8(bytes.concat()).unwrap()
    };
    assert_eq!(
        copied("COPY (SELECT id, name, NULL AS n, '' AS e FROM typed WHERE id < 2 ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)").await,
        "id,name,n,e\n0,n0,,\"\"\n1,n1,,\"\"\n"
    );
    assert_eq!(copied("COPY cheap TO STDOUT").await, "0\tn0\n1\tn1\n");
    let failed = ada
        .copy_out("COPY (SELECT id / (id - 3) FROM typed ORDER BY id) TO STDOUT")
        .await;
    let failed = match failed {
        Ok(lines) => lines.try_collect::<Vec<_>>().await.err().unwrap(),
        Err(error) => error,
    };
    assert_eq!(failure(&failed).0, "22012");
    assert_eq!(ada.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn values_of_all_types_are_sent_as_text_and_binary_or_refused() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    for (value, text, binary) in [
        ("true", "t", "01"),
        ("CAST(1 AS SMALLINT)", "1", "0001"),
        ("CAST(1.5 AS REAL)", "1.5", "3fc00000"),
        (
            "CAST(1.25 AS DECIMAL(10,2))",
            "1.25",
            "0002 0000 0000 0002 0001 09c4",
        ),
        ("arrow_cast(7, 'UInt64')", "7", "0001 0000 0000 0000 0007"),
        ("arrow_cast(7, 'UInt8')", "7", "0007"),
        ("DATE '2026-01-14'", "2026-01-14", "00002526"),
        ("TIME '01:02:03'", "01:02:03.000000", "00000000dde878c0"),
        (
            "TIMESTAMP '2026-01-14 01:02:03'",
            "2026-01-14 01:02:03.000000",
            "0002eb4d6cc0b8c0",
        ),
        ("arrow_cast('a', 'LargeUtf8')", "a", "61"),
        ("arrow_cast('a', 'Dictionary(Int32, Utf8)')", "a", "61"),
        ("arrow_cast('a', 'Binary')", "\\x61", "61"),
        ("arrow_cast('a', 'BinaryView')", "\\x61", "61"),
        (
            "[1, 2]",
            "{1,2}",
            "00000001 00000000 00000014 00000002 00000001 00000008 0000000000000001 00000008 0000000000000002",
        ),
        (
            "['a', NULL]",
            "{a,NULL}",
            "00000001 00000001 00000019 00000002 00000001 00000001 61 ffffffff",
        ),
        (
            "named_struct('a', 1, 'b', 'x')",
            "(1,x)",
            "00000002 00000014 00000008 0000000000000001 00000019 00000001 78",
        ),
        ("NULL", "-", "-"),
        (
            "INTERVAL '1 day'",
            "1 day",
            "0000000000000000 00000001 00000000",
        ),
    ] {
        assert_eq!(ada.value(&format!("SELECT {value}")).await, text, "{value}");
        let rows = ada.query(&format!("SELECT {value} AS v"), &[]).await;
        let rows = rows.unwrap_or_else(|e| panic!("{value}: {e:?}"));
        let sent: Option<Sent> = rows[0].get(0);
        let sent = sent.map_or("-".to_owned(), |sent| sent.0);
        assert_eq!(sent, binary.replace(' ', ""), "{value}");
    }
    for value in [
        "arrow_cast(1, 'Float16')",
        "arrow_cast(1, 'Decimal256(40, 2)')",
        "map(['a'], [1])",
        "[[1], [2]]",
        "arrow_cast([1], 'ListView(Int64)')",
    ] {
        let (code, message) = ada.failure(&format!("SELECT {value} AS v")).await;
        assert_eq!(code, "0A000", "{value}: {message}");
        assert_eq!(ada.value("SELECT 1").await, "1", "after {value}");
    }
    // Of a record, with headers.
    let record = Record::new("x")
        .with_header("h", Some(b"1"))
        .with_header("n", None);
    served.cluster.append("orders", 1, record).unwrap();
    let headers = ada
        .value("SELECT headers FROM orders WHERE partition = 1 AND offset = 100")
        .await;
    assert!(
        headers.starts_with('{') && headers.contains('h'),
        "{headers}"
    );
    ada.query(
        "SELECT * FROM orders WHERE partition = 1 AND offset = 100",
        &[],
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn the_information_schema_has_the_types_of_postgresql() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    let columns = "SELECT column_name, ordinal_position, is_nullable, data_type, udt_name, numeric_precision, \
                   datetime_precision FROM information_schema.columns \
                   WHERE table_schema = 'public' AND table_name = 'few' ORDER BY ordinal_position";
    assert_eq!(
        ada.rows(columns).await.unwrap(),
        [
            "topic|1|NO|text|text|-|-",
            "partition|2|NO|integer|int4|32|-",
            "offset|3|NO|bigint|int8|64|-",
            "timestamp|4|YES|timestamp with time zone|timestamptz|-|6",
            "timestamp_type|5|YES|text|text|-|-",
            "key|6|YES|bytea|bytea|-|-",
            "value|7|YES|bytea|bytea|-|-",
            "headers|8|NO|ARRAY|_record|-|-",
            "leader_epoch|9|YES|integer|int4|32|-",
        ]
    );
    let rows = ada.query(columns, &[]).await.unwrap();
    assert_eq!(rows[2].get::<_, i32>("ordinal_position"), 3);
    let tables = "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1";
    assert_eq!(
        ada.rows(tables).await.unwrap(),
        [
            "cheap|VIEW",
            "few|BASE TABLE",
            "orders|BASE TABLE",
            "typed|BASE TABLE"
        ]
    );
    assert_eq!(ada.rows("SHOW COLUMNS FROM typed").await.unwrap().len(), 13);
    assert!(ada.rows("SHOW TABLES").await.unwrap().len() >= 4);
}

#[tokio::test]
async fn a_look_at_all_tables_asks_the_cluster_once() {
    let served = serve("", "").await;
    for n in 0..50 {
        let topic = format!("more-{n}");
        served.cluster.create_topic(&topic, 1).unwrap();
    }
    let ada = served.ada().await;
    served.cluster.reset_stats();
    for sql in [
        "SELECT count(*) FROM information_schema.columns WHERE table_name LIKE 'more-%'",
        "SELECT count(*) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON a.attrelid = c.oid \
         WHERE c.relname LIKE 'more-%'",
    ] {
        assert_eq!(ada.value(sql).await, "450");
    }
    assert_eq!(served.cluster.stats().describes, 1);
    // A topic that there was not is found all the same.
    served.cluster.create_topic("late", 1).unwrap();
    assert_eq!(ada.value("SELECT count(*) FROM late").await, "0");
}

#[tokio::test]
async fn a_table_of_the_catalog_reads_what_its_index_leaves() {
    let served = serve("", "").await;
    let folder = served.folder.path();
    let index = folder.join("index").display().to_string();
    let of_pool = served.cluster.clone();
    let pool = ClientPool::with_factory(move |_| Ok(Arc::new(of_pool.client())));
    let operator = KafkaSessionBuilder::new()
        .connection(ConnectionConfig::new("memory:1"))
        .pool(pool);
    let create =
        format!("CREATE INDEX ON orders (key) WITH (location = '{index}', block_offsets = 16)");
    create_index(&operator.build().unwrap(), &create)
        .await
        .unwrap();
    let catalog = format!(
        "CREATE EXTERNAL TABLE indexed STORED AS KAFKA LOCATION 'orders' OPTIONS ('index' '{index}')"
    );
    std::fs::write(folder.join("indexed.sql"), catalog).unwrap();
    let text = format!(
        "[connections.main]\n\"bootstrap.servers\" = \"memory:1\"\n\
         [postgres]\nlisten = \"127.0.0.1:0\"\nconnection = \"main\"\ncatalog = \"indexed.sql\"\n\
         [postgres.users.ada]\npassword = \"file:{}\"\n",
        folder.join("password").display()
    );
    served.renew(&Config::parse(&text, folder).unwrap()).await;
    let ada = served.ada().await;
    for (table, fetched) in [("orders", 190), ("indexed", 32)] {
        served.cluster.reset_stats();
        let sql = format!("SELECT partition, offset FROM {table} WHERE key = 'k42' ORDER BY 1");
        assert_eq!(ada.rows(&sql).await.unwrap(), ["0|42", "1|42"]);
        assert_eq!(served.cluster.stats().records, fetched, "{table}");
    }
}
