//! Decides, once for each schema, which cells every field of a message is written from.

use std::collections::HashMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::wire::Wire;
use crate::encode::cells::{Cells, Member};
use crate::error::nearest_names;

/// The fields of a message that columns fill, in the order of their numbers.
#[derive(Debug)]
pub(super) struct MessagePlan {
    pub(super) fields: Vec<FieldPlan>,
    /// For each oneof, its fields as places in `fields`.
    pub(super) oneofs: Vec<Vec<usize>>,
}

#[derive(Debug)]
pub(super) struct FieldPlan {
    pub(super) name: String,
    pub(super) number: u32,
    /// The column or member that fills the field.
    pub(super) member: usize,
    pub(super) shape: Shape,
}

#[derive(Debug)]
pub(super) enum Shape {
    One { value: Value, absent: Absent },
    List { items: Value, packed: bool },
    Map { keys: Value, values: Value },
}

/// What the absence of the field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    Null,
    /// Readers see the type's default, so NULL must not be written this way.
    Default,
    /// The message is invalid without the field.
    Broken,
}

/// How a value is written.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    /// The numbers of an enum, by name.
    Enum(HashMap<String, i32>),
    /// A wrapper such as `google.protobuf.Int32Value`.
    Wrapped(Scalar),
    Timestamp,
    Duration,
    Message {
        plan: MessagePlan,
        group: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Int32,
    Sint32,
    Uint32,
    Int64,
    Sint64,
    Uint64,
    Fixed32,
    Sfixed32,
    Fixed64,
    Sfixed64,
    Float,
    Double,
    Bool,
    Text,
    Bytes,
}

impl Scalar {
    fn of(kind: &Kind) -> Option<Self> {
        Some(match kind {
            Kind::Int32 => Self::Int32,
            Kind::Sint32 => Self::Sint32,
            Kind::Uint32 => Self::Uint32,
            Kind::Int64 => Self::Int64,
            Kind::Sint64 => Self::Sint64,
            Kind::Uint64 => Self::Uint64,
            Kind::Fixed32 => Self::Fixed32,
            Kind::Sfixed32 => Self::Sfixed32,
            Kind::Fixed64 => Self::Fixed64,
            Kind::Sfixed64 => Self::Sfixed64,
            Kind::Float => Self::Float,
            Kind::Double => Self::Double,
            Kind::Bool => Self::Bool,
            Kind::String => Self::Text,
            Kind::Bytes => Self::Bytes,
            Kind::Enum(_) | Kind::Message(_) => return None,
        })
    }

    /// Whether it can be written from these cells.
    fn takes(self, cells: &Cells) -> bool {
        use Cells as C;
        match self {
            Self::Float => matches!(cells, C::Float(_) | C::Whole(_)),
            Self::Double => matches!(cells, C::Double(_) | C::Float(_) | C::Whole(_)),
            Self::Bool => matches!(cells, C::Bool(_)),
            Self::Text | Self::Bytes => matches!(cells, C::Text(_) | C::Bytes(_)),
            _ => matches!(cells, C::Whole(_) | C::Unsigned(_)),
        }
    }

    pub(super) const fn wire(self) -> Wire {
        match self {
            Self::Fixed32 | Self::Sfixed32 | Self::Float => Wire::Fixed32,
            Self::Fixed64 | Self::Sfixed64 | Self::Double => Wire::Fixed64,
            Self::Text | Self::Bytes => Wire::Delimited,
            _ => Wire::Varint,
        }
    }
}

impl MessagePlan {
    /// # Errors
    /// When a column matches no field, or has another type. The message names the column.
    pub(super) fn new(message: &MessageDescriptor, members: &[Member]) -> Result<Self, String> {
        let descriptors: Vec<FieldDescriptor> = message.fields().collect();
        let mut fields = Vec::with_capacity(members.len());
        let mut filled: HashMap<u32, &str> = HashMap::new();
        for (place, member) in members.iter().enumerate() {
            let name = &member.name;
            let field = field_of(message, &descriptors, name)?;
            if let Some(other) = filled.insert(field.number(), name) {
                return Err(format!(
                    "the columns '{other}' and '{name}' both match its field '{}'",
                    field.name()
                ));
            }
            fields.push(FieldPlan {
                name: name.clone(),
                number: field.number(),
                member: place,
                shape: shape(&field, &member.cells).map_err(|e| within(name, e))?,
            });
        }
        if let Some(lacking) = descriptors
            .iter()
            .find(|f| f.is_required() && !filled.contains_key(&f.number()))
        {
            return Err(format!(
                "its field '{}' is required, and no column has this name",
                lacking.name()
            ));
        }
        fields.sort_by_key(|field| field.number);
        // Each synthetic oneof just holds one optional field.
        let oneofs = message.oneofs().filter(|oneof| !oneof.is_synthetic());
        let oneofs = oneofs.map(|oneof| {
            let numbers: Vec<u32> = oneof.fields().map(|f| f.number()).collect();
            let of = |(place, field): (usize, &FieldPlan)| {
                numbers.contains(&field.number).then_some(place)
            };
            fields.iter().enumerate().filter_map(of).collect()
        });
        Ok(Self {
            oneofs: oneofs.collect(),
            fields,
        })
    }
}

fn field_of(
    message: &MessageDescriptor,
    fields: &[FieldDescriptor],
    name: &str,
) -> Result<FieldDescriptor, String> {
    if let Some(field) = message.get_field_by_name(name) {
        return Ok(field);
    }
    let mut alike = fields
        .iter()
        .filter(|f| f.name().eq_ignore_ascii_case(name));
    if let (Some(field), None) = (alike.next(), alike.next()) {
        return Ok(field.clone());
    }
    let hint = match nearest_names(name, fields.iter().map(|f| f.name())).first() {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => {
            let names: Vec<_> = fields.iter().map(|f| f.name()).collect();
            format!("its fields are {}", names.join(", "))
        }
    };
    Err(format!("has no field for the column '{name}'; {hint}"))
}

fn within(name: &str, error: String) -> String {
    match error.strip_prefix("column '") {
        Some(rest) => format!("column '{name}.{rest}"),
        None => format!("column '{name}': {error}"),
    }
}

fn shape(field: &FieldDescriptor, cells: &Cells) -> Result<Shape, String> {
    if field.is_map() {
        let kind = field.kind();
        let (Some(entry), Cells::Map(_, entries)) = (kind.as_message(), cells) else {
            return Err(misfit("a map", cells));
        };
        return Ok(Shape::Map {
            keys: value(&entry.map_entry_key_field(), &entries.0)?,
            values: value(&entry.map_entry_value_field(), &entries.1)?,
        });
    }
    if field.is_list() {
        let Cells::List(_, items) = cells else {
            return Err(misfit("repeated", cells));
        };
        return Ok(Shape::List {
            items: value(field, items)?,
            packed: is_packed(field),
        });
    }
    Ok(Shape::One {
        value: value(field, cells)?,
        absent: match field.supports_presence() {
            _ if field.is_required() => Absent::Broken,
            true => Absent::Null,
            false => Absent::Default,
        },
    })
}

fn is_packed(field: &FieldDescriptor) -> bool {
    // prost-reflect's own answer ignores options that come from `.proto` text.
    let options = field.options();
    let option = options.get_field_by_name("packed");
    let option = option.filter(|_| options.has_field_by_name("packed"));
    option
        .and_then(|value| value.as_bool())
        .unwrap_or_else(|| field.is_packed())
}

fn value(field: &FieldDescriptor, cells: &Cells) -> Result<Value, String> {
    let kind = field.kind();
    if let Some(scalar) = Scalar::of(&kind) {
        return match scalar.takes(cells) || matches!(cells, Cells::Null) {
            true => Ok(Value::Scalar(scalar)),
            false => Err(misfit(&format!("{kind:?}").to_lowercase(), cells)),
        };
    }
    match &kind {
        Kind::Enum(descriptor) => match cells {
            Cells::Text(_) | Cells::Whole(_) | Cells::Null => {
                let values = descriptor.values();
                let names = values.map(|value| (value.name().to_owned(), value.number()));
                Ok(Value::Enum(names.collect()))
            }
            _ => Err(misfit(
                &format!("the enum {}", descriptor.full_name()),
                cells,
            )),
        },
        Kind::Message(message) => nested(field, message, cells),
        _ => Err(misfit("its type", cells)),
    }
}

fn nested(
    field: &FieldDescriptor,
    message: &MessageDescriptor,
    cells: &Cells,
) -> Result<Value, String> {
    let full = message.full_name();
    match (full, cells) {
        ("google.protobuf.Timestamp", Cells::Timestamp(..)) => return Ok(Value::Timestamp),
        ("google.protobuf.Duration", Cells::Duration(..)) => return Ok(Value::Duration),
        _ => {}
    }
    match cells {
        Cells::Struct(_, members) => Ok(Value::Message {
            plan: MessagePlan::new(message, members)?,
            group: field.is_group(),
        }),
        // Never written: an empty message can stand for any.
        Cells::Null => Ok(Value::Message {
            plan: MessagePlan {
                fields: Vec::new(),
                oneofs: Vec::new(),
            },
            group: field.is_group(),
        }),
        cells => {
            let wrapper = full.starts_with("google.protobuf.") && full.ends_with("Value");
            let wrapped = message.get_field(1).filter(|_| wrapper);
            match wrapped.and_then(|field| Scalar::of(&field.kind())) {
                Some(scalar) if scalar.takes(cells) => Ok(Value::Wrapped(scalar)),
                _ => Err(misfit(full, cells)),
            }
        }
    }
}

fn misfit(expected: &str, cells: &Cells) -> String {
    format!(
        "the field is {expected}, which cannot be written from {}",
        cells.title()
    )
}
