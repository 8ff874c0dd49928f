//! The few requests that filling and draining need, in old versions that a Kafka 4 broker accepts and that
//! support zstd.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::Result;

const PRODUCE: (i16, i16) = (0, 7);
const FETCH: (i16, i16) = (1, 10);
const LIST_OFFSETS: (i16, i16) = (2, 2);
const METADATA: (i16, i16) = (3, 4);
const CREATE_TOPICS: (i16, i16) = (19, 2);

/// As a query in kafka-sql reads, by default.
const READ_COMMITTED: i8 = 1;

/// How much of a response a [`Connection`] holds at a time, so that it stays in the processor's cache.
const BUFFER_BYTES: usize = 256 * 1024;

/// A request being written.
#[derive(Default)]
pub struct Request(Vec<u8>);

impl Request {
    fn new((key, version): (i16, i16)) -> Self {
        let mut request = Self(vec![0; 4]); // the length comes last
        request.i16(key).i16(version).i32(0).string("kafka-drain");
        request
    }

    fn i8(&mut self, value: i8) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i16(&mut self, value: i16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn len(&mut self, value: usize) -> &mut Self {
        self.i32(value as i32)
    }

    fn string(&mut self, value: &str) -> &mut Self {
        self.i16(value.len() as i16);
        self.0.extend(value.as_bytes());
        self
    }
}

/// A connection, with the part of a response that was received but not consumed.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    pub fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
        })
    }

    fn send(&mut self, request: &mut Request) -> Result<()> {
        let length = (request.0.len() - 4) as i32;
        request.0[..4].copy_from_slice(&length.to_be_bytes());
        Ok(self.stream.write_all(&request.0)?)
    }

    fn receive(&mut self) -> Result<usize> {
        match self.stream.read(&mut self.buffer[self.end..])? {
            0 => Err("the broker closed the connection".into()),
            n => {
                self.end += n;
                Ok(n)
            }
        }
    }

    /// The next `n` contiguous bytes, without consuming them.
    pub fn peek(&mut self, n: usize) -> Result<&[u8]> {
        if self.buffer.len() - self.start < n {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.buffer.len() < n {
                self.buffer.resize(n, 0);
            }
        }
        while self.end - self.start < n {
            self.receive()?;
        }
        Ok(&self.buffer[self.start..self.start + n])
    }

    /// Skips `n` bytes, which may be more than have arrived.
    pub fn skip(&mut self, mut n: usize) -> Result<()> {
        while n > self.end - self.start {
            n -= self.end - self.start;
            self.start = 0;
            self.end = 0;
            self.receive()?;
        }
        self.start += n;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.peek(N)?.try_into()?;
        self.skip(N)?;
        Ok(bytes)
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    /// A length; null counts as 0.
    pub fn len(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }

    pub fn skip_string(&mut self) -> Result<()> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        self.skip(length)
    }

    fn skip_numbers(&mut self) -> Result<()> {
        let count = self.len()?;
        self.skip(4 * count)
    }

    /// Length and correlation id.
    fn response_header(&mut self) -> Result<()> {
        self.skip(8)
    }

    fn metadata(&mut self, topic: Option<&str>) -> Result<(usize, usize)> {
        let mut request = Request::new(METADATA);
        request.len(usize::from(topic.is_some()));
        if let Some(topic) = topic {
            request.string(topic);
        }
        self.send(request.i8(0))?;
        self.response_header()?;
        self.skip(4)?;
        let brokers = self.len()?;
        for _ in 0..brokers {
            self.skip(4)?;
            self.skip_string()?;
            self.skip(4)?;
            self.skip_string()?;
        }
        self.skip_string()?;
        self.skip(4)?;
        let (mut partitions, mut failure) = (0, 0);
        for _ in 0..self.len()? {
            failure = self.i16()?;
            self.skip_string()?;
            self.skip(1)?;
            partitions = self.len()?;
            for _ in 0..partitions {
                failure = failure.max(self.i16()?);
                self.skip(8)?;
                self.skip_numbers()?;
                self.skip_numbers()?;
            }
        }
        if failure != 0 {
            let topic = topic.unwrap_or_default();
            return Err(format!("topic {topic}: the broker answers error {failure}").into());
        }
        Ok((brokers, partitions))
    }

    /// The number of brokers in the cluster.
    pub fn brokers(&mut self) -> Result<usize> {
        Ok(self.metadata(None)?.0)
    }

    /// The number of partitions in a topic.
    pub fn partitions(&mut self, topic: &str) -> Result<usize> {
        match self.metadata(Some(topic))?.1 {
            0 => Err(format!("topic {topic} has no partitions").into()),
            n => Ok(n),
        }
    }

    /// The first offset of each partition, or the one after its last.
    pub fn offsets(&mut self, topic: &str, partitions: usize, latest: bool) -> Result<Vec<i64>> {
        let mut request = Request::new(LIST_OFFSETS);
        request.i32(-1).i8(READ_COMMITTED).len(1).string(topic);
        request.len(partitions);
        for partition in 0..partitions {
            request.len(partition).i64(if latest { -1 } else { -2 });
        }
        self.send(&mut request)?;
        self.response_header()?;
        self.skip(8)?;
        self.skip_string()?;
        let mut offsets = vec![0; partitions];
        // Reported after everything was read, because the connection may be used again.
        let mut failed = None;
        for _ in 0..self.len()? {
            let (partition, failure) = (self.len()?, self.i16()?);
            if failure != 0 {
                failed = Some((partition, failure));
            }
            self.skip(8)?;
            offsets[partition] = self.i64()?;
        }
        match failed {
            None => Ok(offsets),
            Some((partition, failure)) => {
                Err(format!("offsets of {topic}[{partition}]: error {failure}").into())
            }
        }
    }

    /// Creates a topic whose records never expire.
    pub fn create_topic(&mut self, topic: &str, partitions: usize) -> Result<()> {
        let mut request = Request::new(CREATE_TOPICS);
        request.len(1).string(topic).len(partitions).i16(1).len(0);
        request.len(1).string("retention.ms").string("-1");
        self.send(request.i32(30_000).i8(0))?;
        self.response_header()?;
        self.skip(8)?;
        self.skip_string()?;
        let failure = self.i16()?;
        self.skip_string()?;
        match failure {
            0 => Ok(()),
            _ => Err(format!("cannot create topic {topic}: error {failure}").into()),
        }
    }

    /// Sends one record batch to each of some partitions. [`Self::produced`] receives the answer.
    pub fn produce(&mut self, topic: &str, batches: &[(usize, Vec<u8>)]) -> Result<()> {
        let mut request = Request::new(PRODUCE);
        request.i16(-1).i16(1).i32(30_000).len(1).string(topic);
        request.len(batches.len());
        for (partition, batch) in batches {
            request.len(*partition).len(batch.len());
            request.0.extend(batch);
        }
        self.send(&mut request)
    }

    /// Receives the answer to one [`Self::produce`].
    pub fn produced(&mut self) -> Result<()> {
        self.response_header()?;
        self.skip(4)?;
        self.skip_string()?;
        for _ in 0..self.len()? {
            let (partition, failure) = (self.i32()?, self.i16()?);
            if failure != 0 {
                return Err(format!("producing to [{partition}]: error {failure}").into());
            }
            self.skip(24)?;
        }
        self.skip(4)
    }

    /// Requests records from some partitions, each from its own offset; see [`Self::fetched`].
    pub fn fetch(&mut self, topic: &str, from: &[(usize, i64)], bytes: usize) -> Result<()> {
        let mut request = Request::new(FETCH);
        request.i32(-1).i32(500).i32(1).len(bytes * from.len());
        request.i8(READ_COMMITTED).i32(0).i32(-1); // no fetch session
        request.len(1).string(topic).len(from.len());
        for &(partition, offset) in from {
            request.len(partition).i32(-1).i64(offset).i64(-1);
            request.len(bytes);
        }
        self.send(request.len(0))
    }

    /// Begins the answer to a [`Self::fetch`]. Returns how many partitions follow. Each has a
    /// [`Self::fetched_partition`] and that many bytes of record batches.
    pub fn fetched(&mut self) -> Result<usize> {
        self.response_header()?;
        self.skip(4)?;
        let failure = self.i16()?;
        if failure != 0 {
            return Err(format!("fetching: error {failure}").into());
        }
        self.skip(4)?;
        if self.len()? == 0 {
            return Ok(0);
        }
        self.skip_string()?;
        self.len()
    }

    /// The next partition, and the size of its record batches.
    pub fn fetched_partition(&mut self) -> Result<(usize, usize)> {
        let (partition, failure) = (self.len()?, self.i16()?);
        if failure != 0 {
            return Err(format!("fetching [{partition}]: error {failure}").into());
        }
        self.skip(24)?;
        let aborted = self.len()?;
        self.skip(16 * aborted)?;
        Ok((partition, self.len()?))
    }
}
