//! Answers for streams that have no connection: received whole, in a task of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::messages::FetchRequest;
use tokio::task::JoinHandle;

use super::Attempt;
use super::fetch::{SILENCE_MOST, within};
use super::plan::FETCH_BY_ID;
use crate::client::wire::cluster::{Broker, Cluster};
use crate::client::wire::connection::{FRAME_HEAD, Trouble, frame_head};
use crate::client::wire::decode::{FETCH_VERSION_MOST, throttle_of};

/// Streams that take turns hold an answer whole, so that theirs are smaller.
pub(super) const TURN_BYTES: usize = 256 << 10;

/// One answer for a stream that has no connection.
pub(super) struct Turn {
    pub(super) cluster: Arc<Cluster>,
    pub(super) broker: Arc<Broker>,
    /// By topic name, and by topic id.
    pub(super) requests: [FetchRequest; 2],
    /// Take a new connection, because an unused one may be broken.
    pub(super) fresh: bool,
}

impl Turn {
    /// Waits for the turn, and starts the task. The task ends soon on a silent broker, also if its owner is
    /// not polled, so that the turn goes on to others.
    pub(super) async fn start(self) -> Task {
        let turns = Arc::clone(&self.broker.turns);
        // The semaphore is never closed; without a permit there would only be one more connection.
        let turn = turns.acquire_owned().await.ok();
        let arrived = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&arrived);
        let handle = tokio::spawn(async move {
            let _turn = turn;
            self.take(&count).await
        });
        Task { handle, arrived }
    }

    async fn take(self, arrived: &AtomicUsize) -> Attempt<Taken> {
        let leased = async {
            match self.fresh {
                true => self.cluster.dial(&self.broker).await,
                false => Ok(self.cluster.lease(&self.broker).await?.0),
            }
        };
        let mut lease = within(SILENCE_MOST, leased).await?;
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
            within(SILENCE_MOST, connection.receive(&mut buffer)).await?;
            arrived.store(buffer.len(), Ordering::Relaxed);
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
pub(super) struct Taken {
    /// The answer behind its correlation id.
    pub(super) buffer: BytesMut,
    pub(super) version: i16,
    /// From the request to the first bytes of the answer.
    pub(super) took: Duration,
}

/// A task that ends with its owner.
pub(super) struct Task {
    handle: JoinHandle<Attempt<Taken>>,
    arrived: Arc<AtomicUsize>,
}

impl Task {
    /// The bytes of the answer that have arrived.
    pub(super) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::Relaxed)
    }

    /// May be waited for again, unless it has come.
    pub(super) async fn outcome(&mut self) -> Attempt<Taken> {
        match (&mut self.handle).await {
            Ok(outcome) => outcome,
            Err(e) => Err(Trouble::Io(format!("the read was stopped: {e}"))),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
