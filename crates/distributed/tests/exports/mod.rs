//! Exports on workers: the files, the manifest and the errors of one machine, and rows stay on the workers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion_kafka::client::ClientPool;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::decode::OnBadRow;
use datafusion_kafka::export::{
    Export, ExportBuilder, ExportFormat, ExportProgress, ExportSummary, Verify,
};
use datafusion_kafka::table::KafkaTable;
use datafusion_kafka::{Error, ErrorKind};
use datafusion_kafka_distributed::Coordinator;

use crate::bed::Bed;
use crate::bed::proxy::Of;
use crate::engines::{self, BROKERS};

fn table(pool: ClientPool, range: &str) -> KafkaTable {
    let table = KafkaTable::builder(&ConnectionConfig::new(BROKERS)).pool(pool);
    table.topic("orders").range(range).build_lazy().unwrap()
}

fn builder(pool: ClientPool, range: &str, target: &Path) -> ExportBuilder {
    Export::builder("orders", table(pool, range), target.to_str().unwrap()).max_file_offsets(50)
}

/// What is exported, and how.
#[derive(Debug)]
struct Case {
    range: &'static str,
    format: ExportFormat,
    sql: Option<&'static str>,
    by: Option<&'static str>,
}

const CASES: [Case; 5] = [
    Case {
        range: ":",
        format: ExportFormat::Parquet,
        sql: None,
        by: None,
    },
    Case {
        range: ":",
        format: ExportFormat::Csv,
        sql: Some(
            "SELECT \"offset\", kafka_text(key) AS k, json_get_int(kafka_text(value), 'id') AS id FROM orders \
             WHERE \"offset\" NOT BETWEEN 60 AND 140 AND octet_length(value) > 3",
        ),
        by: None,
    },
    Case {
        range: "0=10:350,1=:77",
        format: ExportFormat::Ndjson,
        sql: Some(
            "SELECT \"offset\", unnest(make_array(kafka_text(key), 'x')) AS u, now() AS n FROM orders",
        ),
        by: None,
    },
    Case {
        range: "@2023-11-14T22:20:00Z:",
        format: ExportFormat::Parquet,
        sql: None,
        by: Some("minute=date_trunc('minute', timestamp)"),
    },
    // No piece has a row, and no plan a scan.
    Case {
        range: ":",
        format: ExportFormat::Parquet,
        sql: Some("SELECT * FROM orders WHERE 1 = 2"),
        by: None,
    },
];

impl Case {
    fn builder(&self, pool: ClientPool, target: &Path) -> ExportBuilder {
        let mut export = builder(pool, self.range, target).format(self.format);
        if let Some(sql) = self.sql {
            export = export.sql(sql);
        }
        if let Some(by) = self.by {
            export = export.partition_by(by);
        }
        export
    }
}

async fn run(
    export: ExportBuilder,
    workers: Option<&Coordinator>,
) -> datafusion_kafka::Result<ExportSummary> {
    let mut export = export.build().unwrap();
    if let Some(coordinator) = workers {
        let on_workers = coordinator.export(&export).await?;
        export = on_workers.expect("workers have the folder");
    }
    export.run(&Arc::new(ExportProgress::default())).await
}

/// All files below a folder with their sizes, and the manifest.
fn content(folder: &Path) -> (Vec<(String, u64)>, serde_json::Value) {
    fn walk(root: &Path, folder: &Path, to: &mut Vec<(String, u64)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, to);
                continue;
            }
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            // It has the moment at which the ranges were fixed.
            if name != "_export/plan.json" {
                to.push((name, path.metadata().unwrap().len()));
            }
        }
    }
    let mut files = vec![];
    walk(folder, folder, &mut files);
    files.sort();
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    (files, serde_json::from_slice(&manifest).unwrap())
}

async fn verified(bed: &Bed, case: &Case, folder: &Path) {
    let verify = Verify::open(folder.to_str().unwrap()).await.unwrap();
    let table = table(bed.pool(), case.range);
    let progress = ExportProgress::default();
    let found = verify.run(Some(&table), 2, &progress).await.unwrap();
    assert_eq!(found.problems, [], "{case:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_that_of_one_machine() {
    let mut bed = Bed::new(3).await;
    bed.behind_proxies();
    for case in &CASES {
        let folder = tempfile::tempdir().unwrap();
        let [here, there] = ["here", "there"].map(|name| folder.path().join(name));
        let expected = run(case.builder(bed.pool(), &here), None).await.unwrap();
        let is_empty = case.sql.is_some_and(|sql| sql.contains("1 = 2"));
        assert!(
            expected.pieces > 5 && is_empty == (expected.files == 0),
            "{expected:?}"
        );
        for workers in [1, 3] {
            let _ = std::fs::remove_dir_all(&there);
            let mut options = bed.options();
            options.workers = bed.first(workers);
            let coordinator = Coordinator::connect(options).await.unwrap();
            // The coordinator has clients of its own, which read nothing.
            let own = engines::cluster();
            let export = case.builder(engines::pool(&own), &there);
            let mut found = run(export, Some(&coordinator)).await.unwrap();
            found.duration = expected.duration;
            assert_eq!(found, expected, "{workers} workers: {case:?}");
            assert_eq!(own.stats().fetches, 0, "{workers} workers: {case:?}");
            let (mut files, mut manifest) = content(&there);
            let (mut of_one, mut of_one_manifest) = content(&here);
            if case.sql.is_some_and(|sql| sql.contains("now()")) {
                // It is the moment of each export.
                for (files, manifest) in [
                    (&mut files, &mut manifest),
                    (&mut of_one, &mut of_one_manifest),
                ] {
                    files.iter_mut().for_each(|(_, bytes)| *bytes = 0);
                    manifest.as_object_mut().unwrap().remove("pieces");
                    manifest.as_object_mut().unwrap().remove("bytes");
                }
                found.bytes = expected.bytes;
            }
            assert_eq!(files, of_one, "{workers} workers: {case:?}");
            assert_eq!(manifest, of_one_manifest, "{workers} workers: {case:?}");
            verified(&bed, case, &there).await;
        }
        let wrote = bed.workers.iter().filter_map(|w| w.proxy.as_ref());
        let bytes: Vec<u64> = wrote.map(|proxy| proxy.forwarded(Of::Answers)).collect();
        assert!(bytes.iter().all(|bytes| *bytes > 0), "{case:?}: {bytes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_whose_worker_is_lost_is_written_by_another() {
    let case = &CASES[0];
    for answered_bytes in [0, 500, 2_000, 4_000] {
        let mut bed = Bed::new(3).await;
        bed.behind_proxies();
        let folder = tempfile::tempdir().unwrap();
        let [here, there] = ["here", "there"].map(|name| folder.path().join(name));
        run(case.builder(bed.pool(), &here), None).await.unwrap();
        let coordinator = Coordinator::connect(bed.options()).await.unwrap();
        let proxy = bed.workers[1].proxy.take().unwrap();
        let before = proxy.forwarded(Of::Answers);
        let gone = std::thread::spawn(move || {
            while proxy.forwarded(Of::Answers) - before < answered_bytes {
                std::thread::sleep(Duration::from_micros(100));
            }
            proxy.end_connections();
            drop(proxy);
        });
        run(case.builder(bed.pool(), &there), Some(&coordinator))
            .await
            .unwrap();
        assert!(gone.is_finished(), "{answered_bytes}: all was over before");
        assert_eq!(content(&there), content(&here), "{answered_bytes}");
        verified(&bed, case, &there).await;
    }
}

/// None is left: the export fails, and is resumed by whoever is there.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_lost_all_workers_is_resumed() {
    let case = &CASES[0];
    let mut bed = Bed::new(2).await;
    bed.behind_proxies();
    let folder = tempfile::tempdir().unwrap();
    let [here, there] = ["here", "there"].map(|name| folder.path().join(name));
    run(case.builder(bed.pool(), &here), None).await.unwrap();
    let coordinator = Coordinator::connect(bed.options()).await.unwrap();
    let proxies: Vec<_> = bed
        .workers
        .iter_mut()
        .filter_map(|w| w.proxy.take())
        .collect();
    let gone = std::thread::spawn(move || {
        let answered = || {
            proxies
                .iter()
                .map(|p| p.forwarded(Of::Answers))
                .sum::<u64>()
        };
        let before = answered();
        while answered() - before < 6_000 {
            std::thread::sleep(Duration::from_micros(100));
        }
        proxies.iter().for_each(|proxy| proxy.end_connections());
    });
    let error = run(case.builder(bed.pool(), &there), Some(&coordinator)).await;
    let error = error.unwrap_err();
    gone.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(!there.join("manifest.json").exists());
    let resumed = run(case.builder(bed.pool(), &there).resume(true), None).await;
    assert!(resumed.unwrap().files_before > 0, "nothing was done before");
    assert_eq!(content(&there), content(&here));
    verified(&bed, case, &there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_pieces_keep_their_kind_and_name_the_worker() {
    let bed = Bed::new(2).await;
    let record = datafusion_kafka::client::memory::Record::new("no json");
    bed.cluster.append("orders", 5, record).unwrap();
    let coordinator = Coordinator::connect(bed.options()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let by = "long=repeat('x', 999)";
    for (case, decodes, by, kind, says) in [
        ("bad", true, None, ErrorKind::BadRow, "orders[5]@"),
        ("long", false, Some(by), ErrorKind::Query, "--partition-by"),
    ] {
        let mut table = KafkaTable::builder(&ConnectionConfig::new(BROKERS))
            .pool(bed.pool())
            .topic("orders")
            .on_bad_row(OnBadRow::Fail);
        if decodes {
            let json = datafusion_kafka::decode::Format::Json;
            table = table.value_format(json);
        }
        let target = folder.path().join(case);
        let table = table.build().await.unwrap();
        let mut export = Export::builder("orders", table, target.to_str().unwrap());
        export = export.max_file_offsets(50);
        if let Some(by) = by {
            export = export.partition_by(by);
        }
        let error: Error = run(export, Some(&coordinator)).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(says), "{text}");
        assert!(text.contains("on worker 127.0.0.1:"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_workers_do_not_have_is_written_here() {
    let bed = Bed::new(2).await;
    let coordinator = Coordinator::connect(bed.options()).await.unwrap();
    let target = Path::new("memory:///out");
    let export = builder(bed.pool(), ":", target).build().unwrap();
    assert!(coordinator.export(&export).await.unwrap().is_none());
    let client = Arc::new(bed.cluster.client());
    let own = KafkaTable::builder_with_client(client).topic("orders");
    let folder = tempfile::tempdir().unwrap();
    let own = Export::builder(
        "orders",
        own.build_lazy().unwrap(),
        folder.path().to_str().unwrap(),
    );
    let own = own.build().unwrap();
    assert!(coordinator.export(&own).await.unwrap().is_none());
}
