//! Several Kafka nodes, each both broker and controller, which can fail one by one.

use std::time::Duration;

use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::kafka::{KafkaServer, Member};
use super::libs::Jvm;
use super::options::KafkaOptions;
use super::unique::{cluster_id, free_port};
use super::{admin, wait_until};

/// How long an election, a reassignment or a node's return may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Every record is on three nodes and is acknowledged by two. A client reads from the replica in its rack.
const PROPERTIES: &[(&str, &str)] = &[
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    (
        "replica.selector.class",
        "org.apache.kafka.common.replica.RackAwareReplicaSelector",
    ),
    // A replica that was thawed leaves the replicas in sync soon, and comes back soon.
    ("replica.lag.time.max.ms", "5000"),
];

/// The cluster of three nodes that the tests of this process share, for one test at a time. All nodes are up.
pub async fn shared() -> MappedMutexGuard<'static, KafkaCluster> {
    static SHARED: Mutex<Option<KafkaCluster>> = Mutex::const_new(None);
    let guard = SHARED.lock().await;
    let mut cluster = MutexGuard::map(guard, |shared| {
        tokio::task::block_in_place(|| {
            shared.get_or_insert_with(|| KafkaCluster::start(3, &KafkaOptions::default()))
        })
    });
    tokio::task::block_in_place(|| cluster.heal());
    cluster
}

/// A cluster with nodes 1, 2, …, each in a rack of its own: `rack-1`, `rack-2`, …. More than half must be up for a
/// quorum. Dropping it removes everything.
#[derive(Debug)]
pub struct KafkaCluster {
    nodes: Vec<KafkaServer>,
}

impl KafkaCluster {
    /// Starts nodes and waits until all of them answer.
    ///
    /// # Panics
    /// When a node does not start, with the end of its log.
    pub fn start(nodes: usize, options: &KafkaOptions) -> Self {
        let cluster_id = cluster_id();
        let ports: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
        let voters: Vec<String> = (1..)
            .zip(&ports)
            .map(|(id, port)| format!("{id}@127.0.0.1:{port}"))
            .collect();
        let member = |(id, port): (usize, &u16)| Member {
            id,
            controller_port: *port,
            voters: Some(voters.join(",")),
            cluster_id: cluster_id.clone(),
        };
        let node = |(id, port): (usize, &u16)| {
            let mut options = options.clone().property("broker.rack", &rack(id));
            // The last line of a key wins.
            let ours = PROPERTIES
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            options.properties.splice(0..0, ours);
            KafkaServer::prepared(&options.logging_requests(), &member((id, port)), Jvm::Small)
        };
        let mut cluster = Self {
            nodes: (1..).zip(&ports).map(node).collect(),
        };
        // No node answers before there is a quorum.
        cluster.nodes.iter_mut().for_each(KafkaServer::spawn);
        for node in &mut cluster.nodes {
            if let Err(log) = node.wait_until_ready() {
                panic!("Kafka did not start:\n{log}");
            }
        }
        cluster
    }

    /// `host:port` of all nodes, including those that are down.
    pub fn bootstrap(&self) -> String {
        let hosts = self.nodes.iter().map(KafkaServer::bootstrap);
        hosts.collect::<Vec<_>>().join(",")
    }

    /// A node by its id, to ask only that one.
    pub fn node(&self, id: usize) -> &KafkaServer {
        &self.nodes[id - 1]
    }

    /// A node by its id, to stop, kill, freeze, thaw or restart it.
    pub fn node_mut(&mut self, id: usize) -> &mut KafkaServer {
        &mut self.nodes[id - 1]
    }

    /// Lets frozen nodes continue, starts those that are down, and waits until all are registered and in sync.
    pub fn heal(&mut self) {
        for node in &mut self.nodes {
            node.revive();
        }
        for node in &mut self.nodes {
            if let Err(log) = node.wait_until_ready() {
                panic!("Kafka did not start again:\n{log}");
            }
        }
        wait_until(LIMIT, "all replicas are in sync", || {
            let mut nodes = self.nodes.iter();
            nodes
                .all(|node| admin::is_in_sync(node.bootstrap(), self.nodes.len()))
                .then_some(())
        });
    }

    /// The node that is the active controller.
    pub fn controller(&self) -> usize {
        let nodes = &self.nodes[0];
        let printed = nodes.run_tool(
            "org.apache.kafka.tools.MetadataQuorumCommand",
            &[
                "--bootstrap-server",
                &self.bootstrap(),
                "describe",
                "--status",
            ],
        );
        let line = printed
            .lines()
            .find_map(|line| line.strip_prefix("LeaderId:"));
        let id = line.and_then(|id| id.trim().parse().ok());
        id.unwrap_or_else(|| panic!("no controller in:\n{printed}"))
    }

    /// Gives a partition other replicas, the leader first, and waits until that one leads.
    ///
    /// # Panics
    /// When it does not within two minutes.
    pub fn reassign(&self, topic: &str, partition: i32, replicas: &[usize]) {
        let plan = format!(
            "{{\"version\":1,\"partitions\":[{{\"topic\":\"{topic}\",\"partition\":{partition},\
             \"replicas\":{replicas:?}}}]}}"
        );
        let file = self.nodes[0].folder().join("reassign.json");
        std::fs::write(&file, plan).expect("cannot write the plan");
        let file = file.to_str().expect("the path is UTF-8");
        let bootstrap = self.bootstrap();
        self.nodes[0].run_tool(
            "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
            &[
                "--bootstrap-server",
                &bootstrap,
                "--reassignment-json-file",
                file,
                "--execute",
            ],
        );
        let ids = |ids: &[usize]| -> Vec<i32> { ids.iter().map(|id| *id as i32).collect() };
        wait_until(LIMIT, "the partition is moved", || {
            let found = admin::replicas(&bootstrap, topic, partition)?;
            (found == ids(replicas)).then_some(())
        });
        if admin::leader(&bootstrap, topic, partition) != Some(replicas[0] as i32) {
            self.elect_preferred(topic, partition);
        }
        self.wait_for_leader(topic, partition, replicas[0]);
    }

    /// Makes the first replica of a partition its leader.
    pub fn elect_preferred(&self, topic: &str, partition: i32) {
        self.nodes[0].run_tool(
            "org.apache.kafka.tools.LeaderElectionCommand",
            &[
                "--bootstrap-server",
                &self.bootstrap(),
                "--election-type",
                "preferred",
                "--topic",
                topic,
                "--partition",
                &partition.to_string(),
            ],
        );
    }

    /// Waits until a node leads a partition, as that node sees it.
    pub fn wait_for_leader(&self, topic: &str, partition: i32, id: usize) {
        let bootstrap = self.node(id).bootstrap();
        wait_until(
            LIMIT,
            &format!("node {id} leads {topic}[{partition}]"),
            || (admin::leader(bootstrap, topic, partition) == Some(id as i32)).then_some(()),
        );
    }

    /// Whether a node has sent records to the client with that id.
    pub fn has_served(&self, id: usize, client_id: &str) -> bool {
        let client = format!("\"clientId\":\"{client_id}\"");
        self.node(id).whole_log().lines().any(|line| {
            let mut sizes = line.split("\"recordsSizeInBytes\":").skip(1);
            line.contains(&client)
                && sizes.any(|size| size.starts_with(|c| ('1'..='9').contains(&c)))
        })
    }
}

/// The rack of a node.
pub fn rack(id: usize) -> String {
    format!("rack-{id}")
}
