//! Jobs and exports on bad networks: `docs/faults.md`.

use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::proxied::{CLIENTS, Way, bed};
use crate::crash::{self, INSERT, INSERT_TEXT};
use crate::export::kafka_sql;
use crate::job::{self, Held, Job};
use crate::support::documented::documented;
use crate::support::proxy::{Proxy, Weather};
use crate::support::wait_until;

/// No process may take longer, whatever the network does.
const PATIENCE: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

documented!(
    "faults.md",
    "Jobs and exports on bad networks",
    ["sqlite", "kafka", "parquet", "export"],
    [sigterm],
    slow [
        silent_for_three_seconds,
        latency_of_200_ms,
        slow_link,
        each_connection_ends_after_150_kb,
        nothing_listens_for_eight_seconds,
        silent_for_good,
        nothing_listens_any_more,
        half_open_connections,
        frozen_while_its_connections_die,
    ]
);

/// What comes of a job, or an export, that is on its way when the fault begins: for both clients, which must
/// be the same. After an error it is run again on a good network.
async fn delivered(column: &str, lasts: Lasts, fault: impl Fn(&Arc<Proxy>, u32)) -> String {
    let found = CLIENTS.map(|client| {
        tokio::task::block_in_place(|| {
            let way = bed().way();
            match column {
                "export" => export(client, way, lasts, &fault),
                _ => run(column, client, way, lasts, &fault),
            }
        })
    });
    let [wire, librdkafka] = &found;
    match wire == librdkafka {
        true => wire.clone(),
        false => format!("{wire} (wire), {librdkafka} (librdkafka)"),
    }
}

/// Whether the network will be good again, which decides how long is waited for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasts {
    Passes,
    Stays,
}

impl Lasts {
    /// `--retry-for`, longer than the minute after which a producer gives up a connection.
    fn retry_for(self) -> &'static str {
        match self {
            Self::Passes => "2m",
            Self::Stays => "5s",
        }
    }

    fn settings(self, client: &str) -> Vec<String> {
        let (request_timeout_ms, read_timeout_ms) = match self {
            Self::Passes => (15_000, 40_000),
            Self::Stays => (6_000, 10_000),
        };
        let settings = [
            format!("kafka.client={client}"),
            format!("read.timeout.ms={read_timeout_ms}"),
            format!("request.timeout.ms={request_timeout_ms}"),
            "fetch.message.max.bytes=100000".to_owned(),
            "read.buffer.bytes=100000".to_owned(),
        ];
        let settings = settings.into_iter();
        settings.flat_map(|set| ["-X".to_owned(), set]).collect()
    }
}

fn run(
    sink: &str,
    client: &str,
    way: Way,
    lasts: Lasts,
    fault: &impl Fn(&Arc<Proxy>, u32),
) -> String {
    let bed = bed();
    let (insert, held): (_, fn(&Job) -> Held) = match sink {
        "sqlite" => (INSERT, crash::sqlite_held),
        "kafka" => (INSERT_TEXT, crash::kafka_held),
        _ => (INSERT, crash::parquet_held),
    };
    let brokers = bed.server.bootstrap();
    let create = |folder: &TempDir| match sink {
        "sqlite" => crash::sqlite_sink(folder.path()),
        "kafka" => crash::kafka_sink(brokers, folder),
        _ => crash::parquet_sink(folder.path()),
    };
    let address = way.address();
    let job = Job::over(
        [&address, brokers],
        bed.usual.name.clone(),
        create,
        insert,
        |_| String::new(),
    );
    let mut command = job.command(&[
        "--available-now",
        "-q",
        "--max-offsets",
        "900",
        "--retry-for",
        lasts.retry_for(),
    ]);
    // Slow enough that there is something left to disturb.
    way.weather(Weather::Narrow(200_000));
    let mut child = command
        .args(lasts.settings(client))
        .spawn()
        .expect("the shell starts");
    job.wait_for_batches(1, "no batch was made");
    assert!(child.try_wait().expect("a process").is_none(), "it is over");
    fault(&way, child.id());
    let first = ended(child);
    way.calm();
    let whole = first.status.success() && held(&job) == job.expected();
    if !whole {
        eprintln!("{sink}, {client}: {}", job::text(&first));
        job.finish();
    }
    job.assert_exactly_once(held(&job), 0);
    outcome(first.status, whole)
}

fn export(client: &str, way: Way, lasts: Lasts, fault: &impl Fn(&Arc<Proxy>, u32)) -> String {
    let bed = bed();
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("out");
    let export = || -> Command {
        let mut command = kafka_sql();
        command
            .args([
                "-b",
                &way.address(),
                "-q",
                "export",
                &bed.usual.name,
                &bed.usual.range(),
            ])
            .args([
                "--max-file-offsets",
                "300",
                "--parallel",
                "1",
                "--resume",
                "-o",
            ])
            .arg(&target)
            .args(lasts.settings(client))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    way.weather(Weather::Narrow(200_000));
    let mut child = export().spawn().expect("the shell starts");
    let done = target.join("_export/done");
    wait_until(PATIENCE, "a part is there", || done.exists().then_some(()));
    assert!(child.try_wait().expect("a process").is_none(), "it is over");
    fault(&way, child.id());
    let first = ended(child);
    way.calm();
    let whole = first.status.success();
    if !whole {
        eprintln!("export, {client}: {}", job::text(&first));
        let second = export().output().expect("the shell starts");
        assert!(second.status.success(), "{}", job::text(&second));
    }
    let verified = kafka_sql()
        .args(["-b", bed.server.bootstrap(), "verify", "--against-kafka"])
        .arg(&target)
        .output()
        .expect("the shell starts");
    let text = job::text(&verified);
    assert!(
        verified.status.success() && text.contains("4,200 rows the same"),
        "{text}"
    );
    outcome(first.status, whole)
}

/// What the cell says of the first run's end. What it left to do was then done by another run.
pub(crate) fn outcome(first: ExitStatus, whole: bool) -> String {
    match first.code() {
        _ if whole => "exact".to_owned(),
        Some(code) => format!("exit code {code}, then exact"),
        None => "killed, then exact".to_owned(),
    }
}

/// Waits for a process.
///
/// # Panics
/// When it does not end.
fn ended(mut child: Child) -> Output {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("it can be asked").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!(
                "it hangs: {}",
                job::text(&child.wait_with_output().expect("it ended"))
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().expect("it ended")
}

async fn latency_of_200_ms(column: &str) -> String {
    delivered(column, Lasts::Passes, |proxy, _| {
        proxy.weather(Weather::Late(SECOND / 5))
    })
    .await
}

async fn slow_link(column: &str) -> String {
    delivered(column, Lasts::Passes, |proxy, _| {
        proxy.weather(Weather::Narrow(200_000))
    })
    .await
}

async fn silent_for_three_seconds(column: &str) -> String {
    delivered(column, Lasts::Passes, |proxy, _| {
        proxy.weather_for(3 * SECOND, Weather::Silent)
    })
    .await
}

async fn each_connection_ends_after_150_kb(column: &str) -> String {
    delivered(column, Lasts::Passes, |proxy, _| proxy.lasts(150_000)).await
}

async fn nothing_listens_for_eight_seconds(column: &str) -> String {
    delivered(column, Lasts::Passes, |proxy, _| {
        proxy.weather_for(8 * SECOND, Weather::Refuses)
    })
    .await
}

async fn silent_for_good(column: &str) -> String {
    delivered(column, Lasts::Stays, |proxy, _| {
        proxy.weather(Weather::Silent)
    })
    .await
}

async fn nothing_listens_any_more(column: &str) -> String {
    delivered(column, Lasts::Stays, |proxy, _| {
        proxy.weather(Weather::Refuses)
    })
    .await
}

async fn half_open_connections(column: &str) -> String {
    delivered(column, Lasts::Passes, |proxy, _| proxy.strand()).await
}

async fn sigterm(column: &str) -> String {
    delivered(column, Lasts::Passes, |_, process| {
        job::signal(process, "TERM")
    })
    .await
}

/// As on a laptop that sleeps.
async fn frozen_while_its_connections_die(column: &str) -> String {
    delivered(column, Lasts::Passes, |proxy, process| {
        job::signal(process, "STOP");
        proxy.strand();
        std::thread::sleep(5 * SECOND);
        job::signal(process, "CONT");
    })
    .await
}
