//! Runs `kafka-sql doctor`, and the arguments for it.

use std::any::Any;
use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::support::{self, KafkaServer, Listener, Login, PASSWORD, Record, admin, produce};

/// A run of `kafka-sql doctor --json`.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) exit: i32,
    pub(super) document: Value,
}

pub(super) fn doctor(args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-sql"));
    command
        .arg("doctor")
        .args(args)
        .env_remove("KAFKA_SQL_BOOTSTRAP_SERVERS")
        .env_remove("KAFKA_SQL_CONFIG")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(super) fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

pub(super) fn run(args: &[String]) -> Run {
    let mut json = args.to_vec();
    json.push("--json".to_owned());
    let output = doctor(&json).output().expect("the shell starts");
    let (out, err) = text(&output);
    assert!(
        !out.contains(PASSWORD) && !err.contains(PASSWORD),
        "{out}{err}"
    );
    let document: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    Run {
        exit: output.status.code().expect("it was not killed"),
        document,
    }
}

impl Run {
    pub(super) fn checks(&self) -> &[Value] {
        self.document["checks"].as_array().expect("a list")
    }

    /// The checks with this outcome, in their order, each once.
    pub(super) fn with(&self, outcome: &str) -> String {
        let mut names: Vec<&str> = Vec::new();
        for check in self.checks().iter().filter(|c| c["outcome"] == outcome) {
            let name = check["check"].as_str().expect("text");
            if !names.contains(&name) {
                names.push(name);
            }
        }
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    }
}

/// The cell of a column for a case that runs with these arguments. Some finding must contain each of `says`.
pub(super) fn cell<A: Into<Started>>(
    case: &'static str,
    column: &str,
    says: &[&str],
    start: impl FnOnce() -> A,
) -> String {
    static RUNS: Mutex<BTreeMap<&str, Run>> = Mutex::new(BTreeMap::new());
    let known = RUNS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(case)
        .cloned();
    let run = known.unwrap_or_else(|| {
        let run = tokio::task::block_in_place(|| {
            let started = start().into();
            run(&started.args)
        });
        let all = format!("{:#}", run.document);
        for phrase in says {
            assert!(
                all.contains(phrase),
                "{case} does not say {phrase:?}: {all}"
            );
        }
        // Every failure and every warning says what to do.
        let silent = run.checks().iter().find(|c| {
            (c["outcome"] == "failed" || c["outcome"] == "warning") && c["advice"].is_null()
        });
        assert!(silent.is_none(), "{case} gives no advice: {silent:?}");
        let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(case, run.clone());
        run
    });
    match column {
        "exit code" => run.exit.to_string(),
        "failed" => run.with("failed"),
        "warning" => run.with("warning"),
        other => panic!("no column {other}"),
    }
}

/// Arguments, and what must live while they are used.
pub(super) struct Started {
    pub(super) args: Vec<String>,
    _servers: Option<Box<dyn Any>>,
}

impl Started {
    pub(super) fn with(servers: impl Any, args: Vec<String>) -> Self {
        Self {
            args,
            _servers: Some(Box::new(servers)),
        }
    }
}

impl From<Vec<String>> for Started {
    fn from(args: Vec<String>) -> Self {
        Self {
            args,
            _servers: None,
        }
    }
}

/// The shared broker, with a topic at least.
pub(super) fn shared() -> &'static KafkaServer {
    static TOPIC: OnceLock<String> = OnceLock::new();
    TOPIC.get_or_init(|| {
        let topic = admin::unique_topic("doctor");
        admin::create_topic(support::shared().bootstrap(), &topic, 1, &[]);
        topic
    });
    support::shared()
}

pub(super) fn at(bootstrap: &str) -> Vec<String> {
    let limit = ["--step-timeout", "20s"];
    let args = ["-b", bootstrap].into_iter().chain(limit);
    args.map(str::to_owned).collect()
}

/// The arguments for a login at a listener, with other settings in place of its own.
pub(super) fn logged_in(
    server: &KafkaServer,
    listener: Listener,
    login: Login<'_>,
    over: &[(&str, &str)],
) -> Vec<String> {
    let mut args = at(&server.bootstrap_of(listener));
    let settings = server.client_settings(listener, login);
    let kept = settings.iter().filter(|(key, _)| {
        key != "bootstrap.servers" && over.iter().all(|(other, _)| *other != key.as_str())
    });
    let over = over.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    for (key, value) in kept.cloned().chain(over) {
        args.push("-X".to_owned());
        args.push(format!("{key}={value}"));
    }
    args
}

pub(super) fn with(mut args: Vec<String>, more: &[&str]) -> Vec<String> {
    args.extend(more.iter().map(|a| (*a).to_owned()));
    args
}

/// A topic of the shared broker with a record in each of two partitions.
pub(super) fn filled() -> String {
    let topic = admin::unique_topic("doctor");
    let bootstrap = shared().bootstrap();
    admin::create_topic(bootstrap, &topic, 2, &[]);
    produce::produce(
        bootstrap,
        &topic,
        &[0, 1].map(|p| Record::new(p).value("x")),
    );
    topic
}
