//! Finds out how far a job got, from its log and from its sinks.
//!
//! | log | sinks | what happens |
//! |---|---|---|
//! | empty | know nothing | a new job: the positions of the sources' options, logged first |
//! | empty | know the job | the log was lost: go on from the sinks' ends |
//! | last batch not committed | at its starts or its ends | run it again, where it is missing |
//! | last batch not committed, its records gone | all at its starts | where sources allow data loss: fix it again |
//! | last batch committed | at its ends | the next batch |
//! | anything else | | refused: rows would be lost or repeated |

use std::collections::BTreeMap;
use std::sync::Arc;

use super::intent::{Intent, JobRecord, Owner, QueryRecord, Start, VERSION};
use super::output::{OpenOutput, Recorded};
use super::progress::Retry;
use super::run::{MicroBatch, Next, Open};
use super::source::Positions;
use crate::client::epochs;
use crate::error::{Error, ErrorKind, Result};
use crate::range::TopicPartition;
use crate::sink::{Committed, Ends, Standing, same_ends};
use crate::table::now_ms;

/// Asks log and sinks, sets the sources' positions and says what comes next.
pub(super) async fn recover(job: &mut MicroBatch) -> Result<Open> {
    loop {
        // `None`: the last batch was withdrawn.
        if let Some(open) = look(job).await? {
            return Ok(open);
        }
    }
}

async fn look(job: &mut MicroBatch) -> Result<Option<Open>> {
    job.log
        .claim(job_record(job), job.allow_changed_query)
        .await?;
    // Once: a run that was overtaken must not take the job back.
    if job.owns {
        job.log.check_owner(&job.run).await?;
    } else {
        job.log.take_over(&owner(job)).await?;
        job.owns = true;
    }
    for source in &mut job.plan.sources {
        source.compared.clear();
    }
    let state = match job.log.state().await {
        Ok(state) => state,
        Err(error) => {
            // The log of a driver that was overtaken moves while it looks.
            job.log.check_owner(&job.run).await?;
            return Err(error);
        }
    };
    let mut outputs = vec![];
    let mut known = vec![];
    for output in &job.plan.outputs {
        let (open, committed) = output.open(&job.name).await?;
        known.extend(committed.map(|committed| (open.target(), committed)));
        outputs.push(open);
    }

    let Some(intent) = state.intent else {
        let start = match state.start {
            Some(start) => start,
            None => first_start(job, &known).await?,
        };
        check_start(&start, &known)?;
        set_positions(job, &start_positions(&start)).await?;
        let next = Next::New(start.batch);
        return Ok(Some(Open { outputs, next }));
    };
    if job.allow_changed_query {
        outputs.iter_mut().for_each(OpenOutput::join);
    }
    if state.committed {
        for open in &outputs {
            check_committed(open, &intent)?;
        }
        set_positions(job, &intent_positions(&intent)).await?;
        let next = Next::New(after(intent.batch)?);
        return Ok(Some(Open { outputs, next }));
    }
    let standings = outputs
        .iter()
        .map(|open| open.standing(&open.ranges(&intent, "")));
    let standings: Vec<Standing> = standings.collect::<Result<_>>()?;
    if standings.contains(&Standing::Committed) && standings.contains(&Standing::Next) {
        check_decoding(job, &intent)?;
    }
    if standings.contains(&Standing::Next) && !is_still_there(job, &intent, &standings).await? {
        job.log.withdraw(intent.batch).await?;
        return Ok(None);
    }
    // The positions after it are taken over when it is through; those before it only tell a
    // source that had batches from one that had none.
    for source in &mut job.plan.sources {
        source.first = intent.batch == 0;
    }
    let next = Next::Rerun(Box::new(intent));
    Ok(Some(Open { outputs, next }))
}

fn owner(job: &MicroBatch) -> Owner {
    Owner {
        version: VERSION,
        job: job.name.clone(),
        run: job.run.clone(),
        started_ms: now_ms(),
    }
}

fn job_record(job: &MicroBatch) -> JobRecord {
    let sources = job.plan.sources.iter();
    let outputs = job.plan.outputs.iter();
    JobRecord {
        version: VERSION,
        job: job.name.clone(),
        created_ms: now_ms(),
        query: QueryRecord {
            statements: job.plan.statements.clone(),
            sources: sources
                .map(|source| (source.name.clone(), source.table.topics().to_string()))
                .collect(),
            sinks: outputs.map(|output| output.sink.identity()).collect(),
        },
    }
}

/// Fixes where a job without a log starts: at its sinks' ends, or where its options say.
async fn first_start(job: &mut MicroBatch, known: &[(String, Committed)]) -> Result<Start> {
    let Some((target, first)) = known.first() else {
        for source in &mut job.plan.sources {
            source.positions = source.first_positions().await?;
        }
        return job.log.start(job.start_record(0, false)).await;
    };
    if known.len() < job.plan.outputs.len() {
        return Err(Error::Conflict {
            target: target.clone(),
            message: format!(
                "the offset log is empty, this sink has batch {} of job '{}' and another sink of the job has \
                 none: nobody knows which rows the other one lacks; restore the log, or empty both",
                first.batch, job.name
            ),
        });
    }
    if let Some((other, second)) = known.iter().find(|(_, c)| !same_ends(&c.ends, &first.ends)) {
        return Err(Error::Conflict {
            target: other.clone(),
            message: format!(
                "the offset log is empty and the sinks of job '{}' are not equally far: this one has batch {}, \
                 {target} has batch {}; restore the log",
                job.name, second.batch, first.batch
            ),
        });
    }
    let mut by_source = positions_by_source(&first.ends);
    for source in &mut job.plan.sources {
        source.positions = match by_source.remove(source.name.as_str()) {
            Some(positions) => positions,
            None => source.first_positions().await?,
        };
    }
    log::warn!(
        "{}: the offset log is empty; {target} knows job '{}', which goes on after its batch {}",
        job.log.url(),
        job.name,
        first.batch
    );
    let next = after(first.batch)?;
    job.log.start(job.start_record(next, true)).await
}

/// The number of the next batch, which a log or a sink that somebody changed may not leave.
pub(super) fn after(batch: u64) -> Result<u64> {
    batch.checked_add(1).ok_or_else(|| {
        Error::invalid(format!(
            "there is no batch after batch {batch}: the log or the sink that names it was changed"
        ))
    })
}

/// Compares a logged start, after which no batch was fixed, with what the sinks know.
fn check_start(start: &Start, known: &[(String, Committed)]) -> Result<()> {
    for (target, committed) in known {
        if committed.batch.checked_add(1) != Some(start.batch) {
            return Err(Error::Conflict {
                target: target.clone(),
                message: format!(
                    "it has batch {} of job '{}', the offset log starts with batch {} and has none yet: \
                     files of the log are missing, or the two do not belong together; \
                     remove the whole log to go on from the sink's ends",
                    committed.batch, start.job, start.batch
                ),
            });
        }
    }
    Ok(())
}

/// The rows that some sinks have and others lack must be made as they were: a record that has become one
/// of the rows or of the dead letters would else be neither.
fn check_decoding(job: &MicroBatch, intent: &Intent) -> Result<()> {
    let named = |text: Option<&str>| text.unwrap_or("bytes as they are").to_owned();
    for source in &job.plan.sources {
        let Some(begun) = intent.sources.iter().find(|s| s.source == source.name) else {
            continue;
        };
        if begun.decoding.as_deref() != source.table.decoding() {
            return Err(Error::Conflict {
                target: format!("source '{}'", source.name),
                message: format!(
                    "batch {} of job '{}' is in some of its sinks and not in others, and its records would be \
                     decoded otherwise now: then as {}; now as {}. Finish the batch with the formats and \
                     columns that it was begun with (columns that were learned from a sample can be \
                     declared), and change them afterwards",
                    intent.batch,
                    job.name,
                    named(begun.decoding.as_deref()),
                    named(source.table.decoding())
                ),
            });
        }
    }
    Ok(())
}

/// Whether the records of a batch that was fixed still are those that it was fixed over. The record before
/// a range's end tells that for all before it.
///
/// # Errors
/// When they are not, and the batch may not be fixed again: its source allows no data loss, or a sink has it.
async fn is_still_there(job: &MicroBatch, intent: &Intent, standings: &[Standing]) -> Result<bool> {
    let halves = standings.contains(&Standing::Committed);
    let mut is_there = true;
    for source in &job.plan.sources {
        let Some(of) = intent.sources.iter().find(|s| s.source == source.name) else {
            continue;
        };
        let next = match halves {
            true => "some of its sinks have it, and the others can never get it: start a new job",
            false if source.skips_losses() => {
                "no sink has it, and it is fixed again over what is there now"
            }
            false => &format!(
                "no sink has it: fix it again with 'on.data.loss' = 'skip' (failOnDataLoss = false), or remove the \
                 offset log {}, and the job goes on from the ends of its sinks",
                job.log.url()
            ),
        };
        let next = format!(
            "batch {} of job '{}' was fixed before that and can never be run as it was; {next}",
            intent.batch, job.name
        );
        let client = source.table.client();
        match epochs::refuse_another_log(client.as_ref(), &of.snapshot, &next).await {
            Ok(()) => {}
            Err(gone)
                if source.skips_losses()
                    && !halves
                    && gone.kind() == ErrorKind::DataUnavailable =>
            {
                let retry = Retry {
                    batch: Some(intent.batch),
                    failed: job.failed,
                    wait_ms: 0,
                    error: &gone,
                };
                for listener in &job.listeners {
                    listener.retrying(&retry);
                }
                is_there = false;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(is_there)
}

/// A sink of a job whose last batch is committed must be at its ends.
fn check_committed(open: &OpenOutput, intent: &Intent) -> Result<()> {
    let ends = match &open.recorded {
        Recorded::NotKept | Recorded::Joins => return Ok(()),
        Recorded::Nothing => None,
        Recorded::Ends(ends) => Some(ends),
    };
    match open.standing(&intent.ranges(""))? {
        Standing::Committed => Ok(()),
        Standing::Next => {
            // A batch that moves nothing is at its starts and at its ends.
            if ends.is_some_and(|ends| same_ends(ends, &intent.ends())) {
                return Ok(());
            }
            Err(Error::Conflict {
                target: open.target(),
                message: format!(
                    "the offset log says that batch {} of job '{}' is committed, and this sink does not have it: \
                     it was emptied, restored from a backup or replaced; remove the offset log to go on from \
                     the sink's ends, or restore the sink",
                    intent.batch, intent.job
                ),
            })
        }
    }
}

/// Gives every source its positions; one that the log does not know starts as its options say.
async fn set_positions(
    job: &mut MicroBatch,
    known: &BTreeMap<String, (Positions, bool)>,
) -> Result<()> {
    for source in &mut job.plan.sources {
        match known.get(&source.name) {
            Some((positions, first)) => {
                source.positions = positions.clone();
                source.first = *first;
            }
            None => source.positions = source.first_positions().await?,
        }
    }
    Ok(())
}

fn start_positions(start: &Start) -> BTreeMap<String, (Positions, bool)> {
    let positions = |source: &super::intent::SourceStart| {
        let positions = source.positions.iter();
        positions
            .map(|p| (p.partition.clone(), p.position.clone()))
            .collect()
    };
    start
        .sources
        .iter()
        .map(|s| (s.source.clone(), (positions(s), !start.from_sink)))
        .collect()
}

fn intent_positions(intent: &Intent) -> BTreeMap<String, (Positions, bool)> {
    let sources = intent.sources.iter();
    sources
        .map(|s| (s.source.clone(), (s.ends(), false)))
        .collect()
}

fn positions_by_source(ends: &Ends) -> BTreeMap<&str, Positions> {
    let mut by_source: BTreeMap<&str, Positions> = BTreeMap::new();
    for (partition, position) in ends {
        let key = TopicPartition::new(Arc::clone(&partition.topic), partition.partition);
        by_source
            .entry(&partition.source)
            .or_default()
            .insert(key, position.clone());
    }
    by_source
}
