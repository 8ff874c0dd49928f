//! Queries and receipts.

use std::sync::Arc;

use datafusion::physical_plan::collect;

use super::Verb;
use super::table::{same, values};
use super::world::{World, rows, session, text};
use crate::client::KafkaClient;
use crate::receipt::{Receipt, Verdict, with_checksums};

pub(super) async fn run(world: &World) -> Result<(), String> {
    world.cut();
    let context = session();
    let table = Arc::new(world.table(&world.cluster).await?);
    context.register_table("t", table).map_err(text)?;
    let columns = world.columns();
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
