//! Pieces that an engine executes, as other machines would.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use datafusion::common::internal_err;
use datafusion::error::Result as QueryResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use futures::StreamExt;
use tokio::task::JoinHandle;

use super::super::*;
use crate::client::memory::{MemoryCluster, Record};
use crate::error::External as _;
use crate::scan::ExecuteElsewhere;
use crate::spoil::spoiled;

fn table(cluster: &MemoryCluster) -> KafkaTable {
    let table = KafkaTable::builder_with_client(Arc::new(cluster.client()));
    table.topic("orders").build_lazy().unwrap()
}

fn cluster() -> MemoryCluster {
    let cluster = MemoryCluster::new();
    cluster.create_topic("orders", 2).unwrap();
    for n in 0..60 {
        let record = Record::new(format!("value {n}"));
        cluster.append("orders", n % 2, record).unwrap();
    }
    cluster
}

fn export(cluster: &MemoryCluster, target: &Path) -> Export {
    let export = Export::builder("orders", table(cluster), target.to_str().unwrap())
        .partition_by("third=\"offset\" % 3")
        .format(ExportFormat::Ndjson)
        .max_file_offsets(10);
    export.build().unwrap()
}

/// All files that a reader may see, with their sizes.
async fn files(folder: &Path) -> Vec<(String, u64)> {
    let store = crate::store::Store::open(folder.to_str().unwrap(), &HashMap::new()).unwrap();
    let entries = store.entries("").await.unwrap().into_iter();
    let entries = entries.map(|entry| (entry.name, entry.bytes));
    entries
        .filter(|(name, _)| !name.starts_with("_export/staging/"))
        .collect()
}

/// Executes each plan twice at one time, from bytes. The rows of one are followed; the other one goes on for as long as
/// it likes, as on a machine that was taken for dead.
#[derive(Debug, Default)]
struct Twice {
    sent: Mutex<Vec<String>>,
    forgotten: Mutex<Vec<JoinHandle<()>>>,
}

impl ExecuteElsewhere for Twice {
    fn execute(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> QueryResult<SendableRecordBatchStream> {
        let Some(piece) = plan.downcast_ref::<ExportExec>() else {
            return internal_err!("{} is no piece", plan.name());
        };
        let sent = piece.encode().external()?;
        let again = || ExportExec::decode(&sent, Arc::clone(plan.children()[0]));
        let mut forgotten = again()
            .external()?
            .execute(partition, Arc::clone(&context))?;
        let forgotten = tokio::spawn(async move { while forgotten.next().await.is_some() {} });
        self.forgotten.lock().unwrap().push(forgotten);
        self.sent
            .lock()
            .unwrap()
            .push(String::from_utf8(sent.clone()).unwrap());
        again().external()?.execute(partition, context)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_go_on_change_nothing() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let [here, there] = ["here", "there"].map(|name| folder.path().join(name));
    let progress = Arc::new(ExportProgress::default());
    let expected = export(&cluster, &here).run(&progress).await.unwrap();
    let twice = Arc::<Twice>::default();
    let progress = Arc::new(ExportProgress::default());
    let export = export(&cluster, &there).elsewhere(Arc::clone(&twice) as _, 3);
    let mut found = export.run(&progress).await.unwrap();
    found.duration = expected.duration;
    assert_eq!(found, expected);
    assert_eq!(progress.rows.load(std::sync::atomic::Ordering::Relaxed), 60);
    assert_eq!(
        progress.offsets.load(std::sync::atomic::Ordering::Relaxed),
        60
    );
    let forgotten = std::mem::take(&mut *twice.forgotten.lock().unwrap());
    assert_eq!(forgotten.len(), 6);
    for attempt in forgotten {
        attempt.await.unwrap();
    }
    // What the others may have left is not among the files of a reader.
    assert_eq!(files(&here).await, files(&there).await);
    let verify = Verify::open(there.to_str().unwrap()).await.unwrap();
    let verified = verify
        .run(Some(&table(&cluster)), 2, &progress)
        .await
        .unwrap();
    assert_eq!(verified.problems, []);
    assert_eq!(verified.same_rows, Some(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_bytes_of_a_piece_are_refused_or_make_a_piece() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let twice = Arc::<Twice>::default();
    let export = export(&cluster, folder.path()).elsewhere(Arc::clone(&twice) as _, 1);
    export.run(&Arc::default()).await.unwrap();
    let sent = twice.sent.lock().unwrap()[0].clone();
    let input = || {
        let columns = export_columns(&cluster);
        Arc::new(datafusion::physical_plan::empty::EmptyExec::new(columns)) as _
    };
    let made = |text: &String| ExportExec::decode(text.as_bytes(), input()).is_ok();
    let all = spoiled(&sent);
    let read = all.iter().filter(|text| made(text)).count();
    assert!(
        made(&sent) && read > 0 && read < all.len(),
        "{read}: {sent}"
    );
}

/// What a piece reads: the columns of its files, and the values of its folders.
fn export_columns(cluster: &MemoryCluster) -> arrow::datatypes::SchemaRef {
    let table = table(cluster);
    let mut fields = table.decoder().schema().fields().to_vec();
    let folders = arrow::datatypes::Field::new("third", arrow::datatypes::DataType::Int64, true);
    fields.push(Arc::new(folders));
    Arc::new(arrow::datatypes::Schema::new(fields))
}

#[tokio::test]
async fn a_folder_of_another_machine_and_a_run_that_is_over_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = place::Place::open(folder.path().join("here").to_str().unwrap()).unwrap();
    let there = place::Place::open(folder.path().join("there").to_str().unwrap()).unwrap();
    let staging = here.begin_staging().await.unwrap();
    here.check_staging(&staging).await.unwrap();
    let error = there.check_staging(&staging).await.unwrap_err().to_string();
    assert!(error.contains("is not to be seen"), "{error}");
    here.end_staging().await.unwrap();
    here.check_staging(&staging).await.unwrap_err();
    let error = here.publish(&format!("{staging}/x"), "t/x").await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("the file is gone"), "{error}");
    assert!(here.travels(true) && !here.travels(false));
    let memory = place::Place::open("memory:///x").unwrap();
    assert!(!memory.travels(true) && memory.address().is_err());
}

/// An engine that says nothing, or something else.
#[derive(Debug)]
struct Silent;

impl ExecuteElsewhere for Silent {
    fn execute(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        _partition: usize,
        _context: Arc<TaskContext>,
    ) -> QueryResult<SendableRecordBatchStream> {
        Ok(RecordBatchReceiverStreamBuilder::new(plan.schema(), 1).build())
    }
}

#[tokio::test]
async fn a_piece_that_ends_without_files_is_no_piece() {
    let (cluster, folder) = (cluster(), tempfile::tempdir().unwrap());
    let export = export(&cluster, folder.path()).elsewhere(Arc::new(Silent), 2);
    let error = export.run(&Arc::default()).await.unwrap_err().to_string();
    assert!(error.contains("without having written it"), "{error}");
    assert!(!folder.path().join("manifest.json").exists());
}
