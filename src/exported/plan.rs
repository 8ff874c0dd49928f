//! What an export records about itself: its plan, a record of each finished piece, and its manifest.
//!
//! All three are JSON with `"version": 1`. Unknown fields are ignored, and unknown versions are refused.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ExportFormat;
use super::pieces::{self, CutRange};
use super::place::Place;
use crate::error::{Error, Result};
use crate::formats::RecordedFormats;
use crate::range::{OffsetRange, Snapshot};
use crate::store::leads_out;
use crate::text::BytesAs;

/// The plan, written before any data.
pub(crate) const PLAN: &str = "_export/plan.json";
/// The manifest, written after all data.
pub(crate) const MANIFEST: &str = "manifest.json";
const VERSION: u64 = 1;

/// What the user asked for. Two exports with equal requests are the same export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The table's name in the query.
    pub(crate) table: String,
    /// Topics and range as the user wrote them.
    pub(crate) source: String,
    /// The query; without one, every column of every record.
    pub(crate) sql: Option<String>,
    /// How records become rows, and where those go that do not decode. Not set where they are plain bytes.
    #[serde(default)]
    pub(crate) decoding: Option<String>,
    pub(crate) format: ExportFormat,
    /// How text formats write binary values.
    pub(crate) bytes: BytesAs,
    pub(crate) partition_by: Option<String>,
    pub(crate) max_file_bytes: Option<u64>,
    pub(crate) max_file_offsets: Option<u64>,
}

/// A column of the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedColumn {
    pub(crate) name: String,
    /// Arrow's name for the type.
    #[serde(rename = "type")]
    pub(crate) data_type: String,
}

/// What an export will write, fixed before it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    version: u64,
    pub(crate) request: Request,
    /// How records become rows. Exports by earlier versions did not record it.
    #[serde(default)]
    pub(crate) formats: Option<RecordedFormats>,
    /// The columns of the files with their full Arrow types. Earlier versions only had
    /// [`columns`](Self::columns).
    #[serde(default)]
    pub(crate) schema: Option<String>,
    pub(crate) columns: Vec<PlannedColumn>,
    /// The column that holds the record's offset, if the query has it.
    pub(crate) offset_column: Option<String>,
    /// The column that holds the record's timestamp, if the query has it.
    pub(crate) timestamp_column: Option<String>,
    /// Whether one record may become several rows.
    pub(crate) repeats: bool,
    pub(crate) snapshot: Snapshot,
    pub(crate) pieces: Vec<CutRange>,
}

impl Plan {
    pub(crate) fn new(request: Request, snapshot: Snapshot, pieces: Vec<CutRange>) -> Self {
        Self {
            version: VERSION,
            request,
            formats: None,
            schema: None,
            columns: vec![],
            offset_column: None,
            timestamp_column: None,
            repeats: false,
            snapshot,
            pieces,
        }
    }

    pub(crate) fn pieces(&self) -> Vec<OffsetRange> {
        pieces::pieces(&self.snapshot, &self.pieces)
    }

    /// Reads the plan of the export at `place`, if it exists.
    ///
    /// # Errors
    /// When it cannot be read or is inconsistent.
    pub(crate) async fn read(place: &Place) -> Result<Option<Self>> {
        let Some(plan) = read::<Self>(place, PLAN).await? else {
            return Ok(None);
        };
        let topics = plan
            .snapshot
            .offset_ranges()
            .map(|range| range.topic().as_ref());
        check(place, PLAN, topics)?;
        pieces::check(&plan.snapshot, &plan.pieces).map_err(|e| corrupt(place, PLAN, e))?;
        Ok(Some(plan))
    }

    /// A description of each way in which `other` differs from this plan.
    pub(crate) fn differences(&self, other: &Request) -> Vec<String> {
        let mut found = vec![];
        let mut compare = |what: &str, there: String, asked: String| {
            if there != asked {
                found.push(format!("{what} is {there} there and {asked} here"));
            }
        };
        let option = |value: &Option<String>| {
            let value = value.as_ref();
            value.map_or_else(|| "not set".to_owned(), |value| format!("'{value}'"))
        };
        let number = |value: Option<u64>| {
            value.map_or_else(|| "not set".to_owned(), |value| value.to_string())
        };
        let mine = &self.request;
        compare("the table", mine.table.clone(), other.table.clone());
        compare("the range", mine.source.clone(), other.source.clone());
        compare("the query", option(&mine.sql), option(&other.sql));
        compare(
            "the decoding",
            option(&mine.decoding),
            option(&other.decoding),
        );
        compare(
            "the format",
            mine.format.to_string(),
            other.format.to_string(),
        );
        compare(
            "the form of bytes",
            format!("{:?}", mine.bytes).to_lowercase(),
            format!("{:?}", other.bytes).to_lowercase(),
        );
        compare(
            "the partitioning",
            option(&mine.partition_by),
            option(&other.partition_by),
        );
        compare(
            "the size of files in bytes",
            number(mine.max_file_bytes),
            number(other.max_file_bytes),
        );
        compare(
            "the size of files in offsets",
            number(mine.max_file_offsets),
            number(other.max_file_offsets),
        );
        found
    }
}

/// A file of a finished piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExportedFile {
    /// The name, relative to the export.
    pub path: String,
    /// The number of rows.
    pub rows: u64,
    /// The size in bytes.
    pub bytes: u64,
    /// The SHA-256 of the bytes, in hexadecimal digits.
    pub sha256: String,
    /// The first offset, if the query has the column.
    pub min_offset: Option<i64>,
    /// The last offset, if the query has the column.
    pub max_offset: Option<i64>,
    /// The least timestamp in ms, if the query has the column and any record has a timestamp.
    pub min_timestamp_ms: Option<i64>,
    /// The greatest timestamp in ms, if the query has the column and any record has a timestamp.
    pub max_timestamp_ms: Option<i64>,
}

/// A finished piece: a range, and the files with its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExportedPiece {
    /// The offsets.
    #[serde(flatten)]
    pub range: OffsetRange,
    /// Rows in all files. A piece without rows has no file.
    pub rows: u64,
    /// Records that were read. There are fewer than offsets if some offsets hold no visible record.
    pub records: u64,
    /// Offsets that were lost before they were read, with `on.data.loss` = `skip`.
    pub lost_offsets: u64,
    /// Records that do not decode and are in no file, with `on.bad.row` = `skip` or `dlq`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bad_records: u64,
    /// Offsets that predicates on partition, offset and timestamp left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub filtered_offsets: u64,
    /// The files.
    pub files: Vec<ExportedFile>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
struct Done {
    version: u64,
    #[serde(flatten)]
    piece: ExportedPiece,
}

/// The whole export: which file holds which offsets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExportManifest {
    version: u64,
    /// The format of the files.
    pub format: ExportFormat,
    /// Rows in all files.
    pub rows: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// The pieces, in the order of the plan.
    pub pieces: Vec<ExportedPiece>,
}

impl ExportManifest {
    pub(crate) fn new(format: ExportFormat, pieces: Vec<ExportedPiece>) -> Self {
        let files = || pieces.iter().flat_map(|piece| &piece.files);
        // Records of pieces come from files and may contain any numbers.
        let sum = |all: u64, more: u64| all.saturating_add(more);
        Self {
            version: VERSION,
            format,
            rows: files().map(|file| file.rows).fold(0, sum),
            bytes: files().map(|file| file.bytes).fold(0, sum),
            pieces,
        }
    }

    pub(crate) async fn read(place: &Place) -> Result<Option<Self>> {
        let manifest: Option<Self> = read(place, MANIFEST).await?;
        let pieces = manifest.iter().flat_map(|manifest| &manifest.pieces);
        check_names(place, MANIFEST, pieces)?;
        Ok(manifest)
    }
}

/// Reads the record of a finished piece.
pub(crate) async fn read_done(place: &Place, name: &str) -> Result<Option<ExportedPiece>> {
    let done: Option<Done> = read(place, name).await?;
    let piece = done.map(|done| done.piece);
    check_names(place, name, piece.iter())?;
    Ok(piece)
}

/// Refuses names that lead out of the export, because files are read and removed by these names.
fn check_names<'a>(
    place: &Place,
    name: &str,
    pieces: impl Iterator<Item = &'a ExportedPiece>,
) -> Result<()> {
    for piece in pieces {
        let topic = [piece.range.topic().as_ref()].into_iter();
        let files = piece.files.iter().map(|file| file.path.as_str());
        check(place, name, topic.chain(files))?;
    }
    Ok(())
}

fn check<'a>(place: &Place, name: &str, mut names: impl Iterator<Item = &'a str>) -> Result<()> {
    match names.find(|name| leads_out(name)) {
        None => Ok(()),
        Some(wrong) => Err(corrupt(
            place,
            name,
            format!(
                "the name '{wrong}' in it leads out of the export: it was not written by this program"
            ),
        )),
    }
}

/// The record of a finished piece as JSON.
pub(crate) fn done_json(piece: &ExportedPiece) -> Result<Vec<u8>> {
    json(&Done {
        version: VERSION,
        piece: piece.clone(),
    })
}

/// A value as the JSON content of a file.
pub(crate) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::internal(format!("a file of the export: {e}")).because(e))?;
    text.push(b'\n');
    Ok(text)
}

async fn read<T: DeserializeOwned>(place: &Place, name: &str) -> Result<Option<T>> {
    let Some(bytes) = place.get(name).await? else {
        return Ok(None);
    };
    parse(&bytes).map(Some).map_err(|e| corrupt(place, name, e))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    match value.get("version") {
        Some(version) if version.as_u64() == Some(VERSION) => {}
        Some(version) => {
            return Err(format!(
                "version {version} is unknown, this program reads version {VERSION}; \
                 use the version that wrote it"
            ));
        }
        None => return Err("expected a JSON object with \"version\": 1".to_owned()),
    }
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn corrupt(place: &Place, name: &str, message: String) -> Error {
    Error::corrupt(place.show(name), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            table: "orders".to_owned(),
            source: "orders 0:10".to_owned(),
            sql: None,
            decoding: None,
            format: ExportFormat::Parquet,
            bytes: BytesAs::Auto,
            partition_by: None,
            max_file_bytes: None,
            max_file_offsets: Some(5),
        }
    }

    #[test]
    fn differences_name_both_sides() {
        let plan = Plan::new(request(), Snapshot::default(), vec![]);
        assert_eq!(plan.differences(&request()), Vec::<String>::new());
        let other = Request {
            sql: Some("SELECT 1".to_owned()),
            max_file_offsets: Some(6),
            ..request()
        };
        assert_eq!(
            plan.differences(&other),
            [
                "the query is not set there and 'SELECT 1' here",
                "the size of files in offsets is 5 there and 6 here"
            ]
        );
    }

    #[tokio::test]
    async fn names_that_lead_out_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::open(folder.path().to_str().unwrap()).unwrap();
        let manifest = |path: &str, topic: &str| {
            let piece = serde_json::json!({
                "topic": topic, "partition": 0, "start": 0, "end": 1,
                "rows": 1, "records": 1, "lost_offsets": 0,
                "files": [{"path": path, "rows": 1, "bytes": 1, "sha256": ""}],
            });
            let whole = serde_json::json!({
                "version": 1, "format": "parquet", "rows": 1, "bytes": 1, "pieces": [piece],
            });
            let mut done = piece;
            done["version"] = 1.into();
            (json(&whole).unwrap(), json(&done).unwrap())
        };
        for (path, topic, good) in [
            ("t/partition=0/x.parquet", "t", true),
            ("../x", "t", false),
            ("/etc/x", "t", false),
            ("t/x", "../t", false),
        ] {
            let (whole, done) = manifest(path, topic);
            place.put(MANIFEST, whole).await.unwrap();
            place.put("_export/done/x.json", done).await.unwrap();
            let read = ExportManifest::read(&place).await.map(drop);
            let done = read_done(&place, "_export/done/x.json").await.map(drop);
            for found in [read, done] {
                assert_eq!(found.is_ok(), good, "{path} {topic}: {found:?}");
                if let Err(error) = found {
                    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                }
            }
        }
    }

    #[test]
    fn plans_are_read_as_written_and_other_versions_refused() {
        let plan = Plan::new(request(), Snapshot::default(), vec![]);
        let text = json(&plan).unwrap();
        assert_eq!(parse::<Plan>(&text).unwrap(), plan);
        let newer = String::from_utf8(text).unwrap().replacen(": 1", ": 2", 1);
        let error = parse::<Plan>(newer.as_bytes()).unwrap_err();
        assert!(error.starts_with("version 2 is unknown"), "{error}");
        assert!(parse::<Plan>(b"{").is_err());
        assert!(parse::<Plan>(b"{}").unwrap_err().contains("version"));
    }
}
