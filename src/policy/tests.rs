use std::path::PathBuf;

use datafusion::prelude::SessionContext;

use super::*;
use crate::config::ConnectionConfig;
use crate::session::KafkaSessionBuilder;
use crate::statement;

/// A folder that contains an allowed folder and a forbidden one.
struct Ground {
    folder: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ground = Self { folder };
        for name in ["open", "closed"] {
            std::fs::create_dir(ground.at(name)).unwrap();
            std::fs::write(ground.at(name).join("rows.csv"), "a,b\n1,2\n").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(ground.at("closed"), ground.at("open/link")).unwrap();
        ground
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self) -> String {
        self.at("open").display().to_string()
    }

    fn closed(&self) -> String {
        self.at("closed").display().to_string()
    }

    /// A session over a cluster that does not answer.
    fn session(&self) -> SessionContext {
        let mut connection = ConnectionConfig::new("127.0.0.1:1");
        connection
            .set("schema.registry.url", "http://registry.example:8081")
            .unwrap();
        connection.set("request.timeout.ms", "1").unwrap();
        self.builder().connection(connection).build().unwrap()
    }

    fn builder(&self) -> KafkaSessionBuilder {
        let policy = Policy::restricted()
            .allow_path(&self.open())
            .unwrap()
            .allow_path("s3://lake/open")
            .unwrap()
            .allow_host("db.example:6543")
            .unwrap();
        KafkaSessionBuilder::new().policy(policy)
    }
}

/// Plans a statement and, if it makes a table, reads it.
async fn tried(context: &SessionContext, sql: &str) -> datafusion::error::Result<()> {
    statement::sql(context, sql).await?.collect().await?;
    Ok(())
}

async fn refuses(context: &SessionContext, sql: &str) {
    let error = tried(context, sql).await.expect_err(sql).to_string();
    let said = [
        "restricted session",
        "text of a statement",
        "a secret has no place",
    ];
    assert!(
        said.iter().any(|said| error.contains(said)),
        "{sql}: {error}"
    );
}

/// Statements that access files outside. `CLOSED` and `OPEN` stand for folders.
const FILES: [&str; 28] = [
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'CLOSED/rows.csv'",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'CLOSED/'",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'file://CLOSED/rows.csv'",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'OPEN/../closed/rows.csv'",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'OPEN/link/rows.csv'",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION ('OPEN/rows.csv', 'CLOSED/rows.csv')",
    "CREATE EXTERNAL TABLE t (a INT) STORED AS CSV LOCATION 'OPEN/new/../../closed/'",
    "CREATE EXTERNAL TABLE t (a INT) STORED AS JSON LOCATION 'CLOSED/'",
    "CREATE EXTERNAL TABLE t STORED AS ARROW LOCATION 'CLOSED/x.arrow'",
    "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'CLOSED/x.parquet'",
    "CREATE EXTERNAL TABLE t (a INT) STORED AS PARQUET LOCATION 'CLOSED/new/'",
    "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/*'",
    "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 's3://other/x'",
    "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 's3://lake/open/../closed'",
    "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 's3://lake/open2'",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://lake/closed/x.csv'",
    "CREATE EXTERNAL TABLE t STORED AS SQLITE LOCATION 'CLOSED/x.db' OPTIONS ('table' 'a')",
    "CREATE EXTERNAL TABLE t STORED AS SQLITE LOCATION 'file://OPEN/../closed/x.db' OPTIONS ('table' 'a')",
    "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION 'o' \
     OPTIONS ('value.format' 'avro', 'value.schema.file' 'CLOSED/x.avsc')",
    "CREATE EXTERNAL TABLE t (a INT) STORED AS KAFKA LOCATION 'o' OPTIONS ('value.format' 'json', \
     'on.bad.row' 'dlq', 'dlq.location' 'CLOSED/dead')",
    "CREATE EXTERNAL TABLE t (a INT) STORED AS KAFKA LOCATION 'o' OPTIONS ('value.format' 'json', \
     'redecode' 'CLOSED/dead')",
    "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION 'o' OPTIONS ('index' 'CLOSED/index')",
    "SELECT * FROM kafka('o', ':', 'index=CLOSED/index')",
    "SELECT * FROM kafka('o', ':', 'value.format=protobuf', 'value.schema.file=CLOSED/x.proto')",
    "SELECT * FROM kafka('o', ':', 'key.format=avro', 'key.schema.file=OPEN/link/x.avsc')",
    "SELECT avro_from(X'00', 'CLOSED/x.avsc')",
    "SELECT protobuf_from(X'00', 'CLOSED/rows.csv')",
    "CREATE EXTERNAL TABLE t STORED AS POSTGRES LOCATION 'postgres://db.example:6543/shop' \
     OPTIONS ('table' 'a', 'ssl.root.cert' 'CLOSED/ca.pem')",
];

/// Statements that write files or change fixed settings.
const STATEMENTS: [&str; 14] = [
    "COPY (SELECT 1) TO 'OPEN/x.csv'",
    "EXPLAIN COPY (SELECT 1) TO 'OPEN/x.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'OPEN/x.csv'",
    "SET datafusion.runtime.memory_limit = '100G'",
    "SET datafusion.runtime.temp_directory = 'CLOSED'",
    "RESET datafusion.runtime.memory_limit",
    "SET datafusion.catalog.location = 'CLOSED'",
    "SET datafusion.sql_parser.recursion_limit = 1000000",
    "SET datafusion.execution.parquet.max_row_group_size = 1",
    "CREATE SCHEMA s",
    "CREATE DATABASE d",
    "DROP SCHEMA topics",
    "CREATE FUNCTION f(INT) RETURNS INT RETURN $1",
    "DROP FUNCTION f",
];

/// Options that access hosts, secrets and settings, as `name=value`.
const OPTIONS: [&str; 26] = [
    "kafka.bootstrap.servers=evil.example:9092",
    "kafka.metadata.broker.list=evil.example",
    "kafka.bootstrap.servers=127.0.0.1:1,evil.example:9092",
    "kafka.bootstrap.servers=127.0.0.1:2",
    "schema.registry.url=http://evil.example:8081",
    "schema.registry.url=http://registry.example:8081@evil.example:8081",
    "schema.registry.url=http://registry.example:8081, http://evil.example",
    "schema.registry.bearer.auth.token=env:PATH",
    "schema.registry.basic.auth.user.info=file:/etc/hostname",
    "schema.registry.ssl.ca.location=/etc/hostname",
    "kafka.sasl.password=env:PATH",
    "kafka.sasl.password=file:/etc/hostname",
    "kafka.sasl.username=anna",
    "kafka.sasl.mechanism=PLAIN",
    "kafka.sasl.jaas.config=env:PATH",
    "kafka.security.protocol=PLAINTEXT",
    "kafka.ssl.ca.location=/etc/hostname",
    "kafka.ssl.truststore.location=/etc/hostname",
    "kafka.ssl.keystore.location=/etc/hostname",
    "kafka.ssl.endpoint.identification.algorithm=none",
    "kafka.enable.ssl.certificate.verification=false",
    "kafka.sasl.oauthbearer.token.endpoint.url=http://evil.example",
    "kafka.client.dns.lookup=use_all_dns_ips",
    "kafka.debug=all",
    "kafka.ssl.engine.location=/tmp/evil.so",
    "kafka.no.such.setting=1",
];

/// Locations and options of databases.
const DATABASES: [(&str, &str); 7] = [
    ("postgres://evil.example/shop", ""),
    ("postgres://db.example/shop", ""),
    ("postgres://db.example:6543/shop?host=evil.example", ""),
    ("postgres://db.example:6543/shop?hostaddr=6.6.6.6", ""),
    ("postgres:///shop?host=/tmp", ""),
    ("postgres://db.example:6543/shop", ", 'password' 'env:PATH'"),
    (
        "postgres://db.example:6543/shop",
        ", 'password' 'file:/etc/hostname'",
    ),
];

#[tokio::test]
async fn restricted_text_reaches_no_file_that_was_not_allowed() {
    let ground = Ground::new();
    let context = ground.session();
    let put = |sql: &str| {
        sql.replace("CLOSED", &ground.closed())
            .replace("OPEN", &ground.open())
    };
    for sql in FILES.iter().chain(&STATEMENTS) {
        refuses(&context, &put(sql)).await;
    }
    let closed: Vec<_> = std::fs::read_dir(ground.at("closed")).unwrap().collect();
    assert_eq!(closed.len(), 1, "{closed:?}");
    let open: Vec<_> = std::fs::read_dir(ground.at("open")).unwrap().collect();
    assert!(open.len() <= 2, "{open:?}");
}

#[tokio::test]
async fn restricted_text_names_no_host_secret_or_setting_that_was_not_allowed() {
    let ground = Ground::new();
    let context = ground.session();
    for option in OPTIONS {
        let (name, value) = option.split_once('=').unwrap();
        let options = format!("OPTIONS ('{name}' '{value}')");
        let create = format!("CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION 'o' {options}");
        refuses(&context, &create).await;
        refuses(
            &context,
            &format!("SELECT * FROM kafka_offsets('o', ':', '{option}')"),
        )
        .await;
    }
    for (location, options) in DATABASES {
        let create = format!(
            "CREATE EXTERNAL TABLE t STORED AS POSTGRES LOCATION '{location}' OPTIONS ('table' 'a'{options})"
        );
        refuses(&context, &create).await;
    }
    for option in [
        "aws.endpoint",
        "aws.web_identity_token_file",
        "azure.use_azure_cli",
        "aws.bucket",
    ] {
        let create = format!(
            "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 's3://lake/open' OPTIONS ('{option}' 'x')"
        );
        refuses(&context, &create).await;
    }
}

#[tokio::test]
async fn restricted_text_uses_what_was_allowed() {
    let ground = Ground::new();
    let context = ground.builder().build().unwrap();
    let open = ground.open();
    for sql in [
        format!(
            "CREATE EXTERNAL TABLE rows STORED AS CSV LOCATION '{open}/rows.csv' OPTIONS ('has_header' 'true')"
        ),
        "SELECT * FROM rows".to_owned(),
        "CREATE VIEW v AS SELECT a FROM rows".to_owned(),
        "CREATE TABLE made AS SELECT * FROM v".to_owned(),
        "EXPLAIN SELECT * FROM made".to_owned(),
        format!("CREATE EXTERNAL TABLE written (a INT) STORED AS CSV LOCATION '{open}/written/'"),
        "INSERT INTO written VALUES (1), (2)".to_owned(),
        format!("CREATE EXTERNAL TABLE sink (a INT) STORED AS PARQUET LOCATION '{open}/sink/'"),
        "INSERT INTO sink VALUES (1), (2)".to_owned(),
        format!(
            "CREATE EXTERNAL TABLE db STORED AS SQLITE LOCATION '{open}/x.db' OPTIONS ('table' 'a')"
        ),
        "SET datafusion.execution.batch_size = 100".to_owned(),
        "SET datafusion.execution.time_zone = '+02:00'".to_owned(),
        "DROP TABLE made".to_owned(),
    ] {
        tried(&context, &sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    // The session's own brokers, and settings that only tune, are allowed.
    let context = ground.session();
    for option in [
        "kafka.bootstrap.servers=127.0.0.1:1",
        "kafka.fetch.max.bytes=1000000",
    ] {
        let sql = format!("SELECT * FROM kafka_offsets('o', ':', '{option}')");
        let error = tried(&context, &sql).await.unwrap_err().to_string();
        assert!(error.contains("cannot reach Kafka"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn files_are_closed_to_text_that_goes_past_the_statement() {
    let ground = Ground::new();
    let context = ground.session();
    let closed = ground.closed();
    let create = format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{closed}/rows.csv'");
    let error = context.sql(&create).await.unwrap_err().to_string();
    assert!(error.contains("restricted session"), "{error}");
    let copy = format!("COPY (SELECT 1) TO '{closed}/x.csv'");
    // DataFusion does not say why a write fails.
    let copied = context.sql(&copy).await.unwrap().collect().await;
    assert!(copied.is_err());
    assert!(!ground.at("closed/x.csv").exists());
}

#[tokio::test]
async fn copy_keeps_a_file_unless_told_otherwise() {
    let ground = Ground::new();
    let file = ground.at("open/rows.csv");
    let copy = format!("COPY (SELECT 7) TO '{}' STORED AS CSV", file.display());
    let session = |keep| {
        let policy = Policy::default().keep_files(keep);
        KafkaSessionBuilder::new().policy(policy).build().unwrap()
    };
    for sql in [copy.clone(), format!("EXPLAIN ANALYZE {copy}")] {
        let error = tried(&session(true), &sql).await.unwrap_err().to_string();
        assert!(
            error.ends_with("exists; add --overwrite to replace it"),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "a,b\n1,2\n");
    tried(&session(true), &format!("EXPLAIN {copy}"))
        .await
        .unwrap();
    tried(&session(true), &copy.replace("rows.csv", "new.csv"))
        .await
        .unwrap();
    tried(&session(false), &copy).await.unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().contains('7'));
}

#[tokio::test]
async fn shown_statements_contain_no_secrets() {
    let ground = Ground::new();
    let context = KafkaSessionBuilder::new().build().unwrap();
    let secret = "'aws.secret_access_key' 'hunter2'";
    let open = ground.open();
    let explain =
        format!("EXPLAIN COPY (SELECT 1 AS a) TO '{open}/x.csv' STORED AS CSV OPTIONS ({secret})");
    let create = format!(
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{open}/x*.parquet' OPTIONS ({secret})"
    );
    let shown = async |sql: &str| {
        let rows = statement::sql(&context, sql)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        arrow::util::pretty::pretty_format_batches(&rows)
            .unwrap()
            .to_string()
    };
    let explained = shown(&explain).await;
    assert!(
        explained.contains("CopyTo") && explained.contains("[redacted]"),
        "{explained}"
    );
    assert!(!explained.contains("hunter2"), "{explained}");
    std::fs::create_dir_all(ground.at("open")).unwrap();
    shown(&format!("COPY (SELECT 1 AS a) TO '{open}/x1.parquet'")).await;
    shown(&create).await;
    let definition = shown("SHOW CREATE TABLE t").await;
    assert!(definition.contains("PARQUET"), "{definition}");
    assert!(!definition.contains("hunter2"), "{definition}");
}

#[test]
fn a_broker_is_told_as_clients_tell_it() {
    let policy = Policy::restricted().allow_host("127.0.0.1:9").unwrap();
    let check = |servers: &str| policy.check_brokers(&ConnectionConfig::new(servers));
    check("PLAINTEXT://127.0.0.1:9").unwrap();
    for servers in [
        "PLAINTEXT://evil.example:9092/://127.0.0.1:9",
        "evil.example:9092/127.0.0.1:9",
        "evil.example@127.0.0.1:9",
    ] {
        check(servers).unwrap_err();
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_is_no_file_that_was_allowed() {
    let ground = Ground::new();
    let link = ground.at("open/new");
    std::os::unix::fs::symlink(ground.at("closed/new"), &link).unwrap();
    let policy = Policy::restricted().allow_path(&ground.open()).unwrap();
    policy.check_path("file", &ground.at("open/other")).unwrap();
    for path in [link.clone(), link.join("within")] {
        policy.check_path("file", &path).unwrap_err();
    }
}
