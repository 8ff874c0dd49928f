//! The dead letters of an export, which are the records that do not decode. They are one batch of their sink,
//! committed after the last piece and before the manifest. So a complete export has all of them, and a
//! resumed one has none twice.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::physical_plan::execution_plan::execute_stream_partitioned;
use sha2::{Digest, Sha256};

use super::Export;
use super::pieces;
use super::plan::{self, ExportedPiece, Plan};
use super::query::{Query, planning};
use crate::decode::{BadRowCount, BadRowLimit};
use crate::error::{Error, Result};
use crate::fault;
use crate::hex::hex;
use crate::kafka_sink::letters;
use crate::range::Snapshot;
use crate::sink::{
    BatchRanges, OpenSink, Part, SinkJob, SourcePartition, SourceRange, Staged, Standing, stage_all,
};
use crate::table::KafkaTable;

impl Export {
    /// Applies the limit to the bad records of all pieces together, as for one statement.
    pub(super) fn judge_bad_records(&self, done: &[ExportedPiece]) -> Result<()> {
        let sum = |of: fn(&ExportedPiece) -> u64| done.iter().map(of).fold(0, u64::saturating_add);
        let limit = self.table.decoder().bad_rows().limit;
        let count = Arc::new(BadRowCount::new(limit, 1)).begin(0, 1);
        count.add(
            sum(|piece| piece.records),
            sum(|piece| piece.bad_records),
            None,
        )?;
        count.end()
    }

    /// Commits the dead letters of an export whose pieces are written, unless that was already done.
    pub(super) async fn commit_letters(
        &self,
        plan: &Plan,
        query: &Query,
        done: &[ExportedPiece],
    ) -> Result<()> {
        // Pieces without bad records are not read here, so a share cannot be computed.
        let limit = self.table.decoder().bad_rows().limit;
        let limit = limit.filter(|limit| matches!(limit, BadRowLimit::Count(_)));
        let (Some(table), Some(sink)) =
            (self.table.dead_letters(limit), letters::sink(&self.table)?)
        else {
            return Ok(());
        };
        let batch = Arc::new(self.letter_batch(plan)?);
        if batch.ranges.is_empty() {
            return Ok(());
        }
        let schema = Arc::clone(table.decoder().schema());
        let job = SinkJob {
            name: batch.job.clone(),
            schema,
        };
        let opened = sink.open(&job).await?;
        let recorded = opened.committed.map(|committed| committed.ends);
        if batch.against(&sink.target(), recorded.as_ref())? == Standing::Committed {
            return Ok(());
        }
        let table = table.at(with_bad_records(&plan.snapshot, done)?)?;
        let table = table.in_order(sink.needs_order());
        let open = opened.sink;
        let staged = stage(&open, &batch, query, &table).await;
        match staged.and_then(|staged| check(&sink.target(), done, staged)) {
            Ok(staged) => {
                fault::point("export-after-letters");
                open.commit(&batch, staged).await
            }
            Err(error) => {
                if let Err(left) = open.abort(&batch).await {
                    log::warn!("{}: removing what was staged: {left}", sink.target());
                }
                Err(error)
            }
        }
    }

    /// The whole export, as the only batch of a job.
    fn letter_batch(&self, plan: &Plan) -> Result<BatchRanges> {
        let id = hex(&Sha256::digest(plan::json(plan)?));
        let mut ranges: Vec<SourceRange> = vec![];
        for range in plan.snapshot.offset_ranges() {
            let partition = SourcePartition {
                source: self.name.as_str().into(),
                topic: Arc::clone(range.topic()),
                partition: range.partition(),
            };
            match ranges.iter_mut().find(|known| known.partition == partition) {
                Some(known) => {
                    known.start = known.start.min(range.start());
                    known.end = known.end.max(range.end());
                }
                None => ranges.push(SourceRange {
                    partition,
                    previous: None,
                    start: range.start(),
                    end: range.end(),
                    topic_id: plan.snapshot.topic_id(range.topic()).map(str::to_owned),
                    leader_epoch: None,
                }),
            }
        }
        Ok(BatchRanges {
            job: format!("export-{}", &id[..16]),
            batch: 0,
            attempt: uuid::Uuid::new_v4().simple().to_string(),
            ranges,
        })
    }
}

/// The pieces that may have dead letters: those with bad records, and those where a predicate skipped records
/// unseen.
fn with_bad_records(snapshot: &Snapshot, done: &[ExportedPiece]) -> Result<Snapshot> {
    let mut ranges = vec![];
    for piece in done {
        if piece.bad_records > 0 || piece.filtered_offsets > 0 {
            ranges.extend(
                pieces::snapshot_of(snapshot, &piece.range)?
                    .ranges()
                    .to_vec(),
            );
        }
    }
    snapshot.with_ranges(ranges)
}

/// Refuses dead letters that are not exactly the records missing from the files.
fn check(target: &str, done: &[ExportedPiece], staged: Vec<Staged>) -> Result<Vec<Staged>> {
    let letters: u64 = staged.iter().map(|part| part.rows).sum();
    let bad: u64 = done
        .iter()
        .map(|piece| piece.bad_records)
        .fold(0, u64::saturating_add);
    let all_seen = done.iter().all(|piece| piece.filtered_offsets == 0);
    if letters < bad || (all_seen && letters > bad) {
        return Err(Error::Conflict {
            target: target.to_owned(),
            message: format!(
                "{letters} records of the export do not decode, and {bad} did not when its files were \
                 written: a schema was added or removed since; start a new export in an empty folder"
            ),
        });
    }
    Ok(staged)
}

async fn stage(
    sink: &Arc<dyn OpenSink>,
    batch: &Arc<BatchRanges>,
    query: &Query,
    table: &KafkaTable,
) -> Result<Vec<Staged>> {
    let scan = table.scan(&query.state, None, &[], None).await;
    let scan = scan.map_err(|e| planning(&e))?;
    let task = query.state.task_ctx();
    let streams = execute_stream_partitioned(scan, Arc::clone(&task));
    let streams = streams.map_err(|e| planning(&e))?.into_iter().enumerate();
    let parts = streams.map(|(partition, rows)| {
        let part = Part::Rows {
            sink: Arc::clone(sink),
            batch: Arc::clone(batch),
            partition,
            rows,
        };
        (partition, part)
    });
    let mut staged = stage_all(parts.collect::<Vec<_>>(), task.memory_pool()).await?;
    staged.sort_by_key(|(partition, _)| *partition);
    Ok(staged.into_iter().flat_map(|(_, staged)| staged).collect())
}
