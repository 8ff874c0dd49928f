//! A cluster in memory, and workers on ports of their own.

#[path = "../../../../tests/support/proxy.rs"]
#[allow(dead_code)]
pub mod proxy;
#[path = "../../../../tests/support/unique.rs"]
#[allow(dead_code)]
mod unique;

use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_kafka::client::ClientPool;
use datafusion_kafka::client::memory::MemoryCluster;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka_distributed::{
    Coordinator, CoordinatorOptions, OwnConnections, Worker, Workers,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use proxy::Proxy;

use crate::engines::{self, BROKERS};

pub struct Bed {
    pub cluster: MemoryCluster,
    pub workers: Vec<RunningWorker>,
}

pub struct RunningWorker {
    pub address: String,
    pub task: JoinHandle<datafusion_kafka::Result<()>>,
    /// The network between it and all others, where there is one.
    pub proxy: Option<Proxy>,
}

impl Bed {
    /// The topics of [`engines::cluster`], and as many workers.
    pub async fn new(workers: usize) -> Self {
        Self::over(engines::cluster(), workers).await
    }

    /// A cluster, and as many workers.
    pub async fn over(cluster: MemoryCluster, workers: usize) -> Self {
        let mut bed = Self {
            cluster,
            workers: vec![],
        };
        for _ in 0..workers {
            bed.add(|worker| worker).await;
        }
        bed
    }

    pub fn pool(&self) -> ClientPool {
        engines::pool(&self.cluster)
    }

    /// Starts a worker.
    pub async fn add(&mut self, with: impl FnOnce(Worker) -> Worker) -> &RunningWorker {
        let own = OwnConnections::new([], self.pool());
        self.start(with(Worker::new(own))).await
    }

    pub async fn start(&mut self, worker: Worker) -> &RunningWorker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(worker.serve(listener, std::future::pending()));
        let proxy = None;
        self.workers.push(RunningWorker {
            address,
            task,
            proxy,
        });
        self.workers.last().unwrap()
    }

    /// All workers are reached through proxies from now on.
    pub fn behind_proxies(&mut self) {
        for worker in &mut self.workers {
            let proxy = Proxy::start();
            proxy.forward_to(&worker.address);
            worker.address = proxy.address();
            worker.proxy = Some(proxy);
        }
    }

    /// So many of the workers.
    pub fn first(&self, workers: usize) -> Workers {
        let first = self.workers[..workers].iter();
        Workers::Listed(first.map(|worker| worker.address.clone()).collect())
    }

    pub fn options(&self) -> CoordinatorOptions {
        let mut options = CoordinatorOptions::new(self.first(self.workers.len()));
        // Each scan gets all workers.
        options.offsets_per_task = 1;
        options
    }

    /// A session on this machine alone.
    pub fn local(&self) -> SessionContext {
        self.local_over(ConnectionConfig::new(BROKERS))
    }

    pub fn local_over(&self, connection: ConnectionConfig) -> SessionContext {
        self.builder(connection).build().unwrap()
    }

    fn builder(&self, connection: ConnectionConfig) -> KafkaSessionBuilder {
        KafkaSessionBuilder::new()
            .connection(connection)
            .pool(self.pool())
            .config(SessionConfig::new().with_target_partitions(3))
    }

    /// A session that plans for the workers.
    pub async fn session(&self) -> SessionContext {
        self.session_with(self.options()).await
    }

    pub async fn session_with(&self, options: CoordinatorOptions) -> SessionContext {
        self.planning(options, ConnectionConfig::new(BROKERS)).await
    }

    pub async fn session_over(&self, connection: ConnectionConfig) -> SessionContext {
        self.planning(self.options(), connection).await
    }

    async fn planning(
        &self,
        options: CoordinatorOptions,
        connection: ConnectionConfig,
    ) -> SessionContext {
        let coordinator = Coordinator::connect(options).await.unwrap();
        let builder = self.builder(connection);
        let builder = builder.extend(move |state| coordinator.apply(state));
        builder.build().unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.task.abort();
        }
    }
}
