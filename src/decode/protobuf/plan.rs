//! What becomes of a message: a column for each of its fields, fixed when a table is planned.
//!
//! A plan is a tree as the message is one: [`MessagePlan`] has the fields by their numbers, and a
//! [`Shape`] makes the column that reads a field. The same tree has the Arrow types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::columns::{
    Bytes, Column, Double, EnumNames, Enums, Fixed32, Fixed64, Flags, Float, Int32, Int64, List,
    Map, Message, Numbers, Sfixed32, Sfixed64, Sint32, Sint64, Times, Uint32, Uint64, Unit,
    Wrapped, broken,
};
use super::declared::{self, Place};
use super::wire::MAX_DEPTH;
use crate::error::{Error, Result};

/// More columns than this, those inside columns included, are refused: types that hold each other
/// twice grow exponentially.
const MAX_COLUMNS: usize = 10_000;

/// The fields of a message and the columns they become.
#[derive(Debug)]
pub(super) struct MessagePlan {
    /// In the order of the file; those that are not declared are skipped.
    pub(super) fields: Vec<FieldPlan>,
    /// How many oneofs there are.
    pub(super) oneofs: usize,
    /// The fields that become columns, in the order of the columns.
    pub(super) columns: Vec<usize>,
    /// The columns.
    pub(super) arrow: Fields,
    /// Field numbers below the length of this table: the index of the field, or [`ABSENT`].
    small: Box<[u16]>,
    /// The other numbers, sorted.
    large: Box<[(u32, u16)]>,
}

/// Where a table of indices has none.
const ABSENT: u16 = u16::MAX;

/// A field of a message.
#[derive(Debug)]
pub(super) struct FieldPlan {
    pub(super) name: Box<str>,
    number: u32,
    /// The oneof that it belongs to.
    pub(super) oneof: Option<usize>,
    /// `None` where the field is no column.
    shape: Option<Shape>,
}

/// How a value becomes a value of a column.
#[derive(Debug)]
enum Shape {
    Scalar(Scalar),
    /// A wrapper type such as `google.protobuf.Int32Value`.
    Wrapped(Scalar),
    Time(Unit, DataType),
    Message {
        plan: Arc<MessagePlan>,
        group: bool,
    },
    List {
        items: Box<Shape>,
        item: FieldRef,
    },
    Map {
        keys: Scalar,
        values: Box<Shape>,
        entries: FieldRef,
        fields: Fields,
    },
}

/// A scalar or an enum.
#[derive(Debug)]
struct Scalar {
    kind: ScalarKind,
    /// Whether an absent value is the default and not NULL.
    implicit: bool,
    data_type: DataType,
}

#[derive(Debug)]
enum ScalarKind {
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
    Enum(Arc<EnumNames>),
}

impl MessagePlan {
    /// The plan of a message: of all its fields, or of the declared columns.
    ///
    /// # Errors
    /// When a declared column does not fit, when a message holds itself, or when there are too many
    /// columns.
    pub(super) fn new(message: &MessageDescriptor, declared: Option<&Fields>) -> Result<Arc<Self>> {
        let mut planner = Planner {
            open: Vec::new(),
            path: Vec::new(),
            columns: 0,
        };
        planner.message(message, declared)
    }

    /// The index of the field with this number.
    #[inline]
    pub(super) fn index_of(&self, number: u32) -> Option<usize> {
        if let Some(index) = self.small.get(number as usize) {
            return (*index != ABSENT).then_some(usize::from(*index));
        }
        let i = self.large.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        Some(self.large[i].1.into())
    }

    fn build(
        fields: Vec<FieldPlan>,
        oneofs: usize,
        columns: Vec<usize>,
        arrow: Fields,
    ) -> Result<Arc<Self>> {
        /// Numbers below this are found in a table.
        const SMALL: u32 = 256;
        let mut numbers = Vec::with_capacity(fields.len());
        for (index, field) in fields.iter().enumerate() {
            let index = u16::try_from(index)
                .ok()
                .filter(|index| *index != ABSENT)
                .ok_or_else(too_many_columns)?;
            numbers.push((field.number, index));
        }
        numbers.sort_unstable();
        let split = numbers.partition_point(|(number, _)| *number < SMALL);
        let large = numbers.split_off(split);
        let len = numbers.last().map_or(0, |(number, _)| *number as usize + 1);
        let mut small = vec![ABSENT; len];
        for (number, index) in numbers {
            small[number as usize] = index;
        }
        Ok(Arc::new(Self {
            fields,
            oneofs,
            columns,
            arrow,
            small: small.into(),
            large: large.into(),
        }))
    }
}

impl FieldPlan {
    /// A column for values of the field, with room for `rows`; `None` where it is not declared.
    pub(super) fn column(&self, rows: usize) -> Option<Box<dyn Column>> {
        Some(self.shape.as_ref()?.column(self.number, rows))
    }
}

impl Shape {
    fn column(&self, number: u32, rows: usize) -> Box<dyn Column> {
        match self {
            Self::Scalar(scalar) => scalar.column(rows),
            Self::Wrapped(scalar) => Box::new(Wrapped {
                values: scalar.column(rows),
            }),
            Self::Time(unit, data_type) => Box::new(Times::new(*unit, data_type.clone(), rows)),
            Self::Message { plan, group } => {
                let group = group.then_some(number);
                Box::new(Message::new(plan, group, |field| {
                    plan.fields[field].column(rows)
                }))
            }
            // Nobody knows how many elements come: these columns grow as they do.
            Self::List { items, item } => {
                Box::new(List::new(items.column(number, 0), Arc::clone(item), rows))
            }
            Self::Map {
                keys,
                values,
                entries,
                fields,
            } => Box::new(Map::new(
                keys.column(0),
                values.column(number, 0),
                Arc::clone(entries),
                fields.clone(),
                rows,
            )),
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Scalar(scalar) | Self::Wrapped(scalar) => scalar.data_type.clone(),
            Self::Time(_, data_type) => data_type.clone(),
            Self::Message { plan, .. } => DataType::Struct(plan.arrow.clone()),
            Self::List { item, .. } => DataType::List(Arc::clone(item)),
            Self::Map { entries, .. } => DataType::Map(Arc::clone(entries), false),
        }
    }
}

impl Scalar {
    fn column(&self, rows: usize) -> Box<dyn Column> {
        let Self {
            kind,
            implicit,
            data_type,
        } = self;
        let (implicit, data_type) = (*implicit, data_type.clone());
        match kind {
            ScalarKind::Int32 => Box::new(Numbers::<Int32>::new(implicit, data_type, rows)),
            ScalarKind::Sint32 => Box::new(Numbers::<Sint32>::new(implicit, data_type, rows)),
            ScalarKind::Uint32 => Box::new(Numbers::<Uint32>::new(implicit, data_type, rows)),
            ScalarKind::Int64 => Box::new(Numbers::<Int64>::new(implicit, data_type, rows)),
            ScalarKind::Sint64 => Box::new(Numbers::<Sint64>::new(implicit, data_type, rows)),
            ScalarKind::Uint64 => Box::new(Numbers::<Uint64>::new(implicit, data_type, rows)),
            ScalarKind::Fixed32 => Box::new(Numbers::<Fixed32>::new(implicit, data_type, rows)),
            ScalarKind::Sfixed32 => Box::new(Numbers::<Sfixed32>::new(implicit, data_type, rows)),
            ScalarKind::Fixed64 => Box::new(Numbers::<Fixed64>::new(implicit, data_type, rows)),
            ScalarKind::Sfixed64 => Box::new(Numbers::<Sfixed64>::new(implicit, data_type, rows)),
            ScalarKind::Float => Box::new(Numbers::<Float>::new(implicit, data_type, rows)),
            ScalarKind::Double => Box::new(Numbers::<Double>::new(implicit, data_type, rows)),
            ScalarKind::Bool => Box::new(Flags::new(implicit, rows)),
            ScalarKind::Text => Box::new(Bytes::new(true, implicit, data_type, rows)),
            ScalarKind::Bytes => Box::new(Bytes::new(false, implicit, data_type, rows)),
            ScalarKind::Enum(names) => {
                Box::new(Enums::new(Arc::clone(names), implicit, data_type, rows))
            }
        }
    }

    /// A scalar or an enum as the type that is declared, or as its own.
    fn new(kind: &Kind, implicit: bool, place: &Place<'_>) -> Result<Self> {
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
        Ok(Self {
            kind,
            implicit,
            data_type: place.fit(own)?,
        })
    }
}

/// The fields in the order of the file; prost-reflect has them by number.
fn in_order(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    // A path leads through the file by indices; its last one is the field's in its message.
    fields.sort_by_key(|field| field.path().last().copied());
    fields
}

fn names(descriptor: &EnumDescriptor) -> Arc<EnumNames> {
    // The descriptor's own list is in the order of the file, which decides between aliases.
    let values = &descriptor.enum_descriptor_proto().value;
    let names = values
        .iter()
        .map(|value| (value.number(), value.name().into()));
    let default = descriptor.default_value().number();
    Arc::new(EnumNames::new(names, default))
}

/// Makes plans, and knows where it is in the message.
struct Planner {
    /// The messages that are being planned, the outermost first.
    open: Vec<MessageDescriptor>,
    /// The fields that lead here.
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

        let oneofs: Vec<_> = message.oneofs().collect();
        let fields = descriptors
            .iter()
            .zip(shapes)
            .map(|(descriptor, shape)| FieldPlan {
                name: descriptor.name().into(),
                number: descriptor.number(),
                oneof: descriptor
                    .containing_oneof()
                    .and_then(|oneof| oneofs.iter().position(|o| *o == oneof)),
                shape,
            })
            .collect();
        MessagePlan::build(fields, oneofs.len(), columns, arrow.into())
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

        // An entry without key or value has their defaults, whatever the syntax.
        let keys = Scalar::new(&key.kind(), true, &self.place(field, inner(0)))?;
        let values = self.value(&value, true, inner(1))?;
        let fields = Fields::from(vec![
            Field::new(name(0, "key"), keys.data_type.clone(), false),
            Field::new(name(1, "value"), values.data_type(), true),
        ]);
        let name = entries.map_or("entries", |(entries, _)| entries.name());
        Ok(Shape::Map {
            entries: Arc::new(Field::new(name, DataType::Struct(fields.clone()), false)),
            keys,
            values: Box::new(values),
            fields,
        })
    }

    /// One value of a field: all of it, an element or the value of an entry.
    fn value(
        &mut self,
        field: &FieldDescriptor,
        implicit: bool,
        declared: Option<&DataType>,
    ) -> Result<Shape> {
        let kind = field.kind();
        let Kind::Message(message) = &kind else {
            let scalar = Scalar::new(&kind, implicit, &self.place(field, declared))?;
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
                    return Ok(Shape::Wrapped(Scalar::new(&value.kind(), false, &place)?));
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

    /// Arrow has no types that hold themselves.
    fn refuse_cycle(&self, message: &MessageDescriptor) -> Result<()> {
        if let Some(first) = self.open.iter().position(|open| open == message) {
            let mut cycle: Vec<&str> = self.open[first..].iter().map(|m| m.full_name()).collect();
            cycle.push(message.full_name());
            return Err(Error::invalid(format!(
                "message '{}' holds itself at field '{}' ({}): no column type can do that; declare \
                 the columns that you want, without this field",
                message.full_name(),
                self.path.join("."),
                cycle.join(" > ")
            )));
        }
        if self.open.len() > MAX_DEPTH {
            return Err(Error::invalid(format!(
                "messages lie more than {MAX_DEPTH} deep at field '{}'; declare the columns that \
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
