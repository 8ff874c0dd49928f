//! How coordinator and workers talk to each other: TLS, and who may.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use datafusion_distributed::{ChannelResolver, WorkerChannel};
use datafusion_kafka::{Error, Result, external};
use sha2::{Digest, Sha256};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig,
};
use tonic::{Request, Status};
use tower::ServiceExt;
use url::Url;

/// How long a connection to a worker may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often an open connection is asked whether the worker is alive, and how long the answer may take.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
const ALIVE_WITHIN: Duration = Duration::from_secs(10);

/// What both sides must know. It is never printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token of visible ASCII characters, without the white space around it.
    ///
    /// # Errors
    /// [`Error::Config`] when it is empty or has other characters.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::config(
                "token",
                "expected visible ASCII characters, and at least one",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn header(&self) -> Result<MetadataValue<Ascii>> {
        let header = format!("Bearer {}", self.0).parse();
        header.map_err(|_| Error::config("token", "it cannot be sent"))
    }

    /// Whether a request has it, without telling by the time it takes how much of it is right.
    fn is_in(&self, request: &Request<()>) -> bool {
        let sent = request.metadata().get("authorization");
        let sent = sent.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let digest = |text: &str| Sha256::digest(text.as_bytes());
        sent.is_some_and(|sent| digest(sent) == digest(&self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The token and the certificates of one side.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// What each request must bear.
    pub token: Option<Token>,
    /// The certificates, as PEM, that the other side's must come from; on the coordinator it asks for TLS.
    pub ca: Option<Vec<u8>>,
    /// The own certificate and its key, as PEM. A worker needs them for TLS.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that the certificates of workers are for, where it is not the host of their addresses: in
    /// Kubernetes addresses are numbers that change.
    pub name: Option<String>,
}

impl Link {
    /// Reads a file of PEM, and says which it was if it cannot be read.
    ///
    /// # Errors
    /// [`Error::Config`] when it cannot be read.
    pub fn pem(option: &str, path: &Path) -> Result<Vec<u8>> {
        std::fs::read(path)
            .map_err(|e| Error::config(option, format!("{}: {e}", path.display())).because(e))
    }

    /// Whether nobody without a secret gets in: with a token over TLS, or with a client's certificate.
    pub fn is_closed(&self) -> bool {
        self.identity.is_some() && (self.token.is_some() || self.ca.is_some())
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }

    pub(crate) fn server(&self) -> Option<ServerTlsConfig> {
        let (certificate, key) = self.identity.as_ref()?;
        let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        if let Some(ca) = &self.ca {
            tls = tls.client_ca_root(Certificate::from_pem(ca));
        }
        Some(tls)
    }

    fn client(&self) -> Option<ClientTlsConfig> {
        let ca = self.ca.as_ref()?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.name {
            tls = tls.domain_name(name);
        }
        Some(tls)
    }

    /// Refuses a request without the token.
    pub(crate) fn check(&self, request: Request<()>) -> std::result::Result<Request<()>, Status> {
        match &self.token {
            Some(token) if !token.is_in(&request) => Err(Status::unauthenticated(
                "the worker asks for a token, and the request has another one or none",
            )),
            _ => Ok(request),
        }
    }
}

/// Connections to workers, which stay open.
#[derive(Clone)]
pub(crate) struct Channels {
    link: Link,
    open: Arc<Mutex<HashMap<Url, BoxCloneSyncChannel>>>,
}

impl Channels {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            link,
            open: Arc::default(),
        }
    }

    /// The connection to a worker, which is made when it is used.
    pub(crate) fn get(&self, worker: &Url) -> Result<BoxCloneSyncChannel> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = open.get(worker) {
            return Ok(channel.clone());
        }
        let refused = |e: tonic::transport::Error| {
            Error::config("workers", format!("{worker}: {e}")).because(e)
        };
        let mut endpoint = Endpoint::from_shared(worker.to_string()).map_err(refused)?;
        endpoint = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_WITHIN);
        if let Some(tls) = self.link.client() {
            endpoint = endpoint.tls_config(tls).map_err(refused)?;
        }
        let channel: Channel = endpoint.connect_lazy();
        let header = self.link.token.as_ref().map(Token::header).transpose()?;
        let channel = channel.map_request(move |mut request: http::Request<tonic::body::Body>| {
            if let Some(header) = &header {
                // Ascii metadata is a header value.
                if let Ok(value) = http::HeaderValue::from_bytes(header.as_encoded_bytes()) {
                    request.headers_mut().insert("authorization", value);
                }
            }
            request
        });
        let channel = BoxCloneSyncChannel::new(channel);
        open.insert(worker.clone(), channel.clone());
        Ok(channel)
    }
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(
        &self,
        url: &Url,
    ) -> std::result::Result<Box<dyn WorkerChannel>, DataFusionError> {
        let channel = self.get(url);
        channel.map(create_worker_client).map_err(external)
    }
}
