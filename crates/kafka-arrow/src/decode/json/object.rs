//! The columns of an object's fields, and how values get into them.

use std::collections::{HashMap, HashSet};

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use arrow::error::ArrowError;
use jiter::Peek;

use super::scan::Scan;
use super::text::{compact, deeper, kind, skip};
use crate::decode::budget::{self, Budget};
use crate::decode::builder::{Builder, Values, builders};
use crate::decode::value::{self, Fault};
type Outcome = Result<(), Fault>;

/// Up to this number of names, comparing each is faster than hashing.
const FEW: usize = 16;

/// The columns that payloads are decoded into.
#[derive(Debug, Clone)]
pub(super) struct Object {
    names: Names,
    columns: Vec<Builder>,
    rows: usize,
}

/// How the values of a column are read.
#[derive(Debug, Clone)]
enum Shape {
    Plain,
    Object(Box<Names>),
    /// Holds the charge for an item.
    Items(Box<Shape>, usize),
    /// Holds the charge for an entry.
    Entries(Box<Shape>, usize),
    /// Not read: the column is not wanted.
    Ignored,
}

/// The fields of an object.
#[derive(Debug, Clone)]
struct Names {
    names: Vec<String>,
    /// Names as they appear in JSON, in quotes; empty where a name needs an escape.
    quoted: Vec<Vec<u8>>,
    /// Fields by name, where there are too many to compare each.
    exact: HashMap<String, usize>,
    /// Fields by lower-case name, where only one field has it.
    caseless: HashMap<String, usize>,
    /// For each field, whether its lower-case name is its alone.
    alone: Vec<bool>,
    shapes: Vec<Shape>,
    /// For each field, the least that a value takes in memory.
    widths: Vec<usize>,
    /// For each field, one more than the last row in which its exact name occurred.
    by_name: Vec<usize>,
}

impl Names {
    fn new(fields: &Fields) -> Self {
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let indices = |name: fn(&str) -> String| {
            let mut found: HashMap<String, Vec<usize>> = HashMap::new();
            for (index, field) in names.iter().enumerate() {
                found.entry(name(field)).or_default().push(index);
            }
            let unique = found.into_iter().filter(|(_, indices)| indices.len() == 1);
            unique.map(|(name, indices)| (name, indices[0])).collect()
        };
        let caseless = indices(str::to_lowercase);
        Self {
            exact: indices(str::to_owned),
            alone: names
                .iter()
                .map(|name| caseless.contains_key(&name.to_lowercase()))
                .collect(),
            caseless,
            shapes: fields.iter().map(|f| Shape::of(f.data_type())).collect(),
            widths: fields
                .iter()
                .map(|f| budget::width(f.data_type()))
                .collect(),
            by_name: vec![0; names.len()],
            quoted: names.iter().map(|name| quoted(name)).collect(),
            names,
        }
    }

    /// Finds the field whose key begins here, and whether the name is exact. Compares with `likely` first.
    fn read(&self, parser: &mut Scan<'_>, likely: usize) -> Result<Option<(usize, bool)>, Fault> {
        match self.quoted.get(likely) {
            Some(quoted) if parser.key_is(quoted) => Ok(Some((likely, true))),
            _ => Ok(self.find(&parser.key()?)),
        }
    }

    /// The field called `name`, and whether the name is exact.
    fn find(&self, name: &str) -> Option<(usize, bool)> {
        if self.names.len() <= FEW && name.is_ascii() {
            let exact = self.names.iter().position(|n| n == name);
            let alike =
                |(known, alone): (&String, &bool)| *alone && known.eq_ignore_ascii_case(name);
            return match exact {
                Some(index) => Some((index, true)),
                None => {
                    let mut each = self.names.iter().zip(&self.alone);
                    Some((each.position(alike)?, false))
                }
            };
        }
        match self.exact.get(name) {
            Some(index) => Some((*index, true)),
            None => Some((*self.caseless.get(&name.to_lowercase())?, false)),
        }
    }
}

/// A name in quotes as in JSON, if it needs no escapes; otherwise empty.
fn quoted(name: &str) -> Vec<u8> {
    match name.contains(|c: char| matches!(c, '"' | '\\' | ..'\x20')) {
        true => vec![],
        false => format!("\"{name}\"").into_bytes(),
    }
}

impl Shape {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Struct(fields) => Self::Object(Box::new(Names::new(fields))),
            DataType::List(item) => {
                let charge = budget::charge(budget::width(item.data_type()));
                Self::Items(Box::new(Self::of(item.data_type())), charge)
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => {
                    let charge = budget::charge(budget::width(entries.data_type()));
                    Self::Entries(Box::new(Self::of(fields[1].data_type())), charge)
                }
                _ => Self::Plain,
            },
            _ => Self::Plain,
        }
    }
}

impl Object {
    pub(super) fn new(fields: &Fields) -> crate::error::Result<Self> {
        Ok(Self {
            names: Names::new(fields),
            columns: builders(fields)?,
            rows: 0,
        })
    }

    /// Reads only these fields. The others stay NULL and are never finished.
    pub(super) fn keep_only(&mut self, wanted: &[usize], required: Option<usize>) {
        for (index, shape) in self.names.shapes.iter_mut().enumerate() {
            if !wanted.contains(&index) && required != Some(index) {
                *shape = Shape::Ignored;
            }
        }
    }

    /// Appends the object that begins here as a row.
    pub(super) fn take(&mut self, parser: &mut Scan<'_>, budget: &Budget) -> Outcome {
        let (names, columns) = (&mut self.names, &mut self.columns);
        object(parser, budget, names, columns, self.rows, 1)?;
        self.rows += 1;
        Ok(())
    }

    /// Appends a row of NULL.
    pub(super) fn null_row(&mut self) {
        self.columns.iter_mut().for_each(Builder::null);
        self.rows += 1;
    }

    pub(super) fn is_null(&self, column: usize, row: usize) -> bool {
        self.columns[column].is_null(row)
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|c| c.truncate(rows));
        self.rows = rows;
    }

    pub(super) fn finish(&mut self, column: usize) -> Result<ArrayRef, ArrowError> {
        self.columns[column].finish()
    }
}

/// Appends the fields of an object as row `row` of `columns`.
fn object(
    parser: &mut Scan<'_>,
    budget: &Budget,
    names: &mut Names,
    columns: &mut [Builder],
    row: usize,
    depth: usize,
) -> Outcome {
    deeper(depth)?;
    let mut misfits: Vec<(usize, Fault)> = vec![];
    let mut likely = 0;
    let mut more = parser.object()?;
    while more {
        let found = names.read(parser, likely)?;
        let peek = parser.peek()?;
        match found {
            Some((index, exact)) => {
                likely = index + 1;
                let column = &mut columns[index];
                let again = column.len() > row;
                if again && !exact && names.by_name[index] == row + 1 {
                    // The exact name came before and takes precedence.
                    skip(parser, peek, depth)?;
                } else {
                    if again {
                        // Repeating a field costs again, however few fields the object has.
                        budget.spend(names.widths[index])?;
                        column.truncate(row);
                        misfits.retain(|(misfit, _)| *misfit != index);
                    }
                    names.by_name[index] = if exact { row + 1 } else { 0 };
                    let shape = &mut names.shapes[index];
                    let from = parser.at();
                    if let Err(fault) = append(parser, budget, peek, shape, column, depth) {
                        let fault = fault.of(&names.names[index]);
                        let value = Misfit { from, peek, depth };
                        misfits.push((index, value.pass(parser, budget, column, row, fault)?));
                    }
                }
            }
            None => skip(parser, peek, depth)?,
        }
        more = parser.next_key()?;
    }
    if let Some((_, fault)) = misfits.into_iter().next() {
        return Err(fault);
    }
    for column in columns {
        if column.len() == row {
            column.null();
        }
    }
    Ok(())
}

/// A value that does not fit its column. It becomes a fault only if the same name does not come again.
struct Misfit {
    from: usize,
    peek: Peek,
    depth: usize,
}

impl Misfit {
    /// Skips the value and puts NULL in its place. Invalid JSON is a fault in any case.
    #[cold]
    fn pass(
        self,
        parser: &mut Scan<'_>,
        budget: &Budget,
        column: &mut Builder,
        row: usize,
        fault: Fault,
    ) -> Result<Fault, Fault> {
        if !fault.is_of_value() {
            return Err(fault);
        }
        budget.spend(fault.message.len())?;
        parser.back_to(self.from);
        skip(parser, self.peek, self.depth)?;
        column.truncate(row);
        column.null();
        Ok(fault)
    }
}

/// Appends a value to its column.
fn append(
    parser: &mut Scan<'_>,
    budget: &Budget,
    peek: Peek,
    shape: &mut Shape,
    column: &mut Builder,
    depth: usize,
) -> Outcome {
    if matches!(shape, Shape::Ignored) {
        return skip(parser, peek, depth);
    }
    if peek == Peek::Null {
        parser.null()?;
        column.null();
        return Ok(());
    }
    if peek == Peek::String {
        let text = parser.text()?;
        if let Values::Text(slices) = &mut column.values {
            slices.push(&text);
            column.end_row();
            return Ok(());
        }
        return value::text(column, std::str::from_utf8(&text).unwrap_or_default());
    }
    if matches!(column.values, Values::Text(_)) {
        let from = parser.at();
        skip(parser, peek, depth)?;
        let text = compact(parser.since(from));
        return value::text(column, &text);
    }
    match peek {
        Peek::True | Peek::False => {
            let value = parser.bool(peek)?;
            value::boolean(column, value)
        }
        Peek::Array => items(parser, budget, shape, column, depth + 1),
        Peek::Object => within(parser, budget, shape, column, depth + 1),
        _ => {
            let (digits, short) = parser.number(peek)?;
            if short.is_some_and(|short| value::short(column, short.digits, short.places)) {
                return Ok(());
            }
            // Numbers are ASCII.
            value::number(column, std::str::from_utf8(digits).unwrap_or_default())
        }
    }
}

fn items(
    parser: &mut Scan<'_>,
    budget: &Budget,
    shape: &mut Shape,
    column: &mut Builder,
    depth: usize,
) -> Outcome {
    let (Shape::Items(shape, charge), Values::List(_, items)) = (shape, &mut column.values) else {
        return Err(Fault::expected(column.data_type(), &kind(Peek::Array)));
    };
    deeper(depth)?;
    let mut next = parser.array()?;
    while let Some(peek) = next {
        budget.spend(*charge)?;
        append(parser, budget, peek, shape, items, depth)?;
        next = parser.next_item()?;
    }
    column.end_row();
    Ok(())
}

/// An object within an object: a struct or a map.
fn within(
    parser: &mut Scan<'_>,
    budget: &Budget,
    shape: &mut Shape,
    column: &mut Builder,
    depth: usize,
) -> Outcome {
    let row = column.len();
    match (shape, &mut column.values) {
        (Shape::Object(names), Values::Struct(columns)) => {
            object(parser, budget, names, columns, row, depth)?;
        }
        (Shape::Entries(shape, charge), Values::Map(ends, entries)) => {
            deeper(depth)?;
            let start = ends.last().copied().unwrap_or(0);
            let mut places = HashMap::new();
            let (mut misfits, replaced_before) = (vec![], entries.replaced.len());
            let mut more = parser.object()?;
            while more {
                let key = parser.key()?;
                budget.spend(*charge)?;
                entries.announce(&key, start, &mut places);
                value::text(&mut entries.keys, &key)?;
                let peek = parser.peek()?;
                let (from, entry) = (parser.at(), entries.values.len());
                let values = &mut entries.values;
                if let Err(fault) = append(parser, budget, peek, shape, values, depth) {
                    let value = Misfit { from, peek, depth };
                    misfits.push((entry, value.pass(parser, budget, values, entry, fault)?));
                }
                more = parser.next_key()?;
            }
            if !misfits.is_empty() {
                let replaced: HashSet<&usize> =
                    entries.replaced[replaced_before..].iter().collect();
                let mut misfits = misfits.into_iter();
                if let Some((_, fault)) = misfits.find(|(entry, _)| !replaced.contains(entry)) {
                    return Err(fault);
                }
            }
        }
        _ => return Err(Fault::expected(column.data_type(), &kind(Peek::Object))),
    }
    column.end_row();
    Ok(())
}
