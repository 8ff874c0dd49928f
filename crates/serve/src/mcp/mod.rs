//! The Model Context Protocol: a cluster for programs that ask in words.
//!
//! Tools list and describe topics, search, query, and read records by coordinates. Each answer says what it was allowed to
//! read, what it has read, whether it is complete, and has a receipt that `kafka-sql rerun` checks ([`answer`]). A session
//! is opened for each call. It should be [restricted](datafusion_kafka::policy::Policy::restricted); whatever it is, only
//! statements that read are run.

mod answer;
mod statement;
mod tools;

use std::fmt;
use std::sync::Arc;

use datafusion::execution::context::SessionContext;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::transport::IntoTransport;
use rmcp::{RoleServer, ServerHandler, ServiceExt, tool_handler};

/// What a program is told when it connects.
const INSTRUCTIONS: &str = "Reads an Apache Kafka cluster by SQL over exact offset ranges. It changes nothing. Begin with \
    list_topics and describe_topic. An answer with \"complete\": false does not have all rows: \"stopped_by\" says why; narrow \
    the range or the condition. Never conclude that a record is absent from an answer that is not complete. \"masked\" names \
    what the connection hides: such values are NULL, hashes, or shown in part, and conditions see them so.";

/// Opens the session of a call.
pub type OpenSession = dyn Fn() -> datafusion_kafka::Result<SessionContext> + Send + Sync;

/// How much an answer may hold; what it may read is the session's [budget](datafusion_kafka::config::ScanBudget).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most rows, and how many a call gets that names no other number.
    pub rows: usize,
    /// The most bytes of rows as JSON.
    pub bytes: usize,
}

impl Default for Limits {
    /// A page of text for a model: 200 rows, 256 KiB.
    fn default() -> Self {
        Self {
            rows: 200,
            bytes: 256 << 10,
        }
    }
}

/// Serves the tools.
#[derive(Clone)]
pub struct McpServer {
    open: Arc<OpenSession>,
    limits: Limits,
    tool_router: ToolRouter<Self>,
}

impl McpServer {
    /// A server of these sessions.
    pub fn new(
        open: impl Fn() -> datafusion_kafka::Result<SessionContext> + Send + Sync + 'static,
        limits: Limits,
    ) -> Self {
        Self {
            open: Arc::new(open),
            limits,
            tool_router: Self::tools(),
        }
    }

    /// Serves one client, until it leaves.
    ///
    /// # Errors
    /// When the client does not speak the protocol, or the process cannot go on.
    pub async fn serve<T, E, A>(self, transport: T) -> Result<(), String>
    where
        T: IntoTransport<RoleServer, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let serving = ServiceExt::serve(self, transport).await;
        let serving = serving
            .map_err(|error| format!("the client does not begin as the protocol says: {error}"))?;
        let ended = serving.waiting().await;
        ended
            .map(drop)
            .map_err(|error| format!("serving failed: {error}"))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        let name = Implementation::new("kafka-sql", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(name.with_title("Kafka by SQL"))
            .with_instructions(INSTRUCTIONS)
    }
}

impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpServer")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Serves the client on standard input and output, until it leaves.
///
/// # Errors
/// As [`McpServer::serve`].
pub async fn serve_stdio(server: McpServer) -> Result<(), String> {
    server.serve(rmcp::transport::stdio()).await
}

#[cfg(test)]
mod tests;
