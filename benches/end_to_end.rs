//! Measures the whole way from a real broker to a result, next to other readers in the same run.
//!
//! `make bench` starts its own broker; `KAFKA_BENCH_BOOTSTRAP=host:port` uses another one.
//! `KAFKA_BENCH_RECORDS` sets how many records the scans read (4 million by default). Only compare numbers of
//! one run: machines differ, and one machine differs from minute to minute. What counts are the ratios.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::create_index;
use datafusion_kafka::session::KafkaSessionBuilder;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use support::produce::{self, Fill, Record};
use support::{KafkaOptions, KafkaServer, admin};

/// The same allocator as in the shell, so that the library is measured as the shell runs it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: i32 = 4;

fn main() {
    // `cargo test --benches` wants a quick check, and there is nothing to check here.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let own;
    let bootstrap = match std::env::var("KAFKA_BENCH_BOOTSTRAP") {
        Ok(bootstrap) => bootstrap,
        Err(_) => {
            own = KafkaServer::start(KafkaOptions::default().full_speed());
            own.bootstrap().to_owned()
        }
    };
    let records: usize = std::env::var("KAFKA_BENCH_RECORDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(4_000_000);

    let small = filled(&bootstrap, records, 100);
    let large = filled(&bootstrap, records / 8, 1024);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let context = session(&bootstrap);

    println!("\nscans, million records a second (median of 5):");
    for (name, topic, count) in [("100 B", &small, records), ("1 KiB", &large, records / 8)] {
        let sql = format!("SELECT sum(octet_length(value)), max(\"offset\") FROM \"{topic}\"");
        let ours = median(5, || runtime.block_on(run(&context, &sql)));
        let offsets = format!("SELECT count(*) FROM \"{topic}\"");
        let counted = median(5, || runtime.block_on(run(&context, &offsets)));
        let poll = median(3, || poll_loop(&bootstrap, topic, count));
        let java = java_perf(&bootstrap, topic, count);
        let rate = |t: Duration| count as f64 / t.as_secs_f64() / 1e6;
        println!(
            "  {name}: value column {:.2}, count(*) {:.2}, rust-rdkafka poll loop {:.2} (ratio {:.2})",
            rate(ours),
            rate(counted),
            rate(poll),
            poll.as_secs_f64() / ours.as_secs_f64(),
        );
        match java {
            Some(java) => println!(
                "  {name}: kafka-consumer-perf-test {java:.2} (ratio {:.2})",
                rate(ours) / java
            ),
            None => println!("  {name}: kafka-consumer-perf-test failed"),
        }
    }

    conditions(&runtime, &context, &bootstrap, records);

    println!("\nsmall queries, ms (median of 50, warm session):");
    for (name, sql) in [
        (
            "1,000 records",
            format!("SELECT count(*), max(\"offset\") FROM kafka('{small}', '0=5000:6000')"),
        ),
        ("LIMIT 10", format!("SELECT * FROM \"{small}\" LIMIT 10")),
        (
            "newest 10",
            format!(
                "SELECT * FROM \"{small}\" WHERE partition = 0 ORDER BY \"offset\" DESC LIMIT 10"
            ),
        ),
        ("EXPLAIN", format!("EXPLAIN SELECT * FROM \"{small}\"")),
    ] {
        let took = median(50, || runtime.block_on(run(&context, &sql)));
        println!("  {name}: {:.1}", took.as_secs_f64() * 1e3);
    }

    index(&runtime, &bootstrap, records);

    println!("\nthe shell as a whole process:");
    let sql = format!("SELECT count(*), max(\"offset\") FROM kafka('{small}', '0=5000:6000')");
    let took = median(10, || {
        shell(&bootstrap, &sql);
    });
    println!("  1,000 records: {:.0} ms", took.as_secs_f64() * 1e3);
    let sql = format!("SELECT sum(octet_length(value)), max(\"offset\") FROM \"{small}\"");
    let (took, peak) = shell(&bootstrap, &sql);
    let megabytes = records as f64 * 100.0 / 1e6;
    println!(
        "  scan of {megabytes:.0} MB: {:.1} s, peak RSS {peak} MiB",
        took.as_secs_f64()
    );
}

/// Making an index of keys of 20 bytes, against a scan of the same topic, and finding one of them.
fn index(runtime: &tokio::runtime::Runtime, bootstrap: &str, records: usize) {
    let topic = keyed(bootstrap, records);
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().display();
    let context = session(bootstrap);
    let sql = format!("SELECT sum(octet_length(value)) FROM \"{topic}\"");
    let scan = median(3, || runtime.block_on(run(&context, &sql)));
    let sql = format!("SELECT sum(octet_length(key)) FROM \"{topic}\"");
    let keys = median(3, || runtime.block_on(run(&context, &sql)));
    let mut number = 0;
    let made = median(3, || {
        number += 1;
        let create =
            format!("CREATE INDEX ON \"{topic}\" (key) WITH (location = '{place}/{number}')");
        let made = create_index(&context, &create);
        runtime.block_on(made).expect("an index");
    });
    let files = std::fs::read_dir(folder.path().join("1")).expect("the index");
    let files = files.filter_map(|file| file.ok()?.metadata().ok());
    let bytes: u64 = files
        .filter(|file| file.is_file())
        .map(|file| file.len())
        .sum();
    println!("\nindex of keys of 20 bytes, values of 100:");
    println!(
        "  making it: {:.2} of the rate of sum(octet_length(value)), {:.2} of that of keys; {:.2} % of keys and values",
        scan.as_secs_f64() / made.as_secs_f64(),
        keys.as_secs_f64() / made.as_secs_f64(),
        bytes as f64 / (records * 120) as f64 * 100.0
    );
    let find = |table: &str| format!("SELECT * FROM {table} WHERE key = '{}'", key(records / 2));
    let without = median(3, || {
        runtime.block_on(run(&context, &find(&format!("\"{topic}\""))))
    });
    let indexed = format!("kafka('{topic}', 'index={place}/1')");
    let with = median(10, || runtime.block_on(run(&context, &find(&indexed))));
    let process = median(5, || {
        shell(bootstrap, &find(&indexed));
    });
    println!(
        "  key = 'x' of {records} records: {:.1} ms, {:.0} times faster than without; whole process {:.0} ms",
        with.as_secs_f64() * 1e3,
        without.as_secs_f64() / with.as_secs_f64(),
        process.as_secs_f64() * 1e3
    );
}

fn key(number: usize) -> String {
    format!("key-{number:016}")
}

/// A topic with keys of 20 bytes and values of 100.
fn keyed(bootstrap: &str, records: usize) -> String {
    let topic = admin::unique_topic("bench");
    admin::create_topic(bootstrap, &topic, PARTITIONS, &[]);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("linger.ms", "20")
        .set("batch.size", "1048576")
        .create()
        .expect("a producer");
    let value = [b'v'; 100];
    for number in 0..records {
        let key = key(number);
        let mut record = BaseRecord::to(&topic)
            .partition((number % PARTITIONS as usize) as i32)
            .key(&key)
            .payload(&value[..]);
        while let Err((_, again)) = producer.send(record) {
            producer.poll(Duration::from_millis(10));
            record = again;
        }
    }
    producer.flush(Duration::from_secs(60)).expect("all arrive");
    topic
}

/// Conditions that few records pass, each beside the work that it is compared with.
fn conditions(
    runtime: &tokio::runtime::Runtime,
    context: &SessionContext,
    bootstrap: &str,
    records: usize,
) {
    let plain = json(bootstrap, records, "none");
    let packed = json(bootstrap, records, "zstd");
    let make = |name: &str, policy: &str| {
        let sql = format!(
            "CREATE EXTERNAL TABLE {name} (id VARCHAR, n BIGINT, note VARCHAR) STORED AS KAFKA \
             LOCATION '{plain}' OPTIONS ('value.format' 'json', 'on.bad.row' '{policy}')"
        );
        let made = datafusion_kafka::statement::sql(context, &sql);
        runtime.block_on(made).expect("a table");
    };
    make("fields", "null");
    make("checked", "fail");
    let rare = "LIKE '%id-0000000000012345%'";
    // One record in 10,000, by a text that can be searched for and by one that cannot.
    let few = "LIKE '%2345\",\"n%'";
    let of_all = "octet_length(key) + octet_length(value) < 0";
    let time = |sql: &str| median(5, || runtime.block_on(run(context, sql)));
    println!("\nconditions, million records a second (median of 5), and the ratio to the other:");
    let compare = |name: &str, sql: &str, other: &str| {
        let (took, others) = (time(sql), time(other));
        let rate = |t: Duration| records as f64 / t.as_secs_f64() / 1e6;
        let ratio = others.as_secs_f64() / took.as_secs_f64();
        println!(
            "  {name}: {:.2} and {:.2}, ratio {ratio:.2}",
            rate(took),
            rate(others)
        );
    };
    for (codec, topic) in [("uncompressed", &plain), ("zstd", &packed)] {
        let name = format!("rare LIKE, {codec}, to the sum of lengths");
        let like = format!("SELECT count(*) FROM \"{topic}\" WHERE value {rare}");
        let sum = format!("SELECT sum(octet_length(value)) FROM \"{topic}\"");
        compare(&name, &like, &sum);
    }
    for (name, condition) in [
        ("one in 10,000", format!("value {few}")),
        ("no text", of_all.into()),
    ] {
        let name = format!("SELECT * to count(*), {name}");
        let all = format!("SELECT * FROM \"{plain}\" WHERE {condition}");
        let counted = format!("SELECT count(*) FROM \"{plain}\" WHERE {condition}");
        compare(&name, &all, &counted);
    }
    for name in ["fields", "checked"] {
        let all = format!("SELECT * FROM {name} WHERE id = 'id-0000000000012345'");
        let decoded = format!("SELECT max(id) FROM {name}");
        compare(
            &format!("JSON id = 'x', all columns, in {name}, to decoding the field"),
            &all,
            &decoded,
        );
    }
    let unlimited = format!("SELECT sum(octet_length(value)), max(\"offset\") FROM \"{plain}\"");
    let on = time(&unlimited);
    runtime.block_on(run(context, "SET kafka.push_down = false"));
    let off = time(&unlimited);
    println!(
        "  no condition, push-down on to off: ratio {:.2}",
        off.as_secs_f64() / on.as_secs_f64()
    );
    for sql in [
        format!("SELECT count(*) FROM \"{plain}\" WHERE value {rare}"),
        format!("SELECT * FROM \"{plain}\" WHERE value {few}"),
        "SELECT * FROM fields WHERE id = 'id-0000000000012345'".to_owned(),
        "SELECT * FROM checked WHERE id = 'id-0000000000012345'".to_owned(),
        "SELECT * FROM fields ORDER BY n DESC LIMIT 10".to_owned(),
    ] {
        let off = time(&sql);
        runtime.block_on(run(context, "SET kafka.push_down = true"));
        let on = time(&sql);
        runtime.block_on(run(context, "SET kafka.push_down = false"));
        let ratio = off.as_secs_f64() / on.as_secs_f64();
        println!("  {sql}: push-down on to off, ratio {ratio:.2}");
    }
    runtime.block_on(run(context, "SET kafka.push_down = true"));
}

/// A topic of JSON objects of about 100 B.
fn json(bootstrap: &str, records: usize, codec: &str) -> String {
    let topic = admin::unique_topic("json");
    admin::create_topic(bootstrap, &topic, PARTITIONS, &[]);
    let settings = [
        ("compression.type", codec),
        ("batch.size", "1048576"),
        ("linger.ms", "20"),
    ];
    let numbers: Vec<usize> = (0..records).collect();
    for numbers in numbers.chunks(200_000) {
        let records: Vec<Record> = numbers
            .iter()
            .map(|n| {
                let value = format!(
                    "{{\"id\":\"id-{n:016}\",\"n\":{},\"note\":\"a note of some length, as they are {}\"}}",
                    n % 1000,
                    n % 7
                );
                let partition = i32::try_from(n % PARTITIONS as usize).expect("few partitions");
                Record::new(partition).value(value)
            })
            .collect();
        produce::produce_with(bootstrap, &topic, &records, &settings);
    }
    topic
}

fn filled(bootstrap: &str, records: usize, value_bytes: usize) -> String {
    let topic = admin::unique_topic("bench");
    admin::create_topic(bootstrap, &topic, PARTITIONS, &[]);
    let settings = [("enable.idempotence", "true")];
    let fill = Fill {
        records,
        partitions: PARTITIONS,
        value_bytes,
        settings: &settings,
    };
    produce::fill(bootstrap, &topic, fill);
    topic
}

fn session(bootstrap: &str) -> SessionContext {
    KafkaSessionBuilder::new()
        .connection(ConnectionConfig::new(bootstrap))
        .config(SessionConfig::new())
        .build()
        .expect("the settings are valid")
}

async fn run(context: &SessionContext, sql: &str) {
    let frame = context
        .sql(sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    frame
        .collect()
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
}

fn median(runs: usize, mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[runs / 2]
}

/// The first loop that one writes with rust-rdkafka: assign, poll, sum.
fn poll_loop(bootstrap: &str, topic: &str, records: usize) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let added = list.add_partition_offset(topic, partition, Offset::Beginning);
        added.expect("a valid offset");
    }
    consumer.assign(&list).expect("assigned");
    let (mut seen, mut bytes) = (0, 0);
    while seen < records {
        if let Some(message) = consumer.poll(Duration::from_secs(10)) {
            bytes += message.expect("a record").payload_len();
            seen += 1;
        }
    }
    assert!(bytes > 0);
}

/// Million records per second, as Kafka's own tool reports it, without its rebalance.
fn java_perf(bootstrap: &str, topic: &str, records: usize) -> Option<f64> {
    let output = Command::new("java")
        .args([
            "-cp",
            &format!(
                "{}/*",
                support::libs::folder(support::Release::default()).display()
            ),
        ])
        .arg("org.apache.kafka.tools.ConsumerPerformance")
        .args(["--bootstrap-server", bootstrap, "--topic", topic])
        .args(["--messages", &records.to_string(), "--timeout", "60000"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fetch_rate = text.lines().last()?.split(',').next_back()?.trim();
    Some(fetch_rate.parse::<f64>().ok()? / 1e6)
}

/// Time and peak RSS in MiB of one `kafka-sql query`.
fn shell(bootstrap: &str, sql: &str) -> (Duration, u64) {
    let begun = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
        .args(["-b", bootstrap, "query", sql])
        .stdout(Stdio::null())
        .spawn()
        .expect("the shell starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Ok(text) = std::fs::read_to_string(&status)
            && let Some(line) = text.lines().find(|l| l.starts_with("VmHWM:"))
        {
            let kib = line
                .split_whitespace()
                .nth(1)
                .and_then(|n| n.parse::<u64>().ok());
            peak = peak.max(kib.unwrap_or(0) / 1024);
        }
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            assert!(status.success(), "kafka-sql failed");
            return (begun.elapsed(), peak);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
