//! Registering schemas, and looking them up by their text.

use serde_json::{Value, json};

use super::super::Submitted;
use super::*;

fn submitted<'a>(kind: &'a SchemaKind, references: &'a [(String, String, i32)]) -> Submitted<'a> {
    Submitted {
        subject: "orders-value",
        kind,
        text: INT,
        references,
    }
}

fn body(stub: &Stub) -> Value {
    let asked = stub.asked();
    serde_json::from_str(&asked.last().unwrap().body).unwrap()
}

#[tokio::test]
async fn a_schema_is_sent_to_its_subject() {
    let stub = Stub::new(|_, _| Reply::new(200, r#"{"id":7}"#)).await;
    let registry = at(&stub);
    let id = registry.register(submitted(&SchemaKind::Avro, &[])).await;
    assert_eq!(id.unwrap(), 7);
    assert_eq!(body(&stub), json!({ "schema": INT }));
    let references = [("a.proto".to_owned(), "subject of a".to_owned(), 3)];
    let schema = submitted(&SchemaKind::Protobuf, &references);
    registry.register(schema).await.unwrap();
    assert_eq!(
        body(&stub),
        json!({
            "schema": INT,
            "schemaType": "PROTOBUF",
            "references": [{ "name": "a.proto", "subject": "subject of a", "version": 3 }],
        })
    );
    assert_eq!(stub.lines(), ["POST /subjects/orders-value/versions"; 2]);
}

#[tokio::test]
async fn a_schema_is_looked_up_by_its_text() {
    let stub = Stub::new(|_, asked| match asked {
        0 => Reply::new(200, r#"{"subject":"orders-value","id":7,"version":2}"#),
        _ => Reply::unknown(),
    })
    .await;
    let registry = at(&stub);
    let schema = submitted(&SchemaKind::Avro, &[]);
    assert_eq!(registry.registered(schema).await.unwrap(), Some((7, 2)));
    assert_eq!(registry.registered(schema).await.unwrap(), None);
    assert_eq!(stub.lines(), ["POST /subjects/orders-value"; 2]);
}

#[tokio::test]
async fn a_schema_that_is_refused_says_why() {
    let refusal = |status, body: &'static str| async move {
        let stub = Stub::new(move |_, _| Reply::new(status, body)).await;
        let registry = at(&stub);
        let error = registry
            .register(submitted(&SchemaKind::Avro, &[]))
            .await
            .unwrap_err();
        // Only temporary failures are worth a retry.
        let expected = match status {
            403 => ErrorKind::Connection,
            _ => ErrorKind::Query,
        };
        assert_eq!(error.kind(), expected);
        assert_eq!(stub.lines().len(), 1, "it is not repeated");
        error.to_string().replace(&stub.url, "URL")
    };
    assert_eq!(
        refusal(
            409,
            r#"{"error_code":409,"message":"reader's 'x' has no default"}"#
        )
        .await,
        "schema registry URL: registering a schema of Avro under subject 'orders-value' failed: it \
         answers 409 Conflict: reader's 'x' has no default; the schema is not compatible with those of \
         the subject: change it, write under another subject, or relax the subject's \
         compatibility"
    );
    let invalid = refusal(422, r#"{"error_code":42201,"message":"Invalid schema"}"#).await;
    assert!(
        invalid.ends_with("it answers 422 Unprocessable Entity: Invalid schema"),
        "{invalid}"
    );
    let denied = refusal(403, r#"{"message":"no"}"#).await;
    assert!(
        denied.contains("schema.registry.basic.auth.user.info"),
        "{denied}"
    );
}

#[tokio::test]
async fn a_registry_that_is_busy_is_told_again() {
    let stub = Stub::new(|_, asked| match asked {
        0 => Reply::new(503, ""),
        _ => Reply::new(200, r#"{"id":1}"#),
    })
    .await;
    let registry = at(&stub);
    registry
        .register(submitted(&SchemaKind::Avro, &[]))
        .await
        .unwrap();
    let asked = stub.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].body, asked[1].body);
}
