//! Brokers that die, stall, come back or hand over their partitions while these are read.

use std::time::Duration;

use super::bed::{Bed, Job, LIMIT, READ_TIMEOUT, REQUEST_TIMEOUT, Reader, marked};
use super::gate::Gate;
use super::tried::{CLIENTS, Outcomes, Row, Tried, column, tried};
use crate::support::cluster::{self, KafkaCluster};
use crate::support::documented::documented;

documented!(
    "faults.md",
    "Brokers that die or stall",
    [
        "scan, wire",
        "scan, librdkafka",
        "query, wire",
        "query, librdkafka",
        "job, wire",
        "job, librdkafka",
        "export, wire",
        "export, librdkafka",
    ],
    [leader_killed, leader_paused],
    slow [
        leader_restarted,
        leader_moved_by_reassignment,
        controller_killed,
        nodes_restarted_one_by_one,
        all_killed_for_30_s,
        only_replica_killed,
        two_of_three_killed,
    ]
);

/// The records of each partition.
const RECORDS: i64 = 600;
/// Where readers stand when the fault comes.
const HELD_AT: i64 = 150;
/// What is done to a cluster, given the node that leads partition 0 of the topic.
type Act = fn(&mut KafkaCluster, &Bed, usize);

/// What happens while a topic is read.
struct Fault {
    /// What readers find when they go on.
    begin: Act,
    /// What happens while they do.
    end: Act,
    /// The number of replicas of each partition.
    replicas: usize,
    /// Whether the leader of partition 0 is the controller.
    of_controller: bool,
    read_timeout: Duration,
    /// Readers wait so long before each batch, instead of standing still, for a fault that takes long.
    pause: Duration,
}

const FAULT: Fault = Fault {
    begin: |_, _, _| {},
    end: |_, _, _| {},
    replicas: 3,
    of_controller: false,
    read_timeout: READ_TIMEOUT,
    pause: Duration::ZERO,
};

/// `id` and the others.
fn led_by(id: usize) -> Vec<i32> {
    (0..3).map(|n| ((id - 1 + n) % 3 + 1) as i32).collect()
}

impl Fault {
    /// All readers meet the fault at once.
    async fn meets_readers(self) -> Outcomes {
        let mut cluster = cluster::shared().await;
        let controller = tokio::task::block_in_place(|| cluster.controller());
        let leader = match self.of_controller {
            true => controller,
            false => controller % 3 + 1,
        };
        // Each node leads a partition.
        let replicas = led_by(leader).into_iter().map(|id| led_by(id as usize));
        let replicas: Vec<Vec<i32>> = replicas.map(|ids| ids[..self.replicas].to_vec()).collect();
        let replicas: Vec<&[i32]> = replicas.iter().map(Vec::as_slice).collect();
        let timeout = self.read_timeout.as_millis().to_string();
        let bed = tokio::task::block_in_place(|| {
            let bed = Bed::new(&cluster, &replicas, &[]);
            (0..3).for_each(|p| bed.produce(p, RECORDS as usize, 'a'));
            bed.with("read.timeout.ms", timeout)
        });
        let mut readers: Vec<Reader> = vec![];
        for client in CLIENTS {
            let gate = || match self.pause.is_zero() {
                true => Gate::at(HELD_AT),
                false => Gate::slow(self.pause),
            };
            readers.push(
                bed.reader(column("scan", client), &gate(), async move |bed, gate| {
                    bed.scan(client, &gate, "").await
                }),
            );
            readers.push(
                bed.reader(column("job", client), &gate(), async move |bed, gate| {
                    Job::new(&bed, client).run(&gate, 900).await
                }),
            );
            readers.push(
                bed.reader(column("export", client), &gate(), async move |bed, gate| {
                    bed.export(client, &gate).await
                }),
            );
        }
        if self.pause.is_zero() {
            for reader in &mut readers {
                reader.stands().await;
            }
        }
        tokio::task::block_in_place(|| (self.begin)(&mut cluster, &bed, leader));
        for reader in &readers {
            assert!(
                !reader.has_ended(),
                "{}: the fault came too late",
                reader.column
            );
            reader.gate.open();
        }
        for client in CLIENTS {
            let gate = Gate::slow(self.pause);
            readers.push(
                bed.reader(column("query", client), &gate, async move |bed, gate| {
                    bed.scan(client, &gate, "").await
                }),
            );
        }
        tokio::task::block_in_place(|| (self.end)(&mut cluster, &bed, leader));
        let slow = readers.iter().filter(|reader| !reader.has_ended());
        assert!(
            self.pause.is_zero() || slow.count() > 0,
            "the fault lasted too long"
        );
        let expected: Vec<Row> = (0..3).flat_map(|p| marked(p, 0, RECORDS, 'a')).collect();
        let mut outcomes = Outcomes::new();
        for reader in readers {
            let column = reader.column.clone();
            let read = reader.done(LIMIT + self.read_timeout).await;
            outcomes.insert(column, bed.outcome(&read, &expected));
        }
        outcomes
    }
}

async fn leader_killed(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let fault = Fault {
        begin: |cluster, _, leader| cluster.node_mut(leader).kill(),
        ..FAULT
    };
    tried(&ALL, column, fault.meets_readers()).await
}

/// For longer than the session of a broker and `request.timeout.ms`. Another one leads meanwhile.
async fn leader_paused(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let fault = Fault {
        begin: |cluster, _, leader| cluster.node(leader).freeze(),
        end: |cluster, _, leader| {
            std::thread::sleep(REQUEST_TIMEOUT + Duration::from_secs(2));
            cluster.node(leader).thaw();
        },
        ..FAULT
    };
    tried(&ALL, column, fault.meets_readers()).await
}

async fn leader_restarted(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let fault = Fault {
        begin: |cluster, _, leader| cluster.node_mut(leader).stop(),
        end: |cluster, _, leader| cluster.node_mut(leader).restart(),
        ..FAULT
    };
    tried(&ALL, column, fault.meets_readers()).await
}

/// The broker that led the partition has no replica of it any more.
async fn leader_moved_by_reassignment(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let fault = Fault {
        replicas: 2,
        begin: |cluster, bed, leader| {
            let others = led_by(leader).split_off(1);
            let others: Vec<usize> = others.into_iter().map(|id| id as usize).collect();
            cluster.reassign(&bed.topic, 0, &others);
        },
        ..FAULT
    };
    tried(&ALL, column, fault.meets_readers()).await
}

async fn controller_killed(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let fault = Fault {
        of_controller: true,
        begin: |cluster, _, leader| cluster.node_mut(leader).kill(),
        ..FAULT
    };
    tried(&ALL, column, fault.meets_readers()).await
}

/// As an administrator does it: the next node follows when all replicas are in sync again.
async fn nodes_restarted_one_by_one(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let fault = Fault {
        pause: Duration::from_millis(2500),
        end: |cluster, _, _| {
            for id in 1..=3 {
                cluster.node_mut(id).restart();
                cluster.heal();
            }
        },
        ..FAULT
    };
    tried(&ALL, column, fault.meets_readers()).await
}

async fn all_killed_for_30_s(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let fault = Fault {
        read_timeout: Duration::from_secs(90),
        begin: |cluster, _, _| (1..=3).for_each(|id| cluster.node_mut(id).kill()),
        end: |cluster, _, _| {
            std::thread::sleep(Duration::from_secs(30));
            cluster.heal();
        },
        ..FAULT
    };
    tried(&ALL, column, fault.meets_readers()).await
}

/// No other broker may lead: none has the records.
async fn only_replica_killed(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let fault = Fault {
        replicas: 1,
        begin: |cluster, _, leader| cluster.node_mut(leader).kill(),
        ..FAULT
    };
    tried(&ALL, column, fault.meets_readers()).await
}

/// There is no controller, so no election; the third broker still names the two as leaders.
async fn two_of_three_killed(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let fault = Fault {
        begin: |cluster, _, leader| {
            cluster.node_mut(leader).kill();
            cluster.node_mut(leader % 3 + 1).kill();
        },
        ..FAULT
    };
    tried(&ALL, column, fault.meets_readers()).await
}
