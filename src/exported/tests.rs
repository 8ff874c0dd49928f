use std::sync::Arc;

use arrow::array::AsArray;
use datafusion::execution::context::SessionContext;

use super::*;
use crate::client::memory::{MemoryCluster, Record};
use crate::export::{Export, ExportBuilder, ExportProgress};
use crate::session::KafkaSessionBuilder;
use crate::table::KafkaTable;

/// Two topics with keys that are special in paths.
const KEYS: [&[u8]; 7] = [b"", b"/", b"..", b"%41", b"\x01\n", b"\xff\xfe", b"A"];

fn cluster() -> MemoryCluster {
    let cluster = MemoryCluster::new();
    for topic in ["a", "b"] {
        cluster.create_topic(topic, 2).unwrap();
        for key in KEYS {
            let record = Record::new("v").with_key(key);
            cluster.append(topic, 1, record).unwrap();
        }
        cluster.append(topic, 1, Record::new("no key")).unwrap();
        cluster
            .append(topic, 1, Record::new("v").with_key("a"))
            .unwrap();
    }
    cluster
}

fn builder(cluster: &MemoryCluster, folder: &tempfile::TempDir) -> ExportBuilder {
    let table = KafkaTable::builder_with_client(Arc::new(cluster.client())).location("a,b");
    let target = folder.path().to_str().unwrap();
    Export::builder("t", table.build_lazy().unwrap(), target)
}

async fn run(export: ExportBuilder) -> Result<()> {
    let export = export.build().unwrap();
    export
        .run(&Arc::new(ExportProgress::default()))
        .await
        .map(drop)
}

async fn table(folder: &tempfile::TempDir) -> Result<SessionContext> {
    let context = KafkaSessionBuilder::new().build()?;
    let make = format!(
        "CREATE EXTERNAL TABLE e STORED AS PARQUET LOCATION '{}/'",
        folder.path().display()
    );
    match context.sql(&make).await {
        Ok(_) => Ok(context),
        Err(error) => Err(Error::find(&error).cloned().unwrap()),
    }
}

async fn refused(folder: &tempfile::TempDir) -> String {
    table(folder).await.map(drop).unwrap_err().to_string()
}

async fn number(context: &SessionContext, sql: &str) -> i64 {
    let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
    rows[0]
        .column(0)
        .as_primitive::<arrow::datatypes::Int64Type>()
        .value(0)
}

#[tokio::test]
async fn an_export_is_a_table_with_all_topics_and_folders() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    run(builder(&cluster, &folder).partition_by("k=key"))
        .await
        .unwrap();
    let context = table(&folder).await.unwrap();
    assert_eq!(number(&context, "SELECT count(*) FROM e").await, 18);
    let sql = "SELECT count(DISTINCT topic) FROM e WHERE partition = 1";
    assert_eq!(number(&context, sql).await, 2);
    // NULL and empty text share a folder, and values that are not text appear there in base64.
    for (key, rows) in [
        ("k IS NULL", 4),
        ("k = '/'", 2),
        ("k = '..'", 2),
        ("k = '%41'", 2),
        ("k = 'a'", 2),
    ] {
        let sql = format!("SELECT count(*) FROM e WHERE {key}");
        assert_eq!(number(&context, &sql).await, rows, "{key}");
    }
    let same = "SELECT count(*) FROM e WHERE k = kafka_text(key) OR k = '//4='";
    assert_eq!(number(&context, same).await, 14);
    let insert = context.sql("INSERT INTO e SELECT * FROM e").await;
    let error = match insert {
        Ok(frame) => frame.collect().await.map(drop).unwrap_err(),
        Err(error) => error,
    };
    assert!(
        error
            .to_string()
            .contains("is an export, which no INSERT adds to"),
        "{error}"
    );
}

#[tokio::test]
async fn an_export_without_rows_is_an_empty_table() {
    let (cluster, folder) = (MemoryCluster::new(), tempfile::tempdir().unwrap());
    cluster.create_topic("a", 1).unwrap();
    cluster.create_topic("b", 1).unwrap();
    run(builder(&cluster, &folder)).await.unwrap();
    let context = table(&folder).await.unwrap();
    assert_eq!(
        number(
            &context,
            "SELECT count(headers) FROM e WHERE \"offset\" > 0"
        )
        .await,
        0
    );
}

#[tokio::test]
async fn other_folders_than_finished_parquet_exports_are_refused() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    run(builder(&cluster, &folder)).await.unwrap();
    std::fs::remove_file(folder.path().join("manifest.json")).unwrap();
    let error = refused(&folder).await;
    assert!(
        error.contains("is not finished: continue it with"),
        "{error}"
    );
    let folder = tempfile::tempdir().unwrap();
    run(builder(&cluster, &folder).format(ExportFormat::Ndjson))
        .await
        .unwrap();
    let error = refused(&folder).await;
    assert!(error.contains("has ndjson files and no Parquet"), "{error}");
}

#[tokio::test]
async fn a_folder_that_no_store_takes_names_the_piece() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let record = Record::new("v").with_key("x".repeat(300));
    cluster.append("b", 0, record).unwrap();
    let error = run(builder(&cluster, &folder).partition_by("key")).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("b[0] 0..1: --partition-by gives a folder 'key=xxx"),
        "{error}"
    );
    assert!(error.contains("a name of 304 bytes"), "{error}");
}

/// Replaces a text in the names and records of an export.
fn rewrite(folder: &std::path::Path, from: &str, to: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let renamed = path.with_file_name(name.replace(from, to));
        std::fs::rename(&path, &renamed).unwrap();
        if renamed.is_dir() {
            rewrite(&renamed, from, to);
        } else if renamed.extension().is_some_and(|e| e == "json") {
            let text = std::fs::read_to_string(&renamed).unwrap();
            std::fs::write(&renamed, text.replace(from, to)).unwrap();
        }
    }
}

#[tokio::test]
async fn folders_are_named_as_those_of_the_parquet_sink_and_those_of_versions_before_are_verified()
{
    let (cluster, folder) = (MemoryCluster::new(), tempfile::tempdir().unwrap());
    for topic in ["a", "b"] {
        cluster.create_topic(topic, 1).unwrap();
        for key in ["é, 日本", "x/y", ""] {
            cluster
                .append(topic, 0, Record::new("v").with_key(key))
                .unwrap();
        }
    }
    run(builder(&cluster, &folder).partition_by("k=key"))
        .await
        .unwrap();
    let of_a = std::fs::read_dir(folder.path().join("a")).unwrap();
    let mut names: Vec<_> = of_a
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["k=__HIVE_DEFAULT_PARTITION__", "k=x%2Fy", "k=é, 日本"]
    );

    let listing = SessionContext::new();
    let create = format!(
        "CREATE EXTERNAL TABLE p STORED AS PARQUET PARTITIONED BY (k) LOCATION '{}/a/'",
        folder.path().display()
    );
    listing.sql(&create).await.unwrap();
    for key in ["é, 日本", "x/y", "__HIVE_DEFAULT_PARTITION__"] {
        let sql = format!("SELECT count(*) FROM p WHERE k = '{key}'");
        assert_eq!(number(&listing, &sql).await, 1, "{key}");
    }

    // Versions before escaped letters outside ASCII, and commas.
    rewrite(folder.path(), "é, 日本", "%C3%A9%2C %E6%97%A5%E6%9C%AC");
    let context = table(&folder).await.unwrap();
    let sql = "SELECT count(*) FROM e WHERE k = 'é, 日本'";
    assert_eq!(number(&context, sql).await, 2);
    let target = folder.path().to_str().unwrap();
    let kafka = KafkaTable::builder_with_client(Arc::new(cluster.client())).location("a,b");
    let kafka = kafka.build_lazy().unwrap();
    let verify = crate::export::Verify::open(target).await.unwrap();
    let progress = Arc::new(ExportProgress::default());
    let verified = verify.run(Some(&kafka), 2, &progress).await.unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    assert_eq!(verified.same_rows, Some(6));
}
