//! Jobs whose workers and drivers die or stand still deliver each row once.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use super::support::{admin, postgres, s3, wait_until};
use super::*;

/// Where a job delivers `partition` and `offset` of each record.
struct Target {
    /// The statement that declares it.
    table: String,
    environment: Vec<(String, String)>,
    /// The numbers of its rows and of its distinct rows, as someone else reads them.
    counted: Box<dyn Fn() -> (usize, usize)>,
}

const COUNTS: &str =
    "count(*), count(DISTINCT CAST(\"partition\" AS BIGINT) * 100000000 + \"offset\")";

fn in_sqlite(folder: &Path) -> Target {
    let database = folder.join("out.db");
    Target {
        table: format!(
            "STORED AS SQLITE LOCATION '{}' OPTIONS ('table' 'out')",
            database.display()
        ),
        environment: vec![],
        counted: Box::new(move || {
            let connection = rusqlite::Connection::open(&database).expect("a database");
            let sql = format!("SELECT {COUNTS} FROM out");
            let row = connection.query_row(&sql, [], |row| Ok([row.get(0)?, row.get(1)?]));
            let row: [i64; 2] = row.expect("two numbers");
            let [rows, distinct] = row.map(|count| usize::try_from(count).expect("a count"));
            (rows, distinct)
        }),
    }
}

fn in_postgres(_: &Path) -> Target {
    let table = admin::unique_topic("out").replace('-', "_");
    let of_server = format!("SELECT {COUNTS} FROM \"{table}\"");
    Target {
        table: format!(
            "STORED AS POSTGRES LOCATION '{}' OPTIONS ('table' '{table}')",
            postgres::shared().url("postgres")
        ),
        environment: vec![],
        counted: Box::new(move || {
            let counts = postgres::shared().sql(&of_server);
            let (rows, distinct) = counts.trim().split_once('\t').expect("two columns");
            (
                rows.parse().expect("digits"),
                distinct.parse().expect("digits"),
            )
        }),
    }
}

/// Counts the files under a location as any reader of `*.parquet` does.
pub(super) const READER: &str = "
import os, sys
from pyarrow import dataset, fs
of = lambda name: os.environ['AWS_' + name]
store = fs.S3FileSystem(access_key=of('ACCESS_KEY_ID'), secret_key=of('SECRET_ACCESS_KEY'),
    region=of('REGION'), scheme='http', endpoint_override=of('ENDPOINT').split('//')[1])
rows = dataset.dataset(sys.argv[1], filesystem=store, format='parquet').to_table()
print(rows.num_rows, rows.group_by(['partition', 'offset']).aggregate([]).num_rows, sep=',')
";

fn in_parquet_on_s3(_: &Path) -> Target {
    let place = format!("{}/{}", s3::BUCKET, admin::unique_topic("out"));
    let location = format!("s3://{place}");
    let table = format!("STORED AS PARQUET LOCATION '{location}/'");
    let environment = s3::shared().environment();
    let (known, ours) = (environment.clone(), table.clone());
    let said = move |mut command: Command| {
        let output = command.envs(known.clone()).output().expect("it runs");
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    Target {
        table,
        environment,
        counted: Box::new(move || {
            // What lost attempts have left is of no use to anybody.
            let mut clean = kafka_sql();
            clean.args(["clean", &location, "--older-than", "0s"]);
            said(clean);
            let sql = format!("CREATE EXTERNAL TABLE out {ours}; SELECT {COUNTS} FROM out");
            let mut shell = kafka_sql();
            shell.args(["--format", "csv", "query", &sql]);
            let mut others = Command::new(s3::python());
            others.args(["-c", READER, &place]);
            let counts = [shell, others].map(|reader| {
                let counts = said(reader);
                let counts = counts.lines().last().expect("a row");
                let (rows, distinct) = counts.split_once(',').expect("two columns");
                (
                    rows.parse().expect("digits"),
                    distinct.parse().expect("digits"),
                )
            });
            assert_eq!(counts[0], counts[1]);
            counts[0]
        }),
    }
}

/// The batch that was fixed and is not committed.
fn batch_that_runs(checkpoint: &Path) -> Option<u64> {
    let newest = |folder: &str| {
        let entries = std::fs::read_dir(checkpoint.join(folder)).into_iter();
        let names = entries.flatten().flatten().map(|entry| entry.file_name());
        names
            .filter_map(|name| name.to_str()?.parse::<u64>().ok())
            .max()
    };
    newest("intent").filter(|batch| Some(*batch) != newest("commit"))
}

/// The driver of a job, which is started again when it has died.
pub(super) struct Driver {
    command: Box<dyn Fn() -> Command>,
    pub(super) child: Child,
}

impl Driver {
    pub(super) fn start(command: impl Fn() -> Command + 'static) -> Self {
        let child = command().spawn().expect("the shell starts");
        Self {
            command: Box::new(command),
            child,
        }
    }

    /// Starts another one; this one, dead or alive, is given back.
    pub(super) fn replace(&mut self) -> Child {
        let other = (self.command)().spawn().expect("the shell starts");
        std::mem::replace(&mut self.child, other)
    }

    /// Whether the job is over. A driver that has failed is started again.
    pub(super) fn is_done(&mut self) -> bool {
        let ended = self.child.try_wait().expect("a process");
        let done = ended.is_some_and(|ended| ended.success());
        if ended.is_some() && !done {
            self.replace().wait().expect("it has ended");
        }
        done
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A job with as many signals to its workers and its driver, each while a batch runs.
fn delivers_once_while_all_die(target: impl Fn(&Path) -> Target, signals: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let target = target(folder.path());
    let start = |listen: &str| RunningWorker::start_in(&target.environment, listen, &[]);
    let mut workers: Vec<_> = (0..3).map(|_| start("127.0.0.1:0")).collect();
    let all = addresses(&workers);
    let file = folder.path().join("job.sql");
    let checkpoint = folder.path().join("job.checkpoint");
    let job = format!(
        "CREATE EXTERNAL TABLE orders STORED AS KAFKA LOCATION '{}';\n\
         CREATE EXTERNAL TABLE out {};\n\
         INSERT INTO out SELECT partition, offset FROM orders;\n",
        topic(),
        target.table,
    );
    std::fs::write(&file, job).expect("a file");
    let environment = target.environment.clone();
    let mut driver = Driver::start(move || {
        let mut run = kafka_sql();
        run.envs(environment.clone())
            .args(["-b", shared().bootstrap(), "--workers", &all])
            .args(["--offsets-per-task", "100", "-q", "run"])
            .arg(&file)
            .args(["--available-now", "--max-offsets", "1500"])
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        run
    });
    let limit = Duration::from_secs(120);
    let mut last = None;
    let mut n = 0;
    while n < signals {
        let batch = wait_until(limit, "a batch begins", || {
            assert!(!driver.is_done(), "the job was over after {n} signals");
            batch_that_runs(&checkpoint).filter(|batch| Some(*batch) != last)
        });
        last = Some(batch);
        std::thread::sleep(Duration::from_millis(3 * n as u64 % 11));
        if batch_that_runs(&checkpoint) != last {
            continue;
        }
        let goes_on = |driver: &mut Driver, limit: Duration| {
            let begun = Instant::now();
            while !driver.is_done() && batch_that_runs(&checkpoint) == last {
                if begun.elapsed() > limit {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            true
        };
        let victim = n % workers.len();
        n += 1;
        match n % 10 {
            2 | 5 | 8 => {
                let _ = driver.child.kill();
                driver.replace().wait().expect("it ends");
            }
            // One that stands still while another goes on, and then wants to go on itself.
            7 => {
                signal_to(&driver.child, "STOP");
                let mut still = driver.replace();
                // In vain if it stands within the commit of a database file, which it has locked.
                goes_on(&mut driver, Duration::from_secs(40));
                signal_to(&still, "CONT");
                // One of the two goes on with the job. The other fails, and is started again below.
                std::thread::sleep(Duration::from_millis(500));
                let _ = still.kill();
                still.wait().expect("it ends");
            }
            4 => {
                signal_to(&workers[victim].child, "STOP");
                assert!(goes_on(&mut driver, limit), "no batch without the worker");
                signal_to(&workers[victim].child, "CONT");
            }
            _ => {
                workers[victim].kill();
                let address = workers[victim].address.clone();
                workers[victim] = start(&address);
            }
        }
    }
    wait_until(Duration::from_secs(400), "the job ends", || {
        driver.is_done().then_some(())
    });
    assert_eq!((target.counted)(), (RECORDS, RECORDS));
}

#[test]
fn a_job_to_sqlite_delivers_once_while_workers_and_driver_die() {
    delivers_once_while_all_die(in_sqlite, 8);
}

#[test]
fn a_job_to_postgres_delivers_once_while_workers_and_driver_die() {
    delivers_once_while_all_die(in_postgres, 20);
}

#[test]
fn a_job_to_parquet_on_s3_delivers_once_while_workers_and_driver_die() {
    delivers_once_while_all_die(in_parquet_on_s3, 20);
}
