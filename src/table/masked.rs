//! What a table may do with records of which its connection hides something.

use std::sync::Arc;

use super::TopicSource;
use super::resolve::Selection;
use crate::decode::Format;
use crate::error::{Error, Result};
use crate::formats::Formats;
use crate::mask::{Hidden, Masks, Payload};

/// The masks of a table's topics; of all topics where a pattern chooses them.
pub(super) fn masks(selection: &Selection) -> Option<Masks> {
    let topics: Option<Vec<Arc<str>>> = match &selection.topics {
        TopicSource::Named(names) => Some(names.clone()),
        TopicSource::Assigned(assigned) => Some(assigned.keys().cloned().collect()),
        TopicSource::Pattern(_) => None,
    };
    selection.client.masks()?.among(topics.as_deref())
}

/// Whether something of the keys is hidden. What is known of them as they are written then tells nothing.
pub(super) fn hides_keys(masks: Option<&Masks>) -> bool {
    masks.is_some_and(|masks| masks.hidden(Payload::Key).next().is_some())
}

/// A description of how records become rows, with what is hidden of them.
#[cfg(feature = "jobs")]
pub(super) fn described(decoding: Option<String>, masks: Option<&Masks>) -> Option<String> {
    let Some(masks) = masks else { return decoding };
    let decoding = decoding.unwrap_or_else(|| "bytes as they are".to_owned());
    Some(format!("{decoding}, masked: {}", masks.description()))
}

/// Refuses formats that do not read what masks leave.
///
/// # Errors
/// [`Error::Invalid`], which names the masks.
pub(super) fn check(formats: &Formats, masks: Option<&Masks>) -> Result<()> {
    let Some(masks) = masks else { return Ok(()) };
    for (name, payload, format) in [
        ("key", Payload::Key, formats.key.format),
        ("value", Payload::Value, formats.value.format),
    ] {
        let reads = |hidden: Hidden| match hidden {
            Hidden::InJson if format.is_avro() => {
                // With the frame of a registry, and that is the connection's.
                format != Format::AvroSingleObject
                    && masks.reach_avro()
                    && formats.registry.is_some()
            }
            Hidden::InJson if format == Format::Csv => {
                masks.hidden(payload).any(|hidden| hidden == Hidden::InCsv)
            }
            Hidden::InJson => format.is_json() || is_text(format),
            Hidden::InCsv => format == Format::Csv || is_text(format),
            Hidden::Replaced => is_text(format),
            _ => true,
        };
        if let Some(hidden) = masks.hidden(payload).find(|hidden| !reads(*hidden)) {
            let what = match hidden {
                Hidden::InJson => {
                    "fields are hidden by their names in JSON, and in Avro of the connection's own schema registry; of CSV by \
                     their places, as csv[2]; of other payloads only the whole can be"
                }
                Hidden::InCsv => "fields are hidden in lines of CSV, by their places",
                _ => "a text takes the place of what is hidden",
            };
            return Err(Error::invalid(format!(
                "'{name}.format' = '{format}' cannot be read through the masks of this connection ({masks}): {what}. Mask \
                 the whole {name} with NULL, or read it as it is with '{name}.format' = 'raw'"
            )));
        }
    }
    Ok(())
}

fn is_text(format: Format) -> bool {
    matches!(format, Format::Raw | Format::Text)
}
