//! Checks one piece of an export: its record, its files, and their rows.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use object_store::ObjectStoreExt;
use sha2::{Digest, Sha256};

use super::place::Place;
use super::plan::{self, ExportedFile, ExportedPiece, Plan};
use super::query::Query;
use super::reading::{FileRows, RowForm};
use super::verify::{Problem, ProblemKind};
use super::{ExportFormat, ExportProgress, compare, pieces};
use crate::error::{Error, Result};
use crate::hex::hex;
use crate::text::Delimited;

/// Checks records and files of pieces.
pub(super) struct Checker {
    place: Place,
    pub(super) form: RowForm,
    header: Option<Vec<u8>>,
    repeats: bool,
}

impl Checker {
    pub(super) fn new(place: &Place, plan: &Plan) -> Self {
        let names = || plan.columns.iter().map(|column| column.name.clone());
        let offset = plan.offset_column.as_ref().and_then(|offset| {
            let index = names().position(|name| name == *offset)?;
            Some((offset.clone(), index))
        });
        let header = (plan.request.format == ExportFormat::Csv).then(|| {
            let fields: Vec<Field> = names()
                .map(|name| Field::new(name, DataType::Utf8, true))
                .collect();
            let mut line = String::new();
            Delimited::csv(plan.request.bytes).header(&Schema::new(fields), &mut line);
            line.trim_end_matches('\n').as_bytes().to_vec()
        });
        Self {
            place: place.clone(),
            form: RowForm {
                format: plan.request.format,
                bytes: plan.request.bytes,
                offset,
            },
            header,
            repeats: plan.repeats,
        }
    }

    pub(super) async fn open(
        &self,
        file: &ExportedFile,
        schema: Option<&SchemaRef>,
    ) -> std::result::Result<FileRows, String> {
        FileRows::open(&self.place, file, &self.form, schema, self.header.clone()).await
    }

    /// Checks a piece and, given a query over Kafka, compares its rows. The query comes with whether the
    /// topic is compacted.
    pub(super) async fn piece(
        &self,
        piece: &ExportedPiece,
        files: &BTreeMap<String, u64>,
        kafka: Option<(&Query, bool)>,
        progress: &ExportProgress,
    ) -> Result<(Vec<Problem>, compare::Compared)> {
        let relaxed = Ordering::Relaxed;
        let mut problems = vec![];
        self.record(piece, &mut problems).await?;
        for file in &piece.files {
            let before = problems.len();
            self.file(piece, file, files, &mut problems).await;
            if problems.len() == before {
                progress.bytes.fetch_add(file.bytes, relaxed);
                progress.rows.fetch_add(file.rows, relaxed);
            }
        }
        let mut compared = compare::Compared::default();
        if let (Some((query, compacted)), true) = (kafka, problems.is_empty()) {
            compared = compare::piece(self, query, compacted, piece, &mut problems).await?;
        }
        progress.pieces.fetch_add(1, relaxed);
        let offsets = u64::try_from(piece.range.len()).unwrap_or(0);
        progress.offsets.fetch_add(offsets, relaxed);
        Ok((problems, compared))
    }

    async fn record(&self, piece: &ExportedPiece, problems: &mut Vec<Problem>) -> Result<()> {
        let name = pieces::done_name(&piece.range);
        let message = match plan::read_done(&self.place, &name).await {
            Ok(Some(record)) if record == *piece => return Ok(()),
            Ok(Some(_)) => format!("{name} and the manifest differ"),
            Ok(None) => format!("{name} is missing"),
            Err(error @ Error::Corrupt { .. }) => error.to_string(),
            Err(error) => return Err(error),
        };
        problems.push(Problem::of(ProblemKind::Record, piece, message));
        Ok(())
    }

    async fn file(
        &self,
        piece: &ExportedPiece,
        file: &ExportedFile,
        files: &BTreeMap<String, u64>,
        problems: &mut Vec<Problem>,
    ) {
        let mut wrong = |kind, message: String| {
            problems.push(Problem::of_file(kind, piece, file, message));
        };
        match files.get(&file.path) {
            None => return wrong(ProblemKind::MissingFile, "the file is not there".to_owned()),
            Some(size) if *size != file.bytes => {
                let message = format!("the file has {size} bytes, {} are recorded", file.bytes);
                return wrong(ProblemKind::Size, message);
            }
            Some(_) => {}
        }
        match self.sha256(file).await {
            Ok(found) if found == file.sha256 => {}
            Ok(found) => {
                let message = format!("SHA-256 is {found}, {} is recorded", file.sha256);
                return wrong(ProblemKind::Checksum, message);
            }
            Err(message) => return wrong(ProblemKind::Unreadable, message),
        }
        if let Err((kind, message)) = self.rows(piece, file).await {
            wrong(kind, message);
        }
    }

    async fn sha256(&self, file: &ExportedFile) -> std::result::Result<String, String> {
        let (store, path) = self.place.object(&file.path).map_err(|e| e.to_string())?;
        let found = store.get(&path).await.map_err(|e| e.to_string())?;
        let mut chunks = found.into_stream();
        let mut hash = Sha256::new();
        while let Some(chunk) = chunks.next().await {
            hash.update(&chunk.map_err(|e| e.to_string())?);
        }
        Ok(hex(&hash.finalize()))
    }

    /// Counts the rows and checks the order of their offsets.
    async fn rows(
        &self,
        piece: &ExportedPiece,
        file: &ExportedFile,
    ) -> std::result::Result<(), (ProblemKind, String)> {
        let unreadable = |e: String| (ProblemKind::Unreadable, e);
        let mut reading = self.open(file, None).await.map_err(unreadable)?;
        let mut count = 0u64;
        let (mut first, mut last) = (None, None);
        while let Some(rows) = reading.next().await.map_err(unreadable)? {
            count += rows.len() as u64;
            if self.form.offset.is_none() {
                continue;
            }
            for row in rows {
                let wrong = |message: String| Err((ProblemKind::Offsets, message));
                let Some(offset) = row.offset else {
                    return wrong("a row has no offset".to_owned());
                };
                if !piece.range.contains(offset) {
                    return wrong(format!("offset {offset} is not of {}", piece.range));
                }
                let rises =
                    last.is_none_or(|last| last < offset || (self.repeats && last == offset));
                if !rises {
                    let last = last.unwrap_or_default();
                    return wrong(format!("offset {offset} comes after {last}"));
                }
                first.get_or_insert(offset);
                last = Some(offset);
            }
        }
        if count != file.rows {
            let message = format!("the file has {count} rows, {} are recorded", file.rows);
            return Err((ProblemKind::Rows, message));
        }
        if self.form.offset.is_some() && (first, last) != (file.min_offset, file.max_offset) {
            return Err((
                ProblemKind::Offsets,
                format!(
                    "the offsets are {first:?} to {last:?}, recorded are {:?} to {:?}",
                    file.min_offset, file.max_offset
                ),
            ));
        }
        Ok(())
    }
}
