//! Measures what needs no broker: ranges, planning, and a batch's way through a query.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion_kafka::client::memory::{MemoryCluster, Record};
use datafusion_kafka::driver::MicroBatch;
use datafusion_kafka::range::{OffsetRange, RangeSpec, SplitOptions, split};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::MemorySink;
use datafusion_kafka::table::KafkaTable;

fn ranges(c: &mut Criterion) {
    let text = "0=100:200,1=@2026-01-14T10:00:00Z:1h,2=-1000,3=+5:";
    c.bench_function("parse a range", |b| {
        b.iter(|| black_box(text).parse::<RangeSpec>());
    });

    let ranges: Vec<OffsetRange> = (0..10_000)
        .map(|n| {
            let start = i64::from(n) * 1000;
            OffsetRange::try_new("orders", n % 500, start, start + i64::from(n % 97)).unwrap()
        })
        .collect();
    let options = SplitOptions {
        target_partitions: 16,
        ..SplitOptions::default()
    };
    c.bench_function("split 10,000 ranges", |b| {
        b.iter(|| split(black_box(&ranges), &options));
    });
}

fn queries(c: &mut Criterion) {
    const RECORDS: u32 = 200_000;
    let cluster = MemoryCluster::builder().fetch_records(20_000).build();
    cluster.create_topic("t", 2).expect("a new topic");
    for n in 0..RECORDS {
        let record = Record::new(vec![b'x'; 100]).with_timestamp_ms(i64::from(n));
        let partition = i32::from(n % 2 == 0);
        cluster
            .append("t", partition, record)
            .expect("the topic is there");
    }
    let context = KafkaSessionBuilder::new().build().expect("a session");
    let table = KafkaTable::builder_with_client(Arc::new(cluster.client())).topic("t");
    let table = Arc::new(table.build_lazy().expect("a table"));
    context.register_table("t", table).expect("a free name");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let run = |sql: &str| {
        runtime.block_on(async {
            let frame = context.sql(sql).await.expect("a valid query");
            frame.collect().await.expect("rows")
        })
    };

    let mut group = c.benchmark_group("query");
    group.throughput(Throughput::Elements(RECORDS.into()));
    for (name, sql) in [
        ("count", "SELECT count(*) FROM t"),
        (
            "octet_length",
            "SELECT sum(octet_length(value)), max(offset) FROM t",
        ),
        ("like", "SELECT count(*) FROM t WHERE value LIKE 'x%'"),
    ] {
        group.bench_function(name, |b| b.iter(|| run(sql)));
    }
    group.finish();

    let list: Vec<String> = (0..1000).map(|n| (n * 7).to_string()).collect();
    let sql = format!(
        "EXPLAIN SELECT * FROM t WHERE offset IN ({})",
        list.join(", ")
    );
    c.bench_function("plan 1,000 offsets", |b| b.iter(|| run(&sql)));
}

/// The cost of a one-record batch without its sink: look, fix, log, plan, run, note.
fn batches(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("batch of one record");
    for (name, fsync) in [("fsync", true), ("no fsync", false)] {
        let cluster = MemoryCluster::new();
        cluster.create_topic("t", 4).expect("a new topic");
        let context = KafkaSessionBuilder::new().build().expect("a session");
        let table = KafkaTable::builder_with_client(Arc::new(cluster.client())).topic("t");
        let table = Arc::new(table.build_lazy().expect("a table"));
        context.register_table("t", table).expect("a free name");
        let folder = tempfile::tempdir().expect("a folder");
        let sink = MemorySink::new("bench");
        let build = MicroBatch::builder(context, "bench")
            .checkpoint(folder.path().to_str().expect("a path of text"))
            .fsync(fsync)
            .sink("out", Arc::new(sink.clone()))
            .expect("a free name")
            .insert("INSERT INTO out SELECT topic, partition, \"offset\", value FROM t")
            .build();
        let mut job = runtime.block_on(build).expect("a job");
        group.bench_function(name, |b| {
            b.iter(|| {
                let record = Record::new(vec![b'x'; 100]);
                cluster.append("t", 0, record).expect("the topic is there");
                let made = runtime.block_on(job.step()).expect("a batch");
                assert!(made.is_some());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, ranges, queries, batches);
criterion_main!(benches);
