//! SQL statements: bounds on what they may cost, `CREATE EXTERNAL TABLE` with nested columns, and generating
//! such a statement for a schema.

mod bounds;
mod constants;
#[cfg(test)]
mod hostile;
mod maps;
mod weight;

use std::any::TypeId;
use std::borrow::Cow;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::common::utils::quote_identifier;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, dialect_from_str};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};

use crate::decode::Column;
use crate::error::External as _;
use crate::policy;

/// PostgreSQL's dialect, extended by `STRUCT<a INT, …>` and `MAP<K, V>` as far as table definitions need it.
#[derive(Debug)]
struct Definitions;

impl Dialect for Definitions {
    // The parser has special cases for PostgreSQL, which shall apply here as well.
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

    // The same rule makes the parser accept the type.
    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }
}

/// Checks that a statement or an expression is not nested too deeply. Parsing and planning it could otherwise
/// exhaust the stack, which ends the process, or take minutes. [`sql`], jobs and exports check their text
/// themselves. To pass untrusted text to a context in another way, call this before, and [`check_plan`]
/// afterwards.
///
/// # Errors
/// When it is nested too deeply. The message states the bound.
/// When it is nested too deeply, with the bound.
pub fn check_text(state: &SessionState, text: &str) -> crate::Result<()> {
    let dialect = state.config_options().sql_parser.dialect;
    match dialect_from_str(dialect) {
        Some(dialect) => bounds::check(text, dialect.as_ref()),
        None => Ok(()),
    }
}

/// Checks that a plan is not too large when every view and every query in WITH is expanded where it is
/// mentioned. It also checks that functions of constants, which the optimiser evaluates, produce at most 16
/// MiB: `repeat('x', 2000000000)` is refused.
///
/// # Errors
/// When it is too large. The message states the bound.
pub fn check_plan(plan: &LogicalPlan) -> crate::Result<()> {
    weight::check(plan)
}

/// Plans a query and checks both bounds.
pub(crate) async fn plan(state: &SessionState, text: &str) -> Result<LogicalPlan> {
    check_text(state, text).external()?;
    let plan = state.create_logical_plan(text).await?;
    check_plan(&plan).external()?;
    Ok(plan)
}

/// Plans a statement like [`SessionContext::sql`]. In addition, `CREATE EXTERNAL TABLE` may have columns of
/// the types `STRUCT<a INT, b VARCHAR>`, `INT[]`, `ARRAY<INT>` and `MAP<VARCHAR, INT>`, whatever the
/// context's dialect. The session's [`Policy`](crate::policy::Policy) checks the statement before it takes
/// effect.
///
/// Text that is nested too deeply ([`check_text`]) and plans that are too large ([`check_plan`]) are refused.
/// The bounds suit threads with a stack of 2 MiB, like tokio's.
///
/// # Errors
/// As [`SessionContext::sql`], and when a bound is exceeded or the policy refuses the statement.
pub async fn sql(context: &SessionContext, text: &str) -> Result<DataFrame> {
    let state = context.state();
    let plan = match defined(&state, text).await? {
        Some(plan) => plan,
        None => plan(&state, text).await?,
    };
    let plan = policy::judge(&policy::of(state.config()), plan, &state)
        .await
        .external()?;
    context.execute_logical_plan(plan).await
}

/// The plan of a `CREATE EXTERNAL TABLE`, in the dialect with these types. `None` if the text is something
/// else, or invalid; the usual path then has the usual message.
async fn defined(state: &SessionState, text: &str) -> Result<Option<LogicalPlan>> {
    let mut words = text.split_whitespace().map(str::to_ascii_uppercase);
    let defines =
        words.next().as_deref() == Some("CREATE") && words.take(3).any(|word| word == "EXTERNAL");
    if !defines {
        return Ok(None);
    }
    bounds::check(text, &Definitions).external()?;
    match parsed(text) {
        Some(mut statement) => {
            maps::hide(&mut statement)?;
            let plan = state.statement_to_plan(statement).await?;
            maps::restore(plan).map(Some)
        }
        None => Ok(None),
    }
}

/// The text of a statement without what looks like a secret: values of secret options, and passwords in URLs.
/// A text without secrets is returned unchanged, and a text that is not SQL becomes `[redacted]`.
pub fn without_secrets(text: &str) -> String {
    crate::redact::without_secrets(text)
}

/// The statement, if the text has exactly one.
fn parsed(text: &str) -> Option<Statement> {
    let parser = DFParserBuilder::new(tokens(text).ok()?).with_dialect(&Definitions);
    let mut statements = parser.build().ok()?.parse_statements().ok()?;
    let statement = statements.pop_front()?;
    statements.is_empty().then_some(statement)
}

/// The tokens of a definition. A token that closes two types at once is split, because the parser would
/// attach a following `[]` to the inner type.
fn tokens(text: &str) -> Result<Vec<TokenWithSpan>, TokenizerError> {
    let mut tokens = vec![];
    let (mut open, mut opens) = (0usize, false);
    for token in Tokenizer::new(&Definitions, text).tokenize_with_location()? {
        match &token.token {
            Token::Whitespace(_) => {}
            Token::Word(word) => {
                let nests = [Keyword::ARRAY, Keyword::MAP, Keyword::STRUCT];
                opens = nests.contains(&word.keyword);
            }
            Token::Lt if opens => open += 1,
            Token::Gt => open = open.saturating_sub(1),
            Token::ShiftRight if open > 1 => {
                open -= 2;
                tokens
                    .extend([Token::Gt, Token::Gt].map(|one| TokenWithSpan::new(one, token.span)));
                continue;
            }
            _ => opens = false,
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// A `CREATE EXTERNAL TABLE` statement for JSON values with these fields. `options` are names and values. If
/// a field has the name of one of Kafka's columns, Kafka's columns get a `metadata.prefix`.
///
/// The statement parses back to the same table. Names appear in it unchanged: before showing it on a
/// terminal, escape them with [`visible`](crate::text::visible).
pub fn create_table(name: &str, topic: &str, fields: &Fields, options: &[(&str, &str)]) -> String {
    let columns = match columns_of(fields).as_slice() {
        [] => String::new(),
        columns => format!(" (\n  {}\n)", columns.join(",\n  ")),
    };
    let quoted = |text: &str| text.replace('\'', "''");
    let prefix = metadata_prefix(fields);
    let prefix = (!prefix.is_empty()).then_some(("metadata.prefix", prefix.as_str()));
    let options: Vec<String> = options
        .iter()
        .copied()
        .chain(prefix)
        .map(|(name, value)| format!("  '{}' '{}'", quoted(name), quoted(value)))
        .collect();
    format!(
        "CREATE EXTERNAL TABLE {}{columns}\nSTORED AS KAFKA LOCATION '{}'\nOPTIONS (\n{}\n)",
        identifier(name),
        quoted(topic),
        options.join(",\n")
    )
}

/// The shortest prefix of underscores that distinguishes Kafka's columns from the fields.
fn metadata_prefix(fields: &Fields) -> String {
    let schema_ids = [Column::KeySchemaId, Column::ValueSchemaId];
    let mut prefix = String::new();
    while Column::ALL.into_iter().chain(schema_ids).any(|column| {
        let name = format!("{prefix}{}", column.name());
        fields.iter().any(|field| *field.name() == name)
    }) {
        prefix.push('_');
    }
    prefix
}

/// Names and types in the syntax of a statement.
pub(crate) fn columns_of(fields: &Fields) -> Vec<String> {
    fields.iter().map(|field| column(field)).collect()
}

fn column(field: &Field) -> String {
    let name = identifier(field.name());
    format!("{name} {}", type_name(field.data_type()))
}

/// A name in SQL. Empty names, and words that begin a constraint, are quoted too.
fn identifier(name: &str) -> Cow<'_, str> {
    match name {
        "" | "check" | "constraint" | "foreign" | "primary" | "unique" => {
            format!("\"{name}\"").into()
        }
        name => quote_identifier(name),
    }
}

/// A type in SQL.
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
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
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
            format!("STRUCT<{}>", columns_of(fields).join(", "))
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

    use datafusion::logical_expr::{CreateExternalTable, DdlStatement, LogicalPlan};
    use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
    use proptest::prelude::*;

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

    async fn created(context: &SessionContext, text: &str) -> CreateExternalTable {
        let mut statement = parsed(text).unwrap_or_else(|| panic!("does not parse: {text}"));
        maps::hide(&mut statement).unwrap();
        let plan = context.state().statement_to_plan(statement).await;
        match maps::restore(plan.unwrap()).unwrap() {
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) => *create,
            other => panic!("{other:?}"),
        }
    }

    fn types(fields: &Fields) -> Vec<String> {
        let each = fields.iter();
        each.map(|f| format!("{:?} {}", f.name(), f.data_type()))
            .collect()
    }

    #[tokio::test]
    async fn a_definition_is_read_as_it_was_written() {
        let text = create_table("t", "it's", &nested(), &[("value.format", "json")]);
        let context = KafkaSessionBuilder::new().build().unwrap();
        let create = created(&context, &text).await;
        assert_eq!(types(create.schema.as_arrow().fields()), types(&nested()));
        assert_eq!(create.locations, ["it's"]);
        assert!(!text.contains("metadata.prefix"), "{text}");
    }

    #[tokio::test]
    async fn brackets_behind_two_closed_types_belong_to_the_outer_one() {
        let context = KafkaSessionBuilder::new().build().unwrap();
        let read = async |column: &str| {
            let text = format!("CREATE EXTERNAL TABLE t (c {column}) STORED AS KAFKA LOCATION ''");
            let create = created(&context, &text).await;
            create.schema.field(0).data_type().to_string()
        };
        let pairs = [
            ("STRUCT<a STRUCT<b INT>>[]", "STRUCT<a STRUCT<b INT> >[]"),
            (
                "MAP<VARCHAR, STRUCT<a INT>>[]",
                "MAP<VARCHAR, STRUCT<a INT> >[]",
            ),
            ("ARRAY<STRUCT<a INT[]>>[][]", "STRUCT<a INT[]>[][][]"),
            ("STRUCT<a ARRAY<ARRAY<INT>>>", "STRUCT<a INT[][] >"),
            (
                "STRUCT<a STRUCT<b STRUCT<c INT>>[]>[]",
                "STRUCT<a STRUCT<b STRUCT<c INT> >[] >[]",
            ),
        ];
        for (closed_at_once, apart) in pairs {
            assert_eq!(
                read(closed_at_once).await,
                read(apart).await,
                "{closed_at_once}"
            );
        }
        assert!(read("STRUCT<a STRUCT<b INT>>[]").await.starts_with("List("));
        assert!(
            parsed("CREATE EXTERNAL TABLE t (c STRUCT<a INT>>) STORED AS KAFKA LOCATION ''")
                .is_none()
        );
    }

    #[tokio::test]
    async fn any_word_is_a_name_and_so_is_none() {
        let context = KafkaSessionBuilder::new().build().unwrap();
        let words = ALL_KEYWORDS.iter().map(|word| word.to_lowercase());
        let plain = |name: &str| Field::new(name, DataType::Int64, true);
        let names: Vec<String> = words
            .chain(["".into(), "\"".into(), "A b".into()])
            .collect();
        let mut fields: Vec<Field> = names.iter().map(|name| plain(name)).collect();
        let nested: Fields = fields.iter().cloned().collect();
        fields.push(Field::new("all of them", DataType::Struct(nested), true));
        let fields = Fields::from(fields);
        let text = create_table("t", "t", &fields, &[("value.format", "json")]);
        let create = created(&context, &text).await;
        assert_eq!(types(create.schema.as_arrow().fields()), types(&fields));
    }

    #[test]
    fn names_of_kafkas_columns_have_a_prefix() {
        let statement = |names: &[&str]| {
            let fields = names.iter().map(|n| Field::new(*n, DataType::Int64, true));
            create_table("t", "t", &fields.collect(), &[("value.format", "json")])
        };
        for name in [
            "key",
            "value",
            "timestamp",
            "topic",
            "offset",
            "value_schema_id",
        ] {
            let text = statement(&["id", name]);
            assert!(text.contains("'metadata.prefix' '_'"), "{text}");
        }
        let text = statement(&["offset", "_key", "__topic"]);
        assert!(text.contains("'metadata.prefix' '___'"), "{text}");
        assert!(!statement(&["Key", "_offset"]).contains("metadata.prefix"));
        assert!(statement(&[]).starts_with("CREATE EXTERNAL TABLE t\nSTORED AS KAFKA"));
    }

    fn data_types() -> impl Strategy<Value = DataType> {
        use DataType::*;
        let utc = Some(Arc::from("UTC"));
        let leaf = prop_oneof![
            Just(Boolean),
            Just(Int64),
            Just(Float64),
            Just(Utf8View),
            Just(Int8),
            Just(Int32),
            Just(UInt64),
            Just(Float32),
            Just(Binary),
            Just(Date32),
            Just(Timestamp(TimeUnit::Millisecond, None)),
            Just(Timestamp(TimeUnit::Microsecond, utc)),
            (1..=38u8, 0..=10i8).prop_map(|(p, s)| Decimal128(p.max(s as u8), s)),
        ];
        leaf.prop_recursive(6, 40, 4, |inner| {
            prop_oneof![
                inner
                    .clone()
                    .prop_map(|item| { List(Arc::new(Field::new("item", item, true))) }),
                inner.clone().prop_map(|value| map(Utf8, value)),
                some_fields(inner).prop_map(Struct),
            ]
        })
    }

    fn some_fields(of: impl Strategy<Value = DataType>) -> impl Strategy<Value = Fields> {
        let name = prop_oneof!["[a-z_]{1,3}", "[^\0]{0,4}", Just(String::new())];
        prop::collection::btree_map(name, of, 1..4).prop_map(|fields| {
            let fields = fields.into_iter();
            fields
                .map(|(name, of)| Field::new(name, of, true))
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn what_is_printed_reads_back(fields in some_fields(data_types()), topic in "[a-z'.]{1,5}") {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            // TIMESTAMP WITH TIME ZONE has the session's zone.
            let context = KafkaSessionBuilder::new().build().unwrap();
            let text = create_table(&topic, &topic, &fields, &[("value.format", "json")]);
            let create = runtime.block_on(created(&context, &text));
            prop_assert_eq!(types(create.schema.as_arrow().fields()), types(&fields), "{}", text);
            prop_assert_eq!(create.locations, [topic]);
        }
    }

    #[tokio::test]
    async fn fields_without_a_name_are_refused() {
        let context = KafkaSessionBuilder::new().build().unwrap();
        for column in [
            "STRUCT< VARCHAR>",
            "STRUCT<a INT, b STRUCT<INT>>[]",
            "MAP<VARCHAR, STRUCT<a>>",
        ] {
            let text = format!("CREATE EXTERNAL TABLE t (c {column}) STORED AS KAFKA LOCATION 't'");
            let error = sql(&context, &text).await.unwrap_err().to_string();
            assert!(
                error.contains("a field of a STRUCT is written with its name"),
                "{error}"
            );
        }
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
