//! Arranges a query's columns as a table declares them: in its order and with its types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryViewArray, new_null_array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef};
use arrow::util::display::array_value_to_string;

use super::{Misfit, PayloadEncoder};
use crate::error::{Error, Result, nearest_names};

/// Declared columns, each with the query's column that fills it.
#[derive(Debug)]
pub struct Declared {
    fields: Vec<FieldRef>,
    sources: Vec<Option<usize>>,
}

impl Declared {
    /// # Errors
    /// When the query has an undeclared column, or one whose values never belong to the declared type.
    pub fn of(declared: &[FieldRef], given: &[FieldRef]) -> Result<Self> {
        let known = || declared.iter().map(|field| field.name().as_str());
        if let Some(field) = given.iter().find(|f| known().all(|name| name != f.name())) {
            let nearest = nearest_names(field.name(), known());
            let hint = match nearest.first() {
                Some(nearest) => format!("did you mean '{nearest}'?"),
                None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
            };
            return Err(Error::invalid(format!(
                "the table declares no column '{}'; {hint}",
                field.name()
            )));
        }
        let mut sources = Vec::with_capacity(declared.len());
        for field in declared {
            let source = given.iter().position(|g| g.name() == field.name());
            if let Some(place) = source
                && !alike(given[place].data_type(), field.data_type())
                && !convertible(given[place].data_type(), field.data_type())
            {
                return Err(Error::invalid(format!(
                    "the column '{}' is {}, and the table declares {}: CAST it in the query",
                    field.name(),
                    given[place].data_type(),
                    field.data_type()
                )));
            }
            sources.push(source);
        }
        Ok(Self {
            fields: declared.to_vec(),
            sources,
        })
    }

    /// The declared columns.
    pub fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// Wraps an encoder of the declared columns into one that accepts the query's columns.
    pub fn over(self, encoder: Arc<dyn PayloadEncoder>) -> Arc<dyn PayloadEncoder> {
        Arc::new(Aligned {
            declared: self,
            encoder,
        })
    }
}

#[derive(Debug)]
struct Aligned {
    declared: Declared,
    encoder: Arc<dyn PayloadEncoder>,
}

impl PayloadEncoder for Aligned {
    fn encode(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        absent: &dyn Fn(usize) -> bool,
    ) -> Result<BinaryViewArray, Misfit> {
        let each = self.declared.fields.iter().zip(&self.declared.sources);
        let columns: Vec<ArrayRef> = each
            .map(|(field, source)| {
                let column = source.and_then(|place| columns.get(place));
                match column {
                    None => Ok(new_null_array(field.data_type(), rows)),
                    Some(column) if alike(column.data_type(), field.data_type()) => {
                        Ok(Arc::clone(column))
                    }
                    Some(column) => converted(column, field, absent),
                }
            })
            .collect::<Result<_, Misfit>>()?;
        self.encoder.encode(&columns, rows, absent)
    }
}

/// Whether encoders treat both types alike.
fn alike(one: &DataType, other: &DataType) -> bool {
    use DataType as T;
    let text = |of: &T| matches!(of, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let bytes = |of: &T| {
        matches!(
            of,
            T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_)
        )
    };
    match (one, other) {
        (T::Dictionary(_, values), other) => alike(values, other),
        (T::List(one) | T::LargeList(one), T::List(other)) => {
            alike(one.data_type(), other.data_type())
        }
        (T::Struct(one), T::Struct(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| {
                    one.name() == other.name() && alike(one.data_type(), other.data_type())
                })
        }
        (T::Map(one, _), T::Map(other, _)) => match (one.data_type(), other.data_type()) {
            (T::Struct(one), T::Struct(other)) if one.len() == 2 && other.len() == 2 => {
                let mut each = one.iter().zip(other);
                each.all(|(one, other)| alike(one.data_type(), other.data_type()))
            }
            _ => false,
        },
        // Instants are written in UTC, whatever zone they are shown in.
        (T::Timestamp(one, zone), T::Timestamp(other, other_zone)) => {
            one == other && zone.is_some() == other_zone.is_some()
        }
        (one, other) => one == other || (text(one) && text(other)) || (bytes(one) && bytes(other)),
    }
}

/// Whether values of one type may belong to the other. Each value is still checked.
fn convertible(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (T::Null, _) => true,
        (T::Dictionary(_, values), to) => convertible(values, to),
        (T::Timestamp(_, from), T::Timestamp(_, to)) => from.is_some() == to.is_some(),
        (T::Time32(_) | T::Time64(_), T::Time32(_) | T::Time64(_)) => true,
        (T::Date32 | T::Date64, T::Date32 | T::Date64) => true,
        (from, to) => from.is_numeric() && to.is_numeric(),
    }
}

/// Casts the column to the declared type, if the cast can be undone.
fn converted(
    column: &ArrayRef,
    field: &FieldRef,
    absent: &dyn Fn(usize) -> bool,
) -> Result<ArrayRef, Misfit> {
    let whole = |e: arrow::error::ArrowError| Misfit {
        row: 0,
        message: format!("column '{}': {e}", field.name()),
    };
    // A value that does not fit becomes NULL, which the comparison below reports.
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    let converted = cast_with_options(column, field.data_type(), &options).map_err(whole)?;
    if *column.data_type() == DataType::Null {
        return Ok(converted);
    }
    let back = cast_with_options(&converted, column.data_type(), &options).map_err(whole)?;
    let same = not_distinct(&back, column).map_err(whole)?;
    let lost = (0..column.len()).find(|row| !same.value(*row) && !absent(*row));
    match lost {
        None => Ok(converted),
        Some(row) => {
            let shown = array_value_to_string(column, row).map_err(whole)?;
            Err(Misfit {
                row,
                message: format!(
                    "column '{}': {shown} does not fit into {}",
                    field.name(),
                    field.data_type()
                ),
            })
        }
    }
}
