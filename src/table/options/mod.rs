//! The options of a table, as CREATE EXTERNAL TABLE and the table function take them.
//!
//! [`known`] lists the options. Names are ours (`starting.offsets`) or Spark's (`startingOffsets`);
//! case, dots, dashes and underscores make no difference. `kafka.*` goes to the connection. An unknown
//! option is an error that names the nearest one. An option of Spark that has no effect here logs a
//! warning.

mod given;
mod known;

use arrow::datatypes::Fields;

use self::given::Given;
use self::known::{KNOWN, Known, Take, plain};
use crate::config::{self, ConnectionConfig};
use crate::decode::{Column, RegistryConfig};
use crate::error::{Error, Result};
use crate::formats::Formats;
use crate::policy::Policy;
use crate::range::{OnDataLoss, RangeSpec, SparkOffsets};
use crate::redact::without_login;
use crate::statement::columns_of;

use super::reading::Readers;
use super::{DeadLetters, KafkaSinkOptions, KafkaTable, KafkaTableBuilder, Limits, TopicSource};

/// Options of a table, checked one by one.
#[derive(Debug, Clone, Default)]
pub struct TableOptions {
    connection: Vec<(String, String)>,
    /// Options as given, for [`TableOptions::definition`].
    given: Vec<(String, String)>,
    subscribe: Option<TopicSource>,
    range: Option<RangeSpec>,
    spark: SparkOffsets,
    on_data_loss: Option<OnDataLoss>,
    /// With Spark's `failOnDataLoss` = `false` a range may also end after the end of the log.
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
    index: Option<String>,
    /// What the text with these options may do; `None` if the user wrote the options.
    policy: Option<Policy>,
}

impl TableOptions {
    /// Options in the text of a statement, in a session with this policy.
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
        self.take(name, value)?;
        self.given.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    fn take(&mut self, name: &str, value: &str) -> Result<()> {
        let given = Given { name, value };
        let Some(known) = Known::find(name) else {
            let key = name.to_ascii_lowercase();
            let key = key.strip_prefix("kafka.").ok_or_else(|| unknown(name))?;
            self.connection.push((key.to_owned(), value.to_owned()));
            return Ok(());
        };
        match known.take {
            Take::Table(take) => take(self, given),
            Take::Part(take) if plain(name).starts_with("key") => {
                take(&mut self.formats.key, given)
            }
            Take::Part(take) => take(&mut self.formats.value, given),
            Take::Setting => {
                let key = known.name.to_owned();
                self.connection.push((key, value.to_owned()));
                Ok(())
            }
            Take::Nothing => {
                log::warn!("option '{name}' has no effect: {}", known.meaning);
                Ok(())
            }
        }
    }

    /// The options whose names or meanings have `part` in them, with values, defaults and meanings.
    /// With an empty `part` these are all options.
    pub fn help(part: &str) -> String {
        known::help(part)
    }

    /// Takes the columns that a statement declares.
    pub(super) fn declare(&mut self, columns: Fields) {
        self.formats.declared = Some(columns);
    }

    fn topics(&mut self, name: &str, topics: Result<TopicSource>) -> Result<()> {
        let topics = topics.map_err(|e| Error::config(name, e.to_string()))?;
        let names = "'subscribe', 'subscribePattern' and 'assign'";
        only_one(&mut self.subscribe, topics, names)
    }

    fn dead_letters(&mut self, place: DeadLetters) -> Result<()> {
        only_one(&mut self.letters, place, "'dlq.topic' and 'dlq.location'")
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

    /// The formats to write with; `defaults` may name a registry.
    ///
    /// # Errors
    /// When an option is not about formats, or those of the registry contradict each other.
    #[cfg(all(feature = "jobs", feature = "librdkafka"))]
    pub(crate) fn write_formats(&self, defaults: &ConnectionConfig) -> Result<Formats> {
        let is_format = |name: &str| {
            Known::find(name).is_some_and(|known| known.group == known::Group::Formats)
        };
        if let Some((name, _)) = self.given.iter().find(|(name, _)| !is_format(name)) {
            return Err(Error::invalid(format!(
                "option '{name}' is not about formats; the options of formats are 'key.…', 'value.…', \
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
        if let Some(location) = &self.index {
            builder = self.indexed(builder, location)?;
        }
        if let Some(partitions) = self.min_partitions {
            builder = builder.min_partitions(partitions);
        }
        if let Some(records) = self.max_records_per_partition {
            builder = builder.max_records_per_partition(records);
        }
        let budget = config.scan_budget();
        if !budget.is_unlimited() {
            builder = builder.scan_budget(budget);
        }
        if let Some(bytes) = self.batch_bytes {
            builder = builder.batch_bytes(bytes);
        }
        Ok(builder)
    }

    #[cfg(feature = "jobs")]
    fn indexed(&self, builder: KafkaTableBuilder, location: &str) -> Result<KafkaTableBuilder> {
        if let Some(policy) = &self.policy {
            policy.check_location("the index", location)?;
        }
        Ok(builder.index(location))
    }

    #[cfg(not(feature = "jobs"))]
    fn indexed(&self, _builder: KafkaTableBuilder, _location: &str) -> Result<KafkaTableBuilder> {
        Err(Error::missing_feature(
            "jobs",
            "'index' is the folder of a job, which this build does not read",
        ))
    }

    fn check_limits(&self) -> Result<()> {
        if let (Some(min), Some(max)) = (self.limits.min_offsets, self.limits.max_offsets)
            && min > max
        {
            return Err(Error::invalid(format!(
                "'minOffsetsPerTrigger' = {min} is above 'maxOffsetsPerTrigger' = {max}: \
                 no batch could have as many offsets as it waits for"
            )));
        }
        Ok(())
    }

    /// The session's settings with this table's on top. Credentials must reach only the hosts that they
    /// were given for. So a table that names other brokers gets none of the session's settings, and a table
    /// that changes whom a client trusts or how it logs in gets none of its credentials. The same holds
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

    /// The range, and the error for queries if only jobs can read it.
    fn range_spec(&self, argument: Option<RangeSpec>) -> Result<(RangeSpec, Readers)> {
        let given = argument.or_else(|| self.range.clone());
        let range = match (given, self.spark != SparkOffsets::default()) {
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

    /// Spark's streams may start at `latest`, and its batch reader refuses that. So may jobs, and so do
    /// queries.
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
                } else if matches!(plain(key).as_str(), "dlqlocation" | "redecode" | "index") {
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

/// Fills a place that several options share.
fn only_one<T>(place: &mut Option<T>, value: T, names: &str) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!("only one of {names} may be given"))),
    }
}

fn unknown(name: &str) -> Error {
    let names: Vec<String> = KNOWN.iter().flat_map(Known::names).collect();
    Error::unknown_option(name, names.iter().map(String::as_str), || {
        "settings of the connection are written 'kafka.<name>'".to_owned()
    })
}

#[cfg(test)]
mod tests;
