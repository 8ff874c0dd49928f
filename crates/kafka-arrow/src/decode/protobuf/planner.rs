//! Makes the plan of a message from its descriptor.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::columns::{EnumNames, Unit, broken};
use super::declared::{self, Place};
use super::plan::{FieldPlan, MessagePlan, Scalar, ScalarKind, Shape};
use super::wire::MAX_DEPTH;
use crate::decode::budget::charge;
use crate::error::{Error, Result};

/// The most columns, including nested ones. Types that contain each other twice grow exponentially.
const MAX_COLUMNS: usize = 10_000;

/// The plan of a message, with all its fields or only the declared columns.
///
/// # Errors
/// When a declared column does not fit, a message contains itself, or there are too many columns.
pub(super) fn plan(
    message: &MessageDescriptor,
    declared: Option<&Fields>,
) -> Result<Arc<MessagePlan>> {
    let mut planner = Planner {
        open: Vec::new(),
        path: Vec::new(),
        columns: 0,
    };
    planner.message(message, declared)
}

/// A scalar or an enum, with the declared type or its own.
fn scalar(kind: &Kind, implicit: bool, place: &Place<'_>) -> Result<Scalar> {
    let (kind, own) = match kind {
        Kind::Int32 => (ScalarKind::Int32, DataType::Int32),
        Kind::Sint32 => (ScalarKind::Sint32, DataType::Int32),
        Kind::Sfixed32 => (ScalarKind::Sfixed32, DataType::Int32),
        Kind::Int64 => (ScalarKind::Int64, DataType::Int64),
        Kind::Sint64 => (ScalarKind::Sint64, DataType::Int64),
        Kind::Sfixed64 => (ScalarKind::Sfixed64, DataType::Int64),
        Kind::Uint32 => (ScalarKind::Uint32, DataType::UInt32),
        Kind::Fixed32 => (ScalarKind::Fixed32, DataType::UInt32),
        Kind::Uint64 => (ScalarKind::Uint64, DataType::UInt64),
        Kind::Fixed64 => (ScalarKind::Fixed64, DataType::UInt64),
        Kind::Float => (ScalarKind::Float, DataType::Float32),
        Kind::Double => (ScalarKind::Double, DataType::Float64),
        Kind::Bool => (ScalarKind::Bool, DataType::Boolean),
        Kind::String => (ScalarKind::Text, DataType::Utf8),
        Kind::Bytes => (ScalarKind::Bytes, DataType::Binary),
        Kind::Enum(descriptor) => (ScalarKind::Enum(names(descriptor)), DataType::Utf8),
        Kind::Message(_) => return Err(broken("a message is no scalar")),
    };
    Ok(Scalar {
        kind,
        implicit,
        data_type: place.fit(own)?,
    })
}

/// The fields in the order of the file; prost-reflect orders them by number.
fn in_order(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    // A path leads through the file by indices; the last is the field's index in its message.
    fields.sort_by_key(|field| field.path().last().copied());
    fields
}

fn names(descriptor: &EnumDescriptor) -> Arc<EnumNames> {
    // The descriptor's own list keeps the order of the file, in which the first of several aliases counts.
    let values = &descriptor.enum_descriptor_proto().value;
    let names = values
        .iter()
        .map(|value| (value.number(), value.name().into()));
    let default = descriptor.default_value().number();
    Arc::new(EnumNames::new(names, default))
}

/// Makes plans, and tracks the current position in the message.
struct Planner {
    /// The messages being planned, outermost first.
    open: Vec<MessageDescriptor>,
    /// The names of the fields that lead to the current position.
    path: Vec<String>,
    columns: usize,
}

impl Planner {
    fn message(
        &mut self,
        message: &MessageDescriptor,
        declared: Option<&Fields>,
    ) -> Result<Arc<MessagePlan>> {
        self.refuse_cycle(message)?;
        self.open.push(message.clone());
        let descriptors = in_order(message);
        let column = self.path.join(".");
        let chosen = declared::choose(message, &descriptors, declared, &column)?;

        let mut shapes: Vec<Option<Shape>> = descriptors.iter().map(|_| None).collect();
        let mut columns = Vec::with_capacity(chosen.len());
        let mut arrow = Vec::with_capacity(chosen.len());
        for (index, declared) in chosen {
            let descriptor = &descriptors[index];
            self.path.push(descriptor.name().to_owned());
            let shape = self.field(descriptor, declared.map(|f| f.data_type()))?;
            self.path.pop();
            let name = declared.map_or(descriptor.name(), |f| f.name());
            arrow.push(Field::new(name, shape.data_type(), true));
            columns.push(index);
            shapes[index] = Some(shape);
        }
        self.open.pop();

        // Each synthetic oneof just holds one optional field.
        let oneofs: Vec<_> = message.oneofs().filter(|o| !o.is_synthetic()).collect();
        let fields = descriptors
            .iter()
            .zip(shapes)
            .map(|(descriptor, shape)| FieldPlan {
                name: descriptor.name().into(),
                number: descriptor.number(),
                oneof: descriptor
                    .containing_oneof()
                    .and_then(|oneof| oneofs.iter().position(|o| *o == oneof)),
                width: shape.as_ref().map_or(1, Shape::width),
                shape,
            })
            .collect();
        let plan = MessagePlan::new(fields, oneofs.len(), columns, arrow.into());
        Ok(Arc::new(plan))
    }

    fn field(&mut self, field: &FieldDescriptor, declared: Option<&DataType>) -> Result<Shape> {
        self.columns += 1;
        if self.columns > MAX_COLUMNS {
            return Err(too_many_columns());
        }
        if field.is_map() {
            return self.map(field, declared);
        }
        if !field.is_list() {
            let implicit = !field.supports_presence();
            return self.value(field, implicit, declared);
        }
        let item = match declared {
            None => None,
            Some(DataType::List(item)) => Some(item),
            Some(_) => {
                let shape = self.value(field, false, None)?;
                return Err(self.place(field, declared).misfit(&list_of(&shape)));
            }
        };
        let items = self.value(field, false, item.map(|i| i.data_type()))?;
        let name = item.map_or(Field::LIST_FIELD_DEFAULT_NAME, |i| i.name());
        Ok(Shape::List {
            item: Arc::new(Field::new(name, items.data_type(), true)),
            charge: charge(items.width()),
            items: Box::new(items),
        })
    }

    fn map(&mut self, field: &FieldDescriptor, declared: Option<&DataType>) -> Result<Shape> {
        let kind = field.kind();
        let Some(entry) = kind.as_message() else {
            return Err(broken("a map has no entries"));
        };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let entries = match declared {
            Some(DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => Some((entries, fields)),
                _ => None,
            },
            _ => None,
        };
        if declared.is_some() && entries.is_none() {
            let own = self.map(field, None)?.data_type();
            return Err(self.place(field, declared).misfit(&own));
        }
        let inner = |i: usize| entries.map(|(_, fields)| fields[i].data_type());
        let name = |i: usize, own: &'static str| {
            entries.map_or(own, |(_, fields)| fields[i].name().as_str())
        };

        // An entry without key or value has their defaults, in any syntax.
        let keys = scalar(&key.kind(), true, &self.place(field, inner(0)))?;
        let values = self.value(&value, true, inner(1))?;
        let fields = Fields::from(vec![
            Field::new(name(0, "key"), keys.data_type.clone(), false),
            Field::new(name(1, "value"), values.data_type(), true),
        ]);
        let name = entries.map_or("entries", |(entries, _)| entries.name());
        Ok(Shape::Map {
            entries: Arc::new(Field::new(name, DataType::Struct(fields.clone()), false)),
            charge: charge(keys.width() + values.width()),
            keys,
            values: Box::new(values),
            fields,
        })
    }

    /// A single value of a field: the whole, a list's element or a map entry's value.
    fn value(
        &mut self,
        field: &FieldDescriptor,
        implicit: bool,
        declared: Option<&DataType>,
    ) -> Result<Shape> {
        let kind = field.kind();
        let Kind::Message(message) = &kind else {
            let scalar = scalar(&kind, implicit, &self.place(field, declared))?;
            return Ok(Shape::Scalar(scalar));
        };
        match message.full_name() {
            "google.protobuf.Timestamp" => {
                let own = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
                let data_type = self.place(field, declared).fit(own)?;
                let unit = match data_type {
                    DataType::Timestamp(TimeUnit::Nanosecond, _) => Unit::TimestampNanos,
                    _ => Unit::TimestampMicros,
                };
                return Ok(Shape::Time(unit, data_type));
            }
            "google.protobuf.Duration" => {
                let own = DataType::Duration(TimeUnit::Microsecond);
                let data_type = self.place(field, declared).fit(own)?;
                return Ok(Shape::Time(Unit::DurationMicros, data_type));
            }
            "google.protobuf.DoubleValue"
            | "google.protobuf.FloatValue"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.Int32Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.BoolValue"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue" => {
                if let Some(value) = message.get_field(1) {
                    let place = self.place(field, declared);
                    return Ok(Shape::Wrapped(scalar(&value.kind(), false, &place)?));
                }
            }
            _ => {}
        }
        let members = match declared {
            None => None,
            Some(DataType::Struct(members)) => Some(members),
            Some(_) => {
                let plan = self.message(message, None)?;
                let own = DataType::Struct(plan.arrow.clone());
                return Err(self.place(field, declared).misfit(&own));
            }
        };
        Ok(Shape::Message {
            plan: self.message(message, members)?,
            group: field.is_group(),
        })
    }

    fn place<'a>(&self, field: &'a FieldDescriptor, declared: Option<&'a DataType>) -> Place<'a> {
        Place {
            column: self.path.join("."),
            field,
            declared,
        }
    }

    /// Arrow has no recursive types.
    fn refuse_cycle(&self, message: &MessageDescriptor) -> Result<()> {
        if let Some(first) = self.open.iter().position(|open| open == message) {
            let mut cycle: Vec<&str> = self.open[first..].iter().map(|m| m.full_name()).collect();
            cycle.push(message.full_name());
            return Err(Error::invalid(format!(
                "message '{}' contains itself at field '{}' ({}): no column type can do that; declare \
                 the columns that you want, without this field",
                message.full_name(),
                self.path.join("."),
                cycle.join(" > ")
            )));
        }
        if self.open.len() > MAX_DEPTH {
            return Err(Error::invalid(format!(
                "messages are nested more than {MAX_DEPTH} deep at field '{}'; declare the columns that \
                 you want, without this field",
                self.path.join(".")
            )));
        }
        Ok(())
    }
}

fn list_of(items: &Shape) -> DataType {
    DataType::new_list(items.data_type(), true)
}

fn too_many_columns() -> Error {
    Error::invalid(format!(
        "the message has more than {MAX_COLUMNS} fields, those of messages inside it included; \
         declare the columns that you want"
    ))
}
