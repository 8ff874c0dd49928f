//! An S3 endpoint for tests, provided by moto, and the Python that runs it.
//!
//! `KAFKA_SQL_TEST_PYTHON` names a Python with the packages in tests/python/requirements.txt. The default is
//! the one that `make setup` creates.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use super::process::Watched;
use super::{repository, wait_until};

/// The bucket, which exists.
pub const BUCKET: &str = "test";

/// How long the endpoint may take to start.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running endpoint.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    _folder: TempDir,
    _process: Watched,
}

/// The endpoint that the tests of this process share. Its watchdog ends it with the process.
pub fn shared() -> &'static S3Server {
    static SHARED: OnceLock<S3Server> = OnceLock::new();
    SHARED.get_or_init(S3Server::start)
}

impl S3Server {
    fn start() -> Self {
        let folder = TempDir::with_prefix("s3-").expect("cannot make a folder");
        let log = folder.path().join("log");
        let script = repository().join("tests/support/s3.py");
        let command: Vec<OsString> = vec![python().into(), script.into(), BUCKET.into()];
        let process = Watched::start(folder.path(), &log, "KILL", &command);
        let port = wait_until(START_LIMIT, "the S3 endpoint tells its port", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(!process.has_ended(), "the S3 endpoint has ended:\n{said}");
            let line = said.lines().find_map(|line| line.strip_prefix("port "));
            line.and_then(|port| port.trim().parse().ok())
        });
        Self {
            port,
            _folder: folder,
            _process: process,
        }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The settings that a client needs, under object_store's names.
    pub fn options(&self) -> HashMap<String, String> {
        let options = [
            ("aws.endpoint", self.endpoint().as_str()),
            ("aws.allow_http", "true"),
            ("aws.region", "us-east-1"),
            ("aws.access_key_id", "test"),
            ("aws.secret_access_key", "not-so-secret"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        options.into()
    }

    /// The same settings as environment variables.
    pub fn environment(&self) -> Vec<(String, String)> {
        let options = self.options().into_iter();
        let named = options.map(|(name, value)| (name.replace('.', "_").to_uppercase(), value));
        named.collect()
    }
}

/// A Python with moto, DuckDB, pyarrow and pandas.
///
/// # Panics
/// When there is none.
pub fn python() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let python = set("KAFKA_SQL_TEST_PYTHON").map_or_else(
        || {
            let cache = set("XDG_CACHE_HOME").map_or_else(
                || Path::new(&set("HOME").expect("HOME is set")).join(".cache"),
                PathBuf::from,
            );
            cache.join("datafusion-kafka/python-tools/bin/python")
        },
        PathBuf::from,
    );
    assert!(
        python.is_file(),
        "no Python for the tests at {}: run `make setup`, it makes one (KAFKA_SQL_TEST_PYTHON names another)",
        python.display()
    );
    python
}
