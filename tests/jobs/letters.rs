//! Dead letters on a real broker: together with the rows they are every record, exactly once, whatever dies.

use datafusion::prelude::SessionContext;
use datafusion_kafka::session::KafkaSessionBuilder;

use crate::crash::sqlite_held;
use crate::export::World;
use crate::job::{Held, Job, text};
use crate::support::read::{Isolation, ReadRecord, read};
use crate::support::{self, Record, admin, produce};

/// Values are numbers as text. Those with four digits are four bytes long, so they decode.
const FORMAT: &str = "'value.format' 'int32', 'on.bad.row' 'dlq'";
const INSERT: &str = "INSERT INTO out SELECT partition, offset, value FROM orders";
/// The points that a job passes. With dead letters there are two sinks, so it passes some twice per batch.
const POINTS: [&str; 5] = [
    "after-intent",
    "after-stage",
    "sqlite-after-commit",
    "after-sink-commit",
    "after-log-commit",
];

fn out(folder: &tempfile::TempDir) -> String {
    let file = folder.path().join("out.db");
    format!(
        "CREATE EXTERNAL TABLE out STORED AS SQLITE LOCATION '{}' OPTIONS ('table' 'out')",
        file.display()
    )
}

fn to_topic() -> Job {
    let dead = admin::unique_topic("dead");
    admin::create_topic(support::shared().bootstrap(), &dead, 2, &[]);
    let job = Job::with_options(out, INSERT, |folder| {
        std::fs::write(folder.path().join("dead"), &dead).expect("a file");
        format!("OPTIONS ({FORMAT}, 'dlq.topic' '{dead}')")
    });
    job.starts_within_ms(600)
}

fn to_folder() -> Job {
    Job::with_options(out, INSERT, |folder| {
        let dead = folder.path().join("dead");
        format!("OPTIONS ({FORMAT}, 'dlq.location' '{}')", dead.display())
    })
}

fn dead_topic(job: &Job) -> String {
    std::fs::read_to_string(job.folder.path().join("dead")).expect("a name")
}

fn records(topic: &str, partitions: i32) -> Vec<ReadRecord> {
    let bootstrap = support::shared().bootstrap();
    let read = |partition| read(bootstrap, topic, partition, Isolation::ReadCommitted);
    (0..partitions).flat_map(read).collect()
}

fn header<'a>(record: &'a ReadRecord, name: &str) -> &'a str {
    let mut headers = record.headers.iter().filter(|(known, _)| known == name);
    let (_, value) = headers.next().unwrap_or_else(|| panic!("no header {name}"));
    assert!(headers.next().is_none(), "two headers {name}");
    std::str::from_utf8(value.as_ref().expect("a value")).expect("text")
}

fn came_from(record: &ReadRecord) -> (i32, i64) {
    let number = |name| header(record, name).parse::<i64>().expect("a number");
    let partition = i32::try_from(number("dlq.partition")).expect("a partition");
    (partition, number("dlq.offset"))
}

/// Rows and dead letters.
fn held_with_topic(job: &Job) -> Held {
    let mut held = if job.folder.path().join("out.db").exists() {
        sqlite_held(job)
    } else {
        Held::new()
    };
    for record in records(&dead_topic(job), 2) {
        *held.entry(came_from(&record)).or_default() += 1;
    }
    held
}

fn held_with_folder(job: &Job) -> Held {
    let mut held = sqlite_held(job);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let place = job.folder.path().join("dead");
    for row in runtime.block_on(dead_rows(place.to_str().expect("UTF-8"))) {
        *held.entry(row).or_default() += 1;
    }
    held
}

async fn dead_rows(place: &str) -> Vec<(i32, i64)> {
    let context: SessionContext = KafkaSessionBuilder::new().build().expect("a session");
    let make = format!("CREATE EXTERNAL TABLE dead STORED AS PARQUET LOCATION '{place}'");
    context.sql(&make).await.expect("a table");
    let rows = context.sql("SELECT partition, offset FROM dead").await;
    let rows = rows.expect("it has these columns").collect().await;
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, Int64Type};
    let rows = rows.expect("rows").into_iter().flat_map(|batch| {
        let partitions = batch
            .column(0)
            .as_primitive::<Int32Type>()
            .values()
            .to_vec();
        let offsets = batch
            .column(1)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec();
        partitions.into_iter().zip(offsets)
    });
    rows.collect()
}

#[test]
fn killed_at_random_with_a_topic() {
    let job = to_topic();
    job.survives_kills(held_with_topic);
    // Both kinds occurred: the killed runs have processed thousands of records.
    assert!(!sqlite_held(&job).is_empty());
    assert!(!records(&dead_topic(&job), 2).is_empty());
}

#[test]
fn crashed_at_each_point_with_a_topic() {
    let points: Vec<&str> = POINTS
        .iter()
        .copied()
        .chain(["kafka-before-commit"])
        .collect();
    to_topic_with_rows().survives_faults(&points, held_with_topic);
}

#[test]
fn crashed_at_each_point_with_a_folder() {
    with_rows(to_folder()).survives_faults(&POINTS, held_with_folder);
}

/// A job that first writes some rows, so that its table exists whatever crashes.
fn with_rows(job: Job) -> Job {
    let values: Vec<Record> = (0..3).map(|p| Record::new(p).value("1234")).collect();
    produce::produce(support::shared().bootstrap(), &job.topic, &values);
    job
}

fn to_topic_with_rows() -> Job {
    with_rows(to_topic())
}

#[test]
fn a_dead_letter_keeps_the_record_and_is_read_again_after_a_fix() {
    let job = to_topic();
    let bootstrap = support::shared().bootstrap();
    produce::produce(
        bootstrap,
        &job.topic,
        &[
            Record::new(0).value("1234"),
            Record::new(0)
                .key("k")
                .value("12345")
                .header("trace", Some(b"a"))
                .header("none", None),
            Record::new(2).value("").timestamp_ms(1_768_348_800_123),
        ],
    );
    job.finish();
    let dead = dead_topic(&job);
    let mut letters = records(&dead, 2);
    letters.sort_by_key(came_from);
    assert_eq!(letters.len(), 2);
    let first = &letters[0];
    assert_eq!(first.key.as_deref(), Some(b"k".as_slice()));
    assert_eq!(first.value.as_deref(), Some(b"12345".as_slice()));
    assert_eq!(
        first.headers[..2],
        [
            ("trace".to_owned(), Some(b"a".to_vec())),
            ("none".to_owned(), None)
        ]
    );
    assert_eq!(header(first, "dlq.topic"), job.topic);
    assert_eq!(came_from(first), (0, 1));
    assert!(header(first, "dlq.error.message").starts_with("value: "));
    assert_eq!(header(&letters[1], "dlq.timestamp"), "1768348800123");
    assert_eq!(letters[1].value.as_deref(), Some(b"".as_slice()));

    // The fix: they were text all along.
    let query = format!(
        "SELECT partition, offset, value FROM kafka('{}', 'value.format=text', 'redecode={dead}') ORDER BY 1",
        job.topic
    );
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
        .args(["-b", bootstrap, "query", &query, "--format", "csv"])
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", text(&output));
    let rows = String::from_utf8(output.stdout).expect("text");
    assert_eq!(rows, "partition,offset,value\n0,1,12345\n2,0,\"\"\n");
}

#[test]
fn an_export_sets_aside_once_whatever_dies() {
    let world = World::new(2);
    let bootstrap = support::shared().bootstrap();
    let records: Vec<Record> = (0..60)
        .map(|n| Record::new(n % 2).value(if n % 3 == 0 { "12345" } else { "1234" }))
        .collect();
    produce::produce(bootstrap, &world.topic, &records);
    let dead = world.folder.path().join("dead");
    let dead = dead.to_str().expect("UTF-8");
    let location = format!("dlq.location={dead}");
    let arguments = [
        "--option",
        "value.format=int32",
        "--option",
        "on.bad.row=dlq",
        "--option",
        &location,
        "--max-file-offsets",
        "7",
        "--resume",
    ];
    for point in [
        "export-after-done",
        "export-after-letters",
        "export-before-manifest",
    ] {
        let mut command = world.command(&arguments);
        let output = command
            .env("KAFKA_SQL_FAULT", point)
            .output()
            .expect("it starts");
        assert!(
            crate::job::is_abort(output.status),
            "{point}: {}",
            text(&output)
        );
    }
    for _ in 0..2 {
        let output = world.export(&arguments);
        assert!(output.status.success(), "{}", text(&output));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("20 records did not decode"), "{said}");
    }
    let manifest = world.json("manifest.json");
    assert_eq!(manifest["rows"], 40);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut rows = runtime.block_on(dead_rows(dead));
    rows.sort_unstable();
    let expected: Vec<(i32, i64)> = {
        let bad = (0..60)
            .filter(|n| n % 3 == 0)
            .map(|n| (n % 2, i64::from(n / 2)));
        let mut bad: Vec<_> = bad.collect();
        bad.sort_unstable();
        bad
    };
    assert_eq!(rows, expected);

    // With another policy it is another export.
    let output = world.export(&[
        "--option",
        "value.format=int32",
        "--option",
        "on.bad.row=skip",
        "--max-file-offsets",
        "7",
        "--resume",
    ]);
    assert_eq!(output.status.code(), Some(8), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the decoding is"), "{said}");
}

#[test]
fn a_place_that_cannot_be_one_is_refused() {
    let job = to_topic();
    let refused = |options: &str, code: i32, why: &str| {
        let file = job.folder.path().join("refused.sql");
        let sql = format!(
            "CREATE EXTERNAL TABLE orders STORED AS KAFKA LOCATION '{}' OPTIONS ({FORMAT}, {options});\n{};\n{INSERT};\n",
            job.topic,
            out(&job.folder)
        );
        std::fs::write(&file, sql).expect("a file");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
            .args([
                "-b",
                support::shared().bootstrap(),
                "run",
                "--available-now",
            ])
            .arg(&file)
            .output()
            .expect("it starts");
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(why), "{said}");
    };
    produce::produce(
        support::shared().bootstrap(),
        &job.topic,
        &[Record::new(0).value("12345")],
    );
    let own = format!("'dlq.topic' '{}'", job.topic);
    refused(&own, 1, "come back to it");
    let missing = admin::unique_topic("missing");
    refused(&format!("'dlq.topic' '{missing}'"), 5, &missing);
    refused("'bad.row.limit' '5'", 1, "'dlq.topic'");
}

#[test]
fn a_topic_that_is_not_there_is_named_with_its_option_and_what_makes_it() {
    let bootstrap = support::shared().bootstrap();
    let missing = admin::unique_topic("dead");
    let expected = format!(
        "'dlq.topic' = '{missing}': the topic does not exist or may not be described; it takes the records \
         that do not decode and is not made by itself: kafka-topics.sh --bootstrap-server {bootstrap} \
         --create --topic {missing}, or name a folder by 'dlq.location'"
    );
    let world = World::new(1);
    let place = format!("dlq.topic={missing}");
    let options = [
        "--option",
        "value.format=int32",
        "--option",
        "on.bad.row=dlq",
        "--option",
        &place,
    ];
    let said = crate::export::failed(&world.export(&options), 5);
    assert!(said.contains(&expected), "{said}");
    let job = Job::with_options(out, INSERT, |_| {
        format!("OPTIONS ({FORMAT}, 'dlq.topic' '{missing}')")
    });
    let said = crate::export::failed(&job.command(&["--available-now"]).output().unwrap(), 5);
    assert!(said.contains(&expected), "{said}");
}
