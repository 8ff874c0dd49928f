//! Exports: the rows of a fixed set of offset ranges as files that are named by their offsets.
//!
//! ```text
//! _export/plan.json            what will be written: snapshot, pieces, query; before any data
//! orders/partition=3/00000000000000100000-00000000000000200000.parquet
//! _export/done/orders/…        a record of each finished piece, written after its files
//! manifest.json                range -> files -> rows -> bytes -> checksum; after all data
//! ```
//!
//! - The ranges are resolved once and stored. A resumed export reads exactly these.
//! - Each range is cut into pieces of offsets before anything is read; a piece is written by one
//!   task, as one file (with Hive folders, as one or more files in each).
//! - A file appears whole or not at all. A run that was killed leaves finished pieces with their
//!   records; the next run removes what belongs to unfinished ones and writes these again.
//! - A target that holds another export, or any file that is not of an export, is refused.
//!
//! ```no_run
//! # async fn example() -> datafusion_kafka::Result<()> {
//! use std::sync::Arc;
//!
//! use datafusion_kafka::config::ConnectionConfig;
//! use datafusion_kafka::export::{Export, ExportProgress};
//! use datafusion_kafka::table::KafkaTable;
//!
//! let config = ConnectionConfig::new("broker:9092");
//! let table = KafkaTable::builder(&config).topic("orders").range("@-1h:end").build().await?;
//! let export = Export::builder("orders", table, "file:///backup/orders")
//!     .sql("SELECT offset, key, value FROM orders WHERE value IS NOT NULL")
//!     .resume(true)
//!     .build()?;
//! let summary = export.run(&Arc::new(ExportProgress::default())).await?;
//! println!("{} rows in {} files", summary.rows, summary.files);
//! # Ok(())
//! # }
//! ```

mod check;
mod compare;
mod encode;
mod hive;
mod letters;
mod query;
mod reading;
mod run;
mod sample;
mod verify;
mod write;

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use datafusion::execution::runtime_env::RuntimeEnv;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::exported::{pieces, place, plan};
use crate::policy::Policy;
use crate::table::KafkaTable;
use crate::text::BytesAs;

pub use crate::exported::ExportFormat;
pub use crate::exported::plan::{ExportManifest, ExportedFile, ExportedPiece};
pub use verify::{Problem, ProblemKind, Verification, Verify};

/// The size of a file, unless the export says otherwise.
pub const DEFAULT_MAX_FILE_BYTES: u64 = 128 << 20;

/// An export that can be run; see the module's documentation.
#[derive(Debug, Clone)]
pub struct Export {
    name: String,
    table: KafkaTable,
    target: String,
    sql: Option<String>,
    format: ExportFormat,
    bytes: BytesAs,
    max_file_bytes: Option<u64>,
    max_file_offsets: Option<u64>,
    partition_by: Option<String>,
    resume: bool,
    parallel: usize,
    runtime: Option<Arc<RuntimeEnv>>,
    policy: Policy,
}

impl Export {
    /// An export of `table`, which its query calls `name`, to a folder or URL.
    ///
    /// The table's range is resolved when the export is run for the first time.
    pub fn builder(
        name: impl Into<String>,
        table: KafkaTable,
        target: impl Into<String>,
    ) -> ExportBuilder {
        ExportBuilder {
            export: Self {
                name: name.into(),
                table: table.claiming_letters(),
                target: target.into(),
                sql: None,
                format: ExportFormat::default(),
                bytes: BytesAs::default(),
                max_file_bytes: None,
                max_file_offsets: None,
                partition_by: None,
                resume: false,
                parallel: std::thread::available_parallelism().map_or(1, NonZero::get),
                runtime: None,
                policy: Policy::default(),
            },
        }
    }
}

/// Collects what an [`Export`] is made of.
#[derive(Debug, Clone)]
#[must_use]
pub struct ExportBuilder {
    export: Export,
}

impl ExportBuilder {
    /// A query that works row by row: projections, filters, expressions. All columns of all
    /// records unless set.
    pub fn sql(mut self, sql: impl Into<String>) -> Self {
        self.export.sql = Some(sql.into());
        self
    }

    /// The format of the files; parquet unless set.
    pub fn format(mut self, format: ExportFormat) -> Self {
        self.export.format = format;
        self
    }

    /// How text formats write binary values.
    pub fn bytes(mut self, bytes: BytesAs) -> Self {
        self.export.bytes = bytes;
        self
    }

    /// Bytes of a file, about: pieces are cut by a sample of the rows, before these are read. A
    /// piece with few records (compacted, filtered) gives a smaller file.
    /// [`DEFAULT_MAX_FILE_BYTES`] unless set.
    pub fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.export.max_file_bytes = Some(bytes);
        self
    }

    /// Offsets of a file, exactly, instead of a number of bytes.
    pub fn max_file_offsets(mut self, offsets: u64) -> Self {
        self.export.max_file_offsets = Some(offsets);
        self
    }

    /// Hive folders by `expression` or `name=expression` over the rows of the query.
    pub fn partition_by(mut self, expression: impl Into<String>) -> Self {
        self.export.partition_by = Some(expression.into());
        self
    }

    /// Continues an export that was begun with the same options; begins one where nothing is.
    pub fn resume(mut self, resume: bool) -> Self {
        self.export.resume = resume;
        self
    }

    /// Pieces that are written at one time; the number of processors unless set. Each takes up to
    /// about 100 MB.
    pub fn parallel(mut self, pieces: usize) -> Self {
        self.export.parallel = pieces.max(1);
        self
    }

    /// The runtime of the query, for example one with a bounded memory pool.
    pub fn runtime(mut self, runtime: Arc<RuntimeEnv>) -> Self {
        self.export.runtime = Some(runtime);
        self
    }

    /// What the text of the query may do; all that the process may unless set.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.export.policy = policy;
        self
    }

    /// Checks what can be checked without asking anyone.
    ///
    /// # Errors
    /// [`Error::Invalid`] when options contradict each other.
    pub fn build(self) -> Result<Export> {
        let export = self.export;
        if export.max_file_bytes.is_some() && export.max_file_offsets.is_some() {
            return Err(Error::invalid(
                "the size of files is given in bytes and in offsets; leave one of them out",
            ));
        }
        if export.max_file_bytes == Some(0) || export.max_file_offsets == Some(0) {
            return Err(Error::invalid("a file cannot have the size 0"));
        }
        Ok(export)
    }
}

/// How far a running export or verification is. All figures only grow.
#[derive(Debug, Default)]
pub struct ExportProgress {
    /// Pieces in all; 0 until they are known.
    pub pieces_total: AtomicU64,
    /// Finished pieces, those of earlier runs included.
    pub pieces: AtomicU64,
    /// Offsets in all.
    pub offsets_total: AtomicU64,
    /// Offsets that were passed, those of earlier runs included.
    pub offsets: AtomicU64,
    /// Rows of this run.
    pub rows: AtomicU64,
    /// Bytes of finished files of this run.
    pub bytes: AtomicU64,
    /// Time that brokers held this run back by quotas, in ms, summed over the streams that waited.
    pub throttled_ms: AtomicU64,
    /// Whether a plan is there, so that an interrupted run can be resumed.
    pub planned: AtomicBool,
}

/// What an export holds when it is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    /// Pieces.
    pub pieces: u64,
    /// Files.
    pub files: u64,
    /// Files that earlier runs had finished.
    pub files_before: u64,
    /// Rows in all files.
    pub rows: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Offsets of all ranges.
    pub offsets: u64,
    /// Offsets that held no visible record: control records, aborted, compacted or lost ones.
    pub offsets_without_record: u64,
    /// Of these, offsets that were gone before they were read.
    pub lost_offsets: u64,
    /// Records that do not decode and are in no file, by `on.bad.row` = `skip` or `dlq`.
    pub bad_records: u64,
    /// The time of this run.
    #[serde(rename = "duration_ms", serialize_with = "as_ms")]
    pub duration: Duration,
}

fn as_ms<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
