//! Exports write the rows of fixed offset ranges to files whose names say which offsets they hold.
//!
//! ```text
//! _export/plan.json            what will be written: snapshot, pieces, query; before any data
//! orders/partition=3/00000000000000100000-00000000000000200000.parquet
//! _export/done/orders/…        a record of each finished piece, written after its files
//! manifest.json                range -> files -> rows -> bytes -> checksum; after all data
//! ```
//!
//! - The ranges are resolved once and stored. A resumed export reads exactly these.
//! - Each range is cut into pieces of offsets before anything is read. One task writes a piece as one file,
//!   or with Hive folders as one or more files per folder.
//! - Other machines can write pieces ([`Export::elsewhere`]). Each is a plan, an [`ExportExec`]. Its files have
//!   names of their own until this process publishes them, so attempts never meet.
//! - A file appears as a whole or not at all. A run that is killed leaves the finished pieces with their
//!   records. The next run removes the files of unfinished pieces and writes those again.
//! - A target that holds another export, or any file that does not belong to an export, is refused.
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
mod exec;
mod hive;
mod letters;
mod query;
mod reading;
mod run;
mod sample;
mod verify;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use datafusion::execution::runtime_env::RuntimeEnv;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::exported::{pieces, place, plan};
use crate::policy::Policy;
use crate::scan::ExecuteElsewhere;
use crate::table::KafkaTable;
use crate::text::BytesAs;

pub use crate::exported::ExportFormat;
pub use crate::exported::plan::{ExportManifest, ExportedFile, ExportedPiece};
pub use exec::ExportExec;
pub use verify::{Problem, ProblemKind, Verification, Verify};

/// The default size of a file.
pub const DEFAULT_MAX_FILE_BYTES: u64 = 128 << 20;

/// An export that is ready to run; see the module's documentation.
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
    parallel: Option<usize>,
    elsewhere: Option<Elsewhere>,
    runtime: Option<Arc<RuntimeEnv>>,
    policy: Policy,
}

/// What writes pieces on other machines, and how many at one time.
#[derive(Debug, Clone)]
struct Elsewhere {
    engine: Arc<dyn ExecuteElsewhere>,
    pieces: usize,
}

impl Export {
    /// Begins an export of `table` to a folder or URL. The query refers to the table as `name`.
    ///
    /// The table's range is resolved when the export first runs.
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
                parallel: None,
                elsewhere: None,
                runtime: None,
                policy: Policy::default(),
            },
        }
    }

    /// Whether other processes can read and write its pieces: those on this machine, or on any. They cannot if the
    /// folder or the cluster needs what only this process has; machines do not share local folders.
    ///
    /// # Errors
    /// When the target's URL is not valid.
    pub fn travels(&self, on_this_machine: bool) -> Result<bool> {
        let place = place::Place::open(&self.target)?;
        Ok(place.travels(on_this_machine) && self.table.travels())
    }

    /// Has an engine execute the pieces on other machines: each is a plan of one partition, an [`ExportExec`] over
    /// what reads it. `pieces` are written at one time, unless [`parallel`](ExportBuilder::parallel) is set.
    #[must_use]
    pub fn elsewhere(mut self, engine: Arc<dyn ExecuteElsewhere>, pieces: usize) -> Self {
        self.elsewhere = Some(Elsewhere { engine, pieces });
        self
    }
}

/// Collects the settings of an [`Export`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ExportBuilder {
    export: Export,
}

impl ExportBuilder {
    /// Sets a query that works row by row: projections, filters, expressions. The default is all columns of
    /// all records.
    pub fn sql(mut self, sql: impl Into<String>) -> Self {
        self.export.sql = Some(sql.into());
        self
    }

    /// Sets the format of the files. The default is Parquet.
    pub fn format(mut self, format: ExportFormat) -> Self {
        self.export.format = format;
        self
    }

    /// Sets how text formats write binary values.
    pub fn bytes(mut self, bytes: BytesAs) -> Self {
        self.export.bytes = bytes;
        self
    }

    /// Sets the approximate size of a file in bytes. Pieces are cut by a sample of the rows before all of
    /// them are read. A piece with few records (compacted or filtered) yields a smaller file. The default is
    /// [`DEFAULT_MAX_FILE_BYTES`].
    pub fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.export.max_file_bytes = Some(bytes);
        self
    }

    /// Sets an exact number of offsets per file, instead of a size in bytes.
    pub fn max_file_offsets(mut self, offsets: u64) -> Self {
        self.export.max_file_offsets = Some(offsets);
        self
    }

    /// Makes Hive folders by `expression` or `name=expression` over the rows of the query.
    pub fn partition_by(mut self, expression: impl Into<String>) -> Self {
        self.export.partition_by = Some(expression.into());
        self
    }

    /// Continues an export that was begun with the same options, or begins one if there is none.
    pub fn resume(mut self, resume: bool) -> Self {
        self.export.resume = resume;
        self
    }

    /// Sets how many pieces are written at the same time. The default is the number of processors, or that of
    /// [`Export::elsewhere`]. Each takes up to about 100 MB.
    pub fn parallel(mut self, pieces: usize) -> Self {
        self.export.parallel = Some(pieces.max(1));
        self
    }

    /// Sets the runtime of the query, for example one with a bounded memory pool.
    pub fn runtime(mut self, runtime: Arc<RuntimeEnv>) -> Self {
        self.export.runtime = Some(runtime);
        self
    }

    /// Sets what the text of the query may do. The default is everything that the process may do.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.export.policy = policy;
        self
    }

    /// Checks everything that needs no connection.
    ///
    /// # Errors
    /// [`Error::Invalid`] when options conflict.
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

/// The progress of a running export or verification. All numbers only grow.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ExportProgress {
    /// All pieces; 0 until the number is known.
    pub pieces_total: AtomicU64,
    /// Finished pieces, including those of earlier runs.
    pub pieces: AtomicU64,
    /// All offsets.
    pub offsets_total: AtomicU64,
    /// Offsets that were passed, including those of earlier runs.
    pub offsets: AtomicU64,
    /// Rows written by this run.
    pub rows: AtomicU64,
    /// Bytes of the files that this run has finished.
    pub bytes: AtomicU64,
    /// How long brokers throttled this run by quotas, in ms, summed over the waiting streams.
    pub throttled_ms: AtomicU64,
    /// Whether the plan is stored, so that an interrupted run can be resumed.
    pub planned: AtomicBool,
}

/// What a complete export contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
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
    /// Offsets without a visible record: control records, aborted, compacted or lost ones.
    pub offsets_without_record: u64,
    /// The part of these that was lost before it was read.
    pub lost_offsets: u64,
    /// Records that do not decode and are in no file, with `on.bad.row` = `skip` or `dlq`.
    pub bad_records: u64,
    /// How long this run took.
    #[serde(rename = "duration_ms", serialize_with = "as_ms")]
    pub duration: Duration,
}

fn as_ms<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
