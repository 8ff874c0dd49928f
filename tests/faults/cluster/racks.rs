//! Followers that serve the clients of their rack (KIP-392), and what they do when these fail.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MappedMutexGuard;

use super::bed::{Bed, LIMIT, marked};
use super::gate::Gate;
use super::tried::{CLIENTS, Row};
use crate::support::cluster::{self, KafkaCluster, rack};
use crate::support::documented::documented;

documented!(
    "faults.md",
    "Followers and racks",
    ["wire", "librdkafka"],
    [follower_in_the_client_s_rack, that_follower_killed_in_mid_scan],
    slow [that_follower_paused_in_mid_scan, leader_killed_while_a_follower_is_read, leader_moved_while_fetches_are_under_way]
);

const RECORDS: i64 = 600;
const HELD_AT: i64 = 150;
/// The broker in the client's rack. Node 1 leads.
const FOLLOWER: usize = 3;

/// A scan by a client in the rack of node 3. That node must have served it before the fault.
async fn scan(
    client: &'static str,
    gate: Arc<Gate>,
    fault: impl FnOnce(&mut KafkaCluster, &Bed),
) -> (String, Bed, MappedMutexGuard<'static, KafkaCluster>) {
    let mut cluster = cluster::shared().await;
    let bed = tokio::task::block_in_place(|| {
        let bed = Bed::new(&cluster, &[&[1, 2, 3]], &[]);
        bed.produce(0, RECORDS as usize, 'a');
        let id = bed.topic.clone();
        bed.with("client.rack", rack(FOLLOWER))
            .with("client.id", id)
    });
    let slow = gate.is_slow();
    let mut reader = bed.reader("scan".to_owned(), &gate, async move |bed, gate| {
        bed.scan(client, &gate, "").await
    });
    if !slow {
        reader.stands().await;
        assert!(
            cluster.has_served(FOLLOWER, &bed.topic),
            "{client}: the follower did not serve"
        );
        assert!(
            !cluster.has_served(1, &bed.topic),
            "{client}: the leader served"
        );
    }
    tokio::task::block_in_place(|| fault(&mut cluster, &bed));
    assert!(!reader.has_ended(), "{client}: the fault came too late");
    gate.open();
    let read = reader.done(LIMIT).await;
    let expected: Vec<Row> = marked(0, 0, RECORDS, 'a');
    (bed.outcome(&read, &expected), bed, cluster)
}

fn known(client: &str) -> &'static str {
    CLIENTS
        .into_iter()
        .find(|known| *known == client)
        .expect("a client")
}

async fn follower_in_the_client_s_rack(client: &str) -> String {
    let (outcome, bed, cluster) = scan(known(client), Gate::at(HELD_AT), |_, _| {}).await;
    assert!(
        !cluster.has_served(1, &bed.topic),
        "{client}: the leader served"
    );
    outcome
}

/// The others serve the rest.
async fn that_follower_killed_in_mid_scan(client: &str) -> String {
    let (outcome, bed, cluster) = scan(known(client), Gate::at(HELD_AT), |cluster, _| {
        cluster.node_mut(FOLLOWER).kill();
    })
    .await;
    assert!(
        cluster.has_served(1, &bed.topic),
        "{client}: the leader served the rest"
    );
    outcome
}

async fn that_follower_paused_in_mid_scan(client: &str) -> String {
    let (outcome, bed, cluster) = scan(known(client), Gate::at(HELD_AT), |cluster, _| {
        cluster.node(FOLLOWER).freeze();
    })
    .await;
    assert!(
        cluster.has_served(1, &bed.topic),
        "{client}: the leader served the rest"
    );
    outcome
}

/// The follower goes on, or the new leader names it again.
async fn leader_killed_while_a_follower_is_read(client: &str) -> String {
    let (outcome, ..) = scan(known(client), Gate::at(HELD_AT), |cluster, bed| {
        cluster.node_mut(1).kill();
        cluster.wait_for_leader(&bed.topic, 0, 2);
    })
    .await;
    outcome
}

/// The leader moves twice while a scan that does not stand still asks for records.
async fn leader_moved_while_fetches_are_under_way(client: &str) -> String {
    let gate = Gate::slow(Duration::from_millis(800));
    let (outcome, ..) = scan(known(client), gate, |cluster, bed| {
        cluster.reassign(&bed.topic, 0, &[2, 1, 3]);
    })
    .await;
    outcome
}
