//! Which schemas rows are written with, and what is asked of a registry for them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef};

use crate::error::{Error, Result};
use crate::formats::Encoders;
use crate::stub::{Asked, Reply, Stub};
use crate::table::TableOptions;

const ORDER: &str =
    r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"}]}"#;

fn id() -> Vec<FieldRef> {
    vec![Arc::new(Field::new("id", DataType::Int64, true))]
}

async fn encoders(options: &[(&str, &str)]) -> Result<Encoders> {
    let mut given = TableOptions::default();
    for (name, value) in options {
        given.set(name, value)?;
    }
    given
        .write_formats(&crate::config::ConnectionConfig::empty())?
        .encoders("orders", &[], &id())
        .await
}

/// The value of `id` 1.
async fn payload(options: &[(&str, &str)]) -> Result<Vec<u8>> {
    let encoders = encoders(options).await?;
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
    let encoder = encoders.value.unwrap();
    let payloads = encoder.encode(batch.columns(), 1, &|_| false).unwrap();
    Ok(payloads.value(0).to_vec())
}

fn message(error: &Error) -> String {
    error.to_string()
}

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let file = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A registry that knows no subject and takes every schema as number 7.
async fn empty() -> Stub {
    Stub::new(|asked: &Asked, _| match asked.line.ends_with("/versions") {
        true => Reply::new(200, r#"{"id":7}"#),
        false => Reply::unknown(),
    })
    .await
}

/// A registry whose subjects have this schema, as number 3.
async fn with(kind: &'static str, schema: &'static str) -> Stub {
    Stub::new(move |asked: &Asked, _| {
        let answer = match asked.line.starts_with("POST") {
            true => serde_json::json!({ "subject": "s", "id": 3, "version": 1 }),
            false => serde_json::json!({ "id": 3, "schema": schema, "schemaType": kind }),
        };
        Reply::new(200, answer.to_string())
    })
    .await
}

#[tokio::test]
async fn a_file_alone_is_not_framed() {
    let folder = tempfile::tempdir().unwrap();
    let avsc = file(&folder, "order.avsc", ORDER);
    let found = payload(&[("value.format", "avro"), ("value.schema.file", &avsc)]).await;
    assert_eq!(found.unwrap(), [2]);
    let proto = file(
        &folder,
        "order.proto",
        "syntax = \"proto3\"; message M { int64 id = 1; }",
    );
    let found = payload(&[("value.format", "protobuf"), ("value.schema.file", &proto)]).await;
    assert_eq!(found.unwrap(), [8, 1]);
    let refused = payload(&[("value.format", "avro")]).await.unwrap_err();
    assert_eq!(
        message(&refused),
        "the value: 'value.format' = 'avro' needs a schema: a file by 'value.schema.file', or a \
         registry by 'schema.registry.url'"
    );
}

#[tokio::test]
async fn a_files_schema_must_be_registered_or_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let avsc = file(&folder, "order.avsc", ORDER);
    let stub = empty().await;
    let options = |more: &[(&'static str, &'static str)]| {
        let mut options = vec![
            ("value.format", "avro".to_owned()),
            ("value.schema.file", avsc.clone()),
            ("schema.registry.url", stub.url.clone()),
        ];
        options.extend(more.iter().map(|(n, v)| (*n, (*v).to_owned())));
        options
    };
    let ask = async |more: &[(&'static str, &'static str)]| {
        let options = options(more);
        let options: Vec<(&str, &str)> = options.iter().map(|(n, v)| (*n, v.as_str())).collect();
        payload(&options).await
    };
    let refused = message(&ask(&[]).await.unwrap_err());
    assert!(
        refused.contains(
            "is not registered under subject 'orders-value': register it, or let that be"
        ),
        "{refused}"
    );
    for name in ["schema.registry.auto.register", "auto.register.schemas"] {
        let found = ask(&[(name, "true")]).await.unwrap();
        assert_eq!(found, [0, 0, 0, 0, 7, 2], "{name}");
    }
    ask(&[
        ("auto.register.schemas", "true"),
        ("value.subject.name.strategy", "topic-record"),
    ])
    .await
    .unwrap();
    assert_eq!(
        stub.lines(),
        [
            "POST /subjects/orders-value",
            "POST /subjects/orders-value/versions",
            "POST /subjects/orders-value/versions",
            "POST /subjects/orders-shop.Order/versions",
        ]
    );
    let known = with("AVRO", ORDER).await;
    let found = payload(&[
        ("value.format", "avro"),
        ("value.schema.file", &avsc),
        ("schema.registry.url", &known.url),
    ])
    .await;
    assert_eq!(found.unwrap(), [0, 0, 0, 0, 3, 2]);
}

#[tokio::test]
async fn the_subjects_schema_is_written_with() {
    let stub = with("AVRO", ORDER).await;
    let registry = ("schema.registry.url", stub.url.as_str());
    let avro = ("value.format", "avro");
    assert_eq!(
        payload(&[avro, registry]).await.unwrap(),
        [0, 0, 0, 0, 3, 2]
    );
    payload(&[avro, registry, ("value.schema.version", "4")])
        .await
        .unwrap();
    payload(&[avro, registry, ("value.subject", "other")])
        .await
        .unwrap();
    assert_eq!(
        stub.lines(),
        [
            "GET /subjects/orders-value/versions/latest",
            "GET /subjects/orders-value/versions/4",
            "GET /subjects/other/versions/latest",
        ]
    );
    let single = payload(&[("value.format", "avro-single-object"), registry]).await;
    assert_eq!(single.unwrap()[..2], [0xc3, 0x01]);
    let refused = payload(&[("value.format", "protobuf"), registry])
        .await
        .unwrap_err();
    assert_eq!(
        message(&refused),
        "the value: the subject has a schema of Avro, but 'value.format' is 'protobuf'"
    );
}

#[tokio::test]
async fn a_schema_of_the_columns_is_registered_where_that_is_allowed() {
    for (format, payload_of_one) in [("avro", &[2u8, 2][..]), ("protobuf", &[0, 8, 1])] {
        let stub = empty().await;
        let registry = ("schema.registry.url", stub.url.as_str());
        let format = ("value.format", format);
        let refused = payload(&[format, registry]).await.unwrap_err();
        assert_eq!(
            message(&refused),
            "the value: the schema registry has no subject 'orders-value' to write with: let one be made \
             of the columns and registered by 'schema.registry.auto.register' = 'true', name another by \
             'value.subject', or a file by 'value.schema.file'"
        );
        let allowed = ("schema.registry.auto.register", "true");
        let found = payload(&[format, registry, allowed]).await.unwrap();
        assert_eq!(found[..5], [0, 0, 0, 0, 7]);
        assert_eq!(&found[5..], payload_of_one);
        let asked = stub.asked();
        let sent = &asked.last().unwrap().body;
        assert!(sent.contains("orders_value"), "{sent}");
    }
}

#[tokio::test]
async fn json_is_framed_by_a_json_schema_alone() {
    let json = ("value.format", "json");
    let bare = br#"{"id":1}"#;
    let stub = empty().await;
    let found = payload(&[json, ("schema.registry.url", &stub.url)]).await;
    assert_eq!(found.unwrap(), bare);
    let named = [
        json,
        ("schema.registry.url", &stub.url),
        ("value.subject", "s"),
    ];
    let refused = payload(&named).await.unwrap_err();
    assert!(message(&refused).contains("no subject 's'"), "{refused}");
    let stub = with("JSON", "{}").await;
    let found = payload(&[json, ("schema.registry.url", &stub.url)])
        .await
        .unwrap();
    assert_eq!(found, [&[0u8, 0, 0, 0, 3][..], bare].concat());
}

/// Neither that of the value nor that of the key, which is planned before it.
#[tokio::test]
async fn a_schema_that_the_columns_do_not_fit_is_not_registered() {
    let folder = tempfile::tempdir().unwrap();
    let avsc = file(&folder, "order.avsc", ORDER);
    let proto = file(
        &folder,
        "order.proto",
        "syntax = \"proto3\"; message M { int64 id = 1; }",
    );
    let mut more = id();
    more.push(Arc::new(Field::new("other", DataType::Int64, true)));
    for (format, schema) in [("avro", &avsc), ("protobuf", &proto)] {
        let stub = empty().await;
        let mut given = TableOptions::default();
        for (name, value) in [
            ("key.format", "avro"),
            ("value.format", format),
            ("value.schema.file", schema.as_str()),
            ("schema.registry.url", stub.url.as_str()),
            ("schema.registry.auto.register", "true"),
        ] {
            given.set(name, value).unwrap();
        }
        let formats = given.write_formats(&crate::config::ConnectionConfig::empty());
        let formats = formats.unwrap();
        let refused = formats.encoders("orders", &id(), &more).await.unwrap_err();
        assert!(message(&refused).contains("'other'"), "{refused}");
        assert_eq!(
            stub.lines(),
            ["GET /subjects/orders-key/versions/latest"],
            "{format}"
        );
        let made = formats.encoders("orders", &id(), &id()).await.unwrap();
        assert!(made.key.is_some() && made.value.is_some());
        assert_eq!(
            stub.lines()[1..],
            [
                "GET /subjects/orders-key/versions/latest",
                "POST /subjects/orders-key/versions",
                "POST /subjects/orders-value/versions",
            ],
            "{format}"
        );
    }
}

#[tokio::test]
async fn imports_are_references() {
    let folder = tempfile::tempdir().unwrap();
    file(
        &folder,
        "a.proto",
        "syntax = \"proto3\"; message A { int32 n = 1; }",
    );
    file(
        &folder,
        "b.proto",
        "syntax = \"proto3\"; import \"a.proto\"; message B { A a = 1; }",
    );
    let proto = file(
        &folder,
        "m.proto",
        "syntax = \"proto3\"; import \"b.proto\"; import \"google/protobuf/timestamp.proto\";
         message M { int64 id = 1; B b = 2; google.protobuf.Timestamp t = 3; }",
    );
    let stub = with("PROTOBUF", "").await;
    payload(&[
        ("value.format", "protobuf"),
        ("value.schema.file", &proto),
        ("schema.registry.url", &stub.url),
        ("auto.register.schemas", "true"),
    ])
    .await
    .unwrap();
    assert_eq!(
        stub.lines(),
        [
            "POST /subjects/a.proto/versions",
            "POST /subjects/a.proto",
            "POST /subjects/b.proto/versions",
            "POST /subjects/b.proto",
            "POST /subjects/orders-value/versions",
        ]
    );
    let asked = stub.asked();
    let references = |body: &str| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["references"].to_string()
    };
    assert_eq!(references(&asked[0].body), "null");
    assert!(references(&asked[2].body).contains("a.proto"));
    assert!(references(&asked[4].body).contains("b.proto"));
}

#[test]
fn options_are_those_of_formats() {
    let mut options = TableOptions::default();
    let misspelt = "schema.registry.auto.regsiter";
    let refused = options.set(misspelt, "true").unwrap_err();
    assert!(
        message(&refused).contains("did you mean 'schema.registry.auto.register'?"),
        "{refused}"
    );
    let mut write = |name: &str, value: &str| {
        options.set(name, value).unwrap();
        options.write_formats(&crate::config::ConnectionConfig::empty())
    };
    write("key_format", "int64").unwrap();
    write("schema.registry.url", "http://h").unwrap();
    write("metadataPrefix", "_").unwrap();
    let refused = write("shared", "true").unwrap_err();
    assert!(
        message(&refused).starts_with("option 'shared' is not about formats"),
        "{refused}"
    );
    let mut options = TableOptions::default();
    let refused = options.set("auto.register.schemas", "yes").unwrap_err();
    assert!(message(&refused).contains("'true' or 'false'"), "{refused}");
}
