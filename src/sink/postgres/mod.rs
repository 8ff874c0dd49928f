//! Rows into a table of PostgreSQL, in one transaction with their offsets.
//!
//! ```text
//! stage  ── BEGIN (the first partition); COPY of each record batch into the table, or, with
//!           'upsert.key', into a temporary one
//! commit ── lock the job's row; compare offsets; INSERT … ON CONFLICT; write offsets; COMMIT
//! ```
//!
//! All partitions of a batch go through one connection, a record batch at a time: they take turns at
//! a lock. Whatever ends a turn early, an error or a dropped future, gives the connection up or rolls
//! back, so a transaction has all rows that `stage` reported or does not commit.
//!
//! A driver that stands still holds up others for half a minute at most: the server
//! ends a session that is idle in a transaction, and [`Sink::open`] ends one that stopped in the
//! middle of a COPY, which that limit of the server does not cover.

mod connect;
mod factory;
mod offsets;
mod prepare;
mod read;
mod trouble;
mod types;
mod watch;

use std::fmt;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Weak};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use tokio::sync::Mutex;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use super::database::{
    OFFSETS_TABLE, ReadRows, Staging, given_up, identifier, in_stream, named, quoted,
};
use super::rows::{Lists, Rows, Unfit};
use super::value::Value;
use super::{BatchRanges, Committed, Guarantee, Held, OpenSink, Opened, Sink, SinkJob, Staged};
use crate::error::{Error, Result};
use crate::policy::Policy;

pub use factory::PostgresTableFactory;

use connect::{Address, IDLE_TIMEOUT};
use read::PostgresRows;
use trouble::failure;
use types::{Cell, ColumnType};

/// A table of PostgreSQL as a [`Sink`].
#[derive(Debug, Clone)]
pub struct PostgresSink {
    target: Arc<Target>,
}

#[derive(Debug, Clone)]
struct Target {
    address: Address,
    /// Table, or schema and table.
    table: Vec<String>,
    offsets: Option<Vec<String>>,
    key: Vec<String>,
    shared: bool,
}

/// A [`PostgresSink`] that a job has opened.
struct OpenPostgresSink {
    target: Arc<Target>,
    /// `None` once the connection is lost, and its transaction with it. It is taken out while it works,
    /// so that a dropped future drops it too.
    session: Arc<Mutex<Option<Session>>>,
}

/// A connection that is ready for the job's rows.
struct Session {
    client: Client,
    /// The table as the table of offsets names it: `schema.table`.
    table: String,
    offsets: String,
    copy: Statement,
    /// The columns on the wire, those of the staging table first.
    columns: Vec<(String, ColumnType)>,
    /// Takes over what was staged; none if rows go into the table at once.
    merge: Option<String>,
    staging: Option<Staging>,
}

impl fmt::Debug for OpenPostgresSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenPostgresSink")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl PostgresSink {
    /// A table (`orders` or `shop.orders`, case is kept) of the database at `url`, for example
    /// `postgres://user@host:5432/db?sslmode=require`. The table is created when a job opens the
    /// sink and it is missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a URL or a name that is none.
    pub fn new(url: &str, table: &str) -> Result<Self> {
        Self::with_credentials(url, table, None, None)
    }

    /// The same with a password that is not in the URL, and a file of root certificates (PEM) that
    /// takes the place of the system's.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when the file holds no certificate.
    pub fn with_credentials(
        url: &str,
        table: &str,
        password: Option<&str>,
        root_certificates: Option<&Path>,
    ) -> Result<Self> {
        let address = Address::parse(url, password, root_certificates, &Policy::default())?;
        Self::at(address, table)
    }

    fn at(address: Address, table: &str) -> Result<Self> {
        Ok(Self::of(Target {
            address,
            table: identifier("table", table, 2)?,
            offsets: None,
            key: Vec::new(),
            shared: false,
        }))
    }

    /// The table of offsets; unless set it is `kafka_offsets` in the schema of the table.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is none.
    pub fn with_offsets_table(self, table: &str) -> Result<Self> {
        let offsets = identifier("offsets.table", table, 2)?;
        Ok(self.with(|target| target.offsets = Some(offsets)))
    }

    /// Rows replace those with the same values in these columns, which must be a primary key or
    /// unique. Of several rows of a batch the last one stays: that of the highest execution
    /// partition, and there the one staged last.
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
        }
    }

    fn with(self, change: impl FnOnce(&mut Target)) -> Self {
        let mut target = (*self.target).clone();
        change(&mut target);
        Self::of(target)
    }
}

impl OpenPostgresSink {
    /// Begins the transaction of an attempt, unless a partition of it did so before.
    async fn begin(&self, batch: &BatchRanges) -> Result<()> {
        let operation = format!("staging batch {}", batch.batch);
        let mut current = self.session.lock().await;
        let Some(mut session) = current.take() else {
            return Err(given_up(&self.target.name(), operation));
        };
        if !session.is_at(&batch.attempt) {
            let begun = session.begin(&batch.attempt).await;
            begun.map_err(|error| failure(&self.target.name(), &operation, error))?;
            tokio::spawn(keep_alive(
                Arc::downgrade(&self.session),
                batch.attempt.clone(),
            ));
        }
        *current = Some(session);
        Ok(())
    }

    async fn copy(&self, batch: &BatchRanges, place: Place, rows: &RecordBatch) -> Result<()> {
        let operation = format!("staging batch {}", batch.batch);
        let name = self.target.name();
        let mut current = self.session.lock().await;
        let Some(mut session) = current.take() else {
            return Err(given_up(&name, operation));
        };
        if !session.is_at(&batch.attempt) {
            *current = Some(session);
            return Err(given_up(&name, operation));
        }
        let copied = session.copy(&self.target.key, place, rows).await;
        if copied.is_err() {
            // The transaction is lost; its rows are counted no more.
            session.roll_back().await;
        }
        if !session.client.is_closed() {
            *current = Some(session);
        }
        copied.map_err(|error| match error {
            CopyError::Unfit(unfit) => Error::sink(name, operation, unfit.to_string()),
            CopyError::Postgres(error) => failure(&name, &operation, error),
        })
    }
}

/// While a transaction is open and nothing comes in, tells the server that this side is alive.
async fn keep_alive(session: Weak<Mutex<Option<Session>>>, attempt: String) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT / 3).await;
        let Some(session) = session.upgrade() else {
            return;
        };
        // A session at work needs no sign of life.
        let Ok(mut current) = session.try_lock() else {
            continue;
        };
        match current.take() {
            Some(session) if session.is_at(&attempt) => {
                if session.client.simple_query("").await.is_ok() {
                    *current = Some(session);
                }
            }
            other => {
                *current = other;
                return;
            }
        }
    }
}

#[async_trait]
impl Sink for PostgresSink {
    fn target(&self) -> String {
        self.target.name()
    }

    fn identity(&self) -> String {
        format!("postgres table {}", self.target.table.join("."))
    }

    /// The last row of a key stays.
    fn needs_order(&self) -> bool {
        !self.target.key.is_empty()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn open(&self, job: &SinkJob) -> Result<Opened> {
        let (session, committed) = self.target.open(job).await?;
        let sink = OpenPostgresSink {
            target: Arc::clone(&self.target),
            session: Arc::new(Mutex::new(Some(session))),
        };
        Ok(Opened {
            sink: Arc::new(sink),
            committed,
        })
    }

    async fn held(&self, _batch: &BatchRanges, schema: &SchemaRef) -> Result<Held> {
        let Some(rows) = PostgresRows::find(&self.target).await? else {
            return Ok(Held::Unknown);
        };
        let rows = rows.with_own_forms();
        let columns: Option<Vec<usize>> = schema
            .fields()
            .iter()
            .map(|field| rows.schema().index_of(field.name()).ok())
            .collect();
        Ok(match columns {
            Some(columns) => Held::Among(named(rows.read(&columns, None), schema)),
            None => Held::Unknown,
        })
    }
}

#[async_trait]
impl OpenSink for OpenPostgresSink {
    async fn stage(
        &self,
        batch: &BatchRanges,
        partition: usize,
        mut rows: SendableRecordBatchStream,
    ) -> Result<Staged> {
        let mut staged = Staged {
            partition,
            ..Staged::default()
        };
        while let Some(rows) = rows.next().await {
            let rows = rows.map_err(|error| in_stream(&error))?;
            if rows.num_rows() == 0 {
                continue;
            }
            self.begin(batch).await?;
            let place = Place {
                partition,
                first: staged.rows,
            };
            self.copy(batch, place, &rows).await?;
            staged.rows += rows.num_rows() as u64;
            staged.bytes += rows.get_array_memory_size() as u64;
        }
        Ok(staged)
    }

    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()> {
        let name = self.target.name();
        let operation = format!("committing batch {}", batch.batch);
        let rows = staged.iter().map(|staged| staged.rows).sum();
        let mut current = self.session.lock().await;
        let Some(mut session) = current.take() else {
            return Err(given_up(&name, operation));
        };
        let committed = self.target.commit(&mut session, batch, rows).await;
        if committed.is_err() {
            session.roll_back().await;
        }
        if !session.client.is_closed() {
            *current = Some(session);
        }
        committed.map_err(|trouble| trouble.into_error(&name, &operation))
    }

    async fn abort(&self, batch: &BatchRanges) -> Result<()> {
        let mut current = self.session.lock().await;
        if let Some(mut session) = current.take() {
            if session.is_at(&batch.attempt) {
                session.roll_back().await;
            }
            if !session.client.is_closed() {
                *current = Some(session);
            }
        }
        Ok(())
    }
}

/// Where rows of a stream belong.
#[derive(Debug, Clone, Copy)]
struct Place {
    partition: usize,
    /// The number of the first row among those of the execution partition.
    first: u64,
}

enum CopyError {
    Unfit(Unfit),
    Postgres(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for CopyError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<Unfit> for CopyError {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl Session {
    fn is_at(&self, attempt: &str) -> bool {
        let staging = self.staging.as_ref();
        staging.is_some_and(|staging| staging.attempt == attempt)
    }

    async fn begin(&mut self, attempt: &str) -> Result<(), tokio_postgres::Error> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
        if self.staging.take().is_some() {
            let begin = format!("ROLLBACK; {begin}");
            self.client.batch_execute(&begin).await?;
        } else {
            self.client.batch_execute(begin).await?;
        }
        self.staging = Some(Staging::of(attempt));
        Ok(())
    }

    /// Ends the transaction, if there is one. A connection that cannot do that closes, which does.
    async fn roll_back(&mut self) {
        if self.staging.take().is_some()
            && let Err(error) = self.client.batch_execute("ROLLBACK").await
        {
            log::debug!("rolling back in PostgreSQL: {error}");
        }
    }

    async fn copy(
        &mut self,
        key: &[String],
        place: Place,
        rows: &RecordBatch,
    ) -> Result<(), CopyError> {
        let rows = Rows::new(rows, Lists::Arrays)?;
        let wire: Vec<Type> = self.columns.iter().map(|(_, t)| t.wire.clone()).collect();
        let fixed = if self.merge.is_some() {
            STAGED.len()
        } else {
            0
        };
        let sink = self.client.copy_in(&self.copy).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &wire));
        let mut cells = Vec::with_capacity(self.columns.len());
        for row in 0..rows.len() {
            cells.clear();
            let number = place.first + row as u64;
            let positions = [place.partition as i64, number as i64];
            for (column, (name, column_type)) in self.columns.iter().enumerate() {
                let value = match column.checked_sub(fixed) {
                    Some(column) => rows.value(column, row)?,
                    None => Value::Int(positions[column]),
                };
                if value == Value::Null && key.contains(name) {
                    let null = "a value is NULL, and the column belongs to the key of the upsert";
                    return Err(Unfit(null.to_owned()).column(name).into());
                }
                cells.push(Cell {
                    value,
                    column: name,
                    most_characters: types::most_characters(column_type),
                });
            }
            writer.as_mut().write_raw(cells.iter()).await?;
        }
        writer.finish().await?;
        if let Some(staging) = &mut self.staging {
            staging.rows += rows.len() as u64;
        }
        Ok(())
    }
}

/// The columns that a staging table has before those of the rows.
const STAGED: [&str; 2] = ["_kafka_sql_partition", "_kafka_sql_row"];

impl Target {
    fn name(&self) -> String {
        format!("{}/{}", self.address, self.table.join("."))
    }

    fn sql(&self) -> String {
        path(&self.table)
    }

    fn offsets_sql(&self) -> String {
        match (&self.offsets, self.table.as_slice()) {
            (Some(offsets), _) => path(offsets),
            (None, [schema, _]) => path(&[schema.clone(), OFFSETS_TABLE.to_owned()]),
            (None, _) => quoted(OFFSETS_TABLE),
        }
    }
}

/// A name of several parts as SQL takes it literally.
fn path(parts: &[String]) -> String {
    let parts: Vec<String> = parts.iter().map(|part| quoted(part)).collect();
    parts.join(".")
}
