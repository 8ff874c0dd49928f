//! Fetches a whole topic, and walks through the headers of its record batches without building anything.
//!
//! With `--decompress` it also decompresses each batch and reads the offset of each record. It ignores
//! checksums, because it shows the upper limit and is not a reader.

use std::time::Instant;

use crate::inflate::Inflater;
use crate::wire::Connection;
use crate::{Options, Result, print_result};

/// Offset, length, epoch, magic, checksum, attributes, deltas, times, producer, count.
const HEADER_BYTES: usize = 61;
/// Offset and length, which are not included in the length.
const PREFIX_BYTES: usize = 12;
/// A broker answers with at most 55 MiB, and partitions beyond that get nothing.
const RESPONSE_BYTES: usize = 50 << 20;

/// What is left to read of a partition.
struct Left {
    partition: usize,
    next: i64,
    end: i64,
}

#[derive(Default)]
struct Seen {
    records: u64,
    bytes: u64,
    inflated: u64,
    last_offset: i64,
}

pub fn run(options: &Options) -> Result<()> {
    let (bootstrap, topic) = (options.text("bootstrap")?, options.text("topic")?);
    let connections = options.number_or("connections", 2)?.max(1);
    let fetch_bytes = options.number_or("fetch-bytes", 4 << 20)?;
    let decompress = options.text_or("decompress", "no") == "yes";

    let begun = Instant::now();
    let mut first = Connection::open(bootstrap)?;
    let partitions = first.partitions(topic)?;
    let starts = first.offsets(topic, partitions, false)?;
    let ends = first.offsets(topic, partitions, true)?;
    let mut shares: Vec<Vec<Left>> = Vec::new();
    shares.resize_with(connections.min(partitions), Vec::new);
    for (partition, (&next, &end)) in starts.iter().zip(&ends).enumerate() {
        if next < end {
            let share = partition % shares.len();
            shares[share].push(Left {
                partition,
                next,
                end,
            });
        }
    }
    let expected: i64 = starts
        .iter()
        .zip(&ends)
        .map(|(start, end)| end - start)
        .sum();
    let mut first = Some(first);
    let mut seen = Seen::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = shares
            .into_iter()
            .map(|share| {
                let connection = first.take();
                scope.spawn(move || {
                    let connection = match connection {
                        Some(connection) => connection,
                        None => Connection::open(bootstrap)?,
                    };
                    drain(connection, topic, share, fetch_bytes, decompress)
                })
            })
            .collect();
        for worker in workers {
            let part = worker.join().map_err(|_| "a thread panicked")??;
            seen.records += part.records;
            seen.bytes += part.bytes;
            seen.inflated += part.inflated;
            seen.last_offset = seen.last_offset.max(part.last_offset);
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    let took = begun.elapsed();
    if seen.records != expected as u64 {
        return Err(format!("read {} records of {expected}", seen.records).into());
    }
    let more = format!(
        ", \"connections\": {connections}, \"fetch_bytes\": {fetch_bytes}, \"inflated\": {}, \
         \"last_offset\": {}",
        seen.inflated, seen.last_offset
    );
    print_result(seen.records, seen.bytes, took, &more)
}

/// Reads the partitions of one connection to their ends.
fn drain(
    mut connection: Connection,
    topic: &str,
    mut left: Vec<Left>,
    fetch_bytes: usize,
    decompress: bool,
) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut inflater = Inflater::default();
    while !left.is_empty() {
        let from: Vec<_> = left.iter().map(|l| (l.partition, l.next)).collect();
        connection.fetch(topic, &from, fetch_bytes.min(RESPONSE_BYTES / from.len()))?;
        for _ in 0..connection.fetched()? {
            let (partition, mut bytes) = connection.fetched_partition()?;
            seen.bytes += bytes as u64;
            let of = left.iter_mut().find(|l| l.partition == partition);
            let of = of.ok_or_else(|| format!("partition {partition} was not asked for"))?;
            while bytes >= HEADER_BYTES {
                let header = Header::read(connection.peek(HEADER_BYTES)?)?;
                if header.bytes > bytes {
                    break; // The tail of a response may be cut; it comes again.
                }
                if of.next < of.end {
                    seen.records += header.records;
                    seen.last_offset = seen.last_offset.max(header.next - 1);
                    of.next = header.next;
                    if decompress {
                        let batch = connection.peek(header.bytes)?;
                        let records = &batch[HEADER_BYTES..];
                        let base = header.base;
                        let walked = inflater.walk(header.codec, records, base, header.records)?;
                        seen.inflated += walked.bytes;
                        if walked.last_offset != header.next - 1 {
                            let what = "the last record has another offset than its batch says";
                            return Err(format!("[{partition}]@{base}: {what}").into());
                        }
                    }
                }
                connection.skip(header.bytes)?;
                bytes -= header.bytes;
            }
            connection.skip(bytes)?;
        }
        left.retain(|l| l.next < l.end);
        // When answers are full, the partitions at the end of a request get less.
        if !left.is_empty() {
            left.rotate_left(1);
        }
    }
    Ok(seen)
}

/// The fields of a batch that draining needs.
struct Header {
    base: i64,
    /// The offset after the batch.
    next: i64,
    /// The whole batch, header included.
    bytes: usize,
    records: u64,
    codec: u8,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self> {
        let i32_at =
            |at: usize| -> Result<i32> { Ok(i32::from_be_bytes(bytes[at..at + 4].try_into()?)) };
        let base = i64::from_be_bytes(bytes[..8].try_into()?);
        if bytes[16] != 2 {
            return Err(format!("batch at {base}: format {} is not known", bytes[16]).into());
        }
        Ok(Self {
            base,
            next: base + i64::from(i32_at(23)?) + 1,
            bytes: PREFIX_BYTES + i32_at(8)? as usize,
            records: i32_at(57)? as u64,
            codec: bytes[22] & 7,
        })
    }
}
