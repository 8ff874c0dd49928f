//! Opens the sink: the tables are there, the columns fit, and what is recorded is known.

use sha2::{Digest, Sha256};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Kind, Oid, Type};

use super::connect::LOCK_TIMEOUT_MS;
use super::offsets::{other_jobs, recorded};
use super::trouble::Trouble;
use super::types::{accepted, declared, fits};
use super::{
    Address, Client, ColumnType, Committed, Error, IDLE_TIMEOUT, Lists, Result, Rows, STAGED,
    Session, SinkJob, Target, path, quoted,
};
use crate::sink::belongs_to_another;
use crate::sink::database::{
    TableColumn, add_columns, added_columns, committed, compare, quoted_text,
};

/// The temporary table of rows that will be merged into the table.
const STAGE: &str = "pg_temp._kafka_sql_staged";

/// How long adding columns waits for those who use the table.
const ALTER_TIMEOUT_MS: u32 = 1_000;

/// Whoever creates tables holds this lock: two `CREATE TABLE IF NOT EXISTS` at once may fail.
const CREATING: i64 = 0x6b61_666b_615f_7371;

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) column: TableColumn,
    pub(super) column_type: ColumnType,
}

/// A table as the catalog has it.
pub(super) struct Found {
    oid: Oid,
    name: String,
    sql: String,
}

impl Target {
    pub(super) async fn open(&self, job: &SinkJob) -> Result<(Session, Option<Committed>)> {
        let names: Vec<&String> = job.schema.fields().iter().map(|f| f.name()).collect();
        if let Some(missing) = self.key.iter().find(|key| !names.contains(key)) {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            return Err(Error::invalid(format!(
                "option 'upsert.key' names '{missing}', which is not a column of the query: there are {}",
                names.join(", ")
            )));
        }
        Rows::check(&job.schema, Lists::Arrays).map_err(|e| Error::schema(e.to_string()))?;
        let opened = self.open_connection(job).await;
        opened.map_err(|trouble| {
            trouble.into_error(&self.name(), &format!("opening it for job '{}'", job.name))
        })
    }

    async fn open_connection(
        &self,
        job: &SinkJob,
    ) -> Result<(Session, Option<Committed>), Trouble> {
        let client = self.address.connect().await?;
        self.end_frozen(&client, &job.name).await?;
        // Dropping the client on the way out rolls back.
        client
            .batch_execute(&format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock({CREATING})"
            ))
            .await?;
        let offsets = self.offsets_sql();
        match find(&client, &offsets).await? {
            None => client.batch_execute(&offsets_ddl(&offsets)).await?,
            Some(found) => self.add_columns(&client, &found).await?,
        }
        let found = match find(&client, &self.sql()).await? {
            Some(found) => found,
            None => {
                client.batch_execute(&self.create_table(job)).await?;
                let found = find(&client, &self.sql()).await?;
                found.ok_or_else(|| {
                    Error::invalid(format!("{}: no schema to create it in", self.name()))
                })?
            }
        };
        let others = other_jobs(&client, &offsets, &found.name, &job.name).await?;
        if !others.is_empty() && !self.shared {
            return Err(belongs_to_another(&self.name(), &job.name, &others).into());
        }
        let table = columns(&client, found.oid).await?;
        let plain: Vec<TableColumn> = table.iter().map(|c| c.column.clone()).collect();
        compare(
            &self.name(),
            &job.schema,
            &plain,
            |one, other| one == other,
            |field, column| {
                let column = table.iter().find(|c| c.column.name == column.name);
                column.is_some_and(|column| fits(field.data_type(), &column.column_type))
            },
            |field| accepted(field.data_type()),
        )?;
        let names: Vec<String> = job
            .schema
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        let mut wire: Vec<(String, ColumnType)> = Vec::new();
        let mut merge = None;
        let (into, listed) = if self.key.is_empty() {
            (found.sql.clone(), list(&names))
        } else {
            client
                .batch_execute(&format!(
                    "CREATE TEMPORARY TABLE {STAGE} ON COMMIT DELETE ROWS AS \
                     SELECT 0::bigint AS {}, 0::bigint AS {}, {} FROM {} WITH NO DATA",
                    STAGED[0],
                    STAGED[1],
                    list(&names),
                    found.sql
                ))
                .await?;
            let sql = self.merge(&found.sql, &names);
            if let Err(error) = client.batch_execute(&format!("EXPLAIN {sql}")).await {
                return Err(self.merge_error(error));
            }
            merge = Some(sql);
            for name in STAGED {
                let column_type = ColumnType {
                    wire: Type::INT8,
                    modifier: -1,
                };
                wire.push((name.to_owned(), column_type));
            }
            let listed = format!("{}, {}, {}", STAGED[0], STAGED[1], list(&names));
            (STAGE.to_owned(), listed)
        };
        // Each name was found by the comparison.
        let types = names.iter().filter_map(|name| {
            let column = table.iter().find(|column| column.column.name == *name)?;
            Some((name.clone(), column.column_type.clone()))
        });
        wire.extend(types);
        let recorded = recorded(&client, &offsets, &found.name, &job.name).await?;
        client.batch_execute("COMMIT").await?;
        let copy = format!("COPY {into} ({listed}) FROM STDIN (FORMAT binary)");
        let copy = client.prepare(&copy).await?;
        let recorded = committed(&self.name(), recorded)?;
        let session = Session {
            client,
            table: found.name,
            offsets,
            copy,
            columns: wire,
            merge,
            staging: None,
        };
        Ok((session, recorded))
    }

    /// Names the session and ends those of the same job that stand still in the middle of a COPY.
    async fn end_frozen(&self, client: &Client, job: &str) -> Result<(), tokio_postgres::Error> {
        let mut name = format!("kafka-sql {}", self.name()).into_bytes();
        name.push(0);
        name.extend(job.as_bytes());
        let digest = crate::hex::hex(&Sha256::digest(&name)[..16]);
        let application = quoted_text(&format!("kafka-sql {digest}"));
        client
            .batch_execute(&format!(
                "SET application_name = {application}; \
                 SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = {application} AND pid <> pg_backend_pid() \
                 AND usename = current_user AND datname = current_database() \
                 AND state = 'active' AND wait_event = 'ClientRead' \
                 AND query_start < now() - interval '{} seconds'",
                IDLE_TIMEOUT.as_secs()
            ))
            .await
    }

    /// Gives a table of offsets that an earlier version has made the columns that it lacks. While that
    /// waits, the commits of others wait behind it: it gives up soon and is tried again.
    async fn add_columns(&self, client: &Client, offsets: &Found) -> Result<(), Trouble> {
        let known = columns(client, offsets.oid).await?;
        let known = known.iter().map(|column| column.column.name.as_str());
        let Some(add) = add_columns(&offsets.sql, known) else {
            return Ok(());
        };
        let soon = format!(
            "SET LOCAL lock_timeout = {ALTER_TIMEOUT_MS}; {add}; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
        );
        let added = client.batch_execute(&soon).await;
        added.map_err(|error| match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::invalid(format!(
                "{}: the table of offsets {} lacks columns that this version records, \
                 and may not be altered by this user: run once, as its owner: {add}",
                self.name(),
                offsets.name
            ))
            .into(),
            _ => error.into(),
        })
    }

    fn create_table(&self, job: &SinkJob) -> String {
        let mut parts: Vec<String> = job
            .schema
            .fields()
            .iter()
            .map(|field| format!("{} {}", quoted(field.name()), declared(field.data_type())))
            .collect();
        if !self.key.is_empty() {
            parts.push(format!("PRIMARY KEY ({})", list(&self.key)));
        }
        format!("CREATE TABLE {} ({})", self.sql(), parts.join(", "))
    }

    /// The statement that takes the staged rows over, of each key the last one.
    fn merge(&self, table: &str, names: &[String]) -> String {
        let key = list(&self.key);
        let set: Vec<String> = names
            .iter()
            .filter(|name| !self.key.contains(name))
            .map(|name| format!("{0} = excluded.{0}", quoted(name)))
            .collect();
        let action = if set.is_empty() {
            "NOTHING".to_owned()
        } else {
            format!("UPDATE SET {}", set.join(", "))
        };
        let columns = list(names);
        format!(
            "INSERT INTO {table} ({columns}) SELECT DISTINCT ON ({key}) {columns} FROM {STAGE} \
             ORDER BY {key}, {} DESC, {} DESC ON CONFLICT ({key}) DO {action}",
            STAGED[0], STAGED[1]
        )
    }

    fn merge_error(&self, error: tokio_postgres::Error) -> Trouble {
        if error.code() != Some(&SqlState::INVALID_COLUMN_REFERENCE) {
            return error.into();
        }
        Error::invalid(format!(
            "option 'upsert.key': {} has no primary key or unique constraint on exactly ({}): \
             create one, or drop the option",
            self.name(),
            self.key.join(", ")
        ))
        .into()
    }
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    names.join(", ")
}

fn offsets_ddl(table: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (job text NOT NULL, target text NOT NULL, source text NOT NULL, \
         topic text NOT NULL, partition integer NOT NULL, next_offset bigint NOT NULL, topic_id text, \
         batch bigint NOT NULL, committed_at timestamptz NOT NULL DEFAULT now(), {}, \
         PRIMARY KEY (job, target, source, topic, partition))",
        added_columns()
    )
}

/// Looks a table up as SQL would.
///
/// # Errors
/// What the server says, and [`Error::Invalid`] for a view or whatever else has that name.
async fn find(client: &Client, sql: &str) -> Result<Option<Found>, Trouble> {
    let row = client
        .query_typed(
            "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
            &[(&sql, Type::TEXT)],
        )
        .await?;
    let Some(row) = row.first() else {
        return Ok(None);
    };
    let (schema, table): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let kind: String = row.try_get(3)?;
    if !["r", "p", "f"].contains(&kind.as_str()) {
        return Err(Error::invalid(format!(
            "{schema}.{table} is no table that rows can be copied into (it is of the kind '{kind}')"
        ))
        .into());
    }
    Ok(Some(Found {
        oid: row.try_get(0)?,
        name: format!("{schema}.{table}"),
        sql: path(&[schema, table]),
    }))
}

/// The columns of a table, in their order.
async fn columns(client: &Client, oid: Oid) -> Result<Vec<Column>, tokio_postgres::Error> {
    let rows = client
        .query_typed(
            "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
             a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', \
             a.attgenerated <> '' OR a.attidentity = 'a', \
             b.oid, b.typname::text, b.typtype::text, \
             CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END \
             FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
             JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
             WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[(&oid, Type::OID)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let (oid, name, kind): (Oid, String, String) =
                (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
            let wire = Type::from_oid(oid).unwrap_or_else(|| {
                let kind = match kind.as_str() {
                    "e" => Kind::Enum(Vec::new()),
                    _ => Kind::Simple,
                };
                Type::new(name, oid, kind, String::new())
            });
            Ok(Column {
                column: TableColumn {
                    name: row.try_get(0)?,
                    type_name: row.try_get(1)?,
                    required: row.try_get(2)?,
                    generated: row.try_get(3)?,
                },
                column_type: ColumnType {
                    wire,
                    modifier: row.try_get(7)?,
                },
            })
        })
        .collect()
}

/// The columns of a table as SQL names it; `None` if there is no such table.
pub(super) async fn columns_of(
    address: &Address,
    target: &str,
    sql: &str,
) -> Result<Option<(String, Vec<Column>)>> {
    let read = async {
        let client = address.connect().await?;
        let Some(found) = find(&client, sql).await? else {
            return Ok(None);
        };
        let columns = columns(&client, found.oid).await?;
        Ok(Some((found.sql, columns)))
    };
    read.await
        .map_err(|trouble: Trouble| trouble.into_error(target, "reading its columns"))
}
