//! The terminal: its size, how tables look there, and the pager.

use std::io::Write;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use terminal_size::{Height, Width, terminal_size_of};

use crate::ui;

/// Whether rows are shown as lists of their columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Expanded {
    On,
    Off,
    /// Where so many columns are cut that little can be read.
    #[default]
    Auto,
}

/// How wide tables may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum MostWidth {
    /// As the terminal, and as they like elsewhere.
    #[default]
    Auto,
    Columns(usize),
    /// As they like.
    Any,
}

/// What `\pset` and `\x` say about tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drawing {
    pub(crate) width: MostWidth,
    pub(crate) wraps: bool,
    pub(crate) expanded: Expanded,
    pub(crate) null: String,
    pub(crate) pager: bool,
}

impl Default for Drawing {
    fn default() -> Self {
        Self {
            width: MostWidth::Auto,
            wraps: false,
            expanded: Expanded::default(),
            null: "NULL".to_owned(),
            pager: true,
        }
    }
}

/// How one table looks.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// The columns that it may take; `None` for any number.
    pub(super) width: Option<usize>,
    pub(super) wraps: bool,
    pub(super) expanded: Expanded,
    pub(super) null: String,
    /// The lines from which on the pager shows it; `None` without one.
    lines: Option<usize>,
}

impl Look {
    /// How a table looks on the screen, or elsewhere.
    pub(super) fn new(options: &Drawing, on_screen: bool) -> Self {
        let screen = on_screen.then(size).flatten();
        Self {
            width: match options.width {
                MostWidth::Auto => screen.map(|(width, _)| width),
                MostWidth::Columns(width) => Some(width),
                MostWidth::Any => None,
            },
            wraps: options.wraps,
            expanded: options.expanded,
            null: options.null.clone(),
            lines: screen.filter(|_| options.pager).map(|(_, height)| height),
        }
    }

    /// Shows a text with the pager if it is longer than the screen. Where this cannot be done, nobody has shown it.
    pub(super) fn pages(&self, text: &str) -> bool {
        self.lines
            .is_some_and(|lines| text.lines().count() >= lines)
            && page(text)
    }
}

/// Shows a text that is longer than the screen with the pager.
pub(crate) fn show(text: &str, options: &Drawing, on_screen: bool) -> bool {
    Look::new(options, on_screen).pages(text)
}

/// The columns and lines of the terminal; `None` where that is not known.
fn size() -> Option<(usize, usize)> {
    let (Width(width), Height(height)) = terminal_size_of(std::io::stdout())?;
    (width > 0 && height > 0).then_some((width.into(), height.into()))
}

/// The user's pager. Without `$PAGER` it is less.
fn pager() -> Option<String> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let less = || {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&folders);
        let found = folders.any(|folder| folder.join("less").is_file());
        let less = if found { "less" } else { "" };
        less.to_owned()
    };
    let pager = std::env::var("PAGER").unwrap_or_else(|_| less());
    let wanted = !matches!(pager.trim(), "" | "cat") && !is_dumb;
    wanted.then_some(pager)
}

/// A pager that is left early has shown enough.
fn page(text: &str) -> bool {
    let Some(pager) = pager() else {
        return false;
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", &pager])
        .stdin(Stdio::piped())
        // Colours, no second screen, and lines that are cut at the screen's edge. What fits is only printed.
        .env(
            "LESS",
            std::env::var_os("LESS").unwrap_or_else(|| "FRSX".into()),
        );
    // Ctrl-C is for the pager.
    let _open = ui::Paging::begin();
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    if let Some(mut to) = child.stdin.take() {
        let _ = to.write_all(text.as_bytes());
    }
    // A shell that does not find the pager ends with 127.
    child.wait().is_ok_and(|ended| ended.code() != Some(127))
}
