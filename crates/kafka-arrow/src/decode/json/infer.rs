//! Infers columns from a sample of JSON objects.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use jiter::Peek;

use super::scan::Scan;
use super::text::{deeper, kind, skip};
use crate::decode::column::timestamp_type;
use crate::decode::debezium;
use crate::decode::value::Fault;

/// An object with more fields than this is a map and not a schema. One field more is kept, to notice it.
const FIELDS_MOST: usize = 1000;

/// What is known of the objects' fields so far.
#[derive(Debug, Default)]
pub struct Inference {
    fields: Seen,
    objects: usize,
}

/// Fields, in the order of their first appearance.
#[derive(Debug, Default, Clone, PartialEq)]
struct Seen(Vec<(String, Kind)>);

/// What the values of a field have in common.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Null,
    Bool,
    Whole,
    Float,
    Object(Seen),
    List(Box<Kind>),
    /// Text, or values that have nothing else in common.
    Text,
}

impl Inference {
    /// Looks at one more payload.
    ///
    /// # Errors
    /// When the payload is not a JSON object. Nothing is learned from it.
    pub fn add(&mut self, payload: &[u8]) -> Result<(), String> {
        self.look(payload).map_err(|fault| fault.message)
    }

    fn look(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let mut parser = Scan::new(payload);
        let first = parser.peek()?;
        if first != Peek::Object {
            let found = kind(first);
            return Err(Fault::new(
                "type",
                format!("expected a JSON object, found {found}"),
            ));
        }
        let found = Seen::of(&mut parser, 1)?;
        parser.finish()?;
        self.fields.join(found);
        self.objects += 1;
        Ok(())
    }

    /// The number of objects seen so far.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// The columns of Debezium's envelopes; `None` where the sample had none. A row has the same fields
    /// before and after a change, so both sides learn from each other.
    pub fn debezium_columns(self) -> Option<Fields> {
        let Seen(mut fields) = self.fields;
        let mut kind = |name: &str| {
            let at = fields.iter().position(|(known, _)| known == name)?;
            Some(fields.swap_remove(at).1)
        };
        kind(debezium::OP)?;
        let mut row = kind("before").unwrap_or(Kind::Null);
        row.join(kind("after").unwrap_or(Kind::Null));
        let row = row.data_type();
        let source = kind("source").unwrap_or(Kind::Null).data_type();
        let each = debezium::COLUMNS.into_iter().map(|column| {
            let data_type = match column {
                "before" | "after" => row.clone(),
                "source" => source.clone(),
                "ts" => timestamp_type(),
                _ => DataType::Utf8View,
            };
            Field::new(column, data_type, true)
        });
        Some(each.collect())
    }

    /// The fields, all nullable: Boolean, Int64, Float64, Utf8View, List and Struct.
    ///
    /// # Errors
    /// When there are too many. Leaving some out silently would be worse.
    pub fn fields(self) -> Result<Fields, String> {
        if self.fields.are_too_many() {
            return Err(format!("more than {FIELDS_MOST} fields"));
        }
        Ok(self.fields.fields())
    }
}

impl Seen {
    fn of(parser: &mut Scan<'_>, depth: usize) -> Result<Self, Fault> {
        deeper(depth)?;
        let mut fields: Vec<(String, Kind)> = vec![];
        let mut more = parser.object()?;
        while more {
            let key = parser.key()?;
            let peek = parser.peek()?;
            let found = Kind::of(parser, peek, depth)?;
            let room = fields.len() <= FIELDS_MOST;
            match fields.iter_mut().find(|(name, _)| *name == key) {
                Some((_, kind)) => *kind = found,
                None if room => fields.push((key.into_owned(), found)),
                None => {}
            }
            more = parser.next_key()?;
        }
        Ok(Self(fields))
    }

    fn are_too_many(&self) -> bool {
        self.0.len() > FIELDS_MOST
    }

    fn join(&mut self, other: Self) {
        for (name, kind) in other.0 {
            let room = self.0.len() <= FIELDS_MOST;
            match self.0.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.join(kind),
                None if room => self.0.push((name, kind)),
                None => {}
            }
        }
    }

    fn fields(self) -> Fields {
        let fields = self.0.into_iter();
        fields
            .map(|(name, kind)| Field::new(name, kind.data_type(), true))
            .collect()
    }
}

impl Kind {
    fn object(fields: Seen) -> Self {
        match fields.are_too_many() {
            true => Self::Text,
            false => Self::Object(fields),
        }
    }

    fn of(parser: &mut Scan<'_>, peek: Peek, depth: usize) -> Result<Self, Fault> {
        Ok(match peek {
            Peek::Object => {
                let fields = Seen::of(parser, depth + 1)?;
                Self::object(fields)
            }
            Peek::Array => {
                deeper(depth + 1)?;
                let mut item = Self::Null;
                let mut next = parser.array()?;
                while let Some(peek) = next {
                    item.join(Self::of(parser, peek, depth + 1)?);
                    next = parser.next_item()?;
                }
                Self::List(Box::new(item))
            }
            peek if peek.is_num() => {
                let (digits, _) = parser.number(peek)?;
                let text = std::str::from_utf8(digits).unwrap_or_default();
                let whole = !text.contains(['.', 'e', 'E']);
                match (whole, text.parse::<i64>()) {
                    (false, _) => Self::Float,
                    (true, Ok(_)) => Self::Whole,
                    // A float would lose digits.
                    (true, Err(_)) => Self::Text,
                }
            }
            other => {
                skip(parser, other, depth)?;
                match other {
                    Peek::Null => Self::Null,
                    Peek::True | Peek::False => Self::Bool,
                    _ => Self::Text,
                }
            }
        })
    }

    fn join(&mut self, other: Self) {
        if *self == other {
            return;
        }
        *self = match (std::mem::replace(self, Self::Null), other) {
            (Self::Null, one) | (one, Self::Null) => one,
            (Self::Whole | Self::Float, Self::Whole | Self::Float) => Self::Float,
            (Self::Object(mut one), Self::Object(other)) => {
                one.join(other);
                Self::object(one)
            }
            (Self::List(mut one), Self::List(other)) => {
                one.join(*other);
                Self::List(one)
            }
            _ => Self::Text,
        };
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Whole => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Null | Self::Text => DataType::Utf8View,
            // A struct without fields would show nothing, so the column keeps the JSON text.
            Self::Object(fields) if fields.0.is_empty() => DataType::Utf8View,
            Self::Object(fields) => DataType::Struct(fields.fields()),
            Self::List(item) => {
                let item = Field::new("item", item.data_type(), true);
                DataType::List(Arc::new(item))
            }
        }
    }
}
