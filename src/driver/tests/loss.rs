//! Records that are gone: refused by name, or passed over and named.

use super::super::LostBecause;
use super::*;

async fn started(on_data_loss: OnDataLoss) -> World {
    let mut world = World::new(1);
    world.on_data_loss = on_data_loss;
    world.produce(0, 5);
    world.run().await.unwrap();
    world
}

#[tokio::test]
async fn expired_offsets_are_refused_with_coordinates() {
    let world = started(OnDataLoss::Fail).await;
    world.produce(0, 10);
    world.cluster.truncate_before("orders", 0, 8).unwrap();
    let error = world.run().await.unwrap_err().to_string();
    assert!(
        error.starts_with("orders[0]@5: the log now starts at 8, 3 offsets"),
        "{error}"
    );
}

#[tokio::test]
async fn permitted_loss_is_named_and_ranges_stay_contiguous() {
    let world = started(OnDataLoss::Skip).await;
    world.produce(0, 10);
    world.cluster.truncate_before("orders", 0, 8).unwrap();
    let progress = world.job().await.step().await.unwrap().unwrap();
    assert_eq!(taken(&progress), [(0, 5, 15)]);
    let lost = &progress.sources[0].lost[0];
    assert_eq!(
        (lost.from, lost.to, lost.reason),
        (5, 8, LostBecause::Expired)
    );
    assert_eq!(progress.rows(), 7);
    world.run().await.unwrap();
}

#[tokio::test]
async fn a_recreated_topic_is_refused_although_it_is_longer() {
    let world = started(OnDataLoss::Fail).await;
    world.cluster.recreate_topic("orders").unwrap();
    world.produce(0, 9);
    let error = world.run().await.unwrap_err().to_string();
    assert!(
        error.starts_with("orders[0]@5: the topic was recreated"),
        "{error}"
    );
}

#[tokio::test]
async fn a_recreated_topic_is_read_anew_where_loss_is_permitted() {
    let world = started(OnDataLoss::Skip).await;
    world.cluster.recreate_topic("orders").unwrap();
    world.produce(0, 3);
    let progress = world.job().await.step().await.unwrap().unwrap();
    assert_eq!(taken(&progress), [(0, 0, 3)]);
    assert_eq!(progress.sources[0].lost[0].reason, LostBecause::Recreated);
    world.produce(0, 1);
    world.run().await.unwrap();
    assert_eq!(world.held().len(), 5 + 3 + 1);
    let job = world.job().await;
    let difference = &job.replay_diff(1).await.unwrap()[0];
    assert_eq!((difference.missing, difference.extra), (Some(0), Some(0)));
}

#[tokio::test]
async fn a_topic_that_is_gone_is_refused() {
    let world = started(OnDataLoss::Fail).await;
    world.cluster.delete_topic("orders").unwrap();
    let error = world.run().await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::DataUnavailable, "{error}");
}

#[tokio::test]
async fn a_topic_that_is_gone_waits_for_its_return_where_loss_is_permitted() {
    let world = started(OnDataLoss::Skip).await;
    world.cluster.delete_topic("orders").unwrap();
    assert_eq!(world.run().await.unwrap().batches, 0);
    world.cluster.create_topic("orders", 1).unwrap();
    world.produce(0, 2);
    world.run().await.unwrap();
    assert_eq!(world.held().len(), 7);
}

#[tokio::test]
async fn a_new_partition_that_has_lost_its_start_is_a_loss() {
    for (on_data_loss, fails) in [(OnDataLoss::Fail, true), (OnDataLoss::Skip, false)] {
        let world = started(on_data_loss).await;
        world.cluster.add_partitions("orders", 2).unwrap();
        world.produce(1, 5);
        world.cluster.truncate_before("orders", 1, 2).unwrap();
        let result = world.run().await;
        assert_eq!(result.is_err(), fails);
        if !fails {
            assert_eq!(world.held().len(), 5 + 3);
        }
    }
}
