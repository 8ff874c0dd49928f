//! A cluster and a sink in memory, and a service over them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::execution::context::SessionContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion_kafka::client::memory::{MemoryCluster, Record};
use datafusion_kafka::driver::{MicroBatch, MicroBatchBuilder};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::MemorySink;
use datafusion_kafka::table::KafkaTable;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Config, Connection, JobConfig};
use crate::job::now_ms;
use crate::notify::Notifier;
use crate::opener::{Access, Opener};
use crate::problem::Problem;
use crate::service::Service;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The topic `orders`, the sink of the job `bad` and that of all others, and a folder for the file of a service.
pub(crate) struct World {
    pub(crate) cluster: MemoryCluster,
    pub(crate) sink: MemorySink,
    sink_of_bad: MemorySink,
    pub(crate) folder: TempDir,
}

#[derive(Debug)]
struct InMemory {
    cluster: MemoryCluster,
    sink: MemorySink,
    sink_of_bad: MemorySink,
}

/// What a job's file has: the one statement that jobs here can do.
pub(crate) const INSERT: &str =
    "INSERT INTO out SELECT partition, \"offset\", CAST(value AS VARCHAR) AS value FROM orders";

impl World {
    pub(crate) fn new() -> Self {
        let cluster = MemoryCluster::new();
        cluster.create_topic("orders", 2).unwrap();
        Self {
            cluster,
            sink: MemorySink::new("out"),
            sink_of_bad: MemorySink::new("out of bad"),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn produce(&self, partition: i32, records: usize) {
        for n in 0..records {
            let record = Record::new(format!("{n}")).with_timestamp_ms(now_ms());
            self.cluster.append("orders", partition, record).unwrap();
        }
    }

    /// The rows that the sinks hold.
    pub(crate) fn rows(&self) -> usize {
        let sinks = [&self.sink, &self.sink_of_bad];
        let rows = sinks.iter().flat_map(|sink| sink.rows());
        rows.map(|rows| rows.num_rows()).sum()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Writes the file of the service: a connection, short pauses, and `more`.
    pub(crate) fn configure(&self, more: &str) {
        let text = format!(
            "[connections.main]\n\"bootstrap.servers\" = \"memory:1\"\n\
             [service]\nfirst_pause = \"10ms\"\nlongest_pause = \"20ms\"\n{more}"
        );
        self.write("serve.toml", &text);
    }

    pub(crate) fn service(&self) -> Arc<Service> {
        let path = self.folder.path().join("serve.toml");
        let config = Config::read(&path).unwrap();
        let opener = InMemory {
            cluster: self.cluster.clone(),
            sink: self.sink.clone(),
            sink_of_bad: self.sink_of_bad.clone(),
        };
        Service::new(path, config, Arc::new(opener)).unwrap()
    }

    /// A service that runs until it is closed, and its end.
    pub(crate) fn run(&self) -> (Arc<Service>, tokio::task::JoinHandle<Result<(), Problem>>) {
        let service = self.service();
        let running = Arc::clone(&service);
        let ended = tokio::spawn(async move {
            let (_told, reload) = tokio::sync::watch::channel(());
            running.run(&Notifier::of_environment(), reload).await
        });
        (service, ended)
    }
}

/// Makes a certificate for `localhost`, as `cert.pem` and `key.pem` in a folder.
pub(crate) fn certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// Speaks TLS as a client that trusts one certificate.
pub(crate) async fn tls(
    tcp: TcpStream,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(client))
        .connect(name, tcp)
        .await
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}

#[async_trait]
impl Opener for InMemory {
    fn session(
        &self,
        connection: &Connection,
        runtime: &Arc<RuntimeEnv>,
        _access: Access,
    ) -> Result<SessionContext, Problem> {
        let context = KafkaSessionBuilder::new()
            .connection(connection.config.clone())
            .runtime(Arc::clone(runtime))
            .build()?;
        let table = KafkaTable::builder_with_client(Arc::new(self.cluster.client()));
        let table = table.topic("orders").range("start").build_lazy()?;
        context
            .register_table("orders", Arc::new(table))
            .map_err(|e| Problem::new(e.to_string()))?;
        Ok(context)
    }

    fn check(&self, _job: &JobConfig) -> Result<(), Problem> {
        Ok(())
    }

    async fn job(
        &self,
        name: &str,
        job: &JobConfig,
        connection: &Connection,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<MicroBatchBuilder, Problem> {
        let text = std::fs::read_to_string(&job.file)
            .map_err(|e| Problem::new(format!("{}: {e}", job.file.display())))?;
        assert!(!text.contains("PANIC"), "told to panic");
        let context = self.session(connection, runtime, Access::Operator)?;
        let builder = MicroBatch::builder(context, name).insert(text);
        let sink = match name {
            "bad" => &self.sink_of_bad,
            _ => &self.sink,
        };
        Ok(builder.sink("out", Arc::new(sink.clone()))?)
    }

    async fn define(&self, _context: &SessionContext, _file: &Path) -> Result<(), Problem> {
        Ok(())
    }
}
