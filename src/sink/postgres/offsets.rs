//! The commit: what is recorded, the rows, and what is recorded afterwards, in one transaction.

use tokio_postgres::types::{ToSql, Type};

use super::trouble::Trouble;
use super::{BatchRanges, Committed, Session, Target};
use crate::fault;
use crate::sink::database::{
    JOB_ROW, OffsetRow, Step, changed_underneath, committed, not_staged, signed, step,
};
use crate::sink::{SourceRange, belongs_to_another};

impl Target {
    /// Commits a batch of which `rows` rows were staged; an error leaves the transaction open.
    pub(super) async fn commit(
        &self,
        session: &mut Session,
        batch: &BatchRanges,
        rows: u64,
    ) -> Result<(), Trouble> {
        let name = self.name();
        let number = signed(batch.batch)?;
        if !session.is_at(&batch.attempt) {
            session.begin(&batch.attempt).await?;
        }
        let staged = session.staging.as_ref().map_or(0, |staging| staging.rows);
        let recorded = self.lock(session, &batch.job).await?;
        let Step::Write { update, insert } = step(&name, batch, recorded.as_ref())? else {
            session.roll_back().await;
            return Ok(());
        };
        if staged != rows {
            return Err(not_staged(&name, batch.batch, rows, staged).into());
        }
        if let Some(merge) = &session.merge
            && rows > 0
        {
            session.client.batch_execute(merge).await?;
        }
        session
            .write_offsets(&name, batch, number, &update, &insert)
            .await?;
        fault::point("postgres-before-commit");
        session.client.batch_execute("COMMIT").await?;
        session.staging = None;
        fault::point("postgres-after-commit");
        Ok(())
    }

    /// Keeps other drivers of the job from committing and reads what is recorded.
    ///
    /// The lock is that of the job's row. Before a job's first batch there is none, so the table is
    /// locked against writers, and that no other job has come in between is checked again.
    async fn lock(&self, session: &Session, job: &str) -> Result<Option<Committed>, Trouble> {
        let Session {
            client,
            table,
            offsets,
            ..
        } = session;
        let sql = format!(
            "SELECT 1 FROM {offsets} WHERE job = $1 AND target = $2 AND source = '' AND topic = '' \
             AND partition = {JOB_ROW} FOR UPDATE"
        );
        let known = client
            .query_typed(&sql, &[(&job, Type::TEXT), (table, Type::TEXT)])
            .await?;
        if known.is_empty() {
            let sql = format!("LOCK TABLE {offsets} IN SHARE ROW EXCLUSIVE MODE");
            client.batch_execute(&sql).await?;
            let others = other_jobs(client, offsets, table, job).await?;
            if !others.is_empty() && !self.shared {
                return Err(belongs_to_another(&self.name(), job, &others).into());
            }
        }
        let recorded = recorded(client, offsets, table, job).await?;
        Ok(committed(&self.name(), recorded)?)
    }
}

impl Session {
    async fn write_offsets(
        &self,
        name: &str,
        batch: &BatchRanges,
        number: i64,
        update: &[&SourceRange],
        insert: &[&SourceRange],
    ) -> Result<(), Trouble> {
        let Self {
            client,
            table,
            offsets,
            ..
        } = self;
        let job = &batch.job;
        if !update.is_empty() {
            let ranges = Ranges::of(update);
            let previous: Vec<Option<i64>> = update.iter().map(|range| range.previous).collect();
            let sql = format!(
                "UPDATE {offsets} AS o SET next_offset = m.next_offset, topic_id = m.topic_id, \
                 leader_epoch = m.leader_epoch, epoch_offset = m.next_offset, batch = $9, committed_at = now() \
                 FROM unnest($3, $4, $5, $6, $7, $8, $10) \
                 AS m(source, topic, partition, next_offset, topic_id, leader_epoch, previous) \
                 WHERE o.job = $1 AND o.target = $2 AND o.source = m.source AND o.topic = m.topic \
                 AND o.partition = m.partition AND o.next_offset = m.previous"
            );
            let changed = client
                .execute_typed(
                    &sql,
                    &[
                        (job, Type::TEXT),
                        (table, Type::TEXT),
                        (&ranges.sources, Type::TEXT_ARRAY),
                        (&ranges.topics, Type::TEXT_ARRAY),
                        (&ranges.partitions, Type::INT4_ARRAY),
                        (&ranges.ends, Type::INT8_ARRAY),
                        (&ranges.topic_ids, Type::TEXT_ARRAY),
                        (&ranges.leader_epochs, Type::INT4_ARRAY),
                        (&number, Type::INT8),
                        (&previous, Type::INT8_ARRAY),
                    ],
                )
                .await?;
            if changed != update.len() as u64 {
                return Err(changed_underneath(name, batch).into());
            }
        }
        if !insert.is_empty() {
            let ranges = Ranges::of(insert);
            let sql = format!(
                "INSERT INTO {offsets} \
                 (job, target, source, topic, partition, next_offset, topic_id, leader_epoch, batch, \
                 epoch_offset) SELECT $1, $2, m.*, $9, m.next_offset FROM unnest($3, $4, $5, $6, $7, $8) \
                 AS m(source, topic, partition, next_offset, topic_id, leader_epoch) ON CONFLICT DO NOTHING"
            );
            let changed = client
                .execute_typed(
                    &sql,
                    &[
                        (job, Type::TEXT),
                        (table, Type::TEXT),
                        (&ranges.sources, Type::TEXT_ARRAY),
                        (&ranges.topics, Type::TEXT_ARRAY),
                        (&ranges.partitions, Type::INT4_ARRAY),
                        (&ranges.ends, Type::INT8_ARRAY),
                        (&ranges.topic_ids, Type::TEXT_ARRAY),
                        (&ranges.leader_epochs, Type::INT4_ARRAY),
                        (&number, Type::INT8),
                    ],
                )
                .await?;
            if changed != insert.len() as u64 {
                return Err(changed_underneath(name, batch).into());
            }
        }
        let sql = format!(
            "INSERT INTO {offsets} (job, target, source, topic, partition, next_offset, batch) \
             VALUES ($1, $2, '', '', {JOB_ROW}, $3, $4) ON CONFLICT (job, target, source, topic, partition) \
             DO UPDATE SET next_offset = excluded.next_offset, batch = excluded.batch, committed_at = now()"
        );
        let next = number.saturating_add(1);
        let params: [(&(dyn ToSql + Sync), Type); 4] = [
            (job, Type::TEXT),
            (table, Type::TEXT),
            (&next, Type::INT8),
            (&number, Type::INT8),
        ];
        client.execute_typed(&sql, &params).await?;
        Ok(())
    }
}

/// Ranges column by column, as `unnest` takes them.
struct Ranges<'a> {
    sources: Vec<&'a str>,
    topics: Vec<&'a str>,
    partitions: Vec<i32>,
    ends: Vec<i64>,
    topic_ids: Vec<Option<&'a str>>,
    leader_epochs: Vec<Option<i32>>,
}

impl<'a> Ranges<'a> {
    fn of(ranges: &[&'a SourceRange]) -> Self {
        let partition = |range: &&'a SourceRange| &range.partition;
        let partitions = || ranges.iter().map(partition);
        Self {
            sources: partitions().map(|p| &*p.source).collect(),
            topics: partitions().map(|p| &*p.topic).collect(),
            partitions: partitions().map(|p| p.partition).collect(),
            ends: ranges.iter().map(|range| range.end).collect(),
            topic_ids: ranges
                .iter()
                .map(|range| range.topic_id.as_deref())
                .collect(),
            leader_epochs: ranges.iter().map(|range| range.leader_epoch).collect(),
        }
    }
}

/// The rows of a job and target in the table of offsets.
pub(super) async fn recorded(
    client: &tokio_postgres::Client,
    offsets: &str,
    table: &str,
    job: &str,
) -> Result<Vec<OffsetRow>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT source, topic, partition, next_offset, topic_id, batch, leader_epoch, epoch_offset FROM {offsets} \
         WHERE job = $1 AND target = $2"
    );
    let rows = client
        .query_typed(&sql, &[(&job, Type::TEXT), (&table, Type::TEXT)])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(OffsetRow {
                source: row.try_get(0)?,
                topic: row.try_get(1)?,
                partition: row.try_get(2)?,
                next: row.try_get(3)?,
                topic_id: row.try_get(4)?,
                batch: row.try_get(5)?,
                leader_epoch: row.try_get(6)?,
                epoch_offset: row.try_get(7)?,
            })
        })
        .collect()
}

/// The other jobs that have rows in a target.
pub(super) async fn other_jobs(
    client: &tokio_postgres::Client,
    offsets: &str,
    table: &str,
    job: &str,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql =
        format!("SELECT DISTINCT job FROM {offsets} WHERE target = $1 AND job <> $2 ORDER BY job");
    let rows = client
        .query_typed(&sql, &[(&table, Type::TEXT), (&job, Type::TEXT)])
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
