//! Writes the files of one piece.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, max, min, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use bytes::Bytes;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::encode::Encoder;
use super::place::{Place, Upload};
use super::plan::{ExportedFile, ExportedPiece};
use super::query::{Columns, planning};
use super::{ExportFormat, hive, pieces};
use crate::client::Held;
use crate::error::{Error, Result};
use crate::hex::hex;
use crate::memory::{self, Share, payload_bytes};
use crate::range::OffsetRange;
use crate::scan::ScanProgress;
use crate::text::BytesAs;

/// How many Hive folders of a piece are open at the same time. Each takes the memory of one part of an
/// upload. When there are more, the file that was unused for longest is closed, and its folder later gets
/// another file.
const MAX_OPEN_FILES: usize = 16;
/// Rows are written in slices of about this many bytes.
const SLICE_BYTES: usize = 1 << 20;
/// How often a piece tells how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// What all files of an export have in common.
#[derive(Debug, Clone)]
pub(super) struct Writing {
    pub(super) place: Place,
    pub(super) columns: Columns,
    pub(super) format: ExportFormat,
    pub(super) bytes: BytesAs,
    /// The folder in which files wait for their names, where others than this process write them.
    pub(super) staging: Option<String>,
}

/// How far a piece is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PieceProgress {
    pub(super) offsets: u64,
    pub(super) rows: u64,
    pub(super) throttled_ms: u64,
}

/// A piece whose files are complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) piece: ExportedPiece,
    /// The names that its files have until they are published; empty if they have their own.
    pub(super) staged: Vec<String>,
    pub(super) progress: PieceProgress,
}

/// A file that is being written.
struct OpenFile {
    folder: Option<String>,
    name: String,
    staged: Option<String>,
    encoder: Encoder,
    upload: Upload,
    hash: Sha256,
    file: ExportedFile,
    /// When the file was last written to, counted in batches.
    used: u64,
}

impl Writing {
    /// Writes the rows of a plan, which reads a piece, to files. They are complete when this returns. After an
    /// error, some of them may exist.
    pub(super) async fn piece(
        &self,
        piece: &OffsetRange,
        plan: &Arc<dyn ExecutionPlan>,
        task: &Arc<TaskContext>,
        tell: impl Fn(PieceProgress) + Send + Sync,
    ) -> Result<Written> {
        if let Some(staging) = &self.staging {
            self.place.check_staging(staging).await?;
        }
        let mut files = PieceFiles {
            share: Share::join(),
            held: memory::held(task.memory_pool(), format!("export of {piece}")),
            writing: self,
            piece,
            open: vec![],
            done: vec![],
            counts: vec![],
            clock: 0,
            progress: PieceProgress::default(),
        };
        let written = files.write_all(plan, task, tell).await;
        if let Err(error) = written {
            for file in files.open {
                file.upload.abort().await;
            }
            return Err(error);
        }
        for file in std::mem::take(&mut files.open) {
            files.done.push(file.finish().await?);
        }
        let (mut done, mut progress) = (files.done, files.progress);
        done.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        let (done, staged): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        let scanned = ScanProgress::of(plan);
        let ledger = crate::scan::ledger(plan).total();
        let offsets = u64::try_from(piece.len()).unwrap_or(0);
        let looked_at = ledger.passed() - ledger.filtered;
        progress.offsets = offsets;
        let piece = ExportedPiece {
            range: piece.clone(),
            rows: done.iter().map(|file| file.rows).sum(),
            // Those, too, that the client left out because no condition can be true for them.
            records: ledger.delivered + ledger.filtered + ledger.bad,
            lost_offsets: scanned.lost_offsets,
            bad_records: ledger.bad,
            filtered_offsets: offsets.saturating_sub(looked_at),
            files: done,
        };
        Ok(Written {
            piece,
            staged: staged.into_iter().flatten().collect(),
            progress,
        })
    }
}

struct PieceFiles<'a> {
    writing: &'a Writing,
    piece: &'a OffsetRange,
    open: Vec<OpenFile>,
    /// With the names that they have so far.
    done: Vec<(ExportedFile, Option<String>)>,
    /// The number of files in each Hive folder.
    counts: Vec<(Option<String>, usize)>,
    clock: u64,
    share: Share,
    /// The memory of open row groups and of rows that are being written.
    held: Held,
    progress: PieceProgress,
}

impl PieceFiles<'_> {
    async fn write_all(
        &mut self,
        plan: &Arc<dyn ExecutionPlan>,
        task: &Arc<TaskContext>,
        tell: impl Fn(PieceProgress) + Send + Sync,
    ) -> Result<()> {
        let mut told = Instant::now();
        // There is one execution partition, or several in the order of their offsets if the table asks for a
        // number of them.
        for partition in 0..plan.properties().output_partitioning().partition_count() {
            let stream = plan.execute(partition, Arc::clone(task));
            let mut stream = stream.map_err(|e| planning(&e))?;
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(|e| planning(&e))?;
                let now = ScanProgress::of(plan);
                self.progress = PieceProgress {
                    offsets: now.offsets_done,
                    rows: self.progress.rows + batch.num_rows() as u64,
                    throttled_ms: now.throttled_ms,
                };
                if told.elapsed() >= TOLD_EVERY {
                    tell(self.progress);
                    told = Instant::now();
                }
                if batch.num_rows() > 0 {
                    self.write(&batch).await?;
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for (folder, rows) in by_folder(&self.writing.columns, batch)? {
            self.clock += 1;
            let open = self.open.iter().position(|file| file.folder == folder);
            let index = match open {
                Some(index) => index,
                None => self.begin(folder, &rows).await?,
            };
            self.open[index].used = self.clock;
            let bytes = payload_bytes(&rows);
            let slice = match bytes > SLICE_BYTES {
                true => (rows.num_rows() * SLICE_BYTES / bytes).max(1),
                false => rows.num_rows(),
            };
            for from in (0..rows.num_rows()).step_by(slice) {
                let rows = rows.slice(from, slice.min(rows.num_rows() - from));
                let bytes = payload_bytes(&rows);
                let _turn = memory::turn(bytes, rows.num_rows()).await;
                self.make_room(index, &rows, bytes).await?;
                let writing = self.writing;
                self.open[index].write(&rows, &writing.columns).await?;
                self.end_groups(self.share.bytes()).await?;
            }
        }
        Ok(())
    }

    /// Requests memory to write rows of this many bytes to a file. To free memory, it ends open row groups.
    async fn make_room(&mut self, index: usize, rows: &RecordBatch, bytes: usize) -> Result<()> {
        let bytes = bytes * self.open[index].encoder.growth();
        if self.held.try_hold(self.open_bytes() + bytes).is_err() {
            self.end_groups(0).await?;
            let held = self.held.hold(self.open_bytes() + bytes).await;
            held.map_err(|reason| {
                let offset = self.writing.columns.offset;
                let least = offset.and_then(|column| bounds(rows.column(column)).0);
                let piece = self.piece.topic_partition();
                Error::Memory {
                    place: format!("{piece}@{}", least.unwrap_or(self.piece.start())),
                    message: format!(
                        "writing its row to {} takes {bytes} bytes: {reason}",
                        self.open[index].name
                    ),
                }
            })?;
        }
        Ok(())
    }

    fn open_bytes(&self) -> usize {
        self.open.iter().map(|file| file.encoder.open_bytes()).sum()
    }

    /// Ends the largest row groups until at most `most` bytes are open.
    async fn end_groups(&mut self, most: usize) -> Result<()> {
        while self.open_bytes() > most {
            let files = self.open.iter_mut();
            let Some(file) = files.max_by_key(|file| file.encoder.open_bytes()) else {
                break;
            };
            file.end_group().await?;
        }
        Ok(())
    }

    async fn begin(&mut self, folder: Option<String>, rows: &RecordBatch) -> Result<usize> {
        if self.open.len() >= MAX_OPEN_FILES {
            let files = self.open.iter().enumerate();
            let oldest = files.min_by_key(|(_, file)| file.used).map(|(i, _)| i);
            let file = self.open.swap_remove(oldest.unwrap_or(0));
            self.done.push(file.finish().await?);
        }
        let writing = self.writing;
        let number = match self.counts.iter_mut().find(|(known, _)| *known == folder) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.counts.push((folder.clone(), 0));
                0
            }
        };
        let extension = writing.format.extension();
        let name = pieces::file_name(self.piece, folder.as_deref(), number, extension);
        writing.place.check_name(&name).map_err(|why| {
            let begins: String = folder.iter().flat_map(|f| f.chars()).take(40).collect();
            Error::invalid(format!(
                "{}: --partition-by gives a folder '{begins}…' and so {why}: partition by something \
                 shorter, for example left(…, 100) or encode(sha256(…), 'hex'), or leave such rows out",
                self.piece
            ))
        })?;
        let schema = &writing.columns.schema;
        let encoder = Encoder::new(writing.format, writing.bytes, schema, rows, self.piece)
            .map_err(Error::invalid)?;
        // Nothing else ever has this name: no other attempt at the piece, and no other process.
        let staged = writing.staging.as_ref();
        let staged = staged.map(|folder| format!("{folder}/{}.{extension}", Uuid::new_v4()));
        let upload = writing.place.upload(staged.as_ref().unwrap_or(&name));
        self.open.push(OpenFile {
            folder,
            upload: upload.await?,
            staged,
            encoder,
            hash: Sha256::new(),
            file: ExportedFile {
                path: name.clone(),
                rows: 0,
                bytes: 0,
                sha256: String::new(),
                min_offset: None,
                max_offset: None,
                min_timestamp_ms: None,
                max_timestamp_ms: None,
            },
            name,
            used: 0,
        });
        Ok(self.open.len() - 1)
    }
}

impl OpenFile {
    async fn write(&mut self, rows: &RecordBatch, columns: &Columns) -> Result<()> {
        let failed = |e: String| Error::invalid(format!("{}: {e}", self.name));
        self.file.rows += rows.num_rows() as u64;
        if let Some(column) = columns.offset {
            let (least, greatest) = bounds(rows.column(column));
            widen(
                &mut self.file.min_offset,
                &mut self.file.max_offset,
                least,
                greatest,
            );
        }
        if let Some(column) = columns.timestamp {
            let (least, greatest) = bounds(rows.column(column));
            let file = &mut self.file;
            widen(
                &mut file.min_timestamp_ms,
                &mut file.max_timestamp_ms,
                least,
                greatest,
            );
        }
        self.encoder.write(rows).map_err(failed)?;
        self.send().await
    }

    async fn end_group(&mut self) -> Result<()> {
        let ended = self.encoder.end_group();
        ended.map_err(|e| Error::invalid(format!("{}: {e}", self.name)))?;
        self.send().await
    }

    async fn send(&mut self) -> Result<()> {
        let blocks = self.encoder.take();
        self.send_all(blocks).await
    }

    async fn send_all(&mut self, blocks: Vec<Bytes>) -> Result<()> {
        for bytes in blocks.into_iter().filter(|bytes| !bytes.is_empty()) {
            self.hash.update(&bytes);
            self.file.bytes += bytes.len() as u64;
            self.upload.write(bytes).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(ExportedFile, Option<String>)> {
        let nothing = Encoder::Ndjson(BytesAs::Auto, vec![]);
        let encoder = std::mem::replace(&mut self.encoder, nothing);
        let rest = encoder
            .finish()
            .map_err(|e| Error::invalid(format!("{}: {e}", self.name)))?;
        if let Err(error) = self.send_all(rest).await {
            self.upload.abort().await;
            return Err(error);
        }
        self.upload.finish().await?;
        self.file.sha256 = hex(&self.hash.finalize());
        Ok((self.file, self.staged))
    }
}

/// The least and the greatest offset or timestamp.
fn bounds(column: &ArrayRef) -> (Option<i64>, Option<i64>) {
    let Ok(numbers) = cast(column, &DataType::Int64) else {
        return (None, None);
    };
    let numbers = numbers.as_primitive::<Int64Type>();
    (min(numbers), max(numbers))
}

fn widen(least: &mut Option<i64>, greatest: &mut Option<i64>, low: Option<i64>, high: Option<i64>) {
    // `None` would be less than any number.
    *least = match (*least, low) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    *greatest = (*greatest).max(high);
}

/// A Hive folder, if the export has them, with its rows in order.
pub(super) type FolderRows = (Option<String>, RecordBatch);

/// Groups the rows of a batch by Hive folder. The results have the columns of the files.
pub(super) fn by_folder(columns: &Columns, batch: &RecordBatch) -> Result<Vec<FolderRows>> {
    let internal = |e: arrow::error::ArrowError| Error::internal(e.to_string()).because(e);
    let schema = SchemaRef::clone(&columns.schema);
    let of_files = batch.columns().iter().take(schema.fields().len());
    let rows = RecordBatch::try_new(schema, of_files.cloned().collect()).map_err(internal)?;
    let Some(name) = &columns.folders else {
        return Ok(vec![(None, rows)]);
    };
    let folders = hive::folders(name, batch.column(batch.num_columns() - 1))?;
    let mut groups: Vec<(String, Vec<u32>)> = vec![];
    let mut of_folder = std::collections::HashMap::<String, usize>::new();
    for (row, folder) in (0u32..).zip(folders) {
        let index = *of_folder.entry(folder).or_insert_with_key(|folder| {
            groups.push((folder.clone(), vec![]));
            groups.len() - 1
        });
        groups[index].1.push(row);
    }
    if let [(folder, _)] = &groups[..] {
        return Ok(vec![(Some(folder.clone()), rows)]);
    }
    groups
        .into_iter()
        .map(|(folder, indices)| {
            let indices = arrow::array::UInt32Array::from(indices);
            let rows = take_record_batch(&rows, &indices).map_err(internal)?;
            Ok((Some(folder), rows))
        })
        .collect()
}
