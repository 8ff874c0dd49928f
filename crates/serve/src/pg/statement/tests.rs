//! What is read, what is refused, and as what.

use pgwire::error::ErrorInfo;

use super::*;

fn one(text: &str) -> Statement {
    let mut all = read(text).unwrap();
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

fn code(text: &str) -> String {
    ErrorInfo::from(read(text).expect_err(text)).code
}

#[test]
fn queries_are_passed_on_as_they_were_written() {
    for text in [
        "SELECT 1 AS a",
        "select  offset , value FROM orders",
        "VALUES (1)",
        "WITH a AS (SELECT 1) SELECT * FROM a",
    ] {
        let Statement::Query(query) = one(&format!(" {text} ; ")) else {
            panic!("{text}")
        };
        assert_eq!((query.text.as_str(), query.explains), (text, false));
    }
    assert!(matches!(one("EXPLAIN ANALYZE SELECT 1"), Statement::Query(q) if q.explains));
    assert_eq!(read(" ; ").unwrap(), []);
    assert_eq!(read("BEGIN; SELECT 1; COMMIT").unwrap().len(), 3);
}

#[test]
fn what_writes_or_reaches_elsewhere_is_refused() {
    for (text, expected) in [
        ("INSERT INTO orders VALUES (1)", "25006"),
        ("UPDATE orders SET a = 1", "25006"),
        ("DELETE FROM orders", "25006"),
        ("TRUNCATE orders", "25006"),
        ("CREATE TABLE a (b INT)", "25006"),
        ("CREATE TABLE a AS SELECT 1", "25006"),
        ("CREATE VIEW a AS SELECT 1", "25006"),
        (
            "CREATE EXTERNAL TABLE a STORED AS CSV LOCATION '/etc/passwd'",
            "42601",
        ),
        ("DROP TABLE a", "25006"),
        ("ALTER TABLE a ADD COLUMN b INT", "25006"),
        ("COPY orders TO '/tmp/x'", "42501"),
        ("COPY (SELECT 1) TO '/tmp/x'", "42501"),
        ("COPY (SELECT 1) TO PROGRAM 'rm -rf /'", "42501"),
        ("COPY orders FROM STDIN", "25006"),
        ("COPY orders FROM '/etc/passwd'", "25006"),
        ("EXPLAIN INSERT INTO a SELECT 1", "25006"),
        ("EXPLAIN ANALYZE DELETE FROM a", "25006"),
        ("SET ROLE admin", "42501"),
        ("SET SESSION AUTHORIZATION admin", "42501"),
        ("PREPARE a AS SELECT 1", "0A000"),
        ("LISTEN a", "0A000"),
        ("CALL a()", "25006"),
        ("GRANT ALL ON a TO b", "25006"),
        ("SELECT 1; DROP TABLE a", "25006"),
        ("SELEC 1", "42601"),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
}

#[test]
fn words_of_clients_are_understood() {
    let set = |name: &str, value: &str| Statement::Set(vec![(name.into(), Some(value.into()))]);
    for (text, expected) in [
        ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
        (
            "SET application_name = 'a b'",
            set("application_name", "a b"),
        ),
        ("SET SESSION timezone TO 'UTC'", set("timezone", "UTC")),
        ("SET TIME ZONE 'UTC'", set("timezone", "UTC")),
        ("SET NAMES 'UTF8'", set("client_encoding", "UTF8")),
        (
            "SET standard_conforming_strings = on",
            set("standard_conforming_strings", "on"),
        ),
        ("SET search_path = a, b", set("search_path", "a, b")),
        ("RESET ALL", Statement::ResetAll),
        (
            "SHOW transaction isolation level",
            Statement::Show("transaction_isolation".into()),
        ),
        ("SHOW TIME ZONE", Statement::Show("timezone".into())),
        (
            "SHOW server_version",
            Statement::Show("server_version".into()),
        ),
        ("BEGIN", Statement::Begin),
        (
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            Statement::Begin,
        ),
        ("END", Statement::Commit),
        ("ABORT", Statement::Rollback),
        ("ROLLBACK", Statement::Rollback),
        ("SAVEPOINT a", Statement::Nothing("SAVEPOINT")),
        ("SET TRANSACTION READ ONLY", Statement::Nothing("SET")),
        ("DISCARD ALL", Statement::DiscardAll),
        ("DEALLOCATE ALL", Statement::Deallocate(None)),
        (
            "DEALLOCATE \"_pg3_0\"",
            Statement::Deallocate(Some("_pg3_0".into())),
        ),
        ("CLOSE ALL", Statement::Close(None)),
        ("UNLISTEN *", Statement::Nothing("UNLISTEN")),
        (
            "FETCH FORWARD 5 FROM c",
            Statement::Fetch {
                cursor: "c".into(),
                rows: Some(5),
            },
        ),
        (
            "FETCH ALL FROM c",
            Statement::Fetch {
                cursor: "c".into(),
                rows: None,
            },
        ),
    ] {
        assert_eq!(one(text), expected, "{text}");
    }
    let Statement::Declare {
        cursor,
        query,
        hold,
    } = one("DECLARE \"c\" CURSOR FOR SELECT 1")
    else {
        panic!()
    };
    assert_eq!(
        (cursor.as_str(), query.text.as_str(), hold),
        ("c", "SELECT 1", false)
    );
    assert_eq!(code("FETCH PRIOR FROM c"), "55000");
    assert_eq!(code("DECLARE c SCROLL CURSOR FOR SELECT 1"), "0A000");
    assert_eq!(code("DECLARE c BINARY CURSOR FOR SELECT 1"), "0A000");
    assert!(matches!(
        one("DECLARE C NO SCROLL CURSOR FOR SELECT 1"),
        Statement::Declare { cursor, .. } if cursor == "c"
    ));
}

#[test]
fn copies_to_the_client_have_formats() {
    let Statement::Copy(query, format) =
        one("COPY  ( select 1 ) TO STDOUT WITH (FORMAT csv, HEADER)")
    else {
        panic!()
    };
    assert_eq!(query.text, "SELECT 1");
    assert!(format.csv && format.header);
    assert!(
        matches!(one("COPY orders (a, b) TO STDOUT"), Statement::Copy(q, f) if q.text == "SELECT a, b FROM orders" && !f.csv)
    );
    assert!(
        matches!(one("COPY orders TO STDOUT CSV HEADER"), Statement::Copy(_, f) if f.csv && f.header)
    );
    assert_eq!(code("COPY orders TO STDOUT WITH (FORMAT binary)"), "0A000");
}

#[test]
fn functions_are_names() {
    let text = "SELECT typinput = 'pg_catalog.array_in'::regproc, 'x'::REGPROC, 'y'::regclass FROM pg_type";
    let names = "SELECT typinput = 'array_in', 'x', 'y'::REGCLASS FROM pg_type";
    assert_eq!(with_function_names(text), names);
    assert_eq!(with_function_names("select  1"), "select  1");
}
