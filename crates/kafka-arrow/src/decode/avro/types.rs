//! Maps the reader's schema to Arrow types, and selects the columns that a table declares.

use std::sync::Arc;

use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit,
};

use super::logical::Logical;
use super::schema::{Definition, MAX_DEPTH, MAX_TYPES, Primitive, RecordField, Schema, Type};

/// The longest fixed value that gets a fixed-size column. In such a column a NULL takes as much memory as
/// a value, and a payload can hold a NULL in each of its bytes.
const MAX_FIXED_BYTES: usize = 1_024;

/// The columns of a reader's schema.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) fields: Fields,
    /// For each field, its place in the reader's record.
    pub(super) places: Vec<usize>,
}

impl Columns {
    /// All fields of the reader's record, or those that `declared` selects by name.
    ///
    /// # Errors
    /// When the schema is not a record, contains itself, or does not fit the declared columns. The message
    /// does not name the schema.
    pub(super) fn new(schema: &Schema, declared: Option<&Fields>) -> Result<Self, String> {
        let Some((_, fields)) = schema.record(&schema.root) else {
            return Err(format!(
                "is {}, and columns come from the fields of a record; wrap it into a record, or read \
                 the payload with the format 'raw'",
                schema.title(&schema.root)
            ));
        };
        let mut mapping = Mapping::new(schema);
        if let Type::Named(root) = schema.root {
            mapping.inside.push(root);
        }
        let Some(declared) = declared else {
            return Ok(Self {
                fields: mapping.fields(fields)?,
                places: (0..fields.len()).collect(),
            });
        };
        let declared = all_nullable(declared);
        let mut places = Vec::with_capacity(declared.len());
        for field in &declared {
            let place = place_of(fields, field.name())?;
            if places.contains(&place) {
                return Err(twice(field.name(), &fields[place]));
            }
            mapping
                .fits(&fields[place].of, field.data_type())
                .map_err(|e| format!("column '{}': {e}", field.name()))?;
            places.push(place);
        }
        Ok(Self {
            fields: declared,
            places,
        })
    }
}

/// The place of the field with this name. The case may differ if only one field matches that way.
pub(crate) fn place_of(fields: &[RecordField], name: &str) -> Result<usize, String> {
    if let Some(place) = fields.iter().position(|f| f.name == name) {
        return Ok(place);
    }
    let wanted = name.to_lowercase();
    let mut alike = fields
        .iter()
        .enumerate()
        .filter(|(_, field)| field.name.to_lowercase() == wanted);
    match (alike.next(), alike.next()) {
        (Some((place, _)), None) => Ok(place),
        (Some((_, first)), Some((_, second))) => Err(format!(
            "has fields '{}' and '{}', but none that is exactly '{name}'; write the column's \
             name in double quotes as the field has it",
            first.name, second.name
        )),
        (None, _) => {
            let known = fields.iter().map(|field| field.name.as_str());
            let nearest = crate::error::nearest_names(name, known);
            let hint = match nearest.first() {
                Some(nearest) => format!("; did you mean '{nearest}'?"),
                None => String::new(),
            };
            Err(format!("has no field '{name}'{hint}"))
        }
    }
}

/// The branches of a union except null, with the names of the members that they become: the kind of type
/// or its short name, or its full name where short names collide.
pub(crate) fn members<'a>(schema: &Schema, branches: &'a [Type]) -> Vec<(String, &'a Type)> {
    let short = |branch: &Type| match branch {
        Type::Primitive(primitive, _) => primitive.name().to_owned(),
        Type::Array(_) => "array".to_owned(),
        Type::Map(_) => "map".to_owned(),
        Type::Union(_) => "union".to_owned(),
        Type::Named(place) => schema.named(*place).name.short().to_owned(),
    };
    let branches = branches.iter().filter(|branch| !branch.is_null());
    let named: Vec<_> = branches.map(|branch| (short(branch), branch)).collect();
    let ambiguous = |name: &str| named.iter().filter(|(other, _)| other == name).count() > 1;
    let full = |(name, branch): &(String, &'a Type)| match branch {
        Type::Named(place) if ambiguous(name) => {
            (schema.named(*place).name.full().to_owned(), *branch)
        }
        _ => (name.clone(), *branch),
    };
    named.iter().map(full).collect()
}

/// The one branch of a union besides null, if there is exactly one.
pub(crate) fn only_branch(branches: &[Type]) -> Option<&Type> {
    let mut branches = branches.iter().filter(|branch| !branch.is_null());
    branches.next().filter(|_| branches.next().is_none())
}

/// The Arrow type of a type in the reader's schema, unless the table declares another.
///
/// # Errors
/// When the type contains itself, or is too large.
pub(super) fn natural(schema: &Schema, of: &Type) -> Result<DataType, String> {
    Mapping::new(schema).natural(of)
}

struct Mapping<'a> {
    schema: &'a Schema,
    /// The records whose fields are being mapped.
    inside: Vec<usize>,
    types: usize,
    depth: usize,
}

impl<'a> Mapping<'a> {
    const fn new(schema: &'a Schema) -> Self {
        Self {
            schema,
            inside: Vec::new(),
            types: 0,
            depth: 0,
        }
    }

    fn natural(&mut self, of: &Type) -> Result<DataType, String> {
        self.types += 1;
        if self.types > MAX_TYPES || self.depth > MAX_DEPTH {
            return Err(format!(
                "is nested deeper than {MAX_DEPTH} levels or has more than {MAX_TYPES} columns"
            ));
        }
        self.depth += 1;
        let natural = self.within(of);
        self.depth -= 1;
        natural
    }

    fn within(&mut self, of: &Type) -> Result<DataType, String> {
        Ok(match of {
            Type::Primitive(primitive, logical) => of_primitive(*primitive, *logical),
            Type::Array(items) => DataType::List(item(self.natural(items)?)),
            Type::Map(values) => map(self.natural(values)?),
            Type::Union(branches) => match only_branch(branches) {
                Some(branch) => self.natural(branch)?,
                None => {
                    let mut fields = Vec::with_capacity(branches.len());
                    for (name, branch) in members(self.schema, branches) {
                        fields.push(Field::new(name, self.natural(branch)?, true));
                    }
                    match fields.is_empty() {
                        true => DataType::Null,
                        false => DataType::Struct(fields.into()),
                    }
                }
            },
            Type::Named(place) => self.named(*place)?,
        })
    }

    fn named(&mut self, place: usize) -> Result<DataType, String> {
        let named = self.schema.named(place);
        let fields = match &named.definition {
            Definition::Enum { .. } => return Ok(DataType::Utf8),
            Definition::Fixed { size, logical } => return fixed(*size, *logical),
            Definition::Record(fields) => fields,
        };
        if self.inside.contains(&place) {
            return Err(format!(
                "has a record '{}' that contains itself, which cannot be a column; declare columns without \
                 it, or read with a schema that leaves it out",
                named.name.full()
            ));
        }
        self.inside.push(place);
        let fields = self.fields(fields);
        self.inside.pop();
        Ok(DataType::Struct(fields?))
    }

    fn fields(&mut self, fields: &[RecordField]) -> Result<Fields, String> {
        fields
            .iter()
            .map(|field| {
                let data_type = self.natural(&field.of);
                let data_type = data_type.map_err(|e| in_field(&field.name, e))?;
                Ok(Field::new(&field.name, data_type, true))
            })
            .collect()
    }

    /// Whether the values fit a declared type: the natural one, or a wider one.
    fn fits(&mut self, of: &Type, declared: &DataType) -> Result<(), String> {
        match (of, declared) {
            (Type::Union(branches), declared) => match only_branch(branches) {
                Some(branch) => return self.fits(branch, declared),
                None => {
                    if let DataType::Struct(fields) = declared {
                        return self.fit_members(branches, fields);
                    }
                }
            },
            (Type::Array(items), DataType::List(item)) => {
                return self.fits(items, item.data_type());
            }
            (Type::Map(values), DataType::Map(entries, _)) => {
                if let DataType::Struct(entry) = entries.data_type()
                    && let [key, value] = entry.as_ref()
                    && is_text(key.data_type())
                {
                    return self.fits(values, value.data_type());
                }
            }
            (Type::Named(_), DataType::Struct(fields)) => {
                if let Some((_, known)) = self.schema.record(of) {
                    let mut places = Vec::with_capacity(fields.len());
                    for field in fields {
                        let place = place_of(known, field.name())
                            .map_err(|e| format!("{} {e}", self.schema.title(of)))?;
                        if places.contains(&place) {
                            return Err(twice(field.name(), &known[place]));
                        }
                        places.push(place);
                        self.fits(&known[place].of, field.data_type())
                            .map_err(|e| in_field(field.name(), e))?;
                    }
                    return Ok(());
                }
            }
            _ => {}
        }
        let natural = self.natural(of)?;
        if is_wider(&natural, declared) {
            return Ok(());
        }
        Err(format!(
            "is declared {declared}, and {} is {natural}; declare that or a wider type",
            self.schema.title(of)
        ))
    }

    fn fit_members(&mut self, branches: &[Type], fields: &Fields) -> Result<(), String> {
        let members = members(self.schema, branches);
        for field in fields {
            let Some((_, branch)) = members.iter().find(|(name, _)| name == field.name()) else {
                let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
                return Err(format!(
                    "the union has no branch '{}'; its branches are {}",
                    field.name(),
                    names.join(", ")
                ));
            };
            self.fits(branch, field.data_type())
                .map_err(|e| in_field(field.name(), e))?;
        }
        Ok(())
    }
}

fn twice(column: &str, field: &RecordField) -> String {
    format!(
        "column '{column}': field '{}' is declared twice; leave one out",
        field.name
    )
}

fn in_field(name: &str, error: String) -> String {
    format!("field '{name}': {error}")
}

fn of_primitive(primitive: Primitive, logical: Option<Logical>) -> DataType {
    match (primitive, logical) {
        (_, Some(Logical::Date)) => DataType::Date32,
        (Primitive::Int, Some(Logical::Time(unit))) => DataType::Time32(unit),
        (_, Some(Logical::Time(unit))) => DataType::Time64(unit),
        (_, Some(Logical::Timestamp(unit))) => DataType::Timestamp(unit, Some(Arc::from("UTC"))),
        (_, Some(Logical::LocalTimestamp(unit))) => DataType::Timestamp(unit, None),
        (_, Some(Logical::Decimal { precision, scale })) => decimal(precision, scale),
        (Primitive::Null, _) => DataType::Null,
        (Primitive::Boolean, _) => DataType::Boolean,
        (Primitive::Int, _) => DataType::Int32,
        (Primitive::Long, _) => DataType::Int64,
        (Primitive::Float, _) => DataType::Float32,
        (Primitive::Double, _) => DataType::Float64,
        (Primitive::Bytes, _) => DataType::Binary,
        (Primitive::String, _) => DataType::Utf8,
    }
}

fn fixed(size: usize, logical: Option<Logical>) -> Result<DataType, String> {
    Ok(match logical {
        Some(Logical::Decimal { precision, scale }) => decimal(precision, scale),
        Some(Logical::Duration) => DataType::Interval(IntervalUnit::MonthDayNano),
        Some(Logical::Uuid) => DataType::Utf8,
        _ if size > MAX_FIXED_BYTES => DataType::Binary,
        _ => DataType::FixedSizeBinary(i32::try_from(size).map_err(|e| e.to_string())?),
    })
}

fn decimal(precision: u8, scale: i8) -> DataType {
    match precision <= DECIMAL128_MAX_PRECISION {
        true => DataType::Decimal128(precision, scale),
        false => DataType::Decimal256(precision, scale),
    }
}

fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(data_type, true))
}

fn map(values: DataType) -> DataType {
    let entry = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", values, true),
    ]);
    let entries = Field::new("entries", DataType::Struct(entry), false);
    DataType::Map(Arc::new(entries), false)
}

pub(super) const fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

pub(super) const fn is_binary(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView
    )
}

/// Whether every value of the natural type fits the declared type without loss.
fn is_wider(natural: &DataType, declared: &DataType) -> bool {
    use DataType::{
        Decimal128, Decimal256, FixedSizeBinary, Float32, Float64, Int32, Int64, Time32, Time64,
        Timestamp,
    };
    if natural == declared {
        return true;
    }
    match (natural, declared) {
        (Int32, Int64 | Float64) | (Float32, Float64) => true,
        (natural, declared) if is_text(natural) => is_text(declared),
        (natural, declared) if is_binary(natural) => is_binary(declared),
        (FixedSizeBinary(_), declared) => is_binary(declared),
        (
            Decimal128(precision, scale) | Decimal256(precision, scale),
            Decimal128(wide, wide_scale) | Decimal256(wide, wide_scale),
        ) => {
            let whole = |precision: u8, scale: i8| i16::from(precision) - i16::from(scale);
            wide_scale >= scale && whole(*wide, *wide_scale) >= whole(*precision, *scale)
        }
        (Time32(unit), Time32(wide) | Time64(wide)) | (Time64(unit), Time64(wide)) => {
            per_second(*wide) >= per_second(*unit)
        }
        // An instant may be shown in any zone; one declared without a zone means UTC. Local times have no
        // zone and get none.
        (Timestamp(unit, zone), Timestamp(wide, wide_zone)) => {
            per_second(*wide) >= per_second(*unit) && (zone.is_some() || wide_zone.is_none())
        }
        _ => false,
    }
}

pub(super) const fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// The fields, all nullable down to the innermost: a payload may lack what a table declares.
fn all_nullable(fields: &Fields) -> Fields {
    let nullable = |field: &FieldRef| {
        let data_type = nullable_type(field.data_type());
        let field = field.as_ref().clone();
        Arc::new(field.with_data_type(data_type).with_nullable(true))
    };
    fields.iter().map(nullable).collect()
}

fn nullable_type(data_type: &DataType) -> DataType {
    let nullable = |field: &FieldRef| {
        let data_type = nullable_type(field.data_type());
        let field = field.as_ref().clone();
        Arc::new(field.with_data_type(data_type).with_nullable(true))
    };
    match data_type {
        DataType::Struct(fields) => DataType::Struct(all_nullable(fields)),
        DataType::List(item) => DataType::List(nullable(item)),
        // The entries and their keys are never NULL.
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => {
                let entry = vec![Arc::clone(&entry[0]), nullable(&entry[1])];
                let entry = DataType::Struct(entry.into());
                let entries = entries.as_ref().clone().with_data_type(entry);
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}
