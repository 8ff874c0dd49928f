//! Which offsets a statement sees, and for how long it is remembered.

use std::sync::Weak;

use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::count as count_of;
use datafusion::prelude::lit;

use super::*;

/// A vanilla context: nothing of ours but the table.
#[tokio::test]
async fn one_statement_sees_one_snapshot() {
    let cluster = orders();
    let context = SessionContext::new();
    let table = builder(&cluster).topic("orders").build().await.unwrap();
    context.register_table("orders", Arc::new(table)).unwrap();

    let sql = "SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM orders";
    let frame = context.sql(sql).await.unwrap();
    cluster.reset_stats();
    let planned = frame.clone().create_physical_plan().await.unwrap();
    assert_eq!(cluster.stats().describes, 1);
    cluster.append("orders", 0, Record::new("later")).unwrap();
    let task = context.task_ctx();
    let batches = datafusion::physical_plan::collect(planned, task)
        .await
        .unwrap();
    let counts: Vec<i64> = batches
        .iter()
        .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(counts, [400, 400]);
    assert_eq!(count(&context, "SELECT count(*) FROM orders").await, 401);
}

/// Two tables of one topic with different ranges end alike within a statement.
#[tokio::test]
async fn ranges_of_one_topic_share_the_log_end_in_a_statement() {
    let cluster = orders();
    let client: Arc<dyn KafkaClient> = Arc::new(cluster.client());
    let context = SessionContext::new();
    for (name, range) in [("all", "start:end"), ("tail", "-10")] {
        let table = KafkaTable::builder_with_client(Arc::clone(&client))
            .topic("orders")
            .range(range);
        let table = Arc::new(table.build().await.unwrap());
        context.register_table(name, table).unwrap();
    }
    let sql = "SELECT max(\"offset\") FROM \"all\" UNION ALL SELECT max(\"offset\") FROM tail";
    cluster.reset_stats();
    planned(&context, sql).await;
    assert_eq!(cluster.stats().list_offsets, 1);
}

#[tokio::test]
async fn a_pinned_table_refuses_a_log_that_was_cut_and_has_grown_again() {
    let cluster = orders();
    let table = builder(&cluster).topic("orders").build().await.unwrap();
    let text = table.snapshot().await.unwrap().to_json();
    assert!(text.contains("\"leader_epoch\":0"), "{text}");
    let pinned = table.at(text.parse().unwrap()).unwrap();
    let context = session();
    context.register_table("orders", Arc::new(pinned)).unwrap();
    let sql = "SELECT count(*) FROM orders WHERE partition = 0";
    cluster.elect_at("orders", 0, 100).unwrap();
    assert_eq!(rows(&context, sql).await, ["100"]);
    cluster.elect_at("orders", 0, 40).unwrap();
    for number in 0..70 {
        let record = Record::new(format!("another {number}"));
        cluster.append("orders", 0, record).unwrap();
    }
    let error = context.sql(sql).await.unwrap().collect().await.unwrap_err();
    let Some(Error::Truncated {
        offset: 100,
        cut: 40,
        ..
    }) = Error::find(&error)
    else {
        panic!("{error}");
    };
}

/// Its epochs say nothing of the topic that was pinned.
#[tokio::test]
async fn a_pinned_table_refuses_a_topic_that_was_recreated_and_is_shorter() {
    let cluster = orders();
    let table = builder(&cluster).topic("orders").build().await.unwrap();
    let pinned = table.at(table.snapshot().await.unwrap()).unwrap();
    let context = session();
    context.register_table("orders", Arc::new(pinned)).unwrap();
    cluster.recreate_topic("orders").unwrap();
    cluster.append("orders", 0, Record::new("new")).unwrap();
    let error = query(&context, "SELECT count(*) FROM orders")
        .await
        .unwrap_err();
    let Some(Error::TopicRecreated { .. }) = Error::find(&error) else {
        panic!("{error}");
    };
}

/// The statement's end was told by the leader that is lost. What stands before it now are other records.
#[tokio::test]
async fn a_statement_refuses_a_log_that_is_cut_behind_its_position() {
    let cluster = orders();
    let context = session();
    let table = registered(&context, &cluster).await;
    let sql = "SELECT offset FROM orders WHERE partition = 0";
    let planned = planned(&context, sql).await;
    let early = table.at(table.snapshot().await.unwrap()).unwrap();
    cluster.elect_at("orders", 0, 40).unwrap();
    for number in 0..70 {
        let record = Record::new(format!("another {number}"));
        cluster.append("orders", 0, record).unwrap();
    }
    let read = datafusion::physical_plan::collect(planned, context.task_ctx());
    let error = read.await.unwrap_err();
    let expected = "orders[0]@100: the log was cut at 40 by the loss of a leader: its records 40..100 are in no \
                    log any more, and others may stand at these offsets; what was read before may be of \
                    either log: run the query again";
    assert_eq!(Error::find(&error).unwrap().to_string(), expected);
    // A new statement sees the new log; a snapshot is refused before it is read.
    assert_eq!(
        rows(&context, "SELECT count(*) FROM orders WHERE partition = 0").await,
        ["110"]
    );
    context.register_table("early", Arc::new(early)).unwrap();
    let early = context.sql("SELECT count(*) FROM early").await.unwrap();
    assert!(early.collect().await.is_err());
}

#[tokio::test]
async fn pinned_table_does_not_move() {
    let cluster = orders();
    let table = builder(&cluster)
        .topic("orders")
        .range("-10")
        .build()
        .await
        .unwrap();
    let snapshot = table.snapshot().await.unwrap();
    let text = snapshot.to_json();
    cluster.append("orders", 0, Record::new("later")).unwrap();
    let pinned = table.at(text.parse().unwrap()).unwrap();
    assert_eq!(pinned.snapshot().await.unwrap(), snapshot);
    let context = session();
    context.register_table("orders", Arc::new(pinned)).unwrap();
    let sql = "SELECT min(offset), max(offset), count(*) FROM orders";
    assert_eq!(rows(&context, sql).await, ["90 99 40"]);

    let other = builder(&cluster)
        .topic("orders")
        .isolation(IsolationLevel::ReadUncommitted);
    assert!(other.build_lazy().unwrap().at(snapshot.clone()).is_err());
    let foreign = builder(&cluster).topic("payments").build_lazy().unwrap();
    let error = foreign.at(snapshot).unwrap_err().to_string();
    assert_eq!(
        error,
        "the snapshot has orders[0] 90..100, which does not belong to the table of payments"
    );
}

/// A context with nothing of ours but tables, and one that was made for Kafka.
fn sessions() -> [SessionContext; 2] {
    [SessionContext::new(), session()]
}

async fn registered(context: &SessionContext, cluster: &MemoryCluster) -> KafkaTable {
    let table = builder(cluster).topic("orders").build().await.unwrap();
    let provider = Arc::new(table.clone());
    context.register_table("orders", provider).unwrap();
    table
}

async fn counted(frame: &DataFrame) -> i64 {
    let batches = frame.clone().collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test]
async fn a_frame_reads_the_same_offsets_after_ten_thousand_statements() {
    for context in sessions() {
        let cluster = orders();
        registered(&context, &cluster).await;
        let sql = "SELECT count(*) FROM orders";
        let frame = context.sql(sql).await.unwrap();
        assert_eq!(counted(&frame).await, 400);
        cluster.append("orders", 0, Record::new("later")).unwrap();
        for _ in 0..10_000 {
            let statement = context.table("orders").await.unwrap();
            statement.create_physical_plan().await.unwrap();
        }
        let wider = frame.clone().limit(0, Some(1)).unwrap();
        assert_eq!([counted(&frame).await, counted(&wider).await], [400, 400]);
        assert_eq!(count(&context, sql).await, 401);
    }
}

#[tokio::test]
async fn snapshots_go_with_their_statements_and_sessions() {
    let mut left: Vec<Weak<Snapshot>> = vec![];
    let mut lists: Vec<Weak<SessionSnapshots>> = vec![];
    for _ in 0..20 {
        let context = session();
        let table = registered(&context, &orders()).await;
        let config = context.copied_config();
        let list = config.get_extension::<SessionSnapshots>().unwrap();
        let mut statements = vec![];
        for _ in 0..10 {
            let statement = context.state();
            let snapshot = table.reading.statement_snapshot(&statement).await.unwrap();
            left.push(Arc::downgrade(&snapshot));
            statements.push(statement);
        }
        assert_eq!(list.len(), 10);
        assert!(left.iter().rev().take(10).all(|s| s.strong_count() == 1));
        statements.truncate(3);
        // The next statement finds that seven are over.
        let frame = context.table("orders").await.unwrap();
        counted(&frame.aggregate(vec![], vec![count_of(lit(1))]).unwrap()).await;
        assert_eq!(list.len(), 3 + 1);
        lists.push(Arc::downgrade(&list));
    }
    assert_eq!(left.iter().filter(|s| s.strong_count() > 0).count(), 0);
    assert_eq!(lists.iter().filter(|l| l.strong_count() > 0).count(), 0);
}

/// Without a list of the session's own, the next statement of any such session clears up.
#[tokio::test]
async fn snapshots_of_an_unregistered_session_go_with_their_statements() {
    let context = SessionContext::new();
    let table = registered(&context, &orders()).await;
    let statement = context.state();
    let snapshot = Arc::downgrade(&table.reading.statement_snapshot(&statement).await.unwrap());
    table
        .reading
        .statement_snapshot(&context.state())
        .await
        .unwrap();
    assert_eq!(snapshot.strong_count(), 1);
    drop(statement);
    table
        .reading
        .statement_snapshot(&context.state())
        .await
        .unwrap();
    assert_eq!(snapshot.strong_count(), 0);
}
