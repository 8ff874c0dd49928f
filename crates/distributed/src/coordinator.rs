//! The coordinator: which workers there are, and sessions that plan for them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion_distributed::{DistributedExt, SessionStateBuilderExt, WorkerResolver};
use datafusion_kafka::client::{Broker, TopicSelection};
use datafusion_kafka::scan::{
    ASSUMED_BYTES_PER_OFFSET, KafkaScanExec, NoOrder, PartitionBytes, ScanPiece,
};
use datafusion_kafka::{Error, Result};
use futures::future::join_all;
use url::{Host, Url};

use crate::VERSION;
use crate::codec::TaskCodec;
use crate::link::{Channels, Link};
use crate::nodes::address;
use crate::placement::{hash, in_streams, keyed, place};
use crate::planner::{Planner, desired_tasks, route, scale_up};
use crate::remembered::Remembered;
use crate::service::{Hello, hello};

/// How long workers and racks are taken for what they were.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// Where the addresses of workers come from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Workers {
    /// These, each `host:port`.
    Listed(Vec<String>),
    /// A file with an address a line, which is read again.
    File(PathBuf),
    /// All addresses of a name, `host:port`, such as a headless service of Kubernetes.
    Name(String),
}

impl Workers {
    /// The addresses in a text: `h1:p,h2:p`, `file:PATH` or `dns:NAME:PORT`.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("file:") {
            return Self::File(path.into());
        }
        match text.strip_prefix("dns:") {
            Some(name) => Self::Name(name.to_owned()),
            None => Self::Listed(listed(text.split(','))),
        }
    }

    fn addresses(&self) -> Result<Vec<String>> {
        let refused = |what: String, e: std::io::Error| {
            Error::config("workers", format!("{what}: {e}")).because(e)
        };
        Ok(match self {
            Self::Listed(all) => all.clone(),
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| refused(path.display().to_string(), e))?;
                listed(
                    text.lines()
                        .map(|line| line.split('#').next().unwrap_or("")),
                )
            }
            Self::Name(name) => {
                let all = name
                    .to_socket_addrs()
                    .map_err(|e| refused(name.clone(), e))?;
                all.map(|address| address.to_string()).collect()
            }
        })
    }
}

fn listed<'a>(all: impl Iterator<Item = &'a str>) -> Vec<String> {
    let all = all.map(str::trim).filter(|text| !text.is_empty());
    all.map(str::to_owned).collect()
}

/// How a coordinator works.
#[derive(Debug, Clone)]
pub struct CoordinatorOptions {
    /// Where the workers are.
    pub workers: Workers,
    /// How they are reached.
    pub link: Link,
    /// The offsets that are worth a task of their own. A statement with fewer runs on the coordinator.
    pub offsets_per_task: u64,
    /// How often a statement is run again when a worker is lost before any of its rows was handed on.
    pub retries: usize,
}

impl CoordinatorOptions {
    /// The defaults, with these workers.
    pub fn new(workers: Workers) -> Self {
        Self {
            workers,
            link: Link::default(),
            offsets_per_task: 200_000,
            retries: 0,
        }
    }
}

/// A worker that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Where it is.
    pub url: Url,
    /// Its rack, as brokers have theirs.
    pub rack: Option<String>,
    /// Its host, as brokers on the same machine advertise theirs.
    pub host: String,
    /// How many streams a task gets.
    pub cores: usize,
}

impl WorkerInfo {
    pub(crate) fn hash(&self) -> u64 {
        hash(self.url.as_str())
    }

    pub(crate) fn is_on_this_machine(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
    }
}

/// Plans statements for workers. Clones share what is known of them.
#[derive(Clone)]
pub struct Coordinator {
    pub(crate) options: Arc<CoordinatorOptions>,
    pub(crate) channels: Channels,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    workers: Vec<WorkerInfo>,
    asked: Option<Instant>,
    /// By the name of a cluster's connection.
    brokers: BTreeMap<String, (Instant, BTreeMap<i32, Broker>)>,
    /// By the name of a cluster's connection.
    partitions: BTreeMap<String, Remembered>,
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Coordinator {
    /// Asks the workers who they are.
    ///
    /// # Errors
    /// When none answers, one refuses the token, or one has another version.
    pub async fn connect(options: CoordinatorOptions) -> Result<Self> {
        let coordinator = Self {
            channels: Channels::new(options.link.clone()),
            options: Arc::new(options),
            known: Arc::default(),
        };
        coordinator.workers(true).await?;
        Ok(coordinator)
    }

    /// One that knows these workers without having asked them.
    #[cfg(test)]
    pub(crate) fn of_workers(workers: Vec<WorkerInfo>) -> Self {
        let options = CoordinatorOptions::new(Workers::Listed(vec![]));
        let coordinator = Self {
            channels: Channels::new(options.link.clone()),
            options: Arc::new(options),
            known: Arc::default(),
        };
        coordinator.set_workers(workers);
        coordinator
    }

    #[cfg(test)]
    pub(crate) fn set_workers(&self, workers: Vec<WorkerInfo>) {
        let mut known = self.known();
        (known.workers, known.asked) = (workers, Some(Instant::now()));
    }

    /// The session plans for the workers.
    pub fn apply(&self, mut builder: SessionStateBuilder) -> SessionStateBuilder {
        let config = builder.config().get_or_insert_default();
        config.set_extension(Arc::new(NoOrder));
        builder
            .with_distributed_user_codec(TaskCodec::default())
            .with_distributed_channel_resolver(self.channels.clone())
            .with_distributed_worker_resolver(self.clone())
            .with_distributed_desired_task_count_handler(desired_tasks(self))
            .with_distributed_scale_up_leaf_node_handler(scale_up(self))
            .with_distributed_route_tasks_handler(route)
            .with_distributed_planner()
            .with_query_planner(Arc::new(Planner::new(self)))
    }

    /// The workers that answer. They are asked `again`, or when what is known of them is old.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn workers(&self, again: bool) -> Result<Vec<WorkerInfo>> {
        {
            let known = self.known();
            let fresh = known.asked.is_some_and(|asked| asked.elapsed() < KNOWN_FOR);
            if fresh && !again {
                return Ok(known.workers.clone());
            }
        }
        let tls = self.options.link.is_tls();
        let mut urls = vec![];
        for address in self.options.workers.addresses()? {
            let scheme = if tls { "https" } else { "http" };
            let has_port = address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            let url = Url::parse(&format!("{scheme}://{address}"));
            let url = url.ok().filter(|_| has_port);
            urls.push(url.ok_or_else(|| {
                Error::config("workers", format!("expected host:port, found '{address}'"))
            })?);
        }
        let asked = join_all(urls.iter().map(|url| self.hello(url))).await;
        let mut workers = vec![];
        let mut silent = vec![];
        for (url, answer) in urls.into_iter().zip(asked) {
            match answer {
                Ok(Hello { version, .. }) if version != VERSION => {
                    return Err(Error::invalid(format!(
                        "worker {} has version {version}, this is version {VERSION}: run the same on all machines",
                        address(&url)
                    )));
                }
                Ok(Hello { token: false, .. }) if self.options.link.token.is_some() => {
                    return Err(Error::Authentication {
                        hosts: address(&url),
                        reason: "the worker asks for no token, so others would give it no rows: start it with \
                                 the token"
                            .to_owned(),
                    });
                }
                // It finishes what it has.
                Ok(Hello { leaving: true, .. }) => {
                    silent.push(format!("worker {} is about to end", address(&url)));
                }
                Ok(Hello {
                    rack, host, cores, ..
                }) => {
                    let host = match host.is_empty() {
                        true => url.host_str().unwrap_or_default().to_owned(),
                        false => host,
                    };
                    workers.push(WorkerInfo {
                        url,
                        rack,
                        host,
                        cores,
                    });
                }
                Err(refused @ Error::Authentication { .. }) => return Err(refused),
                Err(error) => {
                    log::warn!("{error}");
                    silent.push(error.to_string());
                }
            }
        }
        if workers.is_empty() {
            return Err(Error::Unavailable {
                operation: "finding workers".to_owned(),
                reason: match silent.is_empty() {
                    true => "there are none in the list".to_owned(),
                    false => silent.join("; "),
                },
            });
        }
        let mut known = self.known();
        known.workers.clone_from(&workers);
        known.asked = Some(Instant::now());
        Ok(workers)
    }

    async fn hello(&self, url: &Url) -> Result<Hello> {
        hello(self.channels.get(url)?, url).await
    }

    /// The workers are asked again before the next plan.
    pub(crate) fn forget(&self) {
        self.known().asked = None;
    }

    /// What was known last.
    pub(crate) fn known_workers(&self) -> Vec<WorkerInfo> {
        self.known().workers.clone()
    }

    /// Learns the brokers of the scan's cluster, with their hosts and racks.
    pub(crate) async fn learn_brokers(&self, scan: &KafkaScanExec) -> Result<()> {
        let cluster = scan.cluster();
        let fresh = |known: &Known| {
            let of = known.brokers.get(&cluster);
            of.is_some_and(|(asked, _)| asked.elapsed() < KNOWN_FOR)
        };
        if fresh(&self.known()) {
            return Ok(());
        }
        let described = scan.client().describe(TopicSelection::Named(&[])).await?;
        let brokers = described
            .brokers
            .into_iter()
            .map(|broker| (broker.id, broker));
        let brokers = (Instant::now(), brokers.collect());
        self.known().brokers.insert(cluster, brokers);
        Ok(())
    }

    pub(crate) fn brokers(&self, scan: &KafkaScanExec) -> BTreeMap<i32, Broker> {
        let known = self.known();
        let of = known.brokers.get(&scan.cluster());
        of.map(|(_, brokers)| brokers.clone()).unwrap_or_default()
    }

    /// The pieces of the scan for each of `tasks` workers, by their places among `workers`. A piece is a stream.
    pub(crate) fn place(
        &self,
        scan: &KafkaScanExec,
        tasks: usize,
        workers: &[WorkerInfo],
    ) -> Vec<(usize, Vec<ScanPiece>)> {
        let brokers = self.brokers(scan);
        let streams = workers.iter().take(tasks).map(|worker| worker.cores).sum();
        let mut known = self.known();
        let remembered = known.partitions.entry(scan.cluster()).or_default();
        let parts = scan.parts(streams, &remembered.bytes_per_offset());
        let last = |key: &_| remembered.worker(key);
        let placed = place(keyed(parts), tasks, workers, &brokers, last);
        for (worker, parts) in &placed {
            let hash = workers[*worker].hash();
            parts
                .iter()
                .for_each(|(key, _)| remembered.placed(key, hash));
        }
        drop(known);
        let most = scan.most_partitions_of_a_piece();
        let placed = placed.into_iter().map(|(worker, parts)| {
            let parts = parts.into_iter().map(|(_, part)| part).collect();
            (worker, in_streams(parts, workers[worker].cores, most))
        });
        placed.collect()
    }

    /// As many tasks as there is work for.
    pub(crate) fn tasks(&self, scan: &KafkaScanExec) -> usize {
        let each = self.options.offsets_per_task.max(1);
        let by_offsets = scan.offsets().div_ceil(each);
        let known = self.known();
        let by_bytes = known.partitions.get(&scan.cluster()).map_or(0, |known| {
            let bytes_of = known.bytes_per_offset();
            let ranges = scan.ranges().into_iter().flatten();
            let bytes =
                ranges.map(|range| range.len().unsigned_abs().saturating_mul(bytes_of(&range)));
            let bytes = bytes.fold(0, u64::saturating_add);
            bytes.div_ceil(each.saturating_mul(ASSUMED_BYTES_PER_OFFSET))
        });
        let tasks = usize::try_from(by_offsets.max(by_bytes)).unwrap_or(usize::MAX);
        tasks.clamp(1, known.workers.len().max(1))
    }

    /// Remembers how large the records are that a statement received of the scan.
    pub(crate) fn learn<'a>(
        &self,
        scan: &KafkaScanExec,
        received: impl Iterator<Item = &'a PartitionBytes>,
    ) {
        let mut known = self.known();
        let remembered = known.partitions.entry(scan.cluster()).or_default();
        remembered.learn(received);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkerResolver for Coordinator {
    fn get_urls(&self) -> std::result::Result<Vec<Url>, DataFusionError> {
        let workers = self.known_workers().into_iter();
        Ok(workers.map(|worker| worker.url).collect())
    }
}
