//! Opens the sink: the tables are there, the columns fit, and what is recorded is known.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::{BUSY_TIMEOUT, Open, STAGE, Target, failure, types};
use crate::error::{Error, Result};
use crate::sink::database::{TableColumn, add_columns, added_columns, committed, compare, quoted};
use crate::sink::rows::{Lists, Rows};
use crate::sink::{Committed, SinkJob, belongs_to_another};

impl Target {
    pub(super) fn open(&self, job: SinkJob) -> Result<(Open, Option<Committed>)> {
        let name = self.name();
        let failed = |error| failure(&name, format!("opening it for job '{}'", job.name), error);
        let columns = types::columns(&job.schema);
        if let Some(missing) = self.key.iter().find(|key| !columns.contains(key)) {
            return Err(Error::invalid(format!(
                "option 'upsert.key' names '{missing}', which is not a column of the query: there are {}",
                columns.join(", ")
            )));
        }
        Rows::check(&job.schema, Lists::Json).map_err(|unfit| Error::schema(unfit.to_string()))?;
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
        let known = table_columns(&transaction, &self.offsets).map_err(failed)?;
        let known = known.iter().map(|column| column.name.as_str());
        if let Some(add) = add_columns(&quoted(&self.offsets), known) {
            transaction.execute_batch(&add).map_err(failed)?;
        }
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
            staging: None,
        };
        Ok((open, recorded))
    }
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
         batch INTEGER NOT NULL, committed_at TEXT NOT NULL, {}, \
         PRIMARY KEY (job, target, source, topic, \"partition\"))",
        quoted(table),
        added_columns()
    )
}

/// The name of a table as the file has it: SQLite's names ignore case.
pub(super) fn find_table(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
            [table],
            |row| row.get(0),
        )
        .optional()
}

/// The columns of a table, in their order.
pub(super) fn table_columns(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<TableColumn>> {
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
