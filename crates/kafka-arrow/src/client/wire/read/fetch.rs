//! Sends a Fetch over the stream's connection, and receives what comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::messages::FetchRequest;
use tokio::sync::OwnedSemaphorePermit;

use super::plan::{FETCH_BY_NAME, Part, Source, Wanted, plan, request};
use super::turn::{TURN_BYTES, Taken, Turn};
use super::{Attempt, Reader, State};
use crate::client::wire::chunks::CHUNK_BYTES;
use crate::client::wire::cluster::{Broker, Lease};
use crate::client::wire::connection::{FRAME_HEAD, Trouble, frame_head};
use crate::client::wire::decode::{FETCH_VERSION_MOST, FetchAnswer};
use crate::error::Result;
use crate::range::TopicPartition;

/// The assumed size of a record while the topic's mean is unknown.
const MEAN_BYTES: usize = 1024;
/// A chunk with less room than this is changed for an empty one: small reads cost calls.
const ROOM_LEAST: usize = 64 << 10;
/// How long a broker may send nothing before another connection is tried.
pub(super) const SILENCE_MOST: Duration = Duration::from_secs(10);
/// How long the last attempt may take at least: an error is to say what brokers answer, not that no
/// time was left to ask.
pub(super) const ATTEMPT_LEAST: Duration = Duration::from_millis(100);
/// How long a replica is read from before the leader is asked again whether to.
const REPLICA_KEEPS: Duration = Duration::from_secs(300);

/// A connection that a stream keeps.
pub(super) struct Line {
    lease: Lease,
    node: i32,
    /// Held as long as the connection is kept.
    _permit: OwnedSemaphorePermit,
}

impl Line {
    pub(super) fn give_back(self, rest: usize) {
        self.lease.give_back(rest);
    }
}

/// An answer under way.
pub(super) struct Fetch {
    pub(super) answer: FetchAnswer,
    /// What has arrived and was not taken.
    pub(super) buffer: BytesMut,
    /// The bytes that have arrived in all.
    pub(super) arrived: usize,
    /// The buffer is larger than a chunk.
    pub(super) large: bool,
    /// Where the rest comes from; `None` when all of it is in the buffer.
    pub(super) line: Option<Line>,
    /// What was asked for and has not come.
    pub(super) parts: VecDeque<Part>,
    /// The part that is being read.
    pub(super) current: Option<Part>,
    /// The broker holds this client back: that records are missing says nothing of the log.
    pub(super) throttled: bool,
    /// From the request to the first bytes of the answer.
    pub(super) took: Duration,
    /// The broker's id.
    pub(super) node: i32,
}

impl Fetch {
    /// The broker will leave the next Fetch unread for so long.
    pub(super) fn hold(&mut self, throttle: Duration) {
        self.throttled = !throttle.is_zero();
        if self.throttled
            && let Some(line) = &mut self.line
        {
            line.lease.hold(throttle);
        }
    }
}

impl Reader {
    /// Asks for the next records of the range, and for ranges behind it where these are short.
    pub(super) async fn begin_fetch(&mut self) -> Result<()> {
        let partition = self.partition();
        let Some(node) = self.source(&partition).await? else {
            return Ok(());
        };
        let Some(broker) = self.cluster.node(node) else {
            return self
                .trouble(Trouble::Io(format!("broker {node} is not known")))
                .await;
        };
        let held = broker.fetches.left().max(broker.questions.left());
        if !held.is_zero() {
            return self.wait_out(held, &broker).await;
        }
        let started = Instant::now();
        let outcome = self.send(node, &broker).await;
        self.report.fetch_wait += started.elapsed();
        match outcome {
            Ok(fetch) => {
                self.received = true;
                // An answer that was received whole may hold one large record batch.
                let arrived = fetch.buffer.len();
                self.state = State::Arriving(Box::new(fetch));
                self.arrives(arrived).await
            }
            Err(trouble) => self.trouble(trouble).await,
        }
    }

    /// The broker to read a partition from; `None` when that is still being found out.
    async fn source(&mut self, partition: &TopicPartition) -> Result<Option<i32>> {
        if !self.learn_id(&partition.topic).await? {
            return Ok(None);
        }
        if let Some((replica, since)) = self.replicas.get(partition) {
            if since.elapsed() < REPLICA_KEEPS && self.cluster.node(*replica).is_some() {
                return Ok(Some(*replica));
            }
            self.replicas.remove(partition);
        }
        match self.cluster.leader(partition) {
            Some(leader) if leader.node >= 0 => Ok(Some(leader.node)),
            Some(_) => {
                let reason = "the partition has no leader";
                self.try_again(reason.into(), true).await?;
                Ok(None)
            }
            None => {
                self.missing().await?;
                Ok(None)
            }
        }
    }

    async fn send(&mut self, node: i32, broker: &Arc<Broker>) -> Attempt<Fetch> {
        let mut line = match self.state.take_line() {
            Some(line) if line.node == node => line,
            other => {
                if let Some(other) = other {
                    other.give_back(0);
                }
                match Arc::clone(&broker.keepers).try_acquire_owned() {
                    Ok(permit) => self.keep(node, broker, permit).await?,
                    Err(_) => return self.take_turn(node, broker).await,
                }
            }
        };
        self.within(self.cluster.keep_alive(&mut line.lease))
            .await?;
        let parts = self.plan(node, self.partition_bytes);
        let version = line
            .lease
            .connection
            .version_of::<FetchRequest>(FETCH_VERSION_MOST)?;
        self.check_version(version).await?;
        let request = self.request(&parts, version);
        let connection = &mut line.lease.connection;
        let mut buffer = self.cluster.chunks.take(FRAME_HEAD);
        let sent = async {
            let expected = connection.send(&request, version).await?;
            while buffer.len() < FRAME_HEAD {
                connection.receive(&mut buffer).await?;
            }
            let (size, correlation) = frame_head(&buffer);
            connection.check_frame(size, correlation, expected)
        };
        let started = Instant::now();
        let size = within(self.time_left(), sent).await?;
        bytes::Buf::advance(&mut buffer, FRAME_HEAD);
        self.progress.arrived(buffer.len());
        Ok(Fetch {
            answer: FetchAnswer::new(version, size - 4),
            arrived: buffer.len(),
            buffer,
            large: false,
            line: Some(line),
            parts,
            current: None,
            throttled: false,
            took: started.elapsed(),
            node,
        })
    }

    /// Gets a connection that this stream keeps.
    async fn keep(
        &self,
        node: i32,
        broker: &Arc<Broker>,
        permit: OwnedSemaphorePermit,
    ) -> Attempt<Line> {
        // After a failure an unused connection is likely broken too.
        let lease = if self.failures.retries.failed() > 0 {
            self.within(self.cluster.dial(broker)).await?
        } else {
            self.within(self.cluster.lease(broker)).await?.0
        };
        Ok(Line {
            lease,
            node,
            _permit: permit,
        })
    }

    /// Has a separate task receive the whole answer, because this stream may not be polled for a long time.
    async fn take_turn(&mut self, node: i32, broker: &Arc<Broker>) -> Attempt<Fetch> {
        let parts = self.plan(node, self.partition_bytes.min(TURN_BYTES));
        // The version is not known before there is a connection.
        let requests = [FETCH_BY_NAME, FETCH_VERSION_MOST].map(|v| self.request(&parts, v));
        let turn = Turn {
            cluster: Arc::clone(&self.cluster),
            broker: Arc::clone(broker),
            requests,
            fresh: self.failures.retries.failed() > 0,
        };
        let waiting = Instant::now();
        let mut task = turn.start().await;
        // Others had their turns: that is no silence.
        self.progress.excuse(waiting.elapsed());
        let taken = loop {
            let time = self.time_left();
            match tokio::time::timeout(time, task.outcome()).await {
                Ok(outcome) => break outcome?,
                Err(_) if self.progress.arrived(task.arrived()) => {}
                Err(_) => return Err(silent(time)),
            }
        };
        self.progress.arrived(taken.buffer.len());
        let Taken {
            buffer,
            version,
            took,
        } = taken;
        self.check_version(version).await?;
        Ok(Fetch {
            answer: FetchAnswer::new(version, buffer.len()),
            // Not one of the chunks.
            large: true,
            arrived: buffer.len(),
            buffer,
            line: None,
            parts,
            current: None,
            throttled: false,
            took,
            node,
        })
    }

    /// What to ask `node` for, in an answer of up to `bytes`.
    fn plan(&self, node: i32, bytes: usize) -> VecDeque<Part> {
        let wanted = Wanted {
            ranges: &self.request.ranges[self.at..],
            position: self.decoder.position(),
            last_epoch: self.decoder.epoch(),
            rows: self.rows_left,
            bytes: bytes.min(self.cluster.settings.fetch_bytes),
        };
        plan(&wanted, node, |partition| {
            let mean = self.cluster.topic(&partition.topic, |t| t.mean_bytes);
            Some(Source {
                leader: self.cluster.leader(partition)?,
                replica: self.replicas.get(partition).map(|(replica, _)| *replica),
                id: self.ids.known.get(&partition.topic).copied(),
                mean_bytes: mean.filter(|mean| *mean > 0).unwrap_or(MEAN_BYTES),
            })
        })
    }

    fn request(&self, parts: &VecDeque<Part>, version: i16) -> FetchRequest {
        let rack = &self.cluster.settings.rack;
        request(parts, version, self.request.isolation, rack)
    }

    /// Receives some bytes. The buffer has room for `bytes` in all.
    pub(super) async fn receive(&mut self, bytes: usize) -> Attempt<()> {
        let time = self.time_left();
        let State::Arriving(fetch) = &mut self.state else {
            return Ok(());
        };
        let Some(line) = &mut fetch.line else {
            return Err(Trouble::Protocol("a Fetch answer is cut off".into()));
        };
        let buffer = &mut fetch.buffer;
        let to_come = fetch.answer.left().saturating_sub(buffer.len());
        let room = buffer.capacity() - buffer.len();
        if buffer.capacity() < bytes || room < ROOM_LEAST.min(to_come) {
            let mut fresh = self.cluster.chunks.take(bytes);
            fresh.extend_from_slice(buffer);
            let used = std::mem::replace(buffer, fresh);
            let large = std::mem::replace(&mut fetch.large, bytes > CHUNK_BYTES);
            self.cluster.chunks.give_back(used, large);
        }
        let connection = &mut line.lease.connection;
        fetch.arrived += match connection.receive_now(buffer)? {
            Some(bytes) => bytes,
            None => within(time, connection.receive(buffer)).await?,
        };
        self.progress.arrived(fetch.arrived);
        Ok(())
    }

    async fn within<T>(&self, work: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        within(self.time_left(), work).await
    }

    /// How long to wait for a broker before another attempt.
    fn time_left(&self) -> Duration {
        let timeout = self.cluster.settings.read_timeout;
        let left = timeout.saturating_sub(self.progress.silent());
        SILENCE_MOST.min(left.max(ATTEMPT_LEAST))
    }
}

pub(super) async fn within<T>(
    time: Duration,
    work: impl Future<Output = Attempt<T>>,
) -> Attempt<T> {
    let outcome = tokio::time::timeout(time, work).await;
    outcome.unwrap_or_else(|_| Err(silent(time)))
}

fn silent(time: Duration) -> Trouble {
    let waited = time.as_millis();
    Trouble::Io(format!("the broker sends nothing for {waited} ms"))
}
