//! The client against a stub registry.

mod register;
mod settings;
pub(crate) mod stub;
#[cfg(feature = "ssl")]
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use self::stub::{Reply, Stub};
use super::{RegisteredSchema, Registry, RegistryConfig, SchemaKind};
use crate::error::{Error, ErrorKind};

const INT: &str = r#"{"type":"int"}"#;

fn registry(options: &[(&str, &str)]) -> Registry {
    let config = RegistryConfig::from_options(options.iter().copied());
    Registry::new(config.unwrap().unwrap()).unwrap()
}

fn at(stub: &Stub) -> Registry {
    registry(&[("schema.registry.url", &stub.url)])
}

/// The reason why schema 1 cannot be fetched.
async fn refused(registry: &Registry) -> String {
    let error = registry.schema(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    let Error::Registry { reason, .. } = error else {
        panic!("{error}");
    };
    reason
}

#[tokio::test]
async fn schema_is_asked_once_and_remembered() {
    let stub = Stub::new(|_, _| Reply::schema(INT)).await;
    let registry = at(&stub);
    for _ in 0..3 {
        let schema = registry.clone().schema(7).await.unwrap().unwrap();
        let expected = RegisteredSchema {
            id: 7,
            kind: SchemaKind::Avro,
            text: INT.to_owned(),
            references: Vec::new(),
        };
        assert_eq!(*schema, expected);
    }
    assert_eq!(stub.lines(), ["GET /schemas/ids/7"]);
}

#[tokio::test]
async fn questions_at_the_same_time_are_one() {
    let stub = Stub::new(|_, _| Reply::schema(INT).after(Duration::from_millis(50))).await;
    let registry = at(&stub);
    let questions = (0..20).map(|n| {
        let registry = registry.clone();
        async move { registry.schema(n % 2).await }
    });
    for answer in futures::future::join_all(questions).await {
        assert_eq!(answer.unwrap().unwrap().text, INT);
    }
    assert_eq!(stub.lines().len(), 2);
}

#[tokio::test]
async fn failure_is_shared_by_those_who_wait_and_not_kept() {
    let stub = Stub::new(|_, asked| match asked {
        0 => Reply::new(401, "").after(Duration::from_millis(50)),
        _ => Reply::schema(INT),
    })
    .await;
    let registry = at(&stub);
    let questions = (0..5).map(|_| registry.schema(1));
    for answer in futures::future::join_all(questions).await {
        answer.unwrap_err();
    }
    assert_eq!(stub.lines().len(), 1);
    registry.schema(1).await.unwrap().unwrap();
}

#[tokio::test]
async fn question_that_is_dropped_lets_the_next_ask() {
    let stub = Stub::new(|_, asked| match asked {
        0 => Reply::close().after(Duration::from_secs(60)),
        _ => Reply::schema(INT),
    })
    .await;
    let registry = at(&stub);
    let dropped = tokio::time::timeout(Duration::from_millis(100), registry.schema(1)).await;
    dropped.unwrap_err();
    registry.schema(1).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_deadline_holds_for_a_schema_with_its_references() {
    // Each answer comes well within the timeout, but all of them together do not.
    let stub = Stub::new(|_, asked| {
        let next = format!("r{asked}");
        let references = json!([{ "name": next, "subject": next, "version": 1 }]);
        let answer = json!({ "schema": INT, "references": references });
        Reply::new(200, answer.to_string()).after(Duration::from_millis(100))
    })
    .await;
    let registry = registry(&[
        ("schema.registry.url", &stub.url),
        ("schema.registry.request.timeout.ms", "1000"),
    ]);
    let reason = refused(&registry).await;
    assert!(reason.starts_with("no answer within 1000 ms"), "{reason}");
    assert!(stub.lines().len() <= 10, "{:?}", stub.lines());
}

#[tokio::test]
async fn a_wait_beyond_all_time_is_an_error() {
    let stub =
        Stub::new(|_, _| Reply::new(503, "").header(&format!("Retry-After: {}", u64::MAX))).await;
    let registry = at(&stub);
    let error = registry.schema(1).await.unwrap_err();
    assert!(error.may_pass(), "{error}");
    assert_eq!(stub.lines().len(), 1);
}

#[tokio::test]
async fn unknown_id_is_no_error_and_remembered_for_a_while() {
    let stub = Stub::new(|_, asked| match asked {
        0 => Reply::unknown(),
        _ => Reply::schema(INT),
    })
    .await;
    let mut registry = at(&stub);
    assert_eq!(registry.schema(1).await.unwrap(), None);
    assert_eq!(registry.schema(1).await.unwrap(), None);
    assert_eq!(stub.lines().len(), 1);
    Arc::get_mut(&mut registry.inner).unwrap().unknown_for = Duration::ZERO;
    registry.schema(1).await.unwrap().unwrap();
    assert_eq!(registry.schema(-1).await.unwrap(), None);
    assert_eq!(stub.lines().len(), 2);
}

#[tokio::test]
async fn not_found_of_another_server_is_an_error() {
    for body in [
        "<html>",
        r#"{"status":404,"path":"/schemas/ids/1"}"#,
        r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#,
    ] {
        let stub = Stub::new(move |_, _| Reply::new(404, body)).await;
        let reason = refused(&at(&stub)).await;
        assert!(reason.contains("is the path of the URL right?"), "{reason}");
        assert_eq!(stub.lines().len(), 1);
    }
    let stub = Stub::new(|_, _| Reply::new(404, "")).await;
    assert_eq!(at(&stub).schema(1).await.unwrap(), None);
}

#[tokio::test]
async fn refusals_are_not_repeated() {
    for status in [401, 403, 400] {
        let body = r#"{"error_code":1,"message":"who are you"}"#;
        let stub = Stub::new(move |_, _| Reply::new(status, body)).await;
        let reason = refused(&at(&stub)).await;
        let start = format!("it answers {status}");
        assert!(
            reason.starts_with(&start) && reason.contains(": who are you"),
            "{reason}"
        );
        assert_eq!(reason.contains("basic.auth.user.info"), status != 400);
        assert_eq!(stub.lines().len(), 1);
    }
}

#[tokio::test]
async fn failures_are_repeated() {
    for failure in [
        Reply::new(500, r#"{"error_code":50001,"message":"store"}"#),
        Reply::new(503, "later"),
        Reply::new(429, ""),
        Reply::close(),
    ] {
        let stub = Stub::new(move |_, asked| match asked {
            0 | 1 => failure.clone(),
            _ => Reply::schema(INT),
        })
        .await;
        at(&stub).schema(1).await.unwrap().unwrap();
        assert_eq!(stub.lines().len(), 3);
    }
}

#[tokio::test]
async fn repeated_after_the_time_that_the_registry_names() {
    let stub = Stub::new(|_, asked| match asked {
        0 => Reply::new(429, "").header("Retry-After: 1"),
        _ => Reply::schema(INT),
    })
    .await;
    let started = Instant::now();
    at(&stub).schema(1).await.unwrap().unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn failure_that_stays_is_an_error() {
    let stub = Stub::new(|_, _| Reply::new(500, r#"{"error_code":50001,"message":"store"}"#)).await;
    let error = at(&stub).schema(1).await.unwrap_err();
    let expected = format!(
        "schema registry {}: getting schema 1 failed: it answers 500 Internal Server Error: store",
        stub.url
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(stub.lines().len() > 1);
}

#[tokio::test]
async fn slow_registry_ends_in_time() {
    let stub = Stub::new(|_, _| Reply::schema(INT).after(Duration::from_secs(60))).await;
    let registry = registry(&[
        ("schema.registry.url", &stub.url),
        ("schema.registry.request.timeout.ms", "200"),
    ]);
    let started = Instant::now();
    let reason = refused(&registry).await;
    assert!(reason.starts_with("no answer within 200 ms"), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn nobody_listens() {
    let stub = Stub::new(|_, _| Reply::close()).await;
    let url = stub.url.replace("http://", "http://anna:hidden@");
    drop(stub);
    tokio::task::yield_now().await;
    let registry = registry(&[
        ("schema.registry.url", &url),
        ("schema.registry.request.timeout.ms", "500"),
    ]);
    let error = registry.schema(1).await.unwrap_err();
    let message = format!("{error} {error:?}");
    assert!(message.contains("efused"), "{message}");
    assert!(!message.contains("hidden"), "{message}");
}

#[tokio::test]
async fn answers_of_no_use() {
    for (body, expected) in [
        ("<html>hello</html>", "the answer is not JSON"),
        ("[]", "the answer has no 'schema'"),
        (r#"{"schema":5}"#, "the answer has no 'schema'"),
        (
            r#"{"schema":"\"int\"","references":[{"name":"x"}]}"#,
            "the answer has 'references' that cannot be read",
        ),
    ] {
        let stub = Stub::new(move |_, _| Reply::new(200, body)).await;
        let reason = refused(&at(&stub)).await;
        assert!(reason.starts_with(expected), "{reason}");
        assert_eq!(stub.lines().len(), 1);
    }
}

#[tokio::test]
async fn huge_answer_is_not_taken() {
    let stub = Stub::new(|_, _| Reply::new(200, vec![b' '; (16 << 20) + 1])).await;
    let reason = refused(&at(&stub)).await;
    assert!(
        reason.starts_with("the answer is longer than 16777216 bytes"),
        "{reason}"
    );
}

#[tokio::test]
async fn url_that_works_is_asked_first() {
    let down = Stub::new(|_, _| Reply::close()).await;
    let up = Stub::new(|_, _| Reply::schema(INT)).await;
    let registry = registry(&[("schema.registry.url", &format!("{}, {}/", down.url, up.url))]);
    for id in 0..3 {
        registry.schema(id).await.unwrap().unwrap();
    }
    assert_eq!(down.lines().len(), 1);
    assert_eq!(up.lines().len(), 3);
}

#[tokio::test]
async fn url_that_hangs_leaves_time_for_the_next() {
    let hangs = Stub::new(|_, _| Reply::close().after(Duration::from_secs(60))).await;
    let up = Stub::new(|_, _| Reply::schema(INT)).await;
    let registry = registry(&[
        ("schema.registry.url", &format!("{},{}", hangs.url, up.url)),
        ("schema.registry.request.timeout.ms", "1000"),
    ]);
    registry.schema(1).await.unwrap().unwrap();
}

#[tokio::test]
async fn logins_are_sent() {
    let stub = Stub::new(|_, _| Reply::schema(INT)).await;
    let with_login = stub.url.replace("http://", "http://an%40na:p%3Aw@");
    let basic = "schema.registry.basic.auth.user.info";
    let bearer = "schema.registry.bearer.auth.token";
    for (url, option, expected) in [
        (&stub.url, None, None),
        (
            &stub.url,
            Some((basic, "anna:pw:x")),
            Some("Basic YW5uYTpwdzp4"),
        ),
        (&stub.url, Some((bearer, "abc")), Some("Bearer abc")),
        (&with_login, None, Some("Basic YW5AbmE6cDp3")),
    ] {
        let mut all = vec![("schema.registry.url", url.as_str())];
        all.extend(option);
        registry(&all).schema(1).await.unwrap().unwrap();
        let last = stub.asked().pop().unwrap();
        assert_eq!(last.authorization.as_deref(), expected);
    }
    // Where both are set, the option wins.
    let both = registry(&[
        ("schema.registry.url", with_login.as_str()),
        (basic, "anna:pw:x"),
    ]);
    both.schema(1).await.unwrap().unwrap();
    let last = stub.asked().pop().unwrap();
    assert_eq!(last.authorization.as_deref(), Some("Basic YW5uYTpwdzp4"));
}

#[tokio::test]
async fn path_of_the_url_is_kept_and_subjects_are_one_part() {
    let stub = Stub::new(|_, _| {
        Reply::new(
            200,
            json!({"id": 3, "version": 1, "schema": INT}).to_string(),
        )
    })
    .await;
    for url in [
        format!("{}/apis/ccompat/v7", stub.url),
        format!("{}/apis/ccompat/v7/", stub.url),
    ] {
        let registry = registry(&[("schema.registry.url", &url)]);
        let found = registry.latest("a/b c-value").await.unwrap().unwrap();
        assert_eq!(found.id, 3);
        registry.version("x", 2).await.unwrap().unwrap();
    }
    let expected = [
        "GET /apis/ccompat/v7/subjects/a%2Fb%20c-value/versions/latest",
        "GET /apis/ccompat/v7/subjects/x/versions/2",
    ];
    assert_eq!(stub.lines()[..2], expected);
    assert_eq!(stub.lines()[2..], expected);
}

/// `a` uses `b` and `c`; `b` uses `c` and, in a circle, `a`.
fn related(path: &str) -> Reply {
    let reference =
        |name: &str| json!({"name": name, "subject": format!("s-{name}"), "version": 1});
    let (text, references) = match path {
        "GET /schemas/ids/1" => ("the schema", vec!["a", "c"]),
        "GET /subjects/s-a/versions/1" => ("text of a", vec!["b", "c"]),
        "GET /subjects/s-b/versions/1" => ("text of b", vec!["c", "a"]),
        "GET /subjects/s-c/versions/1" => ("text of c", vec![]),
        _ => return Reply::unknown(),
    };
    let references: Vec<_> = references.into_iter().map(reference).collect();
    let body = json!({"schema": text, "schemaType": "PROTOBUF", "references": references});
    Reply::new(200, body.to_string())
}

#[tokio::test]
async fn references_come_before_what_uses_them() {
    let stub = Stub::new(|asked, _| related(&asked.line)).await;
    let schema = at(&stub).schema(1).await.unwrap().unwrap();
    assert_eq!(schema.kind, SchemaKind::Protobuf);
    let names: Vec<_> = schema
        .references
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["c", "b", "a"]);
    assert_eq!(schema.references[2].1, "text of a");
    assert_eq!(stub.lines().len(), 4);
}

#[tokio::test]
async fn reference_that_is_not_there_is_an_error() {
    let stub = Stub::new(|asked, _| match asked.line.as_str() {
        "GET /schemas/ids/1" => related(&asked.line),
        _ => Reply::unknown(),
    })
    .await;
    let reason = refused(&at(&stub)).await;
    assert_eq!(
        reason,
        "it refers to 'a', which is version 1 of subject 's-a', and that is not there"
    );
}
