//! Rows into a table of a SQLite file, in one transaction with their offsets.
//!
//! ```text
//! stage  ── rows ──▶ temporary table of the connection      (takes no lock of the file)
//! commit ── BEGIN IMMEDIATE; compare offsets; INSERT … SELECT; write offsets; COMMIT
//! ```
//!
//! SQLite has one writer at a time. Staging apart from the file keeps the write lock for the length
//! of the commit only, at the price of writing each row twice, first to a file that is never synced.
//! A driver that stands still inside its commit holds the lock: others get `busy` after
//! ten seconds, which is an error that passes, and whose batch is tried again.

mod factory;
mod offsets;
mod prepare;
mod read;
mod types;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use rusqlite::{Connection, ErrorCode};

use super::database::{OFFSETS_TABLE, ReadRows, Staging, given_up, identifier, in_stream, named};
use super::rows::{Lists, Rows, Unfit};
use super::{BatchRanges, Guarantee, Held, OpenSink, Opened, Sink, SinkJob, Staged};
use crate::error::{Cause, Error, Result};

pub use factory::SqliteTableFactory;

use read::SqliteRows;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The temporary table that rows are staged in.
const STAGE: &str = "temp.\"_kafka_sql_staged\"";

/// A table of a SQLite file as a [`Sink`].
///
/// The file is in WAL mode with `synchronous = FULL`: a committed batch survives a loss of power.
#[derive(Debug, Clone)]
pub struct SqliteSink {
    target: Arc<Target>,
    turn: Turn,
}

/// Held while a thread works on the database. The work continues when its future is dropped; opening the
/// sink again waits for it.
type Turn = Arc<Mutex<()>>;

#[derive(Debug)]
struct Target {
    path: PathBuf,
    table: String,
    offsets: String,
    key: Vec<String>,
    shared: bool,
}

/// A [`SqliteSink`] that a job has opened.
struct OpenSqliteSink {
    target: Arc<Target>,
    turn: Turn,
    open: Arc<Mutex<Open>>,
}

struct Open {
    connection: Connection,
    job: SinkJob,
    /// The table's name as the file has it.
    table: String,
    insert: String,
    staging: Option<Staging>,
}

impl fmt::Debug for OpenSqliteSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSqliteSink")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl SqliteSink {
    /// A table of a file; both are created when a job opens the sink and they are missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is none.
    pub fn new(path: impl AsRef<Path>, table: &str) -> Result<Self> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
            return Err(Error::invalid(
                "a SQLite sink needs a file: a database in memory is gone with the process",
            ));
        }
        let path = std::path::absolute(path)
            .map_err(|e| Error::invalid(format!("file '{}': {e}", path.display())).because(e))?;
        let target = Target {
            path,
            table: name("table", table)?,
            offsets: OFFSETS_TABLE.to_owned(),
            key: Vec::new(),
            shared: false,
        };
        Ok(Self::of(target))
    }

    /// The table of offsets, `kafka_offsets` unless set.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is none.
    pub fn with_offsets_table(self, table: &str) -> Result<Self> {
        let offsets = name("offsets.table", table)?;
        Ok(self.with(|target| target.offsets = offsets))
    }

    /// Rows replace those with the same values in these columns, which must be a primary key or
    /// unique. Of several rows of a batch the last staged one stays.
    #[must_use]
    pub fn with_upsert_key(self, columns: Vec<String>) -> Self {
        self.with(|target| target.key = columns)
    }

    /// Whether several jobs may write to the table.
    #[must_use]
    pub fn with_shared(self, shared: bool) -> Self {
        self.with(|target| target.shared = shared)
    }

    fn of(target: Target) -> Self {
        Self {
            target: Arc::new(target),
            turn: Turn::default(),
        }
    }

    fn with(self, change: impl FnOnce(&mut Target)) -> Self {
        let mut target = Target {
            path: self.target.path.clone(),
            table: self.target.table.clone(),
            offsets: self.target.offsets.clone(),
            key: self.target.key.clone(),
            shared: self.target.shared,
        };
        change(&mut target);
        Self::of(target)
    }
}

impl OpenSqliteSink {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Target, &mut Open) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let open = Arc::clone(&self.open);
        blocking(&self.target, Some(&self.turn), move |target| {
            // A panic cannot leave half a commit: the transaction is rolled back when dropped.
            work(
                target,
                &mut open.lock().unwrap_or_else(PoisonError::into_inner),
            )
        })
        .await
    }
}

/// Runs on a thread that may block, in its turn if it has to wait for one.
async fn blocking<T: Send + 'static>(
    target: &Arc<Target>,
    turn: Option<&Turn>,
    work: impl FnOnce(&Target) -> Result<T> + Send + 'static,
) -> Result<T> {
    let name = target.name();
    let (target, turn) = (Arc::clone(target), turn.cloned());
    let work = move || {
        let _turn = (turn.as_ref()).map(|t| t.lock().unwrap_or_else(PoisonError::into_inner));
        work(&target)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Sink {
            target: name,
            operation: "waiting for the database's thread".to_owned(),
            reason: error.to_string(),
            transient: true,
            source: Some(Cause::new(error)),
        }),
    }
}

#[async_trait]
impl Sink for SqliteSink {
    fn target(&self) -> String {
        self.target.name()
    }

    /// The last row of a key stays.
    fn needs_order(&self) -> bool {
        !self.target.key.is_empty()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn open(&self, job: &SinkJob) -> Result<Opened> {
        let job = job.clone();
        let opening = blocking(&self.target, Some(&self.turn), move |target| {
            target.open(job)
        });
        let (open, committed) = opening.await?;
        let sink = OpenSqliteSink {
            target: Arc::clone(&self.target),
            turn: Turn::clone(&self.turn),
            open: Arc::new(Mutex::new(open)),
        };
        Ok(Opened {
            sink: Arc::new(sink),
            committed,
        })
    }

    async fn held(&self, _batch: &BatchRanges, schema: &SchemaRef) -> Result<Held> {
        let schema = Arc::clone(schema);
        blocking(&self.target, None, move |target| {
            let Some(rows) = SqliteRows::find(&target.path, &target.table)? else {
                return Ok(Held::Unknown);
            };
            let columns: Option<Vec<usize>> = schema
                .fields()
                .iter()
                .map(|field| rows.column(field.name()))
                .collect();
            Ok(match columns {
                Some(columns) => Held::Among(named(rows.read(&columns, None), &schema)),
                None => Held::Unknown,
            })
        })
        .await
    }
}

#[async_trait]
impl OpenSink for OpenSqliteSink {
    async fn stage(
        &self,
        batch: &BatchRanges,
        partition: usize,
        mut rows: SendableRecordBatchStream,
    ) -> Result<Staged> {
        let (number, attempt) = (batch.batch, batch.attempt.clone());
        self.blocking(move |target, open| target.begin(open, &attempt))
            .await?;
        let mut staged = Staged {
            partition,
            ..Staged::default()
        };
        while let Some(rows) = rows.next().await {
            let rows = rows.map_err(|error| in_stream(&error))?;
            let (first, attempt) = (staged.rows, batch.attempt.clone());
            staged.rows += rows.num_rows() as u64;
            staged.bytes += rows.get_array_memory_size() as u64;
            self.blocking(move |target, open| {
                let place = Place {
                    number,
                    attempt: &attempt,
                    partition,
                    first,
                };
                target.stage(open, &place, &rows)
            })
            .await?;
        }
        Ok(staged)
    }

    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()> {
        let batch = batch.clone();
        let rows = staged.iter().map(|staged| staged.rows).sum();
        self.blocking(move |target, open| target.commit(open, &batch, rows))
            .await
    }

    async fn abort(&self, batch: &BatchRanges) -> Result<()> {
        let attempt = batch.attempt.clone();
        self.blocking(move |target, open| match open.is_at(&attempt) {
            true => target.clear(open),
            false => Ok(()),
        })
        .await
    }
}

/// Where rows of a stream belong.
struct Place<'a> {
    number: u64,
    attempt: &'a str,
    partition: usize,
    /// The number of the first row among those of the execution partition.
    first: u64,
}

impl Target {
    fn name(&self) -> String {
        format!("sqlite:{}#{}", self.path.display(), self.table)
    }

    /// Makes room for the rows of an attempt, unless a partition of it did so before.
    fn begin(&self, open: &mut Open, attempt: &str) -> Result<()> {
        if open.is_at(attempt) {
            return Ok(());
        }
        self.clear(open)?;
        open.staging = Some(Staging::of(attempt));
        Ok(())
    }

    fn clear(&self, open: &mut Open) -> Result<()> {
        open.staging = None;
        let cleared = open.connection.execute(&format!("DELETE FROM {STAGE}"), []);
        let failed = |error| failure(&self.name(), "removing staged rows".to_owned(), error);
        cleared.map(drop).map_err(failed)
    }

    fn stage(&self, open: &mut Open, place: &Place<'_>, rows: &RecordBatch) -> Result<()> {
        let operation = || format!("staging batch {}", place.number);
        let failed = |error| failure(&self.name(), operation(), error);
        let unfit = |error: Unfit| Error::sink(self.name(), operation(), error.to_string());
        let staging = open.staging.as_mut();
        let Some(staging) = staging.filter(|staging| staging.attempt == place.attempt) else {
            return Err(given_up(&self.name(), operation()));
        };
        let names = types::columns(&open.job.schema);
        let keys: Vec<usize> = (0..names.len())
            .filter(|column| self.key.contains(&names[*column]))
            .collect();
        let rows = Rows::new(rows, Lists::Json).map_err(unfit)?;
        let transaction = open.connection.transaction().map_err(failed)?;
        {
            let insert = types::insert_staged(STAGE, names.len());
            let mut insert = transaction.prepare(&insert).map_err(failed)?;
            for row in 0..rows.len() {
                let number = place.first + row as u64;
                insert
                    .raw_bind_parameter(1, place.partition as i64)
                    .map_err(failed)?;
                insert
                    .raw_bind_parameter(2, number as i64)
                    .map_err(failed)?;
                for (column, name) in names.iter().enumerate() {
                    let value = rows.value(column, row).map_err(unfit)?;
                    let value = types::value(&value).map_err(|e| unfit(e.column(name)))?;
                    if keys.contains(&column) && types::is_null(&value) {
                        return Err(unfit(types::null_key().column(name)));
                    }
                    insert
                        .raw_bind_parameter(column + 3, value)
                        .map_err(failed)?;
                }
                insert.raw_execute().map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)?;
        staging.rows += rows.len() as u64;
        Ok(())
    }
}

impl Open {
    fn is_at(&self, attempt: &str) -> bool {
        let staging = self.staging.as_ref();
        staging.is_some_and(|staging| staging.attempt == attempt)
    }
}

fn name(option: &str, text: &str) -> Result<String> {
    let mut parts = identifier(option, text, 1)?;
    // One part was asked for, and there is one.
    Ok(parts.pop().unwrap_or_default())
}

/// An error of SQLite as one of a sink: whether it passes is told by its code.
fn failure(target: &str, operation: String, error: rusqlite::Error) -> Error {
    let transient = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
                | ErrorCode::SchemaChanged
        )
    );
    let reason = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => format!(
            "{error}: another process writes to the file for more than {} s",
            BUSY_TIMEOUT.as_secs()
        ),
        _ => error.to_string(),
    };
    Error::Sink {
        target: target.to_owned(),
        operation,
        reason,
        transient,
        source: Some(Cause::new(error)),
    }
}
