//! Statements: within bounds, `CREATE EXTERNAL TABLE` with nested columns, and its text for a schema.

mod bounds;
#[cfg(test)]
mod hostile;
mod maps;
mod weight;

use std::any::TypeId;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::common::utils::quote_identifier;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, dialect_from_str};

use crate::policy::Policy;

/// PostgreSQL's dialect with `STRUCT<a INT, …>` and `MAP<K, V>`, as far as the definition of a table needs it.
#[derive(Debug)]
struct Definitions;

impl Dialect for Definitions {
    // What the parser does for PostgreSQL alone it does here as well.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn is_identifier_start(&self, c: char) -> bool {
        PostgreSqlDialect {}.is_identifier_start(c)
    }

    fn is_identifier_part(&self, c: char) -> bool {
        PostgreSqlDialect {}.is_identifier_part(c)
    }

    fn is_delimited_identifier_start(&self, c: char) -> bool {
        PostgreSqlDialect {}.is_delimited_identifier_start(c)
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    // The type is parsed by the same rule.
    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }
}

/// Checks that a statement, or an expression, is not nested so deeply that parsing and planning it
/// would exhaust the stack, which ends the process, or take minutes. [`sql`], jobs and exports check
/// what they are given; whoever hands text of others to a context by other ways calls this before, and
/// [`check_plan`] behind it.
///
/// # Errors
/// When it is nested too deeply, with the bound.
pub fn check_text(state: &SessionState, text: &str) -> crate::Result<()> {
    let dialect = state.config_options().sql_parser.dialect;
    match dialect_from_str(dialect) {
        Some(dialect) => bounds::check(text, dialect.as_ref()),
        None => Ok(()),
    }
}

/// Checks that a plan is not too large with every view and every query of WITH written out where it is
/// mentioned.
///
/// # Errors
/// When it is too large, with the bound.
pub fn check_plan(plan: &LogicalPlan) -> crate::Result<()> {
    weight::check(plan)
}

/// Plans a query that keeps both bounds.
pub(crate) async fn plan(state: &SessionState, text: &str) -> Result<LogicalPlan> {
    check_text(state, text)?;
    let plan = state.create_logical_plan(text).await?;
    check_plan(&plan)?;
    Ok(plan)
}

/// Plans a statement as [`SessionContext::sql`] does; `CREATE EXTERNAL TABLE` may have columns of the
/// types `STRUCT<a INT, b VARCHAR>`, `INT[]`, `ARRAY<INT>` and `MAP<VARCHAR, INT>`, whatever the context's
/// dialect. The session's [`Policy`] judges the statement before it takes effect.
///
/// Text that is nested too deeply ([`check_text`]) and plans that are too large ([`check_plan`]) are
/// refused. The bounds fit threads with a stack of 2 MiB, as tokio's have; `now()` and other functions
/// of a fixed value are computed while a statement is planned, with all the memory that they ask for.
///
/// # Errors
/// As [`SessionContext::sql`], when a bound is not kept, and when the policy is against it.
pub async fn sql(context: &SessionContext, text: &str) -> Result<DataFrame> {
    let state = context.state();
    let plan = match defined(&state, text).await? {
        Some(plan) => plan,
        None => plan(&state, text).await?,
    };
    let plan = Policy::of(state.config()).judge(plan, &state).await?;
    context.execute_logical_plan(plan).await
}

/// The plan of a `CREATE EXTERNAL TABLE`, in the dialect that has these types; `None` where the text is
/// something else, or wrong: the usual way has the usual message.
async fn defined(state: &SessionState, text: &str) -> Result<Option<LogicalPlan>> {
    let mut words = text.split_whitespace().map(str::to_ascii_uppercase);
    let defines =
        words.next().as_deref() == Some("CREATE") && words.take(3).any(|word| word == "EXTERNAL");
    if !defines {
        return Ok(None);
    }
    bounds::check(text, &Definitions)?;
    let parsed = DFParserBuilder::new(text)
        .with_dialect(&Definitions)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    if let Ok(mut statements) = parsed
        && let Some(mut statement) = statements.pop_front()
        && statements.is_empty()
    {
        maps::hide(&mut statement);
        let plan = state.statement_to_plan(statement).await?;
        return maps::restore(plan).map(Some);
    }
    Ok(None)
}

/// The text of a statement without what looks like a secret: values of secret options, passwords of URLs. A
/// text without any comes back as it is, one that is no SQL as `[redacted]`.
pub fn without_secrets(text: &str) -> String {
    crate::redact::without_secrets(text)
}

/// A `CREATE EXTERNAL TABLE` statement for JSON values with these fields; options are name and value.
pub fn create_table(name: &str, topic: &str, fields: &Fields, options: &[(&str, &str)]) -> String {
    let columns: Vec<String> = fields.iter().map(|field| column(field)).collect();
    let quoted = |text: &str| text.replace('\'', "''");
    let options: Vec<String> = options
        .iter()
        .map(|(name, value)| format!("  '{}' '{}'", quoted(name), quoted(value)))
        .collect();
    format!(
        "CREATE EXTERNAL TABLE {} (\n  {}\n)\nSTORED AS KAFKA LOCATION '{}'\nOPTIONS (\n{}\n)",
        quote_identifier(name),
        columns.join(",\n  "),
        quoted(topic),
        options.join(",\n")
    )
}

fn column(field: &Field) -> String {
    let name = quote_identifier(field.name());
    format!("{name} {}", type_name(field.data_type()))
}

/// A type as SQL writes it.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INT UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(unit, zone) => {
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let zone = if zone.is_some() {
                " WITH TIME ZONE"
            } else {
                ""
            };
            format!("TIMESTAMP({digits}){zone}")
        }
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => "BYTEA".to_owned(),
        DataType::List(item) => format!("{}[]", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| column(field)).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => {
                let [key, value] = [&entry[0], &entry[1]].map(|field| type_name(field.data_type()));
                format!("MAP<{key}, {value}>")
            }
            _ => "VARCHAR".to_owned(),
        },
        _ => "VARCHAR".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::session::KafkaSessionBuilder;

    fn nested() -> Fields {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let point = vec![
            field("x", DataType::Int64),
            field("Y z", DataType::Utf8View),
        ];
        let point = DataType::Struct(point.into());
        let list = |item| DataType::List(Arc::new(field("item", item)));
        Fields::from(vec![
            field("id", DataType::Int64),
            field("Order", DataType::Utf8View),
            field("flag", DataType::Boolean),
            field("price", DataType::Float64),
            field("where", point.clone()),
            field("tags", list(DataType::Utf8View)),
            field("points", list(point.clone())),
            field("counts", map(DataType::Utf8, DataType::Int64)),
            field(
                "nested",
                list(map(DataType::Int32, map(DataType::Utf8, point))),
            ),
        ])
    }

    fn map(key: DataType, value: DataType) -> DataType {
        let entry = vec![
            Field::new("key", key, false),
            Field::new("value", value, true),
        ];
        let entries = Field::new("entries", DataType::Struct(entry.into()), false);
        DataType::Map(Arc::new(entries), false)
    }

    #[tokio::test]
    async fn a_definition_is_read_as_it_was_written() {
        let text = create_table("t", "it's", &nested(), &[("value.format", "json")]);
        let context = KafkaSessionBuilder::new().build().unwrap();
        let parsed = DFParserBuilder::new(text.as_str())
            .with_dialect(&Definitions)
            .build()
            .unwrap()
            .parse_statements()
            .unwrap();
        let mut statement = parsed.into_iter().next().unwrap();
        maps::hide(&mut statement);
        let plan = context.state().statement_to_plan(statement).await.unwrap();
        let plan = maps::restore(plan).unwrap();
        let datafusion::logical_expr::LogicalPlan::Ddl(
            datafusion::logical_expr::DdlStatement::CreateExternalTable(create),
        ) = plan
        else {
            panic!("{plan:?}");
        };
        let types = |fields: &Fields| -> Vec<String> {
            let each = fields.iter();
            each.map(|f| format!("{} {}", f.name(), f.data_type()))
                .collect()
        };
        assert_eq!(types(create.schema.as_arrow().fields()), types(&nested()));
        assert_eq!(create.locations, ["it's"]);
    }

    #[tokio::test]
    async fn other_statements_go_the_usual_way() {
        let context = KafkaSessionBuilder::new().build().unwrap();
        let rows = sql(&context, "SELECT 1").await.unwrap();
        assert_eq!(rows.collect().await.unwrap()[0].num_rows(), 1);
        let error = sql(&context, "CREATE EXTERNAL TABLE x (a INT").await;
        assert!(error.unwrap_err().to_string().contains("SQL error"));
    }
}
