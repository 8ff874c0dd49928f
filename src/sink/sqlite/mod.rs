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
//! [`BUSY_TIMEOUT`], which is an error that passes, and whose batch is tried again.

mod factory;
mod read;
mod types;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::database::{
    JOB_ROW, Lists, OFFSETS_TABLE, OffsetRow, ReadRows, Rows, Staging, Step, TableColumn, Unfit,
    cast_to, changed_underneath, committed, compare, identifier, in_stream, not_open, not_staged,
    quoted, signed, step,
};
use super::{BatchRanges, Committed, Guarantee, Held, Sink, SinkJob, Staged, belongs_to_another};
use crate::error::{Error, Result};
use crate::fault;

pub use factory::SqliteTableFactory;

use read::SqliteRows;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The temporary table that rows are staged in.
const STAGE: &str = "temp.\"_kafka_sql_staged\"";

/// A table of a SQLite file as a [`Sink`].
///
/// The file is in WAL mode with `synchronous = FULL`: a committed batch survives a loss of power.
#[derive(Clone)]
pub struct SqliteSink {
    target: Arc<Target>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct Target {
    path: PathBuf,
    table: String,
    offsets: String,
    key: Vec<String>,
    shared: bool,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    staging: Option<Staging>,
}

struct Open {
    connection: Connection,
    job: SinkJob,
    /// The table's name as the file has it.
    table: String,
    insert: String,
}

impl fmt::Debug for SqliteSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSink")
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
            .map_err(|e| Error::invalid(format!("file '{}': {e}", path.display())))?;
        let target = Target {
            path,
            table: name("table", table)?,
            offsets: OFFSETS_TABLE.to_owned(),
            key: Vec::new(),
            shared: false,
        };
        Ok(Self::of(target))
    }

    /// The table of offsets, [`kafka_offsets`](OFFSETS_TABLE) unless set.
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
            state: Arc::default(),
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

    /// Runs on a thread that may block. The work goes on when the future is dropped: a later call
    /// waits for it at the lock.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Target, &mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (target, state) = (Arc::clone(&self.target), Arc::clone(&self.state));
        let name = target.name();
        let work = move || {
            // A panic cannot leave half a commit: the transaction is rolled back when dropped.
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            work(&target, &mut state)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(Error::Sink {
                target: name,
                operation: "waiting for the database's thread".to_owned(),
                reason: error.to_string(),
                transient: true,
            }),
        }
    }
}

#[async_trait]
impl Sink for SqliteSink {
    fn target(&self) -> String {
        self.target.name()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn open(&self, job: &SinkJob) -> Result<Option<Committed>> {
        let job = job.clone();
        self.blocking(move |target, state| {
            *state = State::default();
            let (open, recorded) = target.open(job)?;
            state.open = Some(open);
            Ok(recorded)
        })
        .await
    }

    async fn stage(
        &self,
        batch: &BatchRanges,
        partition: usize,
        mut rows: SendableRecordBatchStream,
    ) -> Result<Staged> {
        let (number, attempt) = (batch.batch, batch.attempt.clone());
        self.blocking(move |target, state| target.begin(state, number, &attempt))
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
            self.blocking(move |target, state| {
                let place = Place {
                    number,
                    attempt: &attempt,
                    partition,
                    first,
                };
                target.stage(state, &place, &rows)
            })
            .await?;
        }
        Ok(staged)
    }

    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()> {
        let batch = batch.clone();
        let rows = staged.iter().map(|staged| staged.rows).sum();
        self.blocking(move |target, state| target.commit(state, &batch, rows))
            .await
    }

    async fn abort(&self, batch: &BatchRanges) -> Result<()> {
        let attempt = batch.attempt.clone();
        self.blocking(move |target, state| {
            if state.staging.as_ref().is_some_and(|s| s.attempt == attempt) {
                target.clear(state)?;
            }
            Ok(())
        })
        .await
    }

    async fn held(&self, _batch: &BatchRanges) -> Result<Held> {
        self.blocking(|target, state| {
            let Some(open) = &state.open else {
                return Err(not_open(&target.name(), "reading the table".to_owned()));
            };
            let rows = SqliteRows::find(&target.path, &open.table)?;
            let Some(rows) = rows else {
                return Ok(Held::Unknown);
            };
            let schema = &open.job.schema;
            let columns: Option<Vec<usize>> = schema
                .fields()
                .iter()
                .map(|field| rows.column(field.name()))
                .collect();
            Ok(match columns {
                Some(columns) => Held::Among(cast_to(rows.read(&columns, None), schema)),
                None => Held::Unknown,
            })
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

    fn open(&self, job: SinkJob) -> Result<(Open, Option<Committed>)> {
        let name = self.name();
        let failed = |error| failure(&name, format!("opening it for job '{}'", job.name), &error);
        let columns = types::columns(&job.schema);
        if let Some(missing) = self.key.iter().find(|key| !columns.contains(key)) {
            return Err(Error::invalid(format!(
                "option 'upsert.key' names '{missing}', which is not a column of the query: there are {}",
                columns.join(", ")
            )));
        }
        Rows::check(&job.schema, Lists::Json).map_err(|unfit| Error::invalid(unfit.to_string()))?;
        let folder = self.path.parent().filter(|folder| folder.is_dir());
        if folder.is_none() {
            return Err(Error::invalid(format!(
                "the folder of '{}' does not exist: create it",
                self.path.display()
            )));
        }
        let mut connection = connect(&self.path).map_err(failed)?;
        // Its own order waits for a lock as the others do; a file that is in WAL mode stays in it.
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
            .map_err(failed)?;
        if mode != "wal" {
            return Err(Error::invalid(format!(
                "'{}' cannot be in WAL mode (it says '{mode}'): its file system has no shared memory",
                self.path.display()
            )));
        }
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        transaction
            .execute_batch(&offsets_ddl(&self.offsets))
            .map_err(failed)?;
        let table = match find_table(&transaction, &self.table).map_err(failed)? {
            Some(table) => {
                let found = table_columns(&transaction, &table).map_err(failed)?;
                compare(
                    &name,
                    &job.schema,
                    &found,
                    str::eq_ignore_ascii_case,
                    |field, column| types::fits(field.data_type(), &column.type_name),
                    |field| types::accepted(field.data_type()).to_owned(),
                )?;
                table
            }
            None => {
                transaction
                    .execute_batch(&types::create_table(&self.table, &job.schema, &self.key))
                    .map_err(failed)?;
                self.table.clone()
            }
        };
        let others = self
            .other_jobs(&transaction, &table, &job.name)
            .map_err(failed)?;
        if !others.is_empty() && !self.shared {
            return Err(belongs_to_another(&name, &job.name, &others));
        }
        let recorded = self
            .recorded(&transaction, &table, &job.name)
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        connection
            .execute_batch(&types::create_stage(STAGE, columns.len()))
            .map_err(failed)?;
        let insert = types::insert(STAGE, &table, &columns, &self.key);
        if let Err(error) = connection.prepare(&insert) {
            return Err(if error.to_string().contains("ON CONFLICT") {
                Error::invalid(format!(
                    "option 'upsert.key': {name} has no primary key or unique constraint on exactly ({}): \
                     create one, or drop the option",
                    self.key.join(", ")
                ))
            } else {
                failed(error)
            });
        }
        let recorded = committed(&name, recorded)?;
        let open = Open {
            connection,
            job,
            table,
            insert,
        };
        Ok((open, recorded))
    }

    /// Makes room for the rows of an attempt, unless a partition of it did so before.
    fn begin(&self, state: &mut State, number: u64, attempt: &str) -> Result<()> {
        if state.open.is_none() {
            return Err(not_open(&self.name(), format!("staging batch {number}")));
        }
        if state.staging.as_ref().is_some_and(|s| s.attempt == attempt) {
            return Ok(());
        }
        self.clear(state)?;
        state.staging = Some(Staging::of(attempt));
        Ok(())
    }

    fn clear(&self, state: &mut State) -> Result<()> {
        state.staging = None;
        let Some(open) = &state.open else {
            return Ok(());
        };
        let cleared = open.connection.execute(&format!("DELETE FROM {STAGE}"), []);
        let failed = |error| failure(&self.name(), "removing staged rows".to_owned(), &error);
        cleared.map(drop).map_err(failed)
    }

    fn stage(&self, state: &mut State, place: &Place<'_>, rows: &RecordBatch) -> Result<()> {
        let operation = || format!("staging batch {}", place.number);
        let failed = |error| failure(&self.name(), operation(), &error);
        let unfit = |error: Unfit| Error::Sink {
            target: self.name(),
            operation: operation(),
            reason: error.to_string(),
            transient: false,
        };
        let (Some(open), Some(staging)) = (&mut state.open, &mut state.staging) else {
            return Err(not_open(&self.name(), operation()));
        };
        if staging.attempt != place.attempt {
            return Err(not_open(&self.name(), operation()));
        }
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

    fn commit(&self, state: &mut State, batch: &BatchRanges, rows: u64) -> Result<()> {
        let name = self.name();
        let operation = || format!("committing batch {}", batch.batch);
        let failed = |error| failure(&name, operation(), &error);
        let number = signed(batch.batch)?;
        let staged = match &state.staging {
            Some(staging) if staging.attempt == batch.attempt => staging.rows,
            _ => 0,
        };
        let Some(open) = &mut state.open else {
            return Err(not_open(&name, operation()));
        };
        let transaction = open
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let recorded = self
            .recorded(&transaction, &open.table, &batch.job)
            .map_err(failed)?;
        let recorded = committed(&name, recorded)?;
        let Step::Write { update, insert } = step(&name, batch, recorded.as_ref())? else {
            drop(transaction);
            return self.clear(state);
        };
        if staged != rows {
            return Err(not_staged(&name, batch.batch, rows, staged));
        }
        if recorded.is_none() && !self.shared {
            let others = self
                .other_jobs(&transaction, &open.table, &batch.job)
                .map_err(failed)?;
            if !others.is_empty() {
                return Err(belongs_to_another(&name, &batch.job, &others));
            }
        }
        if rows > 0 {
            transaction.execute(&open.insert, []).map_err(failed)?;
        }
        let offsets = quoted(&self.offsets);
        let now = jiff::Timestamp::now();
        let now = format!("{now:.3}");
        {
            let sql = format!(
                "UPDATE {offsets} SET next_offset = ?1, topic_id = ?2, batch = ?3, committed_at = ?4 \
                 WHERE job = ?5 AND target = ?6 AND source = ?7 AND topic = ?8 AND \"partition\" = ?9 \
                 AND next_offset = ?10"
            );
            let mut sql = transaction.prepare(&sql).map_err(failed)?;
            for range in update {
                let p = &range.partition;
                let changed = sql
                    .execute(params![
                        range.end,
                        range.topic_id,
                        number,
                        now,
                        batch.job,
                        open.table,
                        p.source,
                        p.topic,
                        p.partition,
                        range.previous
                    ])
                    .map_err(failed)?;
                if changed != 1 {
                    return Err(changed_underneath(&name, batch));
                }
            }
        }
        let sql = format!(
            "INSERT INTO {offsets} (job, target, source, topic, \"partition\", next_offset, topic_id, batch, committed_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        );
        {
            let mut sql = transaction.prepare(&sql).map_err(failed)?;
            for range in insert {
                let p = &range.partition;
                sql.execute(params![
                    batch.job,
                    open.table,
                    p.source,
                    p.topic,
                    p.partition,
                    range.end,
                    range.topic_id,
                    number,
                    now
                ])
                .map_err(failed)?;
            }
        }
        let sql = format!(
            "{sql} ON CONFLICT (job, target, source, topic, \"partition\") \
             DO UPDATE SET next_offset = excluded.next_offset, batch = excluded.batch, committed_at = excluded.committed_at"
        );
        let job_row = params![
            batch.job,
            open.table,
            "",
            "",
            JOB_ROW,
            number.saturating_add(1),
            None::<&str>,
            number,
            now
        ];
        transaction.execute(&sql, job_row).map_err(failed)?;
        fault::point("sqlite-before-commit");
        transaction.commit().map_err(failed)?;
        fault::point("sqlite-after-commit");
        self.clear(state)
    }

    fn recorded(
        &self,
        connection: &Connection,
        table: &str,
        job: &str,
    ) -> rusqlite::Result<Vec<OffsetRow>> {
        let sql = format!(
            "SELECT source, topic, \"partition\", next_offset, topic_id, batch FROM {} WHERE job = ?1 AND target = ?2",
            quoted(&self.offsets)
        );
        let mut sql = connection.prepare(&sql)?;
        let rows = sql.query_map([job, table], |row| {
            Ok(OffsetRow {
                source: row.get(0)?,
                topic: row.get(1)?,
                partition: row.get(2)?,
                next: row.get(3)?,
                topic_id: row.get(4)?,
                batch: row.get(5)?,
            })
        })?;
        rows.collect()
    }

    fn other_jobs(
        &self,
        connection: &Connection,
        table: &str,
        job: &str,
    ) -> rusqlite::Result<Vec<String>> {
        let sql = format!(
            "SELECT DISTINCT job FROM {} WHERE target = ?1 AND job <> ?2 ORDER BY job",
            quoted(&self.offsets)
        );
        let mut sql = connection.prepare(&sql)?;
        let jobs = sql.query_map([table, job], |row| row.get(0))?;
        jobs.collect()
    }
}

fn name(option: &str, text: &str) -> Result<String> {
    let mut parts = identifier(option, text, 1)?;
    // One part was asked for, and there is one.
    Ok(parts.pop().unwrap_or_default())
}

/// Opens a file, which is created if it is missing.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "full")?;
    // Staged rows may be more than fit into memory.
    connection.pragma_update(None, "temp_store", "file")?;
    Ok(connection)
}

fn offsets_ddl(table: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (job TEXT NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL, \
         topic TEXT NOT NULL, \"partition\" INTEGER NOT NULL, next_offset INTEGER NOT NULL, topic_id TEXT, \
         batch INTEGER NOT NULL, committed_at TEXT NOT NULL, \
         PRIMARY KEY (job, target, source, topic, \"partition\"))",
        quoted(table)
    )
}

/// The name of a table as the file has it: SQLite's names ignore case.
fn find_table(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
            [table],
            |row| row.get(0),
        )
        .optional()
}

fn table_columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<TableColumn>> {
    let mut sql = connection.prepare(
        "SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden, \
         (SELECT count(*) FROM pragma_table_xinfo(?1, 'main') WHERE pk > 0) \
         FROM pragma_table_xinfo(?1, 'main')",
    )?;
    let columns = sql.query_map([table], |row| {
        let type_name: String = row.get(1)?;
        let (not_null, default): (bool, bool) = (row.get(2)?, row.get(3)?);
        let (key, hidden, keys): (i64, i64, i64) = (row.get(4)?, row.get(5)?, row.get(6)?);
        // An INTEGER PRIMARY KEY is the row's number, which SQLite gives.
        let row_number = key == 1 && keys == 1 && type_name.eq_ignore_ascii_case("integer");
        Ok(TableColumn {
            name: row.get(0)?,
            required: not_null && !default && !row_number && hidden == 0,
            generated: hidden != 0,
            type_name,
        })
    })?;
    columns.collect()
}

/// An error of SQLite as one of a sink: whether it passes is told by its code.
fn failure(target: &str, operation: String, error: &rusqlite::Error) -> Error {
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
    }
}
