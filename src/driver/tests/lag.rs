//! How far a job is behind, as it says beside its run.

use std::time::Duration;

use super::super::PartitionLag;
use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Partition, position, log end, offsets behind, and since when the first of them waits.
fn told(lags: &[PartitionLag]) -> Vec<(i32, i64, i64, i64, Option<i64>)> {
    let told = |lag: &PartitionLag| {
        let (position, end) = (lag.position, lag.log_end);
        let number = lag.partition.partition;
        (number, position, end, lag.behind, lag.waiting_since_ms)
    };
    lags.iter().map(told).collect()
}

fn world() -> World {
    let mut world = World::new(2);
    world.limits.max_offsets_per_partition = Some(3);
    for n in 0..5 {
        let record = Record::new("x").with_timestamp_ms(1000 + n);
        world.cluster.append("orders", 0, record).unwrap();
    }
    world
}

#[tokio::test]
async fn the_first_record_that_is_not_delivered_says_how_long() {
    let world = world();
    let mut job = world.job().await;
    let lags = job.lags();
    assert_eq!(lags.look(&[], LONG).await.unwrap(), []);
    job.step().await.unwrap();
    let first = lags.look(&[], LONG).await.unwrap();
    assert_eq!(
        told(&first),
        [(0, 3, 5, 2, Some(1003)), (1, 0, 0, 0, None)]
    );

    // What is known of a record is not read again, and a partition that joins begins at its start.
    world.cluster.reset_stats();
    world.cluster.add_partitions("orders", 3).unwrap();
    let record = Record::new("y").with_timestamp_ms(7);
    world.cluster.append("orders", 2, record).unwrap();
    let second = lags.look(&first, LONG).await.unwrap();
    assert_eq!(
        told(&second),
        [
            (0, 3, 5, 2, Some(1003)),
            (1, 0, 0, 0, None),
            (2, 0, 1, 1, Some(7))
        ]
    );
    assert_eq!(world.cluster.stats().partition("orders", 0).fetches, 0);
}

#[tokio::test]
async fn a_batch_that_fails_is_not_delivered() {
    let world = world();
    world.sink.fail("commit", 1, false);
    let mut job = world.job().await;
    job.step().await.unwrap_err();
    let mut again = world.job().await;
    let lags = again.lags();
    world.sink.fail("stage", 1, false);
    again.step().await.unwrap_err();
    let behind = lags.look(&[], LONG).await.unwrap();
    assert_eq!(
        told(&behind),
        [(0, 0, 5, 5, Some(1000)), (1, 0, 0, 0, None)]
    );
    again.run(&Stop::new()).await.unwrap();
    let behind = lags.look(&behind, LONG).await.unwrap();
    assert_eq!(told(&behind), [(0, 5, 5, 0, None), (1, 0, 0, 0, None)]);
}

#[tokio::test]
async fn control_records_wait_for_nobody() {
    let world = World::new(1);
    let mut aborted = world.cluster.begin();
    aborted.append("orders", 0, Record::new("x")).unwrap();
    aborted.abort().unwrap();
    let mut job = world.job().await;
    let lags = job.lags();
    world.sink.fail("commit", 1, false);
    job.step().await.unwrap_err();
    let behind = lags.look(&[], LONG).await.unwrap();
    assert_eq!(told(&behind), [(0, 0, 2, 2, None)]);
}
