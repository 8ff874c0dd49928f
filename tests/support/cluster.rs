//! Several Kafka nodes, each both broker and controller, which can fail one by one.

use super::kafka::{KafkaServer, Member, cluster_id, free_port};
use super::libs::Jvm;
use super::options::KafkaOptions;

/// A cluster with nodes 1, 2, …. More than half must be up for a quorum. Dropping it removes everything.
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
        let mut cluster = Self {
            nodes: (1..)
                .zip(&ports)
                .map(|of| KafkaServer::prepared(options, &member(of), Jvm::Small))
                .collect(),
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
}
