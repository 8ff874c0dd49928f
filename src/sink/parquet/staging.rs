//! How the files of an attempt at a batch are written, by the driver or on any machine with the same store.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::parquet::file::metadata::KeyValue;
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::manifest::{self, DataFile};
use super::{ParquetOptions, log, write};
use crate::error::{Error, Result, query_error};
use crate::formats::{columns_of, columns_text};
use crate::memory::{self, Share};
use crate::sink::{BatchRanges, Staged};
use crate::store::Store;

/// How the files of an attempt at a batch are staged: all that a machine needs that has the store.
///
/// Files of two attempts never have one name, nor those of two tasks of an attempt, nor those of a task that
/// runs twice.
#[derive(Debug, Clone)]
pub struct FileStaging {
    pub(super) store: Store,
    pub(super) options: ParquetOptions,
    /// The columns of the rows, in plain types.
    pub(super) rows: SchemaRef,
    /// The name of the columns of all files, which are in the store.
    pub(super) schema: String,
    pub(super) number: u64,
    pub(super) batch: BatchRanges,
    /// Tells the files of a task on another machine from all others; empty for those of the driver.
    task: String,
    /// Numbers the partitions of all plans of the attempt.
    next: Arc<AtomicUsize>,
}

/// What `stage` tells `commit`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Detail {
    pub(super) number: u64,
    pub(super) files: Vec<DataFile>,
}

/// What travels.
#[derive(Serialize, Deserialize)]
struct Sent {
    url: String,
    options: BTreeMap<String, String>,
    partition_by: Vec<String>,
    rows: String,
    schema: String,
    number: u64,
    batch: BatchRanges,
}

impl fmt::Display for FileStaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BatchRanges { batch, job, .. } = &self.batch;
        write!(f, "batch {batch} of job '{job}' to {}", self.store.url())
    }
}

impl FileStaging {
    pub(super) fn new(
        store: &Store,
        options: &ParquetOptions,
        rows: &SchemaRef,
        schema: &str,
        number: u64,
        batch: &BatchRanges,
    ) -> Self {
        Self {
            store: store.clone(),
            options: options.clone(),
            rows: Arc::clone(rows),
            schema: schema.to_owned(),
            number,
            batch: batch.clone(),
            task: String::new(),
            next: Arc::default(),
        }
    }

    /// Whether other processes can have the store: those on this machine, or on any. They cannot if this process
    /// has settings for it beside those of the environment, which may be secret, or if it is in memory.
    pub fn travels(&self, on_this_machine: bool) -> bool {
        self.store.address().is_some() && (on_this_machine || self.store.local().is_none())
    }

    /// The staging as bytes that [`decode`](Self::decode) of the same version reads. They have no secret.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it does not [travel](Self::travels).
    pub fn encode(&self) -> Result<Vec<u8>> {
        let Some(url) = self.store.address() else {
            return Err(Error::invalid(format!(
                "{}: the store has settings that other machines do not have",
                self.store.url()
            )));
        };
        let sent = Sent {
            url: url.to_owned(),
            options: self.options.of_files(),
            partition_by: self.options.partition_by.clone(),
            rows: columns_text(&self.rows)?,
            schema: self.schema.clone(),
            number: self.number,
            batch: self.batch.clone(),
        };
        serde_json::to_vec(&sent)
            .map_err(|e| Error::internal(format!("a staging as bytes: {e}")).because(e))
    }

    /// The staging that [`encode`](Self::encode) made the bytes of, for a task on this machine. The store's
    /// settings are those of the environment.
    ///
    /// # Errors
    /// [`Error::Invalid`] when these are no such bytes, or this build does not have the store.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let sent: Sent = serde_json::from_slice(bytes).map_err(|e| {
            Error::invalid(format!("these bytes are no staging of files: {e}")).because(e)
        })?;
        let mut options = ParquetOptions {
            partition_by: sent.partition_by,
            ..ParquetOptions::default()
        };
        for (name, value) in &sent.options {
            options.set(name, value)?;
        }
        Ok(Self {
            store: Store::open(&sent.url, &HashMap::new())?,
            options,
            rows: columns_of(&sent.rows)?,
            schema: sent.schema,
            number: sent.number,
            batch: sent.batch,
            task: format!("{:016x}-", uuid::Uuid::new_v4().as_u64_pair().1),
            next: Arc::default(),
        })
    }

    /// Stages the rows of the next partition.
    ///
    /// # Errors
    /// As [`OpenSink::stage_within`](crate::sink::OpenSink::stage_within).
    pub(crate) async fn stage(
        &self,
        rows: SendableRecordBatchStream,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Staged> {
        if !self.task.is_empty() {
            self.check_store().await?;
        }
        let partition = self.next.fetch_add(1, Ordering::Relaxed);
        self.stage_partition(partition, rows, memory).await
    }

    /// The number that [`stage`](Self::stage) gives the next partition does not count these.
    pub(super) async fn stage_partition(
        &self,
        partition: usize,
        mut rows: SendableRecordBatchStream,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Staged> {
        let Self { batch, task, .. } = self;
        let folder = manifest::attempt_folder(&batch.job, self.number, &batch.attempt);
        let mut files = write::Files::new(
            &self.store,
            &self.options,
            SchemaRef::clone(&self.rows),
            format!("{folder}/{task}{partition:05}"),
            format!(
                "part-{:020}-{task}{partition:05}-{}",
                batch.batch, batch.attempt
            ),
            self.footer()?,
            Share::join(),
            memory::held(memory, format!("ParquetSink[{partition}]")),
        )?;
        let written = async {
            while let Some(rows) = rows.next().await {
                files.write(rows.map_err(query_error)?).await?;
            }
            files.finish().await
        };
        let written = written.await;
        let files = match written {
            Ok(files) => files,
            Err(error) => {
                files.abort().await;
                return Err(error);
            }
        };
        let detail = Detail {
            number: self.number,
            files,
        };
        Ok(Staged {
            partition,
            rows: detail.files.iter().map(|file| file.rows).sum(),
            bytes: detail.files.iter().map(|file| file.bytes).sum(),
            detail: serde_json::to_value(&detail)
                .map_err(|error| Error::invalid(format!("names of staged files: {error}")))?,
        })
    }

    /// Refuses a folder or an endpoint that only has the same name as the driver's.
    async fn check_store(&self) -> Result<()> {
        if log::has_schema(&self.store, &self.batch.job, &self.schema).await? {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{}: what job '{}' has written there is not to be seen: workers write to a folder that they share \
             with the coordinator, or to an object store with the same settings in their environment",
            self.store.url(),
            self.batch.job
        )))
    }

    /// What the footers of a batch's files say.
    fn footer(&self) -> Result<Vec<KeyValue>> {
        let batch = &self.batch;
        let ranges = serde_json::to_string(&batch.ranges)
            .map_err(|error| Error::invalid(format!("the batch's ranges: {error}")))?;
        let value = |name: &str, value: String| KeyValue::new(format!("kafka.{name}"), value);
        Ok(vec![
            value("job", batch.job.clone()),
            value("batch", batch.batch.to_string()),
            value("attempt", batch.attempt.clone()),
            value("ranges", ranges),
        ])
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::execution::memory_pool::UnboundedMemoryPool;
    use datafusion::physical_plan::EmptyRecordBatchStream;

    use super::*;
    use crate::sink::parquet::tests::batch;

    fn staging(url: &str, options: &[(&str, &str)]) -> FileStaging {
        let options = options.iter();
        let options = options.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let store = Store::open(url, &options.collect()).unwrap();
        let options = ParquetOptions {
            partition_by: vec!["a".to_owned()],
            max_file_rows: 7,
            ..ParquetOptions::default()
        };
        let rows = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)]));
        FileStaging::new(&store, &options, &rows, "5c", 3, &batch(4, Some(5), 9))
    }

    #[test]
    fn a_staging_that_is_read_again_is_for_another_task() {
        let here = staging("/out", &[]);
        let sent = here.encode().unwrap();
        let there = [&sent, &sent].map(|sent| FileStaging::decode(sent).unwrap());
        for staging in &there {
            assert_eq!(staging.options, here.options);
            assert_eq!(staging.rows, here.rows);
            assert_eq!(staging.batch, here.batch);
            assert_eq!(staging.store.url(), "/out");
            assert_eq!((&*staging.schema, staging.number), ("5c", 3));
            assert_ne!(staging.task, here.task);
        }
        assert_ne!(there[0].task, there[1].task);
        for wrong in ["", "{}", "null"] {
            let error = FileStaging::decode(wrong.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("no staging of files"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_folder_of_another_machine_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let here = staging(folder.path().to_str().unwrap(), &[]);
        assert!(here.travels(true) && !here.travels(false));
        let there = FileStaging::decode(&here.encode().unwrap()).unwrap();
        let memory: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let rows = || Box::pin(EmptyRecordBatchStream::new(Arc::clone(&here.rows)));
        let error = there.stage(rows(), &memory).await.unwrap_err().to_string();
        assert!(error.contains("is not to be seen"), "{error}");
        assert_eq!(here.stage(rows(), &memory).await.unwrap().rows, 0);
    }

    #[cfg(feature = "s3")]
    #[test]
    fn settings_of_the_store_do_not_travel() {
        let login = [
            ("aws.access_key_id", "id"),
            ("aws.secret_access_key", "hunter2"),
        ];
        let own = staging("s3://lake/out", &login);
        assert!(!own.travels(true) && !format!("{own:?}").contains("hunter2"));
        let error = own.encode().unwrap_err().to_string();
        assert!(
            error.starts_with("s3://lake/out: the store has settings"),
            "{error}"
        );
        assert!(staging("s3://lake/out", &[]).travels(false));
    }
}
