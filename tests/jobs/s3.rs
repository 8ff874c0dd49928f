//! The parquet sink and stores on an S3 endpoint.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use datafusion_kafka::ErrorKind;
use datafusion_kafka::store::{Created, Durability, Store};
use uuid::Uuid;

use crate::conformance::{Fixture, batch, deliver, job};
use crate::parquet::{other_readers, sink, through_manifests};
use crate::support::s3;

/// A separate place in the bucket.
fn place() -> String {
    format!("{}/{}", s3::BUCKET, Uuid::new_v4().simple())
}

fn store(place: &str) -> Store {
    Store::open(&format!("s3://{place}"), &s3::shared().options()).unwrap()
}

/// The options of a table.
fn options() -> String {
    let options = s3::shared().options();
    let options = options
        .iter()
        .map(|(name, value)| format!("'{name}' '{value}'"));
    format!("OPTIONS ({})", options.collect::<Vec<_>>().join(", "))
}

fn fixture() -> Fixture {
    let root = place();
    Fixture::new(
        {
            let root = root.clone();
            move |target, shared| {
                let sink = sink(store(&format!("{root}/{target}")), shared);
                async move { sink }
            }
        },
        move |target| {
            let url = format!("s3://{root}/{target}/");
            async move { through_manifests(&url, &options()).await }
        },
    )
}

mod conforms {
    sink_conformance!(super::fixture());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_of_a_file_one_creates_it() {
    let store = store(&place());
    let writers = (0..20).map(|writer| {
        let store = store.clone();
        async move {
            let bytes = Bytes::from(format!("writer {writer}"));
            store
                .create("a b/one%20", bytes, Durability::Fsync)
                .await
                .unwrap()
        }
    });
    let created = futures::future::join_all(writers).await;
    let new = created.iter().filter(|created| **created == Created::New);
    assert_eq!(new.count(), 1);
    assert_eq!(store.list("").await.unwrap(), ["a b/one%20"]);
    // The request is repeated because its answer was lost.
    let found = store.get("a b/one%20").await.unwrap().unwrap();
    let again = store.create("a b/one%20", found, Durability::Fsync).await;
    assert_eq!(again.unwrap(), Created::New);
    assert!(store.link("a b/one%20", "k=%2F/two").await.unwrap());
    assert!(!store.link("nothing", "three").await.unwrap());
    assert_eq!(
        store.list_after("", "a b/one%20").await.unwrap(),
        ["k=%2F/two"]
    );
    store.delete_folder("a b").await.unwrap();
    assert_eq!(store.entries("").await.unwrap()[0].name, "k=%2F/two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_and_a_silent_endpoint_are_named() {
    let missing = store("no-such-bucket/x");
    let error = sink(missing, false).open(&job("job")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    let text = error.to_string();
    assert!(text.starts_with("s3://no-such-bucket/x: "), "{text}");
    assert!(!text.contains("not-so-secret"), "{text}");
    let mut options = s3::shared().options();
    options.insert("aws.no_such_setting".to_owned(), "1".to_owned());
    let error = Store::open("s3://bucket/x", &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_readers_see_each_row_once() {
    let place = place();
    let sink = sink(store(&place), false);
    sink.open(&job("job")).await.unwrap();
    let expected: BTreeSet<i64> = (0..30).collect();
    let ids: Vec<i64> = expected.iter().copied().collect();
    let seen = |expected: &[i64]| {
        let endpoint = s3::shared().endpoint();
        let endpoint = endpoint.trim_start_matches("http://");
        for (reader, ids) in other_readers(&[&place, "id", "test", "not-so-secret", endpoint]) {
            assert_eq!(ids, expected, "{reader}");
        }
    };
    deliver(
        &sink,
        &batch(0, &[(0, None, 10)]),
        &[&ids[..4], &ids[4..10]],
    )
    .await
    .unwrap();
    deliver(&sink, &batch(1, &[(0, Some(10), 30)]), &[&ids[10..]])
        .await
        .unwrap();
    seen(&ids);
    // As a crash before publication leaves it.
    let store = store(&place);
    let names = store.list("").await.unwrap();
    let newest: Vec<String> = names
        .into_iter()
        .filter(|name| name.starts_with("part-00000000000000000001"))
        .collect();
    assert_eq!(newest.len(), 1);
    store.delete(&newest).await.unwrap();
    seen(&ids[..10]);
    let mut ours = through_manifests(&format!("s3://{place}"), &options()).await;
    ours.sort();
    assert_eq!(
        ours.into_iter().map(|row| row.0).collect::<BTreeSet<_>>(),
        expected
    );
    let again: Arc<_> = crate::parquet::sink(store, false);
    again.open(&job("job")).await.unwrap();
    seen(&ids);
}
