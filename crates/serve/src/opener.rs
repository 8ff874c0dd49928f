//! What the service needs of the program that it is a part of.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::context::SessionContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion_kafka::driver::MicroBatchBuilder;

use crate::config::{Connection, JobConfig};
use crate::problem::Problem;

/// Opens sessions and plans job files.
#[async_trait]
pub trait Opener: fmt::Debug + Send + Sync + 'static {
    /// A session over a connection, in a pool of memory that all share. The cluster is not asked yet.
    ///
    /// # Errors
    /// When the settings do not fit together.
    fn session(
        &self,
        connection: &Connection,
        runtime: &Arc<RuntimeEnv>,
        access: Access,
    ) -> Result<SessionContext, Problem>;

    /// Checks a job's file without asking a cluster.
    ///
    /// # Errors
    /// When it cannot be read or is no job.
    fn check(&self, job: &JobConfig) -> Result<(), Problem>;

    /// Plans a job's file; the caller adds the trigger, the limits and the checkpoint.
    ///
    /// # Errors
    /// When a statement is wrong, or the cluster does not answer.
    async fn job(
        &self,
        name: &str,
        job: &JobConfig,
        connection: &Connection,
        runtime: &Arc<RuntimeEnv>,
    ) -> Result<MicroBatchBuilder, Problem>;

    /// Runs the statements of a file that make tables and views.
    ///
    /// # Errors
    /// When one fails, with its line, or is something else.
    async fn define(&self, context: &SessionContext, file: &Path) -> Result<(), Problem>;
}

/// What the statements of a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// All that the process may do: the operator wrote them.
    Operator,
    /// Read the cluster, and nothing else: no files, no other hosts. Whoever takes statements from others refuses
    /// those that change something, too.
    Reader,
}
