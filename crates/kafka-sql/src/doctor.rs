//! `kafka-sql doctor`: connects step by step, says what is wrong and what to do.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use datafusion_kafka::client::diagnose::{Check, Finding, Outcome, Questions, diagnose};
use datafusion_kafka::text::visible;
use serde_json::{Value, json};

use crate::connection::{Connection, no_cluster};
use crate::failure::{Exit, Failure};
use crate::output::Destination;

/// The version of the JSON's shape, which a change of the meaning of a field raises.
const SHAPE: u32 = 1;

/// `kafka-sql doctor`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 nothing failed, though there may be warnings; 1 a check failed; 2 usage; \
                  130 interrupted. docs/doctor.md lists the checks and the shape of the JSON."
)]
pub(crate) struct DoctorArgs {
    /// Check the rights on a topic, and read the last record of its partitions; any number of times
    #[arg(long = "topic", value_name = "NAME")]
    topics: Vec<String>,
    /// Check the right to see the offsets of a consumer group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// How long a step may take, such as 500ms or 5s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = crate::job::time)]
    step_timeout: Duration,
    /// Print one JSON document when all checks are done
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// The checks of some topics, as text.
    pub(crate) fn of_topics(topics: Vec<String>) -> Self {
        Self {
            topics,
            group: None,
            step_timeout: Questions::default().step_limit,
            json: false,
        }
    }
}

/// Examines the way to the cluster and prints what it finds; returns how many checks failed.
///
/// # Errors
/// When no cluster was named, or the findings cannot be written.
pub(crate) async fn run(
    args: DoctorArgs,
    connection: Connection,
    destination: Arc<Destination>,
) -> Result<usize, Failure> {
    let config = connection.cluster().ok_or_else(no_cluster)?;
    let mut questions = Questions::default();
    questions.topics = args.topics.iter().map(|t| t.as_str().into()).collect();
    questions.group = args.group;
    questions.step_limit = args.step_timeout;
    let mut report = Report {
        sink: destination.writer()?,
        json: args.json.then(Vec::new),
        counts: [0; 4],
        broken: None,
    };
    report.add(&configuration(&connection));
    diagnose(config, connection.pool(), &questions, |finding| {
        report.add(&finding);
    })
    .await;
    report.end()
}

/// The failure that the exit code tells of, if checks failed.
pub(crate) fn failure(failed: usize) -> Option<Failure> {
    let checks = match failed {
        0 => return None,
        1 => "a check".to_owned(),
        n => format!("{n} checks"),
    };
    Some(Failure::new(Exit::Query, format!("{checks} failed")))
}

/// The settings in effect and where they come from.
fn configuration(connection: &Connection) -> Finding {
    let settings = connection.settings();
    let given = settings.iter().filter(|s| s.source != "default").count();
    let text = match given {
        1 => "1 setting is given".to_owned(),
        n => format!("{n} settings are given"),
    };
    let mut finding = Finding::new(Check::Configuration, "", Outcome::Ok, text);
    for setting in &settings {
        let (key, value, source) = (&setting.key, &setting.value, &setting.source);
        finding = finding.note(format!("{key} = {value} ({source})"));
    }
    let facts: Vec<Value> = settings
        .iter()
        .map(|s| json!({"key": s.key, "value": s.value, "source": s.source}))
        .collect();
    finding.fact("settings", facts)
}

/// Prints findings as they come, or collects them.
struct Report {
    sink: Box<dyn Write + Send>,
    /// The findings for the document, unless they are text.
    json: Option<Vec<Value>>,
    /// How many there are of each outcome, in the order of [`place`].
    counts: [usize; 4],
    /// Why nothing more can be written.
    broken: Option<io::Error>,
}

impl Report {
    fn add(&mut self, finding: &Finding) {
        self.counts[place(finding.outcome)] += 1;
        if let Some(all) = &mut self.json {
            all.push(document(finding));
            return;
        }
        if self.broken.is_none() {
            let text = text(finding);
            let written = self.sink.write_all(text.as_bytes());
            self.broken = written.and_then(|()| self.sink.flush()).err();
        }
    }

    /// Writes the rest; returns how many checks failed.
    fn end(mut self) -> Result<usize, Failure> {
        let [ok, skipped, warnings, failed] = self.counts;
        let text = match self.json.take() {
            None => format!(
                "\n{ok} checks passed, {warnings} with warnings, {failed} failed, {skipped} skipped\n"
            ),
            Some(checks) => {
                let outcome = match (failed, warnings) {
                    (1.., _) => Outcome::Failed,
                    (0, 1..) => Outcome::Warning,
                    (0, 0) => Outcome::Ok,
                };
                let all = json!({"version": SHAPE, "outcome": outcome.name(), "checks": checks});
                format!("{all:#}\n")
            }
        };
        let written = match self.broken.take() {
            Some(error) => Err(error),
            None => self.sink.write_all(text.as_bytes()),
        };
        written
            .and_then(|()| self.sink.flush())
            .map_err(|e| Failure::io("writing the findings failed", &e))?;
        Ok(failed)
    }
}

fn place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Ok => 0,
        Outcome::Warning => 2,
        Outcome::Failed => 3,
        // `Outcome` may grow; what is not known here was not a failure.
        _ => 1,
    }
}

/// A finding as lines: the first says it all, and details and advice are set in.
fn text(finding: &Finding) -> String {
    let mark = match finding.outcome {
        Outcome::Ok => '✓',
        Outcome::Warning => '!',
        Outcome::Failed => '✗',
        _ => '–',
    };
    let mut lines = format!("{mark} {}", finding.check);
    if !finding.subject.is_empty() {
        lines.push(' ');
        lines.push_str(&visible(&finding.subject, &[]));
    }
    lines.push_str(": ");
    lines.push_str(&visible(&finding.text, &[]));
    lines.push('\n');
    for note in &finding.notes {
        lines.push_str(&format!("    {}\n", visible(note, &[])));
    }
    if let Some(advice) = &finding.advice {
        lines.push_str(&format!("    → {}\n", visible(advice, &[])));
    }
    lines
}

/// A finding as an element of `checks`.
fn document(finding: &Finding) -> Value {
    json!({
        "check": finding.check.name(),
        "subject": finding.subject,
        "outcome": finding.outcome.name(),
        "client": finding.by,
        "text": finding.text,
        "advice": finding.advice,
        "notes": finding.notes,
        "facts": finding.facts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_brokers_say_cannot_draw_on_the_screen() {
        let finding = Finding::new(
            Check::Brokers,
            "1\u{1b}[2J",
            Outcome::Failed,
            "evil\n✓ broker 2: fine\u{202e}",
        )
        .note("a\rb")
        .advise("\u{9b}x");
        assert_eq!(
            text(&finding),
            "✗ broker 1\\u001b[2J: evil\\n✓ broker 2: fine\\u202e\n    a\\rb\n    → \\u009bx\n"
        );
    }

    #[test]
    fn long_texts_are_cut() {
        let finding = Finding::new(
            Check::Brokers,
            "x".repeat(1 << 20),
            Outcome::Ok,
            "ü".repeat(9999),
        );
        assert!(text(&finding).len() < 4096);
    }
}
