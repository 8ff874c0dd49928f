//! The frame that a registry's serializers put before a message, and what it says.
//!
//! ```text
//! 0x00 | schema id, 4 bytes | count | index … | message
//! ```
//!
//! Count and indexes are zigzag varints: they lead from the messages of the writer's file into those
//! nested in them. A count of 0 stands for the first message. The message is read with the reader's
//! schema, by field numbers, so the writer's is needed for the message's name alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::BinaryViewArray;
use prost_reflect::{FileDescriptor, MessageDescriptor};

use super::WriterSchemas;
use super::schema::compile;
use super::wire::Input;
use crate::error::Result;

/// A payload's frame, and the rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framed<'a> {
    pub(super) id: i32,
    /// The indexes with their count, as bytes.
    indexes: &'a [u8],
    /// All bytes before the message.
    frame: &'a [u8],
    pub(super) message: &'a [u8],
}

/// Why a frame or its schema is not good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadFrame {
    pub(super) class: &'static str,
    pub(super) message: Arc<str>,
    pub(super) id: Option<i32>,
}

/// How long the frame is up to the indexes.
const HEADER_BYTES: usize = 5;

/// The id, if there is room for one.
fn header(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [0, id @ ..] = *header else {
        return None;
    };
    Some((i32::from_be_bytes(id), rest))
}

impl<'a> Framed<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, BadFrame> {
        let bad = |class, message: &str, id| BadFrame {
            class,
            message: message.into(),
            id,
        };
        if bytes.is_empty() {
            return Err(bad("empty", "no bytes, where a frame must be", None));
        }
        let Some((id, rest)) = header(bytes) else {
            let message = if bytes[0] == 0 {
                "the bytes end within the frame's schema id"
            } else {
                "no frame with a schema id: the first byte is not 0"
            };
            return Err(bad("frame", message, None));
        };
        let mut input = Input::new(rest);
        if pass_indexes(&mut input).is_none() {
            let message = "the frame's message indexes are broken";
            return Err(bad("frame", message, Some(id)));
        }
        let message = input.rest();
        Ok(Self {
            id,
            indexes: &rest[..rest.len() - message.len()],
            frame: &bytes[..bytes.len() - message.len()],
            message,
        })
    }
}

/// Passes over the indexes; `None` when they are none.
fn pass_indexes(input: &mut Input<'_>) -> Option<()> {
    for _ in 0..index(input)? {
        index(input)?;
    }
    Some(())
}

fn index(input: &mut Input<'_>) -> Option<u32> {
    u32::try_from(input.zigzag().ok()?).ok()
}

/// The message that indexes lead to.
fn resolve(file: &FileDescriptor, indexes: &[u8]) -> Option<MessageDescriptor> {
    let mut input = Input::new(indexes);
    let count = index(&mut input)?;
    if count == 0 {
        return file.messages().next();
    }
    let mut message = file.messages().nth(index(&mut input)? as usize)?;
    for _ in 1..count {
        let index = index(&mut input)? as usize;
        // The Java serializer counts what the text declares; entries of maps are not in it.
        let nested = message
            .child_messages()
            .filter(|m| !m.is_map_entry())
            .nth(index)?;
        message = nested;
    }
    Some(message)
}

/// What is known of a writer's schema.
#[derive(Debug)]
enum Writer {
    Unreadable(String),
    File(FileDescriptor),
}

/// The writers' schemas that were met, and the message that they must write.
#[derive(Debug)]
pub(super) struct Writers {
    source: Arc<dyn WriterSchemas>,
    /// The reader's message.
    message: String,
    known: Mutex<HashMap<i32, Arc<Writer>>>,
}

impl Writers {
    pub(super) fn new(source: Arc<dyn WriterSchemas>, message: &str) -> Self {
        Self {
            source,
            message: message.to_owned(),
            known: Mutex::new(HashMap::new()),
        }
    }

    /// Gets the schemas that payloads name and that are not known yet.
    ///
    /// An id that the registry did not know is asked for again: it may be there by now.
    ///
    /// # Errors
    /// Those of the registry.
    pub(super) async fn prepare(&self, payloads: &BinaryViewArray) -> Result<()> {
        for id in self.missing(payloads) {
            // Ids that the registry does not know are as many as bad payloads say: none is kept.
            let Some(found) = self.source.schema(id).await? else {
                continue;
            };
            let writer = match compile(&found.proto_files()) {
                Ok(file) => Writer::File(file),
                Err(error) => Writer::Unreadable(error.to_string()),
            };
            self.known().insert(id, Arc::new(writer));
        }
        Ok(())
    }

    fn missing(&self, payloads: &BinaryViewArray) -> Vec<i32> {
        let mut ids = HashSet::new();
        let mut last = None;
        for (id, _) in payloads.iter().flatten().filter_map(header) {
            if last != Some(id) {
                last = Some(id);
                ids.insert(id);
            }
        }
        let known = self.known();
        ids.retain(|id| !known.contains_key(id));
        let mut ids: Vec<i32> = ids.into_iter().collect();
        ids.sort_unstable();
        ids
    }

    #[cfg(test)]
    pub(super) fn known_ids(&self) -> usize {
        self.known().len()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Arc<Writer>>> {
        // Nothing panics while the lock is held; what is there is whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a frame is of the reader's message; outside it, what is wrong with that.
    fn judge(&self, framed: &Framed<'_>) -> Option<Arc<str>> {
        let id = framed.id;
        let writer = self.known().get(&id).map(Arc::clone);
        let reason = match writer.as_deref() {
            None => format!("the registry does not know schema {id}"),
            Some(Writer::Unreadable(reason)) => format!("schema {id} cannot be read: {reason}"),
            Some(Writer::File(file)) => match resolve(file, framed.indexes) {
                None => format!("schema {id} has no message at the frame's indexes"),
                Some(message) if message.full_name() != self.message => format!(
                    "the message is '{}', where '{}' is read",
                    message.full_name(),
                    self.message
                ),
                Some(_) => return None,
            },
        };
        Some(reason.into())
    }
}

/// Opens frames; those that are equal are judged once.
#[derive(Debug)]
pub(super) struct Opener<'a> {
    writers: &'a Writers,
    judged: HashMap<(i32, &'a [u8]), Option<Arc<str>>>,
    /// The last good frame, which most often is the next one too.
    last: Option<Framed<'a>>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(writers: &'a Writers) -> Self {
        Self {
            writers,
            judged: HashMap::new(),
            last: None,
        }
    }

    /// The message of a payload, if it is one of the reader's; [`Writers::prepare`] has seen it.
    pub(super) fn open(&mut self, bytes: &'a [u8]) -> Result<Framed<'a>, BadFrame> {
        if let Some(last) = self.last
            && let Some(message) = bytes.strip_prefix(last.frame)
        {
            return Ok(Framed { message, ..last });
        }
        let framed = Framed::parse(bytes)?;
        let key = (framed.id, framed.indexes);
        let verdict = match self.judged.get(&key) {
            Some(verdict) => verdict.clone(),
            None => {
                let verdict = self.writers.judge(&framed);
                self.judged.insert(key, verdict.clone());
                verdict
            }
        };
        match verdict {
            None => {
                self.last = Some(framed);
                Ok(framed)
            }
            Some(message) => Err(BadFrame {
                class: "schema",
                message,
                id: Some(framed.id),
            }),
        }
    }
}
