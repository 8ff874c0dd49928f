//! The columns that a JSON Schema describes.
//!
//! A schema says which values are allowed, while a column needs one type for all of them. Whatever a keyword
//! leaves open, or this crate does not know, becomes [`Kind::Any`]: a column of JSON text, which every value
//! fits.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use jiter::JsonValue;

/// How deep schemas may be nested, and how many there may be when every use of a definition counts. Uses
/// multiply: each of thirty definitions may use the next one twice.
const DEPTH_MOST: usize = 64;
const SCHEMAS_MOST: usize = 10_000;

/// The fields, all nullable, of the object that a schema describes. `references` are the names and texts of
/// the schemas that it uses.
///
/// # Errors
/// When it does not describe an object with properties, or contains itself. The message does not name the
/// schema.
pub fn schema_fields(text: &str, references: &[(String, String)]) -> Result<Fields, String> {
    let parsed = |text: &str| {
        let json = JsonValue::parse_owned(text.as_bytes(), false, jiter::PartialMode::Off);
        json.map_err(|e| format!("not JSON: {}", e.description(text.as_bytes())))
    };
    let mut documents = vec![("", parsed(text)?)];
    for (name, text) in references {
        let json = parsed(text).map_err(|e| format!("its reference '{name}': {e}"))?;
        documents.push((name.as_str(), json));
    }
    let mut reader = Reader {
        documents: &documents,
        // A reference to the root comes from within it.
        inside: vec![(0, "")],
        depth: 0,
        schemas: 0,
    };
    match reader.kind(0, &documents[0].1)? {
        Kind::Object(fields) => Ok(struct_fields(fields)),
        _ => Err("describes no object with properties".to_owned()),
    }
}

/// The values that a schema allows.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Any value.
    Any,
    Null,
    Bool,
    Whole,
    Float,
    Text,
    Date,
    Instant,
    /// By name, in the order of the schema.
    Object(Vec<(String, Kind)>),
    Map(Box<Kind>),
    List(Box<Kind>),
}

type Json = JsonValue<'static>;

struct Reader<'a> {
    /// The schema, and those that it refers to, by name.
    documents: &'a [(&'a str, Json)],
    /// The definitions being read, each as a document and a place in it.
    inside: Vec<(usize, &'a str)>,
    depth: usize,
    schemas: usize,
}

impl<'a> Reader<'a> {
    /// The kind of one schema in a document.
    fn kind(&mut self, document: usize, schema: &'a Json) -> Result<Kind, String> {
        self.schemas += 1;
        if self.depth >= DEPTH_MOST || self.schemas > SCHEMAS_MOST {
            return Err(format!(
                "has schemas nested deeper than {DEPTH_MOST} or more than {SCHEMAS_MOST} of them"
            ));
        }
        self.depth += 1;
        let mut kind = self.own(document, schema)?;
        if let Some(JsonValue::Str(reference)) = get(schema, "$ref") {
            kind = kind.both(self.referred(document, reference)?);
        }
        for part in list(schema, "allOf") {
            kind = kind.both(self.kind(document, part)?);
        }
        for name in ["oneOf", "anyOf"] {
            let mut alternatives: Option<Kind> = None;
            for alternative in list(schema, name) {
                let found = self.kind(document, alternative)?;
                alternatives = Some(match alternatives {
                    Some(known) => known.either(found),
                    None => found,
                });
            }
            kind = kind.both(alternatives.unwrap_or(Kind::Any));
        }
        self.depth -= 1;
        Ok(kind)
    }

    /// What the schema itself says, without its references.
    fn own(&mut self, document: usize, schema: &'a Json) -> Result<Kind, String> {
        match get(schema, "type") {
            Some(JsonValue::Str(name)) => self.named(name, document, schema),
            Some(JsonValue::Array(names)) => {
                let mut kind = Kind::Null;
                for name in names.iter() {
                    if let JsonValue::Str(name) = name {
                        kind = kind.either(self.named(name, document, schema)?);
                    }
                }
                Ok(kind)
            }
            _ if get(schema, "properties").is_some() => self.object(document, schema),
            _ => {
                let values = list(schema, "enum").chain(get(schema, "const"));
                Ok(values
                    .map(of_value)
                    .reduce(Kind::either)
                    .unwrap_or(Kind::Any))
            }
        }
    }

    fn named(&mut self, name: &str, document: usize, schema: &'a Json) -> Result<Kind, String> {
        Ok(match name {
            "null" => Kind::Null,
            "boolean" => Kind::Bool,
            "integer" => Kind::Whole,
            "number" => Kind::Float,
            "string" => match get(schema, "format") {
                Some(JsonValue::Str(format)) if format == "date" => Kind::Date,
                Some(JsonValue::Str(format)) if format == "date-time" => Kind::Instant,
                _ => Kind::Text,
            },
            "object" => self.object(document, schema)?,
            "array" => match get(schema, "items") {
                Some(items @ JsonValue::Object(_)) => {
                    Kind::List(Box::new(self.kind(document, items)?))
                }
                // Items of any kind, or of a different kind at each place.
                _ => Kind::Any,
            },
            _ => Kind::Any,
        })
    }

    fn object(&mut self, document: usize, schema: &'a Json) -> Result<Kind, String> {
        let mut fields: Vec<(String, Kind)> = vec![];
        if let Some(JsonValue::Object(properties)) = get(schema, "properties") {
            for (name, property) in properties.iter() {
                let kind = self.kind(document, property);
                let kind = kind.map_err(|e| format!("property '{name}': {e}"))?;
                match fields.iter_mut().find(|(known, _)| known == name) {
                    Some((_, known)) => *known = kind,
                    None => fields.push((name.clone().into_owned(), kind)),
                }
            }
        }
        if !fields.is_empty() {
            return Ok(Kind::Object(fields));
        }
        match get(schema, "additionalProperties") {
            Some(values @ JsonValue::Object(_)) => {
                Ok(Kind::Map(Box::new(self.kind(document, values)?)))
            }
            _ => Ok(Kind::Any),
        }
    }

    /// The kind that a reference leads to: `#/definitions/Name`, a schema of the registry, or a place in one.
    fn referred(&mut self, document: usize, reference: &'a str) -> Result<Kind, String> {
        let (name, place) = reference.split_once('#').unwrap_or((reference, ""));
        let document = match name {
            "" => Some(document),
            name => self.documents.iter().position(|(known, _)| *known == name),
        };
        let pointer = unescaped(place);
        // A reference to somewhere else, or to an anchor, may be anything.
        let document = document.filter(|_| pointer.is_empty() || pointer.starts_with('/'));
        let Some(document) = document else {
            return Ok(Kind::Any);
        };
        let target = at(&self.documents[document].1, &pointer)
            .ok_or_else(|| format!("refers to '{reference}', which it does not define"))?;
        if self.inside.contains(&(document, place)) {
            return Err(format!(
                "contains itself by the reference '{reference}', which cannot be a column"
            ));
        }
        self.inside.push((document, place));
        let kind = self.kind(document, target);
        self.inside.pop();
        kind
    }
}

impl Kind {
    /// The kind of values that are of either kind.
    fn either(self, other: Self) -> Self {
        match (self, other) {
            (Self::Null, one) | (one, Self::Null) => one,
            (one, other) if one == other => one,
            (Self::Whole | Self::Float, Self::Whole | Self::Float) => Self::Float,
            (Self::Object(one), Self::Object(other)) => {
                Self::Object(merged(one, other, Self::either))
            }
            (Self::Map(one), Self::Map(other)) => Self::Map(Box::new(one.either(*other))),
            (Self::List(one), Self::List(other)) => Self::List(Box::new(one.either(*other))),
            _ => Self::Any,
        }
    }

    /// The kind of values that are of both kinds.
    fn both(self, other: Self) -> Self {
        match (self, other) {
            (Self::Any, one) | (one, Self::Any) => one,
            (Self::Null, one) | (one, Self::Null) => one,
            (one, other) if one == other => one,
            (Self::Whole | Self::Float, Self::Whole | Self::Float) => Self::Whole,
            (Self::Text, one @ (Self::Date | Self::Instant))
            | (one @ (Self::Date | Self::Instant), Self::Text) => one,
            (Self::Object(one), Self::Object(other)) => {
                Self::Object(merged(one, other, Self::both))
            }
            (Self::Map(one), Self::Map(other)) => Self::Map(Box::new(one.both(*other))),
            (Self::List(one), Self::List(other)) => Self::List(Box::new(one.both(*other))),
            _ => Self::Any,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Any | Self::Null | Self::Text => DataType::Utf8View,
            Self::Bool => DataType::Boolean,
            Self::Whole => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            // Nanoseconds would end in 2262.
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Object(fields) => DataType::Struct(struct_fields(fields)),
            Self::Map(values) => {
                let entry = Fields::from(vec![
                    Field::new("key", DataType::Utf8, false),
                    Field::new("value", values.data_type(), true),
                ]);
                let entries = Field::new("entries", DataType::Struct(entry), false);
                DataType::Map(Arc::new(entries), false)
            }
            Self::List(items) => {
                DataType::List(Arc::new(Field::new_list_field(items.data_type(), true)))
            }
        }
    }
}

fn struct_fields(fields: Vec<(String, Kind)>) -> Fields {
    let fields = fields.into_iter();
    fields
        .map(|(name, kind)| Field::new(name, kind.data_type(), true))
        .collect()
}

/// The fields of both. `join` combines a field that both have.
fn merged(
    mut one: Vec<(String, Kind)>,
    other: Vec<(String, Kind)>,
    join: fn(Kind, Kind) -> Kind,
) -> Vec<(String, Kind)> {
    for (name, kind) in other {
        match one.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = join(std::mem::replace(known, Kind::Any), kind),
            None => one.push((name, kind)),
        }
    }
    one
}

/// The kind of a value that an enumeration lists.
fn of_value(value: &Json) -> Kind {
    match value {
        JsonValue::Null => Kind::Null,
        JsonValue::Bool(_) => Kind::Bool,
        JsonValue::Int(_) => Kind::Whole,
        JsonValue::Float(_) => Kind::Float,
        JsonValue::Str(_) => Kind::Text,
        _ => Kind::Any,
    }
}

/// The last value with this name.
fn get<'a>(json: &'a Json, name: &str) -> Option<&'a Json> {
    let JsonValue::Object(fields) = json else {
        return None;
    };
    let mut fields = fields.iter().rev();
    fields.find_map(|(known, value)| (known == name).then_some(value))
}

/// The items of an array; empty where there is no array.
fn list<'a>(json: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> {
    let items = match get(json, name) {
        Some(JsonValue::Array(items)) => items.as_slice(),
        _ => &[],
    };
    items.iter()
}

/// Decodes a URI's fragment, in which `%20` is a space. Invalid escapes stay as they are.
fn unescaped(fragment: &str) -> Cow<'_, str> {
    if !fragment.contains('%') {
        return fragment.into();
    }
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digit = |place: usize| char::from(*behind.get(place)?).to_digit(16);
        let escaped = match (first, digit(0), digit(1)) {
            // Below 256.
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = match escaped {
            Some(_) => &behind[2..],
            None => behind,
        };
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(fragment), Cow::Owned)
}

/// The value at a JSON Pointer.
fn at<'a>(json: &'a Json, pointer: &str) -> Option<&'a Json> {
    let mut steps = pointer.split('/').skip(1);
    steps.try_fold(json, |json, step| {
        let name: Cow<'_, str> = match step.contains('~') {
            true => step.replace("~1", "/").replace("~0", "~").into(),
            false => step.into(),
        };
        match json {
            JsonValue::Array(items) => items.get(name.parse::<usize>().ok()?),
            json => get(json, &name),
        }
    })
}
