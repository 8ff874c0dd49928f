//! Reads the setting `mask`.

use super::Part;
use super::csv;
use super::path::Path;
use super::way::Way;
use crate::error::{Error, Result};

/// The columns of a topic that have nothing to hide, and are no names of fields.
const COORDINATES: [&str; 6] = [
    "topic",
    "partition",
    "offset",
    "timestamp",
    "timestamp_type",
    "leader_epoch",
];
/// The most characters that `lastN` keeps.
const MOST_KEPT: usize = 9;

/// One item of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) text: String,
    pub(super) topic: String,
    pub(super) part: Part,
    pub(super) way: Way,
}

pub(super) fn list(text: &str) -> Result<Vec<Parsed>> {
    let items = split(text, ',').into_iter().map(str::trim);
    items.filter(|item| !item.is_empty()).map(item).collect()
}

/// The parts between separators that are not in `"…"` or `[…]`.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start) = (vec![], 0);
    let (mut quoted, mut bracket) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if !bracket => quoted = !quoted,
            '[' if !quoted => bracket = true,
            ']' if !quoted => bracket = false,
            _ if c == separator && !quoted && !bracket => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn item(text: &str) -> Result<Parsed> {
    let wrong = |what: String| {
        Error::config(
            "mask",
            format!(
                "'{text}': {what}; expected masks such as orders.$.card, customers.email=hash or orders.key=last4, \
                 separated by commas"
            ),
        )
    };
    let (place, way) = match &split(text, '=')[..] {
        [place] => (place.trim(), Way::Null),
        [place, way] => {
            let way = way.trim();
            let known = parse_way(way).ok_or_else(|| {
                wrong(format!(
                    "there is no way '{way}': it is null, hash, or last1 to last{MOST_KEPT}"
                ))
            })?;
            (place.trim(), known)
        }
        _ => return Err(wrong("'=' comes more than once".to_owned())),
    };
    let (topic, part) = match place.strip_prefix('"') {
        Some(quoted) => {
            let (topic, rest) =
                (quoted.split_once('"')).ok_or_else(|| wrong("a '\"' is not closed".to_owned()))?;
            let part = rest.strip_prefix('.');
            (
                topic,
                part.ok_or_else(|| wrong("after the topic comes '.'".to_owned()))?,
            )
        }
        None => unquoted(place)
            .ok_or_else(|| wrong("a topic and what to hide of it are needed".to_owned()))?,
    };
    let named = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-', '*'].contains(&c);
    if topic.is_empty() || !topic.chars().all(named) {
        return Err(wrong(format!("'{topic}' is no name of a topic")));
    }
    Ok(Parsed {
        text: text.to_owned(),
        topic: topic.to_owned(),
        part: parse_part(part).map_err(wrong)?,
        way,
    })
}

/// The topic ends before `$` or `csv[`, or else before the last dot.
fn unquoted(place: &str) -> Option<(&str, &str)> {
    let of_parts = place.split_once(".$");
    let Some((before, _)) = of_parts.or_else(|| place.split_once(".csv[")) else {
        let name = place.split('[').next().unwrap_or(place);
        let dot = name.rfind('.')?;
        return Some((place.get(..dot)?, place.get(dot + 1..)?));
    };
    let topic = (before.strip_suffix(".key")).or_else(|| before.strip_suffix(".value"));
    let topic = topic.unwrap_or(before);
    Some((topic, place.get(topic.len() + 1..)?))
}

fn parse_way(text: &str) -> Option<Way> {
    match text.to_ascii_lowercase().as_str() {
        "null" => Some(Way::Null),
        "hash" => Some(Way::Hash),
        last => {
            let kept = last.strip_prefix("last")?.parse().ok()?;
            (1..=MOST_KEPT).contains(&kept).then_some(Way::Last(kept))
        }
    }
}

fn parse_part(part: &str) -> std::result::Result<Part, String> {
    if let Some(path) = part.strip_prefix("key.$") {
        return Path::parse(path).map(Part::InKey);
    }
    let in_value = part
        .strip_prefix("value.$")
        .or_else(|| part.strip_prefix('$'));
    if let Some(path) = in_value {
        return Path::parse(path).map(Part::InValue);
    }
    let (of, field) = match part.strip_prefix("key.") {
        Some(field) => (Part::KeyField as fn(csv::Field) -> Part, field),
        None => (
            Part::ValueField as _,
            part.strip_prefix("value.").unwrap_or(part),
        ),
    };
    if let Some(field) = field.strip_prefix("csv[") {
        let field = field.strip_suffix(']').ok_or("a '[' is not closed")?;
        return csv::Field::parse(field).map(of);
    }
    if let Some(name) = part.strip_prefix("headers[") {
        let name = name.strip_suffix(']').filter(|name| !name.is_empty());
        let name = name.ok_or("a header is written headers[NAME]")?;
        return Ok(Part::Header(name.to_owned()));
    }
    // Columns have no case in SQL, and fields have.
    let column = part.to_ascii_lowercase();
    match part {
        "key" => Ok(Part::Key),
        "value" => Ok(Part::Value),
        "headers" => Ok(Part::Headers),
        name if ["key", "value", "headers"].contains(&&*column) => Err(format!(
            "the column is written {column}; a field of the name {name} is $..{name}"
        )),
        name if COORDINATES.contains(&&*column) => Err(format!(
            "the column {column} says where a record is and cannot be hidden; a field of this name is $..{name}"
        )),
        name if name.is_empty() || name.contains(['[', ']', '"']) || name != name.trim() => {
            Err(format!("'{name}' is no name of a column"))
        }
        name => Ok(Part::InValue(Path::anywhere(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Part, Way)> {
        let all = list(text).unwrap().into_iter();
        all.map(|mask| (mask.topic, mask.part, mask.way)).collect()
    }

    #[test]
    fn a_list_of_masks_is_read() {
        let path = |text| Path::parse(text).unwrap();
        let topic = str::to_owned;
        assert_eq!(
            read(
                "orders.$.card, customers.email=hash,eu.pay-*.key = last4, orders.headers[a,b=c]=Null, a.b.key.$.id,\
                 \"a.key\".value.$..x,t.headers"
            ),
            [
                (topic("orders"), Part::InValue(path(".card")), Way::Null),
                (
                    topic("customers"),
                    Part::InValue(path("..email")),
                    Way::Hash
                ),
                (topic("eu.pay-*"), Part::Key, Way::Last(4)),
                (topic("orders"), Part::Header("a,b=c".into()), Way::Null),
                (topic("a.b"), Part::InKey(path(".id")), Way::Null),
                (topic("a.key"), Part::InValue(path("..x")), Way::Null),
                (topic("t"), Part::Headers, Way::Null),
            ]
        );
        let field = |place, delimiter| csv::Field { place, delimiter };
        assert_eq!(
            read(
                "a.b.csv[2]=last4, t.key.csv[1 by ,], \"t.key\".csv[3 by =], t.csv, t.csv[10 by \\t]"
            ),
            [
                (topic("a.b"), Part::ValueField(field(1, b',')), Way::Last(4)),
                (topic("t"), Part::KeyField(field(0, b',')), Way::Null),
                (topic("t.key"), Part::ValueField(field(2, b'=')), Way::Null),
                (topic("t"), Part::InValue(path("..csv")), Way::Null),
                (topic("t"), Part::ValueField(field(9, b'\t')), Way::Null),
            ]
        );
        assert_eq!(read(" , "), []);
    }

    #[test]
    fn what_is_no_mask_is_refused_with_the_reason() {
        for (text, reason) in [
            ("orders", "a topic and what to hide of it are needed"),
            ("orders.key=sha1", "there is no way 'sha1'"),
            ("orders.key=last0", "there is no way 'last0'"),
            ("orders.key=hash=hash", "'=' comes more than once"),
            ("orders.offset", "the column offset says where a record is"),
            ("orders.Offset", "the column offset says where a record is"),
            (
                "orders.KEY",
                "the column is written key; a field of the name KEY is $..KEY",
            ),
            ("orders.value.Headers", "the column is written headers"),
            ("orders. card", "' card' is no name of a column"),
            ("orders .card", "'orders ' is no name of a topic"),
            ("or ders.key", "'or ders' is no name of a topic"),
            (".key", "'' is no name of a topic"),
            ("orders.", "'' is no name of a column"),
            ("\"orders.key", "a '\"' is not closed"),
            ("\"orders\"key", "after the topic comes '.'"),
            ("orders.$", "a path begins with '.'"),
            ("orders.$.a..b", "'..' comes only at the beginning"),
            ("orders.$.a[0]", "items cannot be told apart"),
            ("orders.headers[]", "a header is written headers[NAME]"),
            ("orders.csv[0]", "a field of CSV is written csv[N]"),
            ("orders.csv[2 by ab]", "one ASCII character"),
            ("orders.csv[2", "a '[' is not closed"),
        ] {
            let error = list(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
