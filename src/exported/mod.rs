//! What an export writes about itself, and the files of a finished one as those of a table.
//!
//! The exporter writes it; the table of a folder of Parquet files reads it.

pub(crate) mod pieces;
pub(crate) mod place;
pub(crate) mod plan;

use std::fmt;

use arrow::datatypes::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::formats::columns_of;
use crate::store::{Store, hive};
use place::Place;
use plan::{ExportManifest, Plan};

/// The format of an export's files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ExportFormat {
    /// Apache Parquet, compressed with zstd.
    #[default]
    Parquet,
    /// Comma-separated, quoted as in RFC 4180. NULL is an empty field, empty text is `""`.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

impl ExportFormat {
    /// The extension of the files' names.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

/// The contents of an export.
#[derive(Debug)]
pub(crate) struct Exported {
    /// The columns of the files, followed by the column that the folders hold.
    pub(crate) columns: Schema,
    /// The name of the folders' column, if the files lack it.
    pub(crate) folders: Option<String>,
    pub(crate) files: Vec<TableFile>,
}

/// A file of an export.
#[derive(Debug)]
pub(crate) struct TableFile {
    pub(crate) path: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// The value of the folders' column. NULL and empty text share a folder.
    pub(crate) folder: Option<String>,
}

/// The export in a store, if it has one.
///
/// # Errors
/// When the export is not finished, or has no Parquet files.
pub(crate) async fn exported(store: &Store) -> Result<Option<Exported>> {
    let place = Place::over(store.clone())?;
    let Some(plan) = Plan::read(&place).await? else {
        return Ok(None);
    };
    let refused = |why: String| Error::invalid(format!("{}: {why}", place.url()));
    let format = plan.request.format;
    if format != ExportFormat::Parquet {
        return Err(refused(format!(
            "the export there has {format} files and no Parquet: read those of a topic by \
             STORED AS {} LOCATION '{}/TOPIC/'",
            match format {
                ExportFormat::Csv => "CSV",
                _ => "JSON",
            },
            place.url().trim_end_matches('/')
        )));
    }
    let Some(manifest) = ExportManifest::read(&place).await? else {
        return Err(refused(
            "the export there is not finished: continue it with 'kafka-sql export … --resume'"
                .to_owned(),
        ));
    };
    let mut columns = columns(&plan)?;
    let mut folders = None;
    let mut files = vec![];
    for piece in manifest.pieces {
        let flat = pieces::folder(&piece.range, None);
        for file in piece.files {
            // This also refuses a name that leads out of the folder.
            place.object(&file.path)?;
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let folder = Some(folder).filter(|folder| *folder != flat);
            let named = folder.and_then(|folder| hive::read_folder(folder.split('/').nth(1)?));
            let folder = named.and_then(|(name, value)| {
                folders = Some(name);
                value
            });
            files.push(TableFile {
                path: file.path,
                rows: file.rows,
                bytes: file.bytes,
                sha256: file.sha256,
                folder,
            });
        }
    }
    let folders = folders.filter(|name| columns.field_with_name(name).is_err());
    if let Some(name) = &folders {
        let mut fields = columns.fields().to_vec();
        fields.push(Field::new(name, DataType::Utf8, true).into());
        columns = Schema::new(fields);
    }
    Ok(Some(Exported {
        columns,
        folders,
        files,
    }))
}

/// The columns of the files. Earlier versions only recorded the names of their types.
fn columns(plan: &Plan) -> Result<Schema> {
    if let Some(columns) = &plan.schema {
        return Ok(columns_of(columns)?.as_ref().clone());
    }
    let fields = plan.columns.iter().map(|column| {
        let data_type: DataType = column
            .data_type
            .parse()
            .map_err(|e| Error::invalid(format!("the export's column '{}': {e}", column.name)))?;
        Ok(Field::new(&column.name, data_type, true))
    });
    fields.collect::<Result<Vec<_>>>().map(Schema::new)
}

#[cfg(test)]
mod tests;
