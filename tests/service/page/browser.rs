//! A Chromium that tests drive, by `tests/python/browser.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::s3;

/// A browser with one page.
pub(crate) struct Browser {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Where Chromium is; prints why not.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("KAFKA_SQL_TEST_CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut found = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = named.or_else(|| found.find(|program| program.is_file()));
    if found.is_none() {
        println!(
            "skipped: there is no Chromium. On Debian: apt-get install chromium; \
             KAFKA_SQL_TEST_CHROMIUM names another one"
        );
    }
    found
}

impl Browser {
    /// Starts a browser; `None` where there is none, with the reason on standard output.
    pub(crate) fn start() -> Option<Self> {
        let chromium = chromium()?;
        let mut process = Command::new(s3::python())
            .arg(crate::support::repository().join("tests/python/browser.py"))
            .arg(chromium)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let mut browser = Self {
            input: process.stdin.take(),
            output: BufReader::new(process.stdout.take().expect("a pipe")),
            process,
        };
        let version = browser.answer();
        assert!(version.is_string(), "the browser starts: {version}");
        Some(browser)
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        let hint = "the browser has ended; without playwright: run `make setup`";
        let mut answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{hint}"));
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            panic!("{error}");
        }
        answer["result"].take()
    }

    fn ask(&mut self, asked: &Value) -> Value {
        let input = self.input.as_mut().expect("it runs");
        writeln!(input, "{asked}").expect("it reads");
        self.answer()
    }

    /// Opens an address; the status of the answer.
    pub(crate) fn goto(&mut self, url: &str) -> u64 {
        let status = self.ask(&json!({ "do": "goto", "url": url }));
        status.as_u64().expect("a status")
    }

    /// The texts of all elements that a selector finds.
    pub(crate) fn texts(&mut self, at: &str) -> Vec<String> {
        let texts = self.ask(&json!({ "do": "texts", "at": at }));
        serde_json::from_value(texts).expect("texts")
    }

    /// The text of the one element that a selector finds.
    pub(crate) fn text(&mut self, at: &str) -> String {
        let mut texts = self.texts(at);
        assert_eq!(texts.len(), 1, "{at}: {texts:?}");
        texts.remove(0)
    }

    /// The number in the one element that a selector finds.
    pub(crate) fn number(&mut self, at: &str) -> i64 {
        let text = self.text(at);
        let digits: String = text
            .chars()
            .take_while(|c| *c != ' ')
            .filter(|c| *c != ',')
            .collect();
        digits.parse().unwrap_or_else(|_| panic!("{at}: '{text}'"))
    }

    pub(crate) fn count(&mut self, at: &str) -> u64 {
        let count = self.ask(&json!({ "do": "count", "at": at }));
        count.as_u64().expect("a number")
    }

    pub(crate) fn click(&mut self, at: &str) {
        self.ask(&json!({ "do": "click", "at": at }));
    }

    pub(crate) fn fill(&mut self, at: &str, text: &str) {
        self.ask(&json!({ "do": "fill", "at": at, "text": text }));
    }

    pub(crate) fn press(&mut self, key: &str) {
        self.ask(&json!({ "do": "press", "key": key }));
    }

    pub(crate) fn evaluate(&mut self, script: &str) -> Value {
        self.ask(&json!({ "do": "evaluate", "script": script }))
    }

    /// Waits until an element that a selector finds has a text.
    pub(crate) fn wait(&mut self, at: &str, text: &str) {
        self.ask(&json!({ "do": "wait", "at": at, "text": text }));
    }

    pub(crate) fn look(&mut self, width: u32, height: u32, dark: bool) {
        self.ask(&json!({ "do": "look", "width": width, "height": height, "dark": dark }));
    }

    pub(crate) fn picture(&mut self, path: &std::path::Path) {
        self.ask(&json!({ "do": "picture", "path": path.display().to_string() }));
    }

    /// What the console said since the start, and what the page's policy has forbidden.
    pub(crate) fn trouble(&mut self) -> Vec<String> {
        let trouble = self.ask(&json!({ "do": "trouble" }));
        serde_json::from_value(trouble).expect("texts")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.input = None;
        let _ = self.process.wait();
    }
}
