//! Clients that others have written: psql, psycopg, the JDBC driver with the queries of DBeaver, and the queries of
//! Grafana. `scripts/pg-clients` fetches those that are not installed with PostgreSQL; a client that is not there is
//! named in the output.

use std::path::PathBuf;
use std::process::Output;

use tokio::process::Command;

use super::*;

/// Runs a program, unless it is not there.
async fn run(served: &Served, what: &str, command: &mut Command) -> Option<String> {
    command
        .env("PGPASSWORD", PASSWORD)
        .current_dir(served.folder.path());
    let Output {
        status,
        stdout,
        stderr,
    } = match command.output().await {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: {what} cannot be started: {error}");
            return None;
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{what}: {status}\n{stdout}\n{stderr}");
    Some(stdout + &stderr)
}

fn conninfo(served: &Served) -> String {
    let port = served.port.address().port();
    format!("host=127.0.0.1 port={port} user=ada dbname=kafka")
}

/// What `scripts/pg-clients` has fetched.
fn fetched(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("KAFKA_SQL_PG_CLIENTS") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let cache = match std::env::var_os("XDG_CACHE_HOME") {
                Some(cache) => PathBuf::from(cache),
                None => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
            };
            cache.join("datafusion-kafka/pg-clients")
        }
    };
    let path = folder.join(name);
    if !path.exists() {
        eprintln!(
            "skipped: there is no {}: scripts/pg-clients fetches it",
            path.display()
        );
        return None;
    }
    Some(path)
}

async fn psql(served: &Served, commands: &[&str]) -> Option<String> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-A", "-v", "ON_ERROR_STOP=1"])
        .arg(conninfo(served));
    for command in commands {
        psql.args(["-c", command]);
    }
    run(served, "psql", &mut psql).await
}

#[tokio::test]
async fn psql_describes_and_copies() {
    let served = serve("", "").await;
    let Some(tables) = psql(&served, &["\\dt"]).await else {
        return;
    };
    for line in [
        "public|few|table|",
        "public|orders|table|",
        "public|typed|table|",
    ] {
        assert!(tables.contains(line), "{tables}");
    }
    assert!(!tables.contains("pg_class"), "{tables}");
    let views = psql(&served, &["\\dv"]).await.unwrap();
    assert!(views.contains("public|cheap|view|"), "{views}");
    let columns = psql(&served, &["\\d typed"]).await.unwrap();
    for line in [
        "id|bigint|",
        "name|text|",
        "price|double precision|",
        "at|timestamp without time zone|",
    ] {
        assert!(columns.contains(line), "{columns}");
    }
    let all = psql(&served, &["\\d", "\\l", "\\dn"]).await.unwrap();
    assert!(
        all.contains("cheap") && all.contains("kafka") && all.contains("public"),
        "{all}"
    );

    let copied = psql(
        &served,
        &["\\copy (SELECT id, name FROM typed ORDER BY id LIMIT 2) to 'out.csv' csv header"],
    )
    .await
    .unwrap();
    assert!(copied.contains("COPY 2"), "{copied}");
    let file = std::fs::read_to_string(served.folder.path().join("out.csv")).unwrap();
    assert_eq!(file, "id,name\n0,n0\n1,n1\n");

    let said = psql(&served, &["SELECT count(*) FROM orders"])
        .await
        .unwrap();
    assert!(
        said.contains("NOTICE:  read 200 offsets of orders: 190 records, 10 gap"),
        "{said}"
    );
    let fetched = psql(
        &served,
        &[
            "\\set FETCH_COUNT 7",
            "SELECT \"offset\" FROM orders WHERE partition = 1",
        ],
    )
    .await
    .unwrap();
    assert!(fetched.contains("(100 rows)"), "{fetched}");
}

#[tokio::test]
async fn psycopg_reads() {
    let served = serve("", "").await;
    let Some(python) = fetched("bin/python") else {
        return;
    };
    let script = served.folder.path().join("client.py");
    std::fs::write(&script, include_str!("clients/psycopg.py")).unwrap();
    let mut command = Command::new(python);
    command.arg(script).arg(conninfo(&served));
    let said = run(&served, "psycopg", &mut command).await;
    assert!(said.is_some_and(|said| said.contains("done")));
}

#[tokio::test]
async fn the_jdbc_driver_starts_as_dbeaver_does() {
    let served = serve("", "").await;
    let Some(jar) = fetched("postgresql.jar") else {
        return;
    };
    let file = |name: &str, text: &str| {
        let path = served.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let program = file("Driver.java", include_str!("clients/Driver.java"));
    let queries = file("dbeaver.sql", include_str!("clients/dbeaver.sql"));
    let port = served.port.address().port();
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(jar)
        .arg(program)
        .arg(format!("jdbc:postgresql://127.0.0.1:{port}/kafka"))
        .args(["ada", PASSWORD])
        .arg(queries);
    let said = run(&served, "the JDBC driver", &mut command).await;
    assert!(said.is_none_or(|said| said.contains("done")));
}

/// The tables of Grafana's query builder.
const GRAFANA_TABLES: &str = r#"SELECT
    CASE WHEN
          quote_ident(table_schema) IN (
          SELECT
            CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          )
      THEN quote_ident(table_name)
      ELSE quote_ident(table_schema) || '.' || quote_ident(table_name)
    END AS "table"
    FROM information_schema.tables
    WHERE quote_ident(table_schema) NOT IN ('information_schema',
                             'pg_catalog',
                             '_timescaledb_cache',
                             '_timescaledb_catalog',
                             '_timescaledb_internal',
                             '_timescaledb_config',
                             'timescaledb_information',
                             'timescaledb_experimental')
    ORDER BY CASE WHEN
          quote_ident(table_schema) IN (
          SELECT
            CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          ) THEN 0 ELSE 1 END, 1"#;

/// The columns of a table there.
const GRAFANA_COLUMNS: &str = r#"SELECT quote_ident(column_name) AS "column", data_type AS "type"
    FROM information_schema.columns
    WHERE
      CASE WHEN array_length(parse_ident('public.typed'),1) = 2
        THEN quote_ident(table_schema) = (parse_ident('public.typed'))[1]
          AND quote_ident(table_name) = (parse_ident('public.typed'))[2]
        ELSE quote_ident(table_name) = 'public.typed'
          AND
          quote_ident(table_schema) IN (
          SELECT
            CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          )
      END"#;

#[tokio::test]
async fn grafana_finds_tables_and_draws() {
    let served = serve("", "").await;
    let grafana = served.ada().await;
    // A health check, and the version.
    grafana.rows("SELECT 1").await.unwrap();
    let version = "SELECT current_setting('server_version_num')::int/100 as version";
    assert_eq!(grafana.value(version).await, "1600");
    let tables = grafana.rows(GRAFANA_TABLES).await.unwrap();
    for table in ["cheap", "few", "orders", "typed"] {
        let found = tables
            .iter()
            .any(|found| found.trim_start_matches("public.") == table);
        assert!(found, "{table}: {tables:?}");
    }
    let columns = grafana.rows(GRAFANA_COLUMNS).await.unwrap();
    assert_eq!(
        columns[..4],
        [
            "id|bigint",
            "name|text",
            "price|double precision",
            "at|timestamp without time zone"
        ]
    );
    // $__timeGroupAlias(timestamp, '1s') and $__timeFilter(timestamp)
    let drawn = "SELECT floor(extract(epoch from timestamp)/1)*1 AS \"time\", count(*) AS \"value\" FROM orders \
                 WHERE timestamp BETWEEN '2026-01-13T23:00:00Z' AND '2026-01-14T01:00:00Z' GROUP BY 1 ORDER BY 1";
    assert_eq!(grafana.rows(drawn).await.unwrap(), ["1768348800.0|190"]);
    let prepared = grafana.query(drawn, &[]).await.unwrap();
    assert_eq!(prepared[0].get::<_, i64>(1), 190);
}
