//! The interactive shell.

mod command;
mod helper;
mod highlight;
mod reader;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion_kafka::table::TableOptions;
use datafusion_kafka::text::visible;
use rustyline::error::ReadlineError;
use tokio::runtime::Runtime;

use self::command::Command;
use self::helper::Names;
use self::reader::Reader;
use crate::connection::Connection;
use crate::doctor::DoctorArgs;
use crate::failure::{Exit, Failure};
use crate::inspect;
use crate::output::{Destination, Expanded, Format, MostWidth, OutputOptions, show};
use crate::progress::Meter;
use crate::script::Script;
use crate::session::Session;
use crate::ui::{self, Ui};
use crate::{describe, doctor, interrupt, job, script};

const PROMPT: &str = "kafka-sql> ";

/// Reads statements and commands until the user leaves.
pub(crate) struct Repl<'a> {
    runtime: &'a Runtime,
    session: Arc<Session>,
    connection: Connection,
    options: OutputOptions,
    ui: Ui,
    names: Arc<Names>,
}

/// Whether to go on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Prompt,
    Leave,
}

impl<'a> Repl<'a> {
    /// Prepares a shell on a session.
    pub(crate) fn new(
        runtime: &'a Runtime,
        session: Arc<Session>,
        connection: Connection,
        options: OutputOptions,
        mut ui: Ui,
    ) -> Self {
        ui.summary = true;
        ui.asks = true;
        Self {
            runtime,
            session,
            connection,
            options,
            ui,
            names: Arc::default(),
        }
    }

    /// Talks to the user until Ctrl-D or `\q`.
    ///
    /// # Errors
    /// When the terminal cannot be used. A failed statement is no error here.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let mut reader = Reader::new(Arc::clone(&self.names), history_path());
        self.refresh_names();
        loop {
            let line = match reader.read(PROMPT) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(error) => {
                    let message = format!("cannot use the terminal: {error}");
                    return Err(Failure::new(Exit::Query, message));
                }
            };
            if line.trim().is_empty() {
                continue;
            }
            match self.obey(&line) {
                Ok(Next::Prompt) => {}
                Ok(Next::Leave) => break,
                Err(Failure::Interrupted) => ui::note("interrupted"),
                Err(Failure::ClosedPipe) => break,
                Err(failure) => failure.report(self.ui.verbose),
            }
        }
        Ok(())
    }

    fn obey(&mut self, line: &str) -> Result<Next, Failure> {
        let Some(command) = Command::parse(line)? else {
            self.run_script(Script::parse(line, None)?)?;
            // The statement may have made or dropped a table.
            self.refresh_names();
            return Ok(Next::Prompt);
        };
        match command {
            Command::Quit => return Ok(Next::Leave),
            Command::Help => self.page(command::HELP)?,
            Command::Options(part) => match TableOptions::help(&part).trim_end() {
                "" => {
                    return Err(Failure::usage(format!(
                        "no option of a table has '{part}' in its name or meaning; \\options lists all"
                    )));
                }
                options => self.page(options)?,
            },
            Command::Tables => self.run_sql(inspect::TABLES_SQL)?,
            Command::Columns(table) => self.run_sql(&inspect::columns_sql(&table))?,
            Command::Topics(pattern) => self.run_sql(&inspect::topics_sql(pattern.as_deref())?)?,
            Command::Offsets(topic, range) => {
                self.run_sql(&inspect::offsets_sql(&topic, range.as_deref()))?
            }
            Command::Describe(topic) => {
                let work = describe::run(
                    Arc::clone(&self.session),
                    topic,
                    self.options.clone(),
                    Arc::new(Destination::Stdout),
                    self.ui,
                );
                interrupt::run(self.runtime, work)?;
            }
            Command::Doctor(topics) => {
                let args = DoctorArgs::of_topics(topics);
                let (connection, screen) = (self.connection.clone(), Destination::Stdout);
                let work = doctor::run(args, connection, Arc::new(screen));
                interrupt::run(self.runtime, work)?;
            }
            Command::Jobs(url) => {
                self.session
                    .policy()
                    .check_location("the offset log", &url)?;
                let (options, ui) = (self.options.clone(), self.ui);
                interrupt::run(self.runtime, async move {
                    let (schema, rows) = script::one_batch(job::history(&url).await?);
                    let meter = Meter::none();
                    script::deliver(&schema, rows, meter, &options, &Destination::Stdout, ui)
                        .await
                        .map(drop)
                })?;
            }
            Command::Timing(on) => {
                self.ui.timing = on.unwrap_or(!self.ui.timing);
                self.say(if self.ui.timing {
                    "Timing is on."
                } else {
                    "Timing is off."
                })?;
            }
            Command::Ledger(on) => {
                self.ui.ledger = on.unwrap_or(!self.ui.ledger);
                self.say(if self.ui.ledger {
                    "Ledger is on."
                } else {
                    "Ledger is off."
                })?;
            }
            Command::Format(format) => {
                self.options.format = format;
                self.say(&format!("Format is {}.", name_of(format)))?;
            }
            Command::Bytes(bytes) => self.options.bytes = bytes,
            Command::MaxRows(rows) => self.options.max_rows = rows.0,
            Command::Width(width) => self.options.table.width = width,
            Command::Wrap(wraps) => self.options.table.wraps = wraps,
            Command::Null(text) => self.options.table.null = visible(&text, &[]).into_owned(),
            Command::Pager(pager) => self.options.table.pager = pager,
            Command::Expanded(expanded) => {
                let table = &mut self.options.table;
                table.expanded = expanded.unwrap_or(match table.expanded {
                    Expanded::Off | Expanded::Auto => Expanded::On,
                    Expanded::On => Expanded::Off,
                });
                let expanded = name_of(table.expanded);
                self.say(&format!("Expanded is {expanded}."))?;
            }
            Command::ShowSettings => {
                self.say(&self.settings())?;
            }
            Command::Include(file) => {
                self.session.policy().check_location("the file", &file)?;
                self.run_script(Script::read(Path::new(&file))?)?;
                self.refresh_names();
            }
        }
        Ok(Next::Prompt)
    }

    fn run_sql(&self, sql: &str) -> Result<(), Failure> {
        self.run_script(Script::parse(sql, None)?)
    }

    /// Runs statements. One that would read more than the budget does so if the user wants it.
    fn run_script(&self, script: Script) -> Result<(), Failure> {
        for statement in script.one_by_one() {
            match self.run_once(statement.clone()) {
                Err(Failure::OverBudget { estimate, refusal }) => {
                    let question = format!("this reads {estimate}; go on? [y/N] ");
                    match reader::confirm(&question) {
                        true => self.run_once(statement.going_on())?,
                        false => return Err(refusal.into()),
                    }
                }
                done => done?,
            }
        }
        Ok(())
    }

    fn run_once(&self, script: Script) -> Result<(), Failure> {
        let work = script.run(
            Arc::clone(&self.session),
            self.options.clone(),
            Arc::new(Destination::Stdout),
            self.ui,
        );
        interrupt::run(self.runtime, work).map(drop)
    }

    fn settings(&self) -> String {
        let OutputOptions {
            format,
            bytes,
            max_rows,
            table,
            ..
        } = &self.options;
        let rows = max_rows.map_or_else(|| "all".to_owned(), |n| n.to_string());
        let width = match table.width {
            MostWidth::Auto => "auto".to_owned(),
            MostWidth::Any => "all".to_owned(),
            MostWidth::Columns(columns) => columns.to_string(),
        };
        let switch = |on| if on { "on" } else { "off" };
        let (format, bytes) = (name_of(*format), name_of(*bytes));
        let (wrap, pager) = (switch(table.wraps), switch(table.pager));
        let (null, expanded) = (&table.null, name_of(table.expanded));
        format!(
            "format    {format}\nbytes     {bytes}\nmaxrows   {rows}\nwidth     {width}\nwrap      {wrap}\n\
             null      '{null}'\npager     {pager}\nexpanded  {expanded}"
        )
    }

    /// Says what may be longer than the screen.
    fn page(&self, text: &str) -> Result<(), Failure> {
        let lines = format!("{text}\n");
        match show(&lines, &self.options.table, self.options.on_screen) {
            true => Ok(()),
            false => self.say(text),
        }
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        writeln!(std::io::stdout(), "{text}").map_err(|e| Failure::io("standard output", &e))
    }

    /// Looks up names for completion in the background, so that the prompt does not wait.
    fn refresh_names(&self) {
        let session = Arc::clone(&self.session);
        let names = Arc::clone(&self.names);
        self.runtime.spawn(async move {
            // Without names, completion knows keywords only; the next statement will say what is wrong.
            let topics = session.topics().await.unwrap_or_default();
            names.set_tables(session.local_tables(&topics).await);
            names.set_topics(topics);
        });
    }
}

fn name_of(value: impl clap::ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|v| v.get_name().to_owned())
        .unwrap_or_default()
}

/// `kafka-sql/history` in the user's data folder, which is made if need be.
fn history_path() -> Option<PathBuf> {
    let folder = dirs::data_dir()?.join("kafka-sql");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// Formats that a terminal can show, by name.
fn text_format(name: &str) -> Option<Format> {
    <Format as clap::ValueEnum>::from_str(name, true)
        .ok()
        .filter(|f| f.is_text())
}
