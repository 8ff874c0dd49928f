//! A cluster in memory, and workers on ports of their own.

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

use crate::engines::{self, BROKERS};

pub struct Bed {
    pub cluster: MemoryCluster,
    pub workers: Vec<RunningWorker>,
}

pub struct RunningWorker {
    pub address: String,
    pub task: JoinHandle<datafusion_kafka::Result<()>>,
}

impl Bed {
    /// Topics `orders` of six partitions, `customers` of two and `empty`, and as many workers.
    pub async fn new(workers: usize) -> Self {
        let mut bed = Self {
            cluster: engines::cluster(),
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
        self.workers.push(RunningWorker { address, task });
        self.workers.last().unwrap()
    }

    pub fn options(&self) -> CoordinatorOptions {
        let all = self.workers.iter().map(|worker| worker.address.clone());
        let mut options = CoordinatorOptions::new(Workers::Listed(all.collect()));
        // Each scan gets all workers.
        options.offsets_per_task = 1;
        options
    }

    /// A session on this machine alone.
    pub fn local(&self) -> SessionContext {
        self.builder().build().unwrap()
    }

    fn builder(&self) -> KafkaSessionBuilder {
        KafkaSessionBuilder::new()
            .connection(ConnectionConfig::new(BROKERS))
            .pool(self.pool())
            .config(SessionConfig::new().with_target_partitions(3))
    }

    /// A session that plans for the workers.
    pub async fn session(&self) -> SessionContext {
        self.session_with(self.options()).await
    }

    pub async fn session_with(&self, options: CoordinatorOptions) -> SessionContext {
        let coordinator = Coordinator::connect(options).await.unwrap();
        let builder = self.builder();
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
