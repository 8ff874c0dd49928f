use datafusion_kafka::client::memory::Call;

use super::*;
use crate::testing::{INSERT, World, until};

/// Far more than a scrape may take, and far less than for ever.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_waited_for_once_and_not_long() {
    let world = World::new();
    world.configure("[jobs.orders]\nfile = \"orders.sql\"\nconnection = \"main\"\n");
    world.write("orders.sql", INSERT);
    let (service, ended) = world.run();
    until("it looks", || {
        !service.jobs().is_empty() && service.not_ready().is_empty()
    })
    .await;
    service.pause("orders", "a test").unwrap();
    let monitor = service.board().monitor("orders").unwrap();
    until("it is paused", || monitor.state() == JobState::Paused).await;

    // Somebody asks, and gets no answer.
    let asking = monitor.look.lock().await;
    let scrape = crate::metrics::text(service.board());
    let scrape = tokio::time::timeout(PATIENCE, scrape).await.unwrap();
    assert!(scrape.contains("kafka_sql_job_batches_total"), "{scrape}");
    drop(asking);
    monitor.look(Duration::ZERO).await.unwrap();

    let silent = datafusion_kafka::Error::UnknownTopic {
        topic: "orders".to_owned(),
        nearest: vec![],
    };
    world.cluster.fail_next(Call::ListOffsets, silent);
    monitor.look(Duration::ZERO).await.unwrap_err();
    let asked = world.cluster.stats();
    monitor.look(PATIENCE).await.unwrap();
    assert_eq!(world.cluster.stats(), asked, "others share the failure");
    service.close();
    ended.await.unwrap().unwrap();
}
