//! `kafka-sql mcp`: the cluster for programs that ask in words, over standard input and output.

use clap::Args;
use datafusion_kafka::policy::Policy;
use datafusion_kafka_serve::mcp::{Limits, McpServer, serve_stdio};
use tokio::runtime::Runtime;

use crate::connection::{Connection, no_cluster};
use crate::failure::{Exit, Failure};
use crate::interrupt;

/// How much an answer may hold. What it may read is bounded by --max-scan-…, as in the interactive shell.
#[derive(Debug, Args)]
pub(crate) struct McpArgs {
    /// The most rows of an answer
    #[arg(long, value_name = "N", default_value_t = Limits::default().rows)]
    max_rows: usize,
    /// The most bytes of rows in an answer
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().bytes)]
    max_answer_bytes: usize,
}

/// Serves until the client leaves.
///
/// # Errors
/// When no cluster was named, or the client does not speak the protocol.
pub(crate) fn serve(
    runtime: &Runtime,
    args: &McpArgs,
    connection: &Connection,
) -> Result<(), Failure> {
    let mut connection = connection.clone().with_default_budget();
    if !connection.policy().is_restricted() {
        connection = connection.with_policy(Policy::restricted());
    }
    let config = connection.cluster().cloned().ok_or_else(no_cluster)?;
    let open = move || connection.session().connection(config.clone()).build();
    let limits = Limits {
        rows: args.max_rows,
        bytes: args.max_answer_bytes,
    };
    let server = McpServer::new(open, limits);
    interrupt::run(runtime, async move {
        let served = serve_stdio(server).await;
        served.map_err(|reason| Failure::new(Exit::Query, reason))
    })
}
