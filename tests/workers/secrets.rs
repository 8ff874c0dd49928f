//! What travels between coordinator and workers without TLS, captured: nothing in it is a secret but the token.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use super::support::produce::{Record, produce};
use super::support::proxy::{Of, Proxy, Strike};
use super::support::{KafkaServer, Listener, Login, PASSWORD, admin, s3, shared};
use super::{RunningWorker, kafka_sql, text};

/// Of the registry, of the object store, and what coordinator and workers share.
const REGISTRY_PASSWORD: &str = "registry3password";
const S3_SECRET: &str = "object7store9secret";
const TOKEN: &str = "bearer5token8of2workers";

/// HPACK's code (RFC 7541, appendix B) for what our secrets are made of: bits of a code, the first code of that
/// length, and its characters.
const CODES: [(usize, u32, &str); 3] = [
    (5, 0, "012aceiost"),
    (6, 20, " %-./3456789=A_bdfghlmnpru"),
    (7, 92, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
];

fn bits_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:08b}")).collect()
}

/// A text as a header has it: each character has a code of its own, which need not begin with a byte.
fn compressed(text: &str) -> String {
    let code = |c: char| {
        let of = CODES.iter().find_map(|(bits, first, all)| {
            let at = u32::try_from(all.find(c)?).expect("few");
            Some(format!("{:0bits$b}", first + at))
        });
        of.unwrap_or_else(|| panic!("no code for {c}"))
    };
    text.chars().map(code).collect()
}

/// Whether the bytes have a text, as it is, in base64 or in a compressed header.
fn holds(bytes: &[u8], text: &str) -> bool {
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    has(text.as_bytes())
        || has(base64(text).as_bytes())
        || bits_of(bytes).contains(&compressed(text))
}

/// Without the last characters, which depend on what follows.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bits_of(text.as_bytes());
    let sixes = (0..bits.len() / 6).map(|at| &bits[at * 6..at * 6 + 6]);
    let digits = sixes.map(|six| DIGITS[usize::from_str_radix(six, 2).expect("bits")]);
    digits.map(char::from).collect()
}

#[test]
fn what_is_searched_for_is_found() {
    // `www.example.com` in appendix C.4.1, without its 'x', which two bytes share with its neighbours.
    let header = [
        0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];
    assert!(holds(&header, "www.example.com") && holds(&header, "example"));
    assert!(!holds(&header, "www.example.org"));
    assert!(holds(b"Basic YWxpY2U6aHVudGVyMg==", "alice:hunter2"));
    assert!(holds(b"..hunter2..", "hunter2"));
}

/// A registry that knows one schema, and gives it to those who log in. Returns its URL.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let login = base64(&format!("reader:{REGISTRY_PASSWORD}"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut asked = [0; 4096];
            let n = stream.read(&mut asked).unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..n]).into_owned();
            let schema = r#"{"id":1,"version":1,"schema":"{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"id\",\"type\":\"long\"}]}"}"#;
            let (status, body) = match asked.contains(&login) {
                true => ("200 OK", schema),
                false => ("401 Unauthorized", "{}"),
            };
            let head = format!("content-length: {}\r\nconnection: close", body.len());
            let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\n\r\n{body}");
        }
    });
    url
}

/// Workers behind networks that keep what passes.
struct Bed {
    folder: tempfile::TempDir,
    ways: Vec<Proxy>,
    workers: Vec<RunningWorker>,
}

impl Bed {
    /// Workers with these flags each.
    fn new(flags: &[&[&str]]) -> Self {
        Self::within(&[], flags)
    }

    /// The same in an environment.
    fn within(environment: &[(String, String)], flags: &[&[&str]]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let workers = flags.iter();
        let workers =
            workers.map(|flags| RunningWorker::start_in(environment, "127.0.0.1:0", flags));
        let workers: Vec<RunningWorker> = workers.collect();
        let ways = workers.iter().map(|worker| {
            let way = Proxy::start();
            way.forward_to(&worker.address);
            way.record();
            way
        });
        Self {
            ways: ways.collect(),
            workers,
            folder,
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).expect("a file");
        file.to_str().expect("UTF-8").to_owned()
    }

    fn coordinator(&self) -> Command {
        let all: Vec<String> = self.ways.iter().map(Proxy::address).collect();
        let mut command = kafka_sql();
        command.args(["--format", "csv", "--workers", &all.join(",")]);
        command.args(["--offsets-per-task", "10", "-vv"]);
        // The debug logs of parser and planner are long, and of statements alone.
        command.env(
            "RUST_LOG",
            "debug,sqlparser=off,datafusion=off,datafusion_functions_json=off",
        );
        command
    }

    /// What has passed between coordinator and workers, and among these.
    fn captured(&self) -> Vec<Vec<u8>> {
        self.ways.iter().flat_map(Proxy::recorded).collect()
    }
}

/// A topic of Avro with a schema of the registry.
fn topic(partitions: i32) -> String {
    let (brokers, topic) = (shared().bootstrap(), admin::unique_topic("secret"));
    admin::create_topic(brokers, &topic, partitions, &[]);
    let records = (0..60).map(|n| {
        let framed = [0, 0, 0, 0, 1, 2 * u8::try_from(n).expect("small")];
        Record::new(n % partitions).value(framed)
    });
    produce(brokers, &topic, &records.collect::<Vec<_>>());
    topic
}

#[test]
fn no_secret_travels_or_is_shown() {
    let topic = topic(3);
    let files = Bed::new(&[]);
    let token = format!("file:{}", files.file("token", TOKEN));
    let registry = registry();
    let login: Vec<String> = login(shared());
    let settings = login.into_iter().chain([
        "connection.name=prod".to_owned(),
        format!("schema.registry.url={registry}"),
        format!("schema.registry.basic.auth.user.info=reader:{REGISTRY_PASSWORD}"),
    ]);
    let settings = files.file("prod.properties", &settings.collect::<Vec<_>>().join("\n"));
    let worker = ["--token", &token, "-F", &settings, "-vv"];
    let mut environment = s3::shared().environment();
    for (name, value) in &mut environment {
        if name == "AWS_SECRET_ACCESS_KEY" {
            S3_SECRET.clone_into(value);
        }
    }
    let bed = Bed::within(&environment, &[&worker, &worker]);
    let store = s3::shared().options().into_iter().map(|(key, value)| {
        let value = match key.as_str() {
            "aws.secret_access_key" => S3_SECRET.to_owned(),
            _ => value,
        };
        format!("'{key}' '{value}'")
    });
    let store: Vec<String> = store.collect();
    let table = format!(
        "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION '{topic}' OPTIONS ('value.format' 'avro')"
    );
    let job = format!(
        "{table};\nCREATE EXTERNAL TABLE out STORED AS PARQUET LOCATION 's3://{}/{topic}/' OPTIONS ({});\n\
         INSERT INTO out SELECT partition, offset, id FROM t;\n",
        s3::BUCKET,
        store.join(", ")
    );
    let job = files.file("job.sql", &job);
    let out = format!("s3://{}/{topic}-export", s3::BUCKET);
    let grouped = "SELECT id % 7 AS k, count(*) AS n FROM t GROUP BY k ORDER BY k";
    let bad = format!("SELECT id / (id - id) FROM t; SELECT * FROM kafka('{topic}', '0:999')");
    let mut shown = String::new();
    for (command, code) in [
        (vec!["query", &format!("{table}; {grouped}")], 0),
        (
            vec!["query", &format!("{table}; EXPLAIN VERBOSE {grouped}")],
            0,
        ),
        (
            vec!["query", &format!("{table}; EXPLAIN ANALYZE {grouped}")],
            0,
        ),
        (vec!["query", &format!("{table}; {bad}")], 1),
        (vec!["run", &job, "--available-now"], 0),
        (
            vec![
                "export",
                &topic,
                "-o",
                &out,
                "--option",
                "value.format=avro",
            ],
            0,
        ),
    ] {
        let mut coordinator = bed.coordinator();
        coordinator.envs(environment.iter().cloned());
        coordinator.args(["-F", &settings, "--token", &token]);
        let output = coordinator.args(&command).output();
        let output = output.expect("the shell runs");
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
        shown.push_str(&said);
    }
    for worker in &bed.workers {
        shown.push_str(&worker.said());
    }
    assert!(shown.contains("worker"), "{shown}");

    let captured = bed.captured();
    let passed: usize = captured.iter().map(Vec::len).sum();
    let holds = |text: &str| captured.iter().any(|bytes| holds(bytes, text));
    // What is looked for would be found: a plan names its topic, and each request has the token.
    assert!(passed > 10_000 && holds(&topic), "{passed} bytes");
    assert!(holds(TOKEN), "no request has the token");
    let user = format!("admin:{PASSWORD}");
    let registry_login = format!("reader:{REGISTRY_PASSWORD}");
    for secret in [
        PASSWORD,
        REGISTRY_PASSWORD,
        S3_SECRET,
        &user,
        &registry_login,
    ] {
        assert!(!holds(secret), "'{secret}' was sent");
    }
    let secrets = [PASSWORD, REGISTRY_PASSWORD, S3_SECRET, TOKEN];
    for secret in secrets {
        assert!(!shown.contains(secret), "'{secret}' was shown:\n{shown}");
    }
}

/// The settings of somebody who logs in with a password.
fn login(server: &KafkaServer) -> Vec<String> {
    let login = server.client_settings(Listener::SaslPlaintext, Login::Plain("admin", PASSWORD));
    login
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

/// Who is given rows, and who is told why not.
#[test]
fn rows_are_given_to_those_with_the_token_and_the_version() {
    let topic = topic(2);
    let files = Bed::new(&[]);
    let [right, wrong] =
        ["right", "wrong"].map(|token| format!("file:{}", files.file(token, token)));
    let (right, wrong) = (right.as_str(), wrong.as_str());
    let with = |token: Option<&'static str>| -> Vec<&str> {
        match token {
            Some("right") => vec!["--token", right],
            Some(_) => vec!["--token", wrong],
            None => vec![],
        }
    };
    // Which byte of what passes is changed, so that one side has another version.
    let answer = Some((Of::Answers, &b"{\"version\":\""[..], 12));
    let plan = Some((Of::Requests, &b"{\"version\":\""[..], 12));
    let refused = "asks for a token, and the request has another one or none";
    let has = |of: &'static str| Some(of);
    for (case, coordinator, workers, strike, code, says) in [
        (
            "all have it",
            has("right"),
            [has("right"); 2],
            None,
            0,
            ",20",
        ),
        (
            "the coordinator has none",
            None,
            [has("right"); 2],
            None,
            3,
            refused,
        ),
        (
            "the coordinator has another",
            has("wrong"),
            [has("right"); 2],
            None,
            3,
            refused,
        ),
        (
            "a worker has none",
            has("right"),
            [has("right"), None],
            None,
            3,
            "asks for no token",
        ),
        (
            "a worker has another",
            has("right"),
            [has("right"), has("wrong")],
            None,
            3,
            refused,
        ),
        (
            "a worker's version",
            None,
            [None; 2],
            answer,
            1,
            "has version 1.1.0, this is version 0.1.0",
        ),
        (
            "the coordinator's version",
            None,
            [None; 2],
            plan,
            1,
            "by version 1.1.0, this is version 0.1.0",
        ),
    ] {
        let flags = workers.map(with);
        let bed = Bed::new(&[&flags[0], &flags[1]]);
        if let Some((of, mark, distance)) = strike {
            for way in &bed.ways {
                way.strike_behind_of(of, mark, distance, Strike::Flip(1));
            }
        }
        let mut command = bed.coordinator();
        command
            .args(["-b", shared().bootstrap()])
            .args(with(coordinator));
        // Rows of one worker go to the other.
        let sql = format!(
            "SELECT octet_length(value) + offset % 3 AS k, count(*) AS n FROM \"{topic}\" GROUP BY k ORDER BY k"
        );
        let output: Output = command
            .args(["query", &sql])
            .output()
            .expect("the shell runs");
        let said = text(&output);
        assert!(said.contains(says), "{case}: {said}");
        assert_eq!(output.status.code(), Some(code), "{case}: {said}");
        let rows = String::from_utf8_lossy(&output.stdout);
        // The header alone is no row.
        assert!(code == 0 || rows.lines().count() <= 1, "{case}: {rows}");
    }
}
