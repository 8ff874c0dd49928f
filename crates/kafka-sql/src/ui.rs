//! What people see: what the shell says besides data, which goes to standard error and never fails,
//! and data on a terminal.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion_kafka::text::visible;

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
    /// Whether there is a user to ask: in the interactive shell.
    pub(crate) asks: bool,
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
            asks: false,
            stderr_is_terminal,
            stdout_is_terminal: io::stdout().is_terminal(),
        }
    }
}

/// Prints a line on standard error, and no more than one: what the text of others in it would have a
/// terminal do is escaped. A closed standard error is no reason to stop.
pub(crate) fn note(line: impl fmt::Display) {
    let line = line.to_string();
    let _ = writeln!(io::stderr().lock(), "{}", visible(&line, &[]));
}

/// Where data is written: a terminal shows what pipes and files get byte by byte.
pub(crate) fn output(to: impl Write + IsTerminal + Send + 'static) -> Box<dyn Write + Send> {
    match to.is_terminal() {
        true => Box::new(Screen::new(to)),
        false => Box::new(to),
    }
}

/// Text on a terminal, with everything escaped but lines and tabs.
struct Screen<W> {
    inner: W,
    /// The beginning of a character whose end is still to come.
    begun: Vec<u8>,
}

impl<W> Screen<W> {
    fn new(inner: W) -> Self {
        let begun = Vec::new();
        Self { inner, begun }
    }
}

impl<W: Write> Write for Screen<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.begun) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.begun.len(),
        };
        let rest = self.begun.split_off(whole);
        let text = std::mem::replace(&mut self.begun, rest);
        let text = String::from_utf8_lossy(&text);
        self.inner
            .write_all(visible(&text, &['\n', '\t']).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether a pager has the terminal, and with it Ctrl-C.
static PAGING: AtomicBool = AtomicBool::new(false);

/// The time in which a pager has the terminal.
pub(crate) struct Paging(());

impl Paging {
    pub(crate) fn begin() -> Self {
        PAGING.store(true, Ordering::Relaxed);
        Self(())
    }

    pub(crate) fn is_on() -> bool {
        PAGING.load(Ordering::Relaxed)
    }
}

impl Drop for Paging {
    fn drop(&mut self) {
        PAGING.store(false, Ordering::Relaxed);
    }
}

/// Whether colours are wanted: not with `NO_COLOR`, nor on a terminal that has none.
pub(crate) fn has_colors() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !is_dumb && !is_set("NO_COLOR")
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

/// `1 offset`, `1,000 offsets`.
pub(crate) fn number(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(n))
}

/// `1 row`, `2 rows`, `1,000 rows`.
pub(crate) fn rows(n: u64) -> String {
    number(n, "row")
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
    fn a_terminal_is_shown_what_it_would_obey() {
        let text = "a\tb\u{1b}[2J\n\u{9b}ü\u{202e}🙂\r\n".as_bytes();
        for piece in 1..text.len() {
            let mut screen = Screen::new(Vec::new());
            for part in text.chunks(piece) {
                screen.write_all(part).unwrap();
            }
            let shown = String::from_utf8(screen.inner).unwrap();
            assert_eq!(shown, "a\tb\\u001b[2J\n\\u009bü\\u202e🙂\\r\n");
        }
        let mut screen = Screen::new(Vec::new());
        screen.write_all(b"\xff\xfe\x1b\n").unwrap();
        assert_eq!(screen.inner, "\u{fffd}\u{fffd}\\u001b\n".as_bytes());
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
