//! Queries and receipts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;
use serde_json::Value;

use super::Verb;
use super::model::Part;
use super::table::{same, values};
use super::world::{World, json, rows, session, text};
use crate::client::KafkaClient;
use crate::config::ConnectionConfig;
use crate::driver::create_index;
use crate::error::External as _;
use crate::index::Kind;
use crate::receipt::{Receipt, Verdict, with_checksums};
use crate::scan::{Connections, KafkaScanExec};
use crate::table::KafkaTable;

pub(super) async fn run(world: &World) -> Result<(), String> {
    world.cut();
    let context = session();
    let mut table = world.table(&world.cluster).await?;
    if world.cell.verb == Verb::Indexed {
        return indexed(world, table).await;
    }
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

/// An index of all columns that can have one, and a condition on one of them.
async fn indexed(world: &World, table: KafkaTable) -> Result<(), String> {
    let schema = table.schema();
    let fields = schema.fields().iter();
    let fields: Vec<_> = fields
        .filter(|field| Kind::of(field.data_type()).is_some())
        .filter(|field| field.name() != "_error")
        .collect();
    let names = fields.iter().map(|field| format!("\"{}\"", field.name()));
    let names: Vec<String> = names.collect();
    let context = session();
    let registered = context.register_table("t", Arc::new(table.clone()));
    registered.map_err(text)?;
    let place = world.text("index");
    let create = format!(
        "CREATE INDEX ON t ({}) WITH (location = '{place}')",
        names.join(", ")
    );
    create_index(&context, &create).await.map_err(text)?;

    let table = world.builder(&world.cluster, true)?.index(&place);
    let table = world.built(table).await?;
    context.deregister_table("t").map_err(text)?;
    context.register_table("t", Arc::new(table)).map_err(text)?;
    let mut expected = world.cell.expected();
    let values = fields.iter().find_map(|field| {
        let (_, _, row) = expected.first()?;
        let value = row.get(field.name())?.clone();
        let literal = match (field.data_type(), &value) {
            (DataType::BinaryView | DataType::Binary, Value::String(hex)) => format!("X'{hex}'"),
            (_, Value::String(text)) => format!("'{}'", text.replace('\'', "''")),
            (_, Value::Number(number)) => number.to_string(),
            _ => return None,
        };
        let is_coordinate = ["partition", "offset"].contains(&field.name().as_str());
        (!is_coordinate).then(|| (field.name().clone(), value, literal))
    });
    let condition = match values {
        Some((name, value, literal)) => {
            expected.retain(|(_, _, row)| row[&name] == value);
            format!("\"{name}\" = {literal}")
        }
        // Of the part without a format.
        None => match world.cell.part {
            Part::Key => "value = 'other'".to_owned(),
            Part::Value => "key = 'other'".to_owned(),
        },
    };
    let sql = format!(
        "SELECT {} FROM t WHERE {condition} ORDER BY partition, \"offset\"",
        world.columns()
    );
    let plan = context.sql(&sql).await.map_err(text)?;
    let plan = plan.create_physical_plan().await.map_err(text)?;
    let plan = displayable(plan.as_ref()).indent(false).to_string();
    if !plan.contains("index={") {
        return Err(format!("the index is not used: {plan}"));
    }
    same(
        &rows(&context, &sql).await?,
        &super::table::values(&expected),
    )
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
