//! The table functions `kafka(…)`, `kafka_offsets(…)` and `kafka_topics()`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int32Builder, Int64Array, ListBuilder, RecordBatch,
    StringViewArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::options::TableOptions;
use super::resolve;
use super::{KafkaTable, KafkaTableBuilder};
use crate::client::{ClientPool, KafkaClient, PartitionDescription, TopicSelection};
use crate::config::{self, ConnectionConfig};
use crate::error::{Error, External as _, Result};
use crate::range::{IsolationLevel, LogBounds, RangeSpec, TopicPartition};

type DataFusionResult<T> = datafusion::error::Result<T>;

/// The connection that functions use unless their options name another.
#[derive(Debug, Clone, Default)]
struct Defaults {
    pool: Option<ClientPool>,
    connection: Option<ConnectionConfig>,
}

impl Defaults {
    fn builder(&self, function: &str, args: &TableFunctionArgs) -> Result<KafkaTableBuilder> {
        let policy = crate::policy::of(args.session().config());
        let args = texts(function, args.exprs())?;
        let Some((location, rest)) = args.split_first() else {
            return Err(Error::invalid(format!(
                "{function}: expected {function}('topic' [, 'range'] [, 'option=value' …])"
            )));
        };
        let (range, rest) = match rest.split_first() {
            Some((range, rest)) if !is_option(range) => (Some(range.parse::<RangeSpec>()?), rest),
            _ => (None, rest),
        };
        let first = args.len() - rest.len() + 1;
        let mut options = TableOptions::of_statement(policy);
        for (i, option) in rest.iter().enumerate() {
            let Some((name, value)) = option.split_once('=') else {
                return Err(Error::invalid(format!(
                    "{function}: argument {} must be an option as 'name=value'",
                    first + i
                )));
            };
            let (name, value) = (name.trim(), value.trim());
            refuse_secret(function, name, value)?;
            options.set(name, value)?;
        }
        let builder = options.table(location, range, self.connection.as_ref())?;
        Ok(match &self.pool {
            Some(pool) => builder.pool(pool.clone()),
            None => builder,
        })
    }
}

/// Whether a text has the shape of `option.name=value`; a range's `=` follows a number.
fn is_option(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| {
        let name = name.trim();
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    })
}

/// A view keeps the text of its query, where everybody may read it.
fn refuse_secret(function: &str, name: &str, value: &str) -> Result<()> {
    let key = name.to_ascii_lowercase();
    let key = key.strip_prefix("kafka.").unwrap_or(&key);
    let hidden = value.starts_with("env:") || value.starts_with("file:");
    if config::hides(key, value) && !hidden {
        return Err(Error::config(
            name,
            format!(
                "a secret has no place in {function}(…), whose text views keep: write env:NAME or \
                 file:PATH, or set it for the session or in CREATE EXTERNAL TABLE"
            ),
        ));
    }
    Ok(())
}

/// Text arguments; whole numbers count as their text, so that `kafka('t', -100)` works.
fn texts(function: &str, exprs: &[Expr]) -> Result<Vec<String>> {
    exprs
        .iter()
        .enumerate()
        .map(|(i, expr)| {
            text(expr).ok_or_else(|| {
                Error::invalid(format!(
                    "{function}: argument {} must be a text literal",
                    i + 1
                ))
            })
        })
        .collect()
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) => match value {
            ScalarValue::Utf8(text)
            | ScalarValue::Utf8View(text)
            | ScalarValue::LargeUtf8(text) => text.clone(),
            ScalarValue::Int64(Some(n)) => Some(n.to_string()),
            _ => None,
        },
        Expr::Negative(inner) => match inner.as_ref() {
            Expr::Literal(ScalarValue::Int64(Some(n)), _) => Some(format!("-{n}")),
            _ => None,
        },
        _ => None,
    }
}

macro_rules! function {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default)]
        pub struct $name {
            defaults: Defaults,
        }

        impl $name {
            /// The connection where the call's options name no other.
            pub fn new(connection: Option<ConnectionConfig>, pool: Option<ClientPool>) -> Self {
                Self {
                    defaults: Defaults { pool, connection },
                }
            }
        }
    };
}

function! {
    /// `kafka('topic' [, 'range'] [, 'option=value' …])`: the records of a range.
    KafkaFunction
}

function! {
    /// `kafka_offsets('topic' [, 'range'] [, 'option=value' …])`: a row for each partition.
    ///
    /// Columns: topic, partition, start_offset and end_offset (of the range), log_start_offset,
    /// high_watermark, last_stable_offset (Int64), leader (Int32), replicas and isr
    /// (`List<Int32>`).
    KafkaOffsetsFunction
}

function! {
    /// `kafka_topics()`: a row for each topic that the principal may see.
    ///
    /// Columns: topic, topic_id (NULL where the broker gives none), partitions,
    /// replication_factor (Int32), internal (Boolean).
    KafkaTopicsFunction
}

/// The longest that a statement waits in planning for columns.
const LEARN_WITHIN: Duration = Duration::from_secs(120);

/// Learns the columns where they are not known. A table function is called within planning, which
/// cannot wait: a thread of its own does.
fn with_fields(builder: KafkaTableBuilder) -> Result<KafkaTableBuilder> {
    if !builder.lacks_fields() {
        return Ok(builder);
    }
    let failed = |reason: String| Error::Kafka {
        operation: "reading a sample".to_owned(),
        reason,
    };
    let pool = builder.own_pool();
    // Connections belong to the runtime that opened them.
    let alone = builder.pool(pool.empty());
    let learning = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let late = |_| {
            failed(format!(
                "no columns within {LEARN_WITHIN:?}: give them, or a schema"
            ))
        };
        let learned = async { tokio::time::timeout(LEARN_WITHIN, alone.learn_fields()).await };
        runtime.block_on(learned).map_err(late)?
    });
    let learned = learning
        .join()
        .map_err(|_| failed("the thread that reads it ended early".to_owned()))??;
    Ok(learned.pool(pool))
}

impl TableFunctionImpl for KafkaFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let builder = self.defaults.builder("kafka", &args).external()?;
        Ok(Arc::new(
            with_fields(builder).external()?.build_lazy().external()?,
        ))
    }
}

impl TableFunctionImpl for KafkaOffsetsFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let table = self
            .defaults
            .builder("kafka_offsets", &args)
            .external()?
            .build_lazy()
            .external()?;
        Ok(Arc::new(MetadataTable {
            schema: offsets_schema(),
            kind: Kind::Offsets(Box::new(table)),
        }))
    }
}

impl TableFunctionImpl for KafkaTopicsFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        if !args.exprs().is_empty() {
            return Err(Error::invalid("kafka_topics: expected no arguments").external());
        }
        let Some(config) = &self.defaults.connection else {
            return Err(Error::config(
                "kafka.bootstrap.servers",
                "kafka_topics() lists the session's cluster, and the session has none",
            )
            .external());
        };
        let pool = self
            .defaults
            .pool
            .clone()
            .unwrap_or_else(ClientPool::global);
        Ok(Arc::new(MetadataTable {
            schema: topics_schema(),
            kind: Kind::Topics(pool.client(config).external()?),
        }))
    }
}

/// A small table that is looked up when it is planned.
#[derive(Debug)]
struct MetadataTable {
    schema: SchemaRef,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Offsets(Box<KafkaTable>),
    Topics(Arc<dyn KafkaClient>),
}

#[async_trait]
impl TableProvider for MetadataTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&self.schema);
        let columns = match &self.kind {
            Kind::Offsets(table) => offsets(table, state).await.external()?,
            Kind::Topics(client) => topics(client.as_ref()).await.external()?,
        };
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let plan = MemorySourceConfig::try_new_exec(&[vec![batch]], schema, projection.cloned())?;
        Ok(plan)
    }
}

fn offsets_schema() -> SchemaRef {
    let brokers = || DataType::List(Arc::new(Field::new("item", DataType::Int32, true)));
    Arc::new(Schema::new(vec![
        Field::new("topic", DataType::Utf8View, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("start_offset", DataType::Int64, false),
        Field::new("end_offset", DataType::Int64, false),
        Field::new("log_start_offset", DataType::Int64, false),
        Field::new("high_watermark", DataType::Int64, false),
        Field::new("last_stable_offset", DataType::Int64, false),
        Field::new("leader", DataType::Int32, true),
        Field::new("replicas", brokers(), false),
        Field::new("isr", brokers(), false),
    ]))
}

fn topics_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("topic", DataType::Utf8View, false),
        Field::new("topic_id", DataType::Utf8View, true),
        Field::new("partitions", DataType::Int32, false),
        Field::new("replication_factor", DataType::Int32, false),
        Field::new("internal", DataType::Boolean, false),
    ]))
}

fn int32(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

async fn offsets(table: &KafkaTable, state: &dyn Session) -> Result<Vec<ArrayRef>> {
    let snapshot = table.reading.statement_snapshot(state).await?;
    let client = table.client().as_ref();
    let names: Vec<Arc<str>> = snapshot
        .topics()
        .iter()
        .map(|t| Arc::clone(&t.topic))
        .collect();
    let cluster = client.describe(TopicSelection::Named(&names)).await?;
    let partitions: Vec<_> = snapshot
        .ranges()
        .iter()
        .map(|r| r.range.topic_partition())
        .collect();
    let stable = resolve::log_bounds(client, &partitions, IsolationLevel::ReadCommitted).await?;
    let high = resolve::log_bounds(client, &partitions, IsolationLevel::ReadUncommitted).await?;

    let known = cluster.topics.iter().flat_map(|t| {
        let partitions = t.partitions.iter();
        partitions.map(|d| (TopicPartition::new(Arc::clone(&t.name), d.partition), d))
    });
    let known: BTreeMap<TopicPartition, &PartitionDescription> = known.collect();
    let described: Vec<Option<&PartitionDescription>> =
        partitions.iter().map(|p| known.get(p).copied()).collect();
    let brokers = |of: fn(&PartitionDescription) -> &Vec<i32>| {
        let mut list = ListBuilder::new(Int32Builder::new());
        for partition in &described {
            list.append_value(partition.map_or(&vec![], of).iter().map(|id| Some(*id)));
        }
        list.finish()
    };
    let ranges = || snapshot.ranges().iter();
    let ends = |bounds: &BTreeMap<TopicPartition, LogBounds>| {
        let ends = partitions
            .iter()
            .map(|p| bounds.get(p).map_or(0, |b| b.end));
        Int64Array::from_iter_values(ends)
    };
    let topics: StringViewArray = partitions.iter().map(|p| Some(p.topic.as_ref())).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(topics),
        Arc::new(Int32Array::from_iter_values(
            partitions.iter().map(|p| p.partition),
        )),
        Arc::new(Int64Array::from_iter_values(
            ranges().map(|r| r.range.start()),
        )),
        Arc::new(Int64Array::from_iter_values(
            ranges().map(|r| r.range.end()),
        )),
        Arc::new(Int64Array::from_iter_values(ranges().map(|r| r.log_start))),
        Arc::new(ends(&high)),
        Arc::new(ends(&stable)),
        Arc::new(
            described
                .iter()
                .map(|d| d.and_then(|d| d.leader))
                .collect::<Int32Array>(),
        ),
        Arc::new(brokers(|d| &d.replicas)),
        Arc::new(brokers(|d| &d.isr)),
    ];
    Ok(columns)
}

async fn topics(client: &dyn KafkaClient) -> Result<Vec<ArrayRef>> {
    let mut cluster = client.describe(TopicSelection::All).await?;
    cluster.topics.sort_by(|a, b| a.name.cmp(&b.name));
    let topics = || cluster.topics.iter();
    let replication = topics().map(|t| {
        int32(
            t.partitions
                .iter()
                .map(|p| p.replicas.len())
                .max()
                .unwrap_or(0),
        )
    });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            topics()
                .map(|t| Some(t.name.as_ref()))
                .collect::<StringViewArray>(),
        ),
        Arc::new(
            topics()
                .map(|t| t.id.as_deref())
                .collect::<StringViewArray>(),
        ),
        Arc::new(Int32Array::from_iter_values(
            topics().map(|t| int32(t.partitions.len())),
        )),
        Arc::new(Int32Array::from_iter_values(replication)),
        Arc::new(topics().map(|t| Some(t.internal)).collect::<BooleanArray>()),
    ];
    Ok(columns)
}
