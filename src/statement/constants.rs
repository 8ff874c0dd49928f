//! Bounds the values that are computed while a statement is planned.
//!
//! The optimiser evaluates functions of constants once, and a few of them turn small arguments into large
//! results: `repeat('x', 2000000000)` takes two gigabytes before a row is read. The size of a result is
//! estimated from the arguments, which were bounded before.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

/// The most bytes for one statement.
pub(super) const MOST_BYTES: u64 = 16 << 20;

/// The least size of an item in a list.
const ITEM_BYTES: u64 = 8;
/// The longest character in UTF-8.
const CHARACTER_BYTES: u64 = 4;
const DAY_NS: i128 = 86_400_000_000_000;

/// The bytes that a statement's expressions produce, as far as they are known to be many. Above
/// [`MOST_BYTES`] nothing more is evaluated.
#[derive(Default)]
pub(super) struct Constants(u64);

impl Constants {
    pub(super) fn bytes(&self) -> u64 {
        self.0
    }

    pub(super) fn add(&mut self, expr: &Expr) {
        let walked = expr.visit(self);
        debug_assert!(walked.is_ok(), "nothing in it fails");
    }
}

impl TreeNodeVisitor<'_> for Constants {
    type Node = Expr;

    // Arguments come before the function that uses them.
    fn f_up(&mut self, expr: &Expr) -> Result<TreeNodeRecursion> {
        if self.0 > MOST_BYTES {
            return Ok(TreeNodeRecursion::Stop);
        }
        self.0 = self.0.saturating_add(bytes(expr).unwrap_or(0));
        Ok(TreeNodeRecursion::Continue)
    }
}

/// The bytes of a constant expression's value, if its function can make it large.
fn bytes(expr: &Expr) -> Option<u64> {
    let call = match expr {
        Expr::Cast(cast) => return Some(fixed(cast.field.data_type())),
        Expr::TryCast(cast) => return Some(fixed(cast.field.data_type())),
        Expr::ScalarFunction(call) => call,
        _ => return None,
    };
    let argument = |place: usize| call.args.get(place).and_then(value);
    let size = |place: usize| argument(place).map(|value| size(&value));
    let count = |place: usize| argument(place).and_then(|value| whole(&value));
    let times = |one: Option<u64>, many: Option<i64>| {
        let many = u64::try_from(many?).unwrap_or(0);
        Some(one?.saturating_mul(many))
    };
    match call.func.name() {
        "repeat" => times(size(0), count(1)),
        "lpad" | "rpad" => times(Some(CHARACTER_BYTES), count(1)),
        "array_repeat" => times(size(0).map(|bytes| bytes.max(ITEM_BYTES)), count(1)),
        "array_resize" => times(Some(size(2).unwrap_or(0).max(ITEM_BYTES)), count(1)),
        // One replacement for each place in the text, and one at the end.
        "replace" | "regexp_replace" => Some((size(0)? + 1).saturating_mul(size(2)?.max(1))),
        "array_to_string" => Some(size(0)?.saturating_mul(size(1)? + 1)),
        "range" | "generate_series" => {
            let items = match call.args.len() {
                1 => u64::try_from(count(0)?).unwrap_or(0),
                2 => series(&argument(0)?, &argument(1)?, &ScalarValue::from(1i64))?,
                _ => series(&argument(0)?, &argument(1)?, &argument(2)?)?,
            };
            Some(items.saturating_mul(ITEM_BYTES))
        }
        "arrow_cast" | "arrow_try_cast" => {
            let name = argument(1)?;
            Some(fixed(&name.try_as_str()??.parse().ok()?))
        }
        _ => None,
    }
}

/// The value of an expression that can be evaluated without a row.
fn value(expr: &Expr) -> Option<ScalarValue> {
    if let Expr::Literal(value, _) = expr {
        return Some(value.clone());
    }
    if expr.any_column_refs() {
        return None;
    }
    let context = SimplifyContext::builder().with_current_time().build();
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.coerce(expr.clone(), &DFSchema::empty()).ok()?;
    match simplifier.simplify(expr).ok()? {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

fn whole(value: &ScalarValue) -> Option<i64> {
    match value.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(whole) => whole,
        _ => None,
    }
}

fn size(value: &ScalarValue) -> u64 {
    let bytes = match value {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => {
            text.as_ref().map_or(0, String::len)
        }
        ScalarValue::Binary(bytes)
        | ScalarValue::BinaryView(bytes)
        | ScalarValue::LargeBinary(bytes) => bytes.as_ref().map_or(0, Vec::len),
        value => value.size(),
    };
    bytes as u64
}

/// The number of values between two others, with steps of whole numbers or of time.
fn series(from: &ScalarValue, to: &ScalarValue, step: &ScalarValue) -> Option<u64> {
    use arrow::datatypes::TimeUnit::Nanosecond;
    let (from, to, step) = match step {
        ScalarValue::IntervalMonthDayNano(step) => {
            let step = (*step)?;
            let days = i128::from(step.months) * 28 + i128::from(step.days);
            let at = |value: &ScalarValue| {
                let time = value.cast_to(&DataType::Timestamp(Nanosecond, None)).ok()?;
                whole(&time).map(i128::from)
            };
            let step = days * DAY_NS + i128::from(step.nanoseconds);
            (at(from)?, at(to)?, step)
        }
        step => {
            let at = |value: &ScalarValue| whole(value).map(i128::from);
            (at(from)?, at(to)?, at(step)?)
        }
    };
    let items = (to - from).checked_div(step)?.max(-1) + 1;
    Some(u64::try_from(items).unwrap_or(u64::MAX))
}

/// The size of any value of a type, even NULL.
fn fixed(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(bytes) => u64::try_from(*bytes).unwrap_or(0),
        DataType::FixedSizeList(item, items) => {
            let item = fixed(item.data_type()).max(1);
            u64::try_from(*items).unwrap_or(0).saturating_mul(item)
        }
        DataType::Struct(fields) => fields
            .iter()
            .map(|field| fixed(field.data_type()))
            .fold(0, u64::saturating_add),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::session::KafkaSessionBuilder;
    use crate::statement;

    async fn refusal(text: &str) -> Option<String> {
        let context = KafkaSessionBuilder::new().build().unwrap();
        let planned = statement::sql(&context, text).await;
        planned.err().map(|error| error.to_string())
    }

    #[tokio::test]
    async fn functions_that_make_much_of_little_are_refused_before_they_are_computed() {
        for call in [
            "repeat('x', 2000000000)",
            "repeat('x', 20000 * 100000)",
            "repeat('x', CAST('2000000000' AS BIGINT))",
            "repeat(repeat('x', 10000), 10000)",
            "upper(repeat(concat('x', 'y'), 100000000))",
            "lpad('x', 2000000000)",
            "rpad('x', 2000000000, 'ab')",
            "array_repeat(1, 2000000000)",
            "array_resize(make_array(1), 2000000000, 2)",
            "replace(repeat('x', 10000), 'x', repeat('y', 10000))",
            "regexp_replace(repeat('x', 10000), 'x', repeat('y', 10000), 'g')",
            "array_to_string(array_repeat('x', 10000), repeat('y', 10000))",
            "range(2000000000)",
            "range(0, 2000000000)",
            "generate_series(2000000000, 0, -1)",
            "generate_series(TIMESTAMP '2000-01-01', TIMESTAMP '2001-01-01', INTERVAL '1 microsecond')",
            "arrow_cast(NULL, 'FixedSizeList(2147483647 x Int8)')",
            "arrow_cast(NULL, 'FixedSizeBinary(2147483647)')",
            "CAST(NULL AS INT[2000000000])",
        ] {
            for text in [
                format!("SELECT {call}"),
                format!("SELECT 1 WHERE {call} IS NULL"),
                format!("WITH w AS (SELECT {call} AS a) SELECT * FROM w"),
                format!("SELECT 1 WHERE EXISTS (VALUES ({call}))"),
                format!("EXPLAIN SELECT {call}"),
            ] {
                let error = refusal(&text).await.unwrap_or_default();
                assert!(error.contains("fixed values"), "{text}: {error}");
            }
        }
        // Many values that are small individually.
        let many = vec!["repeat('x', 1000000)"; 17].join(", ");
        assert!(refusal(&format!("SELECT {many}")).await.is_some());
    }

    #[tokio::test]
    async fn usual_functions_of_fixed_values_are_computed() {
        for call in [
            "repeat('x', 1000000)",
            "repeat('', 2000000000)",
            "repeat('x', -1)",
            "lpad('x', 10, '-')",
            "array_repeat(repeat('x', 10), 100)",
            "replace('a.b', '.', '/')",
            "range(5)",
            "range(5, 0)",
            "generate_series(DATE '2000-01-01', DATE '2100-01-01', INTERVAL '1 day')",
            "arrow_cast(NULL, 'FixedSizeBinary(16)')",
            "repeat(column1, 2000000000)",
        ] {
            let text = format!("SELECT {call} FROM (VALUES ('x'))");
            assert_eq!(refusal(&text).await, None, "{text}");
        }
    }
}
