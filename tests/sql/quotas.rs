//! Clients throttled by a broker's quota: nothing fails, and the time is reported.

use arrow::array::RecordBatch;
use datafusion::physical_plan::collect;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::scan::ScanProgress;

use super::session_with;
use crate::support::{self, admin, produce};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_wait_out_a_quota_and_tell_for_how_long() {
    let reads = ["wire", "librdkafka"].map(|client| async move {
        let id = admin::unique_topic(client);
        let (topic, records) = produce::held_back(support::shared().bootstrap(), &id);
        let mut connection = ConnectionConfig::new(support::shared().bootstrap());
        connection.set("kafka.client", client).unwrap();
        connection.set("client.id", &id).unwrap();
        // Not longer than the broker throttles a client.
        connection.set("read.timeout.ms", "2500").unwrap();
        let context = session_with(connection);
        let select = format!("SELECT value FROM kafka('{topic}')");
        let frame = context.sql(&select).await.unwrap();
        let task = std::sync::Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await.unwrap();
        let rows = collect(std::sync::Arc::clone(&plan), task).await;
        let rows = rows.unwrap_or_else(|e| panic!("{client}: {e}"));
        let rows: usize = rows.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, records, "{client}");
        let told = ScanProgress::of(&plan).throttled_ms;
        assert!(told >= 1000, "{client} was held back for {told} ms");
    });
    futures::future::join_all(reads).await;
}
