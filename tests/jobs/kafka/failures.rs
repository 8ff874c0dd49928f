//! Crashes, fencing and refusals: what readers see afterwards, and the messages.

use std::process::Command;
use std::time::Duration;

use arrow::array::{Int32Array, StringArray};
use datafusion_kafka::sink::Sink;
use datafusion_kafka::{Error, ErrorKind};

use super::*;
use crate::conformance::{again, batch};
use crate::support::{KafkaOptions, KafkaServer, Listener, Login, PASSWORD, wait_until};

/// Opens and delivers, and repeats that while errors are transient.
async fn deliver_at_last(sink: &KafkaSink, batch: &BatchRanges, rows: &RecordBatch) {
    for _ in 0..100 {
        let delivered = async {
            sink.open(&job_of(rows)).await?;
            deliver(sink, &again(batch), rows).await
        };
        match delivered.await {
            Err(
                Error::Sink {
                    transient: true, ..
                }
                | Error::Connection { .. },
            ) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            other => return other.expect("the batch is the next one or committed"),
        }
    }
    panic!("the sink did not recover");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_slept_is_fenced_and_nothing_of_it_is_seen() {
    let topic = topic(1);
    let options = own_state();
    let rows = values(&["of the first"]);
    let (one, other) = (sink(&topic, &options), sink(&topic, &options));
    let first = batch(0, &[(0, None, 1)]);
    one.open(&job_of(&rows)).await.unwrap();
    let staged = stage(&one, &first, &rows).await.unwrap();
    other.open(&job_of(&rows)).await.unwrap();
    let refused = one.commit(&first, staged).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert!(
        refused.to_string().contains("another driver of job 'job'"),
        "{refused}"
    );
    assert!(seen(&topic).is_empty());
    deliver(&other, &again(&first), &values(&["of the second"]))
        .await
        .unwrap();
    assert_eq!(seen(&topic), ["of the second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_took_too_long_is_told_from_another_driver() {
    let topic = topic(1);
    let config = config(&[("kafka.transaction.timeout.ms", "1500")]);
    let sink = sink_with(&config, &topic, &own_state());
    let rows = values(&["a"]);
    let first = batch(0, &[(0, None, 1)]);
    sink.open(&job_of(&rows)).await.unwrap();
    let staged = stage(&sink, &first, &rows).await.unwrap();
    let bootstrap = shared().bootstrap();
    let begun = || admin::watermarks(bootstrap, &topic, 0);
    tokio::task::block_in_place(|| {
        wait_until(Duration::from_secs(60), "the transaction has begun", || {
            (begun().high > 0).then_some(())
        });
        wait_until(Duration::from_secs(60), "the broker has ended it", || {
            (begun().last_stable == begun().high).then_some(())
        });
    });
    let refused = sink.commit(&first, staged).await.unwrap_err();
    assert!(
        matches!(
            &refused,
            Error::Sink {
                transient: true,
                ..
            }
        ),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("kafka.transaction.timeout.ms"),
        "{refused}"
    );
    assert!(seen(&topic).is_empty());
    deliver_at_last(&sink, &first, &rows).await;
    assert_eq!(seen(&topic), ["a"]);
}

/// Tells the child process of the next test where to die and what to write to.
const CHILD: &str = "KAFKA_SINK_TEST_CHILD";

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_around_the_commit_delivers_once() {
    let first = batch(0, &[(0, None, 2)]);
    let rows = values(&["a", "b"]);
    if let Ok(child) = std::env::var(CHILD) {
        let words: Vec<&str> = child.split(' ').collect();
        let options = KafkaSinkOptions {
            state_topic: words[2].to_owned(),
            ..KafkaSinkOptions::default()
        };
        let config = ConnectionConfig::new(words[0]);
        let sink = sink_with(&config, words[1], &options);
        sink.open(&job_of(&rows)).await.unwrap();
        deliver(&sink, &first, &rows).await.unwrap();
        unreachable!("the child has no fault point to die at");
    }
    for (point, visible) in [("kafka-before-commit", 0), ("kafka-after-commit", 2)] {
        let topic = topic(1);
        let options = own_state();
        let name = "kafka::failures::a_crash_around_the_commit_delivers_once";
        let places = format!("{} {topic} {}", shared().bootstrap(), options.state_topic);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, places)
            .env("KAFKA_SQL_FAULT", point)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr).into_owned();
        assert!(said.contains(&format!("crash at {point}")), "{said}");
        let sink = sink(&topic, &options);
        let found = sink.open(&job_of(&rows)).await.unwrap();
        // Opening has decided the transaction in one way or the other.
        assert_eq!(seen(&topic).len(), visible, "{point}");
        assert_eq!(found.is_some(), visible > 0, "{point}");
        deliver_at_last(&sink, &first, &rows).await;
        assert_eq!(seen(&topic), ["a", "b"], "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_for_a_while_costs_nothing() {
    let mut server = tokio::task::block_in_place(|| KafkaServer::start(KafkaOptions::default()));
    admin::create_topic(server.bootstrap(), "target", 1, &[]);
    let sink = sink_with(
        &ConnectionConfig::new(server.bootstrap()),
        "target",
        &KafkaSinkOptions::default(),
    );
    let first = values(&["a"]);
    sink.open(&job_of(&first)).await.unwrap();
    deliver(&sink, &batch(0, &[(0, None, 1)]), &first)
        .await
        .unwrap();
    let rows = values(&["b", "c"]);
    let second = batch(1, &[(0, Some(1), 3)]);
    let staged = stage(&sink, &second, &rows).await.unwrap();
    tokio::task::block_in_place(|| {
        server.kill();
        server.restart();
    });
    // The client library decides whether this attempt survives. The next one does.
    if sink.commit(&second, staged).await.is_err() {
        deliver_at_last(&sink, &second, &rows).await;
    }
    // Opening waits until the committed records are visible.
    sink.open(&job_of(&rows)).await.unwrap();
    let read =
        crate::support::read::read(server.bootstrap(), "target", 0, Isolation::ReadCommitted);
    let values: Vec<_> = read.into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, [b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_too_large_is_named() {
    let topic = admin::unique_topic("small");
    admin::create_topic(
        shared().bootstrap(),
        &topic,
        1,
        &[("max.message.bytes", "10000")],
    );
    let sink = sink(&topic, &own_state());
    // Once the client library refuses it, once the broker.
    for size in [2_000_000, 50_000] {
        let rows = values(&["a", "b", &"x".repeat(size)]);
        let first = batch(0, &[(0, None, 3)]);
        sink.open(&job_of(&rows)).await.unwrap();
        let refused = deliver(&sink, &first, &rows).await.unwrap_err();
        assert!(
            matches!(
                &refused,
                Error::Sink {
                    transient: false,
                    ..
                }
            ),
            "{refused}"
        );
        let said = refused.to_string();
        assert!(said.contains("row 3 of execution partition 0"), "{said}");
        assert!(said.contains("max.message.bytes"), "{said}");
        sink.abort(&first).await.unwrap();
        assert!(seen(&topic).is_empty());
    }
    let rows = values(&["a", "b"]);
    deliver_at_last(&sink, &batch(0, &[(0, None, 3)]), &rows).await;
    assert_eq!(seen(&topic), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_and_partitions_are_errors_and_are_not_created() {
    let options = own_state();
    let topic = topic(1);
    let near = format!("{topic}x");
    let rows = values(&["a"]);
    let refused = sink(&near, &options)
        .open(&job_of(&rows))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, Error::UnknownTopic { nearest, .. } if nearest.contains(&topic)),
        "{refused}"
    );
    let sink = sink(&topic, &options);
    let first = batch(0, &[(0, None, 1)]);
    let stages = async |name: &str, array: ArrayRef| {
        let value: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let rows = super::rows(vec![("value", value), (name, array)]);
        sink.open(&job_of(&rows)).await.unwrap();
        let refused = stage(&sink, &again(&first), &rows).await.unwrap_err();
        assert!(
            matches!(
                &refused,
                Error::Sink {
                    transient: false,
                    ..
                }
            ),
            "{refused}"
        );
        let said = refused.to_string();
        assert!(said.contains("row 2 of execution partition 0"), "{said}");
        said
    };
    let names = StringArray::from(vec![&*topic, &*near]);
    assert!(
        stages("topic", Arc::new(names))
            .await
            .contains("does not exist")
    );
    let names = StringArray::from(vec![Some(&*topic), None]);
    assert!(
        stages("topic", Arc::new(names))
            .await
            .contains("the topic is NULL")
    );
    let names = StringArray::from(vec![&*topic, &*options.state_topic]);
    assert!(
        stages("topic", Arc::new(names))
            .await
            .contains("cannot take rows")
    );
    let numbers = Int32Array::from(vec![0, 1]);
    assert!(
        stages("partition", Arc::new(numbers))
            .await
            .contains("has 1 partitions")
    );
    assert!(!admin::list_topics(shared().bootstrap()).contains(&near));
    assert!(seen(&topic).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_settings_that_do_not_fit_are_refused_before_anything_is_written() {
    let topic = topic(1);
    let rows = rows(vec![("valve", Arc::new(StringArray::from(vec!["a"])))]);
    let refused = sink(&topic, &own_state())
        .open(&job_of(&rows))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("did you mean 'value'?"),
        "{refused}"
    );
    let rows = values(&["a"]);
    let opened = async |settings: &[(&str, &str)]| {
        let sink = sink_with(&config(settings), &topic, &own_state());
        sink.open(&job_of(&rows)).await.unwrap_err()
    };
    let refused = opened(&[("kafka.transaction.timeout.ms", "3600000")]).await;
    assert!(matches!(&refused, Error::Config { .. }), "{refused}");
    assert!(
        refused.to_string().contains("transaction.max.timeout.ms"),
        "{refused}"
    );
    let refused = opened(&[("kafka.acks", "1")]).await;
    assert!(refused.to_string().contains("at-least-once"), "{refused}");
    let forgetful = KafkaSinkOptions {
        state_topic: super::topic(1),
        ..KafkaSinkOptions::default()
    };
    let refused = sink(&topic, &forgetful)
        .open(&job_of(&rows))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("cleanup.policy=compact"),
        "{refused}"
    );
    let mut config = config(&[]);
    let refused = config.set("kafka.transactional.id", "x").unwrap_err();
    assert!(
        refused.to_string().contains("transactional.id.prefix"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_of_another_job_hides_nothing() {
    let (mine, theirs) = (topic(1), topic(1));
    let options = own_state();
    let rows = values(&["a"]);
    let sink = sink(&mine, &options);
    sink.open(&job_of(&rows)).await.unwrap();
    let bootstrap = shared().bootstrap();
    let open = crate::support::Transaction::begin(bootstrap, &theirs);
    let key = format!(r#"{{"job":"other","target":"{theirs}"}}"#);
    let record = crate::support::Record::new(0);
    let record = record
        .key(key)
        .value(r#"{"version":1,"owner":"o","batch":0}"#);
    open.produce(&options.state_topic, &[record]);
    // Committed after a record that is not.
    let first = batch(0, &[(0, None, 1)]);
    deliver(&sink, &first, &rows).await.unwrap();
    let other = super::sink(&mine, &options);
    let job = job_of(&rows);
    let opening = tokio::spawn(async move { other.open(&job).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    tokio::task::block_in_place(|| open.abort());
    let found = opening.await.unwrap().unwrap().unwrap();
    assert_eq!(found.ends, first.ends());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_principal_may_not_do_is_named() {
    let topic = topic(1);
    let options = own_state();
    let rows = values(&["a"]);
    let login = Login::Plain("bob", PASSWORD);
    let mut config = ConnectionConfig::empty();
    for (key, value) in shared().client_settings(Listener::SaslPlaintext, login) {
        config.set(&key, &value).unwrap();
    }
    let opened = async || {
        sink_with(&config, &topic, &options)
            .open(&job_of(&rows))
            .await
    };
    let may = |operation: &str, topic: &str| {
        tokio::task::block_in_place(|| {
            admin::allow_topic(shared(), "User:bob", operation, topic);
        });
    };
    may("Write", &topic);
    let denied = opened().await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Authorization, "{denied}");
    assert!(
        denied.to_string().contains(&options.state_topic),
        "{denied}"
    );
    may("Describe", &options.state_topic);
    let denied = opened().await.unwrap_err().to_string();
    assert!(
        denied.contains("--partitions 1 --config cleanup.policy=compact"),
        "{denied}"
    );
    for operation in ["Create", "Read", "Write", "DescribeConfigs"] {
        may(operation, &options.state_topic);
    }
    let denied = opened().await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Authorization, "{denied}");
    assert!(
        denied.to_string().contains("transactional.id.prefix"),
        "{denied}"
    );
    tokio::task::block_in_place(|| {
        let mut arguments = vec!["--bootstrap-server", shared().bootstrap(), "--add"];
        arguments.extend(["--allow-principal", "User:bob", "--operation", "Write"]);
        arguments.extend([
            "--transactional-id",
            "kafka-sql:",
            "--resource-pattern-type",
        ]);
        arguments.push("prefixed");
        shared().run_tool("org.apache.kafka.tools.AclCommand", &arguments);
    });
    let sink = sink_with(&config, &topic, &options);
    assert_eq!(sink.open(&job_of(&rows)).await.unwrap(), None);
    let first = batch(0, &[(0, None, 1)]);
    let staged = stage(&sink, &first, &rows).await.unwrap();
    sink.commit(&first, staged).await.unwrap();
    settled(shared().bootstrap(), &topic).await;
    assert_eq!(seen(&topic), ["a"]);
}
