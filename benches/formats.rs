//! Measures decoding: the same five fields in each format, about 100 bytes as JSON, decoded and grouped.
//!
//! There is one execution partition and the records are in memory, so a rate is that of one core. `raw` is
//! the query without decoding.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_kafka::client::memory::{MemoryCluster, Record};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::table::TableOptions;
use tokio::runtime::Runtime;

const RECORDS: u64 = 200_000;

const AVRO: &str = r#"{"type":"record","name":"Event","fields":[
    {"name":"id","type":"long"},{"name":"event","type":"string"},{"name":"country","type":"string"},
    {"name":"price","type":"double"},{"name":"session","type":"string"}]}"#;

const PROTO: &str = r#"syntax = "proto3";
message Event { int64 id = 1; string event = 2; string country = 3; double price = 4; string session = 5; }"#;

const COLUMNS: &str = "id BIGINT, event VARCHAR, country VARCHAR, price DOUBLE, session VARCHAR";

/// An event such as services log.
struct Event {
    id: i64,
    event: &'static str,
    country: &'static str,
    price: f64,
    session: String,
}

impl Event {
    fn new(number: u64) -> Self {
        const EVENTS: [&str; 8] = [
            "view", "click", "search", "cart", "order", "pay", "refund", "login",
        ];
        const COUNTRIES: [&str; 8] = ["DE", "FR", "US", "GB", "JP", "BR", "IN", "SE"];
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            id: 1_000_000_000 + number.cast_signed(),
            event: EVENTS[(random >> 8 & 7) as usize],
            country: COUNTRIES[(random >> 12 & 7) as usize],
            price: (random >> 32 & 0x7fff) as f64 / 64.0,
            session: format!("{random:016x}{:016x}", random.rotate_left(17)),
        }
    }

    fn json(&self) -> Vec<u8> {
        format!(
            "{{\"id\":{},\"event\":\"{}\",\"country\":\"{}\",\"price\":{},\"session\":\"{}\"}}",
            self.id, self.event, self.country, self.price, self.session
        )
        .into_bytes()
    }

    fn csv(&self) -> Vec<u8> {
        let Self {
            id, event, country, ..
        } = self;
        format!("{id},{event},{country},{},{}", self.price, self.session).into_bytes()
    }

    fn avro(&self) -> Vec<u8> {
        let mut to = vec![];
        varint(&mut to, (self.id << 1 ^ self.id >> 63).cast_unsigned());
        let text = |to: &mut Vec<u8>, text: &str| {
            varint(to, (text.len() as u64) << 1);
            to.extend(text.bytes());
        };
        text(&mut to, self.event);
        text(&mut to, self.country);
        to.extend(self.price.to_le_bytes());
        text(&mut to, &self.session);
        to
    }

    fn protobuf(&self) -> Vec<u8> {
        let mut to = vec![1 << 3];
        varint(&mut to, self.id.cast_unsigned());
        let text = |to: &mut Vec<u8>, field: u8, text: &str| {
            to.push(field << 3 | 2);
            varint(to, text.len() as u64);
            to.extend(text.bytes());
        };
        text(&mut to, 2, self.event);
        text(&mut to, 3, self.country);
        to.push(4 << 3 | 1);
        to.extend(self.price.to_le_bytes());
        text(&mut to, 5, &self.session);
        to
    }
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Puts a registry's frame for schema 1 around a payload.
fn framed(payload: Vec<u8>) -> Vec<u8> {
    [vec![0, 0, 0, 0, 1], payload].concat()
}

/// A registry with one Avro schema.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            let schema = AVRO.replace('\n', "").replace('"', "\\\"");
            let body =
                format!("{{\"subject\":\"avro\",\"version\":1,\"id\":1,\"schema\":\"{schema}\"}}");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let length = body.len();
            let _ = (&stream)
                .write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes());
        }
    });
    url
}

struct World {
    runtime: Runtime,
    context: SessionContext,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let config = SessionConfig::new().with_target_partitions(1);
        let context = KafkaSessionBuilder::new().config(config).build();
        Self {
            runtime: Runtime::new().expect("a runtime"),
            context: context.expect("a session"),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// A table of events, each encoded by `encode`. `options` say which columns to declare.
    fn table(
        &self,
        name: &str,
        declared: bool,
        options: &[(&str, &str)],
        encode: impl Fn(&Event) -> Vec<u8>,
    ) {
        let cluster = MemoryCluster::builder().fetch_records(8192).build();
        cluster.create_topic(name, 1).expect("a new topic");
        for number in 0..RECORDS {
            let record = Record::new(encode(&Event::new(number)));
            cluster.append(name, 0, record).expect("the topic is there");
        }
        let mut all = TableOptions::default();
        all.set("kafka.bootstrap.servers", "memory:1")
            .expect("a setting");
        for (name, value) in options {
            all.set(name, value).expect("a valid option");
        }
        let mut builder = all.table(name, None, None).expect("valid options");
        if declared {
            builder = builder.fields(self.declared());
        }
        let table = builder.client(Arc::new(cluster.client())).build();
        let table = self.runtime.block_on(table).expect("a table");
        self.context
            .register_table(name, Arc::new(table))
            .expect("a free name");
    }

    fn declared(&self) -> datafusion::arrow::datatypes::Fields {
        let sql = format!("CREATE TABLE IF NOT EXISTS declared ({COLUMNS})");
        self.runtime.block_on(async {
            self.context.sql(&sql).await.expect("columns");
            let table = self.context.table("declared").await.expect("it is there");
            table.schema().as_arrow().fields().clone()
        })
    }

    fn run(&self, sql: &str) {
        self.runtime.block_on(async {
            let frame = self.context.sql(sql).await.expect("a valid query");
            assert!(!frame.collect().await.expect("rows").is_empty());
        });
    }
}

fn formats(c: &mut Criterion) {
    let world = World::new();
    let avro = world.file("event.avsc", AVRO);
    let proto = world.file("event.proto", PROTO);
    let url = registry();
    world.table("raw", false, &[], Event::json);
    world.table("text", false, &[("value.format", "text")], Event::json);
    world.table("json", true, &[("value.format", "json")], Event::json);
    world.table("csv", true, &[("value.format", "csv")], Event::csv);
    world.table(
        "avro",
        false,
        &[("value.format", "avro"), ("value.schema.file", &avro)],
        Event::avro,
    );
    world.table(
        "avro_registry",
        false,
        &[
            ("value.format", "avro"),
            ("schema.registry.url", &url),
            ("value.subject", "avro"),
        ],
        |event| framed(event.avro()),
    );
    world.table(
        "protobuf",
        false,
        &[("value.format", "protobuf"), ("value.schema.file", &proto)],
        Event::protobuf,
    );

    let mut group = c.benchmark_group("decode and group");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("raw", |b| {
        b.iter(|| world.run("SELECT count(*), max(octet_length(value)) FROM raw"));
    });
    group.bench_function("text", |b| {
        b.iter(|| world.run("SELECT count(*), max(octet_length(value)) FROM text"));
    });
    for table in ["json", "csv", "avro", "avro_registry", "protobuf"] {
        let sql = format!(
            "SELECT country, event, count(*), sum(price) FROM {table} GROUP BY country, event"
        );
        group.bench_function(table, |b| b.iter(|| world.run(&sql)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = formats
}
criterion_main!(benches);
