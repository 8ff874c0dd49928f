//! The schemas that payloads were written with, each resolved once against the reader's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::BinaryViewArray;
use futures::{StreamExt, TryStreamExt, stream};

use super::super::payload::BadPayload;
use super::super::registry::{RegisteredSchema, SchemaKind, WriterSchemas};
use super::Reader;
use super::canonical::fingerprint;
use super::column::Column;
use super::cursor::Cursor;
use super::fault::Fault;
use super::framing;
use super::read::Read;
use super::resolve::resolve;
use super::schema::Schema;
use crate::error::Result;

/// How many schemas are requested from a registry at the same time.
const ASKED_AT_ONCE: usize = 8;

#[derive(Debug)]
pub(super) enum Writers {
    One(Arc<Writer>),
    Fingerprints(BTreeMap<u64, Arc<Writer>>),
    Registry {
        registry: Arc<dyn WriterSchemas>,
        /// The schemas requested so far, by id. An id never changes its meaning, so nothing is dropped.
        known: RwLock<HashMap<i32, Arc<Writer>>>,
    },
}

/// A writer's schema, or why it cannot be read.
#[derive(Debug)]
pub(super) struct Writer {
    id: Option<i32>,
    /// The error says why it cannot be read.
    plan: Result<Plan, String>,
}

/// How to read what was written with a schema.
#[derive(Debug)]
pub(super) struct Plan {
    schema: Schema,
    read: Read,
}

impl Plan {
    /// # Errors
    /// When the schemas do not match: why, without naming the schema.
    pub(super) fn new(schema: Schema, reader: &Reader) -> Result<Self, String> {
        let read = resolve(&schema, &reader.schema, &reader.columns)
            .map_err(|e| format!("does not match the schema it is read with: {e}"))?;
        Ok(Self { schema, read })
    }

    pub(super) fn read(&self, cursor: &mut Cursor<'_>, record: &mut Column) -> Result<(), Fault> {
        self.read.read(cursor, record, &self.schema)
    }
}

impl Writer {
    fn given(plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            id: None,
            plan: Ok(plan),
        })
    }

    fn registered(registered: &RegisteredSchema, reader: &Reader) -> Self {
        let id = registered.id;
        let plan = match &registered.kind {
            SchemaKind::Avro => Schema::parse(&registered.text, &registered.references)
                .map_err(|e| format!("schema {id}: {e}"))
                .and_then(|schema| {
                    let read = resolve(&schema, &reader.schema, &reader.columns);
                    let read = read.map_err(|e| misfit(id, reader.id, &e))?;
                    Ok(Plan { schema, read })
                }),
            other => Err(format!("schema {id} is {other}, not Avro")),
        };
        Self { id: Some(id), plan }
    }

    pub(super) const fn id(&self) -> Option<i32> {
        self.id
    }

    pub(super) fn plan(&self) -> Result<&Plan, &str> {
        self.plan.as_ref().map_err(String::as_str)
    }

    /// Reports a bad payload that was written with this schema.
    pub(super) fn bad(
        &self,
        row: usize,
        class: &'static str,
        message: impl Into<String>,
    ) -> BadPayload {
        BadPayload {
            schema_id: self.id,
            ..BadPayload::new(row, class, message)
        }
    }
}

fn misfit(writer: i32, reader: Option<i32>, reason: &str) -> String {
    let reader = match reader {
        Some(id) => format!("schema {id}"),
        None => "the table's schema".to_owned(),
    };
    format!("schema {writer} cannot be read with {reader}: {reason}")
}

impl Writers {
    pub(super) fn one(plan: Plan) -> Self {
        Self::One(Writer::given(plan))
    }

    pub(super) fn by_fingerprint(plans: impl Iterator<Item = Plan>) -> Self {
        let by = |plan: Plan| (fingerprint(&plan.schema), Writer::given(plan));
        Self::Fingerprints(plans.map(by).collect())
    }

    pub(super) fn of_registry(registry: Arc<dyn WriterSchemas>) -> Self {
        Self::Registry {
            registry,
            known: RwLock::default(),
        }
    }

    /// Requests the schemas that payloads name and that are not known yet.
    ///
    /// # Errors
    /// When the registry does not answer, or refuses.
    pub(super) async fn prepare(&self, payloads: &BinaryViewArray, reader: &Reader) -> Result<()> {
        let Self::Registry { registry, known } = self else {
            return Ok(());
        };
        let unknown = {
            let known = known.read().unwrap_or_else(PoisonError::into_inner);
            unknown(payloads, &known)
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let asked = stream::iter(unknown)
            .map(|id| async move { registry.schema(id).await })
            .buffer_unordered(ASKED_AT_ONCE);
        let found: Vec<_> = asked.try_collect().await?;
        for registered in found.into_iter().flatten() {
            let writer = Arc::new(Writer::registered(&registered, reader));
            let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(registered.id, writer);
        }
        Ok(())
    }

    pub(super) const fn lookup(&self) -> Lookup<'_> {
        Lookup {
            writers: self,
            last: None,
        }
    }
}

/// The ids in the payloads' frames that are not known.
fn unknown(payloads: &BinaryViewArray, known: &HashMap<i32, Arc<Writer>>) -> BTreeSet<i32> {
    let mut unknown = BTreeSet::new();
    let mut last = None;
    for payload in payloads.iter().flatten() {
        if let Some(id) = framing::registry_id(payload)
            && last.replace(id) != Some(id)
            && !known.contains_key(&id)
        {
            unknown.insert(id);
        }
    }
    unknown
}

/// Finds the writers of payloads, one after the other. Most share the writer of the payload before.
pub(super) struct Lookup<'a> {
    writers: &'a Writers,
    /// The id of the last frame, and its schema, if the registry has it.
    last: Option<(i32, Option<Arc<Writer>>)>,
}

impl Lookup<'_> {
    /// The schema that a payload was written with, and the datum behind its frame.
    ///
    /// # Errors
    /// When the payload has no such frame, or the schema that it names is unknown.
    pub(super) fn datum<'p>(
        &mut self,
        row: usize,
        payload: &'p [u8],
    ) -> Result<(&Writer, &'p [u8]), BadPayload> {
        match self.writers {
            Writers::One(writer) => {
                let empty = payload.is_empty()
                    && writer
                        .plan()
                        .is_ok_and(|plan| plan.schema.takes_bytes(&plan.schema.root));
                match empty {
                    true => Err(framing::empty(row)),
                    false => Ok((writer, payload)),
                }
            }
            Writers::Fingerprints(known) => {
                let (print, datum) = framing::single_object(row, payload)?;
                let writer = known.get(&print).ok_or_else(|| {
                    let message = format!(
                        "no schema with the fingerprint {print:016x} is given, of {} that are",
                        known.len()
                    );
                    BadPayload::new(row, "schema", message)
                })?;
                Ok((writer, datum))
            }
            Writers::Registry { known, .. } => {
                let (id, datum) = framing::registry(row, payload)?;
                if self.last.as_ref().is_none_or(|(last, _)| *last != id) {
                    let known = known.read().unwrap_or_else(PoisonError::into_inner);
                    self.last = Some((id, known.get(&id).cloned()));
                }
                match &self.last {
                    Some((_, Some(writer))) => Ok((writer, datum)),
                    _ => Err(BadPayload {
                        schema_id: Some(id),
                        ..BadPayload::new(
                            row,
                            "schema",
                            format!("the registry knows no schema {id}"),
                        )
                    }),
                }
            }
        }
    }
}
