//! A real schema registry (Apicurio, with Confluent's API), and records that Confluent's own serializers
//! write with it.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use super::process::Watched;
use super::{repository, s3, wait_until};

/// How long the registry may take to start.
const START_LIMIT: Duration = Duration::from_secs(120);
/// The path of Confluent's API.
const API: &str = "/apis/ccompat/v7";

/// A running registry.
pub struct Registry {
    port: u16,
    _folder: TempDir,
    _process: Watched,
}

/// The registry that the tests of this process share. Its watchdog ends it with the process.
pub fn shared() -> &'static Registry {
    static SHARED: OnceLock<Registry> = OnceLock::new();
    SHARED.get_or_init(Registry::start)
}

impl Registry {
    fn start() -> Self {
        let folder = TempDir::with_prefix("registry-").expect("cannot make a folder");
        let log = folder.path().join("log");
        let port = super::unique::free_port();
        let mut command: Vec<OsString> = ["java", "-Xmx512m", "-XX:-UsePerfData"]
            .map(OsString::from)
            .to_vec();
        command.extend([
            "-Dquarkus.http.host=127.0.0.1".into(),
            format!("-Dquarkus.http.port={port}").into(),
            "-jar".into(),
            jar().into_os_string(),
        ]);
        let process = Watched::start(folder.path(), &log, "TERM", &command);
        wait_until(START_LIMIT, "the schema registry answers", || {
            if process.has_ended() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("the schema registry ended: {log}");
            }
            answers(port).then_some(())
        });
        Self {
            port,
            _folder: folder,
            _process: process,
        }
    }

    /// The URL of Confluent's API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port)
    }

    /// Makes Confluent's serializers write a case of tests/support/typed.py to a topic.
    pub fn produce(&self, bootstrap: &str, topic: &str, case: &str) {
        self.typed(bootstrap, topic, case);
    }

    /// What Confluent's deserializers read from partition 0 of a topic, with a case of
    /// tests/support/typed.py: one line of JSON per record.
    pub fn consume(&self, bootstrap: &str, topic: &str, case: &str) -> Vec<String> {
        let printed = self.typed(bootstrap, topic, case);
        printed.lines().map(str::to_owned).collect()
    }

    fn typed(&self, bootstrap: &str, topic: &str, case: &str) -> String {
        let script = repository().join("tests/support/typed.py");
        let done = Command::new(s3::python())
            .arg(script)
            .args([bootstrap, &self.url(), topic, case])
            .output()
            .expect("cannot start Python");
        assert!(done.status.success(), "{case}: {done:?}");
        String::from_utf8(done.stdout).expect("it prints text")
    }
}

/// The registry's program: `KAFKA_SQL_REGISTRY`, or else where `make setup` puts it.
fn jar() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = set("KAFKA_SQL_REGISTRY").map_or_else(
        || super::libs::cache().join("datafusion-kafka/registry-3.0.9"),
        PathBuf::from,
    );
    let complete = folder.join(".complete").is_file();
    assert!(
        complete,
        "no schema registry in {}: run `make setup`, it fetches it (KAFKA_SQL_REGISTRY names another \
         folder)",
        folder.display()
    );
    let app = folder.join("app/apicurio-registry-app-3.0.9-runner.jar");
    assert!(app.is_file(), "{} is not there", app.display());
    app
}

fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {API}/subjects HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
