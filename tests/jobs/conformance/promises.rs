//! The cases of the suite: a promise of the contract each.

use super::*;

pub async fn a_batch_is_seen_once_it_is_committed(fixture: &Fixture) {
    let target = "seen";
    let sink = fixture.sink(target).await;
    let found = open(&sink).await;
    assert_eq!(found.committed, None);
    let opened = found.sink;
    let first = batch(0, &[(0, None, 3), (1, None, 2)]);
    let staged = stage(&opened, &first, &[&[1, 2, 3], &[4, 5]])
        .await
        .unwrap();
    let counts: Vec<_> = staged.iter().map(|s| (s.partition, s.rows)).collect();
    assert_eq!(counts, [(0, 3), (1, 2)]);
    assert!(fixture.ids(target).await.is_empty(), "seen too early");
    opened.commit(&first, staged).await.unwrap();
    assert_eq!(fixture.ids(target).await, [1, 2, 3, 4, 5]);
    assert_eq!(open(&sink).await.committed, committed(&first));
    let other = fixture.sink(target).await;
    assert_eq!(open(&other).await.committed, committed(&first));
}

pub async fn rows_come_back_as_they_were_staged(fixture: &Fixture) {
    let target = "asstaged";
    let (_, opened) = fixture.opened(target).await;
    let first = batch(0, &[(0, None, 9)]);
    let ids: Vec<i64> = vec![i64::MIN, -1, 0, 1, i64::MAX];
    deliver(&opened, &first, &[&ids]).await.unwrap();
    let mut found = (fixture.rows)(target.to_owned()).await;
    found.sort();
    let expected: Vec<Row> = ids.iter().map(|id| (*id, name(*id))).collect();
    assert_eq!(found, expected);
}

pub async fn batches_follow_one_another(fixture: &Fixture) {
    let target = "follow";
    let (sink, opened) = fixture.opened(target).await;
    let mut previous = None;
    let mut expected = Vec::new();
    for number in 0..4 {
        let end = (number as i64 + 1) * 2;
        let ids = [end - 1, end];
        let next = batch(number, &[(0, previous, end)]);
        deliver(&opened, &next, &[&ids]).await.unwrap();
        expected.extend(ids);
        previous = Some(end);
        assert_eq!(fixture.ids(target).await, expected);
    }
    let found = open(&sink).await.committed;
    assert_eq!(found, committed(&batch(3, &[(0, Some(6), 8)])));
}

pub async fn a_repeated_commit_changes_nothing(fixture: &Fixture) {
    let target = "repeated";
    let (sink, opened) = fixture.opened(target).await;
    let first = batch(0, &[(0, None, 2)]);
    let staged = stage(&opened, &first, &[&[1, 2]]).await.unwrap();
    opened.commit(&first, staged.clone()).await.unwrap();
    opened.commit(&first, staged).await.unwrap();
    assert_eq!(fixture.ids(target).await, [1, 2]);
    assert_eq!(open(&sink).await.committed, committed(&first));
}

pub async fn a_batch_run_again_after_its_commit_changes_nothing(fixture: &Fixture) {
    let target = "runagain";
    let first = batch(0, &[(0, None, 2)]);
    let second = batch(1, &[(0, Some(2), 4)]);
    let (_, opened) = fixture.opened(target).await;
    deliver(&opened, &first, &[&[1, 2]]).await.unwrap();
    deliver(&opened, &second, &[&[3, 4]]).await.unwrap();
    deliver(&opened, &again(&second), &[&[3, 4]]).await.unwrap();
    let (other, other_opened) = fixture.opened(target).await;
    deliver(&other_opened, &again(&second), &[&[3, 4]])
        .await
        .unwrap();
    assert_eq!(fixture.ids(target).await, [1, 2, 3, 4]);
    assert_eq!(open(&other).await.committed, committed(&second));
}

pub async fn an_overtaken_batch_is_refused(fixture: &Fixture) {
    let target = "overtaken";
    let (_, slow_opened) = fixture.opened(target).await;
    let first = batch(0, &[(0, None, 2)]);
    deliver(&slow_opened, &first, &[&[1, 2]]).await.unwrap();
    // The first process stops after staging, while another continues.
    let late = batch(1, &[(0, Some(2), 4)]);
    let staged = stage(&slow_opened, &late, &[&[3, 4]]).await.unwrap();
    let (fast, fast_opened) = fixture.opened(target).await;
    let other = batch(1, &[(0, Some(2), 5)]);
    deliver(&fast_opened, &other, &[&[3, 4, 5]]).await.unwrap();
    refused(slow_opened.commit(&late, staged).await);
    assert_eq!(fixture.ids(target).await, [1, 2, 3, 4, 5]);
    assert_eq!(open(&fast).await.committed, committed(&other));
}

pub async fn half_of_a_batch_is_refused(fixture: &Fixture) {
    let target = "half";
    let (sink, opened) = fixture.opened(target).await;
    let first = batch(0, &[(0, None, 2), (1, None, 2)]);
    deliver(&opened, &first, &[&[1, 2]]).await.unwrap();
    let one = batch(1, &[(0, Some(2), 4), (1, Some(2), 2)]);
    deliver(&opened, &one, &[&[3]]).await.unwrap();
    let both = batch(1, &[(0, Some(2), 4), (1, Some(2), 4)]);
    refused(deliver(&opened, &both, &[&[3, 4]]).await);
    assert_eq!(fixture.ids(target).await, [1, 2, 3]);
    assert_eq!(open(&sink).await.committed, committed(&one));
}

pub async fn a_gap_is_refused(fixture: &Fixture) {
    let target = "gap";
    let (sink, opened) = fixture.opened(target).await;
    refused(deliver(&opened, &batch(1, &[(0, Some(2), 4)]), &[&[3, 4]]).await);
    let found = open(&sink).await;
    assert_eq!(found.committed, None);
    let opened = found.sink;
    let first = batch(0, &[(0, None, 2)]);
    deliver(&opened, &first, &[&[1, 2]]).await.unwrap();
    refused(deliver(&opened, &batch(2, &[(0, Some(3), 4)]), &[&[4]]).await);
    refused(deliver(&opened, &batch(0, &[(0, None, 1)]), &[&[1]]).await);
    assert_eq!(fixture.ids(target).await, [1, 2]);
    assert_eq!(open(&sink).await.committed, committed(&first));
}

pub async fn a_batch_without_rows_moves_the_ends(fixture: &Fixture) {
    let target = "norows";
    let (sink, opened) = fixture.opened(target).await;
    let first = batch(0, &[(0, None, 7)]);
    deliver(&opened, &first, &[&[], &[]]).await.unwrap();
    let found = open(&sink).await;
    assert_eq!(found.committed, committed(&first));
    let opened = found.sink;
    let second = batch(1, &[(0, Some(7), 9)]);
    let nothing = opened
        .stage(&second, 0, stream_of(Vec::<RecordBatch>::new()))
        .await
        .unwrap();
    assert_eq!(nothing.rows, 0);
    opened.commit(&second, vec![nothing]).await.unwrap();
    let third = batch(2, &[(0, Some(9), 10)]);
    opened.commit(&third, vec![]).await.unwrap();
    assert_eq!(open(&sink).await.committed, committed(&third));
    assert!(fixture.ids(target).await.is_empty());
}

pub async fn a_batch_that_moves_nothing_keeps_its_number(fixture: &Fixture) {
    let target = "movesnothing";
    let (sink, opened) = fixture.opened(target).await;
    deliver(&opened, &batch(0, &[(0, None, 2)]), &[&[1, 2]])
        .await
        .unwrap();
    let still = batch(1, &[(0, Some(2), 2)]);
    deliver(&opened, &still, &[&[]]).await.unwrap();
    assert_eq!(open(&sink).await.committed, committed(&still));
    let other = fixture.sink(target).await;
    assert_eq!(open(&other).await.committed, committed(&still));
}

pub async fn a_partition_joins(fixture: &Fixture) {
    let target = "joins";
    let (sink, opened) = fixture.opened(target).await;
    deliver(&opened, &batch(0, &[(0, None, 2)]), &[&[1, 2]])
        .await
        .unwrap();
    let joined = batch(1, &[(0, Some(2), 2), (1, None, 1), (2, None, 0)]);
    deliver(&opened, &joined, &[&[3]]).await.unwrap();
    let found = open(&sink).await;
    assert_eq!(found.committed, committed(&joined));
    let opened = found.sink;
    // The partition has joined already, and must not join again.
    refused(
        deliver(
            &opened,
            &batch(2, &[(0, Some(2), 4), (1, None, 4)]),
            &[&[4]],
        )
        .await,
    );
    assert_eq!(fixture.ids(target).await, [1, 2, 3]);
}

pub async fn sources_of_one_topic_are_told_apart(fixture: &Fixture) {
    let target = "sources";
    let (sink, opened) = fixture.opened(target).await;
    let mut both = batch(0, &[(0, None, 5), (0, None, 3)]);
    both.ranges[1].partition.source = "it's \"another\"\\".into();
    both.ranges[1].topic_id = None;
    both.ranges[1].leader_epoch = None;
    deliver(&opened, &both, &[&[1]]).await.unwrap();
    let found = open(&sink).await.committed;
    let ends: Ends = both
        .ranges
        .iter()
        .map(|range| {
            let position = Position {
                next: range.end,
                topic_id: range.topic_id.clone(),
                leader_epoch: range.leader_epoch,
            };
            (range.partition.clone(), position)
        })
        .collect();
    assert_eq!(ends.len(), 2);
    assert_eq!(found, Some(Committed::new(0, ends)));
}

pub async fn an_aborted_batch_leaves_nothing(fixture: &Fixture) {
    let target = "aborted";
    let (sink, opened) = fixture.opened(target).await;
    let first = batch(0, &[(0, None, 2)]);
    stage(&opened, &first, &[&[1, 2], &[3]]).await.unwrap();
    opened.abort(&first).await.unwrap();
    opened.abort(&first).await.unwrap();
    assert!(fixture.ids(target).await.is_empty());
    let found = open(&sink).await;
    assert_eq!(found.committed, None);
    let opened = found.sink;
    deliver(&opened, &again(&first), &[&[1, 2]]).await.unwrap();
    assert_eq!(fixture.ids(target).await, [1, 2]);
}

pub async fn a_failing_stream_leaves_nothing(fixture: &Fixture) {
    let target = "failing";
    let (sink, opened) = fixture.opened(target).await;
    let first = batch(0, &[(0, None, 2)]);
    let broken = DataFusionError::External(Box::new(Error::BadRow {
        topic: "orders".to_owned(),
        partition: 0,
        offset: 1,
        message: "not JSON".to_owned(),
    }));
    let stream = stream::iter([Ok(rows(&[1])), Err(broken)]);
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema(), stream));
    let error = opened.stage(&first, 0, stream).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRow, "{error}");
    opened.abort(&first).await.unwrap();
    assert!(fixture.ids(target).await.is_empty());
    deliver_at_last(&sink, &first, &[&[1, 2]]).await;
    assert_eq!(fixture.ids(target).await, [1, 2]);
}

/// Stages rows from a stream that never ends, until the sink waits for more. Then drops it.
async fn stage_and_drop(sink: &Arc<dyn OpenSink>, batch: &BatchRanges) {
    let (asked, mut waits) = tokio::sync::mpsc::channel::<()>(1);
    let endless = stream::iter([Ok(rows(&[1])), Ok(rows(&[2]))]).chain(
        async move {
            let _ = asked.send(()).await;
            std::future::pending().await
        }
        .into_stream(),
    );
    let endless = Box::pin(RecordBatchStreamAdapter::new(schema(), endless));
    let staging = sink.stage(batch, 0, endless);
    tokio::select! {
        _ = staging => panic!("the stream has no end"),
        _ = waits.recv() => {}
    }
}

pub async fn a_dropped_stage_leaves_nothing(fixture: &Fixture) {
    let target = "droppedstage";
    let (sink, opened) = fixture.opened(target).await;
    let first = batch(0, &[(0, None, 2)]);
    stage_and_drop(&opened, &first).await;
    assert!(fixture.ids(target).await.is_empty());
    deliver_at_last(&sink, &first, &[&[1, 2]]).await;
    assert_eq!(fixture.ids(target).await, [1, 2]);
}

pub async fn a_dropped_sink_leaves_nothing(fixture: &Fixture) {
    let target = "droppedsink";
    let first = batch(0, &[(0, None, 2)]);
    {
        let (_, opened) = fixture.opened(target).await;
        stage_and_drop(&opened, &first).await;
    }
    let sink = fixture.sink(target).await;
    assert_eq!(open(&sink).await.committed, None);
    deliver_at_last(&sink, &first, &[&[1, 2]]).await;
    assert_eq!(fixture.ids(target).await, [1, 2]);
    // Between staging and commit.
    let second = batch(1, &[(0, Some(2), 3)]);
    let opened = open(&sink).await.sink;
    stage(&opened, &second, &[&[3]]).await.unwrap();
    drop(opened);
    let sink = fixture.sink(target).await;
    assert_eq!(open(&sink).await.committed, committed(&first));
    deliver_at_last(&sink, &second, &[&[3]]).await;
    assert_eq!(fixture.ids(target).await, [1, 2, 3]);
}

pub async fn another_job_is_refused(fixture: &Fixture) {
    let target = "otherjob";
    let (sink, opened) = fixture.opened(target).await;
    let first = batch(0, &[(0, None, 2)]);
    deliver(&opened, &first, &[&[1, 2]]).await.unwrap();
    let other = fixture.sink(target).await;
    let error = other.open(&job("stranger")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let message = error.to_string();
    assert!(message.contains("job 'job'"), "{message}");
    assert!(message.contains("'shared' = 'true'"), "{message}");
    assert_eq!(open(&sink).await.committed, committed(&first));
}

pub async fn jobs_share_a_target_that_allows_it(fixture: &Fixture) {
    let target = "shared";
    let sink = fixture.shared(target).await;
    let opened = open(&sink).await.sink;
    let first = batch(0, &[(0, None, 2)]);
    deliver(&opened, &first, &[&[1, 2]]).await.unwrap();
    let other = fixture.shared(target).await;
    let found = other.open(&job("second job")).await.unwrap();
    assert_eq!(found.committed, None);
    let other_opened = found.sink;
    let mut theirs = batch(0, &[(0, None, 1)]);
    theirs.job = "second job".to_owned();
    deliver(&other_opened, &theirs, &[&[3]]).await.unwrap();
    assert_eq!(fixture.ids(target).await, [1, 2, 3]);
    let found = other.open(&job("second job")).await.unwrap();
    assert_eq!(found.committed, committed(&theirs));
    let again = fixture.shared(target).await;
    assert_eq!(open(&again).await.committed, committed(&first));
}

pub async fn two_drivers_race_for_the_first_batch(fixture: &Fixture) {
    for round in 0..5 {
        let target = format!("race{round}");
        let (one, other) = (fixture.sink(&target).await, fixture.sink(&target).await);
        let first = batch(0, &[(0, None, 2), (1, None, 1)]);
        let ids: &[&[i64]] = &[&[1, 2], &[3]];
        tokio::join!(
            deliver_at_last(&one, &first, ids),
            deliver_at_last(&other, &first, ids)
        );
        assert_eq!(fixture.ids(&target).await, [1, 2, 3], "round {round}");
        assert_eq!(open(&one).await.committed, committed(&first));
    }
}

pub async fn many_partitions_are_staged_at_once(fixture: &Fixture) {
    let target = "partitions";
    let (_, opened) = fixture.opened(target).await;
    let first = batch(0, &[(0, None, 800)]);
    let staging = (0..8usize).map(|partition| {
        let (opened, first) = (Arc::clone(&opened), first.clone());
        async move {
            let start = partition as i64 * 100;
            let batches = (0..10).map(move |piece| {
                let from = start + piece * 10;
                rows(&(from..from + 10).collect::<Vec<_>>())
            });
            opened.stage(&first, partition, stream_of(batches)).await
        }
    });
    let staged = futures::future::join_all(staging).await;
    let staged: Vec<Staged> = staged.into_iter().map(Result::unwrap).collect();
    assert_eq!(staged.iter().map(|s| s.rows).sum::<u64>(), 800);
    opened.commit(&first, staged).await.unwrap();
    assert_eq!(fixture.ids(target).await, (0..800).collect::<Vec<i64>>());
}
