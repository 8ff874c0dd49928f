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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use datafusion::parquet::file::metadata::KeyValue;
use futures::{StreamExt, TryStreamExt};

use super::{
    BatchRanges, Committed, Guarantee, Held, Sink, SinkJob, Staged, Standing, belongs_to_another,
};
use crate::error::{Error, Result, query_error};
use crate::fault;
use crate::memory::{self, Share};
use crate::store::{Created, Store};

mod blocks;
mod clean;
mod factory;
mod hive;
mod log;
mod manifest;
mod options;
mod read;
mod schema;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use blocks::Blocks;
pub use clean::{Orphan, clean};
pub use factory::ParquetTableFactory;
pub use options::ParquetOptions;
pub(crate) use read::{recorded_columns, written};
pub(crate) use write::plain_payloads;

use log::{CONCURRENT, Row, STEP};
use manifest::{DataFile, Manifest, Record};

/// Writes batches as parquet files; see the [module](self).
///
/// Incomplete uploads to an object store are ended by the store's own rules (in S3: a lifecycle
/// rule that aborts incomplete multipart uploads).
pub struct ParquetSink {
    store: Store,
    options: ParquetOptions,
    state: Mutex<Option<Opened>>,
}

/// What is known since `open`.
#[derive(Debug, Clone)]
struct Opened {
    row: Row,
    /// The columns of the rows, in plain types.
    rows: SchemaRef,
    /// The name of the columns of all files.
    schema: String,
    newest: Option<Manifest>,
    /// Whether all files of the newest manifest are published.
    published: bool,
    /// Folders of staged files of other attempts, with the number that they wait for.
    leftovers: Vec<(u64, String)>,
    /// Attempts whose manifest may have been written.
    in_doubt: BTreeSet<String>,
}

impl Opened {
    fn next_number(&self) -> u64 {
        self.newest.as_ref().map_or(0, |m| m.record.number + 1)
    }
}

impl fmt::Debug for ParquetSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetSink")
            .field("store", &self.store)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What `stage` tells `commit`.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Detail {
    number: u64,
    files: Vec<DataFile>,
}

impl ParquetSink {
    /// A sink in a store; see [`Store::open`]. Nothing is read or written yet.
    pub fn new(store: Store, options: ParquetOptions) -> Self {
        Self {
            store,
            options,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<Opened>> {
        // Whole after any panic: each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> Result<Opened> {
        self.state().clone().ok_or_else(|| {
            Error::invalid(format!(
                "{}: the sink is used before it was opened",
                self.target()
            ))
        })
    }

    fn update(&self, change: impl FnOnce(&mut Opened)) {
        if let Some(opened) = self.state().as_mut() {
            change(opened);
        }
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
                return Err(Error::Corrupt {
                    file: format!("{}/{}", self.target(), file.name),
                    message: format!(
                        "batch {} of job '{}' names this file, and it is neither there nor staged: \
                         somebody removed it",
                        manifest.record.batch, manifest.job
                    ),
                });
            }
            fault::point("parquet-file-published");
            Ok(())
        });
        let published = futures::stream::iter(published).buffer_unordered(CONCURRENT);
        published.try_collect::<Vec<()>>().await?;
        if self.options.durability == crate::store::Durability::Fsync {
            let names = files.iter().map(|file| file.name.clone());
            self.store.sync(names.collect()).await?;
        }
        Ok(())
    }

    /// Removes staged files that no manifest can name any more.
    async fn remove_decided(&self, opened: &mut Opened) -> Result<()> {
        let Some(newest) = &opened.newest else {
            return Ok(());
        };
        let taken = newest.record.number;
        let mut kept = vec![];
        for (number, folder) in std::mem::take(&mut opened.leftovers) {
            if number > taken || (number == taken && folder.ends_with(&newest.record.attempt)) {
                kept.push((number, folder));
            } else {
                self.store.delete_folder(&folder).await?;
            }
        }
        opened.leftovers = kept;
        Ok(())
    }

    /// After a commit: removes what is not needed any more. Its failure changes nothing for readers.
    async fn tidy(&self, opened: &mut Opened) {
        let tidied = async {
            self.remove_decided(opened).await?;
            let number = opened.newest.as_ref().map_or(0, |m| m.record.number);
            if (number + 1).is_multiple_of(STEP) {
                opened.row.compact(self.options.durability).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = tidied.await {
            ::log::warn!("tidying after a commit: {error}");
        }
    }

    /// Checks that staged files are there and survive a crash.
    async fn secure(&self, files: &[DataFile]) -> Result<()> {
        let sizes = futures::stream::iter(files.iter().cloned().map(|file| async move {
            match self.store.size(&file.staged).await? {
                Some(bytes) if bytes == file.bytes => Ok(()),
                found => Err(Error::Sink {
                    target: self.target(),
                    operation: format!("committing {}", file.staged),
                    reason: format!(
                        "it has {} bytes of {}: somebody removed staged files; the batch is staged again",
                        found.unwrap_or(0),
                        file.bytes
                    ),
                    transient: true,
                }),
            }
        }));
        let sizes = sizes.buffer_unordered(CONCURRENT);
        sizes.try_collect::<Vec<()>>().await?;
        if self.options.durability == crate::store::Durability::Fsync {
            let names = files.iter().map(|file| file.staged.clone());
            self.store.sync(names.collect()).await?;
        }
        Ok(())
    }

    /// The batch is recorded by `newest`: nothing is left to do but to publish it.
    async fn already(&self, opened: &mut Opened, batch: &BatchRanges) -> Result<()> {
        let Some(newest) = opened.newest.clone() else {
            return Ok(());
        };
        if !opened.published {
            self.publish(&newest, false).await?;
            opened.published = true;
        }
        if newest.record.attempt != batch.attempt {
            let number = newest.record.number;
            let own = manifest::attempt_folder(&batch.job, number, &batch.attempt);
            self.store.delete_folder(&own).await?;
        }
        Ok(())
    }

    fn overtaken(&self, batch: &BatchRanges, how: &str) -> Error {
        Error::Conflict {
            target: self.target(),
            message: format!(
                "batch {} of job '{}' was not committed: {how}; another driver has gone on with the job",
                batch.batch, batch.job
            ),
        }
    }

    /// How a batch stands to the newest manifest.
    fn standing(&self, newest: Option<&Manifest>, batch: &BatchRanges) -> Result<Standing> {
        if newest.is_some_and(|newest| newest.holds(batch)) {
            return Ok(Standing::Committed);
        }
        let ends = newest.map(Manifest::ends);
        let standing = batch.against(&self.target(), ends.as_ref())?;
        match newest {
            Some(newest) if standing == Standing::Next && newest.record.batch >= batch.batch => {
                let how = format!("batch {} is recorded there", newest.record.batch);
                Err(self.overtaken(batch, &how))
            }
            _ => Ok(standing),
        }
    }

    async fn commit_opened(
        &self,
        opened: &mut Opened,
        batch: &BatchRanges,
        mut staged: Vec<Staged>,
    ) -> Result<()> {
        if self.standing(opened.newest.as_ref(), batch).ok() != Some(Standing::Next)
            || !opened.published
        {
            // What is remembered may be old.
            opened.newest = opened.row.newest().await?;
            opened.published = false;
            if self.standing(opened.newest.as_ref(), batch)? == Standing::Committed {
                return self.already(opened, batch).await;
            }
            if let Some(newest) = &opened.newest {
                self.publish(newest, false).await?;
            }
            opened.published = true;
        }
        let number = opened.next_number();
        staged.sort_by_key(|part| part.partition);
        let mut files = vec![];
        for part in staged {
            let detail: Detail = serde_json::from_value(part.detail).map_err(|error| {
                Error::invalid(format!(
                    "{}: rows that another sink staged: {error}",
                    self.target()
                ))
            })?;
            if detail.number != number {
                return Err(self.overtaken(batch, "its rows were staged before another batch"));
            }
            files.extend(detail.files);
        }
        if let Err(error) = self.secure(&files).await {
            // Another driver removes them once it has taken the number.
            opened.newest = opened.row.newest().await?;
            opened.published = false;
            return match self.standing(opened.newest.as_ref(), batch)? {
                Standing::Committed => self.already(opened, batch).await,
                Standing::Next => Err(error),
            };
        }
        if number == 0 {
            self.check_owner(&batch.job).await?;
        }
        let durability = self.options.durability;
        let record = Record {
            number,
            batch: batch.batch,
            attempt: batch.attempt.clone(),
            schema: opened.schema.clone(),
            partitioned_by: self.options.partition_by.clone(),
            files,
        };
        let manifest = Manifest::next(opened.newest.as_ref(), batch, record);
        fault::point("manifest-before-put");
        self.update(|state| {
            state.in_doubt.insert(batch.attempt.clone());
        });
        let created = opened.row.put(&manifest, durability).await?;
        fault::point("manifest-after-put");
        if created == Created::Exists {
            let winner = opened.row.get(number).await?;
            let won = winner
                .as_ref()
                .is_some_and(|w| w.record.attempt == batch.attempt);
            if !won {
                return self.lost(opened, winner, batch).await;
            }
        } else if !opened.row.took(&manifest).await? {
            opened.row.withdraw(number).await?;
            return Err(self.overtaken(batch, "its number was taken and pruned long ago"));
        }
        let before = opened.newest.replace(manifest.clone());
        opened.published = false;
        if let Some(before) = before {
            let folder = attempt_folder(&before);
            opened.leftovers.push((before.record.number, folder));
        }
        self.publish(&manifest, true).await?;
        opened.published = true;
        Ok(())
    }

    /// Another attempt took the number.
    async fn lost(
        &self,
        opened: &mut Opened,
        winner: Option<Manifest>,
        batch: &BatchRanges,
    ) -> Result<()> {
        let number = opened.next_number();
        let own = manifest::attempt_folder(&batch.job, number, &batch.attempt);
        let Some(winner) = winner else {
            return Err(self.overtaken(batch, "its number is taken"));
        };
        self.update(|state| {
            state.in_doubt.remove(&batch.attempt);
        });
        opened.newest = Some(winner);
        opened.published = false;
        let standing = self.standing(opened.newest.as_ref(), batch);
        self.store.delete_folder(&own).await?;
        match standing? {
            Standing::Committed => self.already(opened, batch).await,
            Standing::Next => Err(self.overtaken(batch, "its number is taken")),
        }
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

/// The folder of the staged files of a manifest.
fn attempt_folder(manifest: &Manifest) -> String {
    let record = &manifest.record;
    manifest::attempt_folder(&manifest.job, record.number, &record.attempt)
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

    async fn open(&self, job: &SinkJob) -> Result<Option<Committed>> {
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
        let mut opened = Opened {
            row,
            rows,
            schema,
            published: true,
            leftovers: leftovers.collect(),
            in_doubt: BTreeSet::new(),
            newest,
        };
        self.remove_decided(&mut opened).await?;
        opened.row.compact(durability).await?;
        let committed = opened.newest.as_ref().map(Manifest::committed);
        *self.state() = Some(opened);
        Ok(committed)
    }

    async fn stage(
        &self,
        batch: &BatchRanges,
        partition: usize,
        rows: SendableRecordBatchStream,
    ) -> Result<Staged> {
        let memory: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        self.stage_within(batch, partition, rows, &memory).await
    }

    async fn stage_within(
        &self,
        batch: &BatchRanges,
        partition: usize,
        mut rows: SendableRecordBatchStream,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Staged> {
        let opened = self.opened()?;
        let number = opened.next_number();
        let folder = manifest::attempt_folder(&batch.job, number, &batch.attempt);
        let mut files = write::Files::new(
            &self.store,
            &self.options,
            SchemaRef::clone(&opened.rows),
            format!("{folder}/{partition:05}"),
            format!("part-{:020}-{partition:05}-{}", batch.batch, batch.attempt),
            footer(batch)?,
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
        let detail = Detail { number, files };
        Ok(Staged {
            partition,
            rows: detail.files.iter().map(|file| file.rows).sum(),
            bytes: detail.files.iter().map(|file| file.bytes).sum(),
            detail: serde_json::to_value(&detail)
                .map_err(|error| Error::invalid(format!("names of staged files: {error}")))?,
        })
    }

    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()> {
        let mut opened = self.opened()?;
        let committed = self.commit_opened(&mut opened, batch, staged).await;
        if committed.is_ok() {
            self.tidy(&mut opened).await;
        }
        self.update(|state| {
            let in_doubt = std::mem::take(&mut state.in_doubt);
            *state = Opened { in_doubt, ..opened };
        });
        committed
    }

    /// Keeps the files of an attempt whose manifest may have been written, or may be yet: a request
    /// that was given up can still arrive.
    async fn abort(&self, batch: &BatchRanges) -> Result<()> {
        let opened = self.opened()?;
        let attempt = &batch.attempt;
        let committed = opened.newest.as_ref().map(|m| &m.record.attempt);
        if opened.in_doubt.contains(attempt) || committed == Some(attempt) {
            return Ok(());
        }
        let number = opened.next_number();
        let folder = manifest::attempt_folder(&batch.job, number, attempt);
        self.store.delete_folder(&folder).await
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

/// What the footers of a batch's files say.
fn footer(batch: &BatchRanges) -> Result<Vec<KeyValue>> {
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
