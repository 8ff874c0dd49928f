//! What makes no index, and what an index does not serve.

use super::*;
use crate::config::ConnectionConfig;
use crate::driver::create_index;
use crate::policy::Policy;

#[tokio::test]
async fn what_is_of_other_rows_is_refused() {
    let refused_where = async |bed: &Bed, table: KafkaTableBuilder, condition: &str| {
        let context = session();
        let table = table.index(bed.path("index")).build().await;
        let table = table.map_err(|error| error.to_string())?;
        context.register_table("orders", Arc::new(table)).unwrap();
        rows(&context, &format!("SELECT * FROM orders WHERE {condition}")).await
    };
    let refused = async |bed: &Bed, table: KafkaTableBuilder| {
        refused_where(bed, table, "key = 'key 2'").await
    };
    let bed = Bed::new(50);
    let error = refused(&bed, bed.table()).await.unwrap_err();
    assert!(error.contains("there is no index in"), "{error}");
    bed.index("key").await;
    refused(&bed, bed.table()).await.unwrap();

    let error = refused(&bed, bed.table().isolation(ReadUncommitted))
        .await
        .unwrap_err();
    let expected = "was made under read_committed, the table reads under read_uncommitted";
    assert!(error.contains(expected), "{error}");
    let json = || bed.table().value_format(Format::Text);
    let error = refused(&bed, json()).await.unwrap_err();
    assert!(
        error.contains("of bytes there, key raw, value text"),
        "{error}"
    );
    let error = refused_where(&bed, bed.table().metadata_prefix("_"), "_key = 'key 2'")
        .await
        .unwrap_err();
    assert!(
        error.contains("is of key, which this table does not have"),
        "{error}"
    );
    let limited = bed.table().bad_row_limit("5".parse().unwrap());
    let error = refused(&bed, limited).await.unwrap_err();
    assert!(
        error.contains("'bad.row.limit' counts all of them"),
        "{error}"
    );

    bed.cluster.create_topic("others", 1).unwrap();
    let error = refused(&bed, bed.table().topic("others"))
        .await
        .unwrap_err();
    assert!(
        error.contains("is of orders and has nothing of others"),
        "{error}"
    );

    bed.cluster.recreate_topic("orders").unwrap();
    bed.produce(0, 10);
    let error = refused(&bed, bed.table()).await.unwrap_err();
    assert!(
        error.contains("orders was deleted and created again"),
        "{error}"
    );

    // The index is not changed into another one, either.
    let bed = Bed::new(50);
    bed.index("key").await;
    for (table, expressions, expected) in [
        (bed.table(), "value", "expressions: key there, value here"),
        (
            bed.table().isolation(ReadUncommitted),
            "key",
            "isolation level: read_committed there",
        ),
        (json(), "key", "decoding: of bytes there"),
    ] {
        let error = bed
            .index_of(table, expressions)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn statements_that_make_no_index_are_refused() {
    let bed = Bed::new(1);
    for (statement, expected) in [
        (
            "CREATE UNIQUE INDEX ON orders (key) WITH (location = 'x')",
            "without UNIQUE",
        ),
        ("CREATE INDEX ON orders (key)", "says into which folder"),
        (
            "CREATE INDEX ON orders (key) WITH (locatoin = 'x')",
            "did you mean 'location'?",
        ),
        (
            "CREATE INDEX ON orders (key) WITH (location = 'x', block_offsets = 1)",
            "a number from 16",
        ),
        (
            "CREATE INDEX ON orders (key, (key)) WITH (location = 'x')",
            "key is there twice",
        ),
        (
            "CREATE INDEX ON orders (key DESC) WITH (location = 'x')",
            "no order",
        ),
        ("CREATE INDEX ON orders (kee) WITH (location = 'x')", "kee"),
        (
            "CREATE INDEX ON orders (headers) WITH (location = 'x')",
            "CAST it to text",
        ),
        (
            "CREATE INDEX ON orders (count(*)) WITH (location = 'x')",
            "aggregate",
        ),
        (
            "CREATE INDEX ON orders (random()::int) WITH (location = 'x')",
            "may change",
        ),
        (
            "CREATE INDEX ON orders (CAST(CAST(octet_length(key) AS TIMESTAMPTZ) AS TEXT)) WITH (location = 'x')",
            "depends on the time zone",
        ),
        (
            "CREATE INDEX ON orders (CAST(to_timestamp(CAST(key AS TEXT)) AS TEXT)) WITH (location = 'x')",
            "depends on the time zone",
        ),
        (
            "CREATE INDEX ON orders (to_unixtime(CAST(key AS TEXT))) WITH (location = 'x')",
            "depends on the time zone",
        ),
        (
            "CREATE INDEX ON orders ((SELECT 'x')) WITH (location = 'x')",
            "no",
        ),
        (
            "CREATE INDEX ON others (key) WITH (location = 'x')",
            "others",
        ),
        (
            "CREATE INDEX ON late (key) WITH (location = 'x')",
            "chooses records by time",
        ),
        (
            "CREATE INDEX ON a_view (key) WITH (location = 'x')",
            "is no topic",
        ),
        ("DROP INDEX x", "CREATE INDEX statements, found"),
    ] {
        let context = session();
        let late = bed.table().range("@-1h:");
        for (name, table) in [("orders", bed.table()), ("late", late)] {
            let table = table.build().await.unwrap();
            context.register_table(name, Arc::new(table)).unwrap();
        }
        context
            .sql("CREATE VIEW a_view AS SELECT * FROM orders")
            .await
            .unwrap();
        let job = MicroBatch::builder(context, "index").checkpoint(bed.path("log"));
        let error = job
            .insert(statement)
            .build()
            .await
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{statement}: {error}");
    }
}

#[tokio::test]
async fn a_restricted_session_makes_and_reads_no_index_elsewhere() {
    let bed = Bed::new(50);
    bed.index("key").await;
    let policy = Policy::restricted().allow_path(&bed.path("open"));
    let policy = policy.unwrap();
    let connection = ConnectionConfig::new("memory:1");
    let session = KafkaSessionBuilder::new().connection(connection);
    let context = session.policy(policy).build().unwrap();
    let table = bed.table().index(bed.path("index")).build().await.unwrap();
    context.register_table("orders", Arc::new(table)).unwrap();
    let found = rows(&context, "SELECT * FROM orders WHERE key = 'key 2'").await;
    assert!(!found.unwrap().is_empty(), "it is the table's");
    let create = format!(
        "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION 'orders' OPTIONS ('index' '{}')",
        bed.path("index")
    );
    let refused = crate::statement::sql(&context, &create).await.unwrap_err();
    assert!(
        refused.to_string().contains("restricted session"),
        "{refused}"
    );
    for (place, allowed) in [(bed.path("closed"), false), (bed.path("open/index"), true)] {
        let create = format!("CREATE INDEX ON orders (key) WITH (location = '{place}')");
        match create_index(&context, &create).await {
            Ok(made) => assert_eq!((made.records, allowed), (100, true)),
            Err(error) => {
                assert!(error.to_string().contains("restricted session"), "{error}");
                assert!(!allowed, "{error}");
            }
        }
    }
}
