//! How a scan is cut into pieces for tasks.

use std::sync::Arc;

use super::*;
use crate::client::memory::MemoryCluster;
use crate::decode::Column;

fn scan(may_cut: bool, partitions: Vec<Vec<(i32, i64, i64)>>) -> KafkaScanExec {
    let cluster = MemoryCluster::new();
    let source = ScanSource {
        name: None,
        client: Arc::new(cluster.client()),
        decoder: RecordDecoder::raw(vec![Column::Partition, Column::Offset]),
        isolation: IsolationLevel::default(),
        on_data_loss: OnDataLoss::default(),
        batch_bytes: 1,
        pruned: vec![],
        index: None,
        snapshot: Arc::default(),
        #[cfg(feature = "jobs")]
        origin: None,
        checksums: false,
        may_cut,
        ordered: true,
        key_places: None,
    };
    let range = |(partition, start, end): (i32, i64, i64)| ScanRange {
        range: OffsetRange::try_new("t", partition, start, end).unwrap(),
        topic_id: None,
        newest_epoch: None,
        leader: Some(partition % 2),
        selected: None,
        matching: None,
    };
    let partitions = partitions
        .into_iter()
        .map(|ranges| ranges.into_iter().map(range).collect());
    KafkaScanExec::try_new(Arc::new(source), partitions.collect(), vec![0, 1], None).unwrap()
}

fn pieces(scan: &KafkaScanExec, streams: usize) -> Vec<String> {
    texts(scan.pieces(streams))
}

fn texts(pieces: Vec<ScanPiece>) -> Vec<String> {
    let text = pieces.into_iter().map(|piece| {
        let ranges: Vec<String> = piece.ranges().map(ToString::to_string).collect();
        ranges.join(" ")
    });
    text.collect()
}

#[test]
fn a_large_partition_is_cut_and_small_ones_stay() {
    let scan = scan(true, vec![vec![(0, 0, 10)], vec![(1, 5, 1_000_005)]]);
    assert_eq!(
        pieces(&scan, 4),
        [
            "t[0] 0..10",
            "t[1] 5..250007",
            "t[1] 250007..500009",
            "t[1] 500009..750011",
            "t[1] 750011..1000005"
        ]
    );
    // A stream costs more than the parallel reading of so few gains.
    assert_eq!(pieces(&scan, 100_000).len(), 11);
}

#[test]
fn pieces_have_one_leader_and_keep_the_order() {
    let all = (0..6).map(|n| (n, 0, 100)).collect();
    assert_eq!(
        pieces(&scan(true, vec![all]), 1),
        [
            "t[0] 0..100 t[2] 0..100 t[4] 0..100",
            "t[1] 0..100 t[3] 0..100 t[5] 0..100"
        ]
    );
}

#[test]
fn parts_are_of_one_partition_and_weighed_by_bytes() {
    let scan = scan(
        true,
        vec![vec![(0, 0, 1_000_000)], vec![(1, 0, 1_000_000), (2, 0, 10)]],
    );
    let bytes = |range: &OffsetRange| if range.partition() == 1 { 1000 } else { 100 };
    let parts = scan.parts(4, &bytes);
    let all: u64 = parts.iter().map(ScanPiece::bytes).sum();
    assert_eq!(all, 1_100_001_000);
    assert_eq!(
        texts(parts),
        [
            "t[0] 0..1000000",
            "t[1] 0..275000",
            "t[1] 275000..550000",
            "t[1] 550000..825000",
            "t[1] 825000..1000000",
            "t[2] 0..10"
        ]
    );
    // A size that no record has is none that overflows.
    assert_eq!(scan.parts(4, &|_| u64::MAX)[0].bytes(), u64::MAX);
}

#[test]
fn long_lists_are_shown_in_part_and_whole_when_verbose() {
    use datafusion::physical_plan::displayable;
    let all = (0..500).map(|n| (n, 0, 100)).collect();
    let scan = scan(true, vec![all]);
    let text = |verbose| displayable(&scan).indent(verbose).to_string();
    assert!(
        text(false).contains("t[63] 0..100 and 436 more]], offsets=50000, leaders={0: t[0]"),
        "{}",
        text(false)
    );
    assert!(text(false).len() < 4_000, "{}", text(false));
    assert!(text(true).contains("t[499] 0..100]]") && !text(true).contains("more"));
}

#[test]
fn a_partition_that_is_read_in_order_stays_whole() {
    let ranges = vec![(0, 0, 900_000), (0, 950_000, 2_000_000), (2, 0, 100)];
    assert_eq!(
        pieces(&scan(false, vec![ranges]), 8),
        ["t[0] 0..900000 t[0] 950000..2000000", "t[2] 0..100"]
    );
}

#[test]
fn the_pieces_are_the_scan() {
    let whole = scan(
        true,
        vec![
            vec![(0, 0, 777_777), (1, 3, 1_234_567)],
            vec![(2, 0, 1), (3, 0, 5_000_000)],
        ],
    );
    for streams in [1, 2, 3, 7, 64] {
        let parts = whole.of_pieces(whole.pieces(streams), 3).unwrap();
        let ledger = |scan: &KafkaScanExec| scan.ledger().ranges;
        assert_eq!(ledger(&parts), ledger(&whole), "{streams}");
        assert!(parts.ranges().len() >= 3);
    }
    let reports = [0, 1].map(|n| {
        let piece = whole.pieces(2).swap_remove(n);
        whole.of_pieces(vec![piece], 1).unwrap().report()
    });
    whole.set_reports(reports.to_vec());
    assert!(whole.ledger().total().unread < whole.offsets());
}

/// What the test's own machine knows of connections: that there is the cluster in memory.
#[cfg(feature = "jobs")]
struct InMemory(MemoryCluster);

#[cfg(feature = "jobs")]
impl Connections for InMemory {
    fn connection(
        &self,
        _name: &str,
        public: &std::collections::BTreeMap<String, String>,
        _complete: bool,
    ) -> crate::Result<crate::config::ConnectionConfig> {
        let mut config = crate::config::ConnectionConfig::empty();
        for (key, value) in public {
            config.set(key, value)?;
        }
        Ok(config)
    }

    fn client(
        &self,
        _config: &crate::config::ConnectionConfig,
    ) -> crate::Result<Arc<dyn KafkaClient>> {
        Ok(Arc::new(self.0.client()))
    }
}

/// Bytes of a scan that were changed on the way are refused, or make a scan that ends.
#[cfg(feature = "jobs")]
#[tokio::test]
async fn changed_bytes_of_a_scan_do_no_harm() {
    use futures::StreamExt;

    let cluster = MemoryCluster::new();
    cluster.create_topic("t", 2).unwrap();
    for n in 0..20 {
        let record = crate::client::memory::Record::new(format!(r#"{{"a": {n}}}"#));
        cluster.append("t", n % 2, record).unwrap();
    }
    let own = cluster.clone();
    let pool = crate::client::ClientPool::with_factory(move |_| Ok(Arc::new(own.client())));
    let config = crate::config::ConnectionConfig::new("memory:1");
    let session = crate::session::KafkaSessionBuilder::new().pool(pool);
    let session = session.connection(config).build().unwrap();
    let table = "CREATE EXTERNAL TABLE t (a BIGINT) STORED AS KAFKA LOCATION 't' \
                 OPTIONS ('value.format' 'json')";
    session.sql(table).await.unwrap();
    let plan = session.sql("SELECT * FROM t WHERE \"offset\" > 3").await;
    let plan = plan.unwrap().create_physical_plan().await.unwrap();
    let bytes = scans(&plan).next().unwrap().encode(true).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let machine = InMemory(cluster);
    let mut read = 0;
    for changed in crate::spoil::spoiled(&text) {
        let Ok(scan) = KafkaScanExec::decode(changed.as_bytes(), &machine) else {
            continue;
        };
        let plan: Arc<dyn ExecutionPlan> = Arc::new(scan);
        if let Ok(mut rows) = datafusion::physical_plan::execute_stream(plan, session.task_ctx()) {
            while let Some(Ok(_)) = rows.next().await {}
        }
        read += 1;
    }
    assert!(read > 10, "{read} of them are scans: {text}");
}
