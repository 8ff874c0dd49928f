//! Requests that only the leaders of partitions can answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{Deadline, denied};
use crate::client::wire::cluster::{Cluster, Leader, Topic};
use crate::client::wire::code;
use crate::client::wire::connection::Trouble;
use crate::error::{Error, Result};
use crate::range::TopicPartition;

/// A leader's reply to some of the queries: for each the answer, or a code.
pub(super) type Told<T> = Result<Vec<(usize, Result<T, i16>)>, Trouble>;

impl Cluster {
    /// Collects the answers of the partitions' leaders, in the order of `partitions`. `ask` sends some of the
    /// queries, given by their places, to the leader with that id. It is called until all have an answer.
    pub(super) async fn ask_leaders<T, F>(
        self: &Arc<Self>,
        what: &str,
        partitions: &[&TopicPartition],
        deadline: &Deadline,
        ask: impl Fn(i32, Vec<usize>) -> F,
    ) -> Result<Vec<T>>
    where
        F: Future<Output = Told<T>>,
    {
        let started = Instant::now();
        let mut answers: Vec<Option<T>> = partitions.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..partitions.len()).collect();
        let mut round = 0u32;
        // Why a query has no answer yet: the leader that was last asked, and what came of it.
        let mut reasons: HashMap<usize, (i32, String)> = HashMap::new();
        let gave_up = |open: &[usize], reasons: &HashMap<usize, (i32, String)>| {
            let waited = started.elapsed();
            let leaderless = |q: &usize| self.no_leader(partitions[*q], waited);
            if let Some(error) = open.iter().find_map(leaderless) {
                return error;
            }
            let query = open.iter().find(|q| reasons.contains_key(q));
            let query = query.copied().unwrap_or(open[0]);
            self.untold(what, partitions[query], reasons.get(&query), waited)
        };
        while !open.is_empty() {
            let leaders = self
                .learn_leaders(partitions, &open, round > 0, deadline)
                .await;
            match leaders {
                Ok(()) => {}
                // The missing time to look up leaders is not the cause.
                Err(Error::Connection { .. }) if round > 0 && deadline.passed() => {
                    return Err(gave_up(&open, &reasons));
                }
                Err(e) => return Err(e),
            }
            let mut missing = None;
            let waves = self.waves(partitions, &open, &mut missing);
            let asked = waves.iter().map(|(node, wave)| ask(*node, wave.clone()));
            for ((node, wave), told) in waves.iter().zip(join_all(asked).await) {
                let told = match told {
                    Ok(told) => told,
                    // Another leader may take over soon.
                    Err(Trouble::Io(why)) => {
                        reasons.extend(wave.iter().map(|q| (*q, (*node, why.clone()))));
                        continue;
                    }
                    Err(trouble) => return Err(self.failed(&trouble)),
                };
                for (query, answer) in told {
                    let partition = partitions[query];
                    match answer {
                        Ok(answer) => answers[query] = Some(answer),
                        Err(c @ code::TOPIC_AUTHORIZATION_FAILED) => {
                            let topic = format!("topic {}", partition.topic);
                            return Err(denied(topic, "DESCRIBE", c));
                        }
                        Err(c) if code::is_missing(c) || code::is_retriable(c) => {
                            if code::is_missing(c) {
                                missing = Some(query);
                            }
                            reasons.insert(query, (*node, code::text(c)));
                        }
                        Err(c) => {
                            return Err(Error::Kafka {
                                operation: format!("{what} of {partition}"),
                                reason: code::text(c),
                            });
                        }
                    }
                }
            }
            open.retain(|q| answers[*q].is_none());
            if open.is_empty() {
                break;
            }
            round += 1;
            if let Some(query) = missing.filter(|_| round > 1) {
                self.expect_partition(partitions[query], deadline).await?;
            }
            if deadline.passed() {
                return Err(gave_up(&open, &reasons));
            }
            let pause = Duration::from_millis(u64::from(20 * round.min(10)));
            tokio::time::sleep(pause.min(deadline.left())).await;
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// The error for a partition without an answer. It says what came of asking its leader.
    fn untold(
        &self,
        what: &str,
        partition: &TopicPartition,
        last: Option<&(i32, String)>,
        waited: Duration,
    ) -> Error {
        let (hosts, reason) = match last {
            Some((node, reason)) => (self.node_named(*node), reason.as_str()),
            None => (self.hosts().to_owned(), "its leader is unknown"),
        };
        let waited_ms = waited.as_millis();
        Error::Connection {
            hosts,
            reason: format!("{what} of {partition}: {reason}; gave up after {waited_ms} ms"),
        }
    }

    /// The error for a partition without a leader, if the latest metadata shows none.
    pub(in crate::client::wire) fn no_leader(
        &self,
        partition: &TopicPartition,
        waited: Duration,
    ) -> Option<Error> {
        let look = |topic: &Topic| topic.leaderless.get(&partition.partition).cloned();
        let replicas = self.topic(&partition.topic, look).flatten()?;
        Some(Error::NoLeader {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            replicas: replicas.all,
            in_sync: replicas.in_sync,
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Makes sure that the leaders are known, and looks them up if necessary.
    async fn learn_leaders(
        self: &Arc<Self>,
        partitions: &[&TopicPartition],
        open: &[usize],
        anew: bool,
        deadline: &Deadline,
    ) -> Result<()> {
        let unknown = |p: &TopicPartition| self.leader(p).is_none_or(|l| l.node < 0);
        let topics: BTreeSet<Arc<str>> = open
            .iter()
            .map(|q| partitions[*q])
            .filter(|p| anew || unknown(p))
            .map(|p| Arc::clone(&p.topic))
            .filter(|topic| !topic.is_empty())
            .collect();
        if topics.is_empty() {
            return Ok(());
        }
        self.metadata(Some(&topics), deadline).await.map(drop)
    }

    pub(in crate::client::wire) fn leader(&self, partition: &TopicPartition) -> Option<Leader> {
        let look = |topic: &Topic| topic.leaders.get(&partition.partition).copied();
        self.topic(&partition.topic, look).flatten()
    }

    /// Groups the open queries by leader, into requests without duplicate partitions, which brokers refuse.
    fn waves(
        &self,
        partitions: &[&TopicPartition],
        open: &[usize],
        missing: &mut Option<usize>,
    ) -> Vec<(i32, Vec<usize>)> {
        let mut times: HashMap<&TopicPartition, usize> = HashMap::new();
        let mut waves: BTreeMap<(i32, usize), Vec<usize>> = BTreeMap::new();
        for &query in open {
            let partition = partitions[query];
            match self.leader(partition) {
                Some(leader) if leader.node >= 0 => {
                    let time = times.entry(partition).or_default();
                    waves.entry((leader.node, *time)).or_default().push(query);
                    *time += 1;
                }
                Some(_) => {}
                None => *missing = Some(query),
            }
        }
        waves
            .into_iter()
            .map(|((node, _), wave)| (node, wave))
            .collect()
    }
}
