//! Queries on a cluster of Ballista: the rows, ledgers and errors of one machine.

mod bed;
#[path = "../../../tests/support/engines.rs"]
mod engines;

use std::sync::Arc;
use std::time::Duration;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;
use datafusion_kafka::client::memory::{MemoryCluster, Record};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::receipt::with_checksums;
use datafusion_kafka::scan::{self, OwnConnections};
use datafusion_kafka::{Error, ErrorKind, statement};
use datafusion_kafka_ballista::{Ballista, KafkaCodec, VERSION};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};

use bed::{Bed, tapped};
use engines::{BROKERS, QUERIES, SHUFFLED, TYPED, rows};

/// What Ballista's stages may get wrong beside the queries of all engines: rows of a side that found no partner,
/// values that are NULL, and leaves that each task would run whole.
const MORE: [&str; 10] = [
    "SELECT count(*) FROM o a LEFT JOIN c b ON a.customer > b.id AND a.id < 3",
    "SELECT c.name, o.id FROM c LEFT JOIN o ON o.id < c.id - 12",
    "SELECT c.id, o.id FROM c FULL JOIN o ON o.id + 1190 < c.id",
    "SELECT count(*) FROM c WHERE NOT EXISTS (SELECT 1 FROM o WHERE o.id > c.id + 1190)",
    "SELECT count(*) FROM o WHERE customer NOT IN (SELECT id FROM c WHERE id > 3)",
    "SELECT count(*) FROM o WHERE customer NOT IN (SELECT CASE WHEN id > 3 THEN id END FROM c)",
    "SELECT count(*) FROM customers CROSS JOIN orders",
    "SELECT count(*) FROM orders o JOIN generate_series(0, 5) AS g(n) ON o.partition = g.n",
    "SELECT count(*) FROM orders o JOIN (VALUES (0), (1), (4)) AS v(n) ON o.partition = v.n",
    "SELECT count(*) FROM (SELECT partition FROM orders UNION ALL SELECT 7)",
];

async fn typed(session: SessionContext) -> SessionContext {
    for sql in TYPED {
        statement::sql(&session, sql).await.unwrap();
    }
    session
}

/// The plan of a statement, which was executed and must be one for Ballista.
async fn run(session: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    let frame = statement::sql(session, sql).await.unwrap();
    let context = Arc::new(with_checksums(frame.task_ctx()));
    let plan = frame.create_physical_plan().await.unwrap();
    collect(Arc::clone(&plan), context).await.unwrap();
    plan
}

fn shown(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(false).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_those_of_one_machine() {
    let bed = Bed::new(&[1, 2]).await;
    let local = typed(bed.local()).await;
    let mut sessions = vec![];
    for partitions in [2, 5, 16] {
        sessions.push((partitions, typed(bed.session(partitions)).await));
    }
    for sql in QUERIES.into_iter().chain(MORE) {
        let expected = rows(&local, sql).await.unwrap();
        for (partitions, session) in &sessions {
            let found = rows(session, sql).await.unwrap();
            assert_eq!(found, expected, "{partitions} partitions: {sql}");
        }
    }
}

/// Each task of a stage would run the whole of a scan that Ballista does not know, and double the rows in silence.
#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_read_once_by_all_tasks_together() {
    let bed = Bed::new(&[1, 1, 2]).await;
    for partitions in [1, 2, 3, 6, 16] {
        let session = typed(bed.session(partitions)).await;
        for sql in [
            "SELECT count(*), sum(\"offset\"), sum(partition) FROM orders",
            "SELECT count(*), sum(id), max(id) FROM o",
            SHUFFLED,
        ] {
            bed.cluster.reset_stats();
            let plan = run(&session, sql).await;
            let shown = shown(&plan);
            assert!(
                shown.contains("KafkaUnitsExec: on Ballista, units="),
                "{shown}"
            );
            // With the record of an aborted transaction.
            assert_eq!(bed.cluster.stats().records, 1201, "{partitions}: {sql}");
            assert_eq!(
                scan::ledger(&plan).total().delivered,
                1200,
                "{partitions}: {sql}"
            );
        }
        let sums = rows(&session, "SELECT count(*), sum(id) FROM o")
            .await
            .unwrap();
        let sums = sums.join("\n");
        assert!(
            sums.contains("| 1200     | 719400    |"),
            "{partitions}: {sums}"
        );
    }
    let session = bed.session(6);
    let plan = run(&session, "SELECT count(*) FROM orders").await;
    assert!(shown(&plan).contains("units=6"), "{}", shown(&plan));
}

#[tokio::test(flavor = "multi_thread")]
async fn ledgers_come_back() {
    let bed = Bed::new(&[1, 2]).await;
    let (local, session) = (bed.local(), bed.session(4));
    for sql in [
        "SELECT count(*) FROM orders",
        "SELECT key FROM kafka('orders', '@2023-11-14T22:20:00Z:')",
        "SELECT count(*) FROM orders a JOIN orders b ON a.partition = b.partition AND a.\"offset\" = b.\"offset\"",
    ] {
        let (expected, found) = (run(&local, sql).await, run(&session, sql).await);
        let (expected, found) = (scan::ledger(&expected), scan::ledger(&found));
        assert_eq!(found.ranges, expected.ranges, "{sql}");
        assert!(
            found.ranges.iter().any(|range| range.rows.is_some()),
            "{sql}"
        );
        assert_eq!(found.total().unread, 0, "{sql}");
    }
    let plan = run(&session, "SELECT * FROM orders LIMIT 5").await;
    let (total, progress) = (scan::ledger(&plan).total(), scan::ScanProgress::of(&plan));
    assert!(total.unread > 0, "{total}");
    assert_eq!(total.total(), progress.offsets_total);

    // A plan is executed again, and analyzed.
    let frame = session.sql("SELECT count(*) FROM orders").await.unwrap();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    for _ in 0..2 {
        collect(Arc::clone(&plan), Arc::new(frame.task_ctx()))
            .await
            .unwrap();
        assert_eq!(scan::ledger(&plan).total().delivered, 1200);
    }
    let analyzed = rows(&session, "EXPLAIN ANALYZE SELECT count(*) FROM orders")
        .await
        .unwrap();
    let analyzed = analyzed.join("\n");
    assert!(
        analyzed.contains("KafkaUnitsExec") && analyzed.contains("records=1.20 K"),
        "{analyzed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_on_an_executor_keeps_its_kind_and_place() {
    let bed = Bed::new(&[2]).await;
    let session = typed(bed.session(4)).await;
    bed.cluster
        .append("orders", 5, Record::new("no json"))
        .unwrap();
    let error = rows(&session, "SELECT sum(amount) FROM o")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRow, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("orders[5]@200") && text.contains("(on an executor of Ballista)"),
        "{text}"
    );
    // A limit of bad rows is that of the whole scan.
    bed.cluster
        .append("orders", 1, Record::new("no json"))
        .unwrap();
    for (limit, allowed) in [("2", true), ("1", false)] {
        let session = bed.session(4);
        let table = TYPED[0].replace(
            "'value.format' 'json'",
            &format!("'value.format' 'json', 'on.bad.row' 'skip', 'bad.row.limit' '{limit}'"),
        );
        statement::sql(&session, &table).await.unwrap();
        let found = rows(&session, "SELECT count(*), sum(id) FROM o").await;
        let kind = found.as_ref().err().map(Error::kind);
        assert_eq!(
            kind,
            (!allowed).then_some(ErrorKind::BadRowLimit),
            "{limit}: {found:?}"
        );
    }
}

/// One of two executors hangs in a unit when one of them is killed, whose rows are gone, or is only taken for lost and
/// comes back. The statement is one whose
/// only scan hangs, or one whose last stage hangs after others have read all that was on the killed one: Ballista
/// runs that stage again and gives the rows of its first attempt too.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_executor_changes_nothing() {
    let cases = [
        (
            "SELECT partition, count(*), sum(\"offset\") FROM orders GROUP BY partition ORDER BY partition",
            ("orders", 2),
            1001,
        ),
        (
            "SELECT p, count(*), sum(n) FROM (SELECT partition AS p, count(*) AS n FROM orders GROUP BY partition \
             UNION ALL SELECT 100 + partition, 1 FROM customers) GROUP BY p ORDER BY p",
            ("customers", 1),
            1210,
        ),
    ];
    let runs = cases.into_iter();
    let runs = runs.flat_map(|case| [(case, Some(0)), (case, Some(1)), (case, None)]);
    let runs = runs.map(|(case, killed)| killed_in(case, killed));
    futures::future::join_all(runs).await;
}

async fn killed_in(
    (sql, (topic, partition), records): (&str, (&str, i32), u64),
    killed: Option<usize>,
) {
    let timeout_seconds = if killed.is_some() { 8 } else { 2 };
    let mut bed = Bed::with_timeout(&[1, 1], timeout_seconds).await;
    let local = run(&bed.local(), sql).await;
    let expected = rows(&bed.local(), sql).await.unwrap().join("\n");
    bed.cluster.reset_stats();
    bed.cluster.stall(topic, partition);
    let frame = bed.session(6).sql(sql).await.unwrap();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    let (running, context) = (Arc::clone(&plan), Arc::new(frame.task_ctx()));
    let found = tokio::spawn(async move { collect(running, context).await });
    let all_but_one = |cluster: &MemoryCluster| cluster.stats().records == records;
    bed.until("all other units are read", all_but_one).await;
    if let Some(killed) = killed {
        bed.kill(killed);
    }
    // Until it is lost.
    tokio::time::sleep(Duration::from_secs(10)).await;
    bed.cluster.resume(topic, partition);
    let found = tokio::time::timeout(Duration::from_secs(60), found).await;
    let found = found.expect("it ends").unwrap().unwrap();
    let found = pretty_format_batches(&found).unwrap().to_string();
    assert_eq!(found, expected, "{killed:?}: {sql}");
    // What was read twice counts once.
    assert_eq!(
        scan::ledger(&plan).total(),
        scan::ledger(&local).total(),
        "{killed:?}: {sql}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said() {
    let mut bed = Bed::new(&[1]).await;
    let session = bed.session(2);
    let expected = rows(&bed.local(), SHUFFLED).await.unwrap();
    assert_eq!(rows(&session, SHUFFLED).await.unwrap(), expected);
    bed.kill(0);
    let found = tokio::time::timeout(Duration::from_secs(60), rows(&session, SHUFFLED)).await;
    let error = found.expect("it ends").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(error.to_string().contains("no executors remain"), "{error}");

    let error = Ballista::new("127.0.0.1:1").check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(
        error
            .to_string()
            .contains("scheduler of Ballista at 127.0.0.1:1"),
        "{error}"
    );
}

/// The codec of an executor of another version.
#[derive(Debug)]
struct OtherVersion(KafkaCodec);

impl PhysicalExtensionCodec for OtherVersion {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut buf = buf.to_vec();
        let other = VERSION.replace(|digit: char| digit.is_ascii_digit(), "9");
        let at = buf
            .windows(VERSION.len())
            .position(|part| part == VERSION.as_bytes());
        if let Some(at) = at {
            buf[at..at + other.len()].copy_from_slice(other.as_bytes());
        }
        self.0.try_decode(&buf, inputs, context, converter)
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        self.0.try_encode(node, buf, converter)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_executors_are_refused() {
    let mut bed = Bed::new(&[]).await;
    let own = Arc::new(OwnConnections::new([], engines::pool(&bed.cluster)));
    bed.add(1, |config| {
        let codec = OtherVersion(KafkaCodec::reading(own));
        config.override_physical_codec = Some(Arc::new(codec));
    });
    let error = rows(&bed.session(2), SHUFFLED).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("version 9.9.9") && text.contains("run the same"),
        "{text}"
    );

    // One of Ballista's own does not know the node.
    let mut bed = Bed::new(&[]).await;
    bed.add(1, |config| {
        let codec = BallistaPhysicalExtensionCodec::default();
        config.override_physical_codec = Some(Arc::new(codec));
    });
    let frame = bed.session(2).sql(SHUFFLED).await.unwrap();
    let error = frame.collect().await.unwrap_err().to_string();
    assert!(error.contains("BallistaPhysicalPlanNode"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_travels() {
    let mut bed = Bed::new(&[]).await;
    let mut connection = ConnectionConfig::new(BROKERS);
    for (key, value) in [
        ("connection.name", "prod"),
        ("security.protocol", "sasl_ssl"),
        ("sasl.username", "alice-the-user"),
        ("sasl.password", "hunter2"),
        ("ssl.ca.pem", "-----BEGIN-private"),
    ] {
        connection.set(key, value).unwrap();
    }
    let (address, tap) = tapped(&bed.scheduler);
    let (_, port) = address.rsplit_once(':').unwrap();
    let own = Arc::new(OwnConnections::new(
        [connection.clone()],
        engines::pool(&bed.cluster),
    ));
    bed.add(1, |config| {
        config.override_physical_codec = Some(Arc::new(KafkaCodec::reading(own)));
        config.scheduler_port = port.parse().unwrap();
    });
    let cluster = Ballista::new(&address).partitions(3);
    let builder = bed.builder(connection);
    let session = builder
        .extend(move |state| cluster.apply(state))
        .build()
        .unwrap();
    let expected = rows(&bed.local(), SHUFFLED).await.unwrap();
    assert_eq!(rows(&session, SHUFFLED).await.unwrap(), expected);
    let bytes = tap.lock().unwrap();
    let wire = String::from_utf8_lossy(&bytes);
    assert!(
        wire.contains("\"name\":\"prod\""),
        "the plan went over this wire"
    );
    for secret in [
        "hunter2",
        "alice-the-user",
        "BEGIN-private",
        "sasl.",
        "sasl_ssl",
    ] {
        assert!(!wire.contains(secret), "{secret}");
    }
}
