//! What the versions of a broker's requests say about its release, and what follows for reading.
//!
//! Brokers do not tell their release, only which versions of each request they know.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::finding::{Check, Finding, Outcome};
use super::{Probe, listed};
use crate::client::Broker;
use crate::client::wire::probe::FETCH_MOST;

const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const INIT_PRODUCER_ID: i16 = 22;
const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
const DESCRIBE_CONFIGS: i16 = 32;

/// Fetch names topics by their ids from this version on (KIP-516).
const FETCH_BY_ID: i16 = 13;
/// Fetch has the epoch of the last record read from this version on (KIP-595).
const FETCH_WITH_EPOCH: i16 = 12;
/// Metadata has topic ids from this version on.
const METADATA_WITH_ID: i16 = 10;
/// The oldest version of Fetch with record batches of format v2.
const FETCH_LEAST: i16 = 4;

/// The releases of Apache Kafka that brought a version of a request, the newest first.
const BROUGHT: [(&str, i16, i16); 17] = [
    ("4.1", FETCH, 18),
    ("4.0", LIST_OFFSETS, 10),
    ("3.9", FETCH, 17),
    ("3.7", FETCH, 16),
    ("3.6", LIST_OFFSETS, 8),
    ("3.5", FETCH, 15),
    ("3.1", FETCH, 13),
    ("3.0", LIST_OFFSETS, 7),
    ("2.8", METADATA, 11),
    ("2.7", FETCH, 12),
    ("2.4", METADATA, 9),
    ("2.3", FETCH, 11),
    ("2.2", LIST_OFFSETS, 5),
    ("2.1", FETCH, 10),
    ("2.0", FETCH, 8),
    ("1.1", FETCH, 7),
    ("1.0", FETCH, 6),
];

/// The last version of a request that a broker knows.
fn last(versions: &[[i16; 3]], api: i16) -> Option<i16> {
    let found = versions.iter().find(|[key, ..]| *key == api);
    found.map(|[_, _, last]| *last)
}

/// The release that a broker speaks like.
pub(super) fn guess(versions: &[[i16; 3]]) -> String {
    let knows = |(_, api, version): &(_, i16, i16)| last(versions, *api) >= Some(*version);
    match BROUGHT.iter().position(knows) {
        None => "a Kafka before 1.0".to_owned(),
        Some(0) => format!("Kafka {} or later", BROUGHT[0].0),
        Some(at) => format!("Kafka {}, before {}", BROUGHT[at].0, BROUGHT[at - 1].0),
    }
}

/// The version of Fetch in which records are read.
fn fetch_version(versions: &[[i16; 3]]) -> Option<i16> {
    let [_, first, last] = versions.iter().find(|[key, ..]| *key == FETCH)?;
    let version = FETCH_MOST.min(*last);
    (version >= FETCH_LEAST.max(*first)).then_some(version)
}

/// What follows for reading, each a line; nothing if records cannot be read at all.
fn follows(versions: &[[i16; 3]]) -> Vec<String> {
    let Some(fetch) = fetch_version(versions) else {
        return Vec::new();
    };
    let knows = |api| last(versions, api).is_some();
    let ids = if fetch >= FETCH_BY_ID {
        "topic ids: leaders refuse a topic that was recreated"
    } else if last(versions, METADATA) >= Some(METADATA_WITH_ID) {
        "topic ids: compared before and after a read"
    } else {
        "no topic ids: a topic that is recreated during a read looks like the old one"
    };
    let epochs = if fetch >= FETCH_WITH_EPOCH {
        "leader epochs: leaders tell of a log that was cut"
    } else if knows(OFFSET_FOR_LEADER_EPOCH) {
        "leader epochs: looked up where a log may have been cut"
    } else {
        "no leader epochs: a log that was cut and has grown again looks like the old one"
    };
    let transactions = match knows(INIT_PRODUCER_ID) {
        true => "transactions: committed reads, and the sink of Kafka",
        false => "no transactions: the sink of Kafka cannot write",
    };
    let settings = match knows(DESCRIBE_CONFIGS) {
        true => None,
        false => Some("no settings of topics: compaction and the type of timestamps are unknown"),
    };
    let mut lines = vec![format!("records are read with Fetch version {fetch}")];
    let others = [Some(ids), Some(epochs), Some(transactions), settings];
    lines.extend(others.into_iter().flatten().map(str::to_owned));
    lines
}

/// The finding about a server that answers in Kafka's protocol.
pub(super) fn of_server(subject: String, versions: &[[i16; 3]]) -> Finding {
    let release = guess(versions);
    let Some(fetch) = fetch_version(versions) else {
        let reason = match last(versions, FETCH) {
            Some(last) => format!("it knows Fetch up to version {last}"),
            None => "it does not know Fetch".to_owned(),
        };
        return Finding::new(
            Check::Protocol,
            subject,
            Outcome::Failed,
            format!("no records can be read from it ({release}): {reason}"),
        )
        .advise(
            "is this a broker, or a controller or a proxy? Brokers from Kafka 1.0 on can be read",
        );
    };
    Finding::new(
        Check::Protocol,
        subject,
        Outcome::Ok,
        format!("speaks like {release}"),
    )
    .fact("release", release)
    .fact("fetch_version", fetch)
}

/// Compares the releases of all brokers, and says what follows from the oldest.
pub(super) fn compared(brokers: &[(&Broker, Arc<Probe>)], unsupported: Option<&str>) -> Finding {
    let known = brokers
        .iter()
        .filter_map(|(broker, probe)| Some((broker.id, probe.versions.done()?)));
    let known: Vec<(i32, &Vec<[i16; 3]>)> = known.collect();
    if known.is_empty() {
        let why = match unsupported {
            Some(_) => "librdkafka does not tell which versions a broker knows",
            None => "no broker has answered",
        };
        return Finding::skipped(Check::Releases, "", why);
    }
    let mut releases: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (id, versions) in &known {
        releases.entry(guess(versions)).or_default().push(*id);
    }
    let named: Vec<String> = releases
        .iter()
        .map(|(release, ids)| match releases.len() {
            1 => format!("all speak like {release}"),
            _ => format!("{release}: {}", listed(ids.iter())),
        })
        .collect();
    let oldest = known.iter().min_by_key(|(_, versions)| {
        let apis = [FETCH, LIST_OFFSETS, METADATA];
        apis.map(|api| last(versions, api))
    });
    let follows = oldest.map_or_else(Vec::new, |(_, versions)| follows(versions));
    let outcome = match releases.len() {
        1 => Outcome::Ok,
        _ => Outcome::Warning,
    };
    let mut finding = Finding::new(Check::Releases, "", outcome, named.join("; ")).by("wire");
    if outcome == Outcome::Warning {
        finding = finding.advise(
            "an upgrade is on its way, or was left half done; until it ends, what follows holds for the oldest",
        );
    }
    for line in &follows {
        finding = finding.note(line.clone());
    }
    let releases: serde_json::Map<String, serde_json::Value> = releases
        .into_iter()
        .map(|(release, ids)| (release, ids.into()))
        .collect();
    finding.fact("releases", releases).fact("follows", follows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The versions of Fetch, ListOffsets and Metadata in releases.
    const RELEASES: [([i16; 3], &str, i16); 6] = [
        ([6, 2, 5], "Kafka 1.0, before 1.1", 6),
        ([10, 4, 7], "Kafka 2.1, before 2.2", 10),
        ([12, 6, 11], "Kafka 2.8, before 3.0", 12),
        ([13, 7, 12], "Kafka 3.1, before 3.5", 13),
        ([17, 10, 13], "Kafka 4.0, before 4.1", 17),
        ([99, 99, 99], "Kafka 4.1 or later", FETCH_MOST),
    ];

    fn versions(last: [i16; 3]) -> Vec<[i16; 3]> {
        [FETCH, LIST_OFFSETS, METADATA]
            .into_iter()
            .zip(last)
            .map(|(api, last)| [api, 0, last])
            .collect()
    }

    #[test]
    fn releases_are_guessed_by_what_they_brought() {
        for (last, release, fetch) in RELEASES {
            let versions = versions(last);
            assert_eq!(guess(&versions), release);
            assert_eq!(fetch_version(&versions), Some(fetch), "{release}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_failure() {
        for (versions, reason) in [
            (versions([3, 1, 1]), "it knows Fetch up to version 3"),
            (vec![[METADATA, 0, 12]], "it does not know Fetch"),
            (
                vec![[FETCH, FETCH_MOST + 1, 99]],
                "it knows Fetch up to version 99",
            ),
            (vec![], "it does not know Fetch"),
        ] {
            let finding = of_server("h:1".to_owned(), &versions);
            assert_eq!(finding.outcome, Outcome::Failed);
            assert!(finding.text.contains(reason), "{}", finding.text);
            assert!(follows(&versions).is_empty());
        }
    }

    #[test]
    fn old_brokers_tell_less() {
        let old = follows(&versions([10, 4, 7])).join("\n");
        assert!(old.contains("no topic ids"), "{old}");
        assert!(old.contains("no leader epochs"), "{old}");
        assert!(old.contains("no transactions"), "{old}");
        let new = follows(&versions([17, 10, 13])).join("\n");
        assert!(new.contains("leaders refuse a topic"), "{new}");
        assert!(new.contains("leaders tell of a log"), "{new}");
    }
}
