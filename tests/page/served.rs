//! A service as a process, over the shared broker.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{shared, wait_until};

pub(crate) const TOKEN: &str = "a token of the tests";
/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A service that runs, and ends with the test.
pub(crate) struct Served {
    process: Child,
    pub(crate) folder: TempDir,
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
}

impl Served {
    /// Starts a service: `jobs` are files with their statements, `more` what the service's file has besides the
    /// connection `main` and the port.
    pub(crate) fn start(folder: TempDir, jobs: &[(&str, &str)], more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = port.local_addr().expect("an address").to_string();
        drop(port);
        let mut file = format!(
            "[connections.main]\n\"bootstrap.servers\" = \"{}\"\n\
             [http]\nlisten = \"{address}\"\ntoken = \"env:PAGE_TOKEN\"\n{more}\n",
            shared().bootstrap()
        );
        for (name, sql) in jobs {
            std::fs::write(folder.path().join(format!("{name}.sql")), sql).expect("a file");
            file.push_str(&format!(
                "[jobs.{name}]\nfile = \"{name}.sql\"\nconnection = \"main\"\ntrigger = \"every 200ms\"\n"
            ));
        }
        let path = folder.path().join("serve.toml");
        std::fs::write(&path, file).expect("a file");
        let mut process = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
            .arg("serve")
            .arg(&path)
            .env("PAGE_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the shell starts");
        let log = Arc::<Mutex<String>>::default();
        let errors = BufReader::new(process.stderr.take().expect("a pipe"));
        let said = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let mut said = said.lock().expect("no panic");
                said.push_str(&line);
                said.push('\n');
            }
        });
        let mut served = Self {
            process,
            folder,
            address,
            log,
        };
        wait_until(PATIENCE, "the service listens", || {
            if let Some(code) = served.process.try_wait().expect("it is ours") {
                panic!("the service has ended with {code}: {}", served.log());
            }
            TcpStream::connect(&served.address).ok()
        });
        served
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What the service has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// The status, the head in small letters and the body of an answer.
    pub(crate) fn get(&self, path: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let host = match headers.contains("Host:") {
            true => String::new(),
            false => format!("Host: {}\r\n", self.address),
        };
        let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).expect("a status");
        (
            status.parse().expect("a status"),
            head.to_lowercase(),
            body.to_owned(),
        )
    }

    /// A job as the API has it.
    pub(crate) fn job(&self, name: &str) -> Value {
        let (status, _, body) = self.get(&format!("/api/jobs/{name}"), "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Waits until a job has a state.
    pub(crate) fn wait_for(&self, job: &str, state: &str) -> Value {
        wait_until(PATIENCE, &format!("{job} is {state}"), || {
            let known = self.job(job);
            (known["state"] == state).then_some(known)
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the service said:\n{}", self.log());
        }
    }
}

/// The rows of a table of SQLite.
pub(crate) fn rows(file: &Path, table: &str) -> i64 {
    let database = rusqlite::Connection::open(file).expect("a database");
    let sql = format!("SELECT count(*) FROM \"{table}\"");
    database
        .query_row(&sql, [], |row| row.get(0))
        .expect("a table")
}
