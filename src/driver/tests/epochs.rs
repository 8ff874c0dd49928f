//! Logs that were cut and have grown again: never read on in silence.

use datafusion::prelude::SessionConfig;
use futures::StreamExt;

use super::super::{LostBecause, Window};
use super::*;
use crate::error::{Error, ErrorKind};
use crate::sink::Position;

/// A job has taken over 0..60, of which 0..20 are of leader epoch 0, then of 1.
pub(super) async fn at_sixty(on_data_loss: OnDataLoss) -> World {
    let mut world = World::new(1);
    world.on_data_loss = on_data_loss;
    world.produce(0, 20);
    world.cluster.elect_at("orders", 0, 20).unwrap();
    world.produce(0, 40);
    world.run().await.unwrap();
    world
}

/// The log is cut to 30 by a leader that had no more, and grows to `end`.
pub(super) fn cut_and_grow(world: &World, end: i64) {
    world.cluster.elect_at("orders", 0, 30).unwrap();
    world.produce(0, end - 30);
}

pub(super) fn is_cut_at(error: &Error, position: i64, at: i64) {
    let Error::Truncated { offset, cut, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((*offset, *cut), (position, at), "{error}");
    assert_eq!(error.kind(), ErrorKind::DataUnavailable);
}

pub(super) fn recorded(world: &World) -> Position {
    let committed = world.sink.committed("job").unwrap();
    committed.ends.into_values().next().unwrap()
}

/// A process that takes what comes while it runs, too.
async fn continuous(world: &World) -> MicroBatch {
    let job = world.builder("job").trigger(Trigger::Continuous);
    job.insert(INSERT).build().await.unwrap()
}

/// Removes a field from all files of the log, as an earlier version would have written them.
fn without_epochs(world: &World) {
    for folder in ["intent", "commit"] {
        for file in std::fs::read_dir(world.checkpoint().join(folder)).unwrap() {
            let path = file.unwrap().path();
            let mut json: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            drop_epochs(&mut json);
            std::fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
        }
    }
}

fn drop_epochs(json: &mut serde_json::Value) {
    match json {
        serde_json::Value::Object(fields) => {
            fields.retain(|name, _| !name.starts_with("leader_epoch"));
            fields.values_mut().for_each(drop_epochs);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(drop_epochs),
        _ => {}
    }
}

#[tokio::test]
async fn intent_commit_and_sink_have_the_epoch_of_the_record_before_the_end() {
    let world = at_sixty(OnDataLoss::Fail).await;
    let job = world.job().await;
    let intent = job.log().intent(0).await.unwrap();
    assert_eq!(intent.sources[0].snapshot.ranges()[0].leader_epoch, Some(1));
    let commit = job.log().commit(0).await.unwrap().unwrap();
    assert_eq!(commit.progress.sources[0].leader_epochs, [Some(1)]);
    assert_eq!(recorded(&world).leader_epoch, Some(1));
}

#[tokio::test]
async fn a_log_that_was_cut_and_has_grown_beyond_the_position_is_refused_with_both_offsets() {
    // Longer than it was, just as long, shorter, not grown at all.
    for end in [75, 60, 45, 30] {
        let world = at_sixty(OnDataLoss::Fail).await;
        cut_and_grow(&world, end);
        let error = world.run().await.unwrap_err();
        is_cut_at(&error, 60, 30);
        let text = error.to_string();
        assert!(
            text.starts_with("orders[0]@60: the log was cut at 30 "),
            "{text}"
        );
        world.assert_exactly(&[60]);
    }
}

/// The leader may have had more than what was read of an older epoch: nobody knows where they part.
#[tokio::test]
async fn a_cut_behind_an_older_epoch_is_refused_also_where_loss_is_permitted() {
    let world = at_sixty(OnDataLoss::Skip).await;
    world.cluster.elect_at("orders", 0, 10).unwrap();
    world.produce(0, 65);
    let error = world.run().await.unwrap_err();
    is_cut_at(&error, 60, 10);
    assert!(error.to_string().ends_with("start a new job"), "{error}");
    world.assert_exactly(&[60]);
}

#[tokio::test]
async fn a_job_that_runs_on_notices_too() {
    let world = at_sixty(OnDataLoss::Fail).await;
    let mut job = world.job().await;
    assert!(job.step().await.unwrap().is_none());
    cut_and_grow(&world, 75);
    is_cut_at(&job.step().await.unwrap_err(), 60, 30);
}

#[tokio::test]
async fn where_loss_is_permitted_it_goes_on_from_the_cut_and_names_both() {
    for end in [75, 60, 45, 31, 30] {
        let world = at_sixty(OnDataLoss::Skip).await;
        cut_and_grow(&world, end);
        let mut job = world.job().await;
        let progress = job.step().await.unwrap().unwrap();
        let lost = &progress.sources[0].lost[0];
        assert_eq!(
            (lost.from, lost.to, lost.reason),
            (60, 30, LostBecause::Truncated)
        );
        job.run(&Stop::new()).await.unwrap();
        // What was taken over before, and all that stands behind the cut now.
        let mut held: Vec<(i32, i64)> = (0..60).chain(30..end).map(|o| (0, o)).collect();
        held.sort_unstable();
        assert_eq!(world.held(), held, "{end}");
        assert_eq!(recorded(&world).next, end);
        // Once: the next batch is an ordinary one.
        world.produce(0, 5);
        let progress = world.job().await.step().await.unwrap().unwrap();
        assert_eq!(taken(&progress), [(0, end, end + 5)]);
        assert!(progress.sources[0].lost.is_empty());
    }
}

#[tokio::test]
async fn a_batch_that_ends_where_the_cut_log_was_left_is_committed_once() {
    let mut world = at_sixty(OnDataLoss::Skip).await;
    cut_and_grow(&world, 90);
    // The batch would end at 60, which is recorded already.
    world.limits.max_offsets = Some(30);
    world.sink.fail("answer", 1, false);
    world.run().await.unwrap_err();
    world.run().await.unwrap();
    assert_eq!(world.held().len(), 60 + 60);
}

#[tokio::test]
async fn elections_that_lose_nothing_are_no_loss() {
    let world = at_sixty(OnDataLoss::Fail).await;
    world.cluster.elect_at("orders", 0, 60).unwrap();
    world.run().await.unwrap();
    world.produce(0, 5);
    world.run().await.unwrap();
    world.cluster.elect_at("orders", 0, 65).unwrap();
    world.cluster.elect_at("orders", 0, 65).unwrap();
    world.produce(0, 5);
    // Records that the job has not seen are cut off, and come anew.
    world.cluster.elect_at("orders", 0, 67).unwrap();
    world.produce(0, 3);
    world.run().await.unwrap();
    world.assert_exactly(&[70]);
}

#[tokio::test]
async fn compaction_and_retention_are_no_cut() {
    let world = at_sixty(OnDataLoss::Skip).await;
    world.cluster.elect_at("orders", 0, 60).unwrap();
    world.produce(0, 10);
    world.run().await.unwrap();
    world.cluster.elect_at("orders", 0, 70).unwrap();
    world.cluster.compact("orders", 0, |_, _| false).unwrap();
    world.produce(0, 10);
    world.run().await.unwrap();
    world.cluster.elect_at("orders", 0, 80).unwrap();
    world.produce(0, 10);
    world.cluster.truncate_before("orders", 0, 85).unwrap();
    let progress = world.job().await.step().await.unwrap().unwrap();
    assert_eq!(taken(&progress), [(0, 80, 90)]);
    assert_eq!(progress.sources[0].lost[0].reason, LostBecause::Expired);
}

#[tokio::test]
async fn a_batch_in_the_middle_of_an_old_log_knows_its_epoch() {
    let mut world = World::new(1);
    world.limits.max_offsets = Some(7);
    for _ in 0..9 {
        world.produce(0, 10);
        world.cluster.elect_at("orders", 0, i64::MAX).unwrap();
    }
    world.run().await.unwrap();
    let job = world.job().await;
    for number in job.log().intents().await.unwrap() {
        let intent = job.log().intent(number).await.unwrap();
        let range = &intent.sources[0].snapshot.ranges()[0];
        let expected = i32::try_from((range.range.end() - 1) / 10).unwrap();
        assert_eq!(range.leader_epoch, Some(expected), "{}", range.range);
    }
}

#[tokio::test]
async fn nothing_is_asked_while_the_leader_stays_and_one_thing_after_it_has_changed() {
    let world = at_sixty(OnDataLoss::Fail).await;
    let asked = || world.cluster.stats().epoch_ends;
    let mut job = continuous(&world).await;
    job.step().await.unwrap();
    let before = asked();
    for _ in 0..3 {
        world.produce(0, 5);
        job.step().await.unwrap().unwrap();
        assert!(job.step().await.unwrap().is_none());
    }
    assert_eq!(asked(), before);
    world.cluster.elect_at("orders", 0, 75).unwrap();
    for _ in 0..5 {
        assert!(job.step().await.unwrap().is_none());
    }
    assert_eq!(asked(), before + 1);
    world.produce(0, 5);
    job.step().await.unwrap().unwrap();
    world.produce(0, 5);
    job.step().await.unwrap().unwrap();
    assert_eq!(asked(), before + 2);
}

#[tokio::test]
async fn a_batch_that_its_sink_has_is_through_and_the_next_one_notices() {
    let world = at_sixty(OnDataLoss::Fail).await;
    world.produce(0, 10);
    world.sink.fail("answer", 1, false);
    world.run().await.unwrap_err();
    cut_and_grow(&world, 90);
    is_cut_at(&world.run().await.unwrap_err(), 70, 30);
    world.assert_exactly(&[70]);
}

#[tokio::test]
async fn a_job_that_goes_on_from_its_sink_notices() {
    let world = at_sixty(OnDataLoss::Fail).await;
    cut_and_grow(&world, 90);
    for entry in std::fs::read_dir(world.checkpoint()).unwrap() {
        let path = entry.unwrap().path();
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(path),
            false => std::fs::remove_file(path),
        };
        removed.unwrap();
    }
    is_cut_at(&world.run().await.unwrap_err(), 60, 30);
}

#[tokio::test]
async fn logs_and_sinks_without_epochs_work_on_and_say_so_once() {
    let world = World::new(1);
    world.cluster.set_without_epochs(true);
    world.produce(0, 60);
    world.run().await.unwrap();
    world.cluster.set_without_epochs(false);
    without_epochs(&world);
    cut_and_grow(&world, 75);
    let mut job = continuous(&world).await;
    let progress = job.step().await.unwrap().unwrap();
    assert_eq!(taken(&progress), [(0, 60, 75)]);
    assert_eq!(progress.sources[0].uncompared.len(), 1);
    world.produce(0, 5);
    let progress = job.step().await.unwrap().unwrap();
    assert!(progress.sources[0].uncompared.is_empty());
    // From here on it is known.
    world.cluster.elect_at("orders", 0, 70).unwrap();
    world.produce(0, 30);
    is_cut_at(&world.run().await.unwrap_err(), 80, 70);
}

#[tokio::test]
async fn brokers_that_tell_no_epochs_are_read_and_named_once() {
    let world = World::new(1);
    world.cluster.set_without_epochs(true);
    world.produce(0, 5);
    let mut job = continuous(&world).await;
    // Nothing lies before the first batch.
    let progress = job.step().await.unwrap().unwrap();
    assert!(progress.sources[0].uncompared.is_empty());
    assert!(progress.sources[0].leader_epochs.is_empty());
    for said in [1, 0] {
        world.produce(0, 5);
        let progress = job.step().await.unwrap().unwrap();
        assert_eq!(progress.sources[0].uncompared.len(), said);
    }
}

#[tokio::test]
async fn a_partition_that_is_new_has_nothing_to_compare() {
    let world = at_sixty(OnDataLoss::Fail).await;
    world.cluster.add_partitions("orders", 2).unwrap();
    world.produce(1, 5);
    let progress = world.job().await.step().await.unwrap().unwrap();
    assert_eq!(progress.sources[0].leader_epochs, [Some(0)]);
    assert!(progress.sources[0].uncompared.is_empty());
    world.cluster.elect_at("orders", 1, 2).unwrap();
    world.produce(1, 9);
    is_cut_at(&world.run().await.unwrap_err(), 5, 2);
}

#[tokio::test]
async fn a_window_does_not_reach_back_over_a_cut() {
    let world = at_sixty(OnDataLoss::Skip).await;
    cut_and_grow(&world, 50);
    let windowed = || {
        let job = world.builder("job").window(Window::Batches(3));
        job.insert(INSERT).build()
    };
    windowed().await.unwrap().step().await.unwrap().unwrap();
    world.produce(0, 5);
    let mut job = windowed().await.unwrap();
    job.step().await.unwrap().unwrap();
    let intent = job.log().intent(2).await.unwrap();
    let window = &intent.sources[0].window[0];
    assert_eq!((window.start(), window.end()), (30, 50));
}

#[tokio::test]
async fn a_replay_over_a_log_that_was_cut_is_refused() {
    let world = at_sixty(OnDataLoss::Skip).await;
    cut_and_grow(&world, 75);
    world.run().await.unwrap();
    let job = world.job().await;
    is_cut_at(&job.replay(0).await.err().unwrap(), 60, 30);
    let difference = &job.replay_diff(1).await.unwrap()[0];
    assert_eq!((difference.missing, difference.extra), (Some(0), Some(0)));
}

#[tokio::test]
async fn a_cut_while_a_batch_is_read_is_data_that_is_gone() {
    let mut world = at_sixty(OnDataLoss::Fail).await;
    world.cluster = MemoryCluster::builder().fetch_records(10).build();
    world.cluster.create_topic("orders", 1).unwrap();
    world.produce(0, 40);
    let table = world.table("orders").build_lazy().unwrap();
    let config = SessionConfig::new().with_batch_size(10);
    let context = KafkaSessionBuilder::new().config(config).build().unwrap();
    context.register_table("orders", Arc::new(table)).unwrap();
    let frame = context.sql("SELECT \"offset\" FROM orders").await.unwrap();
    let mut rows = frame.execute_stream().await.unwrap();
    rows.next().await.unwrap().unwrap();
    world.cluster.elect_at("orders", 0, 5).unwrap();
    world.produce(0, 60);
    let error = loop {
        if let Err(error) = rows.next().await.unwrap() {
            break error;
        }
    };
    let error = Error::find(&error).unwrap();
    let Error::Truncated { cut: 5, .. } = error else {
        panic!("{error}");
    };
}

/// Brokers from 2.3 to 2.7: a leader that has not noticed that it was replaced tells an older epoch, as
/// a topic does that was created anew.
#[tokio::test]
async fn without_topic_ids_a_leader_that_was_replaced_is_no_new_topic() {
    for on_data_loss in [OnDataLoss::Fail, OnDataLoss::Skip] {
        let mut world = World::new(1);
        world.on_data_loss = on_data_loss;
        world.cluster.set_without_ids(true);
        world.cluster.elect_at("orders", 0, 0).unwrap();
        world.produce(0, 60);
        world.run().await.unwrap();
        for (epoch, end) in [(0, 40), (0, 75)] {
            let told = Some((epoch, end));
            world.cluster.set_stale_leader("orders", 0, told);
            let error = world.job().await.step().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
            assert!(error.may_pass());
            assert!(error.to_string().contains("not noticed yet"), "{error}");
        }
        world.cluster.set_stale_leader("orders", 0, None);
        world.produce(0, 3);
        world.run().await.unwrap();
        world.assert_exactly(&[63]);
    }
}

#[tokio::test]
async fn without_topic_ids_a_new_topic_is_known_by_its_epochs() {
    let mut world = World::new(1);
    world.on_data_loss = OnDataLoss::Skip;
    world.cluster.set_without_ids(true);
    world.cluster.elect_at("orders", 0, 0).unwrap();
    world.produce(0, 5);
    world.run().await.unwrap();
    world.cluster.recreate_topic("orders").unwrap();
    world.produce(0, 9);
    let progress = world.job().await.step().await.unwrap().unwrap();
    assert_eq!(taken(&progress), [(0, 0, 9)]);
    assert_eq!(progress.sources[0].lost[0].reason, LostBecause::Recreated);
}
