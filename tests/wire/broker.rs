//! Fake brokers. They behave like real ones, until a script makes them do something else.
//!
//! A [`FakeCluster`] has a port for each node and lives in its test's runtime. Like a broker it
//! - answers the requests on a connection one after another;
//! - refuses partitions that it does not lead, other epochs, offsets outside its log, and unknown topic ids;
//! - sends at least one whole record batch, and cuts off the last one at the limit of bytes;
//! - hides offsets behind an open transaction from committed readers, and lists aborted transactions.
//!
//! It records every Fetch, so that a test can tell what a result has cost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, DescribeConfigsRequest, FetchRequest, ListOffsetsRequest,
    MetadataRequest, OffsetForLeaderEpochRequest, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use super::answers;
use super::log::Log;
use super::script::{Act, Answer, Delivery, Rule, When};

/// The request versions of a broker, by its release of Apache Kafka or by the service that it is. Where those of
/// the services come from stands in docs/brokers.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    V0_10,
    V1_0,
    V2_1,
    V2_8,
    V3_1,
    V4_1,
    EventHubs,
    Redpanda,
    /// WarpStream, and StreamNative's Ursa engine: a newer Kafka without OffsetForLeaderEpoch.
    Leaderless,
    /// Answers OffsetForLeaderEpoch with zeros, whatever it is asked.
    ZeroEpochs,
}

impl Release {
    pub fn versions(self) -> Vec<(ApiKey, i16, i16)> {
        let (fetch, offsets, metadata, versions) = match self {
            Self::V0_10 => (3, 1, 2, 0),
            Self::V1_0 => (6, 2, 5, 1),
            Self::V2_1 => (10, 4, 7, 2),
            Self::V2_8 => (12, 6, 11, 3),
            Self::V3_1 | Self::Leaderless => (13, 7, 12, 3),
            Self::V4_1 => (17, 10, 13, 4),
            Self::EventHubs => (6, 7, 5, 3),
            Self::Redpanda => (11, 3, 7, 3),
            // Fetch does not compare epochs itself yet.
            Self::ZeroEpochs => (11, 6, 11, 3),
        };
        let mut known = vec![
            (ApiKey::Fetch, fetch.min(4), fetch),
            (ApiKey::ListOffsets, 1, offsets),
            (ApiKey::Metadata, 0, metadata),
            (ApiKey::ApiVersions, 0, versions),
            // Never sent, but librdkafka derives from it which message formats a broker knows.
            (ApiKey::Produce, 3, 7),
        ];
        if self != Self::EventHubs {
            known.push((ApiKey::DescribeConfigs, 0, 1));
        }
        if matches!(self, Self::Redpanda | Self::ZeroEpochs) {
            known.push((ApiKey::OffsetForLeaderEpoch, 0, 3));
        }
        known
    }
}

/// What the brokers hold, how they should behave, and what they saw.
#[derive(Default)]
pub struct State {
    pub nodes: Vec<Node>,
    pub topics: BTreeMap<String, Topic>,
    pub rules: Vec<Rule>,
    pub fetches: Vec<SeenFetch>,
    /// Requests by API.
    pub requests: BTreeMap<i16, usize>,
    /// The connections open now; below, the most that were ever open.
    pub open: usize,
    pub open_most: usize,
}

pub struct Node {
    pub id: i32,
    pub port: u16,
    pub rack: String,
    pub release: Release,
    /// Closes every connection.
    pub down: bool,
}

pub struct Topic {
    pub id: Uuid,
    pub partitions: Vec<Partition>,
    pub cleanup_policy: &'static str,
}

#[derive(Default)]
pub struct Partition {
    pub leader: i32,
    pub epoch: i32,
    /// Other nodes that hold the log.
    pub followers: Vec<i32>,
    /// Every node serves the partition, whichever is called its leader.
    pub anywhere: bool,
    pub log: Log,
}

/// A Fetch, as it was received.
#[derive(Debug, Clone)]
pub struct SeenFetch {
    pub node: i32,
    pub version: i16,
    pub max_bytes: i32,
    pub parts: Vec<SeenPart>,
}

/// What a Fetch requested of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPart {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// The leader epoch of the record before the position, as the client knows it.
    pub last_epoch: i32,
    pub max_bytes: i32,
}

/// See the module's documentation.
pub struct FakeCluster {
    shared: Arc<Mutex<State>>,
}

impl FakeCluster {
    /// Starts nodes 1, 2, …, each with its release.
    pub async fn start(releases: &[Release]) -> Self {
        let shared: Arc<Mutex<State>> = Arc::default();
        for (id, release) in (1..).zip(releases) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            shared.lock().unwrap().nodes.push(Node {
                id,
                port: listener.local_addr().unwrap().port(),
                rack: format!("rack-{id}"),
                release: *release,
                down: false,
            });
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    tokio::spawn(serve(Arc::clone(&shared), id, stream));
                }
            });
        }
        Self { shared }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap()
    }

    /// `host:port` of all nodes.
    pub fn bootstrap(&self) -> String {
        let state = self.state();
        let hosts = state.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port));
        hosts.collect::<Vec<_>>().join(",")
    }

    /// Creates a topic with these logs. Node 1 leads the first, and so on.
    pub fn create(&self, name: &str, logs: Vec<Log>) {
        self.state().create(name, logs);
    }

    /// Selects requests, to change what happens to them.
    pub fn on(&self, api: ApiKey) -> When<'_> {
        When {
            cluster: self,
            api,
            node: None,
            skip: 0,
            times: 1,
            every: 1,
        }
    }

    /// Selects the first Fetch, unless refined.
    pub fn on_fetch(&self) -> When<'_> {
        self.on(ApiKey::Fetch)
    }

    /// The Fetches so far.
    pub fn fetches(&self) -> Vec<SeenFetch> {
        self.state().fetches.clone()
    }
}

impl State {
    pub fn create(&mut self, name: &str, logs: Vec<Log>) {
        let nodes: Vec<i32> = self.nodes.iter().map(|n| n.id).collect();
        let partition = |(number, log): (usize, Log)| Partition {
            leader: nodes[number % nodes.len()],
            epoch: 5,
            followers: Vec::new(),
            anywhere: false,
            log,
        };
        let id = Uuid::new_v4();
        let partitions = logs.into_iter().enumerate().map(partition).collect();
        let topic = Topic {
            id,
            partitions,
            cleanup_policy: "compact",
        };
        self.topics.insert(name.to_owned(), topic);
    }

    pub fn partition(&mut self, topic: &str, partition: i32) -> &mut Partition {
        let topic = self.topics.get_mut(topic).unwrap();
        &mut topic.partitions[usize::try_from(partition).unwrap()]
    }

    /// Makes another node lead partition 0 from now on, in a new epoch.
    pub fn move_leader(&mut self, topic: &str, to: i32) {
        let partition = self.partition(topic, 0);
        partition.leader = to;
        partition.epoch += 1;
    }

    pub fn node(&mut self, id: i32) -> &mut Node {
        self.nodes.iter_mut().find(|n| n.id == id).unwrap()
    }

    /// The changes that apply to a request.
    fn acts(&mut self, api: ApiKey, node: i32) -> Vec<Act> {
        let met = self.rules.iter_mut().filter_map(|r| r.meet(api, node));
        let acts: Vec<Act> = met.collect();
        for act in &acts {
            if let Act::Change(change) = act {
                change(self);
            }
        }
        acts
    }
}

/// Counts a connection while it is open.
struct Open(Arc<Mutex<State>>);

impl Open {
    fn new(shared: &Arc<Mutex<State>>) -> Self {
        let mut state = shared.lock().unwrap();
        state.open += 1;
        state.open_most = state.open_most.max(state.open);
        drop(state);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // If a test failed while holding the lock, its own message matters more.
        if let Ok(mut state) = self.0.lock() {
            state.open -= 1;
        }
    }
}

/// Answers the requests on a connection until it ends.
async fn serve(shared: Arc<Mutex<State>>, node: i32, mut stream: TcpStream) {
    let _open = Open::new(&shared);
    loop {
        let mut size = [0; 4];
        if stream.read_exact(&mut size).await.is_err() {
            return;
        }
        let size = usize::try_from(i32::from_be_bytes(size)).unwrap();
        let mut request = vec![0; size];
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let Some((answer, delivery)) = answer(&shared, node, request.into()) else {
            return;
        };
        if deliver(&mut stream, answer, delivery).await.is_none() {
            return;
        }
    }
}

/// Delivers an answer as the script says; `None` if the connection cannot be used afterwards.
async fn deliver(
    stream: &mut TcpStream,
    mut answer: Vec<u8>,
    delivery: Option<Delivery>,
) -> Option<()> {
    match delivery {
        Some(Delivery::Close) => return None,
        Some(Delivery::CloseAfter(bytes)) => {
            let bytes = bytes.min(answer.len() - 1);
            stream.write_all(&answer[..bytes]).await.ok()?;
            return None;
        }
        Some(Delivery::Silence) => return silence(stream).await,
        Some(Delivery::SilenceAfter(bytes)) => {
            let bytes = bytes.min(answer.len() - 1);
            stream.write_all(&answer[..bytes]).await.ok()?;
            return silence(stream).await;
        }
        Some(Delivery::Late(time)) => tokio::time::sleep(time).await,
        Some(Delivery::Hold(time)) => {
            stream.write_all(&answer).await.ok()?;
            tokio::time::sleep(time).await;
            return Some(());
        }
        Some(Delivery::Bytes(bytes)) => answer = bytes,
        Some(Delivery::Body(bytes)) => {
            answer.splice(8.., bytes);
            let size = i32::try_from(answer.len() - 4).unwrap();
            answer[..4].copy_from_slice(&size.to_be_bytes());
        }
        Some(Delivery::OtherId) => answer[7] ^= 0x55,
        Some(Delivery::Pieces(bytes)) => {
            for piece in answer.chunks(bytes) {
                stream.write_all(piece).await.ok()?;
                tokio::task::yield_now().await;
            }
            return Some(());
        }
        None => {}
    }
    stream.write_all(&answer).await.ok()
}

/// Waits until the client gives up.
async fn silence(stream: &mut TcpStream) -> Option<()> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
    None
}

/// The answer to a request with its length, and how to deliver it; `None` closes the connection.
fn answer(
    shared: &Mutex<State>,
    node: i32,
    mut request: Bytes,
) -> Option<(Vec<u8>, Option<Delivery>)> {
    let api = ApiKey::try_from(i16::from_be_bytes([request[0], request[1]])).unwrap();
    let version = i16::from_be_bytes([request[2], request[3]]);
    let correlation = i32::from_be_bytes(request[4..8].try_into().unwrap());
    let mut state = shared.lock().unwrap();
    if state.node(node).down {
        return None;
    }
    *state.requests.entry(api as i16).or_default() += 1;
    let known = state.node(node).release.versions();
    let known = known.iter().find(|(key, ..)| *key == api);
    let knows = known.is_some_and(|(_, min, max)| (*min..=*max).contains(&version));
    if !knows && api != ApiKey::ApiVersions {
        // As brokers do.
        return None;
    }
    let acts = state.acts(api, node);
    let header = if knows {
        api.request_header_version(version)
    } else {
        1
    };
    RequestHeader::decode(&mut request, header).unwrap();
    let mut answer = match api {
        ApiKey::ApiVersions => {
            if knows {
                ApiVersionsRequest::decode(&mut request, version).unwrap();
            }
            let version = if knows { version } else { 0 };
            let answer = answers::versions(state.node(node).release, knows);
            let delivery = delivery(acts);
            return Some((frame(correlation, version, &answer), delivery));
        }
        ApiKey::Metadata => {
            let request = MetadataRequest::decode(&mut request, version).unwrap();
            Answer::Metadata(answers::metadata(&state, &request, version))
        }
        ApiKey::ListOffsets => {
            let request = ListOffsetsRequest::decode(&mut request, version).unwrap();
            Answer::Offsets(answers::offsets(&state, node, &request, version))
        }
        ApiKey::Fetch => {
            let request = FetchRequest::decode(&mut request, version).unwrap();
            let seen = answers::seen(&state, node, &request, version);
            state.fetches.push(seen);
            Answer::Fetch(answers::fetch(&state, node, &request, version))
        }
        ApiKey::DescribeConfigs => {
            let request = DescribeConfigsRequest::decode(&mut request, version).unwrap();
            Answer::Configs(answers::configs(&state, &request))
        }
        ApiKey::OffsetForLeaderEpoch => {
            let request = OffsetForLeaderEpochRequest::decode(&mut request, version).unwrap();
            let zeros = state.node(node).release == Release::ZeroEpochs;
            Answer::Epochs(answers::epochs(&state, node, &request, zeros))
        }
        other => panic!("a {other:?} request, which the fake broker does not know"),
    };
    // librdkafka's Metadata may contain a field that this version no longer has. Brokers ignore it.
    assert!(
        !request.has_remaining() || api == ApiKey::Metadata,
        "{api:?} v{version} has bytes left"
    );
    drop(state);
    for act in &acts {
        if let Act::Edit(edit) = act {
            edit(&mut answer);
        }
    }
    let bytes = match &answer {
        Answer::Metadata(answer) => frame(correlation, version, answer),
        Answer::Offsets(answer) => frame(correlation, version, answer),
        Answer::Fetch(answer) => frame(correlation, version, answer),
        Answer::Configs(answer) => frame(correlation, version, answer),
        Answer::Epochs(answer) => frame(correlation, version, answer),
    };
    Some((bytes, delivery(acts)))
}

fn delivery(acts: Vec<Act>) -> Option<Delivery> {
    acts.into_iter().find_map(|act| match act {
        Act::Deliver(delivery) => Some(delivery),
        _ => None,
    })
}

fn frame<R: Encodable + HeaderVersion>(correlation: i32, version: i16, answer: &R) -> Vec<u8> {
    let mut frame = BytesMut::from(&[0; 4][..]);
    ResponseHeader::default()
        .with_correlation_id(correlation)
        .encode(&mut frame, R::header_version(version))
        .unwrap();
    answer.encode(&mut frame, version).unwrap();
    let size = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame.into()
}
