//! A worker: executes parts of plans that coordinators send.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use datafusion::execution::FunctionRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion_distributed::{DistributedExt, Worker as Engine, WorkerQueryContext};
use datafusion_kafka::scan::OwnConnections;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::{Error, Result};
use tokio::net::TcpListener;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::VERSION;
use crate::codec::TaskCodec;
use crate::link::{Channels, Link};
use crate::pieces::PieceWriter;
use crate::reports::Reports;
use crate::service::{Hello, ScansService};
use crate::settings;

/// How long a worker that is to end goes on for the statements that it has a part of.
const FINISH: Duration = Duration::from_secs(60);
/// How often it looks whether they are over.
const LOOK: Duration = Duration::from_millis(50);

/// A worker that is to be started.
#[derive(Debug, Default)]
#[must_use]
pub struct Worker {
    connections: OwnConnections,
    link: Link,
    rack: Option<String>,
    host: Option<String>,
    cores: Option<usize>,
    runtime: Option<Arc<RuntimeEnv>>,
    open: bool,
}

impl Worker {
    /// A worker with these connections.
    pub fn new(connections: OwnConnections) -> Self {
        Self {
            connections,
            ..Self::default()
        }
    }

    /// Sets who may send plans, and the certificates.
    pub fn link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    /// Sets the rack, as brokers have it in `broker.rack`.
    pub fn rack(mut self, rack: Option<String>) -> Self {
        self.rack = rack;
        self
    }

    /// Sets the host as brokers on the same machine advertise it.
    pub fn host(mut self, host: Option<String>) -> Self {
        self.host = host;
        self
    }

    /// Sets how many streams each task gets; the machine's cores unless set.
    pub fn cores(mut self, cores: Option<usize>) -> Self {
        self.cores = cores;
        self
    }

    /// Sets the runtime, for example one with a bounded memory pool.
    pub fn runtime(mut self, runtime: Arc<RuntimeEnv>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Lets the worker listen beyond this machine although anybody may send it plans.
    pub fn open_to_all(mut self, open: bool) -> Self {
        self.open = open;
        self
    }

    /// Serves until `stop` is ready, and then for up to a minute those statements that it has a part of.
    ///
    /// # Errors
    /// [`Error::Config`] when it would listen beyond this machine without TLS and without a token or clients'
    /// certificates; and when certificates are of no use.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        let refused = |message: String| Error::config("listen", message);
        let address = listener
            .local_addr()
            .map_err(|e| refused(e.to_string()).because(e))?;
        if !address.ip().is_loopback() && !self.link.is_closed() && !self.open {
            return Err(refused(format!(
                "{address} is reached from other machines, and whoever reaches it may read every topic that the \
                 worker may read: give it a certificate, and a token or the authority of its clients"
            )));
        }
        let mut session = KafkaSessionBuilder::new();
        if let Some(runtime) = &self.runtime {
            session = session.runtime(Arc::clone(runtime));
        }
        let session = session.build()?;
        let functions = functions(&session.state());
        let reports = Arc::<Reports>::default();
        let host = self.host.clone();
        let host = host.unwrap_or_else(|| address.ip().to_string());
        let machine = format!("worker {host}:{}", address.port());
        let connections = Arc::new(self.connections);
        let codec = TaskCodec::receiving(connections, Arc::clone(&reports), machine);
        let writer = PieceWriter::new(codec.of_pieces(), session.task_ctx());
        let writer = Arc::new(writer);
        let codec = Arc::new(codec);
        // Workers send each other rows.
        let channels = Channels::new(self.link.clone());
        let session = move |context: WorkerQueryContext| {
            let (functions, codec) = (functions.clone(), Arc::clone(&codec));
            let channels = channels.clone();
            async move {
                let mut builder = context.builder;
                settings::take(builder.config().get_or_insert_default(), &context.headers)?;
                let mut state = builder
                    .with_distributed_user_codec_arc(codec)
                    .with_distributed_channel_resolver(channels)
                    .build();
                for function in functions {
                    state.register_udf(function)?;
                }
                Ok(state)
            }
        };
        let mut engine = Engine::from_session_builder(session).with_version(VERSION);
        if let Some(runtime) = self.runtime {
            engine = engine.with_runtime_env(runtime);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let scans = ScansService {
            hello: Hello {
                version: VERSION.to_owned(),
                rack: self.rack,
                host: self.host.unwrap_or_default(),
                cores: self.cores.unwrap_or(cores),
                token: self.link.token.is_some(),
                leaving: false,
            },
            reports: Arc::clone(&reports),
            leaving: Arc::default(),
            writer: Arc::clone(&writer),
        };
        let leaving = Arc::clone(&scans.leaving);
        let stop = async move {
            stop.await;
            leaving.store(true, Ordering::Relaxed);
            let finished = async {
                while !reports.is_idle() || !writer.is_idle() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            // What is not over by then is lost, as with a worker that dies.
            let _ = tokio::time::timeout(FINISH, finished).await;
        };
        let unusable = |e: tonic::transport::Error| {
            Error::config("tls", format!("the worker cannot serve: {e}")).because(e)
        };
        let mut server = Server::builder();
        if let Some(tls) = self.link.server() {
            server = server.tls_config(tls).map_err(unusable)?;
        }
        let link = self.link;
        let check = InterceptorLayer::new(move |request| link.check(request));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = server
            .layer(check)
            .add_service(scans)
            .add_service(engine.into_worker_server())
            .serve_with_incoming_shutdown(incoming, stop);
        served.await.map_err(unusable)
    }
}

/// The functions that sessions for Kafka have beside DataFusion's, or in place of them. Those replace aliases too,
/// such as `length`: registering all functions of a session in any order would bring DataFusion's back.
fn functions(session: &SessionState) -> Vec<Arc<ScalarUDF>> {
    let plain = SessionStateBuilder::new()
        .with_config(session.config().clone())
        .with_default_features()
        .build();
    let all = session.scalar_functions().iter();
    let own = all.filter(|(name, function)| plain.scalar_functions().get(*name) != Some(*function));
    own.map(|(_, function)| Arc::clone(function)).collect()
}
