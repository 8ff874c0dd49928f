//! Plans that are executed more than once, and what they count.

use datafusion::physical_plan::collect;

use super::*;
use crate::decode::{BadRowLimit, Format, OnBadRow};
use crate::scan;

/// A topic of two partitions, each with two records that are text and one that is not.
async fn with_bad_rows(limit: BadRowLimit) -> SessionContext {
    let cluster = MemoryCluster::new();
    cluster.create_topic("t", 2).unwrap();
    for partition in 0..2 {
        for value in [&b"one"[..], b"\xff", b"two"] {
            cluster.append("t", partition, Record::new(value)).unwrap();
        }
    }
    let context = session();
    let table = builder(&cluster)
        .topic("t")
        .value_format(Format::Text)
        .on_bad_row(OnBadRow::Skip)
        .bad_row_limit(limit);
    let table = table.build().await.unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    context
}

#[tokio::test]
async fn a_plan_that_is_executed_again_counts_its_bad_rows_once() {
    for limit in [BadRowLimit::Count(2), BadRowLimit::Percent(34.0)] {
        let context = with_bad_rows(limit).await;
        for sql in [
            "SELECT value FROM t",
            "SELECT value FROM t ORDER BY offset DESC",
        ] {
            let plan = planned(&context, sql).await;
            for _ in 0..3 {
                let batches = collect(Arc::clone(&plan), context.task_ctx())
                    .await
                    .unwrap();
                assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
                assert_eq!(
                    scan::ledger(&plan).total().to_string(),
                    "4 delivered, 2 bad"
                );
            }
        }
    }
}

/// Each turn of a recursive query executes its recursive term again.
#[tokio::test]
async fn a_recursive_query_counts_the_bad_rows_of_its_last_turn() {
    let context = with_bad_rows(BadRowLimit::Count(2)).await;
    let sql = "WITH RECURSIVE turns AS ( \
                 SELECT 1 AS turn UNION ALL \
                 SELECT turn + 1 FROM turns, (SELECT count(*) AS n FROM t) WHERE turn < 5 AND n = 4 \
               ) SELECT count(*) FROM turns";
    assert_eq!(count(&context, sql).await, 5);
}
