//! A service that runs, its files, and what it answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Record, admin, postgres, produce, shared, wait_until};

/// How long a test waits for what must come, on a machine that is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// What the service must never say.
pub(crate) const TOKEN: &str = "hunter2-of-the-token";
pub(crate) const PASSWORD: &str = "hunter2-of-the-broker";
pub(crate) const CLIENT_PASSWORD: &str = "hunter2-of-the-client";
pub(crate) const SINK_PASSWORD: &str = postgres::PASSWORD;

pub(crate) const PARTITIONS: i32 = 3;

pub(crate) fn kafka_sql() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
    command
        .env_remove("KAFKA_SQL_BOOTSTRAP_SERVERS")
        .env_remove("KAFKA_SQL_CONFIG")
        .env_remove("KAFKA_SQL_WORKERS")
        .env_remove("NOTIFY_SOCKET")
        .env("TEST_TOKEN", TOKEN)
        .env("TEST_PASSWORD", PASSWORD)
        .env("TEST_CLIENT_PASSWORD", CLIENT_PASSWORD)
        .env("TEST_SINK_PASSWORD", SINK_PASSWORD)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A folder with the file of a service, its jobs and their sinks.
pub(crate) struct Files {
    pub(crate) folder: TempDir,
    brokers: String,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self::over(shared().bootstrap())
    }

    pub(crate) fn over(brokers: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            brokers: brokers.to_owned(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    /// The file of a service with an HTTP port, and `more`.
    pub(crate) fn service(&self, more: &str) {
        let text = format!(
            "[connections.main]\n\
             \"bootstrap.servers\" = \"{}\"\n\
             \"sasl.password\" = \"env:TEST_PASSWORD\"\n\
             [http]\n\
             listen = \"127.0.0.1:0\"\n\
             token = \"env:TEST_TOKEN\"\n\
             [service]\n\
             first_pause = \"200ms\"\n\
             longest_pause = \"500ms\"\n\
             {more}",
            self.brokers
        );
        self.write("serve.toml", &text);
    }

    /// The file of a job that copies the coordinates of a topic's records into a table of SQLite of the job's name.
    pub(crate) fn job(&self, name: &str, topic: &str) {
        let database = self.path(&format!("{name}.db"));
        let text = format!(
            "CREATE EXTERNAL TABLE orders STORED AS KAFKA LOCATION '{topic}';\n\
             CREATE EXTERNAL TABLE out STORED AS SQLITE LOCATION '{}' OPTIONS ('table' 'out');\n\
             INSERT INTO out SELECT partition, offset FROM orders;\n",
            database.display()
        );
        self.write(&format!("{name}.sql"), &text);
    }

    /// How many times the sink of a job has each partition and offset; nothing before its first batch.
    pub(crate) fn held(&self, name: &str) -> BTreeMap<(i32, i64), usize> {
        let mut held = BTreeMap::new();
        let database = self.path(&format!("{name}.db"));
        let Ok(connection) = rusqlite::Connection::open(database) else {
            return held;
        };
        let rows = connection.prepare("SELECT partition, offset FROM out");
        let Ok(mut rows) = rows else {
            return held;
        };
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        for row in rows.expect("two columns").flatten() {
            *held.entry(row).or_default() += 1;
        }
        held
    }

    /// Waits until the sink of a job has as many rows as were produced, each once.
    pub(crate) fn wait_for_each_once(&self, name: &str, records: usize) {
        wait_until(LIMIT, &format!("{name} has delivered {records}"), || {
            (self.held(name).len() >= records).then_some(())
        });
        let held = self.held(name);
        assert_eq!(held.len(), records, "{name}");
        let twice: Vec<_> = held.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{name}: {twice:?}");
    }
}

/// A section of a job.
pub(crate) fn section(name: &str, more: &str) -> String {
    format!("[jobs.{name}]\nfile = \"{name}.sql\"\nconnection = \"main\"\n{more}\n")
}

pub(crate) fn new_topic() -> String {
    let topic = admin::unique_topic("service");
    admin::create_topic(shared().bootstrap(), &topic, PARTITIONS, &[]);
    topic
}

/// Adds records to all partitions in turn.
pub(crate) fn produce_to(brokers: &str, topic: &str, records: usize) {
    let partition = |n: usize| i32::try_from(n).expect("few") % PARTITIONS;
    let records: Vec<Record> = (0..records)
        .map(|n| Record::new(partition(n)).value(format!("{n}")))
        .collect();
    produce::produce(brokers, topic, &records);
}

/// A process that serves.
pub(crate) struct Running {
    pub(crate) child: Child,
    said: Arc<Mutex<String>>,
    /// Of the HTTP port.
    pub(crate) address: String,
}

impl Running {
    pub(crate) fn start(files: &Files) -> Self {
        Self::start_with(files, |command| command)
    }

    pub(crate) fn start_with(
        files: &Files,
        more: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let mut command = kafka_sql();
        command.arg("serve").arg(files.path("serve.toml"));
        Self::spawn(more(&mut command))
    }

    /// Starts a process that says where it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the shell starts");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let said = Arc::<Mutex<String>>::default();
        let to = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut said = to.lock().expect("nobody panics with it");
                said.push_str(&line);
                said.push('\n');
            }
        });
        let mut running = Self {
            child,
            said,
            address: String::new(),
        };
        running.address = wait_until(LIMIT, "it listens", || {
            let said = running.said();
            if let Some(ended) = running.child.try_wait().expect("a process") {
                panic!("it has ended, {ended}: {said}");
            }
            let (_, rest) = said.split_once("listens on http://")?;
            let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit())?;
            Some(rest[..end].to_owned())
        });
        running
    }

    /// What it has said on standard error.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("nobody panics with it").clone()
    }

    /// The address of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The status and the body of an answer.
    pub(crate) fn ask(&self, request: &str, token: Option<&str>) -> (u16, String) {
        ask(&self.address, request, token).expect("it listens and answers")
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path}"), None)
    }

    pub(crate) fn post(&self, path: &str) -> (u16, String) {
        self.ask(&format!("POST {path}"), Some(TOKEN))
    }

    /// A job as the API has it.
    pub(crate) fn job(&self, name: &str) -> serde_json::Value {
        let (status, body) = self.get(&format!("/api/jobs/{name}"));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The value of a series of the metrics.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200, "{text}");
        let value = text.lines().find_map(|line| line.strip_prefix(series))?;
        Some(value.trim().parse().expect("a number"))
    }

    pub(crate) fn wait_until_ready(&self) {
        wait_until(LIMIT, "it is ready", || {
            let (status, _) = self.get("/readyz");
            (status == 200).then_some(())
        });
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success(), "kill -{name}");
    }

    /// Ends it as service managers do.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let ended = self.child.wait().expect("it ends");
        (ended, self.said())
    }

    /// Whether it has said so.
    pub(crate) fn wait_until_said(&self, what: &str) {
        wait_until(LIMIT, what, || self.said().contains(what).then_some(()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

/// The status and the body of an answer of a port.
pub(crate) fn ask(
    address: &str,
    request: &str,
    token: Option<&str>,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    let token = token.map_or(String::new(), |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let request =
        format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let no_answer = || std::io::Error::other(format!("no answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_answer)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(no_answer)?, body.to_owned()))
}

/// No text holds a secret.
pub(crate) fn assert_no_secret<'a>(texts: impl IntoIterator<Item = &'a str>) {
    for text in texts {
        for secret in [TOKEN, PASSWORD, CLIENT_PASSWORD, SINK_PASSWORD] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
