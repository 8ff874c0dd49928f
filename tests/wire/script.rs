//! What a test makes the fake brokers do wrong, and when.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{
    ApiKey, DescribeConfigsResponse, FetchResponse, ListOffsetsResponse, MetadataResponse,
    OffsetForLeaderEpochResponse,
};

use super::broker::{FakeCluster, State};

/// How an answer reaches the client, if at all.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// The connection closes instead.
    Close,
    /// The connection closes after this many bytes of the answer.
    CloseAfter(usize),
    /// There is no answer.
    Silence,
    /// Nothing comes after this many bytes of the answer.
    SilenceAfter(usize),
    /// The answer comes later.
    Late(Duration),
    /// These bytes replace the answer.
    Bytes(Vec<u8>),
    /// These bytes follow the answer's correlation id.
    Body(Vec<u8>),
    /// The answer has another correlation id.
    OtherId,
    /// The answer comes in pieces of this many bytes.
    Pieces(usize),
    /// The answer comes, but the connection's next request stays unread for this long, as when brokers
    /// throttle a client (KIP-219).
    Hold(Duration),
}

/// An answer before it is encoded.
pub enum Answer {
    Metadata(MetadataResponse),
    Offsets(ListOffsetsResponse),
    Fetch(FetchResponse),
    Configs(DescribeConfigsResponse),
    Epochs(OffsetForLeaderEpochResponse),
}

pub type Change = dyn Fn(&mut State) + Send + Sync;
pub type Edit = dyn Fn(&mut Answer) + Send + Sync;

/// A change to what happens on a request.
#[derive(Clone)]
pub enum Act {
    /// The cluster changes before the answer.
    Change(Arc<Change>),
    /// The answer changes.
    Edit(Arc<Edit>),
    Deliver(Delivery),
}

/// Which requests an act applies to.
pub struct Rule {
    pub api: ApiKey,
    pub node: Option<i32>,
    /// How many requests to skip first.
    pub skip: usize,
    /// How many requests it applies to.
    pub times: usize,
    /// Of these, it only applies to each n-th one.
    pub every: usize,
    pub seen: usize,
    pub act: Act,
}

impl Rule {
    /// Counts a request. Returns the act if it applies.
    pub fn meet(&mut self, api: ApiKey, node: i32) -> Option<Act> {
        if self.api != api || self.node.is_some_and(|n| n != node) {
            return None;
        }
        let number = self.seen;
        self.seen += 1;
        let meant = number >= self.skip
            && number - self.skip < self.times
            && (number - self.skip).is_multiple_of(self.every);
        meant.then(|| self.act.clone())
    }
}

/// A rule under construction. By default it applies to the first request of the API.
pub struct When<'a> {
    pub cluster: &'a FakeCluster,
    pub api: ApiKey,
    pub node: Option<i32>,
    pub skip: usize,
    pub times: usize,
    pub every: usize,
}

impl When<'_> {
    /// Only requests to this node.
    pub fn at(self, node: i32) -> Self {
        let node = Some(node);
        Self { node, ..self }
    }

    /// Skips this many requests first.
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// Applies to this many consecutive requests.
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// Applies to the first one, and then to each n-th one.
    pub fn every(self, every: usize) -> Self {
        Self { every, ..self }.always()
    }

    pub fn deliver(self, delivery: Delivery) {
        self.act(Act::Deliver(delivery));
    }

    pub fn change(self, change: impl Fn(&mut State) + Send + Sync + 'static) {
        self.act(Act::Change(Arc::new(change)));
    }

    /// Edits answers to Fetch.
    pub fn fetch(self, edit: impl Fn(&mut FetchResponse) + Send + Sync + 'static) {
        self.act(Act::Edit(Arc::new(move |answer| {
            if let Answer::Fetch(answer) = answer {
                edit(answer);
            }
        })));
    }

    /// Edits each partition in answers to Fetch.
    pub fn parts(self, edit: impl Fn(&mut PartitionData) + Send + Sync + 'static) {
        self.fetch(move |answer| {
            let topics = answer.responses.iter_mut();
            topics.flat_map(|t| &mut t.partitions).for_each(&edit);
        });
    }

    /// Refuses each partition in answers to Fetch.
    pub fn refuse(self, code: i16) {
        self.parts(move |part| {
            part.error_code = code;
            part.records = None;
        });
    }

    /// Edits answers to ListOffsets.
    pub fn offsets(self, edit: impl Fn(&mut ListOffsetsResponse) + Send + Sync + 'static) {
        self.act(Act::Edit(Arc::new(move |answer| {
            if let Answer::Offsets(answer) = answer {
                edit(answer);
            }
        })));
    }

    /// Edits answers to Metadata.
    pub fn metadata(self, edit: impl Fn(&mut MetadataResponse) + Send + Sync + 'static) {
        self.act(Act::Edit(Arc::new(move |answer| {
            if let Answer::Metadata(answer) = answer {
                edit(answer);
            }
        })));
    }

    fn act(self, act: Act) {
        let rule = Rule {
            api: self.api,
            node: self.node,
            skip: self.skip,
            times: self.times,
            every: self.every,
            seen: 0,
            act,
        };
        self.cluster.state().rules.push(rule);
    }
}
