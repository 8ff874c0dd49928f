//! What scheduler and executors start with.

use std::sync::Arc;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::error::{BallistaError, Result};
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::{create_scheduler, start_grpc_service_with_listener};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionConfig;
use datafusion_kafka::external;
use datafusion_kafka::scan::Connections;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::net::TcpListener;

use crate::codec::KafkaCodec;

/// The settings of a scheduler that knows scans of Kafka. Executors ask it for tasks, and one that has not asked for
/// half a minute is lost.
pub fn scheduler_config() -> SchedulerConfig {
    SchedulerConfig {
        scheduling_policy: TaskSchedulingPolicy::PullStaged,
        override_physical_codec: Some(Arc::new(KafkaCodec::new())),
        override_session_builder: Some(Arc::new(session)),
        executor_timeout_seconds: 30,
        expire_dead_executor_interval_seconds: 5,
        no_executors_grace_period_seconds: 30,
        ..SchedulerConfig::default()
    }
}

/// Serves as the scheduler of a cluster until the future is dropped.
///
/// # Errors
/// When the scheduler cannot start.
pub async fn serve_scheduler(listener: TcpListener, config: SchedulerConfig) -> Result<()> {
    config.validate()?;
    let cluster = BallistaCluster::new_from_config(&config).await?;
    let scheduler =
        create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::new(config)).await?;
    start_grpc_service_with_listener(listener, scheduler).await
}

/// The settings of an executor that reads scans of Kafka with these connections.
///
/// # Errors
/// When the functions of its sessions cannot be registered.
pub fn executor_config(connections: Arc<dyn Connections>) -> Result<ExecutorProcessConfig> {
    let session = session(SessionConfig::new()).map_err(BallistaError::from)?;
    Ok(ExecutorProcessConfig {
        task_scheduling_policy: TaskSchedulingPolicy::PullStaged,
        override_physical_codec: Some(Arc::new(KafkaCodec::reading(connections))),
        override_function_registry: Some(Arc::new(BallistaFunctionRegistry::from(&session))),
        ..ExecutorProcessConfig::default()
    })
}

/// Serves as an executor until the process is told to end.
///
/// # Errors
/// When the executor cannot listen, or reaches no scheduler.
pub async fn serve_executor(config: ExecutorProcessConfig) -> Result<()> {
    start_executor_process(Arc::new(config)).await
}

/// A session with the functions of ours.
fn session(config: SessionConfig) -> DataFusionResult<SessionState> {
    let session = KafkaSessionBuilder::new().config(config).build();
    Ok(session.map_err(external)?.state())
}
