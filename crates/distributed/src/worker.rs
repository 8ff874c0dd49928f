//! A worker: executes parts of plans that coordinators send.

use std::future::Future;
use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
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
use crate::reports::Reports;
use crate::service::{Hello, ScansService};

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

    /// Serves until `stop` is ready.
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
        let base = KafkaSessionBuilder::new().build()?.state();
        let reports = Arc::<Reports>::default();
        let codec = TaskCodec::receiving(Arc::new(self.connections), Arc::clone(&reports));
        let codec = Arc::new(codec);
        // Workers send each other rows.
        let channels = Channels::new(self.link.clone());
        let session = move |context: WorkerQueryContext| {
            let (base, codec) = (base.clone(), Arc::clone(&codec));
            let channels = channels.clone();
            async move {
                let functions = base.scalar_functions().values().cloned().collect();
                Ok(context
                    .builder
                    .with_scalar_functions(functions)
                    .with_distributed_user_codec_arc(codec)
                    .with_distributed_channel_resolver(channels)
                    .build())
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
            },
            reports,
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
