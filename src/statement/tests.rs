//! Definitions of tables: what is printed reads back, and what is refused.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::logical_expr::{CreateExternalTable, DdlStatement, LogicalPlan};
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use proptest::prelude::*;

use super::parse::parsed;
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
        parsed("CREATE EXTERNAL TABLE t (c STRUCT<a INT>>) STORED AS KAFKA LOCATION ''").is_none()
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
