//! The tools, and what they are given.

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::CallToolResult;
use rmcp::schemars::{self, JsonSchema};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, tool, tool_router};
use serde::Deserialize;

use super::McpServer;
use super::answer::{Asked, Part, answer};
use super::statement::{self, Search};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListTopics {
    /// A regular expression that names of topics match, anywhere in the name unless anchored
    pattern: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DescribeTopic {
    /// The topic's name
    topic: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// One SELECT, EXPLAIN, SHOW or DESCRIBE in PostgreSQL's dialect. Topics are tables by their names, in double quotes where
    /// needed, with the columns topic, partition, "offset", timestamp, key, value and headers. kafka('orders', '@-1h:end')
    /// is a range of a topic: offsets ('100:200', '0=5:10' of partition 0), the last n of each partition ('-100'), or
    /// times ('@2026-01-14:1d'). kafka('orders', '-100', 'value.format=json') has the fields of JSON values as columns;
    /// kafka_text(value)->>'name' is a field of one
    sql: String,
    /// The most rows of the answer
    max_rows: Option<usize>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchRecords {
    /// The topic, or several with commas between them
    topic: String,
    /// Where to look: '@-1h:end', '-1000', '100:200' [default: everything]
    range: Option<String>,
    /// Records whose key is this text
    key: Option<String>,
    /// Records whose key or value contains this text
    contains: Option<String>,
    /// Records whose key or value matches this regular expression
    regex: Option<String>,
    /// Records with these headers, by name
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    /// The most records of the answer
    max_rows: Option<usize>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadRecords {
    /// The topic's name
    topic: String,
    /// The partition
    partition: i32,
    /// The offset of the first record
    offset: i64,
    /// How many offsets to read [default: 1]
    count: Option<u32>,
}

#[tool_router(router = tools, vis = "pub(super)")]
impl McpServer {
    /// Lists the topics of the cluster.
    #[tool(
        description = "List the topics of the Kafka cluster: partitions, and whether they are internal",
        annotations(title = "List topics", read_only_hint = true, open_world_hint = false)
    )]
    pub(super) async fn list_topics(
        &self,
        Parameters(asked): Parameters<ListTopics>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let sql = statement::topics(asked.pattern.as_deref());
        answer(self, Asked::new(vec![("topics", Part::Rows(sql))]), context).await
    }

    /// Describes a topic.
    #[tool(
        description = "Describe a topic: log start and end offset, leader and replicas of each partition, the columns of its \
                       table, and the fields of its JSON values as a sample of records shows them",
        annotations(
            title = "Describe a topic",
            read_only_hint = true,
            open_world_hint = false
        )
    )]
    pub(super) async fn describe_topic(
        &self,
        Parameters(asked): Parameters<DescribeTopic>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let all = vec![
            (
                "partitions",
                Part::Rows(statement::partitions(&asked.topic)),
            ),
            ("columns", Part::Columns(statement::columns(&asked.topic))),
            (
                "json_columns",
                Part::ColumnsIfAny(statement::json_columns(&asked.topic)),
            ),
        ];
        answer(self, Asked::new(all), context).await
    }

    /// Runs a statement.
    #[tool(
        description = "Run one SQL statement that reads. The answer says which offsets were read, and whether it is complete",
        annotations(title = "Query by SQL", read_only_hint = true, open_world_hint = false)
    )]
    pub(super) async fn query(
        &self,
        Parameters(asked): Parameters<Query>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        answer(self, Asked::rows(asked.sql, asked.max_rows), context).await
    }

    /// Finds records.
    #[tool(
        description = "Find records by key, text, regular expression or headers; all that are given must hold. No row in a \
                       complete answer proves that there is none in the ranges that were read",
        annotations(
            title = "Search records",
            read_only_hint = true,
            open_world_hint = false
        )
    )]
    pub(super) async fn search(
        &self,
        Parameters(asked): Parameters<SearchRecords>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let sql = statement::search(&Search {
            topic: &asked.topic,
            range: asked.range.as_deref(),
            key: asked.key.as_deref(),
            contains: asked.contains.as_deref(),
            regex: asked.regex.as_deref(),
            headers: &asked.headers,
        });
        let sql = sql.map_err(|reason| ErrorData::invalid_params(reason, None))?;
        answer(self, Asked::rows(sql, asked.max_rows), context).await
    }

    /// Reads records by their coordinates.
    #[tool(
        description = "Read the records at offsets of a partition. Offsets without a row hold no record: \"offsets\" says why",
        annotations(title = "Read records", read_only_hint = true, open_world_hint = false)
    )]
    pub(super) async fn read_records(
        &self,
        Parameters(asked): Parameters<ReadRecords>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let ReadRecords {
            topic,
            partition,
            offset,
            count,
        } = asked;
        let sql = statement::records(&topic, partition, offset, count.unwrap_or(1));
        answer(self, Asked::rows(sql, None), context).await
    }
}
