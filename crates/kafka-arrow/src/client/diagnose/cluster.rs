//! What the description of a cluster shows: its brokers, racks, leaders and replicas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::finding::{Check, Finding, Outcome};
use super::{Probe, Prober, connection, count, listed, within};
use crate::client::wire::probe::Stage;
use crate::client::{
    Broker, ClusterDescription, KafkaClient, PartitionDescription, TopicSelection,
};
use crate::error::Result;

pub(super) async fn describe(
    client: &dyn KafkaClient,
    limit: Duration,
) -> Result<ClusterDescription> {
    let described = client.describe(TopicSelection::All);
    within(limit, "describing the cluster", described).await
}

/// The finding about the description as a whole.
pub(super) fn described(cluster: &ClusterDescription) -> Finding {
    let (brokers, topics) = (cluster.brokers.len(), cluster.topics.len());
    let id = match &cluster.cluster_id {
        Some(id) => format!("id '{id}'"),
        None => "without an id".to_owned(),
    };
    let (of_brokers, of_topics) = (count(brokers, "broker"), count(topics, "topic"));
    let text = format!("{id}, {of_brokers}; this client may see {of_topics}");
    let finding = match topics {
        0 => Finding::new(Check::Cluster, "", Outcome::Warning, text).advise(
            "is this the right cluster? Topics are only visible with the right DESCRIBE on them",
        ),
        _ => Finding::new(Check::Cluster, "", Outcome::Ok, text),
    };
    finding
        .fact("cluster_id", cluster.cluster_id.clone())
        .fact("brokers", brokers)
        .fact("topics", topics)
}

/// The finding about a broker at the address that the cluster names.
pub(super) fn broker(broker: &Broker, probe: &Probe, prober: &Prober) -> Finding {
    let subject = format!("{}", broker.id);
    let place = probe.name();
    let advertised = "the brokers name this address ('advertised.listeners'): this machine must resolve and \
                      reach it, or the brokers must name another";
    let took = probe.attempts.iter().find(|a| a.failed.is_none());
    let took = took.map(|a| connection::millis(a.took)).unwrap_or_default();
    let wrong = match (&probe.addresses, probe.is_connected()) {
        (Err(reason), _) => Some((reason.clone(), Some(advertised))),
        (Ok(_), false) => {
            let reason = probe.attempts.iter().find_map(|a| a.failed.clone());
            let reason = format!("no connection: {}", reason.unwrap_or_default());
            Some((reason, Some(advertised)))
        }
        (Ok(_), true) => match (&probe.tls, &probe.versions, &probe.login) {
            (Stage::Failed(reason), _, _)
            | (_, Stage::Failed(reason), _)
            | (_, _, Stage::Failed(reason)) => Some((reason.clone(), None)),
            _ => None,
        },
    };
    let finding = match wrong {
        Some((reason, Some(advice))) => {
            let text = format!("{place}: {reason}");
            Finding::new(Check::Brokers, subject, Outcome::Failed, text).advise(advice)
        }
        Some((reason, None)) => {
            Finding::failed(Check::Brokers, subject, &format!("{place}: {reason}"))
        }
        None => {
            let how = match (prober.unsupported(), probe.tls.done(), probe.login.done()) {
                (Some(_), ..) => "it accepts connections",
                (_, Some(_), Some(_)) => "TLS and the login succeed",
                (_, Some(_), None) => "TLS succeeds",
                (_, None, Some(_)) => "the login succeeds",
                _ => "it answers",
            };
            let text = format!("{place}: {how}, connected in {took}");
            Finding::new(Check::Brokers, subject, Outcome::Ok, text)
        }
    };
    let finding = match &broker.rack {
        Some(rack) => finding.fact("rack", rack.clone()),
        None => finding,
    };
    finding
        .by("wire")
        .fact("host", broker.host.clone())
        .fact("port", broker.port)
}

/// The finding about racks.
pub(super) fn racks(cluster: &ClusterDescription, own: &str) -> Finding {
    let mut racks: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for broker in &cluster.brokers {
        if let Some(rack) = broker.rack.as_deref().filter(|rack| !rack.is_empty()) {
            racks.entry(rack).or_default().push(broker.id);
        }
    }
    let names = || listed(racks.keys().collect::<Vec<_>>().into_iter());
    let (outcome, text) = match (racks.len(), own) {
        (0, "") => {
            let why = "neither the brokers nor this client have a rack";
            return Finding::skipped(Check::Racks, "", why);
        }
        (0, _) => (
            Outcome::Warning,
            format!("'client.rack' = '{own}' makes no difference: no broker names its rack"),
        ),
        (_, "") => (
            Outcome::Ok,
            format!(
                "brokers are in racks {}; 'client.rack' is not set, so leaders are read",
                names()
            ),
        ),
        (_, own) if racks.contains_key(own) => (
            Outcome::Ok,
            format!(
                "'client.rack' = '{own}' has brokers {}, which are read where the brokers allow it \
                 ('replica.selector.class')",
                listed(racks[own].iter())
            ),
        ),
        (_, own) => (
            Outcome::Warning,
            format!(
                "no broker is in 'client.rack' = '{own}'; there are {}",
                names()
            ),
        ),
    };
    let finding = Finding::new(Check::Racks, "", outcome, text);
    match outcome {
        Outcome::Warning => {
            finding.advise("set 'client.rack' to the rack of this machine, or leave it out")
        }
        _ => finding,
    }
}

/// The findings about leaders, and about replicas that are behind. Offline partitions of `wanted` topics are a
/// failure, those of others a warning. Without any, all are wanted.
pub(super) fn leaders(cluster: &ClusterDescription, wanted: &[Arc<str>]) -> [Finding; 2] {
    let mut led: BTreeMap<i32, usize> = BTreeMap::new();
    let mut offline = Counted::default();
    let mut behind = Counted::default();
    let mut matters = false;
    for topic in &cluster.topics {
        for partition in &topic.partitions {
            let name = format!("{}[{}]", topic.name, partition.partition);
            let PartitionDescription { replicas, isr, .. } = partition;
            match partition.leader {
                Some(leader) => *led.entry(leader).or_default() += 1,
                None => {
                    matters |= wanted.is_empty() || wanted.contains(&topic.name);
                    offline.push(|| {
                        let (all, in_sync) = (listed(replicas.iter()), listed(isr.iter()));
                        format!("{name} has replicas {all}, of which in sync: {in_sync}")
                    });
                }
            }
            if isr.len() < replicas.len() {
                behind.push(|| {
                    let missing = replicas.iter().filter(|r| !isr.contains(r));
                    let missing: Vec<&i32> = missing.collect();
                    format!("{name} lacks {}", listed(missing.into_iter()))
                });
            }
        }
    }
    let all: usize = led.values().sum::<usize>() + offline.count;
    let leaders = match offline.count {
        0 => {
            let (partitions, on) = (count(all, "partition"), count(led.len(), "broker"));
            let text = format!("{partitions}, all with a leader, on {on}");
            Finding::new(Check::Leaders, "", Outcome::Ok, text)
        }
        none => {
            let outcome = match matters {
                true => Outcome::Failed,
                false => Outcome::Warning,
            };
            let text = format!("{none} of {all} partitions have no leader and cannot be read");
            offline
                .noted(Finding::new(Check::Leaders, "", outcome, text))
                .advise("start the brokers that hold them: the one that was in sync last becomes the leader")
        }
    };
    let replicas = match behind.count {
        0 => {
            let text = "all replicas are in sync";
            Finding::new(Check::Replicas, "", Outcome::Ok, text)
        }
        some => {
            let text = format!("{some} of {all} partitions have replicas that are not in sync");
            behind
                .noted(Finding::new(Check::Replicas, "", Outcome::Warning, text))
                .advise("look for brokers that are down or slow; if the leaders fail too, the partitions go offline")
        }
    };
    [
        leaders
            .fact("partitions", all)
            .fact("offline", offline.count),
        replicas.fact("behind", behind.count),
    ]
}

/// How many there are, and a line for each of the first.
#[derive(Default)]
struct Counted {
    count: usize,
    lines: Vec<String>,
}

impl Counted {
    fn push(&mut self, line: impl FnOnce() -> String) {
        self.count += 1;
        if self.lines.len() < super::LISTED_MOST {
            self.lines.push(line());
        }
    }

    fn noted(&self, finding: Finding) -> Finding {
        let finding = self
            .lines
            .iter()
            .fold(finding, |f, line| f.note(line.clone()));
        match self.count - self.lines.len() {
            0 => finding,
            more => finding.note(format!("and {more} more")),
        }
    }
}
