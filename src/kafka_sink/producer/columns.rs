//! A query's columns as the parts of records.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema};

use crate::decode::Format;
use crate::encode::PayloadEncoder;
use crate::error::{Error, Result, nearest_names};
use crate::formats::{Encoders, Naming};

/// What a sink without formats accepts, for messages.
pub(super) const ACCEPTED: &str = "value (text or bytes, required), key (text or bytes), topic (text), \
                        partition (INT or BIGINT), headers (list of structs of key and value) and \
                        timestamp (TIMESTAMP, or BIGINT in ms since the epoch)";

const NAMES: [&str; 7] = [
    "value",
    "key",
    "topic",
    "partition",
    "headers",
    "timestamp",
    "tombstone",
];

/// Where the parts of a record are among the columns.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) value: Payload,
    /// Of no columns where records have no key.
    pub(super) key: Payload,
    pub(super) topic: Option<usize>,
    pub(super) partition: Option<usize>,
    pub(super) headers: Option<usize>,
    pub(super) timestamp: Option<usize>,
    pub(super) tombstone: Option<usize>,
}

/// The columns that keys or values are made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Payload {
    pub(super) columns: Vec<usize>,
    pub(super) fields: Vec<FieldRef>,
    /// Whether the columns are fields; else there is one, which is all of it.
    pub(super) has_fields: bool,
    /// `None` where the bytes are there as they are.
    pub(super) encoder: Option<Arc<dyn PayloadEncoder>>,
}

impl Payload {
    fn push(&mut self, column: usize, field: FieldRef) {
        self.columns.push(column);
        self.fields.push(field);
    }
}

impl Layout {
    /// # Errors
    /// [`Error::Schema`] for columns that a record has no place for, wrong types, no value.
    pub(super) fn of(schema: &Schema, target: &str, naming: &Naming) -> Result<Self> {
        let refused = |what: String| {
            Err(Error::schema(format!(
                "{target}: {what}; the columns of a Kafka sink are {}",
                accepted(naming)
            )))
        };
        let payload = |format: Format| Payload {
            has_fields: format.has_fields(),
            ..Payload::default()
        };
        let (mut key, mut value) = (payload(naming.key), payload(naming.value));
        let mut found = [None; NAMES.len()];
        for (index, field) in schema.fields().iter().enumerate() {
            let name = field.name();
            let known = name.strip_prefix(naming.metadata_prefix.as_str());
            let known = known.and_then(|name| NAMES.iter().position(|known| *known == name));
            let known = known.filter(|part| match NAMES[*part] {
                "value" => !value.has_fields,
                "tombstone" => value.has_fields,
                _ => true,
            });
            let Some(part) = known else {
                let of_key = name.strip_prefix(naming.key_prefix.as_str());
                match of_key.filter(|name| key.has_fields && !name.is_empty()) {
                    Some(name) => {
                        key.push(index, Arc::new(field.as_ref().clone().with_name(name)));
                    }
                    None if value.has_fields => value.push(index, Arc::clone(field)),
                    None => {
                        let hint = match nearest_names(name, NAMES).first() {
                            Some(nearest) => format!(", did you mean '{nearest}'?"),
                            None => String::new(),
                        };
                        return refused(format!("there is no place for the column '{name}'{hint}"));
                    }
                }
                continue;
            };
            if found[part].replace(index).is_some() {
                return refused(format!("the column '{name}' is there twice"));
            }
            let of = field.data_type();
            let fits = match NAMES[part] {
                "key" if key.has_fields => {
                    return refused(format!(
                        "there is a column '{name}', and the key has fields ('key.format' = '{}')",
                        naming.key
                    ));
                }
                "value" if naming.value == Format::Raw => is_bytes(of),
                "key" if naming.key == Format::Raw => is_bytes(of),
                // Formats look at their columns themselves.
                "value" | "key" => true,
                "topic" => is_text(of),
                "partition" => is_number(of),
                "headers" => is_headers(of),
                "tombstone" => *plain(of) == DataType::Boolean,
                _ => is_time(of),
            };
            // `NULL AS key` has a type of its own.
            if !fits && *of != DataType::Null {
                return refused(format!(
                    "the column '{name}' has the type {of}, which does not fit"
                ));
            }
            match NAMES[part] {
                "value" => value.push(index, Arc::clone(field)),
                "key" => key.push(index, Arc::clone(field)),
                _ => {}
            }
        }
        if value.columns.is_empty() {
            return refused(match value.has_fields {
                true => "no column is a field of the value".to_owned(),
                false => format!("there is no column '{}value'", naming.metadata_prefix),
            });
        }
        if key.has_fields && key.columns.is_empty() {
            return refused(format!(
                "no column is a field of the key ('key.format' = '{}')",
                naming.key
            ));
        }
        let [_, _, topic, partition, headers, timestamp, tombstone] = found;
        Ok(Self {
            value,
            key,
            topic,
            partition,
            headers,
            timestamp,
            tombstone,
        })
    }

    /// The columns that keys are made of; fields come without their prefix.
    pub(super) fn key_fields(&self) -> &[FieldRef] {
        &self.key.fields
    }

    /// The columns that values are made of.
    pub(super) fn value_fields(&self) -> &[FieldRef] {
        &self.value.fields
    }

    pub(super) fn encoded(mut self, encoders: Encoders) -> Self {
        self.key.encoder = encoders.key;
        self.value.encoder = encoders.value;
        self
    }
}

/// What a sink accepts, for messages.
fn accepted(naming: &Naming) -> String {
    let prefix = &naming.metadata_prefix;
    let plain = prefix.is_empty() && naming.key == Format::Raw && naming.value == Format::Raw;
    if plain {
        return ACCEPTED.to_owned();
    }
    let value = match naming.value.has_fields() {
        true => "the fields of the value".to_owned(),
        false => format!("{prefix}value (required, '{}')", naming.value),
    };
    let key = match naming.key.has_fields() {
        true => format!("those of the key with '{}' in front", naming.key_prefix),
        false => format!("{prefix}key ('{}')", naming.key),
    };
    let tombstone = match naming.value.has_fields() {
        true => format!(", {prefix}tombstone (BOOLEAN)"),
        false => String::new(),
    };
    format!(
        "{value}, {key}, {prefix}topic (text), {prefix}partition (INT or BIGINT), {prefix}headers (list \
         of structs of key and value), {prefix}timestamp (TIMESTAMP, or BIGINT in ms since the \
         epoch){tombstone}"
    )
}

pub(super) fn plain(of: &DataType) -> &DataType {
    match of {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

pub(super) fn is_text(of: &DataType) -> bool {
    use DataType::{LargeUtf8, Utf8, Utf8View};
    matches!(plain(of), Utf8 | LargeUtf8 | Utf8View)
}

fn is_bytes(of: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    let of = plain(of);
    is_text(of) || matches!(of, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

fn is_number(of: &DataType) -> bool {
    matches!(plain(of), DataType::Int32 | DataType::Int64)
}

fn is_time(of: &DataType) -> bool {
    matches!(plain(of), DataType::Timestamp(..) | DataType::Int64)
}

fn is_headers(of: &DataType) -> bool {
    let DataType::List(item) = of else {
        return false;
    };
    let DataType::Struct(fields) = item.data_type() else {
        return false;
    };
    let type_of = |name: &str| fields.find(name).map(|(_, field)| field.data_type());
    let null = |of: &DataType| *of == DataType::Null;
    fields.len() == 2
        && type_of("key").is_some_and(is_text)
        && type_of("value").is_some_and(|of| is_bytes(of) || null(of))
}
