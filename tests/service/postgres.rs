//! The PostgreSQL port of a process, over topics whose schemas are in a registry.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

use crate::running::{Files, LIMIT, PASSWORD, Running, assert_no_secret};
use crate::support::registry::shared as registry;
use crate::support::{admin, shared, wait_until};

/// A topic with the records of a case in tests/support/typed.py.
fn written(case: &str) -> String {
    let topic = admin::unique_topic("postgres");
    admin::create_topic(shared().bootstrap(), &topic, 1, &[]);
    registry().produce(shared().bootstrap(), &topic, case);
    topic
}

async fn connect(service: &Running) -> Client {
    let port = wait_until(LIMIT, "it listens for clients of PostgreSQL", || {
        let said = service.said();
        let (_, rest) = said.split_once("PostgreSQL on 127.0.0.1:")?;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..end].parse::<u16>().ok()
    });
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port);
    config.user("ada").password(PASSWORD);
    let (client, connection) = config.connect(NoTls).await.expect("it takes the password");
    tokio::spawn(connection);
    client
}

/// The names and types of the columns of a table: as they are sent, and as the information schema has them.
async fn columns(client: &Client, table: &str) -> Vec<(String, Type, String)> {
    let described = client.prepare(&format!("SELECT * FROM {table}")).await;
    let described = described.unwrap_or_else(|e| panic!("{table}: {e:?}"));
    let sql = "SELECT column_name, data_type FROM information_schema.columns \
               WHERE table_name = $1 ORDER BY ordinal_position";
    let listed = client.query(sql, &[&table]).await.expect("a list");
    assert_eq!(listed.len(), described.columns().len(), "{table}");
    let both = described.columns().iter().zip(listed);
    both.map(|(column, row)| {
        assert_eq!(column.name(), row.get::<_, &str>(0));
        (column.name().to_owned(), column.type_().clone(), row.get(1))
    })
    .collect()
}

fn has(columns: &[(String, Type, String)], name: &str, of: &Type, listed: &str) {
    let column = columns.iter().find(|(known, ..)| known == name);
    let (_, type_, data_type) = column.unwrap_or_else(|| panic!("no {name} in {columns:?}"));
    assert_eq!((type_, data_type.as_str()), (of, listed), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_registry_are_typed_columns() {
    let [avro, protobuf, json, nested] =
        ["evolution", "protobuf", "json_columns", "references"].map(written);
    let files = Files::new();
    let registry = registry().url();
    files.service(&format!(
        "[connections.typed]\n\"bootstrap.servers\" = \"{}\"\n\"schema.registry.url\" = \"{registry}\"\n\
         [postgres]\nlisten = \"127.0.0.1:0\"\nconnection = \"typed\"\ncatalog = \"catalog.sql\"\n\
         [postgres.users.ada]\npassword = \"env:TEST_PASSWORD\"\n",
        shared().bootstrap()
    ));
    let table = |name: &str, topic: &str, options: &str| {
        format!(
            "CREATE EXTERNAL TABLE {name} STORED AS KAFKA LOCATION '{topic}' \
             OPTIONS ('metadata.columns' 'offset', 'on.bad.row' 'skip', {options});\n"
        )
    };
    files.write(
        "catalog.sql",
        &(table(
            "by_avro",
            &avro,
            "'value.format' 'avro', 'value.schema.version' '3'",
        ) + &table(
            "by_protobuf",
            &protobuf,
            "'value.format' 'protobuf', 'value.schema.message' 'shop.Order'",
        ) + &table(
            "by_json",
            &json,
            "'value.format' 'json', 'value.schema.version' '1'",
        ) + &table("newest_json", &json, "'value.format' 'json-registry'")),
    );
    let service = Running::start(&files);
    let client = connect(&service).await;

    // Avro of three schemas, read with the third.
    let of = columns(&client, "by_avro").await;
    has(&of, "id", &Type::INT8, "bigint");
    has(&of, "total", &Type::FLOAT8, "double precision");
    let sql = "SELECT id, total FROM by_avro WHERE id >= $1 ORDER BY id";
    let rows = client.query(sql, &[&1_i64]).await.expect("rows");
    let rows: Vec<(i64, Option<f64>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(
        rows,
        [(1, None), (2, Some(2.5)), (3, None), (1 << 40, Some(4.5))]
    );

    let of = columns(&client, "by_protobuf").await;
    has(&of, "id", &Type::INT8, "bigint");
    has(&of, "at", &Type::TIMESTAMPTZ, "timestamp with time zone");
    let lines = of.iter().find(|(name, ..)| name == "lines");
    assert!(
        lines.is_some_and(|(.., listed)| listed == "ARRAY"),
        "{of:?}"
    );
    let sql = "SELECT id, price['cents'], array_length(lines), extract(epoch FROM at)::bigint \
               FROM by_protobuf ORDER BY \"offset\"";
    let rows = client.query(sql, &[]).await.expect("rows");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].get::<_, i64>(0), 1);
    assert_eq!(rows[0].get::<_, i64>(1), 250);
    assert_eq!(rows[0].get::<_, i64>(3), 1_768_384_800);
    assert_eq!(rows[1].get::<_, Option<i64>>(1), None);

    // JSON Schema: two versions of one subject. A map is no type of PostgreSQL; its fields are.
    let sql = "SELECT id, note, placed::timestamptz, lines[1]['n'], stock['x'] FROM by_json ORDER BY \"offset\"";
    let rows = client.query(sql, &[]).await.expect("rows");
    assert_eq!(rows[0].get::<_, i64>(0), 1);
    assert_eq!(rows[0].columns()[2].type_(), &Type::TIMESTAMPTZ);
    assert_eq!(rows[0].get::<_, f64>(3), 1.0);
    assert_eq!(rows[0].get::<_, i64>(4), 3);
    assert_eq!(rows[1].get::<_, &str>(1), "n");
    let refused = client.query("SELECT stock FROM by_json", &[]).await;
    let refused = refused.expect_err("it is a map");
    assert_eq!(
        refused.code().map(|code| code.code()),
        Some("0A000"),
        "{refused:?}"
    );
    let of = columns(&client, "newest_json").await;
    has(&of, "id", &Type::INT8, "bigint");
    has(&of, "total", &Type::FLOAT8, "double precision");

    // Clients may use the registry of the connection, and no other.
    let sql = format!(
        "SELECT id, items[1]['sku'] FROM kafka('{nested}', ':', 'value.format=avro') ORDER BY id"
    );
    let rows = client.query(&sql, &[]).await.expect("rows");
    let rows: Vec<(i64, Option<&str>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [(1, Some("a")), (2, None)]);
    let sql = format!(
        "SELECT * FROM kafka('{nested}', ':', 'value.format=avro', 'schema.registry.url=http://127.0.0.1:1')"
    );
    let refused = client
        .query(&sql, &[])
        .await
        .expect_err("it is another host");
    assert_eq!(
        refused.code().map(|code| code.code()),
        Some("22023"),
        "{refused:?}"
    );

    assert_eq!(service.metric("kafka_sql_postgres_connections"), Some(1.0));
    drop(client);
    let (ended, said) = service.end();
    assert!(ended.success(), "{said}");
    assert_no_secret([said.as_str()]);
}
