//! Crashes, lost logs, drivers that meet.

use super::super::Retries;
use super::*;
use crate::client::memory::Call;
use crate::error::{Error, ErrorKind};

fn is_conflict(error: &crate::Error) -> bool {
    error.kind() == ErrorKind::Conflict
}

#[tokio::test]
async fn a_batch_that_failed_keeps_its_ranges() {
    for operation in ["open", "stage", "commit", "answer"] {
        let world = World::new(2);
        world.produce(0, 5);
        world.sink.fail(operation, 1, false);
        let failed = world.run().await.unwrap_err();
        assert!(failed.to_string().contains("told to fail"), "{failed}");
        // The second process sees more, and other limits.
        world.produce(0, 5);
        world.produce(1, 5);
        let mut job = world.job().await;
        let again = job.step().await.unwrap().unwrap();
        if operation == "open" {
            assert_eq!(taken(&again), [(0, 0, 10), (1, 0, 5)]);
        } else {
            assert_eq!(taken(&again), [(0, 0, 5)], "{operation}");
            assert!(again.recovered);
            assert_eq!(again.sinks[0].already, operation == "answer");
        }
        job.run(&Stop::new()).await.unwrap();
        world.assert_exactly(&[10, 5]);
    }
}

#[tokio::test]
async fn what_may_pass_is_retried() {
    let world = World::new(1);
    world.produce(0, 5);
    for (batch, operation) in (0..).zip(["open", "stage", "commit", "answer"]) {
        world.sink.fail(operation, 2, true);
        let job = world.builder("job").insert(INSERT).retries(Retries {
            first_wait: std::time::Duration::from_millis(1),
            ..Retries::default()
        });
        world.produce(0, 5);
        let mut job = job.build().await.unwrap();
        job.run(&Stop::new()).await.unwrap();
        let commit = job.log().commit(batch).await.unwrap().unwrap();
        // A commit that took place and was not answered is found done by the second attempt.
        let retries = if operation == "answer" { 1 } else { 2 };
        assert_eq!(commit.progress.retries, retries, "{operation}");
        // What it had written is counted.
        assert_eq!(commit.progress.sinks[0].already, operation == "answer");
        let all = if batch == 0 { 10 } else { 5 };
        assert_eq!(commit.progress.rows(), all, "{operation}");
        assert_eq!(commit.progress.records(), all, "{operation}");
        assert_eq!(commit.progress.sources[0].ledger.delivered, all);
    }
    world.assert_exactly(&[25]);
}

/// Keeps the batches that retries name.
#[derive(Debug, Default)]
struct Retried(std::sync::Mutex<Vec<Option<u64>>>);

impl crate::driver::ProgressListener for Retried {
    fn committed(&self, _progress: &BatchProgress) {}

    fn retrying(&self, retry: &crate::driver::Retry<'_>) {
        self.0.lock().unwrap().push(retry.batch);
    }
}

#[tokio::test]
async fn a_retry_names_its_batch_once_it_is_fixed() {
    for (operation, batch) in [("open", None), ("stage", Some(0))] {
        let world = World::new(1);
        world.produce(0, 5);
        world.sink.fail(operation, 1, true);
        let retried = Arc::new(Retried::default());
        let job = world.builder("job").insert(INSERT).retries(Retries {
            first_wait: std::time::Duration::from_millis(1),
            ..Retries::default()
        });
        let listener: Arc<dyn crate::driver::ProgressListener> = Arc::<Retried>::clone(&retried);
        let mut job = job.listener(listener).build().await.unwrap();
        job.run(&Stop::new()).await.unwrap();
        assert_eq!(*retried.0.lock().unwrap(), [batch], "{operation}");
    }
}

/// Errors of looking at the sources and of reading them.
#[tokio::test]
async fn what_may_pass_at_the_source_is_retried_and_nothing_else_is() {
    let world = World::new(1);
    let (topic, reason) = (|| "orders".to_owned(), || "told to fail".to_owned());
    let read = |transient| Error::Read {
        topic: topic(),
        partition: 0,
        offset: 0,
        reason: reason(),
        transient,
    };
    let passing = [
        Error::Unavailable {
            operation: "listing offsets of orders[0]".to_owned(),
            reason: reason(),
        },
        Error::Corrupted {
            topic: topic(),
            partition: 0,
            offset: 0,
            reason: reason(),
        },
        read(true),
    ];
    let staying = [
        read(false),
        Error::UnknownTopic {
            topic: topic(),
            nearest: vec![],
        },
    ];
    let mut batches = 0;
    for error in passing.iter().chain(&staying) {
        for call in [Call::Describe, Call::ListOffsets, Call::Fetch] {
            world.produce(0, 1);
            let job = world.builder("job").insert(INSERT).retries(Retries {
                first_wait: std::time::Duration::from_millis(1),
                ..Retries::default()
            });
            let mut job = job.build().await.unwrap();
            world.cluster.fail_next(call, error.clone());
            let outcome = job.run(&Stop::new()).await;
            assert_eq!(
                outcome.is_ok(),
                error.may_pass(),
                "{call:?} {error}: {outcome:?}"
            );
            if outcome.is_err() {
                job.run(&Stop::new()).await.unwrap();
                continue;
            }
            let commit = job.log().commit(batches).await.unwrap().unwrap();
            assert_eq!(commit.progress.retries, 1, "{call:?} {error}");
            batches += 1;
        }
    }
    world.assert_exactly(&[15]);
}

#[tokio::test]
async fn once_completes_the_old_batch_and_makes_one_more() {
    let world = World::new(1);
    world.produce(0, 5);
    world.sink.fail("commit", 1, false);
    world.run().await.unwrap_err();
    world.produce(0, 5);
    let job = world.builder("job").insert(INSERT).trigger(Trigger::Once);
    let summary = job.build().await.unwrap().run(&Stop::new()).await.unwrap();
    assert_eq!(summary.batches, 2);
    world.assert_exactly(&[10]);
}

#[tokio::test]
async fn changed_start_options_are_ignored_after_the_first_batch() {
    let mut world = World::new(1);
    world.produce(0, 5);
    world.run().await.unwrap();
    world.range = "end".to_owned();
    world.produce(0, 5);
    world.run().await.unwrap();
    world.assert_exactly(&[10]);
}

#[tokio::test]
async fn partitions_that_come_between_crash_and_restart_join_the_next_batch() {
    let world = World::new(1);
    world.produce(0, 5);
    world.sink.fail("answer", 1, false);
    world.run().await.unwrap_err();
    world.cluster.add_partitions("orders", 3).unwrap();
    world.produce(2, 4);
    world.run().await.unwrap();
    world.assert_exactly(&[5, 0, 4]);
}

#[tokio::test]
async fn an_emptied_log_goes_on_from_the_sink() {
    let world = World::new(2);
    world.produce(0, 5);
    world.run().await.unwrap();
    world.produce(1, 3);
    world.run().await.unwrap();
    for entry in std::fs::read_dir(world.checkpoint()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
    world.produce(0, 2);
    let mut job = world.job().await;
    let first = job.step().await.unwrap().unwrap();
    assert_eq!(first.batch, 2);
    job.run(&Stop::new()).await.unwrap();
    world.assert_exactly(&[7, 3]);
}

#[tokio::test]
async fn an_emptied_sink_is_refused() {
    let world = World::new(1);
    world.produce(0, 5);
    world.run().await.unwrap();
    world.sink.clear();
    world.produce(0, 5);
    let error = world.run().await.unwrap_err();
    assert!(is_conflict(&error), "{error}");
    assert!(error.to_string().contains("does not have it"), "{error}");
}

#[tokio::test]
async fn another_name_on_the_sink_or_the_log_is_refused() {
    let world = World::new(1);
    world.produce(0, 5);
    world.run().await.unwrap();
    let other = world
        .builder("other")
        .insert(INSERT)
        .build()
        .await
        .unwrap()
        .run(&Stop::new())
        .await;
    assert!(is_conflict(&other.unwrap_err()));
    let fresh = tempfile::tempdir().unwrap();
    let other = world
        .builder("other")
        .insert(INSERT)
        .checkpoint(fresh.path().to_str().unwrap());
    let error = other
        .build()
        .await
        .unwrap()
        .run(&Stop::new())
        .await
        .unwrap_err();
    assert!(is_conflict(&error), "{error}");
    assert!(error.to_string().contains("'shared'"), "{error}");
}

#[tokio::test]
async fn a_changed_query_needs_permission() {
    let world = World::new(1);
    world.produce(0, 5);
    world.run().await.unwrap();
    let changed = INSERT.replace("AS value", "|| '!' AS value");
    let job = world.builder("job").insert(&changed);
    let error = job
        .build()
        .await
        .unwrap()
        .run(&Stop::new())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("--allow-changed-query"),
        "{error}"
    );
    world.produce(0, 1);
    let job = world
        .builder("job")
        .insert(&changed)
        .allow_changed_query(true);
    job.build().await.unwrap().run(&Stop::new()).await.unwrap();
    world.assert_exactly(&[6]);
}

#[tokio::test]
async fn a_second_sink_may_join_with_permission() {
    let world = World::new(1);
    world.produce(0, 5);
    world.run().await.unwrap();
    world.produce(0, 2);
    let second = MemorySink::new("second");
    let job = world
        .builder("job")
        .sink("second", Arc::new(second.clone()))
        .unwrap()
        .insert(INSERT)
        .insert(INSERT.replace("INTO out", "INTO second"))
        .allow_changed_query(true);
    job.build().await.unwrap().run(&Stop::new()).await.unwrap();
    world.assert_exactly(&[7]);
    let rows: Vec<_> = second.rows().iter().flat_map(offsets).collect();
    assert_eq!(rows, [(0, 5), (0, 6)]);
}

#[tokio::test]
async fn a_crash_between_two_sinks_commits_only_what_is_missing() {
    let world = World::new(1);
    let second = MemorySink::new("second");
    let both = || {
        world
            .builder("job")
            .sink("second", Arc::new(second.clone()))
            .unwrap()
            .insert(INSERT)
            .insert(INSERT.replace("INTO out", "INTO second"))
    };
    world.produce(0, 5);
    second.fail("commit", 1, false);
    both()
        .build()
        .await
        .unwrap()
        .run(&Stop::new())
        .await
        .unwrap_err();
    world.assert_exactly(&[5]);
    world.produce(0, 1);
    let mut job = both().build().await.unwrap();
    let again = job.step().await.unwrap().unwrap();
    assert!(again.sinks[0].already && !again.sinks[1].already);
    job.run(&Stop::new()).await.unwrap();
    world.assert_exactly(&[6]);
    let rows: Vec<_> = second.rows().iter().flat_map(offsets).collect();
    assert_eq!(rows.len(), 6);
}

/// A driver that goes on as long as it is asked.
async fn endless(world: &World) -> MicroBatch {
    let job = world.builder("job").insert(INSERT);
    job.trigger(Trigger::Continuous).build().await.unwrap()
}

#[tokio::test]
async fn of_two_drivers_one_is_fenced() {
    let world = World::new(1);
    let (mut first, mut second) = (endless(&world).await, endless(&world).await);
    // Both know the log before either has written a batch; the second one owns it.
    assert!(first.step().await.unwrap().is_none());
    assert!(second.step().await.unwrap().is_none());
    world.produce(0, 5);
    let fenced = first.step().await.unwrap_err();
    assert!(is_conflict(&fenced), "{fenced}");
    assert!(
        fenced.to_string().contains("took this job over"),
        "{fenced}"
    );
    second.step().await.unwrap().unwrap();
    let again = first.run(&Stop::new()).await.unwrap_err();
    assert!(
        is_conflict(&again),
        "it does not take the job back: {again}"
    );
    world.assert_exactly(&[5]);
}

#[tokio::test]
async fn a_driver_that_was_overtaken_stops() {
    let world = World::new(1);
    world.produce(0, 5);
    let mut frozen = endless(&world).await;
    frozen.step().await.unwrap().unwrap();
    world.produce(0, 5);
    world.run().await.unwrap();
    world.produce(0, 5);
    let error = frozen.run(&Stop::new()).await.unwrap_err();
    assert!(is_conflict(&error), "{error}");
    world.run().await.unwrap();
    world.assert_exactly(&[15]);
}

#[tokio::test]
async fn two_drivers_that_repeat_one_batch_deliver_it_once() {
    let world = World::new(1);
    world.produce(0, 5);
    world.sink.fail("commit", 1, false);
    world.run().await.unwrap_err();
    let (mut first, mut second) = (endless(&world).await, endless(&world).await);
    let (first, second) = tokio::join!(first.step(), second.step());
    let both = [first, second];
    assert!(both.iter().any(Result::is_ok));
    for error in both.into_iter().filter_map(Result::err) {
        assert!(is_conflict(&error), "{error}");
    }
    world.assert_exactly(&[5]);
}

#[tokio::test]
async fn exact_replay_after_more_records() {
    let world = World::new(1);
    world.produce(0, 5);
    world.run().await.unwrap();
    world.produce(0, 5);
    world.run().await.unwrap();
    let job = world.job().await;
    let difference = &job.replay_diff(0).await.unwrap()[0];
    assert_eq!(difference.computed, 5);
    assert_eq!((difference.missing, difference.extra), (Some(0), Some(0)));
    let error = job.replay(7).await.err().unwrap();
    assert!(error.to_string().contains("has no batch 7"), "{error}");
}

#[tokio::test]
async fn a_sink_that_records_nothing_gets_the_batch_again() {
    use crate::sink::{ForEachBatch, Guarantee};
    use futures::TryStreamExt;

    let world = World::new(1);
    let seen: Arc<std::sync::Mutex<Vec<(u64, usize)>>> = Arc::default();
    let run = || {
        let seen = Arc::clone(&seen);
        let sink = ForEachBatch::new("closure", move |batch, _partition, rows| {
            let seen = Arc::clone(&seen);
            async move {
                let rows: Vec<RecordBatch> = rows.try_collect().await?;
                let count = rows.iter().map(RecordBatch::num_rows).sum();
                seen.lock()
                    .map_err(|_| "a test died")?
                    .push((batch.batch, count));
                Ok(())
            }
        });
        let sink = sink.guarantee(Guarantee::ExactlyOnce);
        let builder = MicroBatch::builder(world.context(), "job")
            .checkpoint(world.checkpoint().to_str().unwrap())
            .trigger(Trigger::AvailableNow);
        builder.sink("out", Arc::new(sink)).unwrap().insert(INSERT)
    };
    for _ in 0..2 {
        world.produce(0, 3);
        run()
            .build()
            .await
            .unwrap()
            .run(&Stop::new())
            .await
            .unwrap();
    }
    std::fs::remove_file(world.checkpoint().join("commit/00000000000000000001")).unwrap();
    run()
        .build()
        .await
        .unwrap()
        .run(&Stop::new())
        .await
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), [(0, 3), (1, 3), (1, 3)]);
}
