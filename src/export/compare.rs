//! Compares the files of a piece with what Kafka has now, row by row.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt;

use super::check::Checker;
use super::plan::{ExportedFile, ExportedPiece};
use super::query::{Query, planning};
use super::reading::{FileRows, Former, Row};
use super::verify::{Problem, ProblemKind};
use super::write::by_folder;
use crate::client::{OffsetAt, OffsetQuery};
use crate::error::{Error, ErrorKind, Result};
use crate::store::hive;

/// How many differing rows of a piece are listed; the others are only counted.
const NAMED_ROWS: u64 = 10;

/// The counts of a comparison.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Compared {
    /// Rows that are the same in the file and in Kafka.
    pub(super) same: u64,
    /// Rows of the export that Kafka no longer has, because they expired or were compacted.
    pub(super) gone: u64,
    /// Whether no comparison is possible: Kafka dropped records, and the rows lack the offsets to tell which.
    pub(super) impossible: bool,
}

/// The files of a Hive folder, as one sequence of rows.
struct Folder {
    files: VecDeque<ExportedFile>,
    reading: Option<FileRows>,
    rows: VecDeque<Row>,
}

/// Reads a piece from Kafka again, and compares it with its files.
pub(super) async fn piece(
    checker: &Checker,
    query: &Query,
    compacted: bool,
    piece: &ExportedPiece,
    problems: &mut Vec<Problem>,
) -> Result<Compared> {
    let log_start = log_start(query, piece).await?;
    if checker.form.offset.is_none() && (compacted || piece.range.start() < log_start) {
        return Ok(Compared {
            impossible: true,
            ..Compared::default()
        });
    }
    let mut comparison = Comparison {
        checker,
        query,
        piece,
        gone_below: if compacted { i64::MAX } else { log_start },
        folders: folders(piece),
        counted: Compared::default(),
        file_only: vec![],
        differing: 0,
        problems: vec![],
    };
    match comparison.read().await {
        Ok(()) => {}
        Err(Trouble::File(message)) => {
            problems.push(Problem::of(ProblemKind::Unreadable, piece, message));
            return Ok(comparison.counted);
        }
        Err(Trouble::Kafka(error)) if error.kind() == ErrorKind::DataUnavailable => {
            problems.push(Problem::of(
                ProblemKind::Unavailable,
                piece,
                error.to_string(),
            ));
            return Ok(comparison.counted);
        }
        Err(Trouble::Kafka(error)) => return Err(error),
    }
    if !comparison.file_only.is_empty() {
        // Some records may have expired while the piece was being read.
        comparison.gone_below = comparison
            .gone_below
            .max(self::log_start(query, piece).await?);
        for offset in std::mem::take(&mut comparison.file_only) {
            if comparison.is_gone(offset) {
                comparison.counted.gone += 1;
            } else {
                let text = "is in the export, not in Kafka";
                comparison.differs(ProblemKind::ExtraRow, offset, text);
            }
        }
    }
    let more = comparison.differing.saturating_sub(NAMED_ROWS);
    if more > 0 {
        let message = format!("and {more} more rows differ");
        comparison
            .problems
            .push(Problem::of(ProblemKind::Differs, piece, message));
    }
    problems.append(&mut comparison.problems);
    Ok(comparison.counted)
}

enum Trouble {
    File(String),
    Kafka(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Kafka(error)
    }
}

fn folders(piece: &ExportedPiece) -> BTreeMap<String, Folder> {
    let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
    for file in &piece.files {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = hive::as_written_now(folder);
        let folder = folders.entry(folder).or_insert_with(|| Folder {
            files: VecDeque::new(),
            reading: None,
            rows: VecDeque::new(),
        });
        folder.files.push_back(file.clone());
    }
    for folder in folders.values_mut() {
        // By number, because `….10.parquet` would sort before `….2.parquet`. The file without a number is
        // first.
        let number = |file: &ExportedFile| {
            let mut parts = file.path.rsplit('.').skip(1);
            parts
                .next()
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or(0)
        };
        folder.files.make_contiguous().sort_by_key(number);
    }
    folders
}

struct Comparison<'a> {
    checker: &'a Checker,
    query: &'a Query,
    piece: &'a ExportedPiece,
    folders: BTreeMap<String, Folder>,
    counted: Compared,
    /// Rows below this offset may be missing in Kafka.
    gone_below: i64,
    /// The offsets of other rows that only the files have; `None` for rows without an offset.
    file_only: Vec<Option<i64>>,
    differing: u64,
    problems: Vec<Problem>,
}

impl Comparison<'_> {
    async fn read(&mut self) -> std::result::Result<(), Trouble> {
        let plan = self.query.of_piece(&self.piece.range).await?;
        let context = self.query.state.task_ctx();
        let mut former =
            Former::new(&self.checker.form, &self.query.columns.schema).map_err(Trouble::File)?;
        for partition in 0..plan.properties().output_partitioning().partition_count() {
            let stream = plan.execute(partition, Arc::clone(&context));
            let mut stream = stream.map_err(|e| planning(&e))?;
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(|e| planning(&e))?;
                for (hive, rows) in by_folder(&self.query.columns, &batch)? {
                    let folder = super::pieces::folder(&self.piece.range, hive.as_deref());
                    for row in former.rows(&rows).map_err(Trouble::File)? {
                        self.against(&folder, &row).await.map_err(Trouble::File)?;
                    }
                }
            }
        }
        let names: Vec<String> = self.folders.keys().cloned().collect();
        for name in names {
            while let Some(row) = self.peek(&name).await.map_err(Trouble::File)? {
                let offset = row.offset;
                self.only_in_file(offset);
                self.pop(&name);
            }
        }
        Ok(())
    }

    /// Compares a row from Kafka with the next rows of its folder.
    async fn against(&mut self, folder: &str, row: &Row) -> std::result::Result<(), String> {
        loop {
            let Some(found) = self.peek(folder).await? else {
                self.differs(
                    ProblemKind::MissingRow,
                    row.offset,
                    "is in Kafka, not in the export",
                );
                return Ok(());
            };
            match (found.offset, row.offset) {
                (Some(there), Some(here)) if there < here => {
                    self.only_in_file(Some(there));
                    self.pop(folder);
                }
                (Some(there), Some(here)) if there > here => {
                    let text = "is in Kafka, not in the export";
                    self.differs(ProblemKind::MissingRow, row.offset, text);
                    return Ok(());
                }
                _ => {
                    if found.bytes == row.bytes {
                        self.counted.same += 1;
                    } else {
                        let text = "is not the same in Kafka and in the export";
                        self.differs(ProblemKind::Differs, row.offset, text);
                    }
                    self.pop(folder);
                    return Ok(());
                }
            }
        }
    }

    fn differs(&mut self, kind: ProblemKind, offset: Option<i64>, text: &str) {
        self.differing += 1;
        if self.differing <= NAMED_ROWS {
            let range = &self.piece.range;
            let row = match offset {
                Some(offset) => format!("{}[{}]@{offset}", range.topic(), range.partition()),
                None => format!("a row of {range}"),
            };
            let problem = Problem::of(kind, self.piece, format!("{row} {text}"));
            self.problems.push(problem);
        }
    }

    /// The next row in the files of a folder, without consuming it.
    async fn peek(&mut self, folder: &str) -> std::result::Result<Option<&Row>, String> {
        let Some(folder) = self.folders.get_mut(folder) else {
            return Ok(None);
        };
        while folder.rows.is_empty() {
            if let Some(reading) = &mut folder.reading {
                match reading.next().await? {
                    Some(rows) => folder.rows = rows,
                    None => folder.reading = None,
                }
                continue;
            }
            let Some(file) = folder.files.pop_front() else {
                break;
            };
            let schema = Some(&self.query.columns.schema);
            let reading = self.checker.open(&file, schema).await;
            folder.reading = Some(reading.map_err(|e| format!("{}: {e}", file.path))?);
        }
        Ok(folder.rows.front())
    }

    fn pop(&mut self, folder: &str) {
        if let Some(folder) = self.folders.get_mut(folder) {
            folder.rows.pop_front();
        }
    }

    fn is_gone(&self, offset: Option<i64>) -> bool {
        offset.is_some_and(|offset| offset < self.gone_below)
    }

    fn only_in_file(&mut self, offset: Option<i64>) {
        if self.is_gone(offset) {
            self.counted.gone += 1;
        } else {
            self.file_only.push(offset);
        }
    }
}

/// The first offset that Kafka still has in the piece's partition.
async fn log_start(query: &Query, piece: &ExportedPiece) -> Result<i64> {
    let table = query.table();
    let earliest = OffsetQuery {
        partition: piece.range.topic_partition(),
        at: OffsetAt::Earliest,
    };
    let answers = table
        .client()
        .list_offsets(&[earliest], table.isolation())
        .await?;
    Ok(answers.first().and_then(|a| a.offset).unwrap_or(0))
}
