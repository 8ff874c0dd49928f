//! The events of a job as OpenLineage writes them, made of what the driver says: values, no I/O.
//!
//! A batch is a run of its job. A batch that is tried again is a run for each attempt, since a run that has failed has
//! ended.

use std::sync::OnceLock;

use datafusion_kafka::driver::{BatchProgress, Intent, SinkProgress, SourceProgress};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::naming::Dataset;

const PRODUCER: &str = concat!(
    "https://docs.rs/crate/datafusion-kafka-serve/",
    env!("CARGO_PKG_VERSION")
);
const RUN_EVENT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
/// Where the definitions of OpenLineage's own facets are.
const FACETS: &str = "https://openlineage.io/spec/facets/";
/// Where those of ours are: a file of this crate.
const OWN_FACETS: &str = concat!(
    "https://docs.rs/crate/datafusion-kafka-serve/",
    env!("CARGO_PKG_VERSION"),
    "/source/src/lineage/facets.json"
);

/// What the events of a job have in common.
#[derive(Debug)]
pub(crate) struct About {
    /// The namespace of jobs that the operator chose.
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The statements, without secrets.
    pub(crate) sql: String,
    /// The brokers of the job's connection.
    pub(crate) servers: String,
    /// Sources that read other clusters, with the brokers of these.
    pub(crate) elsewhere: OnceLock<Vec<(String, String)>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    event_type: &'static str,
    event_time: String,
    run: Run,
    job: Value,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    producer: &'static str,
    #[serde(rename = "schemaURL")]
    schema_url: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    run_id: String,
    facets: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    #[serde(flatten)]
    dataset: Dataset,
    input_facets: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    #[serde(flatten)]
    dataset: Dataset,
    output_facets: Value,
}

impl About {
    /// A batch begins.
    pub(crate) fn started(&self, run_id: Uuid, now: Timestamp) -> Event {
        self.event("START", now, run_id, json!({}))
    }

    /// A batch was committed.
    pub(crate) fn committed(
        &self,
        run_id: Uuid,
        intent: &Intent,
        progress: &BatchProgress,
        now: Timestamp,
    ) -> Event {
        let facets = json!({
            "kafkaSql_batch": own("BatchRunFacet", &json!({
                "batch": progress.batch,
                "driverRun": progress.run,
                "recovered": progress.recovered,
                "retries": progress.retries,
                "durationMs": progress.duration_ms,
                "phasesMs": progress.phases_ms,
            })),
            "kafkaSql_receipt": own("ReceiptRunFacet", &json!({
                "intent": intent,
                "committedMs": now.as_millisecond(),
            })),
        });
        let mut complete = self.event("COMPLETE", now, run_id, facets);
        let sources = progress.sources.iter();
        complete.inputs = sources.flat_map(|source| self.inputs(source)).collect();
        complete.outputs = progress.sinks.iter().map(output).collect();
        complete
    }

    /// An attempt has failed.
    pub(crate) fn failed(&self, run_id: Uuid, message: &str, now: Timestamp) -> Event {
        let facets = json!({
            "errorMessage": facet("1-0-1/ErrorMessageRunFacet", &json!({
                "message": message,
                "programmingLanguage": "Rust",
            })),
        });
        self.event("FAIL", now, run_id, facets)
    }

    fn event(&self, event_type: &'static str, time: Timestamp, run_id: Uuid, more: Value) -> Event {
        let mut facets = json!({
            "processing_engine": facet("1-1-1/ProcessingEngineRunFacet", &json!({
                "name": "kafka-sql",
                "version": env!("CARGO_PKG_VERSION"),
                "openlineageAdapterVersion": env!("CARGO_PKG_VERSION"),
            })),
        });
        merge(&mut facets, more);
        Event {
            event_type,
            event_time: time.to_string(),
            run: Run {
                run_id: run_id.to_string(),
                facets,
            },
            job: json!({
                "namespace": self.namespace,
                "name": self.name,
                "facets": {
                    "jobType": facet("2-0-4/JobTypeJobFacet", &json!({
                        "processingType": "STREAMING",
                        "integration": "KAFKA_SQL",
                        "jobType": "MICRO_BATCH",
                    })),
                    "sql": facet("1-1-0/SQLJobFacet", &json!({
                        "query": self.sql,
                        "dialect": "datafusion",
                    })),
                },
            }),
            inputs: vec![],
            outputs: vec![],
            producer: PRODUCER,
            schema_url: RUN_EVENT,
        }
    }

    /// An input for each topic of a source. The counts are those of the source: a source of several topics has them
    /// with its first one.
    fn inputs(&self, source: &SourceProgress) -> Vec<Input> {
        let mut elsewhere = self.elsewhere.get().into_iter().flatten();
        let other = elsewhere.find(|(name, _)| *name == source.source);
        let servers = other.map_or(&self.servers, |(_, servers)| servers);
        let mut topics: Vec<&str> = source.ranges.iter().map(|range| &**range.topic()).collect();
        topics.sort_unstable();
        topics.dedup();
        let input = |(number, topic): (usize, &str)| {
            let of_topic = source
                .ranges
                .iter()
                .filter(|range| **range.topic() == *topic);
            let mut ranges = json!({
                "source": source.source,
                "ranges": of_topic.collect::<Vec<_>>(),
            });
            let mut facets = json!({});
            if number == 0 {
                merge(
                    &mut ranges,
                    json!({
                        "ledger": source.ledger,
                        "badRows": source.bad_rows,
                        "lostOffsets": source.lost_offsets,
                        "lost": source.lost,
                    }),
                );
                facets["inputStatistics"] = facet(
                    "1-0-0/InputStatisticsInputDatasetFacet",
                    &json!({ "rowCount": source.records, "size": source.bytes }),
                );
            }
            facets["kafkaSql_ranges"] = own("RangesInputDatasetFacet", &ranges);
            Input {
                dataset: Dataset::topic(servers, topic),
                input_facets: facets,
            }
        };
        topics.into_iter().enumerate().map(input).collect()
    }
}

fn output(sink: &SinkProgress) -> Output {
    let statistics = json!({ "rowCount": sink.rows, "size": sink.bytes });
    Output {
        dataset: Dataset::target(&sink.target),
        output_facets: json!({
            "outputStatistics": facet("1-0-2/OutputStatisticsOutputDatasetFacet", &statistics),
        }),
    }
}

/// A facet of OpenLineage's, by version and name.
fn facet(of: &str, fields: &Value) -> Value {
    let name = of.rsplit('/').next().unwrap_or(of);
    with_schema(&format!("{FACETS}{of}.json#/$defs/{name}"), fields)
}

/// A facet of ours.
fn own(name: &str, fields: &Value) -> Value {
    with_schema(&format!("{OWN_FACETS}#/$defs/{name}"), fields)
}

fn with_schema(schema: &str, fields: &Value) -> Value {
    let mut facet = json!({ "_producer": PRODUCER, "_schemaURL": schema });
    merge(&mut facet, fields.clone());
    facet
}

/// Adds the fields of one object to another.
fn merge(to: &mut Value, fields: Value) {
    if let (Value::Object(to), Value::Object(fields)) = (to, fields) {
        to.extend(fields);
    }
}
