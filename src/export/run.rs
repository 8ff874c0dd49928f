//! Plans an export, writes its pieces in parallel and completes it with a manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use super::exec::ExportExec;
use super::pieces::{self, CutRange};
use super::place::Place;
use super::plan::{self, ExportManifest, ExportedPiece, Plan, PlannedColumn, Request};
use super::query::{Query, planning};
use super::write::Writing;
use super::{DEFAULT_MAX_FILE_BYTES, Elsewhere, Export, ExportProgress, ExportSummary, sample};
use crate::client::{TopicSelection, epochs};
use crate::error::{Error, Result};
use crate::fault;
use crate::formats::columns_text;
use crate::kafka_sink::letters;
use crate::range::{OffsetRange, Snapshot};
use crate::store::Created;

/// How many small files are read at the same time.
const READ_AT_ONCE: usize = 16;

impl Export {
    /// Runs the export to its end, or to the first error. Dropping the future stops it. Finished pieces stay,
    /// and a run with [`resume`](super::ExportBuilder::resume) continues.
    ///
    /// # Errors
    /// - [`Error::Conflict`] when the target holds another export or other files, or this export was already
    ///   begun and is not to be resumed.
    /// - [`Error::Invalid`] when the query does not work row by row.
    /// - [`Error::Sink`] when the target fails.
    /// - Any error of reading.
    pub async fn run(&self, progress: &Arc<ExportProgress>) -> Result<ExportSummary> {
        let began = Instant::now();
        let place = Place::open(&self.target)?;
        let this = self.as_begun(&place).await?;
        this.write_all(&place, began, progress).await
    }

    /// The export with the columns that it was begun with. Columns inferred from records may be different
    /// now.
    async fn as_begun(&self, place: &Place) -> Result<Self> {
        let mut this = self.clone();
        let plan = Plan::read(place).await?;
        if let Some(formats) = plan.as_ref().and_then(|plan| plan.formats.as_ref())
            && formats.asks_as(&self.table.recorded_formats()?)
        {
            this.table = self.table.with_recorded(formats).await?;
        }
        Ok(this)
    }

    async fn write_all(
        &self,
        place: &Place,
        began: Instant,
        progress: &Arc<ExportProgress>,
    ) -> Result<ExportSummary> {
        letters::check_place(&self.table).await?;
        let (plan, query) = self.planned(place).await?;
        query.check_budget().await?;
        fault::point("export-after-plan");
        progress.planned.store(true, Ordering::Relaxed);
        let _lock = place.lock()?;

        let all = plan.pieces();
        let found = standing(place, &plan, &all).await?;
        let offsets = |pieces: &mut dyn Iterator<Item = &OffsetRange>| {
            let sum: i64 = pieces.fold(0, |sum: i64, p| sum.saturating_add(p.len()));
            u64::try_from(sum).unwrap_or(0)
        };
        let (total, before) = (
            offsets(&mut all.iter()),
            offsets(&mut found.done.values().map(|piece| &piece.range)),
        );
        let relaxed = Ordering::Relaxed;
        progress.offsets.store(before, relaxed);
        progress.offsets_total.store(total, relaxed);
        progress.pieces.store(found.done.len() as u64, relaxed);
        progress.pieces_total.store(all.len() as u64, relaxed);
        let files_before = found.done.values().map(|p| p.files.len() as u64).sum();

        place.delete(&found.unfinished).await?;
        if !found.manifest {
            let folders: BTreeSet<String> = all.iter().map(|p| p.topic().to_string()).collect();
            let staged = folders.into_iter().chain(["_export".to_owned()]);
            place.remove_staged(staged.collect()).await?;
            place.end_staging().await?;
        }

        let mut done = found.done;
        let missing = all.iter().filter(|p| !done.contains_key(&key(p)));
        let missing: Vec<OffsetRange> = missing.cloned().collect();
        if !missing.is_empty() {
            let mut writing = self.writing(place, &query);
            if self.elsewhere.is_some() {
                writing.staging = Some(place.begin_staging().await?);
            }
            let pieces = Pieces {
                query: query.clone(),
                writing: Arc::new(writing),
                elsewhere: self.elsewhere.clone(),
            };
            for piece in self.write(Arc::new(pieces), missing, progress).await? {
                done.insert(key(&piece.range), piece);
            }
            place.end_staging().await?;
        }
        let pieces: Vec<ExportedPiece> = all.iter().filter_map(|p| done.remove(&key(p))).collect();
        let manifest = ExportManifest::new(self.format, pieces);
        self.judge_bad_records(&manifest.pieces)?;
        if !found.manifest {
            self.commit_letters(&plan, &query, &manifest.pieces).await?;
            fault::point("export-before-manifest");
            place.put(plan::MANIFEST, plan::json(&manifest)?).await?;
            fault::point("export-after-manifest");
        }

        let sum = |of: fn(&ExportedPiece) -> u64| {
            manifest.pieces.iter().map(of).fold(0, u64::saturating_add)
        };
        Ok(ExportSummary {
            pieces: manifest.pieces.len() as u64,
            files: sum(|piece| piece.files.len() as u64),
            files_before,
            rows: manifest.rows,
            bytes: manifest.bytes,
            offsets: total,
            offsets_without_record: total.saturating_sub(sum(|piece| piece.records)),
            lost_offsets: sum(|piece| piece.lost_offsets),
            bad_records: sum(|piece| piece.bad_records),
            duration: began.elapsed(),
        })
    }

    fn writing(&self, place: &Place, query: &Query) -> Writing {
        Writing {
            place: place.clone(),
            columns: query.columns.clone(),
            format: self.format,
            bytes: self.bytes,
            staging: None,
        }
    }

    fn request(&self) -> Request {
        let bytes = self.max_file_bytes.unwrap_or(DEFAULT_MAX_FILE_BYTES);
        Request {
            table: self.name.clone(),
            source: self.table.source(),
            sql: self.sql.clone(),
            decoding: self.table.decoding_and_place(),
            format: self.format,
            bytes: self.bytes,
            partition_by: self.partition_by.clone(),
            max_file_bytes: self.max_file_offsets.is_none().then_some(bytes),
            max_file_offsets: self.max_file_offsets,
        }
    }

    async fn query(&self, snapshot: &Snapshot) -> Result<Query> {
        Query::plan(
            &self.name,
            &self.table,
            self.sql.as_deref(),
            self.partition_by.as_deref(),
            snapshot,
            self.runtime.clone(),
            &self.policy,
        )
        .await
    }

    /// The stored plan, or a new one.
    async fn planned(&self, place: &Place) -> Result<(Plan, Query)> {
        let conflict = |message: String| Error::Conflict {
            target: place.url().to_owned(),
            message,
        };
        let request = self.request();
        if let Some(plan) = Plan::read(place).await? {
            let mut differences = plan.differences(&request);
            let (there, here) = (plan.snapshot.isolation_level(), self.table.isolation());
            if there != here {
                differences.push(format!(
                    "the isolation level is {there} there and {here} here"
                ));
            }
            let pinned = self.table.pinned();
            if pinned.is_some_and(|pinned| pinned.ranges() != plan.snapshot.ranges()) {
                differences.push("the pinned ranges differ".to_owned());
            }
            let there = plan.request.source.clone();
            if differences.is_empty() {
                if !self.resume {
                    return Err(conflict(format!(
                        "this export of {there} was begun there already; continue it with --resume, \
                         or name an empty folder"
                    )));
                }
                self.same_topics(place, &plan.snapshot).await?;
                let next = "the export was begun before that: begin another one in an empty folder";
                let client = self.table.client().as_ref();
                epochs::refuse_cut(client, &plan.snapshot, next).await?;
                let query = self.query(&plan.snapshot).await?;
                if columns(&query) == plan.columns {
                    return Ok((plan, query));
                }
                differences.push("the query now yields other columns".to_owned());
            }
            return Err(conflict(format!(
                "another export lies there, of {there}: {}; name an empty folder",
                differences.join(", ")
            )));
        }
        if let Some(found) = place.first_foreign().await? {
            return Err(conflict(format!(
                "the folder is not empty and holds no export (it has {found}); name an empty folder"
            )));
        }
        // Finds out whether the query works before looking anything up, let alone reading.
        self.query(&Snapshot::empty(self.table.isolation())).await?;
        let snapshot = self.table.snapshot().await?;
        let query = self.query(&snapshot).await?;
        let cuts = self.cuts(place, &query, &snapshot).await?;
        let mut plan = Plan::new(request, snapshot, cuts);
        let name = |index: usize| query.columns.schema.field(index).name().clone();
        plan.formats = Some(self.table.recorded_formats()?);
        plan.schema = Some(columns_text(&query.columns.schema)?);
        plan.columns = columns(&query);
        plan.offset_column = query.columns.offset.map(name);
        plan.timestamp_column = query.columns.timestamp.map(name);
        plan.repeats = query.repeats;
        match place.create(plan::PLAN, plan::json(&plan)?).await? {
            Created::New => Ok((plan, query)),
            Created::Exists => Err(conflict(
                "another process began an export there a moment ago; name an empty folder"
                    .to_owned(),
            )),
        }
    }

    async fn cuts(
        &self,
        place: &Place,
        query: &Query,
        snapshot: &Snapshot,
    ) -> Result<Vec<CutRange>> {
        let offsets = match self.max_file_offsets {
            Some(offsets) => offsets,
            None => {
                let writing = self.writing(place, query);
                let bytes = self.max_file_bytes.unwrap_or(DEFAULT_MAX_FILE_BYTES);
                sample::offsets(query, &writing, snapshot, bytes).await?
            }
        };
        pieces::cut(snapshot, offsets)
    }

    /// Checks that the plan's topics are those of this cluster, because in another one the same offsets hold
    /// other records. Reading checks the ids of the topics again.
    async fn same_topics(&self, place: &Place, snapshot: &Snapshot) -> Result<()> {
        let names: Vec<Arc<str>> = snapshot
            .topics()
            .iter()
            .map(|t| Arc::clone(&t.topic))
            .collect();
        let client = self.table.client();
        let cluster = client.describe(TopicSelection::Named(&names)).await?;
        if let (Some(expected), Some(found)) = (snapshot.cluster_id(), &cluster.cluster_id)
            && expected != found
        {
            return Err(Error::Conflict {
                target: place.url().to_owned(),
                message: format!(
                    "the export was begun on the cluster {expected}, this is {found}; \
                     name that cluster's brokers"
                ),
            });
        }
        for topic in snapshot.topics() {
            let found = cluster.topics.iter().find(|t| t.name == topic.topic);
            if let Some(expected) = &topic.topic_id
                && let Some(found) = found.and_then(|t| t.id.as_ref())
                && expected != found
            {
                return Err(Error::TopicRecreated {
                    topic: topic.topic.to_string(),
                    expected: expected.clone(),
                    found: found.clone(),
                });
            }
        }
        Ok(())
    }

    /// Writes pieces with their records, several at a time.
    async fn write(
        &self,
        pieces: Arc<Pieces>,
        missing: Vec<OffsetRange>,
        progress: &Arc<ExportProgress>,
    ) -> Result<Vec<ExportedPiece>> {
        let here = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let at_once = self.elsewhere.as_ref().map(|elsewhere| elsewhere.pieces);
        let at_once = self.parallel.or(at_once).unwrap_or_else(here).max(1);
        let mut done = Vec::with_capacity(missing.len());
        let mut missing = missing.into_iter();
        // Dropping this future drops the set, and with it every task.
        let mut tasks: JoinSet<Result<ExportedPiece>> = JoinSet::new();
        loop {
            while tasks.len() < at_once
                && let Some(piece) = missing.next()
            {
                let (pieces, progress) = (Arc::clone(&pieces), Arc::clone(progress));
                tasks.spawn(async move { pieces.finish(piece, &progress).await });
            }
            let Some(finished) = tasks.join_next().await else {
                return Ok(done);
            };
            let piece = finished.map_err(|e| {
                Error::sink(pieces.writing.place.url(), "writing a piece", e.to_string()).because(e)
            })??;
            done.push(piece);
        }
    }
}

/// How pieces are written.
struct Pieces {
    query: Query,
    writing: Arc<Writing>,
    elsewhere: Option<Elsewhere>,
}

impl Pieces {
    /// Writes a piece, then the record that it is done.
    async fn finish(&self, piece: OffsetRange, progress: &ExportProgress) -> Result<ExportedPiece> {
        fault::point("export-before-piece");
        let place = &self.writing.place;
        let name = pieces::done_name(&piece);
        let plan = self.query.of_piece(&piece).await?;
        let plan = ExportExec::new(plan, Arc::clone(&self.writing), piece.clone());
        let plan: Arc<dyn ExecutionPlan> = Arc::new(plan);
        let task = self.query.state.task_ctx();
        let rows = match &self.elsewhere {
            Some(elsewhere) => elsewhere.engine.execute(&plan, 0, task),
            None => plan.execute(0, task),
        };
        let rows = rows.map_err(|e| planning(&e))?;
        let written = ExportExec::follow(rows, &piece, progress).await?;
        let done = written.piece;
        for (staged, file) in written.staged.iter().zip(&done.files) {
            place.publish(staged, &file.path).await?;
        }
        fault::point("export-after-files");
        place.put(&name, plan::done_json(&done)?).await?;
        fault::point("export-after-done");
        let bytes = done.files.iter().map(|file| file.bytes).sum();
        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        progress.pieces.fetch_add(1, Ordering::Relaxed);
        Ok(done)
    }
}

pub(super) fn columns(query: &Query) -> Vec<PlannedColumn> {
    let fields = query.columns.schema.fields().iter();
    fields
        .map(|field| PlannedColumn {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
        })
        .collect()
}

type Key = (String, i32, i64);

fn key(piece: &OffsetRange) -> Key {
    (piece.topic().to_string(), piece.partition(), piece.start())
}

/// What earlier runs have left.
struct Standing {
    /// Pieces that have both their record and their files.
    done: BTreeMap<Key, ExportedPiece>,
    /// Files of other pieces.
    unfinished: Vec<String>,
    /// Whether the manifest exists, so that nothing is left to do.
    manifest: bool,
}

async fn standing(place: &Place, plan: &Plan, all: &[OffsetRange]) -> Result<Standing> {
    let files = place.list().await?;
    let records = all
        .iter()
        .map(|piece| (piece.clone(), pieces::done_name(piece)));
    // Collected first, because a future that holds the closures could not be sent to another thread.
    let present: Vec<(OffsetRange, String)> = records
        .filter(|(_, name)| files.contains_key(name))
        .collect();
    let records: Vec<Option<ExportedPiece>> = futures::stream::iter(present)
        .map(|(piece, name)| async move {
            let record = plan::read_done(place, &name).await?;
            Ok::<_, Error>(record.filter(|record| record.range == piece))
        })
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await?;
    let whole = |piece: &ExportedPiece| {
        let mut named = piece.files.iter();
        named.all(|file| files.get(&file.path) == Some(&file.bytes))
    };
    let done: BTreeMap<Key, ExportedPiece> = records
        .into_iter()
        .flatten()
        .filter(whole)
        .map(|piece| (key(&piece.range), piece))
        .collect();
    let named: BTreeSet<&str> = done
        .values()
        .flat_map(|piece| piece.files.iter().map(|file| file.path.as_str()))
        .collect();
    // Only files with the name of one of this export's pieces; nothing else is ever removed.
    let ours: BTreeSet<(String, i32, String)> = all
        .iter()
        .map(|p| (p.topic().to_string(), p.partition(), pieces::stem(p)))
        .collect();
    let extension = format!(".{}", plan.request.format.extension());
    let unfinished = files.keys().filter(|name| {
        let of_piece = pieces::of_name(name).is_some_and(|(topic, partition, stem)| {
            ours.contains(&(topic.to_owned(), partition, stem.to_owned()))
        });
        of_piece && name.ends_with(&extension) && !named.contains(name.as_str())
    });
    let manifest = files.contains_key(plan::MANIFEST) && done.len() == all.len();
    Ok(Standing {
        unfinished: unfinished.cloned().collect(),
        manifest,
        done,
    })
}

#[cfg(test)]
#[path = "tests/cut.rs"]
mod tests;
