//! Sessions: taking turns, changing hands, closing.

use std::collections::BTreeMap;

use super::*;

#[tokio::test]
async fn more_streams_than_sessions_take_turns() {
    let cluster = Cluster::new(&[("client.sessions.max", "2")]);
    cluster.fill("t", 4, 200, b"v");
    // As a merge does: one batch from each stream before a second one from any.
    let mut streams: Vec<_> = (0..12)
        .map(|i| {
            let mut request = request(vec![range("t", i % 4, 0, 200)]);
            request.batch_rows = 50;
            cluster.client.read(request)
        })
        .collect();
    let mut rows = vec![Vec::new(); streams.len()];
    for _ in 0..2 {
        for (stream, rows) in streams.iter_mut().zip(&mut rows) {
            rows.push(stream.next().await.unwrap().unwrap());
        }
    }
    for (stream, rows) in streams.iter_mut().zip(&mut rows) {
        while let Some(batch) = stream.next().await {
            rows.push(batch.unwrap());
        }
        assert_eq!(offsets(rows), (0..200).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_dropped_stream_frees_its_session() {
    let cluster = Cluster::new(&[("client.sessions.max", "1")]);
    cluster.fill("t", 1, 100, b"v");
    let mut small = request(vec![range("t", 0, 0, 100)]);
    small.batch_rows = 10;
    for _ in 0..5 {
        let mut stream = cluster.client.read(small.clone());
        let started = Instant::now();
        assert_eq!(stream.next().await.unwrap().unwrap().offsets.value(0), 0);
        drop(stream);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

/// Messages that were taken off the queue but not read are fetched again by the stream that lost the session.
#[tokio::test]
async fn a_session_that_is_taken_away_in_mid_batch_loses_nothing() {
    let cluster = Cluster::new(&[("client.sessions.max", "1")]);
    cluster.fill("t", 1, 200, b"v");
    let mut streams: Vec<_> = (0..3)
        .map(|i| {
            let mut request = request(vec![range("t", 0, i, 100), range("t", 0, 120, 200)]);
            request.batch_rows = 7;
            cluster.client.read(request)
        })
        .collect();
    let mut rows = vec![Vec::new(); streams.len()];
    let mut open = streams.len();
    while open > 0 {
        open = 0;
        for (stream, rows) in streams.iter_mut().zip(&mut rows) {
            if let Some(batch) = stream.next().await {
                rows.push(batch.unwrap());
                open += 1;
            }
        }
    }
    for (i, rows) in rows.iter().enumerate() {
        let start = i64::try_from(i).unwrap();
        let expected: Vec<i64> = (start..100).chain(120..200).collect();
        assert_eq!(offsets(rows), expected);
    }
}

/// One handle starts a partition again and again. What an earlier start fetched must not show.
#[tokio::test]
async fn restarting_never_mixes_in_earlier_fetches() {
    let cluster = Cluster::new(&[("client.sessions.max", "1")]);
    cluster.fill("t", 1, 1000, b"v");
    for turn in 0..150i64 {
        let start = turn * 389 % 997;
        let end = (start + 1 + turn * 211 % 500).min(1000);
        let mut small = request(vec![range("t", 0, start, end)]);
        small.batch_rows = 20;
        let mut stream = cluster.client.read(small);
        let mut next = start;
        // Dropped with messages in the queue or on the way, or during a Fetch.
        for _ in 0..turn % 5 {
            if turn % 3 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let Some(batch) = stream.next().await else {
                assert_eq!(next, end);
                break;
            };
            let read = offsets(&[batch.unwrap()]);
            let expected = next..next + i64::try_from(read.len()).unwrap();
            assert_eq!(read, expected.clone().collect::<Vec<_>>());
            assert!(expected.end <= end);
            next = expected.end;
        }
    }
}

#[tokio::test]
async fn streams_dropped_while_messages_arrive_do_no_harm() {
    let cluster = Cluster::new(&[("client.sessions.max", "4")]);
    cluster.fill("t", 4, 2000, &[3; 100]);
    for turn in 0..100 {
        let mut streams: Vec<_> = (0..4)
            .map(|p| cluster.client.read(request(vec![range("t", p, 0, 2000)])))
            .collect();
        let polled = futures::future::join_all(streams.iter_mut().map(|s| s.next()));
        // Cancelled somewhere between the first wait and the first batch.
        let _ = tokio::time::timeout(Duration::from_micros(turn * 100), polled).await;
    }
    let whole = cluster.read(request(vec![range("t", 2, 0, 2000)])).await;
    assert_eq!(offsets(&whole.unwrap()), (0..2000).collect::<Vec<_>>());
}

#[tokio::test]
async fn idle_sessions_close_by_themselves() {
    let cluster = Cluster::keeping(&[], Duration::from_millis(300));
    cluster.fill("t", 2, 10, b"v");
    let read = || cluster.read(request(vec![range("t", 0, 0, 10)]));
    let both = futures::future::join(read(), read()).await;
    assert_eq!(offsets(&both.0.unwrap()), offsets(&both.1.unwrap()));
    assert!(cluster.client.sessions.count() > 0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while cluster.client.sessions.count() > 0 {
        assert!(Instant::now() < deadline, "sessions stay open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Once more, to see that a second sweep starts.
    assert_eq!(offsets(&read().await.unwrap()).len(), 10);
    while cluster.client.sessions.count() > 0 {
        assert!(Instant::now() < deadline, "sessions stay open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Streams that start together share the request for topic ids.
#[tokio::test]
async fn topic_ids_are_asked_for_together_and_afresh() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 10, b"v");
    let named = ["t".into()];
    let found = cluster.client.describe(TopicSelection::Named(&named)).await;
    let id = found.unwrap().topics[0]
        .id
        .clone()
        .expect("the mock gives topic ids");
    let expected = BTreeMap::from([(Arc::clone(&named[0]), id)]);
    let before = cluster.client.meta.topics_asked();
    let since = Instant::now();
    let all = (0..50).map(|_| cluster.client.meta.verify_ids(&expected, since));
    for verified in futures::future::join_all(all).await {
        verified.unwrap();
    }
    assert_eq!(cluster.client.meta.topics_asked(), before + 1);
    // An answer from before is not used.
    cluster
        .client
        .meta
        .verify_ids(&expected, Instant::now())
        .await
        .unwrap();
    assert_eq!(cluster.client.meta.topics_asked(), before + 2);
}
