//! The page of a batch, made of what the offset log holds of it.

use std::collections::HashMap;

use askama::Template;
use datafusion_kafka::driver::{CommitRecord, Intent, OffsetLog};
use datafusion_kafka::range::LedgerCounts;
use datafusion_kafka::sink::Ends;
use datafusion_kafka::store::Store;
use serde::Serialize;

use super::words::{When, bytes, duration, number, shown};
use super::{VERSION, chart, jobs};
use crate::job::{JobStatus, PHASES, now_ms};
use crate::problem::Problem;

/// A batch in the offset log.
#[derive(Debug, Serialize)]
pub(super) struct Logged {
    intent: Intent,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<CommitRecord>,
}

impl Logged {
    pub(super) async fn read(checkpoint: &str, batch: u64) -> Result<Self, Problem> {
        let log = OffsetLog::new(Store::open(checkpoint, &HashMap::new())?);
        Ok(Self {
            intent: log.intent(batch).await?,
            commit: log.commit(batch).await?,
        })
    }
}

/// The ends that sinks have recorded with the last batch; none where the log cannot be read.
pub(super) async fn recorded_ends(job: &JobStatus) -> Ends {
    let Some(last) = job.batches.last() else {
        return Ends::default();
    };
    match Logged::read(&job.checkpoint, last.batch).await {
        Ok(logged) => logged.intent.ends(),
        Err(problem) => {
            log::debug!("the recorded ends of {}: {problem}", job.name);
            Ends::default()
        }
    }
}

#[derive(Template)]
#[template(path = "batch.html")]
pub(super) struct Batch {
    here: &'static str,
    version: &'static str,
    job: String,
    job_href: String,
    number: u64,
    state: &'static str,
    fixed: When,
    committed: Option<When>,
    run: String,
    ranges: Vec<Range>,
    lost: Vec<String>,
    classes: [&'static str; 9],
    ledgers: Vec<SourceLedger>,
    sinks: Vec<Sink>,
    phases: Vec<Phase>,
    replay: String,
    receipt: String,
}

struct Range {
    source: String,
    partition: String,
    href: String,
    start: String,
    end: String,
    offsets: String,
}

struct SourceLedger {
    source: String,
    counts: Vec<String>,
    bad_rows: String,
}

struct Sink {
    target: String,
    rows: String,
    bytes: String,
    already: bool,
}

struct Phase {
    name: &'static str,
    class: String,
    duration: String,
}

impl Batch {
    pub(super) fn new(job: &JobStatus, servers: &str, logged: &Logged) -> Self {
        let now_ms = now_ms();
        let Logged { intent, commit } = logged;
        let href = jobs::href(&job.name);
        let sources = || intent.sources.iter();
        let ranges = sources().flat_map(|source| {
            let ranges = source.snapshot.offset_ranges();
            ranges.filter(|range| !range.is_empty()).map(|range| Range {
                source: shown(&source.source),
                partition: shown(&format!("{}[{}]", range.topic(), range.partition())),
                href: jobs::records_href(
                    range.topic(),
                    range.partition(),
                    range.start(),
                    range.end(),
                ),
                start: number(range.start()),
                end: number(range.end()),
                offsets: number(range.len()),
            })
        });
        let lost = sources().flat_map(|source| &source.lost).map(|lost| {
            let reason = serde_json::to_value(lost.reason).unwrap_or_default();
            let reason = reason.as_str().unwrap_or_default();
            let place = format!("{} {}..{}", lost.partition, lost.from, lost.to);
            format!("{} was gone and passed over: {reason}", shown(&place))
        });
        let progress = commit.as_ref().map(|commit| &commit.progress);
        let of_sources = progress.iter().flat_map(|progress| &progress.sources);
        let of_sinks = progress.iter().flat_map(|progress| &progress.sinks);
        Self {
            here: "jobs",
            version: VERSION,
            job: shown(&job.name),
            number: intent.batch,
            state: match (commit, &job.running) {
                (Some(_), _) => "committed",
                (None, Some(running)) if running.batch == intent.batch => "running",
                (None, _) => "not committed",
            },
            fixed: When::new(Some(intent.created_ms), now_ms),
            committed: commit
                .as_ref()
                .map(|commit| When::new(Some(commit.committed_ms), now_ms)),
            run: intent.run.clone(),
            ranges: ranges.collect(),
            lost: lost.collect(),
            classes: LedgerCounts::NAMES,
            ledgers: of_sources
                .map(|source| SourceLedger {
                    source: shown(&source.source),
                    counts: source.ledger.values().map(number).into(),
                    bad_rows: number(source.bad_rows),
                })
                .collect(),
            sinks: of_sinks
                .map(|sink| Sink {
                    target: shown(&sink.target),
                    rows: number(sink.rows),
                    bytes: bytes(sink.bytes),
                    already: sink.already,
                })
                .collect(),
            phases: progress
                .iter()
                .flat_map(|progress| {
                    PHASES.into_iter().map(|(name, take)| Phase {
                        name,
                        class: chart::phase_class(name),
                        duration: duration(take(&progress.phases_ms)),
                    })
                })
                .collect(),
            replay: shown(&replay(job, servers, intent.batch)),
            receipt: format!("{href}/batches/{}/receipt", intent.batch),
            job_href: href,
        }
    }
}

/// The command that computes a batch again. Logins are not in it.
fn replay(job: &JobStatus, servers: &str, batch: u64) -> String {
    let words = [
        "kafka-sql",
        "-b",
        servers,
        "replay",
        &job.file,
        "--name",
        &job.job,
        "--checkpoint",
        &job.checkpoint,
    ];
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("{} --batch {batch} --diff", words.join(" "))
}

/// A word as a shell takes it literally.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@%+=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command_are_quoted_where_a_shell_would_take_them_apart() {
        let shown = ["a/b-c.sql", "", "a b", "it's", "$(x)"].map(quoted);
        assert_eq!(shown, ["a/b-c.sql", "''", "'a b'", r"'it'\''s'", "'$(x)'"]);
    }
}
