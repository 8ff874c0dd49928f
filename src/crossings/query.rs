//! Queries and receipts.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;

use super::Verb;
use super::table::{same, values};
use super::world::{World, json, rows, session, text};
use crate::client::KafkaClient;
use crate::config::ConnectionConfig;
use crate::error::External as _;
use crate::receipt::{Receipt, Verdict, with_checksums};
use crate::scan::{Connections, KafkaScanExec};

pub(super) async fn run(world: &World) -> Result<(), String> {
    world.cut();
    let context = session();
    let mut table = world.table(&world.cluster).await?;
    if world.cell.verb == Verb::Elsewhere {
        table = table.with_connection(world.connection()?);
    }
    let table = Arc::new(table);
    context.register_table("t", table).map_err(text)?;
    let columns = world.columns();
    if world.cell.verb == Verb::Where {
        return conditions(world, &context, &columns).await;
    }
    let mut expected = world.cell.expected();
    let sql = match world.cell.verb {
        Verb::SelfJoin => {
            let columns = world.columns_of("a.");
            format!(
                "SELECT {columns} FROM t a JOIN t b ON a.partition = b.partition AND a.\"offset\" = b.\"offset\" \
                 ORDER BY 1, 2"
            )
        }
        Verb::OrderDescLimit => {
            expected.retain(|(partition, _, _)| *partition == 0);
            expected.reverse();
            expected.truncate(3);
            format!("SELECT {columns} FROM t WHERE partition = 0 ORDER BY \"offset\" DESC LIMIT 3")
        }
        _ => format!("SELECT {columns} FROM t ORDER BY partition, \"offset\""),
    };
    if world.cell.verb == Verb::Elsewhere {
        let frame = context.sql(&sql).await.map_err(text)?;
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await.map_err(text)?;
        let plan = elsewhere(world, plan).map_err(text)?;
        let found = collect(plan, task).await.map_err(text)?;
        return same(&json(&found)?, &values(&expected));
    }
    if world.cell.verb != Verb::ReceiptRerun {
        return same(&rows(&context, &sql).await?, &values(&expected));
    }
    let frame = context.sql(&sql).await.map_err(text)?;
    let task = Arc::new(with_checksums(frame.task_ctx()));
    let plan = frame.create_physical_plan().await.map_err(text)?;
    collect(Arc::clone(&plan), task).await.map_err(text)?;
    let mut receipt = Receipt::new();
    receipt.add(&sql, &plan).map_err(text)?;
    let receipt: Receipt = receipt.to_json().parse().map_err(text)?;
    for (cluster, expected) in [
        (world.cluster.clone(), Verdict::Identical),
        (world.changed(), Verdict::Changed),
    ] {
        let client: Arc<dyn KafkaClient> = Arc::new(cluster.client());
        let found = receipt.rerun(&client).await.map_err(text)?.verdict();
        if found != expected {
            return Err(format!("the receipt is {found:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

async fn conditions(world: &World, context: &SessionContext, columns: &str) -> Result<(), String> {
    let all = values(&world.cell.expected());
    for push_down in [true, false] {
        let set = format!("SET kafka.push_down = {push_down}");
        rows(context, &set).await?;
        for (condition, places) in world.cell.conditions() {
            let sql =
                format!("SELECT {columns} FROM t WHERE {condition} ORDER BY partition, \"offset\"");
            let found = rows(context, &sql).await?;
            let expected = places.iter().map(|at| all[*at].clone());
            let same = same(&found, &expected.collect::<Vec<_>>());
            same.map_err(|e| format!("{condition}, push_down = {push_down}: {e}"))?;
        }
    }
    Ok(())
}

/// The plan with scans that came as bytes, in smaller parts than they were planned in.
fn elsewhere(
    world: &World,
    plan: Arc<dyn ExecutionPlan>,
) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let sent = plan.transform_up(|node| {
        let Some(scan) = node.downcast_ref::<KafkaScanExec>() else {
            return Ok(Transformed::no(node));
        };
        let parts = scan.of_pieces(scan.pieces(8), scan.ranges().len())?;
        let bytes = parts.encode(false).external()?;
        let sent = KafkaScanExec::decode(&bytes, world).external()?;
        let conditions = parts.conditions().to_vec();
        let scan = sent.with_conditions(conditions).external()?;
        Ok(Transformed::yes(Arc::new(scan) as Arc<dyn ExecutionPlan>))
    });
    sent.map(|sent| sent.data)
}

/// Another machine, which knows the brokers and the registry.
impl Connections for World {
    fn connection(
        &self,
        _name: &str,
        public: &BTreeMap<String, String>,
        complete: bool,
    ) -> crate::Result<ConnectionConfig> {
        assert!(complete);
        let mut config = ConnectionConfig::empty();
        for (key, value) in public {
            config.set(key, value)?;
        }
        Ok(config)
    }

    fn client(&self, _config: &ConnectionConfig) -> crate::Result<Arc<dyn KafkaClient>> {
        Ok(Arc::new(self.cluster.client()))
    }
}
