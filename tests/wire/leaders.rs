//! Leaders that move, die and come back, and replicas that are closer.

use datafusion_kafka::{Error, ErrorKind};
use kafka_protocol::messages::ApiKey;

use super::broker::Release;
use super::{Setup, TOPIC, code, plain_log};

fn nodes_asked(setup: &Setup) -> Vec<i32> {
    let mut nodes: Vec<i32> = setup.cluster.fetches().iter().map(|f| f.node).collect();
    nodes.dedup();
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_moves_in_the_midst_of_a_range() {
    for release in [Release::V1_0, Release::V2_8, Release::V4_1] {
        let settings = [("fetch.message.max.bytes", "4000")];
        let setup = Setup::with(&[release; 2], vec![plain_log()], &settings).await;
        setup
            .cluster
            .on_fetch()
            .after(2)
            .change(|state| state.move_leader(TOPIC, 2));
        setup.reads_all().await;
        // Node 1 refuses once, then the client asks node 2.
        assert_eq!(nodes_asked(&setup), [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_moves_again_and_again() {
    let setup = Setup::new().await;
    setup.cluster.on_fetch().every(4).change(|state| {
        let other = 3 - state.partition(TOPIC, 0).leader;
        state.move_leader(TOPIC, other);
    });
    setup.reads_all().await;
    assert!(nodes_asked(&setup).len() > 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_dies_and_another_takes_over() {
    let setup = Setup::new().await;
    setup.cluster.on_fetch().after(2).change(|state| {
        state.node(1).down = true;
        state.move_leader(TOPIC, 2);
    });
    // The current Fetch is still answered; later ones are not.
    setup.reads_all().await;
    assert_eq!(nodes_asked(&setup), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partition_without_a_leader_is_waited_for() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .after(1)
        .change(|state| state.move_leader(TOPIC, -1));
    setup
        .cluster
        .on(ApiKey::Metadata)
        .after(4)
        .change(|state| state.move_leader(TOPIC, 2));
    setup.reads_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partition_that_gets_no_leader_is_an_error() {
    let setup = Setup::new().await;
    setup.cluster.on_fetch().after(1).change(|state| {
        state.move_leader(TOPIC, -1);
        state.partition(TOPIC, 0).followers = vec![2];
    });
    let (rows, error) = setup.fails().await;
    assert!(rows > 0, "the answer before it had records");
    expect_no_leader(&error);
}

/// Checks the error about a partition whose only replica is on broker 2 and does not lead.
pub fn expect_no_leader(error: &Error) {
    let text = error.to_string();
    let Error::NoLeader { waited_ms, .. } = error else {
        panic!("{text}");
    };
    assert!(*waited_ms >= 1500, "{text}");
    assert_eq!(
        text,
        format!(
            "orders[0]: there is no leader, waited {waited_ms} ms for one; replicas: 2, in sync: 2; one \
             that is in sync must be up"
        )
    );
    assert_eq!(error.kind(), ErrorKind::Connection);
}

/// The error has the broker's last answer, and not that no time was left to ask again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_that_denies_leadership_is_named_with_its_answer() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .always()
        .refuse(code::NOT_LEADER_OR_FOLLOWER);
    let (_, error) = setup.fails().await;
    let text = error.to_string();
    assert!(
        text.ends_with(
            " the range ends at 300: NotLeaderOrFollower from broker 1; 'read.timeout.ms' sets how \
             long to wait"
        ),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_lags_behind_the_leader() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .after(1)
        .change(|state| state.move_leader(TOPIC, 2));
    setup
        .cluster
        .on(ApiKey::Metadata)
        .after(1)
        .times(3)
        .metadata(|answer| {
            let partition = &mut answer.topics[0].partitions[0];
            partition.leader_id = 1.into();
            partition.leader_epoch = 5;
        });
    setup.reads_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_in_metadata_that_is_no_known_broker() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .after(1)
        .change(|state| state.move_leader(TOPIC, 2));
    setup
        .cluster
        .on(ApiKey::Metadata)
        .after(1)
        .times(2)
        .metadata(|answer| {
            answer.topics[0].partitions[0].leader_id = 77.into();
        });
    setup.reads_all().await;
}

/// A broker with a broken disk keeps saying so, while another one already leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_disk_of_an_old_leader() {
    let setup = Setup::new().await;
    setup
        .cluster
        .on_fetch()
        .after(1)
        .change(|state| state.move_leader(TOPIC, 2));
    setup
        .cluster
        .on_fetch()
        .at(1)
        .after(1)
        .always()
        .refuse(code::KAFKA_STORAGE_ERROR);
    setup.reads_all().await;
    assert_eq!(nodes_asked(&setup), [1, 2]);
}

/// Three nodes, of which node 3 is a follower in the client's rack.
async fn racks(release: Release) -> Setup {
    let settings = [
        ("fetch.message.max.bytes", "4000"),
        ("client.rack", "rack-3"),
    ];
    let setup = Setup::with(&[release; 3], vec![plain_log()], &settings).await;
    setup.cluster.state().partition(TOPIC, 0).followers = vec![2, 3];
    setup
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_in_the_same_rack_is_read() {
    let setup = racks(Release::V4_1).await;
    setup.reads_all().await;
    let fetches = setup.cluster.fetches();
    assert_eq!(fetches.iter().filter(|f| f.node == 1).count(), 1);
    assert!(fetches.iter().skip(1).all(|f| f.node == 3));
    // Before KIP-392, clients could only read from the leader.
    let setup = racks(Release::V2_1).await;
    setup.reads_all().await;
    assert_eq!(nodes_asked(&setup), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_fails_is_left_for_the_leader() {
    for code in [
        code::OFFSET_OUT_OF_RANGE,
        code::NOT_LEADER_OR_FOLLOWER,
        code::OFFSET_NOT_AVAILABLE,
    ] {
        let setup = racks(Release::V4_1).await;
        setup
            .cluster
            .on_fetch()
            .at(3)
            .after(1)
            .times(2)
            .refuse(code);
        println!("code {code}");
        setup.reads_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_lags_is_left_for_the_leader() {
    let setup = racks(Release::V4_1).await;
    setup
        .cluster
        .on_fetch()
        .at(3)
        .after(1)
        .times(3)
        .parts(|part| {
            part.high_watermark = 20;
            part.last_stable_offset = 20;
            part.records = None;
        });
    setup.reads_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preferred_replica_that_is_no_known_broker() {
    let setup = Setup::new().await;
    setup.cluster.on_fetch().times(3).parts(|part| {
        part.preferred_read_replica = 88.into();
        part.records = None;
    });
    setup.reads_all().await;
    let setup = Setup::new().await;
    setup.cluster.on_fetch().always().parts(|part| {
        part.preferred_read_replica = 88.into();
        part.records = None;
    });
    let (_, error) = setup.fails().await;
    assert!(
        error
            .to_string()
            .starts_with("orders[0]@0: no progress for "),
        "{error}"
    );
    assert!(
        setup.cluster.fetches().len() < 50,
        "it asked without a pause"
    );
}
