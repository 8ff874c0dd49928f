//! Parquet files in a local folder or an object store, each batch visible at once.
//!
//! ```text
//! _staged/JOB/NUMBER-ATTEMPT/00000-00000.parquet.staged     1. rows, where no reader looks
//! _manifests/JOB/00000000000000000007.json                  2. the commit: names files and offsets
//! country=NL/part-00000000000000000007-00000-ATTEMPT-00000.parquet
//!                                                           3. published: a second name
//! ```
//!
//! Step 2 is one conditional create and decides everything: readers that know manifests see exactly
//! what these name, from then on. Plain readers of `**/*.parquet` see a file once it is published,
//! and whole; they never see one that no manifest names, nor a row twice, since the staged name
//! neither ends in `.parquet` nor lies in a folder that they look into. A crash between 2 and 3 is
//! made up for by the next [`open`](Sink::open) or commit of the job.
//!
//! # Why a driver that stood still does no harm
//!
//! - *Before the create:* the number of its manifest is taken, so it fails; if the number was even
//!   pruned, later manifests show that, and it withdraws its own before it publishes.
//! - *Before it publishes:* what it publishes is committed, and a second name that is there stays
//!   as it is.
//! - *Its files:* staged files are removed only once the number that they wait for is taken by
//!   another attempt. So no manifest that may still come names files that are gone; the exception
//!   is [`clean`], which goes by age, and therefore the files are looked up once more before the
//!   create.
//! - The number `n + 1` is written only after all files of `n` are published. So the newest
//!   manifest of a job is the only one with files to publish.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Mutex;

use super::{BatchRanges, Guarantee, Held, Opened, Sink, SinkJob, belongs_to_another};
use crate::error::{Error, Result};
use crate::fault;
use crate::store::{Durability, Store};

mod blocks;
mod clean;
mod commit;
mod factory;
mod log;
mod manifest;
mod opened;
mod options;
mod partition;
mod read;
mod schema;
mod staging;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use blocks::Blocks;
pub use clean::{Orphan, clean};
pub use factory::ParquetTableFactory;
pub use options::ParquetOptions;
pub(crate) use read::{recorded_columns, written};
pub use staging::FileStaging;
#[doc(hidden)]
pub use write::plain_payloads;

use commit::{Files, Known, Newest};
use log::{CONCURRENT, Row};
use manifest::{Manifest, Record};
use opened::OpenParquetSink;

/// Writes batches as parquet files; see the [module](self).
///
/// Incomplete uploads to an object store are ended by the store's own rules (in S3: a lifecycle
/// rule that aborts incomplete multipart uploads).
#[derive(Clone)]
pub struct ParquetSink {
    store: Store,
    options: ParquetOptions,
}

impl fmt::Debug for ParquetSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetSink")
            .field("store", &self.store)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl ParquetSink {
    /// A sink in a store; see [`Store::open`]. Nothing is read or written yet.
    pub fn new(store: Store, options: ParquetOptions) -> Self {
        Self { store, options }
    }

    /// Refuses a location of other jobs, or with files that no job wrote.
    async fn check_owner(&self, job: &str) -> Result<()> {
        let jobs = log::jobs(&self.store).await?;
        let others: Vec<String> = jobs.iter().filter(|j| *j != job).cloned().collect();
        if !others.is_empty() && !self.options.shared {
            return Err(belongs_to_another(&self.target(), job, &others));
        }
        if !jobs.is_empty() {
            return Ok(());
        }
        let names = self.store.list("").await?;
        match names.iter().find(|name| is_visible(name)) {
            None => Ok(()),
            Some(name) => Err(Error::Conflict {
                target: self.target(),
                message: format!(
                    "it holds files that no job wrote, for example {name}, and readers could not \
                     tell them from the job's: write to an empty folder"
                ),
            }),
        }
    }

    /// Gives the files of a manifest their published names, those that lack it if it is not `new`.
    async fn publish(&self, manifest: &Manifest, new: bool) -> Result<()> {
        let files = &manifest.record.files;
        let published = files.iter().cloned().map(|file| async move {
            let is_there = || async {
                let found = self.store.size(&file.name).await?;
                Ok::<_, Error>(found == Some(file.bytes))
            };
            if !new && is_there().await? {
                return Ok(());
            }
            if !self.store.link(&file.staged, &file.name).await? && !is_there().await? {
                return Err(Error::corrupt(
                    format!("{}/{}", self.target(), file.name),
                    format!(
                        "batch {} of job '{}' names this file, and it is neither there nor staged: \
                         somebody removed it",
                        manifest.record.batch, manifest.job
                    ),
                ));
            }
            fault::point("parquet-file-published");
            Ok(())
        });
        let published = futures::stream::iter(published).buffer_unordered(CONCURRENT);
        published.try_collect::<Vec<()>>().await?;
        if self.options.durability == Durability::Fsync {
            let names = files.iter().map(|file| file.name.clone());
            self.store.sync(names.collect()).await?;
        }
        Ok(())
    }

    /// The manifest of a batch.
    async fn find(&self, row: &Row, batch: u64) -> Result<Option<Record>> {
        if let Some(found) = row.get(batch).await?
            && found.record.batch == batch
        {
            return Ok(Some(found.record));
        }
        let records = row.records().await?;
        Ok(records.into_iter().find(|record| record.batch == batch))
    }
}

/// Whether readers of a folder look at a file: not if a part of its name begins with `_` or `.`.
fn is_visible(name: &str) -> bool {
    name.split('/').all(|part| !part.starts_with(['_', '.']))
}

#[async_trait]
impl Sink for ParquetSink {
    fn target(&self) -> String {
        match self.store.url().trim_end_matches('/') {
            "" => "/".to_owned(),
            url => url.to_owned(),
        }
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn open(&self, job: &SinkJob) -> Result<Opened> {
        let target = self.target();
        let rows = schema::plain(&job.schema);
        schema::check(&target, &rows, &self.options.partition_by)?;
        self.check_owner(&job.name).await?;
        let row = Row::new(&self.store, &job.name);
        let newest = row.newest().await?;
        let mut columns = SchemaRef::clone(&rows);
        if let Some(newest) = &newest {
            let recorded = &newest.record;
            if recorded.partitioned_by != self.options.partition_by {
                return Err(Error::invalid(format!(
                    "{target}: the files there are partitioned by ({}), the table by ({}): they \
                     must be the same, or the location another",
                    recorded.partitioned_by.join(", "),
                    self.options.partition_by.join(", ")
                )));
            }
            let recorded = log::get_schema(&self.store, &job.name, &recorded.schema).await?;
            columns = schema::merge(&target, &recorded, &rows)?;
            self.publish(newest, false).await?;
        }
        let durability = self.options.durability;
        let schema = log::put_schema(&self.store, &job.name, &columns, durability).await?;
        let staged = manifest::staged_of(&job.name);
        let names = self.store.list(&staged).await?;
        let folders: BTreeSet<&str> = names
            .iter()
            .filter_map(|n| n.rsplit_once('/'))
            .map(|(folder, _)| folder)
            .collect();
        let leftovers = folders.into_iter().filter_map(|folder| {
            let number = folder.rsplit('/').next()?.split_once('-')?.0;
            Some((number.parse().ok()?, folder.to_owned()))
        });
        let committed = newest.as_ref().map(Manifest::committed);
        let mut known = Known {
            newest: newest.map(|manifest| Newest {
                manifest,
                files: Files::Published,
            }),
            leftovers: leftovers.collect(),
            in_doubt: BTreeSet::new(),
        };
        for folder in known.take_decided() {
            self.store.delete_folder(&folder).await?;
        }
        row.compact(durability).await?;
        let sink = OpenParquetSink {
            sink: self.clone(),
            row,
            rows,
            schema,
            known: Mutex::new(known),
        };
        Ok(Opened {
            sink: Arc::new(sink),
            committed,
        })
    }

    async fn held(&self, batch: &BatchRanges, schema: &SchemaRef) -> Result<Held> {
        let row = Row::new(&self.store, &batch.job);
        let Some(record) = self.find(&row, batch.batch).await? else {
            return Ok(Held::Unknown);
        };
        let columns = log::get_schema(&self.store, &batch.job, &record.schema).await?;
        let newest = row.newest().await?;
        let is_newest = newest.is_some_and(|newest| newest.record.number == record.number);
        let rows = read::rows(&self.store, &columns, record, is_newest).await?;
        Ok(Held::Exactly(read::as_in(rows, schema)))
    }
}
