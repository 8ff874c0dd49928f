//! The options that a table takes: names, values, defaults, meanings, and what takes them.
//!
//! Parsing, the nearest name in an error, the shell's `\options` and the README's tables come from
//! [`KNOWN`]. A new option is a new entry and, where it holds a value, a field of [`TableOptions`].

use std::fmt::Write;

use self::Group::{Columns, Formats, Ignored, Jobs, Reading, Records, Writing};
use self::Take::{Nothing, Part as P, Setting, Table as T};
use super::TableOptions;
use super::given::{Given, Part};
use crate::error::Result;
use crate::range::OnDataLoss;
use crate::table::{DeadLetters, TopicSource};

/// What options are about, and so where they are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Records,
    Columns,
    /// The Kafka sink takes these too.
    Formats,
    Reading,
    Jobs,
    Writing,
    Ignored,
}

impl Group {
    const ALL: [Self; 7] = [Records, Columns, Formats, Reading, Jobs, Writing, Ignored];

    fn title(self) -> &'static str {
        match self {
            Records => "Which records",
            Columns => "Which rows and columns",
            Formats => "How keys and values become columns, and columns keys and values",
            Reading => "How the table is read",
            Jobs => "How much a batch of a job takes",
            Writing => "How a job writes into the table",
            Ignored => "Options of Spark that have no effect",
        }
    }

    /// The page that says more.
    #[cfg(test)]
    fn page(self) -> Option<(&'static str, &'static str)> {
        match self {
            Columns => Some(("Formats", "docs/formats.md#records-that-do-not-decode")),
            Formats => Some(("Formats", "docs/formats.md")),
            Jobs => Some(("Triggers and limits", "docs/jobs.md#triggers-and-limits")),
            Writing => Some(("The Kafka sink", "docs/sinks-kafka.md")),
            Reading => Some(("Index", "docs/index.md")),
            Records | Ignored => None,
        }
    }
}

/// What takes the value of an option.
#[derive(Clone, Copy)]
pub(super) enum Take {
    Table(fn(&mut TableOptions, Given<'_>) -> Result<()>),
    /// One option for keys and one for values: `key.NAME` and `value.NAME`.
    Part(fn(&mut Part, Given<'_>) -> Result<()>),
    /// A setting of the connection under the same name.
    Setting,
    /// Nothing, for this reason.
    Nothing,
}

/// One option.
pub(super) struct Known {
    /// Our spelling.
    pub(super) name: &'static str,
    /// Spark's spelling, if Spark has the option.
    spark: &'static str,
    /// What may be written, with its unit.
    values: &'static str,
    /// What holds if nothing is written; in backquotes where it could be written.
    pub(super) default: &'static str,
    /// What the option does.
    pub(super) meaning: &'static str,
    pub(super) group: Group,
    pub(super) take: Take,
}

impl Known {
    /// The option of a name in any spelling.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        let wanted = plain(name);
        let named = |known: &&Self| known.spellings().any(|known| plain(&known) == wanted);
        KNOWN.iter().find(named)
    }

    /// The names that are listed and proposed.
    pub(super) fn names(&self) -> Vec<String> {
        match self.take {
            Take::Part(_) => vec![format!("key.{}", self.name), format!("value.{}", self.name)],
            _ => vec![self.name.to_owned()],
        }
    }

    pub(super) fn spellings(&self) -> impl Iterator<Item = String> {
        let spark = (!self.spark.is_empty()).then(|| self.spark.to_owned());
        self.names().into_iter().chain(spark)
    }
}

/// A name without case and separators.
pub(super) fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '.' | '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// The tables of the README: one for each group.
#[cfg(test)]
pub(super) fn markdown() -> String {
    let mut text = String::new();
    for group in Group::ALL {
        let page = group.page().map(|(name, to)| format!(" ([{name}][{to}])"));
        let _ = writeln!(
            text,
            "\n**{}**{}\n",
            group.title(),
            page.unwrap_or_default()
        );
        text.push_str(
            "| option | Spark's name | value | default | meaning |\n|---|---|---|---|---|\n",
        );
        for known in KNOWN.iter().filter(|known| known.group == group) {
            let code = |name: &str| match name {
                "" => String::new(),
                name => format!("`{name}`"),
            };
            let names: Vec<String> = known.names().iter().map(|name| code(name)).collect();
            let cells = [
                &names.join(", "),
                &code(known.spark),
                known.values,
                known.default,
                known.meaning,
            ];
            let _ = writeln!(text, "| {} |", cells.join(" | ").replace("  ", " "));
        }
    }
    text
}

/// The options whose names or meanings have `part` in them, for people at a terminal.
pub(super) fn help(part: &str) -> String {
    let part = part.to_lowercase();
    let is_meant = |known: &&Known| {
        let names = known.spellings().collect::<Vec<_>>().join(" ");
        part.is_empty()
            || names.to_lowercase().contains(&part)
            || plain(&names).contains(&plain(&part))
            || known.meaning.to_lowercase().contains(&part)
    };
    let mut text = String::new();
    for group in Group::ALL {
        let mut options = KNOWN
            .iter()
            .filter(|k| k.group == group)
            .filter(is_meant)
            .peekable();
        if options.peek().is_some() {
            let _ = writeln!(text, "{}:", group.title());
        }
        for known in options {
            let names = known.names().join(", ");
            let spark = match known.spark {
                "" => String::new(),
                spark => format!(" (Spark: {spark})"),
            };
            let _ = writeln!(text, "  {names}{spark}\n      {}", known.meaning);
            if !known.values.is_empty() {
                let default = match known.default {
                    "" => String::new(),
                    default => format!(" [default: {default}]"),
                };
                let _ = writeln!(text, "      {}{default}", known.values);
            }
        }
    }
    text
}

const NUMBER: &str = "a number above 0";
const SWITCH: &str = "`true`, `false`";

/// Writes an entry in two or three lines.
macro_rules! known {
    ($($group:ident {$(
        $name:literal $(or $spark:literal)?: $values:expr, $default:literal, $meaning:literal => $take:expr;
    )*})*) => {
        &[$($(Known {
            name: $name,
            spark: concat!($($spark)?),
            values: $values,
            default: $default,
            meaning: $meaning,
            group: $group,
            take: $take,
        },)*)*]
    };
}

pub(super) const KNOWN: &[Known] = known! {
Records {
    "subscribe" or "subscribe": "topics, separated by commas", "LOCATION",
        "the topics, where LOCATION is `''`; only one of `subscribe`, `subscribe.pattern` and `assign`"
        => T(|o, given| o.topics(given.name, TopicSource::list(given.value)));
    "subscribe.pattern" or "subscribePattern": "a regular expression", "",
        "all topics that match, where LOCATION is `''`"
        => T(|o, given| o.topics(given.name, TopicSource::pattern(given.value)));
    "assign" or "assign": "JSON: `{\"orders\":[0,2]}`", "",
        "these partitions of topics, where LOCATION is `''`"
        => T(|o, given| o.topics(given.name, TopicSource::assign(given.value)));
    "range": "a [range](#ranges)", "`start:end`",
        "the offsets to read; cannot be combined with the starting and ending options"
        => T(|o, given| given.parse().map(|range| o.range = Some(range)));
    "starting.offsets" or "startingOffsets": "`earliest`, or JSON by Spark's rules; in jobs also `latest`", "`earliest`",
        "the offsets to start from"
        => T(|o, given| given.text(&mut o.spark.starting_offsets));
    "ending.offsets" or "endingOffsets": "`latest`, or JSON by Spark's rules", "`latest`",
        "the offsets to end before; in queries only, as are all ending options"
        => T(|o, given| given.text(&mut o.spark.ending_offsets));
    "starting.offsets.by.timestamp" or "startingOffsetsByTimestamp": "JSON of times in ms since 1970", "",
        "a time to start from for each partition"
        => T(|o, given| given.text(&mut o.spark.starting_offsets_by_timestamp));
    "ending.offsets.by.timestamp" or "endingOffsetsByTimestamp": "JSON of times in ms since 1970", "",
        "a time to end before for each partition"
        => T(|o, given| given.text(&mut o.spark.ending_offsets_by_timestamp));
    "starting.timestamp" or "startingTimestamp": "ms since 1970", "",
        "one time to start from for all partitions"
        => T(|o, given| given.text(&mut o.spark.starting_timestamp));
    "ending.timestamp" or "endingTimestamp": "ms since 1970", "",
        "one time to end before for all partitions"
        => T(|o, given| given.text(&mut o.spark.ending_timestamp));
    "starting.offsets.by.timestamp.strategy" or "startingOffsetsByTimestampStrategy": "`error`, `latest`", "`error`",
        "what to do with a partition that has no record at or after its starting time"
        => T(|o, given| given.text(&mut o.spark.starting_offsets_by_timestamp_strategy));
    "redecode": "a topic, or a folder or URL", "",
        "reads the records of these dead letters again, instead of a range"
        => T(|o, given| { o.redecode = Some(DeadLetters::parse(given.value)); Ok(()) });
    "on.data.loss": "`fail`, `skip`", "`fail`",
        "what to do where offsets of the range are gone: fail, or read the rest and count what is missing"
        => T(|o, given| { let loss = given.on_data_loss()?; o.data_loss(loss) });
    "fail.on.data.loss" or "failOnDataLoss": SWITCH, "`true`",
        "the same by Spark's name; `false` also lets a range end after the end of the log"
        => T(|o, given| {
            o.past_end_is_end = !given.boolean()?;
            o.data_loss(if o.past_end_is_end { OnDataLoss::Skip } else { OnDataLoss::Fail })
        });
}
Columns {
    "metadata.columns": "names of columns, separated by commas", "all",
        "which of Kafka's columns the table has"
        => T(|o, given| given.columns().map(|columns| o.columns = Some(columns)));
    "include.headers" or "includeHeaders": SWITCH, "`true`",
        "`false` leaves the column `headers` out"
        => T(|o, given| given.boolean().map(|headers| o.headers = Some(headers)));
    "on.bad.row": "`fail`, `null`, `skip`, `dlq`", "`fail`",
        "what to do with a record that does not decode; `dlq` sets it aside as a dead letter, in jobs and exports"
        => T(|o, given| given.parse().map(|on| o.formats.bad_rows.on = on));
    "bad.row.limit": "a number or a percentage: `100`, `0.1%`", "no limit",
        "how many bad records a statement tolerates"
        => T(|o, given| given.parse().map(|limit| o.formats.bad_rows.limit = Some(limit)));
    "dlq.topic": "a topic", "",
        "the topic that takes dead letters; only one of `dlq.topic` and `dlq.location`"
        => T(|o, given| o.dead_letters(DeadLetters::Topic(given.value.into())));
    "dlq.location": "a folder or URL", "",
        "the parquet location that takes dead letters"
        => T(|o, given| o.dead_letters(DeadLetters::Location(given.value.to_owned())));
}
Formats {
    "format": "`raw`, `text`, `json`, `csv`, `avro`, `avro-single-object`, `protobuf`, `debezium-json`, \
               `debezium-avro`, `int32`, `int64`, `float`, `double`, `uuid`", "`raw`",
        "how the bytes are read and written; `avro-registry` and the like also demand a registry"
        => P(|part, given| part.name(given.value));
    "csv.delimiter": "one ASCII character, or `\\t`", "`,`",
        "what separates the fields of CSV"
        => P(|part, given| given.delimiter().map(|byte| part.csv_delimiter = byte));
    "schema.file": "a path", "",
        "the schema: `.avsc`, `.proto`, a descriptor set, or a JSON Schema"
        => P(|part, given| given.text(&mut part.schema.file));
    "schema.message": "a name with its package", "",
        "the Protobuf message; the record that a subject is named after"
        => P(|part, given| given.text(&mut part.schema.message));
    "subject": "a subject", "by the strategy",
        "the subject of the schema in the registry"
        => P(|part, given| given.text(&mut part.schema.subject));
    "subject.name.strategy": "`topic`, `record`, `topic-record`, or Confluent's class names", "`topic`",
        "how subjects are named"
        => P(|part, given| given.parse().map(|names| part.schema.subjects = names));
    "schema.version": "a number, or `latest`", "`latest`",
        "the version of the subject to read or write with"
        => P(|part, given| given.version().map(|version| part.schema.version = version));
    "schema.registry.url": "URLs, separated by commas", "the session's",
        "a registry with Confluent's API; further URLs are asked when one does not answer"
        => Setting;
    "schema.registry.basic.auth.user.info": "`user:password`, `env:NAME`, `file:PATH`", "the session's",
        "the login at the registry"
        => Setting;
    "schema.registry.bearer.auth.token": "a token, `env:NAME`, `file:PATH`", "the session's",
        "the token for the registry"
        => Setting;
    "schema.registry.ssl.ca.location": "a PEM file, or a folder of PEM files", "the system's",
        "the authorities to trust in a registry's certificate"
        => Setting;
    "schema.registry.request.timeout.ms": "ms", "`10000`",
        "how long a question to the registry may take, with its repetitions"
        => Setting;
    "schema.registry.auto.register": SWITCH, "`false`",
        "whether a job may register the schema that it writes with"
        => T(auto_register);
    "auto.register.schemas": SWITCH, "`false`",
        "the same by Confluent's name"
        => T(auto_register);
    "key.prefix": "text", "`key_`",
        "the beginning of the names of the key's columns"
        => T(|o, given| { o.formats.key_prefix = given.value.to_owned(); Ok(()) });
    "metadata.prefix": "text", "none",
        "the beginning of the names of Kafka's columns"
        => T(|o, given| { o.formats.metadata_prefix = given.value.to_owned(); Ok(()) });
}
Reading {
    "index": "a folder or URL", "",
        "an index of the topics: conditions read only where it says that matching records may be"
        => T(|o, given| given.text(&mut o.index));
    "min.partitions" or "minPartitions": NUMBER, "balanced",
        "splits ranges into at least this many, by Spark's arithmetic"
        => T(|o, given| given.positive().map(|n| o.min_partitions = Some(n)));
    "max.records.per.partition" or "maxRecordsPerPartition": "a number of offsets", "balanced",
        "splits ranges that are longer than this, by Spark's arithmetic"
        => T(|o, given| given.positive().map(|n| o.max_records_per_partition = Some(n)));
    "batch.bytes": "a number of bytes", "`8388608`",
        "closes a record batch when its keys and values have this size"
        => T(|o, given| given.positive().map(|n| o.batch_bytes = Some(n)));
    "key.partitioner": "`murmur2`, `consistent_random`, `fnv1a`, `none`", "the session's, or `none`",
        "how producers choose partitions by keys, so that `key = 'x'` reads only one of them"
        => Setting;
    "max.scan.records": "a number: `1000000`, `50M`", "no limit",
        "the most records that a statement reads of the table"
        => Setting;
    "max.scan.bytes": "bytes: `500M`, `10G`", "no limit",
        "the most bytes of keys, values and headers that a statement reads of the table"
        => Setting;
    "max.scan.time": "a time span: `30s`, `10m`", "no limit",
        "how long a statement may read the table"
        => Setting;
    "isolation.level" or "kafka.isolation.level": "`read_committed`, `read_uncommitted`", "`read_committed`",
        "whether records of open and aborted transactions are read"
        => Setting;
    "request.timeout.ms": "ms", "`15000`",
        "how long a question to the cluster may take"
        => Setting;
    "read.timeout.ms" or "kafkaConsumer.pollTimeoutMs": "ms", "`60000`",
        "how long a read may go without progress before it fails"
        => Setting;
}
Jobs {
    "max.offsets.per.trigger" or "maxOffsetsPerTrigger": "a number of offsets", "no limit",
        "about the most offsets in a batch, shared out by the partitions' backlogs"
        => T(|o, given| given.positive().map(|n| o.limits.max_offsets = Some(n)));
    "max.offsets.per.partition": "a number of offsets", "no limit",
        "the most offsets of each partition in a batch"
        => T(|o, given| given.positive().map(|n| o.limits.max_offsets_per_partition = Some(n)));
    "max.batch.bytes": "a number of bytes", "no limit",
        "about the most key and value bytes in a batch, estimated from earlier batches"
        => T(|o, given| given.positive().map(|n| o.limits.max_bytes = Some(n)));
    "min.offsets.per.trigger" or "minOffsetsPerTrigger": "a number of offsets", "no wait",
        "waits until there are this many new offsets"
        => T(|o, given| given.positive().map(|n| o.limits.min_offsets = Some(n)));
    "max.trigger.delay" or "maxTriggerDelay": "a time span: `30s`, `15m`", "`15m`",
        "the longest wait for `min.offsets.per.trigger`"
        => T(|o, given| given.duration().map(|delay| o.limits.max_delay = Some(delay)));
    "lag": "a time span: `30s`, `15m`", "none",
        "ends a batch at the first record whose timestamp is younger than this"
        => T(|o, given| given.duration().map(|lag| o.limits.lag = Some(lag)));
}
Writing {
    "delivery": "`exactly-once`, `at-least-once`", "`exactly-once`",
        "`at-least-once` writes without transactions"
        => T(|o, given| given.parse().map(|delivery| o.sink.delivery = delivery));
    "shared": SWITCH, "`false`",
        "lets several jobs write into the topic"
        => T(|o, given| given.boolean().map(|shared| o.sink.shared = shared));
    "state.topic": "a topic", "`_kafka_sql_jobs`",
        "the topic that records how far jobs are"
        => T(|o, given| { o.sink.state_topic = given.value.to_owned(); Ok(()) });
    "transactional.id.prefix": "text", "`kafka-sql:`",
        "the beginning of transactional ids; the rest is `JOB:TOPIC`"
        => T(|o, given| { o.sink.transactional_id_prefix = given.value.to_owned(); Ok(()) });
}
Ignored {
    "group.id.prefix" or "groupIdPrefix": "", "",
        "no consumer group is ever joined"
        => Nothing;
    "fetch.offset.num.retries" or "fetchOffset.numRetries": "", "",
        "look-ups are retried until `request.timeout.ms`"
        => Nothing;
    "fetch.offset.retry.interval.ms" or "fetchOffset.retryIntervalMs": "", "",
        "look-ups are retried until `request.timeout.ms`"
        => Nothing;
}
};

fn auto_register(options: &mut TableOptions, given: Given<'_>) -> Result<()> {
    options.formats.auto_register = given.boolean()?;
    Ok(())
}
