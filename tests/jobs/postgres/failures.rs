//! PostgreSQL that refuses, ends sessions or restarts.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_violated_constraint_commits_nothing_and_is_permanent() {
    let table = format!("{}.checked", schema());
    server().sql(&format!(
        "CREATE TABLE {table} (id bigint CHECK (id < 10), name text)"
    ));
    let sink = as_dyn(sink(&table));
    let opened = open(&sink).await.sink;
    let first = batch(0, &[(0, None, 2)]);
    let error = deliver(&opened, &first, &[&[1], &[2, 11]])
        .await
        .unwrap_err();
    assert!(!is_transient(&error), "{error}");
    assert!(error.to_string().contains("checked_id_check"), "{error}");
    assert!(rows(&table).is_empty());
    let found = open(&sink).await;
    assert_eq!(found.committed, None);
    let opened = found.sink;
    deliver(&opened, &again(&first), &[&[1], &[2]])
        .await
        .unwrap();
    assert_eq!(rows(&table).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_do_is_permanent() {
    let table = format!("{}.closed", schema());
    let url = server().url("alice");
    let sink = PostgresSink::with_credentials(&url, &table, Some(PASSWORD), None).unwrap();
    let error = sink.open(&job("job")).await.unwrap_err();
    assert!(error.to_string().contains("permission denied"), "{error}");
    assert!(!is_transient(&error));
    let sink = PostgresSink::with_credentials(&url, &table, Some("wrong"), None).unwrap();
    let error = sink.open(&job("job")).await.unwrap_err();
    assert!(
        error.to_string().contains("password authentication failed"),
        "{error}"
    );
    assert!(!is_transient(&error));
    assert!(!format!("{error:?} {sink:?}").contains("wrong"), "{sink:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_loses_and_repeats_nothing() {
    let mut server = tokio::task::block_in_place(PostgresServer::start);
    let sink = as_dyn(PostgresSink::new(&server.url("postgres"), "t").unwrap());
    let opened = open(&sink).await.sink;
    let first = batch(0, &[(0, None, 2)]);
    deliver(&opened, &first, &[&[1, 2]]).await.unwrap();
    let second = batch(1, &[(0, Some(2), 4)]);
    let staged = stage(&opened, &second, &[&[3, 4]]).await.unwrap();
    tokio::task::block_in_place(|| server.stop());
    let error = opened.commit(&second, staged).await.unwrap_err();
    assert!(is_transient(&error), "{error}");
    let error = sink.open(&job("job")).await.unwrap_err();
    assert!(is_transient(&error), "{error}");
    tokio::task::block_in_place(|| server.start_again());
    let found = open(&sink).await;
    assert_eq!(found.committed.unwrap().batch, 0);
    let opened = found.sink;
    let second = again(&second);
    let staged = stage(&opened, &second, &[&[3, 4]]).await.unwrap();
    // In the middle of a batch, and the driver only finds out by the next one.
    opened.commit(&second, staged).await.unwrap();
    tokio::task::block_in_place(|| server.start_again());
    let third = batch(2, &[(0, Some(4), 5)]);
    let error = deliver(&opened, &third, &[&[5]]).await.unwrap_err();
    assert!(is_transient(&error), "{error}");
    let opened = open(&sink).await.sink;
    deliver(&opened, &again(&third), &[&[5]]).await.unwrap();
    let ids = server.sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t");
    assert_eq!(ids.trim(), "1 2 3 4 5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_holds_the_lock_is_waited_for_and_then_an_error_that_passes() {
    let schema = schema();
    let table = format!("{schema}.t");
    let sink = as_dyn(sink(&table));
    let opened = open(&sink).await.sink;
    deliver(&opened, &batch(0, &[(0, None, 2)]), &[&[1, 2]])
        .await
        .unwrap();
    let (frozen, connection) =
        tokio_postgres::connect(&server().url("postgres"), tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    let hold = format!("BEGIN; SELECT * FROM {schema}.kafka_offsets FOR UPDATE");
    frozen.batch_execute(&hold).await.unwrap();
    let second = batch(1, &[(0, Some(2), 3)]);
    let waiting = tokio::time::timeout(Duration::from_secs(60), deliver(&opened, &second, &[&[3]]));
    let error = waiting.await.expect("the wait has an end").unwrap_err();
    assert!(is_transient(&error), "{error}");
    assert!(error.to_string().contains("lock timeout"), "{error}");
    frozen.batch_execute("ROLLBACK").await.unwrap();
    deliver(&opened, &again(&second), &[&[3]]).await.unwrap();
    assert_eq!(rows(&table).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_server_ends_leaves_nothing() {
    let table = format!("{}.t", schema());
    let sink = as_dyn(sink(&table));
    let opened = open(&sink).await.sink;
    let first = batch(0, &[(0, None, 2)]);
    let staged = stage(&opened, &first, &[&[1, 2]]).await.unwrap();
    // As the server does by itself after half a minute without a sign of life.
    let ended = server().sql(&format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_locks \
         WHERE relation = '{table}'::regclass"
    ));
    assert_eq!(ended.trim(), "1");
    let error = opened.commit(&first, staged).await.unwrap_err();
    assert!(is_transient(&error), "{error}");
    let found = open(&sink).await;
    assert_eq!(found.committed, None);
    let opened = found.sink;
    deliver(&opened, &again(&first), &[&[1, 2]]).await.unwrap();
    assert_eq!(rows(&table).len(), 2);
}
