//! Queries on workers: the rows, ledgers and errors of one machine.

mod bed;
#[path = "../../../tests/support/engines.rs"]
mod engines;
mod equal;
mod exports;
mod masks;
mod staging;

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::{collect, displayable};
use datafusion_kafka::client::KafkaClient;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::receipt::{Receipt, Verdict, with_checksums};
use datafusion_kafka::scan::{self, KafkaScanExec};
use datafusion_kafka::{Error, ErrorKind};
use datafusion_kafka_distributed::{Coordinator, Link, OwnConnections, Token, Worker};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use bed::Bed;
use engines::{SHUFFLED, TYPED, rows};

/// A statement whose condition the scan takes over.
const CONDITION: &str = "SELECT key FROM orders WHERE key LIKE '%7%' AND value IS NOT NULL";

/// The plan of a statement, which must be one for workers.
async fn run(
    session: &datafusion::prelude::SessionContext,
    sql: &str,
) -> (Arc<dyn datafusion::physical_plan::ExecutionPlan>, String) {
    let frame = datafusion_kafka::statement::sql(session, sql)
        .await
        .unwrap();
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.unwrap();
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    let batches = collect(Arc::clone(&plan), context).await.unwrap();
    assert!(
        !pretty_format_batches(&batches)
            .unwrap()
            .to_string()
            .is_empty()
    );
    (plan, shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn ledgers_come_back() {
    let bed = Bed::new(3).await;
    let (local, session) = (bed.local(), bed.session().await);
    for sql in [
        "SELECT count(*) FROM orders",
        "SELECT key FROM kafka('orders', '@2023-11-14T22:20:00Z:')",
        CONDITION,
    ] {
        let (expected, _) = run(&local, sql).await;
        let (found, shown) = run(&session, sql).await;
        assert!(shown.contains("DistributedExec"), "{shown}");
        // A scan that loses its conditions on the way would deliver all records.
        assert_eq!(shown.contains("conditions=["), sql == CONDITION, "{shown}");
        assert!(!shown.contains("FilterExec"), "{shown}");
        assert!(
            shown.contains(&format!("worker {}", bed.workers[0].address)),
            "{shown}"
        );
        let (expected, found) = (scan::ledger(&expected), scan::ledger(&found));
        assert_eq!(found.ranges, expected.ranges, "{sql}");
        assert_eq!(found.total().unread, 0);
    }
    let progress = |plan| scan::ScanProgress::of(plan);
    let (plan, _) = run(&session, "SELECT count(*) FROM orders").await;
    let progress = progress(&plan);
    assert_eq!(
        (progress.offsets_done, progress.records),
        (progress.offsets_total, 1200)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_on_a_worker_keeps_its_kind_and_place() {
    let bed = Bed::new(2).await;
    let session = bed.session().await;
    bed.cluster
        .append(
            "orders",
            5,
            datafusion_kafka::client::memory::Record::new("no json"),
        )
        .unwrap();
    datafusion_kafka::statement::sql(&session, TYPED[0])
        .await
        .unwrap();
    let error = rows(&session, "SELECT sum(amount) FROM o")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRow, "{error}");
    let text = error.to_string();
    assert!(text.contains("orders[5]@"), "{text}");
    assert!(text.contains("on worker 127.0.0.1:"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_bad_rows_is_that_of_the_whole_scan() {
    let bed = Bed::new(3).await;
    for partition in [1, 2, 4, 5] {
        let record = datafusion_kafka::client::memory::Record::new("no json");
        bed.cluster.append("orders", partition, record).unwrap();
    }
    for (limit, allowed) in [("4", true), ("3", false), ("1%", true), ("0.3%", false)] {
        for session in [bed.local(), bed.session().await] {
            let table = TYPED[0].replace(
                "'value.format' 'json'",
                &format!("'value.format' 'json', 'on.bad.row' 'skip', 'bad.row.limit' '{limit}'"),
            );
            datafusion_kafka::statement::sql(&session, &table)
                .await
                .unwrap();
            let found = rows(&session, "SELECT count(*), sum(id) FROM o").await;
            let kind = found.as_ref().err().map(Error::kind);
            assert_eq!(
                kind,
                (!allowed).then_some(ErrorKind::BadRowLimit),
                "{limit}: {found:?}"
            );
            if let Err(error) = found {
                let text = error.to_string();
                let named = [1, 2, 4, 5].map(|of| text.contains(&format!("orders[{of}]@")));
                assert!(named.contains(&true), "{text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_that_of_the_whole_statement() {
    use datafusion_kafka::client::memory::Record;
    let bed = Bed::new(3).await;
    bed.cluster.create_topic("uneven", 4).unwrap();
    for partition in 0..4 {
        for number in 0..600 {
            // Where no sample looks.
            let size = if (40..60).contains(&number) { 5000 } else { 10 };
            let record = Record::new("x".repeat(size));
            bed.cluster.append("uneven", partition, record).unwrap();
        }
    }
    let both = "SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM kafka('orders')";
    for (setting, limit, sql, allowed) in [
        ("records", "1201", "SELECT count(*) FROM orders", false),
        ("records", "1202", "SELECT count(*) FROM orders", true),
        ("records", "2403", both, false),
        ("records", "2404", both, true),
        ("time", "1ns", "SELECT count(*) FROM orders", false),
        (
            "bytes",
            "1M",
            "SELECT sum(octet_length(value)) FROM uneven",
            true,
        ),
        // No part has as many.
        (
            "bytes",
            "300k",
            "SELECT sum(octet_length(value)) FROM uneven",
            false,
        ),
    ] {
        for session in [bed.local(), bed.session().await] {
            let set = format!("SET kafka.max.scan.{setting} = '{limit}'");
            datafusion_kafka::statement::sql(&session, &set)
                .await
                .unwrap();
            let found = rows(&session, sql).await;
            let kind = found.as_ref().err().map(Error::kind);
            assert_eq!(
                kind,
                (!allowed).then_some(ErrorKind::Budget),
                "{setting} {limit} {sql}: {found:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_token_gives_nothing() {
    let mut bed = Bed::new(0).await;
    let link = |token: &str| Link {
        token: Some(Token::new(token).unwrap()),
        ..Link::default()
    };
    bed.add(|worker| worker.link(link("right"))).await;
    bed.add(|worker| worker.link(link("right"))).await;
    for wrong in [Link::default(), link("wrong")] {
        let mut options = bed.options();
        options.link = wrong;
        let error = Coordinator::connect(options).await.unwrap_err();
        assert!(matches!(error, Error::Authentication { .. }), "{error}");
    }
    let mut options = bed.options();
    options.link = link("right");
    let session = bed.session_with(options).await;
    let expected = rows(&bed.local(), SHUFFLED).await.unwrap();
    assert_eq!(rows(&session, SHUFFLED).await.unwrap(), expected);
    assert!(!format!("{:?}", link("right")).contains("right"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reads_with_its_own_login() {
    let mut bed = Bed::new(0).await;
    let mut config = ConnectionConfig::new(engines::BROKERS);
    config.set("connection.name", "prod").unwrap();
    config.set("sasl.password", "hunter2").unwrap();
    for _ in 0..2 {
        let own = OwnConnections::new([config.clone()], bed.pool());
        bed.start(Worker::new(own)).await;
    }
    let session = bed.session().await;
    // The session's connection has no name of its own, and the workers know none but theirs.
    let error = rows(&session, "SELECT count(*) FROM orders")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("it has prod"), "{error}");
    let sql = "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION 'orders' OPTIONS ('kafka.connection.name' 'prod')";
    datafusion_kafka::statement::sql(&session, sql)
        .await
        .unwrap();
    let found = rows(&session, "SELECT count(*) FROM t").await.unwrap();
    assert!(found.iter().any(|row| row.contains("1200")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_is_named_or_replaced() {
    let bed = Bed::new(3).await;
    let session = bed.session().await;
    let mut options = bed.options();
    options.retries = 1;
    let again = bed.session_with(options).await;
    let expected = rows(&bed.local(), "SELECT count(*) FROM orders")
        .await
        .unwrap();
    bed.workers[1].task.abort();
    let address = &bed.workers[1].address;
    let error = rows(&session, "SELECT count(*) FROM orders")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    let text = error.to_string();
    assert!(text.contains(address) && text.contains("orders["), "{text}");
    let found = rows(&again, "SELECT count(*) FROM orders").await.unwrap();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_those_of_one_machine() {
    let bed = Bed::new(3).await;
    let client: Arc<dyn KafkaClient> = Arc::new(bed.cluster.client());
    for sql in [
        "SELECT key, value FROM orders",
        CONDITION,
        "SELECT count(*) FROM kafka('orders', '@2023-11-14T22:20:00Z:')",
    ] {
        let mut written = vec![];
        for session in [bed.local(), bed.session().await] {
            let frame = datafusion_kafka::statement::sql(&session, sql)
                .await
                .unwrap();
            let task = Arc::new(with_checksums(frame.task_ctx()));
            let plan = frame.create_physical_plan().await.unwrap();
            collect(Arc::clone(&plan), task).await.unwrap();
            let mut receipt = Receipt::new();
            receipt.add(sql, &plan).unwrap();
            assert_eq!(
                receipt.rerun(&client).await.unwrap().verdict(),
                Verdict::Identical
            );
            let ledger = receipt.statements[0].scans[0].ledger.clone();
            assert!(
                ledger
                    .ranges
                    .iter()
                    .all(|range| range.counts.delivered == 0 || range.rows.is_some())
            );
            written.push(ledger);
        }
        assert_eq!(written[0], written[1], "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_run_again_and_explained() {
    let bed = Bed::new(2).await;
    let session = bed.session().await;
    let frame = session.sql("SELECT count(*) FROM orders").await.unwrap();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    for _ in 0..2 {
        let found = collect(Arc::clone(&plan), Arc::new(frame.task_ctx()))
            .await
            .unwrap();
        assert!(
            pretty_format_batches(&found)
                .unwrap()
                .to_string()
                .contains("1200")
        );
        assert_eq!(scan::ledger(&plan).total().delivered, 1200);
    }
    let limited = session.sql("SELECT * FROM orders LIMIT 5").await.unwrap();
    let plan = limited.clone().create_physical_plan().await.unwrap();
    let found = collect(Arc::clone(&plan), Arc::new(limited.task_ctx()))
        .await
        .unwrap();
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
    let total = scan::ledger(&plan).total();
    assert!(
        total.unread > 0 && total.total() == scan::ScanProgress::of(&plan).offsets_total,
        "{total}"
    );

    let analyzed = rows(&session, "EXPLAIN ANALYZE SELECT count(*) FROM orders");
    let analyzed = tokio::time::timeout(Duration::from_secs(30), analyzed).await;
    let analyzed = analyzed.expect("it ends").unwrap().join("\n");
    assert!(
        analyzed.contains("records=") && analyzed.contains("t1: worker 127.0.0.1:"),
        "{analyzed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_both_ways() {
    let mut bed = Bed::new(0).await;
    let authority = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap().pem();
        (certificate, Issuer::new(params, key))
    };
    let (ca, issuer) = authority("ours");
    let (other, stranger) = authority("theirs");
    let identity_of = |name: &str, issuer: &Issuer<'_, KeyPair>| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap().pem();
        (certificate.into_bytes(), key.serialize_pem().into_bytes())
    };
    let identity = |issuer: &Issuer<'_, KeyPair>| identity_of("127.0.0.1", issuer);
    let link = |ca: &str, issuer: Option<&Issuer<'_, KeyPair>>| Link {
        ca: Some(ca.as_bytes().to_vec()),
        identity: issuer.map(identity),
        ..Link::default()
    };
    let own = link(&ca, Some(&issuer));
    bed.add(|worker| worker.link(own.clone())).await;
    bed.add(|worker| worker.link(own.clone())).await;

    let mut options = bed.options();
    options.link = own;
    let session = bed.session_with(options).await;
    let expected = rows(&bed.local(), SHUFFLED).await.unwrap();
    assert_eq!(rows(&session, SHUFFLED).await.unwrap(), expected);

    for wrong in [
        // Without TLS, without a certificate, with one of another authority, and with trust in another.
        Link::default(),
        link(&ca, None),
        link(&ca, Some(&stranger)),
        link(&other, Some(&issuer)),
    ] {
        let mut options = bed.options();
        options.link = wrong;
        let error = Coordinator::connect(options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    }

    // Certificates for a name that is not the address's host, between workers too.
    let mut bed = Bed::new(0).await;
    let named = Link {
        identity: Some(identity_of("workers.example", &issuer)),
        name: Some("workers.example".to_owned()),
        ..link(&ca, None)
    };
    bed.add(|worker| worker.link(named.clone())).await;
    bed.add(|worker| worker.link(named.clone())).await;
    let mut options = bed.options();
    options.link = named.clone();
    let session = bed.session_with(options.clone()).await;
    assert_eq!(rows(&session, SHUFFLED).await.unwrap(), expected);
    options.link.name = None;
    let error = Coordinator::connect(options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_travels() {
    let bed = Bed::new(1).await;
    let mut config = ConnectionConfig::new(engines::BROKERS);
    for (key, value) in [
        ("connection.name", "prod"),
        ("security.protocol", "sasl_ssl"),
        ("sasl.username", "alice-the-user"),
        ("sasl.password", "hunter2"),
        ("ssl.ca.pem", "-----BEGIN-private"),
    ] {
        config.set(key, value).unwrap();
    }
    let table = datafusion_kafka::table::KafkaTable::builder(&config).pool(bed.pool());
    let table = table.topic("orders").build_lazy().unwrap();
    let session = bed.local();
    session.register_table("t", Arc::new(table)).unwrap();
    let plan = session.sql("SELECT * FROM t").await.unwrap();
    let plan = plan.create_physical_plan().await.unwrap();
    let scan = plan.downcast_ref::<KafkaScanExec>().unwrap();
    let bytes = String::from_utf8(scan.encode(true).unwrap()).unwrap();
    assert!(bytes.contains("\"name\":\"prod\""), "{bytes}");
    for secret in ["hunter2", "alice-the-user", "private", "sasl", "ssl"] {
        assert!(!bytes.contains(secret), "{secret}: {bytes}");
    }
    // Another version's bytes are refused, and so is what is none.
    let other = bytes.replacen(env!("CARGO_PKG_VERSION"), "0.0.0", 1);
    let own = OwnConnections::new([config], bed.pool());
    for (bytes, says) in [
        (other.as_str(), "version 0.0.0"),
        ("{}", "no scan"),
        ("", "no scan"),
    ] {
        let error = KafkaScanExec::decode(bytes.as_bytes(), &own).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(KafkaScanExec::decode(bytes.as_bytes(), &own).is_ok());
}

#[tokio::test]
async fn only_this_machine_is_served_without_a_secret() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let worker = Worker::new(OwnConnections::default());
    let error = worker
        .serve(listener, std::future::pending())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("give it a certificate"),
        "{error}"
    );
}

/// What a statement costs that has a task on each of many workers, for `docs/scale.md`: the workers are in this
/// process, so that the times are those of the engine and of its connections.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: hundreds of workers"]
async fn many_workers() {
    for workers in [10, 30, 100, 300, 1000] {
        let bed = Bed::new(workers).await;
        let session = bed.session().await;
        for (what, sql, most) in [
            ("aggregate", "SELECT count(*) FROM orders", usize::MAX),
            // Each worker is connected with each: a thousand would need a million connections.
            ("shuffle", SHUFFLED, 30),
        ] {
            if workers > most {
                continue;
            }
            let expected = rows(&bed.local(), sql).await.unwrap();
            for run in ["first", "again"] {
                let begun = std::time::Instant::now();
                assert_eq!(rows(&session, sql).await.unwrap(), expected);
                println!("{workers} workers: {what}, {run}: {:?}", begun.elapsed());
            }
        }
    }
}
