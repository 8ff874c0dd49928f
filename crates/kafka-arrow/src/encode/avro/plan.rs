//! Decides, once for each schema, which cells every type is written from.

use std::collections::HashMap;

use arrow::datatypes::TimeUnit;

use super::default::default_of;
use super::write::long;
use crate::decode::avro::logical::Logical;
use crate::decode::avro::schema::{Definition, Primitive, RecordField, Schema, Type};
use crate::decode::avro::types::{members, only_branch};
use crate::encode::cells::{Cells, Member};
use crate::error::nearest_names;

/// How values of a type are written.
#[derive(Debug)]
pub(super) enum Write {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Uuid {
        binary: bool,
    },
    Date,
    /// A time or timestamp in this unit.
    Moment(TimeUnit),
    Decimal {
        precision: u8,
        scale: i8,
        /// The length that values must have, if it is fixed.
        size: Option<usize>,
    },
    Duration,
    Enum(HashMap<String, usize>),
    Fixed(usize),
    Array(Box<Write>),
    Map(Box<Write>),
    /// The fields, in the order of the schema.
    Record(Vec<Part>),
    /// A union with at most one branch besides null. Holds the places of both.
    Nullable {
        null: Option<usize>,
        branch: usize,
        of: Box<Write>,
    },
    /// A union as a struct with a member for each branch.
    Members {
        null: Option<usize>,
        branches: Vec<Branch>,
    },
}

/// A field of a record, and what fills it.
#[derive(Debug)]
pub(super) enum Part {
    /// The member at this place.
    Member(usize, String, Write),
    /// The encoded value of a field that no column fills.
    Constant(Vec<u8>),
}

/// A branch of a union, and the member that fills it.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) member: usize,
    pub(super) name: String,
    pub(super) place: usize,
    pub(super) write: Write,
}

/// Makes plans of one schema.
pub(super) struct Planner<'a> {
    schema: &'a Schema,
}

impl<'a> Planner<'a> {
    pub(super) const fn new(schema: &'a Schema) -> Self {
        Self { schema }
    }

    /// # Errors
    /// When values of these cells do not belong to the type. The message names the field.
    pub(super) fn plan(&self, of: &Type, cells: &Cells) -> Result<Write, String> {
        let misfit = || {
            Err(format!(
                "{} cannot be written from {}",
                self.schema.title(of),
                cells.title()
            ))
        };
        let write = match of {
            Type::Primitive(primitive, logical) => {
                match primitive_of(*primitive, *logical, cells) {
                    Some(write) => write,
                    None => return misfit(),
                }
            }
            Type::Array(items) => match cells {
                Cells::List(_, cells) => Write::Array(Box::new(self.plan(items, cells)?)),
                _ => return misfit(),
            },
            Type::Map(values) => match cells {
                Cells::Map(_, entries) if matches!(entries.0, Cells::Text(_)) => {
                    Write::Map(Box::new(self.plan(values, &entries.1)?))
                }
                _ => return misfit(),
            },
            Type::Union(branches) => self.union(of, branches, cells)?,
            Type::Named(place) => match &self.schema.named(*place).definition {
                Definition::Record(fields) => match cells {
                    Cells::Struct(_, members) => Write::Record(self.record(fields, members)?),
                    _ => return misfit(),
                },
                Definition::Enum { symbols, .. } => match cells {
                    Cells::Text(_) => {
                        let symbols = symbols.iter().cloned().zip(0..);
                        Write::Enum(symbols.collect())
                    }
                    _ => return misfit(),
                },
                Definition::Fixed { size, logical } => match (logical, cells) {
                    (
                        Some(Logical::Decimal { precision, scale }),
                        Cells::Decimal(..)
                        | Cells::LongDecimal(..)
                        | Cells::Whole(_)
                        | Cells::Unsigned(_),
                    ) => Write::Decimal {
                        precision: *precision,
                        scale: *scale,
                        size: Some(*size),
                    },
                    (Some(Logical::Duration), Cells::Interval(_)) => Write::Duration,
                    (Some(Logical::Uuid), Cells::Text(_) | Cells::Bytes(_)) => {
                        Write::Uuid { binary: true }
                    }
                    (_, Cells::Bytes(_)) => Write::Fixed(*size),
                    _ => return misfit(),
                },
            },
        };
        Ok(write)
    }

    fn record(&self, fields: &[RecordField], members: &[Member]) -> Result<Vec<Part>, String> {
        let mut used = vec![false; members.len()];
        let mut parts = Vec::with_capacity(fields.len());
        for field in fields {
            let part = match member_of(&field.name, members, fields)? {
                Some(place) => {
                    used[place] = true;
                    let member = &members[place];
                    let write = self
                        .plan(&field.of, &member.cells)
                        .map_err(|e| within(&member.name, e))?;
                    Part::Member(place, member.name.clone(), write)
                }
                None => Part::Constant(self.absent(field)?),
            };
            parts.push(part);
        }
        if let Some(place) = used.iter().position(|used| !used) {
            let name = &members[place].name;
            let names = fields.iter().map(|field| field.name.as_str());
            let hint = match nearest_names(name, names).first() {
                Some(nearest) => format!("did you mean '{nearest}'?"),
                None => {
                    let names: Vec<_> = fields.iter().map(|f| f.name.as_str()).collect();
                    format!("its fields are {}", names.join(", "))
                }
            };
            return Err(format!("has no field for the column '{name}'; {hint}"));
        }
        Ok(parts)
    }

    /// The encoded value of a field that no column fills.
    fn absent(&self, field: &RecordField) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        if let Some(default) = &field.default {
            default_of(self.schema, &field.of, default, &mut out).map_err(|e| {
                format!(
                    "the default of field '{}' does not fit its type: {e}",
                    field.name
                )
            })?;
            return Ok(out);
        }
        match &field.of {
            Type::Primitive(Primitive::Null, _) => Ok(out),
            Type::Union(branches) => match branches.iter().position(Type::is_null) {
                Some(place) => {
                    long(place as i64, &mut out);
                    Ok(out)
                }
                None => Err(self.lacks(field)),
            },
            _ => Err(self.lacks(field)),
        }
    }

    fn lacks(&self, field: &RecordField) -> String {
        format!(
            "its field '{}' is {}, which has neither NULL nor a default, and no column has this name",
            field.name,
            self.schema.title(&field.of)
        )
    }

    fn union(&self, of: &Type, branches: &[Type], cells: &Cells) -> Result<Write, String> {
        let null = branches.iter().position(Type::is_null);
        let nullable = |branch: usize, write| Write::Nullable {
            null,
            branch,
            of: Box::new(write),
        };
        if matches!(cells, Cells::Null) && null.is_some() {
            return Ok(nullable(0, Write::Null));
        }
        if let Some(only) = only_branch(branches) {
            let place = branches
                .iter()
                .position(|branch| std::ptr::eq(branch, only));
            return Ok(nullable(place.unwrap_or_default(), self.plan(only, cells)?));
        }
        if let Cells::Struct(_, given) = cells {
            let named = members(self.schema, branches);
            let known = |member: &Member| named.iter().any(|(name, _)| *name == member.name);
            if given.iter().all(known) {
                return self.members(branches, null, given);
            }
        }
        // A column with a single type fills the first branch that accepts it.
        let mut planned = branches.iter().enumerate().filter(|(_, b)| !b.is_null());
        planned
            .find_map(|(place, branch)| Some(nullable(place, self.plan(branch, cells).ok()?)))
            .ok_or_else(|| {
                format!(
                    "{} cannot be written from {}",
                    self.schema.title(of),
                    cells.title()
                )
            })
    }

    fn members(
        &self,
        branches: &[Type],
        null: Option<usize>,
        given: &[Member],
    ) -> Result<Write, String> {
        let named = members(self.schema, branches);
        let mut planned = Vec::with_capacity(given.len());
        for (member, Member { name, cells }) in given.iter().enumerate() {
            let Some((_, branch)) = named.iter().find(|(known, _)| known == name) else {
                continue;
            };
            let place = branches.iter().position(|b| std::ptr::eq(b, *branch));
            planned.push(Branch {
                member,
                name: name.clone(),
                place: place.unwrap_or_default(),
                write: self.plan(branch, cells).map_err(|e| within(name, e))?,
            });
        }
        Ok(Write::Members {
            null,
            branches: planned,
        })
    }
}

/// The member that fills a field: the one with the exact name, or with the same name without case if both
/// sides have only one.
fn member_of(
    name: &str,
    members: &[Member],
    fields: &[RecordField],
) -> Result<Option<usize>, String> {
    if let Some(place) = members.iter().position(|member| member.name == name) {
        return Ok(Some(place));
    }
    let wanted = name.to_lowercase();
    let alike = |other: &str| other.to_lowercase() == wanted;
    // A column with the exact name of another field belongs to that field.
    let free = |member: &Member| !fields.iter().any(|field| field.name == member.name);
    let mut found = members
        .iter()
        .enumerate()
        .filter(|(_, member)| alike(&member.name) && free(member));
    let Some((place, member)) = found.next() else {
        return Ok(None);
    };
    if fields.iter().filter(|field| alike(&field.name)).count() > 1 {
        return Err(format!(
            "the column '{}' may be one of several fields: write its name in double quotes as the \
             field has it",
            member.name
        ));
    }
    Ok(Some(place))
}

fn within(name: &str, error: String) -> String {
    match error.strip_prefix("column '") {
        Some(rest) => format!("column '{name}.{rest}"),
        None => format!("column '{name}': {error}"),
    }
}

fn primitive_of(of: Primitive, logical: Option<Logical>, cells: &Cells) -> Option<Write> {
    use Cells as C;
    Some(match (of, logical, cells) {
        (Primitive::Null, _, C::Null) => Write::Null,
        (_, Some(Logical::Date), C::Date(_)) => Write::Date,
        (_, Some(Logical::Time(unit)), C::Time(..)) => Write::Moment(unit),
        // Times without a zone count as UTC, and instants become what a clock in UTC shows.
        (_, Some(Logical::Timestamp(unit) | Logical::LocalTimestamp(unit)), C::Timestamp(..)) => {
            Write::Moment(unit)
        }
        (
            Primitive::Bytes,
            Some(Logical::Decimal { precision, scale }),
            C::Decimal(..) | C::LongDecimal(..) | C::Whole(_) | C::Unsigned(_),
        ) => Write::Decimal {
            precision,
            scale,
            size: None,
        },
        // A decimal's bytes are not a value's bytes.
        (Primitive::Bytes, Some(Logical::Decimal { .. }), _) => return None,
        (Primitive::String, Some(Logical::Uuid), C::Text(_) | C::Bytes(_)) => {
            Write::Uuid { binary: false }
        }
        (Primitive::Boolean, _, C::Bool(_)) => Write::Boolean,
        (Primitive::Int, None, C::Whole(_) | C::Unsigned(_)) => Write::Int,
        (Primitive::Long, None, C::Whole(_) | C::Unsigned(_)) => Write::Long,
        (Primitive::Float, _, C::Float(_) | C::Whole(_)) => Write::Float,
        (Primitive::Double, _, C::Double(_) | C::Float(_) | C::Whole(_)) => Write::Double,
        (Primitive::Bytes, _, C::Bytes(_) | C::Text(_)) => Write::Bytes,
        (Primitive::String, _, C::Text(_) | C::Bytes(_)) => Write::Text,
        _ => return None,
    })
}
