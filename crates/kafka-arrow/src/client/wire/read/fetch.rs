//! What is asked for at once, and over which connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Attempt, Reader};
use crate::client::wire::ask::isolation_code;
use crate::client::wire::chunks::CHUNK_BYTES;
use crate::client::wire::cluster::{Broker, Cluster, Lease};
use crate::client::wire::connection::{FRAME_HEAD, Trouble, frame_head};
use crate::client::wire::decode::{FETCH_VERSION_MOST, FetchAnswer, TopicRef, throttle_of};
use crate::error::Result;
use crate::range::TopicPartition;

/// How long a broker may wait for records; it only does for those in remote storage (KIP-405).
pub(super) const MAX_WAIT: Duration = Duration::from_millis(500);
/// The first version of Fetch that names topics by id (KIP-516).
pub(super) const FETCH_BY_ID: i16 = 13;
/// A version of Fetch whose request older brokers understand too.
const FETCH_BY_NAME: i16 = 11;
/// Asked for beyond the estimate: the first and the last record batch lie partly outside a range.
const MARGIN_BYTES: usize = 64 << 10;
/// What a record is taken for while nothing is known of its topic.
const MEAN_BYTES: usize = 1024;
/// Streams that take turns hold an answer whole, so that theirs are smaller.
const TURN_BYTES: usize = 256 << 10;
/// The most partitions of one request.
const PARTS_MOST: usize = 500;
/// A chunk with less room than this is changed for an empty one: small reads cost calls.
const ROOM_LEAST: usize = 64 << 10;
/// How long a broker may send nothing before another connection is tried.
const SILENCE_MOST: Duration = Duration::from_secs(10);
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

/// What was asked for of a partition.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) partition: TopicPartition,
    id: Option<Uuid>,
    offset: i64,
    epoch: i32,
    last_epoch: i32,
    limit: usize,
    /// It was the first of its request, of which a broker sends at least one record batch.
    pub(super) first: bool,
    /// The broker that was asked is not the leader.
    pub(super) from_replica: bool,
    /// Where the position was when it began to come.
    pub(super) start: i64,
    /// Bytes of record batches that came.
    pub(super) bytes: usize,
    /// The mean size of a record in them, where it is known.
    pub(super) mean: usize,
    /// The end of the log by the isolation level, as the broker told it.
    pub(super) end_seen: i64,
    pub(super) preferred_replica: i32,
}

impl Part {
    pub(super) fn is_named(&self, topic: &TopicRef, partition: i32) -> bool {
        self.partition.partition == partition
            && match topic {
                TopicRef::Name(name) => *name == *self.partition.topic,
                TopicRef::Id(id) => Some(*id) == self.id,
            }
    }

    /// Whether records of the partition from `position` on are in it.
    pub(super) fn holds(&self, partition: &TopicPartition, position: i64) -> bool {
        self.partition == *partition && self.offset <= position
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
        self.fetch_wait += started.elapsed();
        match outcome {
            Ok(fetch) => {
                self.received = true;
                // An answer that was received whole may hold one large record batch.
                let arrived = fetch.buffer.len();
                self.fetch = Some(fetch);
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
        let mut line = match self.line.take() {
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
        let limit = self.partition_bytes;
        let parts = self.plan(node, limit);
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
        Ok(Fetch {
            answer: FetchAnswer::new(version, size - 4),
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

    /// A connection of its own for this stream.
    async fn keep(
        &self,
        node: i32,
        broker: &Arc<Broker>,
        permit: OwnedSemaphorePermit,
    ) -> Attempt<Line> {
        // After a failure an unused connection is likely broken too.
        let lease = if self.retries.failed() > 0 {
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

    /// Receives an answer whole, in a task of its own: this stream may not be polled for long.
    async fn take_turn(&mut self, node: i32, broker: &Arc<Broker>) -> Attempt<Fetch> {
        let parts = self.plan(node, self.partition_bytes.min(TURN_BYTES));
        // The version is not known before there is a connection.
        let requests = [FETCH_BY_NAME, FETCH_VERSION_MOST].map(|v| self.request(&parts, v));
        let turn = Turn {
            cluster: Arc::clone(&self.cluster),
            broker: Arc::clone(broker),
            requests,
            anew: self.retries.failed() > 0,
        };
        let task = Task(tokio::spawn(turn.take()));
        let Taken {
            buffer,
            version,
            took,
        } = within(self.time_left(), task.outcome()).await?;
        self.check_version(version).await?;
        Ok(Fetch {
            answer: FetchAnswer::new(version, buffer.len()),
            // Not one of the chunks.
            large: true,
            buffer,
            line: None,
            parts,
            current: None,
            throttled: false,
            took,
            node,
        })
    }

    /// The parts to ask `node` for: of the current range, and of those behind it that are likely to
    /// come whole. Brokers fill an answer in the order of the request.
    fn plan(&self, node: i32, limit: usize) -> VecDeque<Part> {
        let mut parts: VecDeque<Part> = VecDeque::new();
        let mut room = limit.min(self.cluster.settings.fetch_bytes);
        let mut rows = self
            .rows_left
            .map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
        let mut at = self.at;
        while let Some(range) = self.request.ranges.get(at) {
            let partition = range.topic_partition();
            let first = parts.is_empty();
            let offset = if first {
                self.decoder.position()
            } else {
                range.start
            };
            let Some(leader) = self.cluster.leader(&partition) else {
                break;
            };
            let replica = self.replicas.get(&partition).map(|(replica, _)| *replica);
            let id = self.ids.get(&partition.topic).copied();
            let known = parts.iter().any(|part| part.partition == partition);
            let source = replica.unwrap_or(leader.node);
            // Another topic's id must have been compared before it is read.
            let strange = partition.topic != self.range().topic && id.is_none();
            if known || !first && (source != node || strange) {
                break;
            }
            // Ranges of one partition that lie close together come as one part.
            let mean = self.mean(&partition.topic);
            let wanted = |to: i64| {
                let rows = rows.unwrap_or(i64::MAX).min(to - offset);
                let bytes = usize::try_from(rows)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(mean);
                bytes.saturating_add(bytes / 4).saturating_add(MARGIN_BYTES)
            };
            let mut end = range.end;
            at += 1;
            while let Some(next) = self.request.ranges.get(at) {
                let near = next.topic_partition() == partition
                    && next.start >= end
                    && wanted(next.end) < room;
                if !near {
                    break;
                }
                end = next.end;
                at += 1;
            }
            let bytes = wanted(end);
            if !first && bytes > room {
                break;
            }
            parts.push_back(Part {
                id,
                offset,
                epoch: if replica.is_some() { -1 } else { leader.epoch },
                last_epoch: if first { self.decoder.epoch() } else { -1 },
                limit: bytes.min(room),
                first,
                from_replica: replica.is_some_and(|r| r != leader.node),
                start: offset,
                bytes: 0,
                mean: 0,
                end_seen: -1,
                preferred_replica: -1,
                partition,
            });
            rows = rows.map(|rows| rows.saturating_sub(end - offset));
            if bytes >= room || rows.is_some_and(|rows| rows <= 0) || parts.len() == PARTS_MOST {
                break;
            }
            room -= bytes;
        }
        parts
    }

    fn mean(&self, topic: &str) -> usize {
        let mean = self.cluster.topic(topic, |t| t.mean_bytes).unwrap_or(0);
        if mean == 0 { MEAN_BYTES } else { mean }
    }

    fn request(&self, parts: &VecDeque<Part>, version: i16) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut named: Option<&Arc<str>> = None;
        let mut bytes = 0usize;
        for part in parts {
            let topic = &part.partition.topic;
            if named != Some(topic) {
                let fetch = FetchTopic::default();
                topics.push(if version >= FETCH_BY_ID {
                    fetch.with_topic_id(part.id.unwrap_or_default())
                } else {
                    fetch.with_topic(TopicName(StrBytes::from_string(topic.to_string())))
                });
                named = Some(topic);
            }
            bytes += part.limit;
            let limit = i32::try_from(part.limit).unwrap_or(i32::MAX);
            let mut partition = FetchPartition::default()
                .with_partition(part.partition.partition)
                .with_current_leader_epoch(part.epoch)
                .with_fetch_offset(part.offset)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(limit);
            if version >= 12 {
                partition = partition.with_last_fetched_epoch(part.last_epoch);
            }
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(partition);
            }
        }
        let mut request = FetchRequest::default()
            .with_max_wait_ms(MAX_WAIT.as_millis() as i32)
            // An answer at once, also an empty one.
            .with_min_bytes(0)
            .with_max_bytes(i32::try_from(bytes).unwrap_or(i32::MAX))
            .with_isolation_level(isolation_code(self.request.isolation))
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_topics(topics);
        if version >= 11 {
            let rack = self.cluster.settings.rack.clone();
            request = request.with_rack_id(StrBytes::from_string(rack));
        }
        request
    }

    /// Receives until so many bytes are in the buffer, or at least some.
    pub(super) async fn receive(&mut self, bytes: usize) -> Attempt<()> {
        let time = self.time_left();
        let Some(fetch) = &mut self.fetch else {
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
        if connection.receive_now(buffer)?.is_none() {
            within(time, connection.receive(buffer)).await?;
        }
        Ok(())
    }

    async fn within<T>(&self, work: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        within(self.time_left(), work).await
    }

    /// How long to wait for a broker before another attempt.
    fn time_left(&self) -> Duration {
        let timeout = self.cluster.settings.read_timeout;
        let left = timeout.saturating_sub(self.progress.elapsed());
        SILENCE_MOST.min(left.max(ATTEMPT_LEAST))
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = Attempt<T>>) -> Attempt<T> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| {
        let waited = time.as_millis();
        Err(Trouble::Io(format!(
            "the broker sends nothing for {waited} ms"
        )))
    })
}

/// One answer for a stream that has no connection.
struct Turn {
    cluster: Arc<Cluster>,
    broker: Arc<Broker>,
    /// By topic name, and by topic id.
    requests: [FetchRequest; 2],
    anew: bool,
}

impl Turn {
    async fn take(self) -> Attempt<Taken> {
        let turns = Arc::clone(&self.broker.turns);
        // The semaphore is never closed; without a permit there would only be one more connection.
        let _turn = turns.acquire_owned().await.ok();
        let mut lease = if self.anew {
            self.cluster.dial(&self.broker).await?
        } else {
            self.cluster.lease(&self.broker).await?.0
        };
        let connection = &mut lease.connection;
        let version = connection.version_of::<FetchRequest>(FETCH_VERSION_MOST)?;
        let [by_name, by_id] = &self.requests;
        let request = if version >= FETCH_BY_ID {
            by_id
        } else {
            by_name
        };
        let started = Instant::now();
        let expected = connection.send(request, version).await?;
        let mut buffer = BytesMut::with_capacity(TURN_BYTES);
        let mut took = Duration::ZERO;
        let mut whole = FRAME_HEAD;
        while buffer.len() < whole {
            connection.receive(&mut buffer).await?;
            if whole == FRAME_HEAD && buffer.len() >= FRAME_HEAD {
                took = started.elapsed();
                let (size, correlation) = frame_head(&buffer);
                whole = 4 + connection.check_frame(size, correlation, expected)?;
                buffer.reserve(whole.saturating_sub(buffer.len()));
            }
        }
        bytes::Buf::advance(&mut buffer, FRAME_HEAD);
        let throttle = throttle_of(&buffer, version);
        if !throttle.is_zero() {
            lease.hold(throttle);
        }
        lease.give_back(0);
        Ok(Taken {
            buffer,
            version,
            took,
        })
    }
}

/// What a turn came to.
struct Taken {
    /// The answer behind its correlation id.
    buffer: BytesMut,
    version: i16,
    took: Duration,
}

/// A task that ends with its owner.
struct Task(JoinHandle<Attempt<Taken>>);

impl Task {
    async fn outcome(mut self) -> Attempt<Taken> {
        match (&mut self.0).await {
            Ok(outcome) => outcome,
            Err(e) => Err(Trouble::Io(format!("the read was stopped: {e}"))),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
