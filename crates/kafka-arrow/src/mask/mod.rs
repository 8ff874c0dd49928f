//! Masks: what a connection hides of records, whoever reads them.
//!
//! ```text
//! brokers ─▶ client ─▶ RawBatch ─▶ Masks::apply ─▶ everything else: conditions, columns, checksums, errors, exports, …
//! ```
//!
//! Masks are applied to the bytes of records before anything else sees them, so nothing behind can show what they hide,
//! and a condition sees the masked value. [`ClientPool`](crate::client::ClientPool) does that for every client that it
//! makes of settings with `mask`.
//!
//! # Syntax
//!
//! `mask` is a list of `TOPIC.PART`, or `TOPIC.PART=WAY`, separated by commas:
//!
//! | `PART` | hides |
//! |---|---|
//! | `value`, `key`, `headers` | all of it |
//! | `headers[NAME]` | the values of this header |
//! | `$.a.b` | this path in the JSON of values; arrays are passed through, so that it is hidden in each item |
//! | `$..name` | every field of this name, at any depth |
//! | `key.$.a`, `key.$..name` | the same in the JSON of keys |
//! | `name` | as `$..name`, and so every column that comes of it |
//! | `csv[N]`, `csv[N by ;]` | the field at this place, from 1 on, of values that are lines of CSV; `key.csv[N]` of keys |
//!
//! `TOPIC` is a name, in which `*` stands for any text; in `"…"` it may be one whose end reads like a part.
//! `WAY` is `null` (the default), `hash` (HMAC-SHA-256 with `mask.salt`, 32 hexadecimal digits) or `lastN` (the last N
//! characters, N up to 9, of a text that has at least twice as many).
//!
//! # What cannot be masked in part
//!
//! A payload of which a path is hidden, and that is neither an object nor an array of JSON, is replaced as a whole by `[masked]`,
//! and so is one of which a field of CSV is hidden that it does not have.
//! Avro with the frame of the connection's schema registry is an exception: its fields have the names of the writer's schema,
//! with aliases, and what is hidden keeps its type. Names are compared without case, as the decoder of JSON does.

mod csv;
mod json;
mod parse;
mod path;
mod way;

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryViewArray, BinaryViewBuilder, ListArray, StructArray};
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::raw::{Headers, RawBatch};
use parse::Parsed;
use path::Path;
use way::Salt;

pub(crate) use path::{Field, Places};
pub(crate) use way::Way;

/// Takes the place of a payload of which a part is hidden that cannot be found. It is no JSON.
const UNREADABLE: &[u8] = b"[masked]";

/// What a connection hides; see the module's documentation. Neither `Debug` nor `Display` shows the salt.
#[derive(Clone)]
pub struct Masks {
    all: Arc<[Mask]>,
    salt: Salt,
    /// Whether fields of payloads with the frame of a registry are found by its schemas.
    in_avro: bool,
}

/// A mask as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mask {
    text: String,
    topic: TopicName,
    part: Part,
    way: Way,
}

/// A topic's name, with `*` for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TopicName(String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Key,
    Value,
    Headers,
    Header(String),
    InKey(Path),
    InValue(Path),
    KeyField(csv::Field),
    ValueField(csv::Field),
}

/// The key or the value of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// How much a mask hides of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hidden {
    /// All: they are NULL.
    Null,
    /// All: a text takes the place of each.
    Replaced,
    /// Parts of their JSON.
    InJson,
    /// Fields of their lines of CSV.
    InCsv,
}

/// Appends a payload without what is hidden at some places. `None` if it may be JSON, `Some(false)` if it cannot be done.
pub(crate) type Written<'a> = dyn Fn(&[u8], &Places<'_>, &mut Vec<u8>) -> Option<bool> + 'a;

/// What is done to keys or values.
enum Rule<'a> {
    Whole(Way),
    Parts(Vec<(&'a Path, Way)>, Vec<(csv::Field, Way)>),
}

impl Masks {
    /// The masks of the settings `mask` and `mask.salt`; `None` where nothing is hidden.
    ///
    /// # Errors
    /// [`Error::Config`] when a mask cannot be read, and when one hashes and there is no salt.
    pub(crate) fn new(list: &str, salt: Option<&str>) -> Result<Option<Self>> {
        let all = parse::list(list)?;
        if all.is_empty() {
            return Ok(None);
        }
        let masks = all.into_iter().map(Mask::from).collect::<Arc<[Mask]>>();
        let hashing = masks.iter().find(|mask| mask.way == Way::Hash);
        if let (Some(mask), None) = (hashing, salt) {
            return Err(Error::config(
                "mask",
                format!(
                    "'{}' hashes, and a hash without a secret is no mask: set mask.salt, for example to env:MASK_SALT",
                    mask.text
                ),
            ));
        }
        Ok(Some(Self {
            all: masks,
            salt: Salt::new(salt.unwrap_or_default()),
            in_avro: false,
        }))
    }

    /// Whether there is a mask for the topic.
    pub fn concern(&self, topic: &str) -> bool {
        self.of(topic).next().is_some()
    }

    /// Those for one of the topics; `None` for topics stands for any. `None` where there are none.
    pub fn among(&self, topics: Option<&[Arc<str>]>) -> Option<Self> {
        let concerns = |mask: &&Mask| {
            topics.is_none_or(|topics| topics.iter().any(|topic| mask.topic.is(topic)))
        };
        let all: Arc<[Mask]> = self.all.iter().filter(concerns).cloned().collect();
        (!all.is_empty()).then(|| Self {
            all,
            ..self.clone()
        })
    }

    /// How much each mask of keys or values hides.
    pub fn hidden(&self, payload: Payload) -> impl Iterator<Item = Hidden> {
        self.all.iter().filter_map(move |mask| {
            let of_payload = match mask.part {
                Part::Key | Part::InKey(_) | Part::KeyField(_) => payload == Payload::Key,
                Part::Value | Part::InValue(_) | Part::ValueField(_) => payload == Payload::Value,
                Part::Headers | Part::Header(_) => false,
            };
            of_payload.then_some(match (&mask.part, mask.way) {
                (Part::InKey(_) | Part::InValue(_), _) => Hidden::InJson,
                (Part::KeyField(_) | Part::ValueField(_), _) => Hidden::InCsv,
                (_, Way::Null) => Hidden::Null,
                (_, Way::Hash | Way::Last(_)) => Hidden::Replaced,
            })
        })
    }

    /// The masks as text, with a fingerprint of the salt, and whether a registry helps to find fields: equal where equal
    /// records are shown.
    pub fn description(&self) -> String {
        let mut text = self.to_string();
        if self.all.iter().any(|mask| mask.way == Way::Hash) {
            text += &format!(" with the salt {}", self.salt.fingerprint());
        }
        let is_path = |mask: &Mask| matches!(mask.part, Part::InKey(_) | Part::InValue(_));
        if self.in_avro && self.all.iter().any(is_path) {
            text += " with fields of Avro by a registry";
        }
        text
    }

    /// The same where a registry tells the schemas of payloads.
    pub(crate) fn with_registry(self) -> Self {
        Self {
            in_avro: true,
            ..self
        }
    }

    /// Whether fields of Avro with the frame of a registry can be hidden, too.
    pub fn reach_avro(&self) -> bool {
        self.in_avro
    }

    /// What the paths of the topic's values are given to.
    #[cfg(test)]
    pub(crate) fn in_value<T>(&self, topic: &str, with: impl FnOnce(&Places<'_>) -> T) -> T {
        match self.rule(topic, Payload::Value) {
            Some(Rule::Parts(paths, _)) => with(&Places::new(&paths, &self.salt)),
            _ => panic!("{topic} has no path"),
        }
    }

    /// Whether parts of the topic's keys or values are hidden.
    pub(crate) fn has_paths(&self, topic: &str, payload: Payload) -> bool {
        matches!(self.rule(topic, payload), Some(Rule::Parts(paths, _)) if !paths.is_empty())
    }

    fn of<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Mask> {
        self.all.iter().filter(move |mask| mask.topic.is(topic))
    }

    /// The strictest way counts, also that of a part: the end of a whole may be in it.
    fn rule<'a>(&'a self, topic: &'a str, payload: Payload) -> Option<Rule<'a>> {
        let mut is_whole = false;
        let mut strictest: Option<Way> = None;
        let (mut paths, mut fields) = (vec![], vec![]);
        for mask in self.of(topic) {
            match (&mask.part, payload) {
                (Part::Key, Payload::Key) | (Part::Value, Payload::Value) => is_whole = true,
                (Part::InKey(path), Payload::Key) | (Part::InValue(path), Payload::Value) => {
                    paths.push((path, mask.way));
                }
                (Part::KeyField(field), Payload::Key)
                | (Part::ValueField(field), Payload::Value) => fields.push((*field, mask.way)),
                _ => continue,
            }
            strictest = Some(strictest.map_or(mask.way, |way| way.min(mask.way)));
        }
        let strictest = strictest?;
        Some(match is_whole {
            true => Rule::Whole(strictest),
            false => Rule::Parts(paths, fields),
        })
    }

    /// The same records without what is hidden. `written` does it for payloads that it knows to be no JSON.
    pub(crate) fn apply(&self, mut batch: RawBatch, written: &Written<'_>) -> Result<RawBatch> {
        let topic = Arc::clone(&batch.partition.topic);
        let before = (batch.keys.is_some(), batch.values.is_some());
        for (column, payload) in [
            (&mut batch.keys, Payload::Key),
            (&mut batch.values, Payload::Value),
        ] {
            let Some(rule) = self.rule(&topic, payload) else {
                continue;
            };
            if let Some(all) = column.take() {
                *column = Some(self.payloads(&all, &rule, written));
                // The memory that the client had counted is given back.
                batch.budgeted_bytes = 0;
            }
        }
        debug_assert_eq!(before, (batch.keys.is_some(), batch.values.is_some()));
        if let Some(headers) = batch.headers.take() {
            batch.headers = Some(self.headers(&topic, headers)?);
        }
        Ok(batch)
    }

    fn payloads(
        &self,
        all: &BinaryViewArray,
        rule: &Rule<'_>,
        written: &Written<'_>,
    ) -> BinaryViewArray {
        let (paths, fields) = match rule {
            Rule::Parts(paths, fields) => (paths.as_slice(), fields.as_slice()),
            Rule::Whole(_) => (&[][..], &[][..]),
        };
        let places = Places::new(paths, &self.salt);
        let in_json = |payload: &[u8], text: &mut Vec<u8>| {
            written(payload, &places, text).unwrap_or_else(|| {
                let (frame, json) = payload.split_at(frame(payload));
                text.extend_from_slice(frame);
                json::rewrite(json, &places, text).is_some()
            })
        };
        let mut masked = BinaryViewBuilder::with_capacity(all.len());
        let mut text = vec![];
        for payload in all {
            let Some(payload) = payload else {
                masked.append_null();
                continue;
            };
            if let Rule::Whole(way) = rule {
                masked.append_option(way.bytes(payload, &self.salt));
                continue;
            }
            text.clear();
            let mut is_done = !paths.is_empty() && in_json(payload, &mut text);
            // What may have been meant as JSON shows no fields by their places.
            let is_line = || !payload.iter().any(|byte| matches!(byte, b'{' | b'[' | 0));
            if !is_done && (paths.is_empty() || is_line()) {
                text.clear();
                is_done = csv::rewrite(payload, fields, &self.salt, &mut text).is_some();
            }
            masked.append_value(if is_done { &text } else { UNREADABLE });
        }
        masked.finish()
    }

    fn headers(&self, topic: &str, headers: ListArray) -> Result<ListArray> {
        let rules = self.of(topic).filter_map(|mask| match &mask.part {
            Part::Headers => Some((None, mask.way)),
            Part::Header(name) => Some((Some(name.as_str()), mask.way)),
            _ => None,
        });
        let rules: Vec<(Option<&str>, Way)> = rules.collect();
        if rules.is_empty() {
            return Ok(headers);
        }
        let unlike = || Error::internal("a client's headers have another type than it says");
        let mut masked = Headers::new();
        for row in 0..headers.len() {
            let row = headers.value(row);
            let row: &StructArray = row.as_struct_opt().ok_or_else(unlike)?;
            let (names, values) = match row.columns() {
                [names, values]
                    if *names.data_type() == DataType::Utf8
                        && *values.data_type() == DataType::Binary =>
                {
                    (names.as_string::<i32>(), values.as_binary::<i32>())
                }
                _ => return Err(unlike()),
            };
            for (name, value) in names.iter().zip(values) {
                let name = name.unwrap_or_default();
                let ways = rules
                    .iter()
                    .filter(|(of, _)| of.is_none_or(|of| of == name));
                let way = ways.map(|(_, way)| *way).min();
                let hidden;
                let value = match (way, value) {
                    (Some(way), Some(value)) => {
                        hidden = way.bytes(value, &self.salt);
                        hidden.as_deref()
                    }
                    (_, value) => value,
                };
                masked.push(name.as_bytes(), value);
            }
            masked.end_row();
        }
        let finished = masked.finish();
        finished.map_err(|e| Error::internal(format!("masked headers: {e}")).because(e))
    }
}

/// The length of a schema registry's frame before JSON.
fn frame(payload: &[u8]) -> usize {
    match payload.first() {
        Some(0) => payload.len().min(5),
        _ => 0,
    }
}

impl From<Parsed> for Mask {
    fn from(parsed: Parsed) -> Self {
        Self {
            text: parsed.text,
            topic: TopicName(parsed.topic),
            part: parsed.part,
            way: parsed.way,
        }
    }
}

impl TopicName {
    fn is(&self, topic: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = topic.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mask) in self.all.iter().enumerate() {
            let before = if i == 0 { "" } else { ", " };
            write!(f, "{before}{}", mask.text)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masks({self})")
    }
}

#[cfg(test)]
mod tests;
