//! Brokers and leaders that fail, return errors, or do not answer.

use super::*;

#[tokio::test]
async fn a_leader_change_loses_nothing() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 2000, b"v");
    let mut slow = request(vec![range("t", 0, 0, 2000)]);
    slow.batch_rows = 100;
    let mut stream = cluster.client.read(slow);
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch.unwrap());
        if batches.len() < 6 {
            let leader = i32::try_from(batches.len()).unwrap() % 3 + 1;
            cluster.mock.partition_leader("t", 0, Some(leader)).unwrap();
        }
    }
    assert_eq!(offsets(&batches), (0..2000).collect::<Vec<_>>());
}

#[tokio::test]
async fn brokers_that_come_back_are_read_on() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 3000, b"v");
    let mut slow = request(vec![range("t", 0, 0, 3000)]);
    slow.batch_rows = 100;
    let mut stream = cluster.client.read(slow);
    let mut batches = vec![stream.next().await.unwrap().unwrap()];
    for id in 1..=3 {
        cluster.mock.broker_down(id).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for id in 1..=3 {
        cluster.mock.broker_up(id).unwrap();
    }
    while let Some(batch) = stream.next().await {
        batches.push(batch.unwrap());
    }
    assert_eq!(offsets(&batches), (0..3000).collect::<Vec<_>>());
}

#[tokio::test]
async fn silence_is_an_error_not_an_end() {
    let cluster = Cluster::new(&[("read.timeout.ms", "1500"), ("request.timeout.ms", "1000")]);
    cluster.fill("t", 1, 100, b"v");
    let mut small = request(vec![range("t", 0, 0, 100)]);
    small.batch_rows = 10;
    let mut stream = cluster.client.read(small);
    stream.next().await.unwrap().unwrap();
    let errors = vec![Resp::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE; 10_000];
    for id in 1..=3 {
        cluster.mock.broker_down(id).unwrap();
    }
    cluster.mock.request_errors(RDKafkaApiKey::Fetch, &errors);
    // Prefetched records still arrive. To force a new request, the session is taken away by the end.
    let rest: Vec<_> = stream.collect().await;
    let read: usize = rest.iter().flatten().map(|b| b.offsets.len()).sum();
    let failed = rest.iter().any(|r| matches!(r, Err(Error::Stalled { .. })));
    assert!(failed || read == 90, "neither all nor an error");

    let error = cluster
        .read(request(vec![range("t", 0, 0, 100)]))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Stalled { .. } | Error::Connection { .. }),
        "{error}"
    );
}

/// As brokers answer whose remote storage fails.
#[tokio::test]
async fn unexplained_errors_of_a_broker_are_asked_again_some_times() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 100, b"v");
    let unexplained = [Resp::RD_KAFKA_RESP_ERR_UNKNOWN; 1000];
    let fetch = RDKafkaApiKey::Fetch;
    cluster.mock.request_errors(fetch, &unexplained[..2]);
    let whole = || cluster.read(request(vec![range("t", 0, 0, 100)]));
    assert_eq!(
        offsets(&whole().await.unwrap()),
        (0..100).collect::<Vec<_>>()
    );
    cluster.mock.request_errors(fetch, &unexplained);
    let error = whole().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Read {
                offset: 0,
                transient: true,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn an_unreachable_cluster_is_reported_soon() {
    let client = LibrdkafkaClient::connect(&ConnectionConfig::new("127.0.0.1:1")).unwrap();
    let started = Instant::now();
    let errors = [
        client.describe(TopicSelection::All).await.unwrap_err(),
        client
            .list_offsets(&[latest("t", 0)], IsolationLevel::ReadCommitted)
            .await
            .unwrap_err(),
        client
            .read(request(vec![range("t", 0, 0, 1)]))
            .try_collect::<Vec<_>>()
            .await
            .unwrap_err(),
    ];
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    for error in errors {
        let text = error.to_string();
        assert!(matches!(error, Error::Connection { .. }), "{text}");
        assert!(
            text.contains("127.0.0.1:1") && text.contains("Connection refused"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_denied_topic_is_no_empty_one() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 10, b"v");
    let denied = [Resp::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 5];
    cluster
        .mock
        .request_errors(RDKafkaApiKey::ListOffsets, &denied);
    let level = IsolationLevel::ReadCommitted;
    let error = cluster
        .client
        .list_offsets(&[latest("t", 0)], level)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Authorization { .. }), "{error}");
    cluster.mock.request_errors(RDKafkaApiKey::Fetch, &denied);
    let error = cluster
        .read(request(vec![range("t", 0, 0, 10)]))
        .await
        .unwrap_err();
    match error {
        Error::Authorization {
            operation,
            resource,
            ..
        } => assert_eq!((operation.as_str(), resource.as_str()), ("READ", "topic t")),
        e => panic!("{e}"),
    }
}

#[tokio::test]
async fn passing_errors_of_one_leader_are_tried_again() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 6, 3, b"v");
    let moved = [Resp::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION];
    cluster
        .mock
        .request_errors(RDKafkaApiKey::ListOffsets, &moved);
    let queries: Vec<_> = (0..6).map(|p| latest("t", p)).collect();
    let level = IsolationLevel::ReadCommitted;
    let answers = cluster.client.list_offsets(&queries, level).await.unwrap();
    assert!(answers.iter().all(|a| a.offset == Some(3)));
}

/// Errors that librdkafka reports with every answer and retries itself.
#[tokio::test]
async fn a_fault_that_is_reported_for_ever_is_no_progress() {
    let cluster = Cluster::new(&[("read.timeout.ms", "1500")]);
    cluster.fill("t", 1, 10, b"v");
    let errors = vec![Resp::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT; 100_000];
    cluster.mock.request_errors(RDKafkaApiKey::Fetch, &errors);
    let started = Instant::now();
    let read = cluster.read(request(vec![range("t", 0, 0, 10)]));
    let error = tokio::time::timeout(Duration::from_secs(15), read)
        .await
        .expect("a range that makes no progress ends")
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Stalled { .. }), "{text}");
    assert!(
        text.contains("t[0]@0") && text.contains("timed out"),
        "{text}"
    );
    assert!(started.elapsed() >= Duration::from_millis(1500));
}

/// What happens when a checksum does not match.
#[tokio::test]
async fn damaged_records_are_asked_for_once_more() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 10, b"v");
    let errors = [Resp::RD_KAFKA_RESP_ERR_INVALID_MSG];
    cluster.mock.request_errors(RDKafkaApiKey::Fetch, &errors);
    let read = cluster.read(request(vec![range("t", 0, 0, 10)])).await;
    assert_eq!(offsets(&read.unwrap()).len(), 10);
}

/// A report between records becomes an error at the offset of the next record.
#[tokio::test]
async fn a_fault_in_the_middle_is_an_error_with_the_position() {
    let cluster = Cluster::new(&[("read.buffer.bytes", "65536")]);
    // A Fetch returns one of these.
    cluster.mock.create_topic("t", 1, 1).unwrap();
    for _ in 0..8 {
        cluster.produce("t", 1, 1, &[7; 400_000]);
    }
    let mut small = request(vec![range("t", 0, 0, 8)]);
    small.batch_rows = 1;
    let mut stream = cluster.client.read(small);
    let mut read = offsets(&[stream.next().await.unwrap().unwrap()]);
    let errors = [Resp::RD_KAFKA_RESP_ERR_INVALID_MSG; 3];
    cluster.mock.request_errors(RDKafkaApiKey::Fetch, &errors);
    let error = loop {
        match stream.next().await {
            Some(Ok(batch)) => read.extend_from_slice(batch.offsets.values()),
            Some(Err(e)) => break e,
            None => panic!("{} records and no error", read.len()),
        }
    };
    let Error::Corrupted { offset, .. } = error else {
        panic!("{error}");
    };
    assert!(usize::try_from(offset).unwrap() >= read.len());
    assert_eq!(
        read,
        (0..i64::try_from(read.len()).unwrap()).collect::<Vec<_>>()
    );
    assert!(stream.next().await.is_none());
    // The faulty session is gone, and another one reads everything.
    cluster.mock.clear_request_errors(RDKafkaApiKey::Fetch);
    let again = cluster.read(request(vec![range("t", 0, 0, 8)])).await;
    assert_eq!(offsets(&again.unwrap()).len(), 8);
}

#[tokio::test]
async fn a_denied_topic_is_denied_again() {
    let cluster = Cluster::new(&[("client.sessions.max", "1")]);
    cluster.fill("t", 1, 10, b"v");
    let denied = [Resp::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 1000];
    cluster.mock.request_errors(RDKafkaApiKey::Fetch, &denied);
    for _ in 0..3 {
        let started = Instant::now();
        let read = cluster.read(request(vec![range("t", 0, 0, 10)]));
        let error = read.await.unwrap_err();
        assert!(matches!(error, Error::Authorization { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_partition_without_a_leader_is_named_with_its_replicas() {
    let settings = [("read.timeout.ms", "1500"), ("request.timeout.ms", "1500")];
    let cluster = Cluster::new(&settings);
    cluster.fill("t", 1, 10, b"v");
    cluster.mock.partition_leader("t", 0, None).unwrap();
    let level = IsolationLevel::ReadCommitted;
    let listed = cluster.client.list_offsets(&[latest("t", 0)], level).await;
    let read = cluster.read(request(vec![range("t", 0, 0, 10)])).await;
    for error in [listed.unwrap_err(), read.unwrap_err()] {
        let Error::NoLeader {
            replicas,
            waited_ms,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((replicas.len(), *waited_ms >= 1000), (1, true), "{error}");
        assert_eq!(error.kind(), ErrorKind::Connection);
    }
}

/// A listener that speaks TLS with a certificate for `localhost` and then ends each connection: its port, and
/// the certificate as PEM.
#[cfg(feature = "ssl")]
async fn tls_listener(expires_in_year: i32) -> (u16, String) {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = date_time_ymd(expires_in_year, 1, 2);
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        while let Ok((stream, _)) = listener.accept().await {
            let handshake = acceptor.accept(stream);
            tokio::spawn(async move { drop(handshake.await) });
        }
    });
    (port, certificate.pem())
}

#[cfg(feature = "ssl")]
#[tokio::test]
async fn an_expired_certificate_is_not_put_down_to_the_authorities_alone() {
    let (port, certificate) = tls_listener(2001).await;
    let mut config = ConnectionConfig::new(format!("localhost:{port}"));
    config.set("security.protocol", "ssl").unwrap();
    config.set("ssl.ca.pem", &certificate).unwrap();
    let client = LibrdkafkaClient::connect(&config).unwrap();
    let error = client.describe(TopicSelection::All).await.unwrap_err();
    assert!(matches!(error, Error::Authentication { .. }), "{error}");
    assert!(
        error.to_string().contains("the certificate has expired"),
        "{error}"
    );
}

/// OpenSSL's handler at exit freed what handshakes still used: some programs died by a signal.
#[cfg(feature = "ssl")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_may_end_in_the_middle_of_handshakes() {
    // Each address has a thread.
    let mut servers = Vec::new();
    for _ in 0..6 {
        let (port, _) = tls_listener(2099).await;
        servers.push(format!("127.0.0.1:{port}"));
    }
    let this = std::env::current_exe().unwrap();
    for waits_ms in [20, 50, 80, 110, 140] {
        let programs = (0..4).map(|n| {
            std::process::Command::new(&this)
                .args([
                    "--ignored",
                    "--exact",
                    "client::librdkafka::tests::faults::ends_in_the_middle_of_handshakes",
                ])
                .env("TEST_SERVERS", servers.join(","))
                .env("TEST_WAITS_MS", (waits_ms + 5 * n).to_string())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        });
        for mut program in programs.collect::<Vec<_>>() {
            let status = tokio::task::block_in_place(|| program.wait()).unwrap();
            assert_eq!(status.code(), Some(7), "after {waits_ms} ms: {status}");
        }
    }
}

#[cfg(feature = "ssl")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by programs_may_end_in_the_middle_of_handshakes"]
async fn ends_in_the_middle_of_handshakes() {
    crate::client::librdkafka::ffi::end_slowly();
    let given = |name: &str| std::env::var(name).expect("the other test sets it");
    let mut config = ConnectionConfig::new(given("TEST_SERVERS"));
    for (key, value) in [
        ("security.protocol", "ssl"),
        ("reconnect.backoff.ms", "1"),
        ("reconnect.backoff.max.ms", "2"),
    ] {
        config.set(key, value).unwrap();
    }
    let client = LibrdkafkaClient::connect(&config).unwrap();
    let limit = Duration::from_millis(given("TEST_WAITS_MS").parse().unwrap());
    let _ = tokio::time::timeout(limit, client.describe(TopicSelection::All)).await;
    std::process::exit(7);
}

/// One broker of three is down, the one that requests go to. librdkafka reports that all are down, meaning
/// all that it had tried.
#[tokio::test]
async fn a_report_that_all_brokers_are_down_is_not_final_while_one_answers() {
    let cluster = Cluster::new(&[("request.timeout.ms", "9000")]);
    cluster.fill("t", 1, 5, b"v");
    cluster.client.describe(TopicSelection::All).await.unwrap();
    let asked = cluster.client.meta.asked_broker().unwrap();
    cluster.mock.broker_down(asked).unwrap();
    cluster.client.meta.seem_down();
    let described = cluster.client.describe(TopicSelection::All).await;
    assert_eq!(described.unwrap().topics.len(), 1);
    // When all of them really are down, the error comes soon.
    for id in 1..=3 {
        cluster.mock.broker_down(id).unwrap();
    }
    let started = Instant::now();
    let error = cluster.client.describe(TopicSelection::All).await;
    assert!(matches!(error, Err(Error::Connection { .. })), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(8));
}

/// `rd_kafka_ListOffsets` looks for leaders on the thread that calls it, while librdkafka's own thread may do so for the
/// same request when its time is over or metadata arrive: the process then dies by a double free.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn offsets_are_listed_while_time_runs_out_and_metadata_change() {
    let cluster = Cluster::new(&[("request.timeout.ms", "1000")]);
    cluster.fill("t", 4, 10, b"v");
    cluster.mock.partition_leader("t", 0, None).unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    let tasks = (0..16).map(|task| {
        let client = cluster.client.clone();
        tokio::spawn(async move {
            let mut asked = 0;
            while Instant::now() < until {
                let (partition, within) = match task % 4 {
                    0 => (0, Duration::from_millis(20)),
                    1 => (1, Duration::from_millis(1)),
                    2 => (2, Duration::from_millis(3)),
                    _ => {
                        let _ = client.describe(TopicSelection::All).await;
                        continue;
                    }
                };
                let query = [latest("t", partition)];
                let level = IsolationLevel::ReadCommitted;
                let _ = client.meta.list_offsets(&query, level, within).await;
                asked += 1;
            }
            asked
        })
    });
    let asked = futures::future::join_all(tasks).await;
    assert!(asked.into_iter().map(Result::unwrap).sum::<i32>() > 100);
    let query = [latest("t", 1)];
    let level = IsolationLevel::ReadCommitted;
    let answers = cluster.client.list_offsets(&query, level).await.unwrap();
    assert_eq!(answers[0].offset, Some(10));
}

/// The bundled librdkafka (2.12) crashes on such an answer where the client has no group.
#[tokio::test]
async fn a_groups_coordinator_that_moves_is_asked_again() {
    let cluster = Cluster::new(&[]);
    cluster.fill("t", 1, 10, b"v");
    let moved = [Resp::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; 2];
    cluster
        .mock
        .request_errors(RDKafkaApiKey::OffsetFetch, &moved);
    let partitions = [TopicPartition::new("t", 0)];
    let offsets = cluster.client.group_offsets("g", &partitions).await;
    assert!(offsets.unwrap().is_empty());
}
