//! The commit: from staged files to published ones.
//!
//! ```text
//! look      how the batch stands to the newest manifest: as remembered, or read again
//! gather    the files that its partitions have staged for the next number
//! secure    these files are there and survive a crash
//! record    the manifest, by a conditional create: this decides
//! publish   the files get the names that plain readers see
//! ```

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};

use super::log::{CONCURRENT, STEP};
use super::manifest::{self, DataFile, Manifest, Record};
use super::opened::OpenParquetSink;
use super::staging::Detail;
use crate::error::{Error, Result};
use crate::fault;
use crate::sink::{BatchRanges, Sink as _, Staged, Standing};
use crate::store::{Created, Durability};

/// What is known of a job's manifests since its sink was opened.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) newest: Option<Newest>,
    /// Folders of staged files of other attempts, with the number that they wait for.
    pub(super) leftovers: Vec<(u64, String)>,
    /// Attempts whose manifest may have been written.
    pub(super) in_doubt: BTreeSet<String>,
}

/// The newest manifest, and what became of its files.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) manifest: Manifest,
    pub(super) files: Files,
}

/// Whether plain readers see the files of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// This sink has just written the manifest and published no file.
    Staged,
    /// The manifest was read: another run may have published some.
    Unknown,
    Published,
}

impl Known {
    fn manifest(&self) -> Option<&Manifest> {
        self.newest.as_ref().map(|newest| &newest.manifest)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.manifest().map_or(0, |m| m.record.number + 1)
    }

    /// Whether `batch` comes next as far as is remembered, and no file before it waits to be published.
    ///
    /// `false` is no answer: what is remembered may be old, and then so is a conflict with it.
    fn is_ready_for(&self, target: &str, batch: &BatchRanges) -> bool {
        let published = |newest: &Newest| newest.files == Files::Published;
        self.newest.as_ref().is_none_or(published)
            && matches!(standing(target, self.manifest(), batch), Ok(Standing::Next))
    }

    fn set_newest(&mut self, manifest: Option<Manifest>, files: Files) {
        self.newest = manifest.map(|manifest| Newest { manifest, files });
    }

    /// Goes on to a manifest that this sink has written.
    fn follow(&mut self, manifest: Manifest) {
        if let Some(before) = self.manifest() {
            let folder = attempt_folder(before);
            self.leftovers.push((before.record.number, folder));
        }
        self.set_newest(Some(manifest), Files::Staged);
    }

    /// Takes out the folders of staged files that no manifest can name any more.
    pub(super) fn take_decided(&mut self) -> Vec<String> {
        let Some(newest) = self.newest.as_ref().map(|newest| &newest.manifest.record) else {
            return vec![];
        };
        let undecided = |(number, folder): &(u64, String)| {
            *number > newest.number
                || (*number == newest.number && folder.ends_with(&newest.attempt))
        };
        let (kept, decided): (Vec<_>, Vec<_>) = std::mem::take(&mut self.leftovers)
            .into_iter()
            .partition(undecided);
        self.leftovers = kept;
        decided.into_iter().map(|(_, folder)| folder).collect()
    }
}

/// Who has the number of a manifest.
enum Recorded {
    Ours,
    /// Another attempt; its manifest, if that is still there.
    Theirs(Option<Box<Manifest>>),
}

impl OpenParquetSink {
    pub(super) async fn commit_next(
        &self,
        known: &mut Known,
        batch: &BatchRanges,
        staged: Vec<Staged>,
    ) -> Result<()> {
        let target = self.sink.target();
        if !known.is_ready_for(&target, batch) {
            if self.look(known, batch).await? == Standing::Committed {
                return self.already(known, batch).await;
            }
            self.publish(known).await?;
        }
        let number = known.next_number();
        let Some(files) = gather(&target, number, staged)? else {
            let how = "its rows were staged before another batch";
            return Err(overtaken(&target, batch, how));
        };
        if let Err(error) = self.secure(&files).await {
            // Another driver removes them once it has taken the number.
            return match self.look(known, batch).await? {
                Standing::Committed => self.already(known, batch).await,
                Standing::Next => Err(error),
            };
        }
        if number == 0 {
            self.sink.check_owner(&batch.job).await?;
        }
        let record = Record {
            number,
            batch: batch.batch,
            attempt: batch.attempt.clone(),
            schema: self.schema.clone(),
            partitioned_by: self.sink.options.partition_by.clone(),
            files,
        };
        let manifest = Manifest::next(known.manifest(), batch, record);
        match self.record(known, &manifest, batch).await? {
            Recorded::Ours => known.follow(manifest),
            Recorded::Theirs(winner) => {
                return self.lost(known, winner.map(|winner| *winner), batch).await;
            }
        }
        self.publish(known).await
    }

    /// Reads the newest manifest again; how the batch stands to it.
    async fn look(&self, known: &mut Known, batch: &BatchRanges) -> Result<Standing> {
        known.set_newest(self.row.newest().await?, Files::Unknown);
        standing(&self.sink.target(), known.manifest(), batch)
    }

    /// The newest manifest records the batch: its files may have to be published, and those of this
    /// attempt to be removed.
    async fn already(&self, known: &mut Known, batch: &BatchRanges) -> Result<()> {
        self.publish(known).await?;
        match known.manifest() {
            Some(newest) if newest.record.attempt != batch.attempt => {
                let number = newest.record.number;
                let own = manifest::attempt_folder(&batch.job, number, &batch.attempt);
                self.sink.store.delete_folder(&own).await
            }
            _ => Ok(()),
        }
    }

    /// Checks that staged files are there and survive a crash.
    async fn secure(&self, files: &[DataFile]) -> Result<()> {
        let store = &self.sink.store;
        let sizes = futures::stream::iter(files.iter().cloned().map(|file| async move {
            match store.size(&file.staged).await? {
                Some(bytes) if bytes == file.bytes => Ok(()),
                found => Err(Error::Sink {
                    target: self.sink.target(),
                    operation: format!("committing {}", file.staged),
                    reason: format!(
                        "it has {} bytes of {}: somebody removed staged files; the batch is staged again",
                        found.unwrap_or(0),
                        file.bytes
                    ),
                    transient: true,
                    source: None,
                }),
            }
        }));
        let sizes = sizes.buffer_unordered(CONCURRENT);
        sizes.try_collect::<Vec<()>>().await?;
        if self.sink.options.durability == Durability::Fsync {
            let names = files.iter().map(|file| file.staged.clone());
            store.sync(names.collect()).await?;
        }
        Ok(())
    }

    /// Writes a manifest under its number, unless another attempt has that.
    async fn record(
        &self,
        known: &mut Known,
        manifest: &Manifest,
        batch: &BatchRanges,
    ) -> Result<Recorded> {
        let number = manifest.record.number;
        fault::point("manifest-before-put");
        known.in_doubt.insert(batch.attempt.clone());
        let durability = self.sink.options.durability;
        let created = self.row.put(manifest, durability).await?;
        fault::point("manifest-after-put");
        if created == Created::Exists {
            let winner = self.row.get(number).await?;
            let ours = |winner: &Manifest| winner.record.attempt == batch.attempt;
            return Ok(match winner.as_ref().is_some_and(ours) {
                true => Recorded::Ours,
                false => Recorded::Theirs(winner.map(Box::new)),
            });
        }
        if !self.row.took(manifest).await? {
            self.row.withdraw(number).await?;
            let how = "its number was taken and pruned long ago";
            return Err(overtaken(&self.sink.target(), batch, how));
        }
        Ok(Recorded::Ours)
    }

    /// Another attempt took the number.
    async fn lost(
        &self,
        known: &mut Known,
        winner: Option<Manifest>,
        batch: &BatchRanges,
    ) -> Result<()> {
        let target = self.sink.target();
        let taken = || overtaken(&target, batch, "its number is taken");
        let own = manifest::attempt_folder(&batch.job, known.next_number(), &batch.attempt);
        let Some(winner) = winner else {
            return Err(taken());
        };
        known.in_doubt.remove(&batch.attempt);
        known.set_newest(Some(winner), Files::Unknown);
        self.sink.store.delete_folder(&own).await?;
        match standing(&target, known.manifest(), batch)? {
            Standing::Committed => self.already(known, batch).await,
            Standing::Next => Err(taken()),
        }
    }

    /// Publishes the files of the newest manifest that are not yet.
    async fn publish(&self, known: &mut Known) -> Result<()> {
        if let Some(newest) = &mut known.newest {
            if newest.files != Files::Published {
                let new = newest.files == Files::Staged;
                self.sink.publish(&newest.manifest, new).await?;
            }
            newest.files = Files::Published;
        }
        Ok(())
    }

    /// After a commit: removes what is not needed any more. Its failure changes nothing for readers.
    pub(super) async fn tidy(&self, known: &mut Known) {
        let tidied = async {
            for folder in known.take_decided() {
                self.sink.store.delete_folder(&folder).await?;
            }
            if known.next_number().is_multiple_of(STEP) {
                self.row.compact(self.sink.options.durability).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = tidied.await {
            ::log::warn!("tidying after a commit: {error}");
        }
    }
}

/// How a batch stands to the newest manifest.
///
/// # Errors
/// [`Error::Conflict`] and no other: nothing is read.
fn standing(target: &str, newest: Option<&Manifest>, batch: &BatchRanges) -> Result<Standing> {
    if newest.is_some_and(|newest| newest.holds(batch)) {
        return Ok(Standing::Committed);
    }
    let ends = newest.map(Manifest::ends);
    let standing = batch.against(target, ends.as_ref())?;
    match newest {
        Some(newest) if standing == Standing::Next && newest.record.batch >= batch.batch => {
            let how = format!("batch {} is recorded there", newest.record.batch);
            Err(overtaken(target, batch, &how))
        }
        _ => Ok(standing),
    }
}

/// The files of all partitions in their order; `None` when some were staged for another number.
fn gather(target: &str, number: u64, mut staged: Vec<Staged>) -> Result<Option<Vec<DataFile>>> {
    staged.sort_by_key(|part| part.partition);
    let mut files = vec![];
    for part in staged {
        let detail: Detail = serde_json::from_value(part.detail).map_err(|error| {
            Error::invalid(format!("{target}: rows that another sink staged: {error}"))
        })?;
        if detail.number != number {
            return Ok(None);
        }
        files.extend(detail.files);
    }
    Ok(Some(files))
}

/// The folder of the staged files of a manifest.
fn attempt_folder(manifest: &Manifest) -> String {
    let record = &manifest.record;
    manifest::attempt_folder(&manifest.job, record.number, &record.attempt)
}

fn overtaken(target: &str, batch: &BatchRanges, how: &str) -> Error {
    Error::Conflict {
        target: target.to_owned(),
        message: format!(
            "batch {} of job '{}' was not committed: {how}; another driver has gone on with the job",
            batch.batch, batch.job
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::parquet::tests::batch;

    fn manifest(before: Option<&Manifest>, number: u64, of: &BatchRanges) -> Manifest {
        let record = Record {
            number,
            batch: of.batch,
            attempt: of.attempt.clone(),
            schema: String::new(),
            partitioned_by: vec![],
            files: vec![],
        };
        Manifest::next(before, of, record)
    }

    fn conflict(result: Result<Standing>) -> String {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
        error.to_string()
    }

    #[test]
    fn a_batch_is_next_committed_or_a_conflict() {
        let first = batch(0, None, 5);
        assert_eq!(standing("t", None, &first).unwrap(), Standing::Next);
        let newest = manifest(None, 0, &first);
        let again = batch(0, None, 5);
        let stands = |batch: &BatchRanges| standing("t", Some(&newest), batch);
        assert_eq!(stands(&again).unwrap(), Standing::Committed);
        assert_eq!(stands(&batch(1, Some(5), 9)).unwrap(), Standing::Next);
        // A batch that moves nothing is told from the one before by its number.
        assert_eq!(stands(&batch(1, Some(5), 5)).unwrap(), Standing::Next);
        conflict(stands(&batch(1, Some(4), 9)));
        conflict(stands(&batch(0, None, 4)));
        let late = conflict(stands(&batch(0, Some(5), 9)));
        assert!(late.contains("batch 0 is recorded there"), "{late}");
    }

    #[test]
    fn what_is_remembered_is_no_answer_but_to_the_next_batch() {
        let first = batch(0, None, 5);
        let mut known = Known {
            newest: None,
            leftovers: vec![],
            in_doubt: BTreeSet::new(),
        };
        assert!(known.is_ready_for("t", &first));
        assert!(!known.is_ready_for("t", &batch(1, Some(5), 9)));
        known.follow(manifest(None, 0, &first));
        assert_eq!(known.next_number(), 1);
        let second = batch(1, Some(5), 9);
        assert!(!known.is_ready_for("t", &second), "files wait");
        known.newest.as_mut().unwrap().files = Files::Published;
        assert!(known.is_ready_for("t", &second));
        assert!(!known.is_ready_for("t", &first), "it is committed");
    }

    #[test]
    fn staged_files_are_decided_once_their_number_is_taken() {
        let (first, second) = (batch(0, None, 5), batch(1, Some(5), 9));
        let folder =
            |number, of: &BatchRanges| manifest::attempt_folder("job", number, &of.attempt);
        let mut known = Known {
            newest: None,
            leftovers: vec![(0, folder(0, &second)), (1, folder(1, &first))],
            in_doubt: BTreeSet::new(),
        };
        assert!(known.take_decided().is_empty(), "no number is taken");
        known.follow(manifest(None, 0, &first));
        assert_eq!(known.take_decided(), [folder(0, &second)]);
        // The folder of the batch before goes with the others of its number.
        known.follow(manifest(known.manifest().cloned().as_ref(), 1, &second));
        assert_eq!(known.take_decided(), [folder(1, &first), folder(0, &first)]);
        assert!(known.leftovers.is_empty());
    }

    #[test]
    fn files_are_gathered_in_the_order_of_partitions_and_for_one_number() {
        let staged = |partition, number: u64, name: &str| {
            let file = DataFile {
                name: name.to_owned(),
                staged: String::new(),
                rows: 1,
                bytes: 1,
                sha256: String::new(),
                values: vec![],
            };
            let files = vec![file];
            Staged {
                partition,
                detail: serde_json::to_value(Detail { number, files }).unwrap(),
                ..Staged::default()
            }
        };
        let files = gather("t", 3, vec![staged(1, 3, "b"), staged(0, 3, "a")]).unwrap();
        let names: Vec<_> = files.iter().flatten().map(|file| &*file.name).collect();
        assert_eq!(names, ["a", "b"]);
        let late = gather("t", 4, vec![staged(0, 4, "a"), staged(1, 3, "b")]);
        assert_eq!(late.unwrap(), None);
        assert_eq!(gather("t", 0, vec![]).unwrap(), Some(vec![]));
        let foreign = gather("t", 0, vec![Staged::default()]).unwrap_err();
        assert!(foreign.to_string().contains("another sink"), "{foreign}");
    }
}
