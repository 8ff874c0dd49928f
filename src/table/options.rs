//! The options of a table, as CREATE EXTERNAL TABLE and the table function take them.
//!
//! Names are ours (`starting.offsets`) or Spark's (`startingOffsets`); case, dots, dashes and
//! underscores make no difference. `kafka.*` goes to the connection. An option that is not known
//! is an error that names the nearest one; one of Spark's that has no effect here is passed over
//! with a warning.

use std::time::Duration;

use crate::config::{self, ConnectionConfig};
use arrow::datatypes::Fields;

use crate::decode::{Column, RegistryConfig};
use crate::error::{Error, Result, nearest_names};
use crate::formats::Formats;
use crate::policy::Policy;
use crate::range::{OnDataLoss, RangeSpec, SparkOffsets};
use crate::redact::without_login;
use crate::statement::columns_of;

use super::reading::Readers;
use super::{DeadLetters, KafkaSinkOptions, KafkaTable, KafkaTableBuilder, Limits, TopicSource};

/// Every option that is not the connection's, in our spelling.
const NAMES: &[&str] = &[
    "assign",
    "auto.register.schemas",
    "bad.row.limit",
    "batch.bytes",
    "delivery",
    "dlq.location",
    "dlq.topic",
    "ending.offsets",
    "ending.offsets.by.timestamp",
    "ending.timestamp",
    "fail.on.data.loss",
    "include.headers",
    "isolation.level",
    "kafka.consumer.poll.timeout.ms",
    "key.csv.delimiter",
    "key.format",
    "key.prefix",
    "key.schema.file",
    "key.schema.message",
    "key.schema.version",
    "key.subject",
    "key.subject.name.strategy",
    "lag",
    "max.batch.bytes",
    "max.offsets.per.partition",
    "max.offsets.per.trigger",
    "max.records.per.partition",
    "max.trigger.delay",
    "metadata.columns",
    "metadata.prefix",
    "min.offsets.per.trigger",
    "min.partitions",
    "on.bad.row",
    "on.data.loss",
    "range",
    "redecode",
    "read.timeout.ms",
    "request.timeout.ms",
    "schema.registry.auto.register",
    "schema.registry.basic.auth.user.info",
    "schema.registry.bearer.auth.token",
    "schema.registry.request.timeout.ms",
    "schema.registry.ssl.ca.location",
    "schema.registry.url",
    "shared",
    "starting.offsets",
    "starting.offsets.by.timestamp",
    "starting.offsets.by.timestamp.strategy",
    "starting.timestamp",
    "state.topic",
    "subscribe",
    "subscribe.pattern",
    "transactional.id.prefix",
    "value.csv.delimiter",
    "value.format",
    "value.schema.file",
    "value.schema.message",
    "value.schema.version",
    "value.subject",
    "value.subject.name.strategy",
];

/// Options of Spark that change nothing here, with the reason.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("group.id.prefix", "no consumer group is ever joined"),
    (
        "fetch.offset.num.retries",
        "look-ups are retried until request.timeout.ms",
    ),
    (
        "fetch.offset.retry.interval.ms",
        "look-ups are retried until request.timeout.ms",
    ),
];

/// Options of a table, checked one by one.
#[derive(Debug, Clone, Default)]
pub struct TableOptions {
    connection: Vec<(String, String)>,
    /// Options as given, for [`TableOptions::definition`].
    given: Vec<(String, String)>,
    subscribe: Option<TopicSource>,
    range: Option<RangeSpec>,
    spark: SparkOffsets,
    spark_range: bool,
    on_data_loss: Option<OnDataLoss>,
    /// Spark's `failOnDataLoss` = `false` gives what exists also where a range ends behind the log.
    past_end_is_end: bool,
    formats: Formats,
    columns: Option<Vec<Column>>,
    headers: Option<bool>,
    min_partitions: Option<usize>,
    max_records_per_partition: Option<u64>,
    batch_bytes: Option<usize>,
    limits: Limits,
    sink: KafkaSinkOptions,
    letters: Option<DeadLetters>,
    redecode: Option<DeadLetters>,
    /// What the text may do that the options stand in; `None` when they are its user's own.
    policy: Option<Policy>,
}

impl TableOptions {
    /// Options that stand in the text of a statement, in a session with this policy.
    pub(crate) fn of_statement(policy: Policy) -> Self {
        Self {
            policy: Some(policy),
            ..Self::default()
        }
    }

    /// Checks one option and takes it.
    ///
    /// # Errors
    /// When the name is not known or the value does not fit.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.given.push((name.to_owned(), value.to_owned()));
        let plain = plain(name);
        if plain != "kafkaconsumerpolltimeoutms"
            && let Some(key) = name.to_ascii_lowercase().strip_prefix("kafka.")
        {
            self.connection.push((key.to_owned(), value.to_owned()));
            return Ok(());
        }
        let text = || Some(value.to_owned());
        match plain.as_str() {
            "assign" => self.topics(name, TopicSource::assign(value))?,
            "subscribe" => self.topics(name, TopicSource::list(value))?,
            "subscribepattern" => self.topics(name, TopicSource::pattern(value))?,
            "range" => self.range = Some(value.parse()?),
            "startingoffsets" => self.spark.starting_offsets = text(),
            "endingoffsets" => self.spark.ending_offsets = text(),
            "startingoffsetsbytimestamp" => self.spark.starting_offsets_by_timestamp = text(),
            "endingoffsetsbytimestamp" => self.spark.ending_offsets_by_timestamp = text(),
            "startingtimestamp" => self.spark.starting_timestamp = text(),
            "endingtimestamp" => self.spark.ending_timestamp = text(),
            "startingoffsetsbytimestampstrategy" => {
                self.spark.starting_offsets_by_timestamp_strategy = text();
            }
            "failondataloss" => {
                let fails = boolean(name, value)?;
                self.past_end_is_end = !fails;
                self.data_loss(if fails {
                    OnDataLoss::Fail
                } else {
                    OnDataLoss::Skip
                })?;
            }
            "ondataloss" => self.data_loss(match value.to_ascii_lowercase().as_str() {
                "fail" => OnDataLoss::Fail,
                "skip" => OnDataLoss::Skip,
                _ => return Err(refused(name, value, "'fail' or 'skip'")),
            })?,
            "keyformat" => self.formats.key.name(value)?,
            "valueformat" => self.formats.value.name(value)?,
            "keycsvdelimiter" => self.formats.key.csv_delimiter = delimiter(name, value)?,
            "valuecsvdelimiter" => self.formats.value.csv_delimiter = delimiter(name, value)?,
            "keyschemafile" => self.formats.key.schema.file = text(),
            "valueschemafile" => self.formats.value.schema.file = text(),
            "keyschemamessage" => self.formats.key.schema.message = text(),
            "valueschemamessage" => self.formats.value.schema.message = text(),
            "keysubject" => self.formats.key.schema.subject = text(),
            "valuesubject" => self.formats.value.schema.subject = text(),
            "keysubjectnamestrategy" => self.formats.key.schema.subjects = value.parse()?,
            "valuesubjectnamestrategy" => self.formats.value.schema.subjects = value.parse()?,
            "keyschemaversion" => self.formats.key.schema.version = version(name, value)?,
            "valueschemaversion" => self.formats.value.schema.version = version(name, value)?,
            "schemaregistryautoregister" | "autoregisterschemas" => {
                self.formats.auto_register = boolean(name, value)?;
            }
            registry if registry.starts_with("schemaregistry") => {
                // In the spelling that it has as a setting.
                let known = NAMES.iter().find(|known| self::plain(known) == registry);
                self.connect(known.copied().unwrap_or(name), value);
            }
            "keyprefix" => self.formats.key_prefix = value.to_owned(),
            "metadataprefix" => self.formats.metadata_prefix = value.to_owned(),
            "onbadrow" => self.formats.bad_rows.on = value.parse()?,
            "badrowlimit" => self.formats.bad_rows.limit = Some(value.parse()?),
            "dlqtopic" => self.letters(DeadLetters::Topic(value.into()))?,
            "dlqlocation" => self.letters(DeadLetters::Location(value.to_owned()))?,
            "redecode" => self.redecode = Some(DeadLetters::parse(value)),
            "includeheaders" => self.headers = Some(boolean(name, value)?),
            "metadatacolumns" => self.columns = Some(columns(value)?),
            "minpartitions" => self.min_partitions = Some(positive(name, value)?),
            "maxrecordsperpartition" => {
                self.max_records_per_partition = Some(positive(name, value)?);
            }
            "maxoffsetspertrigger" => self.limits.max_offsets = Some(positive(name, value)?),
            "maxoffsetsperpartition" => {
                self.limits.max_offsets_per_partition = Some(positive(name, value)?);
            }
            "maxbatchbytes" => self.limits.max_bytes = Some(positive(name, value)?),
            "minoffsetspertrigger" => self.limits.min_offsets = Some(positive(name, value)?),
            "maxtriggerdelay" => self.limits.max_delay = Some(duration(name, value)?),
            "lag" => self.limits.lag = Some(duration(name, value)?),
            "delivery" => self.sink.delivery = value.parse()?,
            "shared" => self.sink.shared = boolean(name, value)?,
            "statetopic" => self.sink.state_topic = value.to_owned(),
            "transactionalidprefix" => self.sink.transactional_id_prefix = value.to_owned(),
            "batchbytes" => self.batch_bytes = Some(positive(name, value)?),
            "isolationlevel" => self.connect("isolation.level", value),
            "requesttimeoutms" => self.connect("request.timeout.ms", value),
            "readtimeoutms" | "kafkaconsumerpolltimeoutms" => {
                self.connect("read.timeout.ms", value);
            }
            _ => match WITHOUT_EFFECT.iter().find(|(n, _)| self::plain(n) == plain) {
                Some((_, reason)) => log::warn!("option '{name}' has no effect: {reason}"),
                None => return Err(unknown(name)),
            },
        }
        self.spark_range |= plain.starts_with("starting") || plain.starts_with("ending");
        Ok(())
    }

    /// Takes the columns that a statement declares.
    pub(super) fn declare(&mut self, columns: Fields) {
        self.formats.declared = Some(columns);
    }

    fn connect(&mut self, key: &str, value: &str) {
        self.connection.push((key.to_owned(), value.to_owned()));
    }

    fn topics(&mut self, name: &str, topics: Result<TopicSource>) -> Result<()> {
        let topics = topics.map_err(|e| Error::config(name, e.to_string()))?;
        if self.subscribe.is_some() {
            return Err(Error::invalid(
                "only one of 'subscribe', 'subscribePattern' and 'assign' may be given",
            ));
        }
        self.subscribe = Some(topics);
        Ok(())
    }

    fn letters(&mut self, place: DeadLetters) -> Result<()> {
        if self.letters.is_some() {
            return Err(Error::invalid(
                "only one of 'dlq.topic' and 'dlq.location' may be given",
            ));
        }
        self.letters = Some(place);
        Ok(())
    }

    fn data_loss(&mut self, on_data_loss: OnDataLoss) -> Result<()> {
        if self.on_data_loss.is_some_and(|given| given != on_data_loss) {
            return Err(Error::invalid(
                "'on.data.loss' and 'failOnDataLoss' contradict each other: give one of them",
            ));
        }
        self.on_data_loss = Some(on_data_loss);
        Ok(())
    }

    /// What the options say of the formats that are written; `defaults` may have a registry.
    ///
    /// # Errors
    /// When an option is not about formats, or the registry's cannot be used.
    #[cfg(all(feature = "jobs", feature = "librdkafka"))]
    pub(crate) fn write_formats(&self, defaults: &ConnectionConfig) -> Result<Formats> {
        let about = |name: &str| {
            let name = plain(name);
            let begins = [
                "key",
                "value",
                "schemaregistry",
                "autoregister",
                "metadataprefix",
            ];
            begins.iter().any(|begin| name.starts_with(begin))
        };
        if let Some((name, _)) = self.given.iter().find(|(name, _)| !about(name)) {
            return Err(Error::invalid(format!(
                "option '{name}' is not about formats, which are told by 'key.…', 'value.…', \
                 'schema.registry.…' and 'metadata.prefix'"
            )));
        }
        let config = self.config(Some(defaults))?;
        self.all_formats(&config)
    }

    fn all_formats(&self, config: &ConnectionConfig) -> Result<Formats> {
        let policy = self.policy.clone().unwrap_or_default();
        let mut formats = self.formats.clone();
        formats.key.schema.policy = policy.clone();
        formats.value.schema.policy = policy;
        Ok(Formats {
            columns: self.table_columns(),
            registry: RegistryConfig::from_options(config.registry())?,
            ..formats
        })
    }

    /// A table of these options; `location` as in LOCATION, `defaults` the session's connection.
    ///
    /// # Errors
    /// When topics are named twice or not at all, ranges are given twice, or a setting of the
    /// connection is refused.
    pub fn table(
        &self,
        location: &str,
        range: Option<RangeSpec>,
        defaults: Option<&ConnectionConfig>,
    ) -> Result<KafkaTableBuilder> {
        let config = self.config(defaults)?;
        if config.bootstrap_servers().is_empty() {
            return Err(Error::config(
                "kafka.bootstrap.servers",
                "a Kafka table needs the brokers' addresses, for example 'localhost:9092'",
            ));
        }
        self.check_limits()?;
        if let Some(policy) = &self.policy {
            let places = self.letters.iter().chain(&self.redecode);
            places
                .into_iter()
                .try_for_each(|place| place.check_allowed(policy))?;
        }
        let formats = self.all_formats(&config)?;
        let (range, readers) = self.range_spec(range)?;
        let mut builder = KafkaTable::builder(&config)
            .limits(self.limits.clone())
            .source(self.source(location)?)
            .range_spec(range)
            .readers(readers)
            .on_data_loss(self.on_data_loss.unwrap_or_default())
            .past_end_is_end(self.past_end_is_end)
            .formats(formats)
            .sink_options(self.sink.clone());
        if let Some(place) = &self.letters {
            builder = builder.dead_letters(place.clone());
        }
        if let Some(place) = &self.redecode {
            builder = builder.redecode(place.clone());
        }
        if let Some(partitions) = self.min_partitions {
            builder = builder.min_partitions(partitions);
        }
        if let Some(records) = self.max_records_per_partition {
            builder = builder.max_records_per_partition(records);
        }
        if let Some(bytes) = self.batch_bytes {
            builder = builder.batch_bytes(bytes);
        }
        Ok(builder)
    }

    fn check_limits(&self) -> Result<()> {
        if let (Some(min), Some(max)) = (self.limits.min_offsets, self.limits.max_offsets)
            && min > max
        {
            return Err(Error::invalid(format!(
                "'minOffsetsPerTrigger' = {min} is above 'maxOffsetsPerTrigger' = {max}: \
                 no batch could have so many offsets"
            )));
        }
        Ok(())
    }

    /// The session's settings with this table's on top. A table that names other brokers starts
    /// from nothing, and one that changes whom a client trusts or how it proves itself leaves the
    /// session's credentials behind: they must not travel where they were not given for. The same goes
    /// for a schema registry.
    fn config(&self, defaults: Option<&ConnectionConfig>) -> Result<ConnectionConfig> {
        let mut own = ConnectionConfig::empty();
        for (key, value) in &self.connection {
            match &self.policy {
                Some(policy) => own.set_by_statement(key, value, policy)?,
                None => own.set(key, value)?,
            }
        }
        let mut config = match defaults {
            Some(defaults) => defaults.base_for(&own),
            None => ConnectionConfig::empty(),
        };
        config.merge(&own);
        if let Some(policy) = &self.policy {
            policy.check_brokers(&config)?;
            let registry = config.get("schema.registry.url").unwrap_or_default();
            policy.check_urls("the schema registry", registry)?;
        }
        Ok(config)
    }

    fn source(&self, location: &str) -> Result<TopicSource> {
        match (&self.subscribe, location.trim()) {
            (Some(topics), "") => Ok(topics.clone()),
            (None, "") => Err(Error::invalid(
                "one of LOCATION, 'subscribe', 'subscribePattern' and 'assign' must be given",
            )),
            (None, location) => TopicSource::parse(location),
            (Some(_), location) => Err(Error::invalid(format!(
                "topics are given twice: by LOCATION '{location}' and by an option; leave LOCATION '' or drop the option"
            ))),
        }
    }

    /// The range, and who may read it.
    fn range_spec(&self, argument: Option<RangeSpec>) -> Result<(RangeSpec, Readers)> {
        let given = argument.or_else(|| self.range.clone());
        let range = match (given, self.spark_range) {
            (Some(_), true) => {
                return Err(Error::invalid(
                    "the range is given twice: as 'range' and by Spark's starting and ending options",
                ));
            }
            (Some(range), false) => range,
            (None, false) => RangeSpec::default(),
            (None, true) => match RangeSpec::from_spark(&self.spark) {
                Ok(range) => range,
                Err(refused) => return self.stream_start(refused),
            },
        };
        let ending = self.spark.ending_option();
        Ok((range, ending.map_or(Readers::All, Readers::Queries)))
    }

    /// Spark's streams start at `latest`, its batch reader refuses that: so do jobs and queries.
    fn stream_start(&self, refused: Error) -> Result<(RangeSpec, Readers)> {
        let alone = SparkOffsets {
            starting_offsets: self.spark.starting_offsets.clone(),
            ..SparkOffsets::default()
        };
        let starts = alone.starting_offsets.as_deref().unwrap_or_default().trim();
        let ours = if starts.eq_ignore_ascii_case("latest") {
            Some("end")
        } else {
            starts.starts_with('{').then_some(starts)
        };
        // Our own grammar knows both forms, with `latest` and -1.
        match ours.map(str::parse) {
            Some(Ok(range)) if alone == self.spark => Ok((range, Readers::Jobs(refused))),
            _ => Err(refused),
        }
    }

    fn table_columns(&self) -> Vec<Column> {
        let columns = self.columns.clone().unwrap_or(Column::ALL.to_vec());
        columns
            .into_iter()
            .filter(|c| *c != Column::Headers || self.headers != Some(false))
            .collect()
    }

    /// The statement that creates this table, values of secret options masked.
    pub fn definition(&self, name: &str, location: &str) -> String {
        let quoted = |text: &str| text.replace('\'', "''");
        let options: Vec<String> = self
            .given
            .iter()
            .map(|(name, value)| {
                let key = name.to_ascii_lowercase();
                let key = key.strip_prefix("kafka.").unwrap_or(&key);
                let shown = if config::hides(key, value) {
                    "***".to_owned()
                } else if matches!(plain(key).as_str(), "dlqlocation" | "redecode") {
                    without_login(value)
                } else {
                    value.clone()
                };
                format!("'{}' '{}'", quoted(name), quoted(&shown))
            })
            .collect();
        let options = if options.is_empty() {
            String::new()
        } else {
            format!(" OPTIONS ({})", options.join(", "))
        };
        let columns = match &self.formats.declared {
            Some(fields) => format!(" ({})", columns_of(fields).join(", ")),
            None => String::new(),
        };
        format!(
            "CREATE EXTERNAL TABLE {name}{columns} STORED AS KAFKA LOCATION '{}'{options}",
            quoted(location)
        )
    }
}

/// A name without case and separators.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '.' | '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

fn unknown(name: &str) -> Error {
    let nearest = nearest_names(name, NAMES.iter().copied());
    let hint = match nearest.first() {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => "settings of the connection are written 'kafka.<name>'".to_owned(),
    };
    Error::invalid(format!("option '{name}' is not known: {hint}"))
}

fn refused(name: &str, value: &str, expected: &str) -> Error {
    Error::invalid(format!("option '{name}' = '{value}': expected {expected}"))
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(refused(name, value, "'true' or 'false'")),
    }
}

fn positive<T: std::str::FromStr + PartialOrd + Default>(name: &str, value: &str) -> Result<T> {
    match value.parse::<T>() {
        Ok(number) if number > T::default() => Ok(number),
        _ => Err(refused(name, value, "a whole number above 0")),
    }
}

fn duration(name: &str, value: &str) -> Result<Duration> {
    value
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| refused(name, value, "a time span such as '500ms', '30s' or '15m'"))
}

fn version(name: &str, value: &str) -> Result<Option<i32>> {
    if value.eq_ignore_ascii_case("latest") {
        return Ok(None);
    }
    positive(name, value).map(Some)
}

fn delimiter(name: &str, value: &str) -> Result<u8> {
    match value.as_bytes() {
        // As it is written in SQL, where a tab has no escape.
        b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err(refused(name, value, "one ASCII character, or '\\t'")),
    }
}

fn columns(list: &str) -> Result<Vec<Column>> {
    let wanted: Vec<&str> = list
        .split(',')
        .map(str::trim)
        .filter(|n| !n.is_empty())
        .collect();
    let known = Column::ALL.map(Column::name);
    if let Some(wrong) = wanted.iter().find(|n| !known.contains(n)) {
        let nearest = nearest_names(wrong, known);
        let nearest = nearest.first().map_or("topic", String::as_str);
        return Err(Error::invalid(format!(
            "option 'metadata.columns': there is no column '{wrong}', did you mean '{nearest}'?"
        )));
    }
    if wanted.is_empty() {
        return Err(Error::invalid("option 'metadata.columns' names no column"));
    }
    let in_order = Column::ALL
        .into_iter()
        .filter(|c| wanted.contains(&c.name()));
    Ok(in_order.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Result<TableOptions> {
        let mut options = TableOptions::default();
        for (name, value) in pairs {
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn error(pairs: &[(&str, &str)]) -> String {
        set(pairs).unwrap_err().to_string()
    }

    #[test]
    fn spellings_are_one_option() {
        for name in [
            "failOnDataLoss",
            "failondataloss",
            "fail.on.data.loss",
            "FAIL_ON_DATA_LOSS",
        ] {
            let options = set(&[(name, "false")]).unwrap();
            assert_eq!(options.on_data_loss, Some(OnDataLoss::Skip), "{name}");
        }
    }

    #[test]
    fn settings_of_a_registry_are_known_in_each_spelling() {
        for name in [
            "schema.registry.url",
            "schema_registry_url",
            "SchemaRegistryUrl",
        ] {
            let options = set(&[
                ("kafka.bootstrap.servers", "h:1"),
                ("value.format", "avro"),
                (name, "ftp://h"),
            ]);
            let error = options.unwrap().table("t", None, None).unwrap_err();
            let error = error.to_string();
            let named = error.starts_with("setting 'schema.registry.url': a URL begins");
            assert!(named, "{name}: {error}");
        }
    }

    #[test]
    fn unknown_option_names_the_nearest() {
        assert_eq!(
            error(&[("startingOfsets", "earliest")]),
            "option 'startingOfsets' is not known: did you mean 'starting.offsets'?"
        );
    }

    #[test]
    fn limits_of_batches_have_sparks_names() {
        let options = set(&[
            ("maxOffsetsPerTrigger", "5"),
            ("minOffsetsPerTrigger", "2"),
            ("maxTriggerDelay", "15m"),
            ("groupIdPrefix", "x"),
        ])
        .unwrap();
        assert_eq!(options.limits.max_offsets, Some(5));
        assert_eq!(options.limits.max_delay, Some(Duration::from_secs(900)));
        let reversed = set(&[
            ("kafka.bootstrap.servers", "h:1"),
            ("maxOffsetsPerTrigger", "5"),
            ("minOffsetsPerTrigger", "6"),
        ]);
        let refused = reversed.unwrap().table("t", None, None).unwrap_err();
        assert!(refused.to_string().contains("is above"), "{refused}");
        assert!(error(&[("lag", "soon")]).contains("a time span"));
    }

    #[test]
    fn numbers_are_strict_as_in_spark() {
        for bad in ["a", "1.0", "0", "-1", ""] {
            let message = error(&[("minPartitions", bad)]);
            assert!(
                message.ends_with("expected a whole number above 0"),
                "{message}"
            );
        }
    }

    #[test]
    fn topics_are_given_once() {
        let one = r#"{"t":[0]}"#;
        assert!(error(&[("subscribe", "a"), ("assign", one)]).contains("only one of"));
        let options = set(&[("subscribe", "a"), ("kafka.bootstrap.servers", "h:1")]).unwrap();
        assert!(options.table("a", None, None).is_err());
        assert!(options.table("", None, None).is_ok());
    }

    #[test]
    fn a_table_needs_brokers() {
        let error = set(&[]).unwrap().table("t", None, None).unwrap_err();
        assert!(
            error.to_string().contains("kafka.bootstrap.servers"),
            "{error}"
        );
    }

    #[test]
    fn credentials_stay_with_their_brokers() {
        let mut session = ConnectionConfig::new("a:1");
        session.set("sasl.password", "hunter2").unwrap();
        let config = |pairs: &[(&str, &str)]| set(pairs).unwrap().config(Some(&session)).unwrap();
        let same = config(&[("kafka.client.id", "x")]);
        assert_eq!(same.get("sasl.password"), Some("hunter2"));
        let other = config(&[("kafka.bootstrap.servers", "b:1")]);
        assert_eq!(other.get("sasl.password"), None);
    }

    #[test]
    fn a_registrys_login_stays_with_its_url() {
        let mut session = ConnectionConfig::new("a:1");
        session.set("schema.registry.url", "http://a").unwrap();
        let login = "schema.registry.basic.auth.user.info";
        session.set(login, "anna:hidden").unwrap();
        let config = |pairs: &[(&str, &str)]| set(pairs).unwrap().config(Some(&session)).unwrap();
        for same in [
            config(&[("value.format", "avro")]),
            config(&[("schema.registry.url", "http://a")]),
            config(&[("schema.registry.request.timeout.ms", "5")]),
        ] {
            assert_eq!(same.get(login), Some("anna:hidden"));
        }
        for other in [
            config(&[("schema.registry.url", "http://b")]),
            config(&[("kafka.bootstrap.servers", "b:1")]),
        ] {
            assert_eq!(other.get(login), None);
        }
    }

    #[test]
    fn names_of_formats_may_ask_for_a_registry() {
        let brokers = ("kafka.bootstrap.servers", "h:1");
        let refused = |format: &str| {
            let options = set(&[brokers, ("value.format", format)]).unwrap();
            let table = options.table("t", None, None).unwrap().build_lazy();
            table.unwrap_err().to_string()
        };
        for (name, plain) in [
            ("avro-registry", "avro"),
            ("JSON-registry", "json"),
            ("protobuf-registry", "protobuf"),
        ] {
            let found = refused(name);
            assert!(
                found.starts_with(&format!("'value.format' = '{name}' needs a registry"))
                    && found.contains(&format!("write '{plain}'")),
                "{found}"
            );
        }
        let misspelt = error(&[("value.format", "avro-registri")]);
        assert!(
            misspelt.contains("did you mean 'avro-registry'?"),
            "{misspelt}"
        );
    }

    #[test]
    fn ranges_are_given_once() {
        let options = set(&[
            ("kafka.bootstrap.servers", "h:1"),
            ("range", "-5"),
            ("startingOffsets", "earliest"),
        ])
        .unwrap();
        let error = options.table("t", None, None).unwrap_err().to_string();
        assert!(error.starts_with("the range is given twice"), "{error}");
    }

    #[test]
    fn any_ending_option_is_refused_in_a_job() {
        let brokers = ("kafka.bootstrap.servers", "h:1");
        let never = i64::MAX.to_string();
        for (name, value, spark) in [
            ("endingOffsets", "latest", "endingOffsets"),
            ("ending.offsets", r#"{"t":{"0":-1}}"#, "endingOffsets"),
            ("endingTimestamp", never.as_str(), "endingTimestamp"),
            (
                "endingOffsetsByTimestamp",
                r#"{"t":9223372036854775807}"#,
                "endingOffsetsByTimestamp",
            ),
        ] {
            let options = set(&[brokers, (name, value)]).unwrap();
            let table = options.table("t", None, None).unwrap().build_lazy();
            let error = table.unwrap().check_followable("s").unwrap_err();
            let expected = format!("its range must not end ('{spark}')");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        let options = set(&[brokers, ("startingOffsets", "earliest")]).unwrap();
        let table = options.table("t", None, None).unwrap().build_lazy();
        table.unwrap().check_followable("s").unwrap();
    }

    #[test]
    fn errors_about_topics_name_the_option() {
        let cases = [
            ("subscribePattern", "", "pattern to subscribe is empty"),
            (
                "subscribePattern",
                "(",
                "topic pattern '(' is no regular expression",
            ),
            ("subscribe", " , ", "no topics to subscribe"),
            ("assign", "{}", "no topic partitions to assign"),
        ];
        for (name, value, message) in cases {
            let found = error(&[(name, value)]);
            let expected = format!("setting '{name}': {message}");
            assert!(found.starts_with(&expected), "{found}");
        }
    }

    #[test]
    fn only_sparks_name_allows_ends_past_the_log() {
        for (name, value, past_end_is_end) in [
            ("failOnDataLoss", "false", true),
            ("failOnDataLoss", "true", false),
            ("on.data.loss", "skip", false),
        ] {
            let options = set(&[(name, value)]).unwrap();
            assert_eq!(options.past_end_is_end, past_end_is_end, "{name}");
        }
    }

    #[test]
    fn definition_masks_secrets() {
        let options = set(&[("kafka.sasl.password", "hunter2"), ("value.format", "text")]).unwrap();
        assert_eq!(
            options.definition("t", "it's"),
            "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION 'it''s' \
             OPTIONS ('kafka.sasl.password' '***', 'value.format' 'text')"
        );
    }

    #[test]
    fn definition_has_the_declared_columns() {
        let mut options = set(&[("value.format", "json")]).unwrap();
        let item = Field::new("item", DataType::Utf8View, true);
        options.declare(Fields::from(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("Tags", DataType::List(Arc::new(item)), true),
        ]));
        assert_eq!(
            options.definition("t", "orders"),
            "CREATE EXTERNAL TABLE t (id BIGINT, \"Tags\" VARCHAR[]) STORED AS KAFKA LOCATION 'orders' \
             OPTIONS ('value.format' 'json')"
        );
    }

    #[test]
    fn headers_and_metadata_columns_choose() {
        let options = set(&[
            ("metadata.columns", "offset, headers,value"),
            ("includeHeaders", "false"),
        ]);
        assert_eq!(
            options.unwrap().table_columns(),
            [Column::Offset, Column::Value]
        );
        assert!(error(&[("metadata.columns", "ofset")]).ends_with("did you mean 'offset'?"));
    }
}
