//! The frame that a registry's serializers put before a message.
//!
//! ```text
//! 0x00 | schema id, 4 bytes | count | index … | message
//! ```
//!
//! Count and indexes are zigzag varints. They lead from the messages of the writer's file down into nested
//! ones; a count of 0 stands for the first message. The reader's schema reads the message, by field numbers,
//! so the writer's schema only serves to check the message's name.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::BinaryViewArray;
use prost_reflect::{FileDescriptor, MessageDescriptor};

use super::WriterSchemas;
use super::schema::compile;
use super::wire::Input;
use crate::error::Result;

/// A payload's frame, and the message behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framed<'a> {
    pub(super) id: i32,
    /// The count and the indexes, as bytes.
    indexes: &'a [u8],
    /// All bytes before the message.
    frame: &'a [u8],
    pub(super) message: &'a [u8],
}

/// Why a frame or its schema is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadFrame {
    pub(super) class: &'static str,
    pub(super) message: Arc<str>,
    pub(super) id: Option<i32>,
}

/// The length of the frame before the indexes.
const HEADER_BYTES: usize = 5;

/// The id and the rest, if the payload is long enough.
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

/// Passes over the indexes; `None` when they are invalid.
fn pass_indexes(input: &mut Input<'_>) -> Option<()> {
    for _ in 0..index(input)? {
        index(input)?;
    }
    Some(())
}

fn index(input: &mut Input<'_>) -> Option<u32> {
    u32::try_from(input.zigzag().ok()?).ok()
}

/// The message that the indexes lead to.
fn resolve(file: &FileDescriptor, indexes: &[u8]) -> Option<MessageDescriptor> {
    let mut input = Input::new(indexes);
    let count = index(&mut input)?;
    if count == 0 {
        return file.messages().next();
    }
    let mut message = file.messages().nth(index(&mut input)? as usize)?;
    for _ in 1..count {
        let index = index(&mut input)? as usize;
        // The Java serializer counts only messages declared in the text, which leaves out the entries of
        // maps.
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

/// The writers' schemas seen so far, and the message that each must have written.
#[derive(Debug)]
pub(super) struct Writers {
    source: Arc<dyn WriterSchemas>,
    /// The name of the reader's message.
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

    /// Fetches the schemas that payloads name and that are not known yet.
    ///
    /// An id that the registry did not know is requested again: it may have been registered since.
    ///
    /// # Errors
    /// When the registry fails.
    pub(super) async fn prepare(&self, payloads: &BinaryViewArray) -> Result<()> {
        for id in self.missing(payloads) {
            // Unknown ids are not remembered: bad payloads can name any number of them.
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
        // Nothing panics while holding the lock, so the map is consistent.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with a frame; `None` if it names the reader's message.
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

/// Opens frames, judging each of a run of equal frames only once.
#[derive(Debug)]
pub(super) struct Opener<'a> {
    writers: &'a Writers,
    judged: HashMap<(i32, &'a [u8]), Option<Arc<str>>>,
    /// The last good frame, which usually repeats.
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

    /// The message of a payload, if it is of the reader's type. [`Writers::prepare`] must have seen the
    /// payload.
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
