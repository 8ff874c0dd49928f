//! A scan as bytes, for engines that execute parts of a plan on other machines.
//!
//! What travels is the scan as it was planned: offsets, topic ids and leader epochs, columns, and the formats
//! with the schemas that were found for them. A secret never does: the other machine has the connection under
//! the same [name](ConnectionConfig::name), or needs nothing but its public settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::budget::Share;
use super::condition::Conditions;
use super::{Direction, KafkaScanExec, ScanRange, ScanSource};
use crate::client::{KafkaClient, TimestampBounds};
use crate::config::{ConnectionConfig, RegistryConfig, ScanBudget};
use crate::decode::{Column, LETTER_COLUMNS, LETTER_RECORD};
use crate::error::{Error, Result};
use crate::formats::{Formats, SentFormats};
use crate::mask::Masks;
use crate::range::{IsolationLevel, OffsetRange, OnDataLoss, Snapshot};

/// Only scans of the same version are understood.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where a scan's client and decoder come from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) connection: ConnectionConfig,
    pub(crate) formats: Formats,
}

/// The connections that a machine has itself.
pub trait Connections: Send + Sync {
    /// The settings of the connection with this name. `public` is what the sender's settings have that is
    /// neither secret nor concerns security; `complete` says whether that is all of them.
    ///
    /// # Errors
    /// When there is no such connection.
    fn connection(
        &self,
        name: &str,
        public: &BTreeMap<String, String>,
        complete: bool,
    ) -> Result<ConnectionConfig>;

    /// A client for these settings.
    ///
    /// # Errors
    /// When the settings do not make one.
    fn client(&self, config: &ConnectionConfig) -> Result<Arc<dyn KafkaClient>>;
}

#[derive(Serialize, Deserialize)]
struct Sent {
    version: String,
    connection: SentConnection,
    formats: SentFormats,
    /// Where the rows are dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    letters: Option<SentLetters>,
    topic_ids: BTreeMap<String, String>,
    partitions: Vec<Vec<SentRange>>,
    projection: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fetch: Option<usize>,
    backward: bool,
    isolation: IsolationLevel,
    skips_lost: bool,
    batch_bytes: usize,
    checksums: bool,
    /// What each part may read; the coordinator adds them up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    budget: BTreeMap<String, String>,
    /// How many conditions the scan has taken over. They travel beside it.
    #[serde(default)]
    conditions: usize,
}

/// What dead letters become. Their columns have names that others have too.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SentLetters {
    Records,
    Files,
}

impl SentLetters {
    fn of(columns: &[Column]) -> Self {
        match columns == LETTER_RECORD {
            true => Self::Records,
            false => Self::Files,
        }
    }

    fn columns(&self) -> &'static [Column] {
        match self {
            Self::Records => &LETTER_RECORD,
            Self::Files => &LETTER_COLUMNS,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct SentConnection {
    name: String,
    public: BTreeMap<String, String>,
    complete: bool,
    /// What is hidden, with the salt's fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    masks: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SentRange {
    #[serde(flatten)]
    range: OffsetRange,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selected: Option<SentBounds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    matching: Option<SentBounds>,
}

type SentBounds = (Option<i64>, Option<i64>);

fn sent(bounds: Option<TimestampBounds>) -> Option<SentBounds> {
    bounds.map(|bounds| (bounds.from_ms, bounds.to_ms))
}

fn bounds(sent: Option<SentBounds>) -> Option<TimestampBounds> {
    sent.and_then(|(from_ms, to_ms)| TimestampBounds::within(from_ms, to_ms))
}

/// Refuses to read on another machine what it would show in another way. It may hide more.
fn check_masks(sent: Option<&str>, own: Option<&Masks>) -> Result<()> {
    let Some(sent) = sent else { return Ok(()) };
    let own = own.map(Masks::description).unwrap_or_default();
    if own == sent {
        return Ok(());
    }
    Err(Error::config(
        "mask",
        format!(
            "this machine hides '{own}' of records, and the machine that planned the scan '{sent}': start both with the \
             same mask and mask.salt"
        ),
    ))
}

impl KafkaScanExec {
    /// Whether the scan can be executed on another machine: not over a client that was made by hand.
    pub fn travels(&self) -> bool {
        self.source.origin.is_some()
    }

    /// The name of its cluster's connection; empty where there is none.
    pub fn cluster(&self) -> String {
        let origin = self.source.origin.as_ref();
        origin.map_or_else(String::new, |origin| origin.connection.name().to_owned())
    }

    /// The scan as bytes that [`decode`](Self::decode) of the same version reads. `checksums` asks for the
    /// checksums of the records in its ledger.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a scan over a client that was made by hand, which no other machine has; and when
    /// the file of a schema cannot be read.
    pub fn encode(&self, checksums: bool) -> Result<Vec<u8>> {
        let source = &self.source;
        let Some(origin) = &source.origin else {
            return Err(Error::invalid(
                "a table over a client of this process cannot be read on another machine: give it a connection",
            ));
        };
        // The other machine takes the registry from its own settings of the connection.
        let known = RegistryConfig::from_options(origin.connection.registry())?;
        if origin.formats.registry.is_some() && origin.formats.registry != known {
            return Err(Error::invalid(
                "a table with a registry of its own cannot be read on another machine: set schema.registry.url, \
                 with its login, for the connection",
            ));
        }
        let mut topic_ids = BTreeMap::new();
        let mut partitions = Vec::with_capacity(self.partitions.len());
        for ranges in self.partitions.iter() {
            let mut all = Vec::with_capacity(ranges.len());
            for range in ranges {
                if let Some(id) = &range.topic_id {
                    topic_ids.insert(range.range.topic().to_string(), id.to_string());
                }
                all.push(SentRange {
                    range: range.range.clone(),
                    epoch: range.newest_epoch,
                    leader: range.leader,
                    selected: sent(range.selected),
                    matching: sent(range.matching),
                });
            }
            partitions.push(all);
        }
        let decoder = &source.decoder;
        let letters = decoder.keeps_bad();
        let letters = letters.then(|| SentLetters::of(decoder.columns()));
        let sent = Sent {
            version: VERSION.to_owned(),
            connection: SentConnection {
                name: origin.connection.name().to_owned(),
                public: origin.connection.public(),
                complete: origin.connection.is_public(),
                masks: source.client.masks().map(Masks::description),
            },
            formats: SentFormats::of(&origin.formats)?,
            letters,
            topic_ids,
            partitions,
            projection: self.projection.to_vec(),
            fetch: self.fetch,
            backward: self.direction == Direction::Reverse,
            isolation: source.isolation,
            skips_lost: source.on_data_loss == OnDataLoss::Skip,
            batch_bytes: source.batch_bytes,
            checksums: checksums || source.checksums,
            budget: {
                let budget = self.share.budget();
                let limits = ScanBudget::KEYS.into_iter();
                let limits = limits.filter_map(|key| Some((key.to_owned(), budget.get(key)?)));
                limits.collect()
            },
            conditions: self.conditions.taken.len(),
        };
        serde_json::to_vec(&sent)
            .map_err(|e| Error::internal(format!("a scan as bytes: {e}")).because(e))
    }

    /// The scan that [`encode`](Self::encode) made the bytes of. One that has taken over conditions cannot be
    /// executed before it has [them](Self::with_conditions).
    ///
    /// # Errors
    /// [`Error::Invalid`] when another version made them, and errors of `connections` and of the formats.
    pub fn decode(bytes: &[u8], connections: &dyn Connections) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let refused = |e: serde_json::Error| {
            Error::invalid(format!("these bytes are no scan of Kafka: {e}")).because(e)
        };
        let Version { version } = serde_json::from_slice(bytes).map_err(refused)?;
        if version != VERSION {
            return Err(Error::invalid(format!(
                "the scan was planned by version {version}, this is version {VERSION}: run the same on all machines"
            )));
        }
        let sent: Sent = serde_json::from_slice(bytes).map_err(refused)?;
        let SentConnection {
            name,
            public,
            complete,
            masks,
        } = &sent.connection;
        let connection = connections.connection(name, public, *complete)?;
        let client = connections.client(&connection.for_reading())?;
        check_masks(masks.as_deref(), client.masks())?;
        let registry = RegistryConfig::from_options(connection.registry())?;
        let formats = sent.formats.formats(registry)?;
        let mut decoder = formats.decoder()?;
        if let Some(letters) = &sent.letters {
            decoder = decoder.dead_letters(letters.columns(), formats.bad_rows.limit);
            let ids = sent.topic_ids.iter();
            decoder = decoder
                .with_topic_ids(ids.map(|(t, id)| (t.as_str().into(), id.clone())).collect());
        }
        let ids: BTreeMap<String, Arc<str>> = sent
            .topic_ids
            .into_iter()
            .map(|(topic, id)| (topic, id.into()))
            .collect();
        let range = |sent: SentRange| ScanRange {
            topic_id: ids.get(&**sent.range.topic()).cloned(),
            newest_epoch: sent.epoch,
            leader: sent.leader,
            selected: bounds(sent.selected),
            matching: bounds(sent.matching),
            range: sent.range,
        };
        let partitions = sent.partitions.into_iter();
        let partitions = partitions.map(|ranges| ranges.into_iter().map(range).collect());
        let source = ScanSource {
            name: None,
            client,
            decoder,
            isolation: sent.isolation,
            on_data_loss: match sent.skips_lost {
                true => OnDataLoss::Skip,
                false => OnDataLoss::Fail,
            },
            batch_bytes: sent.batch_bytes,
            pruned: vec![],
            index: None,
            snapshot: Arc::new(Snapshot::empty(sent.isolation)),
            origin: Some(Origin {
                connection,
                formats,
            }),
            checksums: sent.checksums,
            may_cut: false,
            ordered: true,
            key_places: None,
        };
        let scan = Self::try_new(
            Arc::new(source),
            partitions.collect(),
            sent.projection,
            sent.fetch,
        );
        let scan = scan.map_err(crate::error::query_error)?;
        let mut scan = scan.under(Conditions {
            missing: sent.conditions,
            ..Conditions::default()
        });
        if sent.backward {
            let reversed = scan.reversed().map_err(crate::error::query_error)?;
            let many = || Error::internal("a reversed scan has too many partitions");
            scan = reversed.ok_or_else(many)?;
        }
        let mut budget = ScanBudget::default();
        for (key, limit) in &sent.budget {
            budget.set(key, limit)?;
        }
        scan.share = Share::sent(budget);
        Ok(scan)
    }
}
