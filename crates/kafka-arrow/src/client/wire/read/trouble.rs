//! What a stream does about refusals, silence and empty answers: ask again, ask another broker, look
//! at the log's bounds, or fail with coordinates.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::fetch::{ATTEMPT_LEAST, FETCH_BY_ID, MAX_WAIT, Part};
use super::{Attempt, Reader};
use crate::client::wire::ask::{Deadline, denied, parse_id, print_id};
use crate::client::wire::cluster::Broker;
use crate::client::wire::code;
use crate::client::wire::connection::Trouble;
use crate::client::wire::decode::{Malformed, PartitionEnd};
use crate::client::{HELD_MOST, OffsetAt, OffsetQuery, OnDataLoss};
use crate::error::{Error, Result};

/// How long a log may seem to end before the range before that is believed.
const DOUBT: Duration = Duration::from_secs(1);
/// How often an answer that explains nothing is asked for again.
const ATTEMPTS_MOST: u32 = 5;
/// So many empty answers in succession say that the log holds nothing before the range's end.
const EMPTIES_BELIEVED: u32 = 3;
/// How long a look-up of a log's bounds may take.
const LOOK_UP: Duration = Duration::from_secs(5);
/// How often it is told that a broker holds this client back.
const HELD_TOLD: Duration = Duration::from_secs(1);

impl Reader {
    /// The connection failed: the answer under way is lost, and another attempt is made.
    pub(super) async fn trouble(&mut self, trouble: Trouble) -> Result<()> {
        self.drop_connection();
        match trouble {
            Trouble::Io(reason) => {
                let timeout = self.cluster.settings.request_timeout;
                let waited = self.progress.elapsed() >= timeout;
                // Never reached anything, and cannot now: waiting on is no use.
                if !self.received && (waited || !self.cluster.connected()) {
                    return Err(self.cluster.failed(&Trouble::Io(reason)));
                }
                // The leader may be another one by now.
                self.try_again(reason, true).await
            }
            Trouble::Refused(_) => Err(self.cluster.failed(&trouble)),
            Trouble::Protocol(reason) => Err(self.read_error(reason)),
        }
    }

    fn drop_connection(&mut self) {
        self.decoder.clear();
        self.nothing_arrives();
        self.fetch = None;
        self.line = None;
    }

    /// Waits a moment, and asks for the leaders anew if they are in doubt.
    ///
    /// # Errors
    /// When there was no progress for `read.timeout.ms`, or the topic was recreated.
    pub(super) async fn try_again(&mut self, reason: String, leaders: bool) -> Result<()> {
        let range = self.range();
        let position = self.decoder.position();
        log::debug!("{}[{}]@{position}: {reason}", range.topic, range.partition);
        self.last_reason = Some(reason);
        let timeout = self.cluster.settings.read_timeout;
        let silent = self.progress.elapsed();
        if silent >= timeout {
            return Err(self.stalled(silent));
        }
        self.retries.wait(timeout - silent).await;
        if leaders {
            let topic = Arc::clone(&self.range().topic);
            let left = timeout.saturating_sub(self.progress.elapsed());
            let deadline = Deadline::after(left.clamp(ATTEMPT_LEAST, LOOK_UP));
            match self.cluster.refresh(&topic, &deadline).await {
                Ok(()) => {
                    self.replicas.remove(&self.partition());
                    self.compare_id()?;
                }
                Err(e @ (Error::Authentication { .. } | Error::Authorization { .. })) => {
                    return Err(e);
                }
                Err(e) => {
                    // It comes on top: what was wrong before is why leaders were asked for.
                    let before = self.last_reason.take().unwrap_or_default();
                    self.last_reason = Some(format!("{before}; asking for the leader: {e}"));
                }
            }
        }
        Ok(())
    }

    /// Waits while a broker holds this client back, for a moment at a time.
    ///
    /// # Errors
    /// When it goes on for [`HELD_MOST`] times `read.timeout.ms`, or will.
    pub(super) async fn wait_out(&mut self, left: Duration, broker: &Broker) -> Result<()> {
        let timeout = self.cluster.settings.read_timeout;
        // Other streams of this client have their turns: the quota is used, not stuck.
        let served = broker.served.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.served, served) != served {
            self.held = Duration::ZERO;
        }
        let silent = self.progress.elapsed();
        if self.held + left > timeout.saturating_mul(HELD_MOST) || silent >= timeout {
            let (host, port, left_ms) = (&broker.host, broker.port, left.as_millis());
            self.last_reason = Some(format!(
                "broker {host}:{port} holds this client back (quota), now for {left_ms} ms; \
                 {HELD_MOST} times 'read.timeout.ms' is waited at most, and the quotas of the \
                 brokers (consumer_byte_rate, request_percentage) set how much it may read"
            ));
            return Err(self.stalled(self.held + silent));
        }
        let started = Instant::now();
        tokio::time::sleep(left.min(HELD_TOLD)).await;
        let held = started.elapsed();
        self.held += held;
        self.throttle += held;
        self.progress += held;
        Ok(())
    }

    fn stalled(&self, silent: Duration) -> Error {
        let range = self.range();
        if let Some(error) = self.cluster.no_leader(&range.topic_partition(), silent) {
            return error;
        }
        Error::Stalled {
            topic: range.topic.to_string(),
            partition: range.partition,
            offset: self.decoder.position(),
            end: range.end,
            waited_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
            reason: self
                .last_reason
                .clone()
                .unwrap_or_else(|| "the broker sends nothing".into()),
        }
    }

    /// Fixes the id that a topic is read under. `false` when that has to be tried again.
    pub(super) async fn learn_id(&mut self, topic: &Arc<str>) -> Result<bool> {
        if self.ids.contains_key(topic) {
            return Ok(true);
        }
        let expected = self.request.topic_ids.get(topic).cloned();
        let known = |id: &Option<uuid::Uuid>| id.map(print_id);
        let mut found = self.cluster.topic(topic, |t| (t.id, t.asked));
        let stale = match (&expected, &found) {
            (_, None) => true,
            (None, Some((_, asked))) => *asked < self.requested && !self.cluster.connected(),
            // By another id the topic may have been known before it was recreated.
            (Some(expected), Some((id, _))) => known(id).is_some_and(|id| id != *expected),
        };
        if stale {
            let deadline = Deadline::after(self.cluster.settings.request_timeout);
            self.cluster.refresh(topic, &deadline).await?;
            found = self.cluster.topic(topic, |t| (t.id, t.asked));
        }
        let Some((id, _)) = found else {
            self.missing().await?;
            return Ok(false);
        };
        match (expected, known(&id)) {
            (Some(expected), Some(found)) if expected != found => {
                Err(recreated(topic, expected, found))
            }
            (Some(expected), None) if parse_id(&expected).is_some() => Ok(true),
            _ => {
                self.ids.extend(id.map(|id| (Arc::clone(topic), id)));
                Ok(true)
            }
        }
    }

    /// Brokers that are asked by name do not notice that a topic is another one: the ids are
    /// compared with an answer that was asked for after the request was made.
    pub(super) async fn check_version(&mut self, version: i16) -> Attempt<()> {
        self.by_name |= version < FETCH_BY_ID;
        let topic = Arc::clone(&self.range().topic);
        let asked = self.cluster.topic(&topic, |t| t.asked);
        if version >= FETCH_BY_ID || asked.is_some_and(|asked| asked >= self.requested) {
            return Ok(());
        }
        let deadline = Deadline::after(self.cluster.settings.request_timeout);
        match self.cluster.refresh(&topic, &deadline).await {
            Ok(()) => {}
            Err(e) => return Err(Trouble::Io(e.to_string())),
        }
        let now = self.cluster.topic(&topic, |t| t.id).flatten();
        match (self.ids.get(&topic), now) {
            (Some(id), Some(now)) if *id != now => {
                Err(Trouble::Io(format!("topic {topic} was recreated")))
            }
            _ => Ok(()),
        }
    }

    /// Topics that were read by name are compared once more with what the cluster says now.
    pub(super) async fn verify_ids_at_the_end(&mut self) -> Result<()> {
        if !self.by_name {
            return Ok(());
        }
        let deadline = Deadline::after(self.cluster.settings.request_timeout);
        for (topic, id) in &self.ids {
            self.cluster.refresh(topic, &deadline).await?;
            match self.cluster.topic(topic, |t| t.id).flatten() {
                Some(found) if found != *id => {
                    return Err(recreated(topic, print_id(*id), print_id(found)));
                }
                Some(_) => {}
                None => return Err(self.cluster.unknown_topic(topic, &deadline).await),
            }
        }
        Ok(())
    }

    /// The topic or the partition seems not to be there: it is an error if it is so.
    pub(super) async fn missing(&mut self) -> Result<()> {
        let partition = self.partition();
        let deadline = Deadline::after(self.cluster.settings.request_timeout);
        self.cluster.expect_partition(&partition, &deadline).await?;
        self.compare_id()?;
        self.attempts("the broker does not know the partition", true)
            .await
    }

    /// # Errors
    /// When the topic that is read was deleted and created again.
    fn compare_id(&mut self) -> Result<()> {
        let topic = Arc::clone(&self.range().topic);
        let now = self.cluster.topic(&topic, |t| t.id).flatten();
        let (Some(read), Some(now)) = (self.ids.get(&topic).copied(), now) else {
            return Ok(());
        };
        if read == now {
            return Ok(());
        }
        if !self.delivered && !self.request.topic_ids.contains_key(&topic) {
            // Nothing was read under the other id, and none was asked for.
            self.ids.insert(topic, now);
            return Ok(());
        }
        Err(recreated(&topic, print_id(read), print_id(now)))
    }

    /// As [`try_again`](Self::try_again), a few times.
    pub(super) async fn attempts(&mut self, reason: &str, leaders: bool) -> Result<()> {
        if self.retries.failed() >= ATTEMPTS_MOST {
            return Err(self.failed(reason.to_owned(), true));
        }
        self.try_again(reason.to_owned(), leaders).await
    }

    /// The broker refused the Fetch, or the partition's part of it.
    pub(super) async fn refused(&mut self, c: i16) -> Result<()> {
        let from_replica = self.replicas.remove(&self.partition()).is_some();
        let had_epoch = self.decoder.epoch() >= 0;
        let from = self.fetch.as_ref().map(|f| f.node);
        self.abandon();
        let reason = match from {
            Some(node) => format!("{} from broker {node}", code::text(c)),
            None => code::text(c),
        };
        match c {
            code::TOPIC_AUTHORIZATION_FAILED => {
                Err(denied(format!("topic {}", self.range().topic), "READ", c))
            }
            code::CLUSTER_AUTHORIZATION_FAILED => Err(denied("the cluster".into(), "READ", c)),
            // A replica may lag behind what the leader has told.
            code::OFFSET_OUT_OF_RANGE if from_replica => self.try_again(reason, false).await,
            code::OFFSET_OUT_OF_RANGE => {
                // Brokers say so, too, when they have forgotten the epoch of the last record.
                self.decoder.forget_epoch();
                self.out_of_range(had_epoch).await
            }
            c if code::is_missing(c) || c == code::INCONSISTENT_TOPIC_ID => {
                let topic = Arc::clone(&self.range().topic);
                let deadline = Deadline::after(self.cluster.settings.request_timeout);
                self.cluster.refresh(&topic, &deadline).await?;
                self.compare_id()?;
                self.missing().await
            }
            code::CORRUPT_MESSAGE => self.corrupt(Malformed(reason)).await,
            c if code::is_of_leadership(c) => self.try_again(reason, true).await,
            c if code::is_retriable(c) => self.try_again(reason, false).await,
            code::UNSUPPORTED_VERSION => Err(self.read_error(reason)),
            _ => self.attempts(&reason, true).await,
        }
    }

    async fn out_of_range(&mut self, had_epoch: bool) -> Result<()> {
        let topic = Arc::clone(&self.range().topic);
        let deadline = Deadline::after(self.cluster.settings.request_timeout);
        // First, because the bounds of another topic mean nothing.
        self.cluster.refresh(&topic, &deadline).await?;
        self.compare_id()?;
        let position = self.decoder.position();
        let (start, end) = self.bounds(self.cluster.settings.request_timeout).await?;
        self.check_bounds(start, end)?;
        if self.decoder.position() != position || had_epoch {
            return Ok(());
        }
        // The log has the offset, and yet it was refused: a moment's disagreement of brokers.
        self.attempts(&code::text(code::OFFSET_OUT_OF_RANGE), true)
            .await
    }

    /// The log's start and its end by the isolation level.
    async fn bounds(&self, within: Duration) -> Result<(i64, i64)> {
        let partition = self.partition();
        let query = |at| OffsetQuery {
            partition: partition.clone(),
            at,
        };
        let queries = [query(OffsetAt::Earliest), query(OffsetAt::Latest)];
        let isolation = self.request.isolation;
        let answers = self
            .cluster
            .list_offsets(&queries, isolation, within)
            .await?;
        match answers.as_slice() {
            [start, end] => match (start.offset, end.offset) {
                (Some(start), Some(end)) => Ok((start, end)),
                _ => Err(self.read_error("the broker named no bounds of the log".into())),
            },
            _ => Err(self.read_error("the broker named no bounds of the log".into())),
        }
    }

    /// # Errors
    /// When offsets of the range are gone and may not be skipped, or its end is beyond the log.
    fn check_bounds(&mut self, log_start: i64, log_end: i64) -> Result<()> {
        let (position, range) = (self.decoder.position(), self.range());
        if position < log_start {
            let available = log_start.min(range.end);
            let lost = available - position;
            if self.request.on_data_loss == OnDataLoss::Fail {
                return Err(Error::BelowLogStart {
                    topic: range.topic.to_string(),
                    partition: range.partition,
                    asked: position,
                    available: log_start,
                    lost,
                });
            }
            log::warn!(
                "{}[{}]@{position}: {lost} offsets are gone and are skipped",
                range.topic,
                range.partition
            );
            self.lost += lost;
            self.decoder.skip_to(available);
            self.moved();
        }
        let range = self.range();
        if log_end < range.end {
            return Err(Error::PastLogEnd {
                topic: range.topic.to_string(),
                partition: range.partition,
                asked: range.end,
                available: log_end,
                isolation: self.request.isolation.as_str(),
            });
        }
        Ok(())
    }

    /// A partition's part of the answer has ended.
    pub(super) async fn part_end(&mut self, part: Part, end: PartitionEnd) -> Result<()> {
        if let Some((epoch, agreed)) = end.diverging {
            let (range, offset) = (self.range(), self.decoder.position());
            log::debug!("{}: leader epoch {epoch} ends at {agreed}", part.partition);
            return Err(Error::Truncated {
                topic: range.topic.to_string(),
                partition: range.partition,
                offset,
                cut: agreed.min(offset - 1).max(0),
                message: Error::READ_AGAIN.to_owned(),
            });
        }
        let passed = self.decoder.position() - part.start;
        if part.bytes > 0 {
            let Ok(offsets @ 1..) = usize::try_from(passed) else {
                self.abandon();
                return self
                    .attempts("the broker sends other records than asked for", true)
                    .await;
            };
            let mean = (part.bytes / offsets).max(1);
            self.cluster.learn_mean(&part.partition.topic, mean);
            return Ok(());
        }
        if part.preferred_replica >= 0 && !part.from_replica {
            let replica = part.preferred_replica;
            self.abandon();
            if self.cluster.node(replica).is_none() {
                let reason =
                    format!("the leader names broker {replica} instead, which is not known");
                return self.try_again(reason, true).await;
            }
            self.replicas
                .insert(self.partition(), (replica, Instant::now()));
            return Ok(());
        }
        if !part.first || passed > 0 {
            // The answer was full; what is missing is asked for next.
            return Ok(());
        }
        if end.cut {
            let most = self.cluster.settings.answer_bytes_most;
            if self.partition_bytes >= most {
                return Err(self.read_error(format!(
                    "a record batch is larger than {most} bytes; \
                     'receive.message.max.bytes' sets how much is allowed"
                )));
            }
            self.partition_bytes = self.partition_bytes.saturating_mul(2).min(most);
            return Ok(());
        }
        let fetch = self.fetch.as_ref();
        if fetch.is_some_and(|f| f.throttled) {
            return Ok(());
        }
        let prompt = fetch.is_some_and(|f| f.took < MAX_WAIT / 2);
        let range_end = self.range().end;
        self.abandon();
        self.empties += 1;
        if part.from_replica {
            self.replicas.remove(&self.partition());
            return self
                .try_again("the replica has no records yet".into(), false)
                .await;
        }
        if part.end_seen >= range_end {
            // A leader sends at least one batch if there is any: the log holds nothing more before
            // the range's end, because it was compacted away. But one that waits in vain for records
            // in remote storage (KIP-405) sends none after the time that the request allows. So only
            // answers that come at once are believed, and only several of them.
            if !prompt {
                self.empties = 0;
            }
            if self.empties >= EMPTIES_BELIEVED && self.progress.elapsed() >= DOUBT {
                return self.believe_gap().await;
            }
            let reason = "the broker sends no records, although the log goes on";
            return self.try_again(reason.into(), false).await;
        }
        if self.progress.elapsed() >= DOUBT {
            let (start, log_end) = self.bounds(LOOK_UP).await?;
            self.check_bounds(start, log_end)?;
        }
        let reason = format!("the leader's log ends at {} now", part.end_seen);
        self.try_again(reason, self.retries.failed() > 3).await
    }

    /// The broker sends nothing of what is left of the range, although its log goes on: it was
    /// compacted away, unless what else the broker says speaks against it.
    async fn believe_gap(&mut self) -> Result<()> {
        let partition = self.partition();
        let position = self.decoder.position();
        let query = |at| OffsetQuery {
            partition: partition.clone(),
            at,
        };
        let queries = [OffsetAt::Earliest, OffsetAt::Latest, OffsetAt::Timestamp(0)].map(query);
        let isolation = self.request.isolation;
        let answers = self
            .cluster
            .list_offsets(&queries, isolation, LOOK_UP)
            .await?;
        let offset = |n: usize| answers.get(n).and_then(|a| a.offset);
        if let (Some(start), Some(end)) = (offset(0), offset(1)) {
            self.check_bounds(start, end)?;
        }
        if self.decoder.position() != position {
            return Ok(());
        }
        let end = self.range().end;
        if let Some(found) = offset(2).filter(|o| (position..end).contains(o)) {
            return Err(self.read_error(format!(
                "the broker sends no records up to {end}, and names {found} as a record's offset: \
                 it is at fault, or what stands between"
            )));
        }
        let topics = [Arc::clone(&partition.topic)];
        let settings = self.cluster.topic_settings(&topics).await?;
        if let Some(Some(settings)) = settings.first()
            && !settings.cleanup_policy.contains("compact")
            // A log that was compacted before its policy was changed stays as it is.
            && !self.decoder.has_gaps()
        {
            return Err(self.read_error(format!(
                "the broker sends no records up to {end}, although its log goes on and the topic is \
                 not compacted ('cleanup.policy' is '{}'): it is at fault, or what stands between; if the \
                 topic was compacted before, end the range at {position}",
                settings.cleanup_policy
            )));
        }
        self.decoder.pass_gap();
        Ok(())
    }

    /// Records do not decode. They may have been damaged on their way, so they are asked for again.
    pub(super) async fn corrupt(&mut self, malformed: Malformed) -> Result<()> {
        self.drop_connection();
        let here = (self.partition(), self.decoder.position());
        if self.corrupt_at.replace(here.clone()) == Some(here) {
            return Err(self.corrupted(malformed.to_string()));
        }
        self.try_again(malformed.to_string(), false).await
    }

    fn corrupted(&self, reason: String) -> Error {
        let range = self.range();
        Error::Corrupted {
            topic: range.topic.to_string(),
            partition: range.partition,
            offset: self.decoder.position(),
            reason,
        }
    }

    pub(super) fn read_error(&self, reason: String) -> Error {
        self.failed(reason, false)
    }

    fn failed(&self, reason: String, transient: bool) -> Error {
        let range = self.range();
        Error::Read {
            topic: range.topic.to_string(),
            partition: range.partition,
            offset: self.decoder.position(),
            reason,
            transient,
        }
    }
}

fn recreated(topic: &str, expected: String, found: String) -> Error {
    Error::TopicRecreated {
        topic: topic.to_owned(),
        expected,
        found,
    }
}
