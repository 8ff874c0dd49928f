//! Plans how to read values that were written with one schema as values of another, into columns of given
//! types. The rules are those of the specification's "Schema Resolution", with one addition: moments and
//! times of day keep their meaning when their unit gets finer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Fields, TimeUnit};

use super::default::write_field;
use super::logical::Logical;
use super::read::{Decimal, Read, Step, Supplied, Time};
use super::schema::{
    Definition, MAX_DEPTH, MAX_TYPES, Named, Primitive, RecordField, Schema, Type,
};
use super::types::{Columns, is_binary, is_text, members, only_branch, per_second, place_of};
use crate::decode::budget::{charge, width};

/// The plan for the columns of a record.
///
/// # Errors
/// When the schemas do not match: the message says where, but does not name the schemas.
pub(super) fn resolve(
    writer: &Schema,
    reader: &Arc<Schema>,
    columns: &Columns,
) -> Result<Read, String> {
    let mut resolver = Resolver {
        writer,
        reader,
        types: 0,
        depth: 0,
    };
    // The record was written as a branch of a union, as Java does for topics with several types.
    if let Type::Union(branches) = &writer.root {
        let read = |branch| resolver.record(branch, &reader.root, &columns.fields, &columns.places);
        return union(branches.iter().map(read).collect());
    }
    resolver.record(&writer.root, &reader.root, &columns.fields, &columns.places)
}

/// Reads a union of the writer. At least one branch must be readable.
fn union(branches: Vec<Result<Read, String>>) -> Result<Read, String> {
    let reason = branches.iter().find_map(|branch| branch.as_ref().err());
    match (branches.iter().any(Result::is_ok), reason) {
        (false, Some(reason)) => Err(reason.clone()),
        _ => Ok(Read::Union(branches)),
    }
}

struct Resolver<'a> {
    writer: &'a Schema,
    reader: &'a Arc<Schema>,
    types: usize,
    depth: usize,
}

impl Resolver<'_> {
    fn any(&mut self, written: &Type, read: &Type, target: &DataType) -> Result<Read, String> {
        self.types += 1;
        if self.types > MAX_TYPES || self.depth > MAX_DEPTH {
            return Err(format!(
                "nested deeper than {MAX_DEPTH} levels or more than {MAX_TYPES} types"
            ));
        }
        self.depth += 1;
        let resolved = self.within(written, read, target);
        self.depth -= 1;
        resolved
    }

    fn within(&mut self, written: &Type, read: &Type, target: &DataType) -> Result<Read, String> {
        match (written, read) {
            (Type::Union(branches), _) => {
                let read = |branch| self.any(branch, read, target);
                union(branches.iter().map(read).collect())
            }
            (_, Type::Union(branches)) => self.branch(written, branches, target),
            (Type::Array(written_items), Type::Array(items)) => match target {
                DataType::List(item) => {
                    let items = self.any(written_items, items, item.data_type())?;
                    Ok(Read::Array {
                        charge: charge(width(item.data_type()) + items.extra()),
                        items: Box::new(items),
                        sized: self.writer.takes_bytes(written_items),
                    })
                }
                _ => Err(no_place(target)),
            },
            (Type::Map(written_values), Type::Map(values)) => {
                let value = match target {
                    DataType::Map(entries, _) => match entries.data_type() {
                        DataType::Struct(entry) => entry.get(1),
                        _ => None,
                    },
                    _ => None,
                };
                let value = value.ok_or_else(|| no_place(target))?;
                let values = self.any(written_values, values, value.data_type())?;
                Ok(Read::Map {
                    charge: charge(width(value.data_type()) + values.extra()),
                    values: Box::new(values),
                })
            }
            (Type::Named(a), Type::Named(b)) => {
                let reader = self.reader;
                let (a, b) = (self.writer.named(*a), reader.named(*b));
                match (&a.definition, &b.definition) {
                    (Definition::Record(_), Definition::Record(fields)) => {
                        let DataType::Struct(targets) = target else {
                            return Err(no_place(target));
                        };
                        let places: Result<Vec<_>, _> = targets
                            .iter()
                            .map(|target| place_of(fields, target.name()))
                            .collect();
                        self.record(written, read, targets, &places?)
                    }
                    _ => named(a, b, target),
                }
            }
            (Type::Primitive(a, a_logical), Type::Primitive(b, b_logical)) => {
                primitive((*a, *a_logical), (*b, *b_logical), target)
                    .map_err(|reason| reason.unwrap_or_else(|| self.differ(written, read)))
            }
            _ => Err(self.differ(written, read)),
        }
    }

    /// Reads a value that is not a union as the branch that fits it best: the branch of the same type, or
    /// else the first that can read it.
    fn branch(
        &mut self,
        written: &Type,
        branches: &[Type],
        target: &DataType,
    ) -> Result<Read, String> {
        if written.is_null() {
            return match branches.iter().any(Type::is_null) {
                true => Ok(Read::Null),
                false => Err("null is not a branch of the reader's union".to_owned()),
            };
        }
        if let Some(branch) = only_branch(branches) {
            return self.any(written, branch, target);
        }
        let DataType::Struct(targets) = target else {
            return Err(no_place(target));
        };
        let members = members(self.reader, branches);
        let (same, others): (Vec<_>, Vec<_>) = members
            .iter()
            .partition(|(_, branch)| self.is_same(written, branch));
        for (name, branch) in same.into_iter().chain(others) {
            let place = targets.iter().position(|target| target.name() == name);
            let read = match place {
                Some(place) => self.any(written, branch, targets[place].data_type()),
                // No column takes the value, but reading must still find out whether this is its branch.
                None => {
                    let natural = super::types::natural(self.reader, branch)?;
                    self.any(written, branch, &natural)
                }
            };
            if let Ok(read) = read {
                return Ok(Read::Member(place, Box::new(read)));
            }
        }
        Err(format!(
            "{} is not a branch of the reader's union",
            self.writer.title(written)
        ))
    }

    fn is_same(&self, written: &Type, read: &Type) -> bool {
        match (written, read) {
            (Type::Primitive(a, _), Type::Primitive(b, _)) => a == b,
            (Type::Named(a), Type::Named(b)) => {
                self.writer.named(*a).name == self.reader.named(*b).name
            }
            (Type::Array(_), Type::Array(_)) | (Type::Map(_), Type::Map(_)) => true,
            _ => false,
        }
    }

    /// Reads a record into the columns `targets` of the reader's fields at `places`.
    fn record(
        &mut self,
        written: &Type,
        read: &Type,
        targets: &Fields,
        places: &[usize],
    ) -> Result<Read, String> {
        let reader = self.reader;
        let ((Type::Named(a), Type::Named(b)), Some((_, known)), Some((_, fields))) = (
            (written, read),
            self.writer.record(written),
            reader.record(read),
        ) else {
            return Err(self.differ(written, read));
        };
        same_name(self.writer.named(*a), reader.named(*b))?;
        let sources = sources(known, fields);
        // For each field of the writer, the reader's field, if that is a column.
        let mut columns = vec![None; known.len()];
        for (column, read) in places.iter().enumerate() {
            if let Some(place) = sources[*read] {
                columns[place] = Some((*read, column));
            }
        }
        let mut steps = Vec::with_capacity(known.len());
        for (field, column) in known.iter().zip(columns) {
            let (column, read) = match column {
                None => (None, Read::Skip(field.of.clone())),
                Some((read, column)) => {
                    let resolved =
                        self.any(&field.of, &fields[read].of, targets[column].data_type());
                    let resolved = resolved.map_err(|e| in_field(&field.name, e))?;
                    (Some(column), resolved)
                }
            };
            steps.push(Step {
                name: field.name.as_str().into(),
                column,
                read,
            });
        }
        for (column, place) in places.iter().enumerate() {
            if sources[*place].is_none() {
                steps.push(self.default(&fields[*place], column, targets[column].data_type())?);
            }
        }
        Ok(Read::Record(steps))
    }

    fn default(
        &mut self,
        field: &RecordField,
        column: usize,
        target: &DataType,
    ) -> Result<Step, String> {
        let mut bytes = Vec::new();
        write_field(self.reader, field, &mut bytes)?;
        let mut own = Resolver {
            writer: self.reader,
            reader: self.reader,
            types: self.types,
            depth: self.depth,
        };
        let read = own
            .any(&field.of, &field.of, target)
            .map_err(|e| in_field(&field.name, e))?;
        self.types = own.types;
        Ok(Step {
            name: field.name.as_str().into(),
            column: Some(column),
            read: Read::Default(Box::new(Supplied {
                bytes,
                read,
                reader: Arc::clone(self.reader),
            })),
        })
    }

    fn differ(&self, written: &Type, read: &Type) -> String {
        format!(
            "{} cannot be read as {}",
            self.writer.title(written),
            self.reader.title(read)
        )
    }
}

/// For each field of the reader, the place of the writer's field that supplies it: the field of the same
/// name, or else of an alias, if no other field uses it.
fn sources(written: &[RecordField], read: &[RecordField]) -> Vec<Option<usize>> {
    let named = written.iter().map(|field| field.name.as_str()).zip(0..);
    let places: HashMap<&str, usize> = named.collect();
    let place = |name: &String| places.get(name.as_str()).copied();
    let mut sources: Vec<_> = read.iter().map(|field| place(&field.name)).collect();
    let mut taken: HashSet<usize> = sources.iter().flatten().copied().collect();
    for (source, field) in sources.iter_mut().zip(read) {
        if source.is_none() {
            let mut aliases = field.aliases.iter().filter_map(place);
            *source = aliases.find(|found| taken.insert(*found));
        }
    }
    sources
}

fn in_field(name: &str, error: String) -> String {
    format!("field '{name}': {error}")
}

fn no_place(target: &DataType) -> String {
    format!("it has no place in a column of {target}")
}

/// Named types match when their names do, without namespaces, or when the writer's name is an alias of
/// the reader's type.
fn same_name(written: &Named, read: &Named) -> Result<(), String> {
    let alias = |alias: &super::schema::Name| *alias == written.name;
    match written.name.short() == read.name.short() || read.aliases.iter().any(alias) {
        true => Ok(()),
        false => Err(format!(
            "'{}' is not '{}', and not among its aliases",
            written.name.full(),
            read.name.full()
        )),
    }
}

/// Enums and fixed values.
fn named(written: &Named, read: &Named, target: &DataType) -> Result<Read, String> {
    same_name(written, read)?;
    match (&written.definition, &read.definition) {
        (
            Definition::Enum {
                symbols: written, ..
            },
            Definition::Enum { symbols, default },
        ) if is_text(target) => {
            let symbol = |symbol: &String| {
                let known = symbols.iter().find(|known| *known == symbol);
                known
                    .or(default.as_ref())
                    .map(|known| known.as_str().into())
                    .ok_or_else(|| {
                        format!(
                            "symbol '{symbol}' is not in the reader's enum '{}', which has no default",
                            read.name.full()
                        )
                    })
            };
            Ok(Read::Enum(written.iter().map(symbol).collect()))
        }
        (
            Definition::Fixed {
                size: written_size,
                logical: written_logical,
            },
            Definition::Fixed { size, logical },
        ) => {
            if written_size != size {
                return Err(format!(
                    "fixed '{}' has {written_size} bytes, the reader's has {size}",
                    read.name.full()
                ));
            }
            match logical {
                Some(Logical::Decimal { scale, .. }) => {
                    decimal(*written_logical, *scale, Some(*size), target)
                }
                Some(Logical::Duration) if matches!(target, DataType::Interval(_)) => {
                    Ok(Read::Duration)
                }
                Some(Logical::Uuid) if is_text(target) => Ok(Read::Uuid),
                _ if matches!(target, DataType::FixedSizeBinary(_)) || is_binary(target) => {
                    Ok(Read::Fixed(*size))
                }
                _ => Err(no_place(target)),
            }
        }
        (a, b) => Err(format!("{} cannot be read as {}", a.title(), b.title())),
    }
}

/// # Errors
/// With a reason, or with `None` when the types simply differ.
fn primitive(
    (written, written_logical): (Primitive, Option<Logical>),
    (read, logical): (Primitive, Option<Logical>),
    target: &DataType,
) -> Result<Read, Option<String>> {
    use Primitive::{Boolean, Bytes, Double, Float, Int, Long, Null, String};
    match (written, read) {
        (Null, Null) => Ok(Read::Null),
        (Boolean, Boolean) => Ok(Read::Boolean),
        (Int, Int | Long) | (Long, Long) if time(logical).is_some() => {
            moment(written == Long, written_logical, logical, target)
        }
        (Int, Int | Long | Float | Double) => Ok(Read::Int),
        (Long, Long | Float | Double) => Ok(Read::Long),
        (Float, Float | Double) => Ok(Read::Float),
        (Double, Double) => Ok(Read::Double),
        (Bytes | String, Bytes | String) => match logical {
            Some(Logical::Decimal { scale, .. }) => {
                decimal(written_logical, scale, None, target).map_err(Some)
            }
            _ if read == String => Ok(Read::Text),
            _ => Ok(Read::Bytes),
        },
        _ => Err(None),
    }
}

/// What a logical type counts, and in which unit.
fn time(logical: Option<Logical>) -> Option<(Counts, TimeUnit)> {
    match logical? {
        Logical::Time(unit) => Some((Counts::TimeOfDay, unit)),
        Logical::Timestamp(unit) | Logical::LocalTimestamp(unit) => Some((Counts::Moment, unit)),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    TimeOfDay,
    Moment,
}

/// Reads moments and times of day. The unit may get finer from the writer to the reader, and again
/// from the reader to a declared column.
fn moment(
    long: bool,
    written: Option<Logical>,
    read: Option<Logical>,
    target: &DataType,
) -> Result<Read, Option<String>> {
    let (counts, unit) = time(read).ok_or(None)?;
    // A plain number is taken to be in the reader's unit.
    let source = match (time(written), written) {
        (Some((written_counts, unit)), _) if written_counts == counts => unit,
        (None, None) => unit,
        _ => return Err(None),
    };
    let finer = |from: TimeUnit, to: TimeUnit| {
        let factor = per_second(to) / per_second(from);
        if factor == 0 {
            return Err(Some(format!(
                "its unit, {from:?}, is finer than {to:?}, which would lose digits"
            )));
        }
        Ok(factor)
    };
    finer(source, unit)?;
    let (target_unit, end) = match target {
        DataType::Timestamp(unit, _) => (*unit, None),
        DataType::Time32(unit) | DataType::Time64(unit) => (*unit, Some(86_400)),
        other => return Err(Some(no_place(other))),
    };
    let factor = finer(source, target_unit)?;
    let end = end.map(|seconds: i64| seconds * per_second(target_unit));
    Ok(match (long, factor, end) {
        (true, 1, None) => Read::Long,
        _ => Read::Time(Time { long, factor, end }),
    })
}

fn decimal(
    written: Option<Logical>,
    read_scale: i8,
    size: Option<usize>,
    target: &DataType,
) -> Result<Read, String> {
    if let Some(Logical::Decimal { scale, .. }) = written
        && scale != read_scale
    {
        return Err(format!(
            "it has {scale} digits after the point, the reader's schema {read_scale}"
        ));
    }
    let (DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale)) = target
    else {
        return Err(no_place(target));
    };
    let shift = u8::try_from(scale - read_scale).map_err(|_| no_place(target))?;
    Ok(Read::Decimal(Decimal {
        size,
        shift,
        precision: *precision,
        scale: *scale,
    }))
}
