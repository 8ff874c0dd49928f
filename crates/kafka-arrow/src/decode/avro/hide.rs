//! Hides fields of Avro payloads, by the schemas of a registry: a datum is written anew around them.
//!
//! Fields are found by the names that the writer's schema has for them, and their aliases. So it does not matter what a
//! reader calls them. What is hidden keeps its type: in a union with null it becomes null, and elsewhere the type's empty value
//! (an empty text, 0, false). A text takes its place where the type is a text, or a union has one.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::BinaryViewArray;

use super::super::registry::{Registry, SchemaKind};
use super::cursor::Cursor;
use super::logical::Logical;
use super::schema::{Definition, MAX_DEPTH, Primitive, RecordField, Schema, Type};
use crate::error::Result;
use crate::mask::{Field, Places, Way};

/// The length of a registry's frame.
const FRAME: usize = 5;
/// The most items of an array that have no bytes.
const MOST_EMPTY: u64 = 4_096;
/// The most bytes of the empty value of a type.
const MOST_FIXED: usize = 1 << 20;

/// The schemas that payloads were written with.
#[derive(Debug)]
pub(crate) struct WrittenSchemas {
    registry: Registry,
    known: RwLock<HashMap<i32, Arc<Written>>>,
}

#[derive(Debug)]
enum Written {
    Avro(Schema),
    Json,
    /// Another language, or not readable.
    Other,
}

impl WrittenSchemas {
    pub(crate) fn new(registry: Registry) -> Self {
        Self {
            registry,
            known: RwLock::default(),
        }
    }

    /// Asks for the schemas that payloads name.
    ///
    /// # Errors
    /// When the registry does not answer.
    pub(crate) async fn prepare(&self, payloads: &BinaryViewArray) -> Result<()> {
        let ids: BTreeSet<i32> = payloads.iter().flatten().filter_map(id).collect();
        for id in ids {
            if self.get(id).is_some() {
                continue;
            }
            let Some(found) = self.registry.schema(id).await? else {
                continue;
            };
            let written = match &found.kind {
                SchemaKind::Avro => Schema::parse(&found.text, &found.references)
                    .map_or(Written::Other, Written::Avro),
                SchemaKind::Json => Written::Json,
                _ => Written::Other,
            };
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(id, Arc::new(written));
        }
        Ok(())
    }

    fn get(&self, id: i32) -> Option<Arc<Written>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).cloned()
    }

    /// Appends a payload without what is hidden. `None` if it is not known to be anything but JSON, and
    /// `Some(false)` if it cannot be done.
    pub(crate) fn rewrite(
        &self,
        payload: &[u8],
        places: &Places<'_>,
        to: &mut Vec<u8>,
    ) -> Option<bool> {
        match &*self.get(id(payload)?)? {
            Written::Json => None,
            Written::Other => Some(false),
            Written::Avro(schema) => {
                let (frame, datum) = payload.split_at_checked(FRAME)?;
                to.extend_from_slice(frame);
                Some(rewrite(datum, schema, places, to).is_some())
            }
        }
    }
}

fn id(payload: &[u8]) -> Option<i32> {
    match payload {
        [0, a, b, c, d, ..] => Some(i32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// Appends the datum without what is hidden to `to`.
fn rewrite(datum: &[u8], schema: &Schema, places: &Places<'_>, to: &mut Vec<u8>) -> Option<()> {
    let mut walk = Walk {
        datum,
        cursor: Cursor::new(datum),
        written: 0,
        schema,
        to,
    };
    walk.value(&schema.root, places, 0)?;
    (walk.cursor.left() == 0).then_some(())?;
    walk.write_up_to(datum.len());
    Some(())
}

struct Walk<'a> {
    datum: &'a [u8],
    cursor: Cursor<'a>,
    /// Up to here the datum is in `to`.
    written: usize,
    schema: &'a Schema,
    to: &'a mut Vec<u8>,
}

impl<'a> Walk<'a> {
    fn at(&self) -> usize {
        self.datum.len() - self.cursor.left()
    }

    fn write_up_to(&mut self, end: usize) {
        let rest = self.datum.get(self.written..end);
        self.to.extend_from_slice(rest.unwrap_or_default());
        self.written = end;
    }

    /// Passes a value, and writes what takes the place of what is hidden in it.
    fn value(&mut self, of: &'a Type, places: &Places<'_>, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match of {
            Type::Primitive(primitive, _) => self.primitive(*primitive),
            Type::Array(items) => {
                let has_bytes = self.schema.takes_bytes(items);
                self.blocks(places, has_bytes, |walk| {
                    walk.value(items, places, depth + 1)
                })
            }
            Type::Map(values) => self.blocks(places, true, |walk| {
                let name = walk.cursor.bytes("a key").ok()?;
                let name = String::from_utf8_lossy(name);
                walk.field(values, std::iter::once(&*name), places, depth)
            }),
            Type::Union(branches) => {
                let (_, branch) = self.branch(branches)?;
                self.value(branch, places, depth + 1)
            }
            Type::Named(place) => match &self.schema.named(*place).definition {
                Definition::Record(fields) => fields
                    .iter()
                    .try_for_each(|field| self.field(&field.of, names(field), places, depth)),
                Definition::Enum { .. } => self.cursor.long().ok().map(drop),
                Definition::Fixed { size, .. } => self.cursor.take(*size, "bytes").ok().map(drop),
            },
        }
    }

    fn field<'n>(
        &mut self,
        of: &'a Type,
        names: impl Iterator<Item = &'n str>,
        places: &Places<'_>,
        depth: usize,
    ) -> Option<()> {
        match places.field(names) {
            Field::Hidden(way) => self.hide(of, way, places, depth),
            Field::Shown(inside) => self.value(of, &inside, depth + 1),
        }
    }

    /// The items of an array or a map. Blocks may tell their size, which changes.
    fn blocks(
        &mut self,
        places: &Places<'_>,
        has_bytes: bool,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        loop {
            let start = self.at();
            let count = self.cursor.long().ok()?;
            if count == 0 {
                return Some(());
            }
            if count < 0 {
                self.cursor.long().ok()?;
                if !places.is_empty() {
                    self.write_up_to(start);
                    self.to.extend(long(count.checked_neg()?));
                    self.written = self.at();
                }
            }
            let count = count.unsigned_abs();
            if !has_bytes && count > MOST_EMPTY {
                return None;
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }

    fn branch(&mut self, branches: &'a [Type]) -> Option<(usize, &'a Type)> {
        let place = usize::try_from(self.cursor.long().ok()?).ok()?;
        Some((place, branches.get(place)?))
    }

    fn primitive(&mut self, primitive: Primitive) -> Option<()> {
        match primitive {
            Primitive::Null => Some(()),
            Primitive::Boolean => self.cursor.boolean().ok().map(drop),
            Primitive::Int | Primitive::Long => self.cursor.long().ok().map(drop),
            Primitive::Float => self.cursor.array::<4>("a float").ok().map(drop),
            Primitive::Double => self.cursor.array::<8>("a double").ok().map(drop),
            Primitive::Bytes | Primitive::String => self.cursor.bytes("a text").ok().map(drop),
        }
    }

    /// Passes a value, and writes what takes its place.
    fn hide(&mut self, of: &'a Type, way: Way, places: &Places<'_>, depth: usize) -> Option<()> {
        let start = self.at();
        let Type::Union(branches) = of else {
            let shown = self.shown(of, way, places, depth)?;
            let instead = match shown.filter(|_| is_text(of)) {
                Some(text) => bytes(text.as_bytes()),
                None => empty(of, self.schema, depth)?,
            };
            return self.replace(start, &instead);
        };
        let (place, branch) = self.branch(branches)?;
        if branch.is_null() {
            return Some(());
        }
        let shown = self.shown(branch, way, places, depth)?;
        let text = shown.zip(branches.iter().position(is_text));
        let instead = match (text, branches.iter().position(Type::is_null)) {
            (Some((text, place)), _) => [index(place)?, bytes(text.as_bytes())].concat(),
            (None, Some(place)) => index(place)?,
            (None, None) => [index(place)?, empty(branch, self.schema, depth)?].concat(),
        };
        self.replace(start, &instead)
    }

    fn replace(&mut self, start: usize, instead: &[u8]) -> Option<()> {
        self.write_up_to(start);
        self.to.extend_from_slice(instead);
        self.written = self.at();
        Some(())
    }

    /// Passes a value. What is shown of it, if anything.
    fn shown(
        &mut self,
        of: &'a Type,
        way: Way,
        places: &Places<'_>,
        depth: usize,
    ) -> Option<Option<String>> {
        let start = self.at();
        let salt = places.salt;
        match of {
            Type::Primitive(Primitive::String, _) => {
                let text = self.cursor.bytes("a text").ok()?;
                Some(way.text(&String::from_utf8_lossy(text), salt))
            }
            Type::Primitive(Primitive::Bytes, None) => {
                let hidden = self.cursor.bytes("bytes").ok()?;
                Some(way.other(hidden, salt))
            }
            Type::Primitive(Primitive::Int | Primitive::Long, _) => {
                let number = self.cursor.long().ok()?;
                Some(way.text(&number.to_string(), salt))
            }
            _ => {
                self.value(of, &places.nowhere(), depth + 1)?;
                Some(way.other(self.datum.get(start..self.at())?, salt))
            }
        }
    }
}

/// All names that a field has.
fn names(field: &RecordField) -> impl Iterator<Item = &str> {
    let aliases = field.aliases.iter().map(String::as_str);
    std::iter::once(field.name.as_str()).chain(aliases)
}

/// Whether any text is a value of the type.
fn is_text(of: &Type) -> bool {
    matches!(
        of,
        Type::Primitive(Primitive::String | Primitive::Bytes, None)
    )
}

/// The value of a type that says least.
fn empty(of: &Type, schema: &Schema, depth: usize) -> Option<Vec<u8>> {
    if depth > MAX_DEPTH {
        return None;
    }
    Some(match of {
        Type::Primitive(Primitive::Null, _) => vec![],
        Type::Primitive(Primitive::Float, _) => vec![0; 4],
        Type::Primitive(Primitive::Double, _) => vec![0; 8],
        Type::Primitive(Primitive::Bytes, Some(_)) => bytes(&[0]),
        Type::Primitive(Primitive::String, Some(Logical::Uuid)) => {
            bytes(b"00000000-0000-0000-0000-000000000000")
        }
        Type::Primitive(..) | Type::Array(_) | Type::Map(_) => vec![0],
        Type::Union(branches) => {
            let place = branches.iter().position(Type::is_null).unwrap_or(0);
            [
                index(place)?,
                empty(branches.get(place)?, schema, depth + 1)?,
            ]
            .concat()
        }
        Type::Named(place) => match &schema.named(*place).definition {
            Definition::Record(fields) => {
                let mut all = vec![];
                for field in fields {
                    all.extend(empty(&field.of, schema, depth + 1)?);
                    (all.len() <= MOST_FIXED).then_some(())?;
                }
                all
            }
            Definition::Enum { .. } => vec![0],
            Definition::Fixed { size, .. } => (*size <= MOST_FIXED).then(|| vec![0; *size])?,
        },
    })
}

fn index(place: usize) -> Option<Vec<u8>> {
    i64::try_from(place).ok().map(long)
}

fn bytes(of: &[u8]) -> Vec<u8> {
    // A slice is no longer than an i64 counts.
    let mut all = long(i64::try_from(of.len()).unwrap_or(i64::MAX));
    all.extend_from_slice(of);
    all
}

/// A number as Avro writes it.
fn long(number: i64) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    let mut all = vec![];
    loop {
        let low = (left & 0x7f) as u8;
        left >>= 7;
        if left == 0 {
            all.push(low);
            return all;
        }
        all.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[
        {"name":"id","type":"long"},
        {"name":"card","type":"string"},
        {"name":"email","type":["null","string"],"aliases":["mail"]},
        {"name":"born","type":{"type":"int","logicalType":"date"}},
        {"name":"limit","type":["null",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}]},
        {"name":"list","type":{"type":"array","items":{"type":"record","name":"I","fields":[
            {"name":"card","type":["string","null"]},{"name":"n","type":"int"}]}}},
        {"name":"map","type":{"type":"map","values":"string"}}]}"#;

    fn datum() -> Vec<u8> {
        let item = |card: &[u8], n: i64| [index(0).unwrap(), bytes(card), long(n)].concat();
        let items = [item(b"4111-a", 1), item(b"4111-b", 2)].concat();
        let size = i64::try_from(items.len()).unwrap();
        [
            long(7),
            bytes(b"4111222233334444"),
            index(1).unwrap(),
            bytes(b"a@example.org"),
            long(19_000),
            index(1).unwrap(),
            bytes(&[1, 2]),
            // A block that tells its size.
            long(-2),
            long(size),
            items,
            long(0),
            long(1),
            bytes(b"card"),
            bytes(b"4111-m"),
            long(0),
        ]
        .concat()
    }

    fn hidden(masks: &str) -> Option<Vec<u8>> {
        let masks = crate::mask::Masks::new(masks, Some("pepper"))
            .unwrap()
            .unwrap();
        let schema = Schema::parse(SCHEMA, &[]).unwrap();
        masks.in_value("t", |places| {
            let mut to = vec![];
            rewrite(&datum(), &schema, places, &mut to).map(|()| to)
        })
    }

    fn has(datum: &[u8], text: &[u8]) -> bool {
        datum.windows(text.len()).any(|window| window == text)
    }

    #[test]
    fn fields_are_hidden_wherever_they_are_and_the_rest_stays() {
        let shown = hidden("t.card").unwrap();
        assert!(!has(&shown, b"4111"), "{shown:?}");
        assert!(has(&shown, b"a@example.org"));
        let begins = [
            long(7),
            bytes(b""),
            index(1).unwrap(),
            bytes(b"a@example.org"),
        ]
        .concat();
        assert!(shown.starts_with(&begins), "{shown:?}");
        // What is left is a datum of the schema.
        let schema = Schema::parse(SCHEMA, &[]).unwrap();
        let masks = crate::mask::Masks::new("t.nosuch", None).unwrap().unwrap();
        let again = masks.in_value("t", |places| {
            let mut to = vec![];
            rewrite(&shown, &schema, places, &mut to).map(|()| to)
        });
        assert_eq!(again.unwrap(), shown);
        // Only the size of the block is gone, which nobody needs.
        assert_eq!(hidden("t.nosuch").unwrap().len(), datum().len() - 1);
    }

    #[test]
    fn ways_depend_on_types() {
        let shown =
            hidden("t.$.email, t.$.list.card=last2, t.$.card=hash, t.born, t.limit, t.$.map")
                .unwrap();
        assert!(!has(&shown, b"example") && !has(&shown, b"4111-a") && !has(&shown, b"4111222"));
        assert!(has(&shown, b"****-a"));
        let hash = 1 + long(32).len();
        let tail = [index(0).unwrap(), long(0), index(0).unwrap()].concat();
        assert!(shown[hash + 32..].starts_with(&tail), "{shown:?}");
        assert!(shown.ends_with(&[0, 0]), "{shown:?}");
        // An alias is a name.
        assert!(!has(&hidden("t.mail").unwrap(), b"example"));
    }

    #[test]
    fn what_is_no_datum_is_not_rewritten() {
        let schema = Schema::parse(SCHEMA, &[]).unwrap();
        let masks = crate::mask::Masks::new("t.card", None).unwrap().unwrap();
        masks.in_value("t", |places| {
            let datum = datum();
            for end in 0..datum.len() {
                assert!(
                    rewrite(&datum[..end], &schema, places, &mut vec![]).is_none(),
                    "{end}"
                );
            }
            assert!(rewrite(&[&datum[..], b"x"].concat(), &schema, places, &mut vec![]).is_none());
        });
    }
}
