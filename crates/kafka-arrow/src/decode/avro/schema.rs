//! Avro schemas, read from their JSON.
//!
//! Named types live in one list, and other types refer to them by their place in it. This is how a type may
//! contain itself. Attributes that this crate does not use are ignored.

use std::collections::{HashMap, HashSet};

use jiter::JsonValue;
use serde_json::{Number, Value};

use super::logical::Logical;

/// How deep types may be nested, and values of types that contain themselves.
pub(crate) const MAX_DEPTH: usize = 64;

/// How many types a schema may have when every use of a named type counts.
///
/// Uses multiply: each of thirty types may use the next one twice. Real schemas have a few hundred uses.
pub(crate) const MAX_TYPES: usize = 20_000;

/// A schema, with all types that it names.
#[derive(Debug)]
pub(crate) struct Schema {
    pub root: Type,
    named: Vec<Named>,
    /// For each type in `named`, whether its values take at least one byte.
    takes_bytes: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Type {
    Primitive(Primitive, Option<Logical>),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// A place in the list of named types.
    Named(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: Name,
    /// Other full names for the same type.
    pub(crate) aliases: Vec<Name>,
    pub(crate) definition: Definition,
}

#[derive(Debug)]
pub(crate) enum Definition {
    Record(Vec<RecordField>),
    Enum {
        symbols: Vec<String>,
        default: Option<String>,
    },
    Fixed {
        size: usize,
        logical: Option<Logical>,
    },
}

#[derive(Debug)]
pub(crate) struct RecordField {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) of: Type,
    pub(crate) default: Option<Value>,
}

/// A full name: a namespace, which may be empty, and a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    full: String,
}

impl Name {
    fn new(name: &str, namespace: &str) -> Self {
        let full = match name.contains('.') || namespace.is_empty() {
            // A leading dot denotes the empty namespace.
            true => name.trim_start_matches('.').to_owned(),
            false => format!("{namespace}.{name}"),
        };
        Self { full }
    }

    pub(crate) fn full(&self) -> &str {
        &self.full
    }

    pub(crate) fn short(&self) -> &str {
        self.full.rsplit('.').next().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.full.rsplit_once('.').map_or("", |(space, _)| space)
    }
}

impl Primitive {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        [
            Self::Null,
            Self::Boolean,
            Self::Int,
            Self::Long,
            Self::Float,
            Self::Double,
            Self::Bytes,
            Self::String,
        ]
        .into_iter()
        .find(|primitive| primitive.name() == name)
    }
}

impl Type {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Primitive(Primitive::Null, _))
    }
}

impl Schema {
    /// Reads a schema. `references` are the names and texts of the schemas whose types it uses. Each comes
    /// after those that it uses itself.
    ///
    /// # Errors
    /// When the schema is wrong. The message says how, but does not name the schema.
    pub(crate) fn parse(text: &str, references: &[(String, String)]) -> Result<Self, String> {
        let mut parser = Parser::default();
        for (name, text) in references {
            let parsed = json(text).and_then(|json| parser.parse(&json, "", 0));
            parsed.map_err(|e| format!("its reference '{name}': {e}"))?;
        }
        let root = parser.parse(&json(text)?, "", 0)?;
        let mut schema = Self {
            root,
            takes_bytes: vec![false; parser.named.len()],
            named: parser.named,
        };
        schema.find_empty();
        Ok(schema)
    }

    pub(crate) fn named(&self, place: usize) -> &Named {
        &self.named[place]
    }

    pub(super) fn named_mut(&mut self, place: usize) -> &mut Named {
        &mut self.named[place]
    }

    /// The fields, if the type is a record.
    pub(crate) fn record(&self, of: &Type) -> Option<(&Name, &[RecordField])> {
        let Type::Named(place) = of else {
            return None;
        };
        let named = self.named(*place);
        match &named.definition {
            Definition::Record(fields) => Some((&named.name, fields)),
            _ => None,
        }
    }

    /// Whether every value of the type takes at least one byte. Values of other types, such as null and
    /// records without fields, can be as many as an array claims, however short the payload.
    pub(crate) fn takes_bytes(&self, of: &Type) -> bool {
        match of {
            Type::Primitive(primitive, _) => *primitive != Primitive::Null,
            Type::Array(_) | Type::Map(_) | Type::Union(_) => true,
            Type::Named(place) => self.takes_bytes[*place],
        }
    }

    /// A record takes bytes when one of its fields does. As types may contain themselves, this repeats until
    /// nothing changes.
    fn find_empty(&mut self) {
        loop {
            let mut changed = false;
            for place in 0..self.named.len() {
                let takes = match &self.named[place].definition {
                    Definition::Enum { .. } => true,
                    Definition::Fixed { size, .. } => *size > 0,
                    Definition::Record(fields) => fields.iter().any(|f| self.takes_bytes(&f.of)),
                };
                changed |= takes != self.takes_bytes[place];
                self.takes_bytes[place] = takes;
            }
            if !changed {
                return;
            }
        }
    }

    /// What messages call the type: its name if it has one, otherwise its kind.
    pub(crate) fn title(&self, of: &Type) -> String {
        match of {
            Type::Primitive(primitive, None) => primitive.name().to_owned(),
            Type::Primitive(primitive, Some(logical)) => {
                format!("{} ({})", primitive.name(), logical.title())
            }
            Type::Array(items) => format!("array of {}", self.title(items)),
            Type::Map(values) => format!("map of {}", self.title(values)),
            Type::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(|b| self.title(b)).collect();
                format!("union of {}", branches.join(", "))
            }
            Type::Named(place) => {
                let named = self.named(*place);
                format!("{} '{}'", named.definition.title(), named.name.full())
            }
        }
    }
}

impl Definition {
    pub(crate) const fn title(&self) -> &'static str {
        match self {
            Self::Record(_) => "record",
            Self::Enum { .. } => "enum",
            Self::Fixed { .. } => "fixed",
        }
    }
}

/// Uses jiter, because serde_json may misread a float's last digit.
fn json(text: &str) -> Result<Value, String> {
    JsonValue::parse(text.as_bytes(), false)
        .map(plain)
        .map_err(|e| format!("not JSON: {}", e.description(text.as_bytes())))
}

fn plain(json: JsonValue<'_>) -> Value {
    match json {
        JsonValue::Null => Value::Null,
        JsonValue::Bool(value) => value.into(),
        JsonValue::Int(value) => value.into(),
        JsonValue::BigInt(value) => {
            let number = value.to_string().parse::<Number>();
            number.map_or(Value::Null, Value::Number)
        }
        JsonValue::Float(value) => value.into(),
        JsonValue::Str(text) => text.into(),
        JsonValue::Array(items) => items.iter().cloned().map(plain).collect(),
        JsonValue::Object(entries) => {
            let entries = entries.iter().cloned();
            entries.map(|(key, value)| (key, plain(value))).collect()
        }
    }
}

#[derive(Default)]
struct Parser {
    named: Vec<Named>,
    places: HashMap<String, usize>,
    types: usize,
}

impl Parser {
    fn parse(&mut self, json: &Value, namespace: &str, depth: usize) -> Result<Type, String> {
        self.types += 1;
        if depth > MAX_DEPTH || self.types > MAX_TYPES {
            return Err(format!(
                "has types nested deeper than {MAX_DEPTH} or more than {MAX_TYPES} types"
            ));
        }
        match json {
            Value::String(name) => self.known(name, namespace),
            Value::Array(branches) => {
                let branches: Result<_, _> = branches
                    .iter()
                    .map(|branch| match branch {
                        Value::Array(_) => Err("has a union right inside a union".to_owned()),
                        branch => self.parse(branch, namespace, depth + 1),
                    })
                    .collect();
                Ok(Type::Union(branches?))
            }
            Value::Object(_) => self.object(json, namespace, depth),
            other => Err(format!("has {other} where a type is expected")),
        }
    }

    fn known(&self, name: &str, namespace: &str) -> Result<Type, String> {
        if let Some(primitive) = Primitive::of_name(name) {
            return Ok(Type::Primitive(primitive, None));
        }
        let full = Name::new(name, namespace);
        // A name may also belong to the empty namespace, as in Java's library.
        let place = self
            .places
            .get(full.full())
            .or_else(|| self.places.get(name));
        place
            .map(|place| Type::Named(*place))
            .ok_or_else(|| format!("names the type '{name}', which it does not define"))
    }

    fn object(&mut self, json: &Value, namespace: &str, depth: usize) -> Result<Type, String> {
        let of = json
            .get("type")
            .ok_or_else(|| "has a type without the attribute 'type'".to_owned())?;
        let Value::String(kind) = of else {
            return self.parse(of, namespace, depth + 1);
        };
        match kind.as_str() {
            "array" => {
                let items = attribute(json, "items", kind)?;
                Ok(Type::Array(Box::new(self.parse(
                    items,
                    namespace,
                    depth + 1,
                )?)))
            }
            "map" => {
                let values = attribute(json, "values", kind)?;
                Ok(Type::Map(Box::new(self.parse(
                    values,
                    namespace,
                    depth + 1,
                )?)))
            }
            "record" | "error" | "enum" | "fixed" => self.define(json, kind, namespace, depth),
            other => match self.known(other, namespace)? {
                Type::Primitive(primitive, _) => Ok(Type::Primitive(
                    primitive,
                    Logical::of_primitive(json, primitive),
                )),
                named => Ok(named),
            },
        }
    }

    fn define(
        &mut self,
        json: &Value,
        kind: &str,
        namespace: &str,
        depth: usize,
    ) -> Result<Type, String> {
        let written = text(json, "name", kind)?;
        let space = json.get("namespace").and_then(Value::as_str);
        let name = Name::new(written, space.unwrap_or(namespace));
        let aliases = texts(json.get("aliases"))
            .map(|alias| Name::new(alias, name.namespace()))
            .collect();
        let place = self.named.len();
        if self.places.insert(name.full.clone(), place).is_some() {
            return Err(format!("defines the type '{}' twice", name.full));
        }
        let inner = name.namespace().to_owned();
        self.named.push(Named {
            name,
            aliases,
            definition: Definition::Record(Vec::new()),
        });
        let definition = match kind {
            "enum" => Definition::Enum {
                symbols: texts(Some(attribute(json, "symbols", kind)?))
                    .map(str::to_owned)
                    .collect(),
                default: json
                    .get("default")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            },
            "fixed" => {
                let size = attribute(json, "size", kind)?.as_u64();
                let size = size
                    .and_then(|size| i32::try_from(size).ok())
                    .and_then(|size| usize::try_from(size).ok())
                    .ok_or_else(|| format!("fixed '{written}' has no size below 2^31"))?;
                Definition::Fixed {
                    size,
                    logical: Logical::of_fixed(json, size),
                }
            }
            _ => Definition::Record(self.fields(json, written, &inner, depth)?),
        };
        self.named[place].definition = definition;
        Ok(Type::Named(place))
    }

    fn fields(
        &mut self,
        json: &Value,
        record: &str,
        namespace: &str,
        depth: usize,
    ) -> Result<Vec<RecordField>, String> {
        let Value::Array(described) = attribute(json, "fields", "record")? else {
            return Err(format!("record '{record}': 'fields' is not an array"));
        };
        let mut fields: Vec<RecordField> = Vec::with_capacity(described.len());
        let mut names = HashSet::with_capacity(described.len());
        for field in described {
            let name = text(field, "name", "field")?;
            let of = attribute(field, "type", "field")
                .and_then(|of| self.parse(of, namespace, depth + 1))
                .map_err(|e| format!("field '{name}' of '{record}': {e}"))?;
            if !names.insert(name) {
                return Err(format!("record '{record}' has two fields '{name}'"));
            }
            fields.push(RecordField {
                name: name.to_owned(),
                aliases: texts(field.get("aliases")).map(str::to_owned).collect(),
                of,
                default: field.get("default").cloned(),
            });
        }
        Ok(fields)
    }
}

fn attribute<'a>(json: &'a Value, name: &str, of: &str) -> Result<&'a Value, String> {
    json.get(name)
        .ok_or_else(|| format!("has '{of}' without the attribute '{name}'"))
}

fn text<'a>(json: &'a Value, name: &str, of: &str) -> Result<&'a str, String> {
    match attribute(json, name, of)? {
        Value::String(text) if !text.is_empty() => Ok(text),
        _ => Err(format!("has '{of}' whose attribute '{name}' is not text")),
    }
}

fn texts(json: Option<&Value>) -> impl Iterator<Item = &str> {
    let all = json.and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str)
}
