//! Jobs on workers: what is delivered is what one machine delivers, and files are staged where rows are read.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datafusion::prelude::SessionContext;
use datafusion_kafka::driver::{
    BatchProgress, Limits, MicroBatch, ProgressListener, Retries, Retry, Stop, Trigger,
};
use datafusion_kafka::range::LedgerCounts;
use datafusion_kafka::sink::MemorySink;
use datafusion_kafka::{ErrorKind, statement};

use crate::bed::Bed;
use crate::bed::proxy::Of;
use crate::engines::rows;

const SOURCE: &str = "CREATE EXTERNAL TABLE o (id BIGINT, customer BIGINT, amount DOUBLE) STORED AS KAFKA \
     LOCATION 'orders' OPTIONS ('value.format' 'json')";

/// What a job writes.
struct Case {
    /// What is said of the table besides its location.
    table: &'static str,
    options: &'static str,
    inserts: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case {
        table: "",
        options: "",
        inserts: &["INSERT INTO out SELECT * FROM o"],
    },
    Case {
        table: "PARTITIONED BY (customer)",
        options: "OPTIONS ('fsync' 'false', 'max.file.rows' '10', 'max.open.files' '3', 'compression.codec' 'gzip(3)')",
        inserts: &["INSERT INTO out SELECT id, amount, customer FROM o WHERE amount > 3"],
    },
    // Rows go from worker to worker first.
    Case {
        table: "",
        options: "OPTIONS ('fsync' 'false')",
        inserts: &[
            "INSERT INTO out SELECT customer, count(*) AS n, sum(amount) AS s FROM o GROUP BY customer",
        ],
    },
    Case {
        table: "",
        options: "",
        inserts: &["INSERT INTO out SELECT a.id, b.amount FROM o a JOIN o b ON a.id = b.id"],
    },
    // The last merge is the coordinator's.
    Case {
        table: "",
        options: "",
        inserts: &["INSERT INTO out SELECT id, amount FROM o ORDER BY amount DESC, id LIMIT 100"],
    },
    Case {
        table: "",
        options: "",
        inserts: &[
            "INSERT INTO out SELECT id, customer FROM o WHERE customer < 5",
            "INSERT INTO out SELECT id, customer FROM o WHERE customer > 9",
        ],
    },
];

/// Keeps what a job says.
#[derive(Debug, Default)]
struct Said {
    batches: Mutex<Vec<BatchProgress>>,
    failures: Mutex<Vec<(ErrorKind, String)>>,
}

impl ProgressListener for Said {
    fn committed(&self, progress: &BatchProgress) {
        self.batches.lock().unwrap().push(progress.clone());
    }

    fn retrying(&self, retry: &Retry<'_>) {
        let failure = (retry.error.kind(), retry.error.to_string());
        self.failures.lock().unwrap().push(failure);
    }
}

impl Said {
    /// Of each batch the rows, and what became of its offsets.
    fn batches(&self) -> Vec<(u64, Vec<LedgerCounts>)> {
        let batches = self.batches.lock().unwrap();
        let of = |batch: &BatchProgress| {
            let ledgers = batch.sources.iter().map(|source| source.ledger);
            (batch.rows(), ledgers.collect())
        };
        batches.iter().map(of).collect()
    }
}

fn table(case: &Case, folder: &Path) -> String {
    let Case { table, options, .. } = case;
    let location = folder.join("out");
    format!(
        "CREATE EXTERNAL TABLE out STORED AS PARQUET {table} LOCATION '{}/' {options}",
        location.display()
    )
}

/// Runs a job to its end, in batches of 500 offsets.
async fn run(
    session: &SessionContext,
    folder: &Path,
    inserts: &[&str],
    said: &Arc<Said>,
) -> datafusion_kafka::Result<()> {
    let mut limits = Limits::default();
    limits.max_offsets = Some(500);
    let mut job = MicroBatch::builder(session.clone(), "job")
        .checkpoint(folder.join("log").to_str().unwrap())
        .fsync(false)
        .trigger(Trigger::AvailableNow)
        .limits(limits)
        .retries(Retries {
            first_wait: Duration::from_millis(20),
            ..Retries::default()
        })
        .listener(Arc::clone(said) as _);
    for insert in inserts {
        job = job.insert(*insert);
    }
    job.build().await?.run(&Stop::new()).await.map(drop)
}

async fn declare(session: &SessionContext, statements: &[&str]) {
    for sql in statements {
        statement::sql(session, sql).await.unwrap();
    }
}

/// What a job delivers: the rows of its table, and what it says of its batches.
async fn delivered(
    bed: &Bed,
    session: &SessionContext,
    case: &Case,
) -> (Vec<String>, Vec<(u64, Vec<LedgerCounts>)>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let table = table(case, folder.path());
    declare(session, &[SOURCE, &table]).await;
    let said = Arc::default();
    run(session, folder.path(), case.inserts, &said)
        .await
        .unwrap();
    let reader = bed.local();
    declare(&reader, &[&table]).await;
    let rows = rows(&reader, "SELECT * FROM out").await.unwrap();
    (rows, said.batches(), files(&folder.path().join("out")))
}

/// The names of the published files.
fn files(folder: &Path) -> Vec<String> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        let name = name.to_str().unwrap();
        if name.starts_with('_') {
            continue;
        }
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(name.to_owned()),
        }
    }
    found
}

/// The task that wrote a file, if it was one on a worker.
fn task(file: &str) -> Option<&str> {
    let parts: Vec<&str> = file.split('-').collect();
    (parts.len() == 6).then(|| parts[2])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_delivers_what_one_machine_does() {
    let bed = Bed::new(3).await;
    for case in &CASES {
        let said = case.inserts[0];
        let (expected, batches, names) = delivered(&bed, &bed.local(), case).await;
        assert!(
            batches.len() > 1 && expected.len() > 10,
            "{said}: {batches:?}"
        );
        assert!(names.iter().all(|name| task(name).is_none()), "{names:?}");
        for workers in [1, 2, 3] {
            let mut options = bed.options();
            options.workers = bed.first(workers);
            let session = bed.session_with(options).await;
            let (found, told, names) = delivered(&bed, &session, case).await;
            assert_eq!(found, expected, "{workers} workers: {said}");
            assert_eq!(told, batches, "{workers} workers: {said}");
            if workers > 1 && !said.contains("ORDER BY") {
                let tasks: std::collections::BTreeSet<_> =
                    names.iter().filter_map(|name| task(name)).collect();
                assert!(tasks.len() > 1, "{workers} workers: {said}: {names:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_staged_comes_to_the_coordinator() {
    const RECORDS: u32 = 1500;
    const VALUE_BYTES: u32 = 2000;
    let mut bed = Bed::new(3).await;
    bed.cluster.create_topic("wide", 6).unwrap();
    for n in 0..RECORDS {
        // Nothing that compresses.
        let mut state = u64::from(n) + 1;
        let value: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_le_bytes()[5]
        })
        .take(VALUE_BYTES as usize)
        .collect();
        let record = datafusion_kafka::client::memory::Record::new(value);
        let partition = i32::try_from(n % 6).unwrap();
        bed.cluster.append("wide", partition, record).unwrap();
    }
    bed.behind_proxies();
    let bytes = |bed: &Bed| -> u64 {
        let proxies = bed.workers.iter().filter_map(|w| w.proxy.as_ref());
        proxies.map(|proxy| proxy.forwarded(Of::Answers)).sum()
    };
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("memory");
    let files = folder.path().join("files");
    let session = bed.session().await;
    let sink = MemorySink::new("memory");
    let table = table(&CASES[0], &files);
    let source = "CREATE EXTERNAL TABLE wide STORED AS KAFKA LOCATION 'wide'";
    declare(&session, &[source, &table]).await;
    let in_memory = datafusion_kafka::sink::SinkTable::new(
        Arc::new(sink.clone()),
        Arc::new(datafusion::arrow::datatypes::Schema::empty()),
    );
    session.register_table("held", Arc::new(in_memory)).unwrap();
    let mut crossed = vec![];
    for (folder, insert) in [
        (&memory, "INSERT INTO held SELECT * FROM wide"),
        (&files, "INSERT INTO out SELECT * FROM wide"),
    ] {
        let (before, said) = (bytes(&bed), Arc::<Said>::default());
        run(&session, folder, &[insert], &said).await.unwrap();
        let rows: u64 = said.batches().iter().map(|(rows, _)| rows).sum();
        assert_eq!(rows, u64::from(RECORDS));
        crossed.push(bytes(&bed) - before);
    }
    let all = u64::from(RECORDS * VALUE_BYTES);
    eprintln!("{all} bytes of values: {crossed:?} bytes came as rows and as what was staged");
    assert!(crossed[0] > all && crossed[1] < all / 20, "{crossed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_run_again_on_the_workers_that_are_left() {
    for answered_bytes in [0, 500, 2_000, 5_000] {
        let mut bed = Bed::new(3).await;
        bed.behind_proxies();
        let case = &CASES[0];
        let (expected, batches, _) = delivered(&bed, &bed.local(), case).await;
        let session = bed.session().await;
        let folder = tempfile::tempdir().unwrap();
        let table = table(case, folder.path());
        declare(&session, &[SOURCE, &table]).await;
        // Connections end after so many bytes, and the worker is out of reach then.
        let proxy = bed.workers[1].proxy.take().unwrap();
        let before = proxy.forwarded(Of::Answers);
        let gone = std::thread::spawn(move || {
            while proxy.forwarded(Of::Answers) - before < answered_bytes {
                std::thread::sleep(Duration::from_micros(200));
            }
            proxy.end_connections();
            drop(proxy);
        });
        let said = Arc::<Said>::default();
        run(&session, folder.path(), case.inserts, &said)
            .await
            .unwrap();
        assert!(gone.is_finished(), "{answered_bytes}: all was over before");
        let reader = bed.local();
        declare(&reader, &[&table]).await;
        assert_eq!(rows(&reader, "SELECT * FROM out").await.unwrap(), expected);
        assert_eq!(said.batches(), batches);
        for (kind, failure) in said.failures.lock().unwrap().iter() {
            assert_eq!(*kind, ErrorKind::Connection, "{failure}");
            assert!(failure.contains(&bed.workers[1].address), "{failure}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_staging_keeps_its_kind_and_names_the_worker() {
    let bed = Bed::new(2).await;
    let session = bed.session().await;
    let folder = tempfile::tempdir().unwrap();
    let case = Case {
        table: "PARTITIONED BY (long)",
        options: "",
        inserts: &["INSERT INTO out SELECT id, repeat('x', 999) AS long FROM o"],
    };
    declare(&session, &[SOURCE, &table(&case, folder.path())]).await;
    let said = Arc::default();
    let error = run(&session, folder.path(), case.inserts, &said).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query, "{error}");
    let text = error.to_string();
    assert!(text.contains("PARTITIONED BY long"), "{text}");
    assert!(text.contains("on worker 127.0.0.1:"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_workers_do_not_have_is_written_by_the_coordinator() {
    let bed = Bed::new(2).await;
    let session = bed.session().await;
    let folder = tempfile::tempdir().unwrap();
    let table = "CREATE EXTERNAL TABLE out STORED AS PARQUET LOCATION 'memory:///out/'";
    declare(&session, &[SOURCE, table]).await;
    let said = Arc::<Said>::default();
    run(&session, folder.path(), CASES[0].inserts, &said)
        .await
        .unwrap();
    let rows: u64 = said.batches().iter().map(|(rows, _)| rows).sum();
    assert_eq!(rows, 1200);
}
