//! Verifies an export: every offset of the plan is in exactly one piece, and every file is as recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use super::check::Checker;
use super::place::Place;
use super::plan::{self, ExportManifest, ExportedFile, ExportedPiece, Plan};
use super::query::Query;
use super::run::columns;
use super::{ExportProgress, compare};
use crate::client::epochs;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::Policy;
use crate::range::{IsolationLevel, OffsetRange};
use crate::table::KafkaTable;

/// How many checks are prepared at a time, because an export may have a million pieces.
const PIECES_AT_ONCE: usize = 1024;

/// What is wrong with an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// There is no export.
    NoExport,
    /// The export is not finished: the manifest or a piece is missing.
    Unfinished,
    /// The pieces in the manifest are not those of the plan.
    Tiling,
    /// A piece's own record is missing, or differs from the manifest.
    Record,
    /// A file is missing.
    MissingFile,
    /// There is a file that the manifest does not list. Readers of the folder would see it.
    ExtraFile,
    /// A file has a different size.
    Size,
    /// A file has different bytes.
    Checksum,
    /// A file has a different number of rows than recorded.
    Rows,
    /// Offsets lie outside the piece, repeat, or are not ascending.
    Offsets,
    /// A file cannot be read.
    Unreadable,
    /// A row in Kafka is missing in the export.
    MissingRow,
    /// A row in the export is missing in Kafka, although Kafka still has its offset.
    ExtraRow,
    /// A row differs between Kafka and the export.
    Differs,
    /// Kafka cannot be read as before: a topic is gone or was recreated, or a log was cut.
    Unavailable,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoExport => "no-export",
            Self::Unfinished => "unfinished",
            Self::Tiling => "tiling",
            Self::Record => "record",
            Self::MissingFile => "missing-file",
            Self::ExtraFile => "extra-file",
            Self::Size => "size",
            Self::Checksum => "checksum",
            Self::Rows => "rows",
            Self::Offsets => "offsets",
            Self::Unreadable => "unreadable",
            Self::MissingRow => "missing-row",
            Self::ExtraRow => "extra-row",
            Self::Differs => "differs",
            Self::Unavailable => "unavailable",
        })
    }
}

/// A problem of an export, and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// What kind of problem.
    pub kind: ProblemKind,
    /// The affected offsets, if the problem is about offsets.
    pub range: Option<OffsetRange>,
    /// The affected file, if the problem is about a file.
    pub file: Option<String>,
    /// What was expected and what was found.
    pub message: String,
}

impl Problem {
    pub(super) fn of(kind: ProblemKind, piece: &ExportedPiece, message: impl Into<String>) -> Self {
        Self {
            kind,
            range: Some(piece.range.clone()),
            file: None,
            message: message.into(),
        }
    }

    pub(super) fn of_file(
        kind: ProblemKind,
        piece: &ExportedPiece,
        file: &ExportedFile,
        message: impl Into<String>,
    ) -> Self {
        Self {
            file: Some(file.path.clone()),
            ..Self::of(kind, piece, message)
        }
    }

    fn general(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            range: None,
            file: None,
            message: message.into(),
        }
    }
}

/// The result of a verification.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Verification {
    /// All problems; empty for a good export.
    pub problems: Vec<Problem>,
    /// Pieces in the manifest.
    pub pieces: u64,
    /// Files that were checked.
    pub files: u64,
    /// Rows that the manifest counts.
    pub rows: u64,
    /// Bytes that the manifest counts.
    pub bytes: u64,
    /// Rows that Kafka still has unchanged, if Kafka was compared.
    pub same_rows: Option<u64>,
    /// Rows of the export that Kafka no longer has, because they expired or were compacted. This is not a
    /// problem.
    pub gone_rows: u64,
    /// Pieces that could not be compared, because Kafka dropped records and the rows lack the offsets to tell
    /// which.
    pub pieces_not_compared: u64,
    /// How long it took.
    pub duration: Duration,
}

/// A verification that is ready to run.
#[derive(Debug, Clone)]
pub struct Verify {
    place: Place,
    plan: Option<Plan>,
    policy: Policy,
}

impl Verify {
    /// Opens the export in a folder or at a URL.
    ///
    /// # Errors
    /// When the target cannot be read, or its plan is damaged or has an unknown version.
    pub async fn open(target: &str) -> Result<Self> {
        let place = Place::open(target)?;
        let plan = Plan::read(&place).await?;
        Ok(Self {
            place,
            plan,
            policy: Policy::default(),
        })
    }

    /// Sets what the text of the export's query may do, which comes from the export itself. The default is
    /// everything that the process may do.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The topics of the export.
    pub fn topics(&self) -> Vec<Arc<str>> {
        let plan = self.plan.iter();
        plan.flat_map(|plan| plan.snapshot.topics().iter().map(|t| Arc::clone(&t.topic)))
            .collect()
    }

    /// The isolation level that the export was made with.
    pub fn isolation(&self) -> IsolationLevel {
        let plan = self.plan.as_ref();
        plan.map_or_else(IsolationLevel::default, |plan| {
            plan.snapshot.isolation_level()
        })
    }

    /// Checks the export, up to `parallel` pieces at a time. Given a `table` of the same topics, it also
    /// compares the rows with those that Kafka has now. The rows are computed as the export computed them. Of
    /// the table it only uses the client, the schema registry and the schema files, which replace files that
    /// the export read.
    ///
    /// # Errors
    /// When the store or the cluster fails. A fault of the export is not an error but a [`Problem`].
    pub async fn run(
        &self,
        table: Option<&KafkaTable>,
        parallel: usize,
        progress: &ExportProgress,
    ) -> Result<Verification> {
        let began = Instant::now();
        let mut found = Verification {
            same_rows: table.map(|_| 0),
            ..Verification::default()
        };
        if let Some(plan) = &self.plan {
            self.check(plan, table, parallel.max(1), progress, &mut found)
                .await?;
        } else {
            let message = format!("{} holds no export", self.place.url());
            let problem = Problem::general(ProblemKind::NoExport, message);
            found.problems.push(problem);
        }
        found.duration = began.elapsed();
        Ok(found)
    }

    async fn check(
        &self,
        plan: &Plan,
        table: Option<&KafkaTable>,
        parallel: usize,
        progress: &ExportProgress,
        found: &mut Verification,
    ) -> Result<()> {
        let files = self.place.list().await?;
        let manifest = match ExportManifest::read(&self.place).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                let message = "there is no manifest: the export was not finished; continue it with \
                               'kafka-sql export … --resume'";
                let problem = Problem::general(ProblemKind::Unfinished, message);
                found.problems.push(problem);
                return Ok(());
            }
            Err(error @ Error::Corrupt { .. }) => {
                let problem = Problem::general(ProblemKind::Unreadable, error.to_string());
                found.problems.push(problem);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        found.pieces = manifest.pieces.len() as u64;
        found.rows = manifest.rows;
        found.bytes = manifest.bytes;
        found.files = manifest.pieces.iter().map(|p| p.files.len() as u64).sum();
        found.problems.extend(tiling(plan, &manifest));
        found.problems.extend(extra_files(&files, &manifest));

        let query = match table {
            Some(table) => self.query(plan, table, found).await?,
            None => None,
        };
        let compacted = match &query {
            Some(query) => compacted_topics(query, plan).await?,
            None => BTreeSet::new(),
        };
        let checker = Checker::new(&self.place, plan);
        let relaxed = Ordering::Relaxed;
        progress.pieces_total.store(found.pieces, relaxed);
        let offsets = plan.snapshot.len();
        let offsets = u64::try_from(offsets).unwrap_or(0);
        progress.offsets_total.store(offsets, relaxed);
        for pieces in manifest.pieces.chunks(PIECES_AT_ONCE) {
            let checks = pieces.iter().map(|piece| {
                let compacted = compacted.contains(&**piece.range.topic());
                let kafka = query.as_ref().map(|query| (query, compacted));
                checker.piece(piece, &files, kafka, progress)
            });
            // Collected first, because a future that holds the closure could not be sent to another thread.
            let checks: Vec<_> = checks.collect();
            let checked: Vec<(Vec<Problem>, compare::Compared)> = futures::stream::iter(checks)
                .buffered(parallel)
                .try_collect()
                .await?;
            for (problems, compared) in checked {
                found.problems.extend(problems);
                found.gone_rows += compared.gone;
                found.pieces_not_compared += u64::from(compared.impossible);
                if let Some(same) = &mut found.same_rows {
                    *same += compared.same;
                }
            }
        }
        Ok(())
    }

    /// The export's query over what Kafka has now; `None` where Kafka has something else.
    async fn query(
        &self,
        plan: &Plan,
        table: &KafkaTable,
        found: &mut Verification,
    ) -> Result<Option<Query>> {
        let request = &plan.request;
        let mut table = table.skipping_loss().claiming_letters();
        let next = "the export holds records that Kafka no longer has";
        let cut = epochs::cut_ranges(table.client().as_ref(), &plan.snapshot, next).await?;
        if !cut.is_empty() {
            let problem =
                |error: Error| Problem::general(ProblemKind::Unavailable, error.to_string());
            found.problems.extend(cut.into_iter().map(problem));
            return Ok(None);
        }
        if let Some(formats) = &plan.formats {
            table = table.with_recorded(formats).await?;
        }
        let planned = Query::plan(
            &request.table,
            &table,
            request.sql.as_deref(),
            request.partition_by.as_deref(),
            &plan.snapshot,
            None,
            &self.policy,
        );
        match planned.await {
            Ok(query) if columns(&query) == plan.columns => Ok(Some(query)),
            Ok(_) => Err(Error::invalid(format!(
                "{}: the export's rows were made in another way ({}) than those that its query gives \
                 now: give the options of the export, each by --option, or use the version that wrote it",
                self.place.url(),
                request.decoding.as_deref().unwrap_or("of bytes")
            ))),
            Err(error) if error.kind() == ErrorKind::DataUnavailable => {
                let problem = Problem::general(ProblemKind::Unavailable, error.to_string());
                found.problems.push(problem);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

async fn compacted_topics(query: &Query, plan: &Plan) -> Result<BTreeSet<String>> {
    let topics = plan.snapshot.topics().iter();
    let names: Vec<Arc<str>> = topics.map(|t| Arc::clone(&t.topic)).collect();
    // Without the right to read settings, a compacted record counts as a difference.
    let settings = query.table().client().topic_settings(&names).await?;
    Ok(names
        .iter()
        .zip(settings)
        .filter(|(_, settings)| {
            let settings = settings.as_ref();
            settings.is_some_and(|s| s.cleanup_policy.contains("compact"))
        })
        .map(|(name, _)| name.to_string())
        .collect())
}

/// Whether the manifest's pieces are those of the plan, and cover its ranges.
fn tiling(plan: &Plan, manifest: &ExportManifest) -> Vec<Problem> {
    let mut problems = vec![];
    let mut there: BTreeMap<OffsetRange, usize> = BTreeMap::new();
    for piece in &manifest.pieces {
        *there.entry(piece.range.clone()).or_default() += 1;
    }
    let problem = |kind, range: OffsetRange, message: &str| Problem {
        kind,
        range: Some(range),
        file: None,
        message: message.to_owned(),
    };
    for range in plan.pieces() {
        match there.remove(&range) {
            Some(1) => {}
            Some(_) => {
                let message = "the manifest has the piece more than once";
                problems.push(problem(ProblemKind::Tiling, range, message));
            }
            None => {
                let message = "the manifest lacks a piece of the plan";
                problems.push(problem(ProblemKind::Tiling, range, message));
            }
        }
    }
    for range in there.into_keys() {
        let message = "the manifest has a piece that is not of the plan";
        problems.push(problem(ProblemKind::Tiling, range, message));
    }
    problems
}

fn extra_files(files: &BTreeMap<String, u64>, manifest: &ExportManifest) -> Vec<Problem> {
    let pieces = manifest.pieces.iter();
    let named: BTreeSet<&str> = pieces
        .flat_map(|piece| piece.files.iter().map(|file| file.path.as_str()))
        .collect();
    let ours = |name: &str| name.starts_with("_export/") || name == plan::MANIFEST;
    files
        .keys()
        .filter(|name| !ours(name) && !named.contains(name.as_str()))
        .map(|name| Problem {
            kind: ProblemKind::ExtraFile,
            range: None,
            file: Some(name.clone()),
            message: "the manifest does not name this file".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::memory::{MemoryCluster, Record};
    use crate::export::Export;
    use crate::spoil::spoiled;

    fn files(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files(&path, found),
                false if path.extension().is_some_and(|e| e == "json") => found.push(path),
                false => {}
            }
        }
    }

    /// Plans, records of pieces and manifests that someone has modified.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn changed_exports_are_refused_or_have_problems() {
        let cluster = MemoryCluster::new();
        cluster.create_topic("orders", 2).unwrap();
        for n in 0..12 {
            let record = Record::new(format!("value {n}"));
            cluster.append("orders", n % 2, record).unwrap();
        }
        let client = Arc::new(cluster.client());
        let table = KafkaTable::builder_with_client(client).topic("orders");
        let table = table.build_lazy().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().to_str().unwrap();
        let export = |resume| {
            let export = Export::builder("orders", table.clone(), target);
            let export = export.format(crate::export::ExportFormat::Ndjson);
            export.max_file_offsets(3).resume(resume).build().unwrap()
        };
        let progress = || Arc::new(ExportProgress::default());
        export(false).run(&progress()).await.unwrap();
        let mut found = vec![];
        files(folder.path(), &mut found);
        assert_eq!(found.len(), 6, "plan, manifest, four pieces: {found:?}");
        found.sort_by_key(|path| path.components().count());
        // A few records of pieces stand for all.
        for path in &found[..3] {
            let text = std::fs::read_to_string(path).unwrap();
            for changed in spoiled(&text) {
                std::fs::write(path, &changed).unwrap();
                if let Ok(verify) = Verify::open(target).await {
                    let _ = verify.run(Some(&table), 2, &progress()).await;
                }
                let _ = export(true).run(&progress()).await;
            }
            std::fs::write(path, text).unwrap();
        }
    }
}
