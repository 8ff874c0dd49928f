//! Which worker reads which pieces of a scan.
//!
//! The heaviest piece goes first, to the worker that is nearest to the piece's leader among those that have room
//! for it, and else to the one with the least to do. Equal workers are told apart by a hash of worker and
//! partition, so that a partition stays with its worker from batch to batch and connections stay warm.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use datafusion_kafka::client::Broker;
use datafusion_kafka::scan::ScanPiece;

use crate::coordinator::WorkerInfo;

/// A worker may get this share more than the mean, in percent, to have a piece near its leader.
const SLACK_PERCENT: u64 = 10;

/// How near a worker is to a broker.
fn nearness(worker: &WorkerInfo, leader: Option<&Broker>) -> u8 {
    let Some(leader) = leader else {
        return 0;
    };
    match (&worker.rack, &leader.rack) {
        _ if worker.host == leader.host => 2,
        (Some(own), Some(rack)) if own == rack => 1,
        _ => 0,
    }
}

fn rank(worker: &WorkerInfo, piece: &ScanPiece) -> u64 {
    let mut hasher = DefaultHasher::new();
    worker.url.as_str().hash(&mut hasher);
    if let Some(first) = piece.ranges().next() {
        (first.topic(), first.partition()).hash(&mut hasher);
    }
    hasher.finish()
}

/// The pieces of as many workers as there are tasks, by their places among `workers`; some may get none.
pub(crate) fn place(
    mut pieces: Vec<ScanPiece>,
    tasks: usize,
    workers: &[WorkerInfo],
    brokers: &BTreeMap<i32, Broker>,
) -> Vec<(usize, Vec<ScanPiece>)> {
    let total: u64 = pieces.iter().map(ScanPiece::offsets).sum();
    let share = total / tasks.max(1) as u64;
    let room = share + share * SLACK_PERCENT / 100;
    pieces.sort_by_key(|piece| Reverse(piece.offsets()));
    let mut placed: BTreeMap<usize, (u64, Vec<ScanPiece>)> = BTreeMap::new();
    for piece in pieces {
        let leader = piece.leader().and_then(|id| brokers.get(&id));
        let weight = piece.offsets();
        let may_open = placed.len() < tasks;
        let candidates = (0..workers.len()).filter(|w| may_open || placed.contains_key(w));
        let best = candidates.min_by_key(|w| {
            let load = placed.get(w).map_or(0, |(load, _)| *load);
            let fits = load + weight <= room.max(weight);
            let near = nearness(&workers[*w], leader);
            // Those without room are compared by what they have to do.
            let first = if fits {
                (0, u64::from(2 - near))
            } else {
                (1, load)
            };
            (first, load / share.max(1), rank(&workers[*w], &piece))
        });
        // There is a worker, and the first piece opens it.
        let Some(best) = best else { continue };
        let (load, pieces) = placed.entry(best).or_default();
        *load += weight;
        pieces.push(piece);
    }
    for worker in 0..workers.len() {
        if placed.len() < tasks {
            placed.entry(worker).or_default();
        }
    }
    placed
        .into_iter()
        .map(|(worker, (_, pieces))| (worker, pieces))
        .collect()
}
