//! What the shell says besides data: everything here goes to standard error and never fails.

use std::fmt;
use std::io::{self, IsTerminal, Write};

/// How much the user wants to hear.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    /// `-q`: errors only.
    pub(crate) quiet: bool,
    /// `-v`: details of errors.
    pub(crate) verbose: bool,
    /// Whether the ranges of a statement are shown with what became of their offsets (`--ledger`).
    pub(crate) ledger: bool,
    /// Whether summaries name the time a statement took (`\timing`).
    pub(crate) timing: bool,
    /// Whether summaries are printed at all: on a terminal, or always in the interactive shell.
    pub(crate) summary: bool,
    /// Whether standard error is a terminal, so that progress can be drawn.
    pub(crate) stderr_is_terminal: bool,
    /// Whether standard output is a terminal, so that rows and progress share a screen.
    pub(crate) stdout_is_terminal: bool,
}

impl Ui {
    /// Looks at the process's streams.
    pub(crate) fn detect(quiet: bool, verbose: bool, ledger: bool) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        Self {
            quiet,
            verbose,
            ledger,
            timing: true,
            summary: stderr_is_terminal,
            stderr_is_terminal,
            stdout_is_terminal: io::stdout().is_terminal(),
        }
    }
}

/// Prints a line on standard error. A closed standard error is no reason to stop.
pub(crate) fn note(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2 rows`, `1,000 rows`.
pub(crate) fn rows(n: u64) -> String {
    let noun = if n == 1 { "row" } else { "rows" };
    format!("{} {noun}", thousands(n))
}

/// `held back by the broker's quota for 12 s`, from a tenth of a second on.
pub(crate) fn held_back(throttled_ms: u64) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let seconds = throttled_ms as f64 / 1e3;
    let digits = usize::from(seconds < 9.95);
    (throttled_ms >= 100)
        .then(|| format!("held back by the broker's quota for {seconds:.digits$} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_held_back_is_said_where_it_matters() {
        assert_eq!(held_back(99), None);
        let said = |ms| held_back(ms).unwrap();
        assert_eq!(said(250), "held back by the broker's quota for 0.2 s");
        assert_eq!(said(12_400), "held back by the broker's quota for 12 s");
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1000), "1,000");
        assert_eq!(thousands(1234567), "1,234,567");
        assert_eq!(rows(1), "1 row");
        assert_eq!(rows(0), "0 rows");
    }
}
