//! The client of a cluster.

use std::sync::Arc;

use ballista_core::extension::SessionConfigExt;
use ballista_core::optimizer::with_ballista_optimizer_rules;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion_kafka::Result;
use datafusion_kafka::scan::NoOrder;

use crate::job::connect;
use crate::rule::OnBallista;

/// A cluster that statements run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ballista {
    pub(crate) scheduler: String,
    partitions: usize,
}

impl Ballista {
    /// The cluster with this scheduler, `host:port`.
    pub fn new(scheduler: impl Into<String>) -> Self {
        Self {
            scheduler: scheduler.into(),
            partitions: 16,
        }
    }

    /// Sets into how many partitions plans are cut, which are the most tasks of a stage that run at once; 16 unless
    /// set.
    #[must_use]
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Connects to the scheduler once, to see whether it is there.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn check(&self) -> Result<()> {
        connect(&self.scheduler).await.map(|_| ())
    }

    /// The session plans for the cluster.
    pub fn apply(&self, mut builder: SessionStateBuilder) -> SessionStateBuilder {
        let config = builder.config().take().unwrap_or_default();
        let mut config = config
            .upgrade_for_ballista()
            .with_target_partitions(self.partitions);
        config.set_extension(Arc::new(NoOrder));
        let rules = builder.optimizer().take().unwrap_or_default().rules;
        builder
            .with_config(config)
            .with_optimizer_rules(with_ballista_optimizer_rules(&rules))
            .with_physical_optimizer_rule(Arc::new(OnBallista::new(self.clone())))
    }
}
