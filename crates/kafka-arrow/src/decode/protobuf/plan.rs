//! How a message becomes columns, one for each field. This is fixed when a table is planned.
//!
//! A plan has the same tree structure as the message. [`MessagePlan`] finds fields by number, and a [`Shape`]
//! makes the column that reads a field. The tree also holds the Arrow types.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Fields};

use crate::decode::budget;

use super::columns::{
    Bytes, Column, Double, EnumNames, Enums, Fixed32, Fixed64, Flags, Float, Int32, Int64, List,
    Map, Message, Numbers, Sfixed32, Sfixed64, Sint32, Sint64, Times, Uint32, Uint64, Unit,
    Wrapped,
};

/// The fields of a message, and the columns that they become.
#[derive(Debug)]
pub(super) struct MessagePlan {
    /// In the order of the file. Undeclared fields are skipped.
    pub(super) fields: Vec<FieldPlan>,
    /// The number of oneofs.
    pub(super) oneofs: usize,
    /// The indices of fields that become columns, in the order of the columns.
    pub(super) columns: Vec<usize>,
    /// The columns.
    pub(super) arrow: Fields,
    /// The memory that a message without any field takes.
    pub(super) width: usize,
    /// For field numbers below the table's length, the field's index or [`ABSENT`].
    small: Box<[u32]>,
    /// Larger numbers with their indices, sorted.
    large: Box<[(u32, u32)]>,
}

/// Marks a number without a field.
const ABSENT: u32 = u32::MAX;

/// A field of a message.
#[derive(Debug)]
pub(super) struct FieldPlan {
    pub(super) name: Box<str>,
    pub(super) number: u32,
    /// The oneof that the field belongs to.
    pub(super) oneof: Option<usize>,
    /// `None` where the field does not become a column.
    pub(super) shape: Option<Shape>,
    /// What the field costs when it is absent. A field that is not a column still costs some time.
    pub(super) width: usize,
}

/// How a value becomes a value of a column.
#[derive(Debug)]
pub(super) enum Shape {
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
        charge: usize,
    },
    Map {
        keys: Scalar,
        values: Box<Shape>,
        entries: FieldRef,
        fields: Fields,
        charge: usize,
    },
}

/// A scalar or an enum.
#[derive(Debug)]
pub(super) struct Scalar {
    pub(super) kind: ScalarKind,
    /// Whether an absent value is the default; otherwise it is NULL.
    pub(super) implicit: bool,
    pub(super) data_type: DataType,
}

#[derive(Debug)]
pub(super) enum ScalarKind {
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
    /// Builds the tables of field numbers.
    pub(super) fn new(
        fields: Vec<FieldPlan>,
        oneofs: usize,
        columns: Vec<usize>,
        arrow: Fields,
    ) -> Self {
        /// Numbers below this are looked up in a table.
        const SMALL: u32 = 256;
        let numbers = fields.iter().map(|field| field.number);
        let mut numbers: Vec<(u32, u32)> = numbers.zip(0..).collect();
        numbers.sort_unstable();
        let split = numbers.partition_point(|(number, _)| *number < SMALL);
        let large = numbers.split_off(split);
        let len = numbers.last().map_or(0, |(number, _)| *number as usize + 1);
        let mut small = vec![ABSENT; len];
        for (number, index) in numbers {
            small[number as usize] = index;
        }
        Self {
            width: fields.iter().map(|field| field.width).sum(),
            fields,
            oneofs,
            columns,
            arrow,
            small: small.into(),
            large: large.into(),
        }
    }

    /// The index of the field with this number.
    #[inline]
    pub(super) fn index_of(&self, number: u32) -> Option<usize> {
        if let Some(index) = self.small.get(number as usize) {
            return (*index != ABSENT).then_some(*index as usize);
        }
        let i = self.large.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        Some(self.large[i].1 as usize)
    }
}

impl FieldPlan {
    /// A column for the field with room for `rows` values; `None` where the field is not declared.
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
            // The number of elements is unknown, so these columns start empty and grow.
            Self::List {
                items,
                item,
                charge,
            } => Box::new(List::new(
                items.column(number, 0),
                Arc::clone(item),
                *charge,
                rows,
            )),
            Self::Map {
                keys,
                values,
                entries,
                fields,
                charge,
            } => Box::new(Map::new(
                keys.column(0),
                values.column(number, 0),
                Arc::clone(entries),
                fields.clone(),
                *charge,
                rows,
            )),
        }
    }

    /// The memory that an absent value takes, see [`budget::width`].
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Scalar(scalar) => scalar.width(),
            Self::Message { plan, .. } => 1 + plan.width,
            other => budget::width(&other.data_type()),
        }
    }

    pub(super) fn data_type(&self) -> DataType {
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
    pub(super) fn width(&self) -> usize {
        let name = match &self.kind {
            ScalarKind::Enum(names) if self.implicit => names.default_len(),
            _ => 0,
        };
        name + budget::width(&self.data_type)
    }

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
}
