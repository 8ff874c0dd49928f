//! Hive folders: `--partition-by` is a named expression, and its values name the folders.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable};

use super::query::{planning, refuse_expression};
use crate::error::{Error, Result};
use crate::statement;
use crate::store::hive;
use crate::text::{BytesAs, to_text};

/// A named expression over the rows of the query.
#[derive(Debug, Clone)]
pub(super) struct HiveColumn {
    pub(super) name: String,
    pub(super) expr: Expr,
}

impl HiveColumn {
    /// Reads `expression` or `name=expression`.
    ///
    /// # Errors
    /// When the expression is wrong or no name can be made from it.
    pub(super) fn plan(text: &str, state: &SessionState, schema: &DFSchema) -> Result<Self> {
        let (name, sql) = named(text);
        statement::check_text(state, sql)?;
        let expr = state.create_logical_expr(sql, schema).map_err(|e| {
            let error = planning(&e);
            Error::invalid(format!("--partition-by '{text}': {error}"))
        })?;
        refuse_expression(&expr, "--partition-by")?;
        let unit = truncated_to(&expr);
        let name = name
            .or_else(|| match &expr {
                Expr::Column(column) => Some(column.name.clone()),
                _ => unit.clone(),
            })
            .ok_or_else(|| {
                Error::invalid(format!(
                    "--partition-by '{text}': give the folders a name: 'name={text}'"
                ))
            })?;
        let kept = matches!(&expr, Expr::Column(column) if column.name == name);
        if !kept && schema.fields().iter().any(|field| *field.name() == name) {
            return Err(Error::invalid(format!(
                "--partition-by: the rows have a column '{name}' of their own, which readers would \
                 confuse with the folders' values; choose another name: 'other={sql}'"
            )));
        }
        let data_type = expr.get_type(schema).map_err(|e| planning(&e))?;
        let days = matches!(
            unit.as_deref(),
            Some("day" | "week" | "month" | "quarter" | "year")
        );
        let expr = match data_type {
            DataType::Timestamp(_, _) if days => {
                Expr::Cast(Cast::new(Box::new(expr), DataType::Date32))
            }
            nested if nested.is_nested() => {
                return Err(Error::invalid(format!(
                    "--partition-by '{text}' gives {nested}, which cannot name a folder"
                )));
            }
            _ => expr,
        };
        Ok(Self { name, expr })
    }
}

/// The folder of each row, for example `day=2026-01-14`.
pub(super) fn folders(name: &str, values: &ArrayRef) -> Result<Vec<String>> {
    let failed = |e: arrow::error::ArrowError| {
        Error::invalid(format!("--partition-by: cannot print a value: {e}"))
    };
    let field = Field::new("value", values.data_type().clone(), true);
    let schema = std::sync::Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema, vec![ArrayRef::clone(values)]).map_err(failed)?;
    let text = to_text(&batch, BytesAs::Auto).map_err(failed)?;
    let values = text.column(0);
    let options = FormatOptions::new().with_display_error(false);
    let printed = ArrayFormatter::try_new(values.as_ref(), &options).map_err(failed)?;
    let nulls = values.logical_nulls();
    let mut last: Option<(String, String)> = None;
    let mut folders = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        let value = match &nulls {
            Some(nulls) if nulls.is_null(row) => String::new(),
            _ => printed.value(row).try_to_string().map_err(failed)?,
        };
        match &last {
            Some((same, folder)) if *same == value => folders.push(folder.clone()),
            _ => {
                let folder = hive::folder(name, Some(&value));
                folders.push(folder.clone());
                last = Some((value, folder));
            }
        }
    }
    Ok(folders)
}

/// Splits `name=expression`. Without a plain name on the left, all of it is the expression.
fn named(text: &str) -> (Option<String>, &str) {
    let plain = |name: &str| {
        let mut chars = name.chars();
        chars
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match text.split_once('=') {
        Some((name, expression))
            if plain(name.trim())
                && !expression.trim().is_empty()
                && !expression.starts_with('=') =>
        {
            (Some(name.trim().to_owned()), expression.trim())
        }
        _ => (None, text.trim()),
    }
}

/// The unit of `date_trunc('unit', …)`.
fn truncated_to(expr: &Expr) -> Option<String> {
    let Expr::ScalarFunction(function) = expr else {
        return None;
    };
    if function.func.name() != "date_trunc" {
        return None;
    }
    match function.args.first()? {
        Expr::Literal(
            ScalarValue::Utf8(Some(unit))
            | ScalarValue::Utf8View(Some(unit))
            | ScalarValue::LargeUtf8(Some(unit)),
            _,
        ) => Some(unit.to_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_comparisons() {
        let split = |text| {
            let (name, expression) = named(text);
            (name.unwrap_or_default(), expression)
        };
        assert_eq!(split("partition"), (String::new(), "partition"));
        assert_eq!(
            split("day=date_trunc('day', timestamp)"),
            ("day".to_owned(), "date_trunc('day', timestamp)")
        );
        assert_eq!(split("f(x) = 3"), (String::new(), "f(x) = 3"));
        assert_eq!(split("x == 3"), (String::new(), "x == 3"));
        assert_eq!(split("_a1 = partition"), ("_a1".to_owned(), "partition"));
    }
}
