//! Runs statements one after another and writes their results as they arrive.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_kafka::driver::create_index;
use datafusion_kafka::receipt::{Receipt, with_checksums};
use datafusion_kafka::scan::{ScanEstimate, lift_budget, over_budget};
use futures::StreamExt;

use crate::failure::{Exit, Failure};
use crate::ledger;
use crate::output::{self, Destination, Flow, OutputOptions};
use crate::progress::Meter;
use crate::session::Session;
use crate::statements::{self, Statement};
use crate::ui::{self, Ui};

/// A text of SQL statements and where it comes from, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    statements: Vec<Statement>,
    /// The file's name, or `stdin`; `None` for text typed on the command line.
    origin: Option<String>,
    /// Whether messages name the line of a statement.
    has_lines: bool,
    /// Where it is noted what the statements read.
    receipt: Option<Arc<Mutex<Receipt>>>,
    /// Whether the user wants statements to read more than the session's budget.
    goes_on: bool,
}

/// What running a script did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Statements that returned a table, also an empty one.
    pub(crate) results: usize,
    /// Rows of the last of them.
    pub(crate) rows: u64,
}

impl Script {
    /// Cuts a text into statements.
    ///
    /// # Errors
    /// When a string, identifier or comment is not closed.
    pub(crate) fn parse(text: &str, origin: Option<String>) -> Result<Self, Failure> {
        match statements::split(text) {
            Ok(script) => Ok(Self {
                has_lines: origin.is_some() || script.statements.len() > 1,
                statements: script.statements,
                origin,
                receipt: None,
                goes_on: false,
            }),
            Err(failure) => Err(match origin {
                Some(origin) => failure.at(origin),
                None => failure,
            }),
        }
    }

    /// Reads a file, or standard input for `-`.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let (text, origin) = if path == Path::new("-") {
            let text = std::io::read_to_string(std::io::stdin());
            (text, "stdin".to_owned())
        } else {
            (std::fs::read_to_string(path), path.display().to_string())
        };
        let text = text.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Failure::usage(format!("{origin}: no such file")),
            _ => Failure::io(format_args!("cannot read {origin}"), &e),
        })?;
        Self::parse(&text, Some(origin))
    }

    /// The same script, which notes in a receipt what its statements read.
    pub(crate) fn with_receipt(mut self, receipt: Option<Arc<Mutex<Receipt>>>) -> Self {
        self.receipt = receipt;
        self
    }

    /// Its statements, each a script.
    pub(crate) fn one_by_one(self) -> impl Iterator<Item = Self> {
        let statements = self.statements.clone().into_iter();
        statements.map(move |statement| Self {
            statements: vec![statement],
            ..self.clone()
        })
    }

    /// The same script, which reads more than the session's budget.
    pub(crate) fn going_on(mut self) -> Self {
        self.goes_on = true;
        self
    }

    /// Whether there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    fn place(&self, statement: &Statement) -> Option<String> {
        match &self.origin {
            Some(origin) => Some(format!("{origin}:{}", statement.line)),
            None if self.has_lines => Some(format!("line {}", statement.line)),
            None => None,
        }
    }

    /// Runs the statements in order and stops at the first that fails.
    ///
    /// # Errors
    /// The failure of that statement, with its line.
    pub(crate) async fn run(
        self,
        session: Arc<Session>,
        options: OutputOptions,
        destination: Arc<Destination>,
        ui: Ui,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        for statement in &self.statements {
            let result = run_statement(
                statement,
                &self,
                &session,
                &options,
                &destination,
                ui,
                &mut outcome,
            )
            .await;
            if let Err(failure) = result {
                return Err(match self.place(statement) {
                    Some(place) => failure.at(place),
                    None => failure,
                });
            }
        }
        Ok(outcome)
    }
}

async fn run_statement(
    statement: &Statement,
    script: &Script,
    session: &Session,
    options: &OutputOptions,
    destination: &Destination,
    ui: Ui,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let started = Instant::now();
    if statements::makes_index(&statement.text) {
        let made = create_index(session.context(), &statement.in_place()).await?;
        let records = ui::thousands(made.records);
        summarize(&format!("{records} records indexed"), started.elapsed(), ui);
        return Ok(());
    }
    let receipt = script.receipt.as_deref();
    let frame = session.sql(&statement.in_place()).await?;
    let task = frame.task_ctx();
    let context = Arc::new(match receipt {
        Some(_) => with_checksums(task),
        None => task,
    });
    let plan = frame.create_physical_plan().await?;
    if ui.asks
        && let Some(refusal) = over_budget(&plan)
    {
        lift_budget(&plan);
        // Where more than the session forbids it, it is refused below.
        if !script.goes_on && over_budget(&plan).is_none() {
            let estimate = ScanEstimate::of(&plan).to_string();
            return Err(Failure::OverBudget { estimate, refusal });
        }
    }
    let names = output::with_unique_names(frame.schema(), &plan.schema());
    let mut stream = execute_stream(Arc::clone(&plan), context)?;

    if names.fields().is_empty() {
        // DDL and SET have done their work; what is left has no columns.
        while let Some(batch) = stream.next().await {
            batch?;
        }
        summarize("OK", started.elapsed(), ui);
        return Ok(());
    }
    if outcome.results > 0 && (!destination.is_stdout() || !options.format.is_text()) {
        return Err(Failure::new(
            Exit::Usage,
            "a file holds one result, and a statement before this one has written it; run them one by one",
        ));
    }
    outcome.results += 1;

    let meter = Meter::start(&plan, ui);
    let (shown, rows, ended) = deliver(&names, stream, meter, options, destination, ui).await?;
    outcome.rows = shown;
    let what = if shown < rows {
        format!("first {}", ui::rows(shown))
    } else {
        ui::rows(rows)
    };
    summarize(&what, ended - started, ui);
    let read = crate::session::scan_progress(&plan);
    if read.lost_offsets > 0 {
        ui::note(format_args!(
            "kafka-sql: {} offsets of the ranges were gone and are missing in this result",
            ui::thousands(read.lost_offsets)
        ));
    }
    if read.bad_rows > 0 && !ui.quiet {
        ui::note(format_args!(
            "kafka-sql: {} records did not decode",
            ui::thousands(read.bad_rows)
        ));
    }
    if let Some(receipt) = receipt {
        let mut added = Receipt::new();
        added.add_with_epochs(&statement.text, &plan).await?;
        let mut receipt = receipt.lock().unwrap_or_else(PoisonError::into_inner);
        receipt.statements.append(&mut added.statements);
    }
    ledger::report(&plan, options, ui)
}

/// The result that is one batch.
pub(crate) fn one_batch(batch: RecordBatch) -> (SchemaRef, SendableRecordBatchStream) {
    let schema = batch.schema();
    let rows = futures::stream::iter([Ok(batch)]);
    let rows = RecordBatchStreamAdapter::new(Arc::clone(&schema), rows);
    (schema, Box::pin(rows))
}

/// Writes rows as they arrive, under the columns `names`. Returns how many were shown, how many there were, and when
/// the last had come: a pager may show them for hours.
///
/// # Errors
/// When the query fails or the output cannot be written.
pub(crate) async fn deliver(
    names: &SchemaRef,
    mut stream: SendableRecordBatchStream,
    mut meter: Meter,
    options: &OutputOptions,
    destination: &Destination,
    ui: Ui,
) -> Result<(u64, u64, Instant), Failure> {
    let on_screen = destination.is_stdout() && ui.stdout_is_terminal;
    let mut writer = output::open(
        options,
        names,
        destination.writer()?,
        destination.is_seekless(),
    )?;
    let mut rows = 0u64;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if batch.num_rows() == 0 {
            continue;
        }
        rows += batch.num_rows() as u64;
        let batch = RecordBatch::try_new(Arc::clone(names), batch.columns().to_vec())?;
        let mut write = || writer.write(&batch);
        let write = || match on_screen && options.format.streams() {
            true => meter.aside(write),
            false => write(),
        };
        // A reader of our output may be slow; other tasks of the query go on meanwhile.
        if tokio::task::block_in_place(write)? == Flow::Enough {
            break;
        }
    }
    // Dropping the stream stops whatever is still being fetched.
    drop(stream);
    meter.stop();
    let ended = Instant::now();
    tokio::task::block_in_place(|| writer.finish())?;
    let shown = match (options.format.streams(), options.max_rows) {
        (false, Some(most)) => rows.min(most as u64),
        _ => rows,
    };
    Ok((shown, rows, ended))
}

fn summarize(what: &str, elapsed: Duration, ui: Ui) {
    if !ui.summary || ui.quiet {
        return;
    }
    if ui.timing {
        ui::note(format_args!("{what}, {:.3} s", elapsed.as_secs_f64()));
    } else {
        ui::note(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_name_origin_and_line() {
        let script = Script::parse("SELECT 1;\nSELECT 2", Some("a.sql".into())).unwrap();
        assert_eq!(
            script.place(&script.statements[1]).as_deref(),
            Some("a.sql:2")
        );
        let script = Script::parse("SELECT 1;\nSELECT 2", None).unwrap();
        assert_eq!(
            script.place(&script.statements[1]).as_deref(),
            Some("line 2")
        );
        let script = Script::parse("SELECT 1", None).unwrap();
        assert_eq!(script.place(&script.statements[0]), None);
    }

    #[test]
    fn a_missing_file_is_a_usage_error() {
        let failure = Script::read(Path::new("/no/such/file.sql")).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert_eq!(failure.text(false), "/no/such/file.sql: no such file");
    }
}
