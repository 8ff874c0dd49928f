//! Which topics and partitions a table is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use regex::Regex;

use crate::client::{ClusterDescription, KafkaClient, TopicDescription, TopicSelection};
use crate::error::{Error, Result, nearest_names};
use crate::range::TopicPartition;

/// The topics of a table: named, matching a pattern, or single partitions.
#[derive(Debug, Clone)]
pub enum TopicSource {
    /// These topics, all partitions.
    Named(Vec<Arc<str>>),
    /// Every topic whose name matches, except internal ones. The regular expression decides
    /// whether it is anchored.
    Pattern(Regex),
    /// These partitions.
    Assigned(BTreeMap<Arc<str>, BTreeSet<i32>>),
}

impl TopicSource {
    /// Reads a LOCATION: a topic, a comma list of topics, or `/pattern/`.
    ///
    /// The pattern is a regular expression that must match the whole name.
    ///
    /// # Errors
    /// When there is no name, or the pattern is no regular expression.
    pub fn parse(location: &str) -> Result<Self> {
        let location = location.trim();
        if let Some(pattern) = location.strip_prefix('/') {
            let Some(pattern) = pattern.strip_suffix('/').filter(|p| !p.is_empty()) else {
                return Err(Error::invalid(format!(
                    "'{location}': a topic pattern is written /pattern/"
                )));
            };
            return Self::pattern(&format!("^(?:{pattern})$"));
        }
        Self::list(location)
    }

    /// A comma list of topics; blanks around names and empty items are dropped, as in Spark.
    ///
    /// # Errors
    /// When no name is left.
    pub fn list(names: &str) -> Result<Self> {
        let names: BTreeSet<Arc<str>> = names
            .split(',')
            .map(str::trim)
            .filter(|n| !n.is_empty())
            .map(Into::into)
            .collect();
        if names.is_empty() {
            return Err(Error::invalid("no topics to subscribe: name at least one"));
        }
        Ok(Self::Named(names.into_iter().collect()))
    }

    /// Topics in whose name the regular expression is found.
    ///
    /// # Errors
    /// When it is empty or no regular expression.
    pub fn pattern(pattern: &str) -> Result<Self> {
        if pattern.is_empty() {
            return Err(Error::invalid("pattern to subscribe is empty"));
        }
        Regex::new(pattern).map(Self::Pattern).map_err(|e| {
            Error::invalid(format!(
                "topic pattern '{pattern}' is no regular expression: {e}"
            ))
        })
    }

    /// Spark's `assign`: `{"orders": [0, 1]}`.
    ///
    /// # Errors
    /// When it is no such JSON, or names no partition.
    pub fn assign(json: &str) -> Result<Self> {
        let assigned: BTreeMap<Arc<str>, BTreeSet<i32>> =
            serde_json::from_str(json).map_err(|e| {
                Error::invalid(format!(
                    "assign '{json}': expected JSON like {{\"orders\":[0,1]}}: {e}"
                ))
            })?;
        if assigned.values().all(BTreeSet::is_empty) {
            return Err(Error::invalid("no topic partitions to assign"));
        }
        Ok(Self::Assigned(assigned))
    }

    /// Whether a partition belongs to the table, as far as its name tells.
    pub fn covers(&self, partition: &TopicPartition) -> bool {
        let topic = &partition.topic;
        match self {
            Self::Named(names) => names.contains(topic),
            Self::Pattern(pattern) => pattern.is_match(topic),
            Self::Assigned(assigned) => assigned
                .get(topic)
                .is_some_and(|numbers| numbers.contains(&partition.partition)),
        }
    }

    /// Describes the cluster as far as these topics go: each with the partitions that belong to
    /// the table.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] or [`Error::UnknownPartition`] when something named is not there.
    pub async fn describe(&self, client: &dyn KafkaClient) -> Result<ClusterDescription> {
        match self {
            Self::Named(names) => described(client, names).await,
            Self::Pattern(pattern) => {
                let mut cluster = client.describe(TopicSelection::All).await?;
                let all: Vec<Arc<str>> =
                    cluster.topics.iter().map(|t| Arc::clone(&t.name)).collect();
                cluster
                    .topics
                    .retain(|t| !t.internal && pattern.is_match(&t.name));
                if cluster.topics.is_empty() {
                    return Err(unknown(&self.to_string(), &all));
                }
                Ok(cluster)
            }
            Self::Assigned(assigned) => {
                let names: Vec<Arc<str>> = assigned.keys().cloned().collect();
                let mut cluster = described(client, &names).await?;
                for topic in &mut cluster.topics {
                    if let Some(wanted) = assigned.get(&topic.name) {
                        assign(topic, wanted)?;
                    }
                }
                Ok(cluster)
            }
        }
    }
}

fn assign(topic: &mut TopicDescription, wanted: &BTreeSet<i32>) -> Result<()> {
    let count = topic.partitions.len();
    for partition in wanted {
        if !topic.partitions.iter().any(|p| p.partition == *partition) {
            return Err(Error::UnknownPartition {
                topic: topic.name.to_string(),
                partition: *partition,
                available: format!("partitions 0..{count}"),
            });
        }
    }
    topic.partitions.retain(|p| wanted.contains(&p.partition));
    Ok(())
}

async fn described(client: &dyn KafkaClient, names: &[Arc<str>]) -> Result<ClusterDescription> {
    let cluster = client.describe(TopicSelection::Named(names)).await?;
    let missing = names
        .iter()
        .find(|n| !cluster.topics.iter().any(|t| t.name == **n));
    let Some(missing) = missing else {
        return Ok(cluster);
    };
    // Only the message needs the other names: not seeing them is no reason to fail otherwise.
    let all = client
        .describe(TopicSelection::All)
        .await
        .unwrap_or_default();
    let all: Vec<Arc<str>> = all.topics.iter().map(|t| Arc::clone(&t.name)).collect();
    Err(unknown(missing, &all))
}

fn unknown(topic: &str, all: &[Arc<str>]) -> Error {
    Error::UnknownTopic {
        topic: topic.to_owned(),
        nearest: nearest_names(topic, all.iter().map(AsRef::as_ref)),
    }
}

/// As in a LOCATION; partitions as Spark writes them.
impl fmt::Display for TopicSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(names) => f.write_str(&names.join(",")),
            Self::Pattern(pattern) => write!(f, "/{pattern}/"),
            Self::Assigned(assigned) => {
                let shown: Vec<String> = assigned
                    .iter()
                    .map(|(topic, partitions)| {
                        let numbers: Vec<String> =
                            partitions.iter().map(ToString::to_string).collect();
                        format!("\"{topic}\":[{}]", numbers.join(","))
                    })
                    .collect();
                write!(f, "{{{}}}", shown.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_forms() {
        let names = |s: &str| TopicSource::parse(s).unwrap().to_string();
        assert_eq!(names("orders"), "orders");
        assert_eq!(names(" b, a ,,a"), "a,b");
        assert!(matches!(
            TopicSource::parse("/m-.*/"),
            Ok(TopicSource::Pattern(_))
        ));
        for bad in ["", " , ", "/", "//", "/a", "/(/"] {
            assert!(TopicSource::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn slashes_anchor_and_spark_patterns_find() {
        let TopicSource::Pattern(anchored) = TopicSource::parse("/a|b/").unwrap() else {
            panic!("a pattern")
        };
        assert!(anchored.is_match("a") && !anchored.is_match("xb"));
        let TopicSource::Pattern(found) = TopicSource::pattern("b").unwrap() else {
            panic!("a pattern")
        };
        assert!(found.is_match("abc"));
    }

    #[test]
    fn assign_is_strict_json() {
        let source = TopicSource::assign(r#"{"t":[1,0]}"#).unwrap();
        assert_eq!(source.to_string(), r#"{"t":[0,1]}"#);
        for bad in ["", "{}", r#"{"t":[]}"#, r#"{"t":["x"]}"#, "t"] {
            assert!(TopicSource::assign(bad).is_err(), "{bad:?}");
        }
    }
}
