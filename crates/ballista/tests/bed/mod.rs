//! A cluster of Ballista on ports of its own, over a Kafka cluster in memory.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ballista_executor::executor_process::ExecutorProcessConfig;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_kafka::client::memory::MemoryCluster;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::scan::OwnConnections;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka_ballista::{
    Ballista, executor_config, scheduler_config, serve_executor, serve_scheduler,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::engines::{self, BROKERS};

pub struct Bed {
    pub cluster: MemoryCluster,
    pub scheduler: String,
    executors: Vec<Executor>,
}

/// An executor with a runtime of its own, which it loses when it is killed.
struct Executor {
    runtime: Option<Runtime>,
    work_dir: TempDir,
}

impl Bed {
    /// Executors with so many virtual cores each. A busy executor gives a sign of life every five seconds.
    pub async fn new(executors: &[usize]) -> Self {
        Self::with_timeout(executors, 8).await
    }

    /// The same with a scheduler that takes an executor for lost after so many seconds.
    pub async fn with_timeout(executors: &[usize], timeout_seconds: u64) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheduler = listener.local_addr().unwrap().to_string();
        let mut config = scheduler_config();
        config.executor_timeout_seconds = timeout_seconds;
        config.no_executors_grace_period_seconds = 8;
        config.expire_dead_executor_interval_seconds = 1;
        tokio::spawn(async move { serve_scheduler(listener, config).await.unwrap() });
        let mut bed = Self {
            cluster: engines::cluster(),
            scheduler,
            executors: vec![],
        };
        for vcores in executors {
            bed.add(*vcores, |_| ());
        }
        bed
    }

    /// Starts an executor.
    pub fn add(&mut self, vcores: usize, with: impl FnOnce(&mut ExecutorProcessConfig)) {
        let own = OwnConnections::new([], engines::pool(&self.cluster));
        let mut config = executor_config(Arc::new(own)).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let work_dir = tempfile::tempdir().unwrap();
        let (_, port) = self.scheduler.rsplit_once(':').unwrap();
        config.scheduler_host = "127.0.0.1".to_owned();
        config.scheduler_port = port.parse().unwrap();
        config.scheduler_connect_timeout_seconds = 10;
        config.port = free.local_addr().unwrap().port();
        config.external_host = Some("127.0.0.1".to_owned());
        config.work_dir = Some(work_dir.path().to_str().unwrap().to_owned());
        config.vcores = vcores;
        with(&mut config);
        drop(free);
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async move { serve_executor(config).await.unwrap() });
        self.executors.push(Executor {
            runtime: Some(runtime),
            work_dir,
        });
    }

    /// Ends an executor as kill -9 does: nothing is said, and its rows are gone.
    pub fn kill(&mut self, executor: usize) {
        let executor = &mut self.executors[executor];
        executor.runtime.take().unwrap().shutdown_background();
        // Until the last of its threads writes no more.
        while std::fs::remove_dir_all(executor.work_dir.path()).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A session on this machine alone.
    pub fn local(&self) -> SessionContext {
        self.builder(ConnectionConfig::new(BROKERS))
            .build()
            .unwrap()
    }

    pub fn builder(&self, connection: ConnectionConfig) -> KafkaSessionBuilder {
        KafkaSessionBuilder::new()
            .connection(connection)
            .pool(engines::pool(&self.cluster))
            .config(SessionConfig::new().with_target_partitions(3))
    }

    /// A session that plans for the cluster, in so many partitions.
    pub fn session(&self, partitions: usize) -> SessionContext {
        let cluster = Ballista::new(&self.scheduler).partitions(partitions);
        let builder = self.builder(ConnectionConfig::new(BROKERS));
        let builder = builder.extend(move |state| cluster.apply(state));
        builder.build().unwrap()
    }

    /// Waits until this holds of the cluster.
    pub async fn until(&self, what: &str, holds: impl Fn(&MemoryCluster) -> bool) {
        for _ in 0..600 {
            if holds(&self.cluster) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: never");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for executor in &mut self.executors {
            if let Some(runtime) = executor.runtime.take() {
                runtime.shutdown_background();
            }
        }
    }
}

/// Passes connections on, and keeps what went over them.
pub fn tapped(to: &str) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (to, tap) = (to.to_owned(), Arc::<Mutex<Vec<u8>>>::default());
    let kept = Arc::clone(&tap);
    std::thread::spawn(move || {
        for from in listener.incoming() {
            let (from, to) = (from.unwrap(), TcpStream::connect(&to).unwrap());
            let ways = [
                (from.try_clone().unwrap(), to.try_clone().unwrap()),
                (to, from),
            ];
            for (mut from, mut to) in ways {
                let tap = Arc::clone(&tap);
                std::thread::spawn(move || {
                    let mut bytes = vec![0; 1 << 16];
                    while let Ok(read @ 1..) = from.read(&mut bytes) {
                        tap.lock().unwrap().extend_from_slice(&bytes[..read]);
                        if to.write_all(&bytes[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    (address, kept)
}
