//! Exports of a log that was cut and has grown again.

use std::sync::Arc;

use crate::client::memory::{Call, MemoryCluster, Record};
use crate::error::Error;
use crate::export::{Export, ExportBuilder, ExportProgress, ProblemKind, Verify};
use crate::table::KafkaTable;

fn cluster() -> MemoryCluster {
    let cluster = MemoryCluster::new();
    cluster.create_topic("orders", 1).unwrap();
    append(&cluster, 60);
    cluster
}

fn append(cluster: &MemoryCluster, records: usize) {
    let records = (0..records).map(|n| Record::new(format!("{n}")));
    cluster.append_all("orders", 0, records).unwrap();
}

fn cut(cluster: &MemoryCluster) {
    cluster.elect_at("orders", 0, 30).unwrap();
    append(cluster, 45);
}

fn table(cluster: &MemoryCluster) -> KafkaTable {
    let table = KafkaTable::builder_with_client(Arc::new(cluster.client()));
    table.topic("orders").build_lazy().unwrap()
}

fn export(cluster: &MemoryCluster, target: &std::path::Path) -> ExportBuilder {
    let target = target.join("out");
    Export::builder("orders", table(cluster), target.to_str().unwrap())
        .max_file_offsets(10)
        .parallel(1)
}

#[tokio::test]
async fn it_is_not_resumed() {
    let cluster = cluster();
    let folder = tempfile::tempdir().unwrap();
    let progress = Arc::new(ExportProgress::default());
    cluster.fail_after(Call::Fetch, 4, Error::invalid("told to fail"));
    let first = export(&cluster, folder.path()).build().unwrap();
    first.run(&progress).await.unwrap_err();
    cut(&cluster);
    let again = export(&cluster, folder.path())
        .resume(true)
        .build()
        .unwrap();
    let error = again.run(&progress).await.unwrap_err();
    let Error::Truncated {
        offset: 60,
        cut: 30,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(
        error.to_string().contains("another one in an empty folder"),
        "{error}"
    );
}

#[tokio::test]
async fn it_is_not_compared_with_other_records() {
    let cluster = cluster();
    let folder = tempfile::tempdir().unwrap();
    let progress = Arc::new(ExportProgress::default());
    let export = export(&cluster, folder.path()).build().unwrap();
    export.run(&progress).await.unwrap();
    let target = folder.path().join("out");
    let verify = Verify::open(target.to_str().unwrap()).await.unwrap();
    let problems = async || {
        let found = verify.run(Some(&table(&cluster)), 1, &progress).await;
        found.unwrap().problems
    };
    assert!(problems().await.is_empty());
    cut(&cluster);
    let problems = problems().await;
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].kind, ProblemKind::Unavailable);
    let text = &problems[0].message;
    assert!(
        text.contains("orders[0]@60: the log was cut at 30 "),
        "{text}"
    );
}
