//! Batches that were fixed, and whose logs were cut before a sink had them.

use super::super::LostBecause;
use super::epochs::{at_sixty, cut_and_grow, is_cut_at, recorded};
use super::*;
use crate::client::memory::Call;
use crate::error::Error;

/// A job that has fixed a batch over 60..70, whose sink did not take it.
async fn fixed_to_seventy(on_data_loss: OnDataLoss) -> World {
    let world = at_sixty(on_data_loss).await;
    world.produce(0, 10);
    world.sink.fail("stage", 1, false);
    world.run().await.unwrap_err();
    world
}

#[tokio::test]
async fn a_batch_that_was_fixed_before_the_cut_is_not_run_again() {
    let world = fixed_to_seventy(OnDataLoss::Fail).await;
    cut_and_grow(&world, 90);
    let error = world.run().await.unwrap_err();
    is_cut_at(&error, 70, 30);
    for way_out in ["'on.data.loss' = 'skip'", "remove the offset log"] {
        assert!(error.to_string().contains(way_out), "{error}");
    }
    world.assert_exactly(&[60]);
}

/// Cut before the position of the job, behind it, and behind it with nothing written since.
#[tokio::test]
async fn where_loss_is_permitted_a_batch_is_fixed_again_over_what_is_there() {
    for (cut, end, found) in [
        (30, 90, (0, 30, 90)),
        (65, 90, (0, 60, 90)),
        (65, 65, (0, 60, 65)),
    ] {
        let world = fixed_to_seventy(OnDataLoss::Skip).await;
        world.cluster.elect_at("orders", 0, cut).unwrap();
        world.produce(0, end - cut);
        let mut job = world.job().await;
        let progress = job.step().await.unwrap().unwrap();
        assert_eq!((progress.batch, progress.recovered), (1, false));
        assert_eq!(taken(&progress), [found]);
        let lost = progress.sources[0].lost.first().map(|l| (l.from, l.to));
        assert_eq!(lost, (cut < 60).then_some((60, cut)));
        assert_eq!(recorded(&world).next, end);
        assert!(job.step().await.unwrap().is_none());
        let difference = &job.replay_diff(1).await.unwrap()[0];
        assert_eq!((difference.missing, difference.extra), (Some(0), Some(0)));
        let fresh = usize::try_from(end - found.1).unwrap();
        assert_eq!(world.held().len(), 60 + fresh);
    }
}

#[tokio::test]
async fn where_loss_is_permitted_a_batch_is_fixed_again_over_a_new_topic() {
    let world = fixed_to_seventy(OnDataLoss::Skip).await;
    world.cluster.recreate_topic("orders").unwrap();
    world.produce(0, 90);
    let progress = world.job().await.step().await.unwrap().unwrap();
    assert_eq!(taken(&progress), [(0, 0, 90)]);
    assert_eq!(progress.sources[0].lost[0].reason, LostBecause::Recreated);
}

#[tokio::test]
async fn the_first_batch_is_fixed_again_from_the_start_of_the_job() {
    let mut world = World::new(1);
    world.on_data_loss = OnDataLoss::Skip;
    world.produce(0, 40);
    world.sink.fail("stage", 1, false);
    world.run().await.unwrap_err();
    cut_and_grow(&world, 35);
    world.run().await.unwrap();
    world.assert_exactly(&[35]);
}

/// Cuts the log when a batch has failed, and keeps what it is told.
#[derive(Debug)]
struct Cuts(MemoryCluster, std::sync::Mutex<Vec<String>>);

impl crate::driver::ProgressListener for Cuts {
    fn committed(&self, _progress: &BatchProgress) {}

    fn retrying(&self, retry: &crate::driver::Retry<'_>) {
        let mut told = self.1.lock().unwrap();
        if told.is_empty() {
            self.0.elect_at("orders", 0, 65).unwrap();
        }
        told.push(retry.error.to_string());
    }
}

/// The sink is busy when the batch is fixed, and the log is cut before it is tried again.
#[tokio::test]
async fn where_loss_is_permitted_a_run_goes_on_over_a_cut_and_says_so() {
    let world = at_sixty(OnDataLoss::Skip).await;
    world.produce(0, 10);
    world.sink.fail("stage", 1, true);
    let cuts = Arc::new(Cuts(world.cluster.clone(), std::sync::Mutex::default()));
    let listener: Arc<dyn crate::driver::ProgressListener> = Arc::<Cuts>::clone(&cuts);
    let job = world.builder("job").insert(INSERT).listener(listener);
    job.build().await.unwrap().run(&Stop::new()).await.unwrap();
    world.assert_exactly(&[65]);
    let told = cuts.1.lock().unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[1].contains("orders[0]@70: the log was cut at 65"),
        "{told:?}"
    );
    assert!(
        told[1].ends_with("it is fixed again over what is there now"),
        "{told:?}"
    );
}

/// A cut that shows while the batch is read lets the run look once more.
#[tokio::test]
async fn a_run_that_finds_data_gone_looks_once_more_where_that_is_permitted() {
    for (on_data_loss, fails) in [(OnDataLoss::Fail, true), (OnDataLoss::Skip, false)] {
        let world = at_sixty(on_data_loss).await;
        world.produce(0, 10);
        let cut = Error::Truncated {
            topic: "orders".to_owned(),
            partition: 0,
            offset: 62,
            cut: 61,
            message: String::new(),
        };
        world.cluster.fail_next(Call::Fetch, cut);
        assert_eq!(world.run().await.is_err(), fails);
        world.assert_exactly(&[if fails { 60 } else { 70 }]);
    }
}

/// One of two sinks has the batch: the other one can never get the same rows.
#[tokio::test]
async fn a_batch_that_one_of_two_sinks_has_is_never_fixed_again() {
    let mut world = World::new(1);
    world.on_data_loss = OnDataLoss::Skip;
    world.produce(0, 60);
    let second = MemorySink::new("second");
    let both = || {
        let job = world.builder("job").insert(INSERT);
        job.sink("second", Arc::new(second.clone()))
            .unwrap()
            .insert(INSERT.replace("INTO out", "INTO second"))
            .build()
    };
    second.fail("commit", 1, false);
    both().await.unwrap().step().await.unwrap_err();
    world.assert_exactly(&[60]);
    cut_and_grow(&world, 90);
    let error = both().await.unwrap().step().await.unwrap_err();
    is_cut_at(&error, 60, 30);
    assert!(error.to_string().contains("start a new job"), "{error}");
    assert!(second.rows().is_empty());
}
