//! Creates a topic and fills it with record batches, encoded as a producer would.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Instant;

use crate::wire::Connection;
use crate::{Options, Result, print_result};

/// How many requests are in flight on a connection.
const WINDOW: usize = 8;
/// The size of the random text that values are cut from.
const POOL_BYTES: usize = 16 << 20;
/// 2026-01-01. Each record of a partition is one millisecond later than the one before.
const FIRST_TIMESTAMP_MS: i64 = 1_767_225_600_000;

struct Shape {
    value_bytes: usize,
    json: bool,
    codec: Codec,
    key_bytes: usize,
    headers: usize,
    /// The size of the records, before compression, at which a batch is closed.
    batch_bytes: usize,
}

#[derive(Clone, Copy)]
enum Codec {
    None = 0,
    Lz4 = 3,
    Zstd = 4,
}

pub fn run(options: &Options) -> Result<()> {
    let (bootstrap, topic) = (options.text("bootstrap")?, options.text("topic")?);
    let partitions = options.number("partitions")?.max(1);
    let each = options.number("records")? / partitions;
    let codec = match options.text_or("codec", "none") {
        "none" => Codec::None,
        "lz4" => Codec::Lz4,
        "zstd" => Codec::Zstd,
        other => return Err(format!("codec {other} is not known").into()),
    };
    let shape = Shape {
        value_bytes: options.number("value-bytes")?,
        json: options.text_or("payload", "random") == "json",
        codec,
        key_bytes: options.number_or("key-bytes", 0)?,
        headers: options.number_or("headers", 0)?,
        batch_bytes: options.number_or("batch-bytes", 64 << 10)?,
    };
    let begun = Instant::now();
    let mut first = Connection::open(bootstrap)?;
    first.create_topic(topic, partitions)?;
    // The leaders are ready a little later.
    while first.offsets(topic, partitions, true).is_err() {
        if begun.elapsed().as_secs() > 30 {
            return Err(format!("topic {topic} has no leaders after 30 s").into());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let pool = random_text();
    let (mut records, mut bytes, mut sent) = (0, 0, 0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..partitions.min(2))
            .map(|worker| {
                let own = (worker..partitions).step_by(2).collect::<Vec<_>>();
                let (shape, pool) = (&shape, &pool);
                scope.spawn(move || produce(bootstrap, topic, &own, each, shape, pool))
            })
            .collect();
        for worker in workers {
            let done = worker.join().map_err(|_| "a thread panicked")??;
            records += done.0;
            bytes += done.1;
            sent += done.2;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    let more = format!(", \"value_bytes\": {bytes}");
    print_result(records, sent, begun.elapsed(), &more)
}

/// Fills some partitions with `each` records. Returns the number of records, the bytes of values and the
/// bytes sent.
fn produce(
    bootstrap: &str,
    topic: &str,
    partitions: &[usize],
    each: usize,
    shape: &Shape,
    pool: &[u8],
) -> Result<(u64, u64, u64)> {
    let mut connection = Connection::open(bootstrap)?;
    let mut makers: Vec<_> = partitions
        .iter()
        .map(|&partition| Maker::new(partition, shape, pool))
        .collect::<Result<_>>()?;
    let mut under_way = VecDeque::new();
    let (mut done, mut values, mut sent) = (0, 0, 0);
    while done < each {
        let mut batches = Vec::with_capacity(partitions.len());
        // All partitions in a request get the same number of records.
        let mut count = 0;
        for (maker, &partition) in makers.iter_mut().zip(partitions) {
            let most = if count == 0 { each - done } else { count };
            let (batch, records, bytes) = maker.batch(most, count == 0)?;
            count = records;
            values += bytes as u64;
            sent += batch.len() as u64;
            batches.push((partition, batch));
        }
        done += count;
        connection.produce(topic, &batches)?;
        under_way.push_back(());
        if under_way.len() >= WINDOW {
            connection.produced()?;
            under_way.pop_front();
        }
    }
    for () in under_way {
        connection.produced()?;
    }
    Ok(((done * partitions.len()) as u64, values, sent))
}

/// Makes the batches of one partition.
struct Maker<'a> {
    shape: &'a Shape,
    pool: &'a [u8],
    random: u64,
    made: i64,
    records: Vec<u8>,
    record: Vec<u8>,
    value: Vec<u8>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl<'a> Maker<'a> {
    fn new(partition: usize, shape: &'a Shape, pool: &'a [u8]) -> Result<Self> {
        let zstd = match shape.codec {
            Codec::Zstd => Some(zstd::bulk::Compressor::new(3)?),
            _ => None,
        };
        Ok(Self {
            shape,
            pool,
            random: 0x9e37_79b9_7f4a_7c15 ^ (partition as u64 + 1),
            made: 0,
            records: Vec::new(),
            record: Vec::new(),
            value: Vec::new(),
            zstd,
        })
    }

    /// A batch of at most `most` records: as many as fit, or exactly that many.
    fn batch(&mut self, most: usize, until_full: bool) -> Result<(Vec<u8>, usize, usize)> {
        self.records.clear();
        let (mut count, mut values) = (0, 0);
        while count < most && (!until_full || self.records.len() < self.shape.batch_bytes) {
            values += self.record(count as i64)?;
            count += 1;
        }
        let base_timestamp = FIRST_TIMESTAMP_MS + self.made;
        self.made += count as i64;
        let packed = match self.shape.codec {
            Codec::None => None,
            Codec::Lz4 => {
                // As Kafka's own producer writes it.
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_mode(lz4_flex::frame::BlockMode::Independent)
                    .block_size(lz4_flex::frame::BlockSize::Max64KB);
                let mut frame = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
                frame.write_all(&self.records)?;
                Some(frame.finish()?)
            }
            Codec::Zstd => match &mut self.zstd {
                Some(zstd) => Some(zstd.compress(&self.records)?),
                None => None,
            },
        };
        let body = packed.as_deref().unwrap_or(&self.records);
        let mut batch = Vec::with_capacity(61 + body.len());
        batch.extend(0i64.to_be_bytes()); // the broker sets the offset
        batch.extend((49 + body.len() as i32).to_be_bytes());
        batch.extend((-1i32).to_be_bytes()); // epoch
        batch.push(2);
        batch.extend([0; 4]); // the checksum, below
        batch.extend((self.shape.codec as i16).to_be_bytes());
        batch.extend((count as i32 - 1).to_be_bytes());
        batch.extend(base_timestamp.to_be_bytes());
        batch.extend((base_timestamp + count as i64 - 1).to_be_bytes());
        batch.extend((-1i64).to_be_bytes()); // no producer id, epoch, sequence
        batch.extend((-1i16).to_be_bytes());
        batch.extend((-1i32).to_be_bytes());
        batch.extend((count as i32).to_be_bytes());
        batch.extend(body);
        let checksum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
        Ok((batch, count, values))
    }

    /// Appends a record. Returns the length of its value.
    fn record(&mut self, delta: i64) -> Result<usize> {
        self.random = xorshift(self.random);
        let random = self.random;
        let at = random as usize % (self.pool.len() - self.shape.value_bytes.max(1024));
        self.value.clear();
        if self.shape.json {
            self.json_value(random, at)?;
        } else {
            self.value
                .extend(&self.pool[at..at + self.shape.value_bytes]);
        }
        let record = &mut self.record;
        record.clear();
        record.push(0);
        put_varint(record, delta); // the timestamp: a millisecond a record
        put_varint(record, delta);
        if self.shape.key_bytes == 0 {
            put_varint(record, -1);
        } else {
            put_varint(record, self.shape.key_bytes as i64);
            record.extend(&self.pool[at..at + self.shape.key_bytes]);
        }
        put_varint(record, self.value.len() as i64);
        record.extend(&self.value);
        put_varint(record, self.shape.headers as i64);
        for header in 0..self.shape.headers {
            let name: &[u8] = if header % 2 == 0 { b"trace" } else { b"type" };
            put_varint(record, name.len() as i64);
            record.extend(name);
            put_varint(record, 8);
            record.extend(&self.pool[at + 8 * header..at + 8 * header + 8]);
        }
        put_varint(&mut self.records, record.len() as i64);
        self.records.extend(&self.record);
        Ok(self.value.len())
    }

    /// An event such as services log, with the requested length if that is long enough.
    fn json_value(&mut self, random: u64, at: usize) -> Result<()> {
        const EVENTS: [&str; 8] = [
            "view", "click", "search", "cart", "order", "pay", "refund", "login",
        ];
        const COUNTRIES: [&str; 8] = ["DE", "FR", "US", "GB", "JP", "BR", "IN", "SE"];
        write!(
            self.value,
            "{{\"id\":{},\"user\":\"u{}\",\"event\":\"{}\",\"country\":\"{}\",\"price\":{}.{:02},\"ok\":{},\"s\":\"",
            self.made + 1_000_000_000 + (random % 997) as i64,
            random >> 16 & 0xffff,
            EVENTS[(random >> 3 & 7) as usize],
            COUNTRIES[(random >> 8 & 7) as usize],
            random >> 32 & 0x1ff,
            random >> 44 & 63,
            random >> 51 & 7 != 0,
        )?;
        let session = self.shape.value_bytes.saturating_sub(self.value.len() + 2);
        self.value.extend(&self.pool[at..at + session]);
        self.value.extend(b"\"}");
        Ok(())
    }
}

fn put_varint(to: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn xorshift(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}

/// Letters and digits that barely compress.
fn random_text() -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut text = Vec::with_capacity(POOL_BYTES + 8);
    while text.len() < POOL_BYTES {
        random = xorshift(random);
        // The low bits of this generator are its weakest.
        text.extend((1..9).map(|n| LETTERS[(random >> (n * 7) & 63) as usize]));
    }
    text
}
