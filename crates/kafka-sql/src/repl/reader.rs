//! Reads lines from the terminal and keeps their history.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion_kafka::statement::without_secrets;
use rustyline::error::ReadlineError;
use rustyline::history::{FileHistory, History};
use rustyline::{ColorMode, CompletionType, Config, DefaultEditor, Editor};

use super::helper::{Helper, Names};
use crate::ui;

/// Reads the user's input, a statement or command at a time.
///
/// The line editor lives for one input only: as long as it lives, its own signal handler takes the
/// Ctrl-C that must stop a running statement.
pub(super) struct Reader {
    config: Config,
    names: Arc<Names>,
    history: FileHistory,
    path: Option<PathBuf>,
}

impl Reader {
    /// A reader whose history is kept in the file `path`.
    pub(super) fn new(names: Arc<Names>, path: Option<PathBuf>) -> Self {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .color_mode(match ui::has_colors() {
                true => ColorMode::Enabled,
                false => ColorMode::Disabled,
            })
            .build();
        let mut history = FileHistory::with_config(&config);
        if let Some(path) = &path {
            // The first session has no history, and one that cannot be read is no reason to stop.
            let _ = history.load(path);
        }
        Self {
            config,
            names,
            history,
            path,
        }
    }

    /// Shows the prompt and reads until the input is complete.
    ///
    /// # Errors
    /// [`ReadlineError::Interrupted`] on Ctrl-C, [`ReadlineError::Eof`] on Ctrl-D, others when the
    /// terminal cannot be used.
    pub(super) fn read(&mut self, prompt: &str) -> Result<String, ReadlineError> {
        let none = FileHistory::with_config(&self.config);
        let history = mem::replace(&mut self.history, none);
        let mut editor = Editor::with_history(self.config.clone(), history)?;
        editor.set_helper(Some(Helper::new(Arc::clone(&self.names))));
        let line = editor.readline(prompt);
        mem::swap(&mut self.history, editor.history_mut());
        if let Ok(line) = &line
            && !line.trim().is_empty()
        {
            // What is kept here lies on the disk for years.
            let _ = self.history.add(&without_secrets(line.trim_end()));
            if let Some(path) = &self.path {
                let _ = self.history.append(path);
            }
        }
        line
    }
}

/// Asks for a yes. No answer is none.
pub(super) fn confirm(question: &str) -> bool {
    let answer = DefaultEditor::new().and_then(|mut editor| editor.readline(question));
    answer.is_ok_and(|answer| matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
