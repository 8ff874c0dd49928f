//! Connects to a cluster step by step, and says what is wrong and what to do about it.
//!
//! ```text
//! client ─▶ for each bootstrap server: name ─▶ connect ─▶ tls ─▶ protocol ─▶ login
//!        ─▶ cluster ─▶ brokers ─▶ releases, racks, leaders, replicas
//!        ─▶ for each topic: topic ─▶ offsets ─▶ settings ─▶ codec ─▶ read ─▶ clock
//!        ─▶ group
//! ```
//!
//! Connections are those of the [`WireClient`](super::WireClient), one step at a time. From `cluster` on, the client
//! that the settings ask for answers. A step that could not be reached is skipped, and says which one failed before.
//!
//! Nothing in the cluster changes. No finding contains a secret. Names and reasons come from brokers; they are
//! cut to a bounded length, and may contain what a terminal obeys.

mod certificate;
mod cluster;
mod connection;
mod finding;
mod release;
mod topic;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;

pub use self::finding::{Check, Finding, Outcome};
use super::wire::probe::{Probe, Prober};
use super::{ClientPool, ClusterDescription, KafkaClient};
use crate::config::ConnectionConfig;
use crate::error::{Error, ErrorKind, Result};

/// How many brokers are probed at once.
const AT_ONCE: usize = 16;
/// The most brokers to probe; a cluster may name any number.
const BROKERS_MOST: usize = 300;
/// The most names in a list.
const LISTED_MOST: usize = 20;

/// What to look at, besides the connection and the cluster.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Questions {
    /// The topics to be read.
    pub topics: Vec<Arc<str>>,
    /// A consumer group whose offsets a range names.
    pub group: Option<String>,
    /// The time limit of each step.
    pub step_limit: Duration,
}

impl Default for Questions {
    /// No topic and no group; five seconds a step.
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            group: None,
            step_limit: Duration::from_secs(5),
        }
    }
}

/// Examines the way to a cluster, and reports each finding as soon as it is known. `pool` makes the client.
///
/// Each step takes `step_limit` at most, and so does each request to the cluster.
///
/// ```no_run
/// # use kafka_arrow::client::ClientPool;
/// # use kafka_arrow::client::diagnose::{Outcome, Questions, diagnose};
/// # use kafka_arrow::config::ConnectionConfig;
/// # async fn example() {
/// let config = ConnectionConfig::new("localhost:9092");
/// let pool = ClientPool::global();
/// diagnose(&config, &pool, &Questions::default(), |finding| {
///     if finding.outcome == Outcome::Failed {
///         eprintln!("{} {}: {}", finding.check, finding.subject, finding.text);
///     }
/// })
/// .await;
/// # }
/// ```
pub async fn diagnose(
    config: &ConnectionConfig,
    pool: &ClientPool,
    questions: &Questions,
    mut tell: impl FnMut(Finding) + Send,
) {
    let limit = questions.step_limit.max(Duration::from_millis(1));
    let made = Prober::new(config, limit).and_then(|p| Ok((p, reader(config, pool, limit)?)));
    let (prober, client) = match made {
        Ok(made) => made,
        Err(error) => {
            tell(Finding::of_error(Check::Client, "", &error));
            skip_from(Check::Name, "the settings are wrong", &mut tell);
            return;
        }
    };
    tell(chosen(&prober, &*client));
    let probes = probe_all(&prober, prober.bootstrap().to_vec()).await;
    let usable = probes.iter().any(|p| is_usable(&prober, p));
    for probe in &probes {
        let about = connection::About {
            prober: &prober,
            user: config.get("sasl.username"),
            others: usable,
        };
        connection::findings(probe, &about)
            .into_iter()
            .for_each(&mut tell);
    }
    if !usable {
        let why = "no bootstrap server can be used";
        skip_from(Check::Cluster, why, &mut tell);
        return;
    }
    let described = cluster::describe(&*client, limit).await;
    let described = match described {
        Ok(described) => described,
        Err(error) => {
            tell(Finding::of_error(Check::Cluster, "", &error).by(client.name()));
            skip_from(Check::Brokers, "the cluster was not described", &mut tell);
            return;
        }
    };
    tell(cluster::described(&described).by(client.name()));
    let probes = probe_brokers(&prober, &described, probes).await;
    for (broker, probe) in &probes {
        tell(cluster::broker(broker, probe, &prober));
    }
    if let Some(more) = described.brokers.len().checked_sub(BROKERS_MOST + 1) {
        let text = format!("{} more brokers are not tried", more + 1);
        tell(Finding::new(Check::Brokers, "", Outcome::Skipped, text));
    }
    tell(release::compared(&probes, prober.unsupported()));
    tell(cluster::racks(&described, prober.rack()));
    for finding in cluster::leaders(&described, &questions.topics) {
        tell(finding.by(client.name()));
    }
    let user = config.get("sasl.username");
    topic::findings(&*client, &described, questions, user, &mut tell).await;
}

/// The client that the settings ask for, whose requests end within `limit`.
fn reader(
    config: &ConnectionConfig,
    pool: &ClientPool,
    limit: Duration,
) -> Result<Arc<dyn KafkaClient>> {
    let mut config = config.clone();
    let mut limits = ConnectionConfig::empty();
    for (key, own) in [
        ("request.timeout.ms", config.request_timeout()),
        ("read.timeout.ms", config.read_timeout()),
    ] {
        limits.set(key, &own.min(limit).as_millis().to_string())?;
    }
    config.merge(&limits);
    pool.client(&config)
}

/// Which client reads, and which one connects here.
fn chosen(prober: &Prober, client: &dyn KafkaClient) -> Finding {
    let name = client.name();
    let finding = match prober.unsupported() {
        None => Finding::new(
            Check::Client,
            "",
            Outcome::Ok,
            format!("'{name}' reads; the steps up to the login are the wire client's"),
        ),
        Some(reason) => Finding::new(
            Check::Client,
            "",
            Outcome::Ok,
            format!("'{name}' reads, because the wire client does not support {reason}"),
        )
        .note("names and connections are tried here; TLS and the login are tried by librdkafka, in one"),
    };
    finding.fact("client", name)
}

/// Whether the cluster can be asked through this server.
fn is_usable(prober: &Prober, probe: &Probe) -> bool {
    probe.is_ready() || (prober.unsupported().is_some() && probe.is_connected())
}

async fn probe_all(prober: &Prober, servers: Vec<(String, u16)>) -> Vec<Probe> {
    let servers = servers.into_iter().take(BROKERS_MOST);
    let probes = servers.map(|(host, port)| async move { prober.probe(&host, port).await });
    stream::iter(probes).buffered(AT_ONCE).collect().await
}

/// The brokers that the cluster names, each with its probe. Those that were probed before are not again.
async fn probe_brokers<'a>(
    prober: &Prober,
    described: &'a ClusterDescription,
    before: Vec<Probe>,
) -> Vec<(&'a super::Broker, Arc<Probe>)> {
    let before: Vec<Arc<Probe>> = before.into_iter().map(Arc::new).collect();
    let mut probes = Vec::new();
    for broker in described.brokers.iter().take(BROKERS_MOST) {
        let known = before
            .iter()
            .find(|p| p.host == broker.host && p.port == broker.port)
            .map(Arc::clone);
        probes.push(async move {
            let probe = match known {
                Some(known) => known,
                None => Arc::new(prober.probe(&broker.host, broker.port).await),
            };
            (broker, probe)
        });
    }
    stream::iter(probes).buffered(AT_ONCE).collect().await
}

/// Tells of the checks from one on that an earlier failure leaves out.
fn skip_from(first: Check, why: &str, tell: &mut impl FnMut(Finding)) {
    for check in Check::ALL.into_iter().filter(|check| *check >= first) {
        tell(Finding::skipped(check, "", why));
    }
}

/// The error of a step that took too long.
fn too_long(what: &str, limit: Duration) -> Error {
    Error::Connection {
        hosts: String::new(),
        reason: format!("{what} takes more than {} ms", limit.as_millis()),
    }
}

/// Waits for a client's answer. Its own time limits should end it; this one is for clients that have none.
async fn within<T>(
    limit: Duration,
    what: &str,
    asked: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit.saturating_mul(2), asked).await {
        Ok(answer) => answer,
        Err(_) => Err(too_long(what, limit.saturating_mul(2))),
    }
}

/// Whether rights are missing.
fn is_denied(error: &Error) -> bool {
    error.kind() == ErrorKind::Authorization
}

/// `a, b and 3 more`, of the first `LISTED_MOST` names.
fn listed<T: ToString>(names: impl ExactSizeIterator<Item = T>) -> String {
    let all = names.len();
    if all == 0 {
        return "none".to_owned();
    }
    let shown: Vec<String> = names.take(LISTED_MOST).map(|n| n.to_string()).collect();
    let shown = shown.join(", ");
    match all.saturating_sub(LISTED_MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `1 topic`, `3 topics`.
fn count(n: usize, noun: &str) -> String {
    let end = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{end}")
}
