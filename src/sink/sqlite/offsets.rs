//! The commit: what is recorded, the rows, and what is recorded afterwards, in one transaction.

use rusqlite::{Connection, TransactionBehavior, params};

use super::{Open, Target, failure};
use crate::error::Result;
use crate::fault;
use crate::sink::database::{
    JOB_ROW, OffsetRow, Step, changed_underneath, committed, not_staged, quoted, signed, step,
};
use crate::sink::{BatchRanges, belongs_to_another};

impl Target {
    /// Commits a batch of which `rows` rows were staged.
    pub(super) fn commit(&self, open: &mut Open, batch: &BatchRanges, rows: u64) -> Result<()> {
        let name = self.name();
        let operation = || format!("committing batch {}", batch.batch);
        let failed = |error| failure(&name, operation(), error);
        let number = signed(batch.batch)?;
        let staged = match &open.staging {
            Some(staging) if staging.attempt == batch.attempt => staging.rows,
            _ => 0,
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
            return self.clear(open);
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
                "UPDATE {offsets} SET next_offset = ?1, topic_id = ?2, batch = ?3, committed_at = ?4, leader_epoch = ?11, \
                 epoch_offset = ?1 \
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
                        range.previous,
                        range.leader_epoch
                    ])
                    .map_err(failed)?;
                if changed != 1 {
                    return Err(changed_underneath(&name, batch));
                }
            }
        }
        let sql = format!(
            "INSERT INTO {offsets} (job, target, source, topic, \"partition\", next_offset, topic_id, batch, committed_at, \
             leader_epoch, epoch_offset) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?6)"
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
                    now,
                    range.leader_epoch
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
            now,
            None::<i32>
        ];
        transaction.execute(&sql, job_row).map_err(failed)?;
        fault::point("sqlite-before-commit");
        transaction.commit().map_err(failed)?;
        fault::point("sqlite-after-commit");
        self.clear(open)
    }

    /// The rows of a job and target in the table of offsets.
    pub(super) fn recorded(
        &self,
        connection: &Connection,
        table: &str,
        job: &str,
    ) -> rusqlite::Result<Vec<OffsetRow>> {
        let sql = format!(
            "SELECT source, topic, \"partition\", next_offset, topic_id, batch, leader_epoch, epoch_offset FROM {} \
             WHERE job = ?1 AND target = ?2",
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
                leader_epoch: row.get(6)?,
                epoch_offset: row.get(7)?,
            })
        })?;
        rows.collect()
    }

    /// The other jobs that have rows in a target.
    pub(super) fn other_jobs(
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
