//! A producer and its transaction, from one `open` to the next.
//!
//! ```text
//!          begin            commit, abort
//! idle ──────────> attempt ──────────────> idle
//!   └────────── any failure ──────────────────> given up: the next open makes another session
//! ```
//!
//! Calls that wait for a broker run on threads that may block and hold the turn until they end, also
//! when the future that began them is dropped: nobody else then finds the producer in between.

mod refused;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::columns::Layout;
use super::rows::Rows;
use super::trouble::{NO_ROW, Trouble, is_fenced, place};
use super::*;
use crate::client::librdkafka::writing::{
    Outgoing, Producer, Topic, TransactionError, Writing, code, error_text, producer,
};

pub(super) use refused::Refused;

/// How long one call into librdkafka waits before it is looked what it waits for.
const SLICE_MS: i32 = 500;
/// How long a commit, or the delivery of what was staged, may make no end. The next `open` tells
/// what became of it.
const COMMIT_LIMIT: Duration = Duration::from_secs(60);
/// How long an abort may take; the next `open` aborts as well.
const ABORT_LIMIT: Duration = Duration::from_secs(15);

/// A topic that rows go to.
pub(super) struct Met {
    topic: Topic,
    partitions: usize,
}

/// How far sending got.
pub(super) enum Sent {
    All {
        bytes: u64,
    },
    /// The queue is full: `row` is the next.
    UpTo {
        row: usize,
        bytes: u64,
    },
}

pub(super) struct Session {
    pub(super) job: String,
    /// Tells this session from all others, in the state topic.
    pub(super) owner: String,
    pub(super) layout: Layout,
    target: Arc<str>,
    transactional: bool,
    producer: Producer,
    state_topic: Topic,
    trouble: Trouble,
    recorded: Mutex<Option<Committed>>,
    /// The attempt whose rows are being staged. Sending holds it for reading, so that no row of an
    /// attempt gets into the transaction of another.
    attempt: RwLock<Option<String>>,
    /// Held while the transaction begins or ends.
    turn: Arc<tokio::sync::Mutex<()>>,
    given_up: AtomicBool,
    met: Mutex<HashMap<String, Arc<Met>>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("job", &self.job)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Makes the producer and takes over the job's transactional id.
    pub(super) async fn start(
        config: &ConnectionConfig,
        options: &KafkaSinkOptions,
        target: &Arc<str>,
        job: &SinkJob,
        layout: Layout,
        trouble: Trouble,
    ) -> Result<Arc<Self>> {
        // No topic's name holds a colon, so that no two pairs make the same id.
        let id = format!("{}{}:{target}", options.transactional_id_prefix, job.name);
        let transactional = options.delivery == Delivery::ExactlyOnce;
        let writing = match transactional {
            true => Writing::Transactions(&id),
            false => Writing::Plain,
        };
        let producer = producer(config, writing)?;
        let topic = |name: &str| {
            let made = Topic::new(producer.handle(), name);
            made.map_err(|reason| trouble.sink("making a producer", &reason, false))
        };
        let session = Arc::new(Self {
            job: job.name.clone(),
            owner: Uuid::new_v4().simple().to_string(),
            layout,
            target: Arc::clone(target),
            transactional,
            state_topic: topic(&options.state_topic)?,
            producer,
            trouble,
            recorded: Mutex::default(),
            attempt: RwLock::default(),
            turn: Arc::default(),
            given_up: AtomicBool::new(false),
            met: Mutex::default(),
        });
        if transactional {
            let limit = config.request_timeout();
            let started = session
                .blocking("taking over the transactional id", move |session| {
                    let done = until(limit, || session.producer.init_transactions(SLICE_MS));
                    done.map_err(|e| session.refused("taking over the transactional id", &e))
                })
                .await;
            // A producer that is fenced while it begins has met another that begins: try again.
            started.map_err(|refused| *refused.error)?;
        }
        Ok(session)
    }

    pub(super) fn usable(&self) -> bool {
        !self.given_up.load(Ordering::Acquire)
    }

    /// Nothing more is written by this session.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    pub(super) fn recorded(&self) -> Option<Committed> {
        let recorded = self.recorded.lock();
        recorded.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn record(&self, committed: Option<Committed>) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        *recorded = committed;
    }

    pub(super) fn has_begun(&self, attempt: &str) -> bool {
        let current = self.attempt.read().unwrap_or_else(PoisonError::into_inner);
        current.as_deref() == Some(attempt)
    }

    fn set_attempt(&self, attempt: Option<String>) {
        let mut current = self.attempt.write().unwrap_or_else(PoisonError::into_inner);
        *current = attempt;
    }

    /// Begins the transaction of an attempt, if it has not begun; ends another attempt's.
    pub(super) async fn begin(self: &Arc<Self>, attempt: &str) -> Result<(), Refused> {
        if self.has_begun(attempt) {
            return Ok(());
        }
        let attempt = attempt.to_owned();
        self.blocking("beginning a transaction", move |session| {
            if session.has_begun(&attempt) {
                return Ok(());
            }
            session.end_unfinished()?;
            session.begin_now(Some(attempt))
        })
        .await
    }

    fn begin_now(&self, attempt: Option<String>) -> Result<(), Refused> {
        self.producer.forget_undelivered();
        if self.transactional {
            let begun = self.producer.begin();
            begun.map_err(|e| self.refused("beginning a transaction", &e))?;
        }
        self.set_attempt(attempt);
        Ok(())
    }

    /// Throws away what was staged by whatever attempt.
    fn end_unfinished(&self) -> Result<(), Refused> {
        let open = self.attempt.read().is_ok_and(|attempt| attempt.is_some());
        // First: from here on, no row gets in.
        self.set_attempt(None);
        match (open, self.transactional) {
            (false, _) => Ok(()),
            (true, false) => {
                self.producer.purge();
                Ok(())
            }
            (true, true) => {
                let done = until(ABORT_LIMIT, || self.producer.abort(SLICE_MS));
                done.map_err(|e| self.refused("aborting a transaction", &e))
            }
        }
    }

    /// Throws away what was staged by an attempt.
    pub(super) async fn abort(self: &Arc<Self>, attempt: &str) -> Result<(), Refused> {
        let attempt = attempt.to_owned();
        self.blocking("aborting a transaction", move |session| {
            match session.has_begun(&attempt) {
                true => session.end_unfinished(),
                false => Ok(()),
            }
        })
        .await
    }

    /// Looks up the topics that rows name and that were not met yet.
    pub(super) async fn meet_topics(
        &self,
        rows: &Rows,
        client: &dyn KafkaClient,
        state_topic: &str,
    ) -> Result<()> {
        let unmet: Vec<(usize, String)> = rows
            .topics(&self.target)
            .filter(|(_, name)| !self.has_met(name))
            .map(|(row, name)| (row, name.to_owned()))
            .collect();
        for (row, name) in unmet {
            let refused = |reason: &str| {
                let place = place(rows.tag(row));
                Err(self
                    .trouble
                    .row(format!("{place}: topic '{name}' {reason}")))
            };
            if name == state_topic {
                return refused("holds what jobs have committed and cannot take rows");
            }
            if self.has_met(&name) {
                continue;
            }
            let shared: Arc<str> = name.as_str().into();
            let Some(partitions) = known_topic(client, &shared).await? else {
                return refused("does not exist: create it, the sink creates no topics for rows");
            };
            let topic = Topic::new(self.producer.handle(), &name)
                .map_err(|reason| self.trouble.sink("writing rows", &reason, false))?;
            let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
            met.insert(name, Arc::new(Met { topic, partitions }));
        }
        Ok(())
    }

    fn has_met(&self, topic: &str) -> bool {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.contains_key(topic)
    }

    /// Queues rows from `first` on, until the queue is full. Waits for nothing.
    pub(super) fn send(&self, attempt: &str, rows: &Rows, first: usize) -> Result<Sent, Refused> {
        let current = self.attempt.read().unwrap_or_else(PoisonError::into_inner);
        if current.as_deref() != Some(attempt) {
            let reason = "the attempt was ended meanwhile";
            return Err(self.plain(self.trouble.sink("writing rows", reason, true)));
        }
        if let Some(message) = self.producer.serve() {
            return Err(self.undelivered(&message));
        }
        let mut bytes = 0;
        let mut met: Option<(&str, Arc<Met>)> = None;
        for row in first..rows.len() {
            let record = rows.record(row);
            let record = record.map_err(|e| self.plain(self.trouble.row(e)))?;
            let name = record.topic.unwrap_or(&self.target);
            if met.as_ref().is_none_or(|(last, _)| *last != name) {
                let all = self.met.lock().unwrap_or_else(PoisonError::into_inner);
                let found = all.get(name).cloned().ok_or_else(|| {
                    let reason = format!("topic '{name}' was not looked up");
                    self.plain(self.trouble.row(reason))
                })?;
                met = Some((name, found));
            }
            let Some((_, met)) = &met else { continue };
            if let Some(partition) = record.partition
                && usize::try_from(partition).is_ok_and(|p| p >= met.partitions)
            {
                return Err(self.plain(self.trouble.row(format!(
                    "{}: {name}[{partition}] does not exist, the topic has {} partitions",
                    place(rows.tag(row)),
                    met.partitions
                ))));
            }
            let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            match self.producer.send(Outgoing {
                topic: &met.topic,
                partition: record.partition,
                key: record.key,
                value: record.value,
                timestamp_ms: record.timestamp_ms,
                headers: record.headers,
                tag: rows.tag(row),
            }) {
                Ok(()) => bytes += size as u64,
                Err(code::QUEUE_FULL) => return Ok(Sent::UpTo { row, bytes }),
                Err(c) => {
                    let partition = record.partition.unwrap_or(-1);
                    return Err(self.not_queued(rows.tag(row), name, partition, c));
                }
            }
        }
        Ok(Sent::All { bytes })
    }

    /// Writes who owns the job's records now: what tells a fenced producer by whom.
    pub(super) async fn own(self: &Arc<Self>) -> Result<(), Refused> {
        self.blocking("opening the sink", |session| {
            let batch = session.recorded().map(|committed| committed.batch);
            let record = state::job_record(&session.job, &session.target, &session.owner, batch);
            session.begin_now(None)?;
            session.finish("opening the sink", &[record], false)
        })
        .await
    }

    /// Commits what the attempt staged, and the ends.
    pub(super) async fn commit(self: &Arc<Self>, batch: &BatchRanges) -> Result<(), Refused> {
        let batch = batch.clone();
        let operation = format!("committing batch {}", batch.batch);
        self.blocking(&operation.clone(), move |session| {
            if !session.has_begun(&batch.attempt) {
                session.end_unfinished()?;
                session.begin_now(Some(batch.attempt.clone()))?;
            }
            let records = state::records(&session.target, &session.owner, &batch);
            let finished = session.finish(&operation, &records, true);
            session.set_attempt(None);
            finished?;
            let mut ends = session.recorded().map(|c| c.ends).unwrap_or_default();
            ends.extend(batch.ends());
            session.record(Some(Committed {
                batch: batch.batch,
                ends,
            }));
            Ok(())
        })
        .await
    }

    /// Delivers all that is queued and the records, and commits.
    fn finish(
        &self,
        operation: &str,
        records: &[state::Record],
        points: bool,
    ) -> Result<(), Refused> {
        let delivered = self
            .deliver(operation, if self.transactional { records } else { &[] })
            // Without transactions, the ends must not be there before the rows.
            .and_then(|()| match self.transactional {
                true => Ok(()),
                false => self.deliver(operation, records),
            });
        if let Err(refused) = delivered {
            if self.transactional {
                // Readers are not to wait for the next open. If it fails, that one aborts.
                let _ = until(ABORT_LIMIT, || self.producer.abort(SLICE_MS));
            }
            return Err(refused);
        }
        if points {
            crate::fault::point("kafka-before-commit");
        }
        if self.transactional {
            let done = until(COMMIT_LIMIT, || self.producer.commit(SLICE_MS));
            if let Err(error) = done {
                let refused = self.refused(operation, &error);
                let _ = until(ABORT_LIMIT, || self.producer.abort(SLICE_MS));
                return Err(refused);
            }
        }
        if points {
            crate::fault::point("kafka-after-commit");
        }
        Ok(())
    }

    /// Queues records of the state topic and waits until the brokers have all there is.
    fn deliver(&self, operation: &str, records: &[state::Record]) -> Result<(), Refused> {
        let begun = Instant::now();
        let waits = || {
            if let Some(message) = self.producer.serve() {
                return Err(self.undelivered(&message));
            }
            if let Some((c, reason)) = self.producer.fatal() {
                return Err(self.fatal(operation, c, &reason));
            }
            if begun.elapsed() > COMMIT_LIMIT {
                let reason = format!("the brokers did not take all rows in {COMMIT_LIMIT:?}");
                return Err(self.plain(self.trouble.sink(operation, &reason, true)));
            }
            Ok(())
        };
        for record in records {
            loop {
                let sent = self.producer.send(Outgoing {
                    topic: &self.state_topic,
                    partition: Some(0),
                    key: Some(&record.key),
                    value: Some(&record.value),
                    timestamp_ms: None,
                    headers: None,
                    tag: NO_ROW,
                });
                match sent {
                    Ok(()) => break,
                    Err(code::QUEUE_FULL) => {
                        waits()?;
                        self.producer.flush(10);
                    }
                    Err(c) => return Err(self.not_queued(NO_ROW, "the state topic", -1, c)),
                }
            }
        }
        while !self.producer.flush(SLICE_MS) {
            waits()?;
        }
        waits()
    }

    /// Runs what waits for brokers where it may, with the turn.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &str,
        work: impl FnOnce(&Self) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let session = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&session)
        });
        done.await
            .unwrap_or_else(|e| Err(self.plain(self.trouble.sink(operation, &e.to_string(), true))))
    }
}

/// Calls again while the call says that it may be called again.
fn until(
    limit: Duration,
    mut call: impl FnMut() -> Result<(), TransactionError>,
) -> Result<(), TransactionError> {
    let begun = Instant::now();
    loop {
        match call() {
            Err(error) if error.retriable && begun.elapsed() < limit => {}
            done => return done,
        }
    }
}
