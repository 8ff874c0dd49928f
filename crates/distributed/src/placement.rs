//! Which worker reads which parts of a scan, and in how many streams.
//!
//! The heaviest parts go first, each to the worker that is nearest to the part's leader among those that have room
//! for it, and else to the one with the least to do. Of equal workers the one is taken that read the part last, so that
//! connections stay warm, and else one by a hash of worker and part.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use datafusion_kafka::client::Broker;
use datafusion_kafka::range::TopicPartition;
use datafusion_kafka::scan::ScanPiece;

use crate::coordinator::WorkerInfo;

/// A worker may get this part more than the mean, 10 %, to have a part near its leader.
const SLACK_PART: u64 = 10;

/// How near a worker is to a broker.
pub(crate) fn nearness(worker: &WorkerInfo, leader: Option<&Broker>) -> u8 {
    let Some(leader) = leader else {
        return 0;
    };
    match (&worker.rack, &leader.rack) {
        _ if worker.host == leader.host => 2,
        (Some(own), Some(rack)) if own == rack => 1,
        _ => 0,
    }
}

pub(crate) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Mixes two hashes: murmur's finaliser.
fn mixed(a: u64, b: u64) -> u64 {
    let mut mixed = a ^ b;
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 33)
}

/// A part of a Kafka partition, by its place among those that the partition was cut into.
pub(crate) type PartKey = (TopicPartition, usize);

/// The parts with their keys.
pub(crate) fn keyed(parts: Vec<ScanPiece>) -> Vec<(PartKey, ScanPiece)> {
    let mut cut: HashMap<TopicPartition, usize> = HashMap::new();
    let keyed = parts.into_iter().filter_map(|part| {
        let partition = part.ranges().next()?.topic_partition();
        let count = cut.entry(partition.clone()).or_default();
        *count += 1;
        Some(((partition, *count - 1), part))
    });
    keyed.collect()
}

/// The parts of as many workers as there are tasks, by their places among `workers`; some may get none. `last` is the
/// hash of the worker that read a part last.
pub(crate) fn place(
    mut parts: Vec<(PartKey, ScanPiece)>,
    tasks: usize,
    workers: &[WorkerInfo],
    brokers: &BTreeMap<i32, Broker>,
    last: impl Fn(&PartKey) -> Option<u64>,
) -> Vec<(usize, Vec<(PartKey, ScanPiece)>)> {
    let bytes = parts.iter().map(|(_, part)| part.bytes());
    let share = (bytes.fold(0, u64::saturating_add) / tasks.max(1) as u64).max(1);
    let room = share.saturating_add(share / SLACK_PART);
    let hashes: Vec<u64> = workers.iter().map(WorkerInfo::hash).collect();
    let there: HashSet<u64> = hashes.iter().copied().collect();
    // Of those of about the same weight the ones whose worker is still there come first: they keep their place.
    parts.sort_by_cached_key(|(key, part)| {
        let moves = !last(key).is_some_and(|worker| there.contains(&worker));
        let bytes = part.bytes();
        (Reverse(bytes.max(1).ilog2()), moves, Reverse(bytes))
    });
    let mut near: HashMap<Option<i32>, Vec<u8>> = HashMap::new();
    let mut loads = vec![0u64; workers.len()];
    let mut placed: BTreeMap<usize, Vec<(PartKey, ScanPiece)>> = BTreeMap::new();
    for (key, part) in parts {
        let near = near.entry(part.leader()).or_insert_with(|| {
            let leader = part.leader().and_then(|id| brokers.get(&id));
            workers.iter().map(|w| nearness(w, leader)).collect()
        });
        let (own, read_by) = (hash(&key), last(&key));
        let weight = part.bytes();
        let may_open = placed.len() < tasks;
        let candidates = (0..workers.len()).filter(|w| may_open || placed.contains_key(w));
        let best = candidates.min_by_key(|w| {
            let (load, rank) = (loads[*w], mixed(hashes[*w], own));
            match load.saturating_add(weight) <= room.max(weight) {
                true => {
                    let moved = Some(hashes[*w]) != read_by;
                    (0, u64::from(2 - near[*w]), moved, load / share, rank)
                }
                // Those without room are compared by what they have to do.
                false => (1, load, false, 0, rank),
            }
        });
        // There is a worker, and the first part opens it.
        let Some(best) = best else { continue };
        loads[best] = loads[best].saturating_add(weight);
        placed.entry(best).or_default().push((key, part));
    }
    for worker in 0..workers.len() {
        if placed.len() < tasks {
            placed.entry(worker).or_default();
        }
    }
    placed.into_iter().collect()
}

/// The parts in as many streams as there are, or in more where a stream may have only `most` of them. A stream reads
/// the parts of a leader one after another.
pub(crate) fn in_streams(parts: Vec<ScanPiece>, streams: usize, most: usize) -> Vec<ScanPiece> {
    let streams = streams.max(parts.len().div_ceil(most)).min(parts.len());
    let mut lists: Vec<(u64, Vec<ScanPiece>)> = vec![(0, vec![]); streams];
    // The heaviest comes first.
    for part in parts {
        let open = lists.iter_mut().filter(|(_, parts)| parts.len() < most);
        let Some((load, list)) = open.min_by_key(|(load, _)| *load) else {
            continue;
        };
        *load = load.saturating_add(part.bytes());
        list.push(part);
    }
    let joined = lists.into_iter().filter_map(|(_, mut parts)| {
        parts.sort_by(|a, b| {
            let key = |part: &ScanPiece| (part.leader(), part.ranges().next().cloned());
            key(a).cmp(&key(b))
        });
        parts.into_iter().reduce(|mut joined, part| {
            joined.append(part);
            joined
        })
    });
    joined.collect()
}
