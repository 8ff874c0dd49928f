//! The pages of topics, and that of queries.

use askama::Template;

use super::VERSION;
use super::query::{self, BUDGET_IN_WORDS, MOST_ROWS, literal};
use super::rows::Answer;
use super::words::{segment, shown};
use crate::problem::Problem;
use crate::service::Service;

/// How many of the last records are shown.
const LAST_RECORDS: usize = 50;

#[derive(Template)]
#[template(path = "topics.html")]
pub(super) struct Topics {
    here: &'static str,
    version: &'static str,
    rows: Vec<TopicRow>,
    problem: Option<String>,
}

pub(super) struct TopicRow {
    name: String,
    href: String,
    partitions: i32,
    replicas: i32,
}

impl TopicRow {
    pub(super) fn new(name: &str, partitions: i32, replicas: i32) -> Self {
        Self {
            href: format!("/topics/{}", segment(name)),
            name: shown(name),
            partitions,
            replicas,
        }
    }
}

impl Topics {
    pub(super) fn new(found: Result<Vec<TopicRow>, Problem>) -> Self {
        let (rows, problem) = match found {
            Ok(rows) => (rows, None),
            Err(problem) => (vec![], Some(shown(&problem.message))),
        };
        Self {
            here: "topics",
            version: VERSION,
            rows,
            problem,
        }
    }
}

#[derive(Template)]
#[template(path = "topic.html")]
pub(super) struct Topic {
    here: &'static str,
    version: &'static str,
    topic: String,
    href: String,
    what: String,
    range: String,
    offsets: Answer,
    records: Answer,
    query: String,
}

impl Topic {
    /// Asks for the offsets of a topic, and for the records of a range; the last ones unless there is one.
    pub(super) async fn new(service: &Service, topic: &str, range: &str) -> Self {
        let name = literal(topic);
        let offsets = format!(
            "SELECT partition, log_start_offset, high_watermark, last_stable_offset, leader, replicas, isr \
             FROM kafka_offsets({name}) ORDER BY partition"
        );
        let columns = "partition, \"offset\", timestamp, key, value, headers";
        let (what, records) = match range {
            "" => (
                "Last records".to_owned(),
                format!(
                    "SELECT {columns} FROM kafka({name}, '-{LAST_RECORDS}') \
                     ORDER BY timestamp DESC, partition, \"offset\" DESC LIMIT {LAST_RECORDS}"
                ),
            ),
            range => (
                "Records".to_owned(),
                format!(
                    "SELECT {columns} FROM kafka({name}, {}) ORDER BY partition, \"offset\" LIMIT {MOST_ROWS}",
                    literal(range)
                ),
            ),
        };
        let (offsets, records) =
            futures::join!(query::own(service, &offsets), query::own(service, &records));
        let example = format!("SELECT * FROM kafka({name}, '-100') LIMIT 100");
        Self {
            here: "topics",
            version: VERSION,
            topic: shown(topic),
            href: format!("/topics/{}", segment(topic)),
            what,
            range: range.to_owned(),
            offsets,
            records,
            query: format!("/query?sql={}", segment(&example)),
        }
    }
}

#[derive(Template)]
#[template(path = "query.html")]
pub(super) struct Ask {
    here: &'static str,
    version: &'static str,
    sql: String,
    answer: Answer,
    budget: &'static str,
    most_rows: usize,
}

impl Ask {
    pub(super) fn new(sql: String, answer: Answer) -> Self {
        Self {
            here: "query",
            version: VERSION,
            sql,
            answer,
            budget: BUDGET_IN_WORDS,
            most_rows: MOST_ROWS,
        }
    }
}
