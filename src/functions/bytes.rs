//! Makes functions and operators for text work on bytes. DataFusion refuses them on binary columns, or fails
//! on the first record that is not UTF-8.
//!
//! `octet_length`, `bit_length`, `length` and `substr` count bytes when given bytes, like PostgreSQL's on
//! `bytea`. `contains` and `regexp_like` search bytes, also those that are no text. On text they all stay
//! DataFusion's own. `kafka_text` turns UTF-8 bytes into text and others into
//! NULL, where a cast would fail the query. `LIKE` and regular expressions on bytes use it, so bytes that are
//! not text never match. Comparisons with text compare bytes.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, Int64Array, StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::utils::take_function_args;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::functions::{regex, string, unicode};
use datafusion::logical_expr::expr::{BinaryExpr, Cast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::find;

/// The functions that replace DataFusion's functions of the same name.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        on_bytes(
            "octet_length",
            Operation::OctetLength,
            string::octet_length(),
        ),
        on_bytes("bit_length", Operation::BitLength, string::bit_length()),
        on_bytes(
            "length",
            Operation::OctetLength,
            unicode::character_length(),
        ),
        substr_function(),
        on_bytes("contains", Operation::Contains, string::contains()),
        on_bytes("regexp_like", Operation::RegexpLike, regex::regexp_like()),
        text_function(),
    ]
}

fn on_bytes(name: &'static str, operation: Operation, on_text: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(OnBytes {
        name,
        operation,
        on_text,
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

fn substr_function() -> Arc<ScalarUDF> {
    on_bytes("substr", Operation::Substr, unicode::substr())
}

/// Plans SQL's own syntax for substrings, including `substr(…)`. DataFusion would plan it without consulting
/// the registered functions.
#[derive(Debug)]
pub(crate) struct SubstringOfBytes;

impl ExprPlanner for SubstringOfBytes {
    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(substr_function().call(args)))
    }
}

fn text_function() -> Arc<ScalarUDF> {
    let types = [DataType::BinaryView, DataType::Utf8View];
    let one_of = types.map(|t| TypeSignature::Exact(vec![t]));
    Arc::new(ScalarUDF::new_from_impl(TextOfBytes {
        signature: Signature::one_of(one_of.to_vec(), Volatility::Immutable),
    }))
}

/// `kafka_text(bytes)`: Utf8View, NULL where the bytes are not UTF-8.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextOfBytes {
    signature: Signature,
}

impl ScalarUDFImpl for TextOfBytes {
    fn name(&self) -> &str {
        "kafka_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [bytes] = take_function_args(self.name(), args.args)?;
        if bytes.data_type() == DataType::Utf8View {
            return Ok(bytes);
        }
        Ok(match bytes {
            ColumnarValue::Array(array) => {
                ColumnarValue::Array(Arc::new(text(array.as_binary_view())))
            }
            ColumnarValue::Scalar(ScalarValue::BinaryView(bytes)) => {
                let text = bytes.and_then(|b| String::from_utf8(b).ok());
                ColumnarValue::Scalar(ScalarValue::Utf8View(text))
            }
            ColumnarValue::Scalar(other) => {
                return internal_err!("kafka_text takes bytes, found {other:?}");
            }
        })
    }
}

fn text(bytes: &BinaryViewArray) -> StringViewArray {
    match bytes.clone().to_string_view() {
        // If all are UTF-8, nothing is copied.
        Ok(text) => text,
        Err(_) => bytes
            .iter()
            .map(|b| b.and_then(|b| std::str::from_utf8(b).ok()))
            .collect(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    /// The number of bytes: Int64.
    OctetLength,
    /// Eight times the number of bytes: Int64.
    BitLength,
    /// Bytes from a position, counted from 1: BinaryView.
    Substr,
    /// Whether bytes have other bytes in them: Boolean.
    Contains,
    /// Whether bytes match a regular expression: Boolean.
    RegexpLike,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OnBytes {
    name: &'static str,
    operation: Operation,
    /// DataFusion's function, for text.
    on_text: Arc<ScalarUDF>,
    signature: Signature,
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    )
}

impl ScalarUDFImpl for OnBytes {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if !arg_types.first().is_some_and(is_bytes) {
            let fields: Vec<FieldRef> = arg_types
                .iter()
                .map(|t| Arc::new(Field::new("argument", t.clone(), true)))
                .collect();
            let fields = fields_with_udf(&fields, self.on_text.as_ref())?;
            return Ok(fields.iter().map(|f| f.data_type().clone()).collect());
        }
        let expected = match self.operation {
            Operation::OctetLength | Operation::BitLength => 1..=1,
            Operation::Substr => 2..=3,
            Operation::Contains | Operation::RegexpLike => 2..=2,
        };
        if !expected.contains(&arg_types.len()) {
            return plan_err!(
                "{} on bytes takes {} to {} arguments, found {}",
                self.name,
                expected.start(),
                expected.end(),
                arg_types.len()
            );
        }
        let other = match self.operation {
            Operation::Contains => DataType::BinaryView,
            Operation::RegexpLike => DataType::Utf8View,
            _ => DataType::Int64,
        };
        if let (DataType::BinaryView | DataType::Utf8View, [_, found]) = (&other, arg_types)
            && !(found.is_string() || found.is_null() || is_bytes(found))
        {
            return plan_err!("{} on bytes looks for text, found {found}", self.name);
        }
        let others = arg_types.iter().skip(1).map(|_| other.clone());
        Ok(std::iter::once(DataType::BinaryView)
            .chain(others)
            .collect())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match (arg_types.first(), self.operation) {
            (Some(t), Operation::Substr) if is_bytes(t) => Ok(DataType::BinaryView),
            (Some(t), Operation::Contains | Operation::RegexpLike) if is_bytes(t) => {
                Ok(DataType::Boolean)
            }
            (Some(t), _) if is_bytes(t) => Ok(DataType::Int64),
            _ => self.on_text.return_type(arg_types),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields.first() {
            Some(first) if is_bytes(first.data_type()) => {
                let types: Vec<DataType> = args
                    .arg_fields
                    .iter()
                    .map(|f| f.data_type().clone())
                    .collect();
                let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
                Ok(Arc::new(Field::new(
                    self.name,
                    self.return_type(&types)?,
                    nullable,
                )))
            }
            _ => self.on_text.return_field_from_args(args),
        }
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match args.first().map(|first| info.get_data_type(first)) {
            Some(Ok(first)) if !is_bytes(&first) => self.on_text.simplify(args, info),
            _ => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(first) = args.args.first().filter(|a| is_bytes(&a.data_type())) else {
            return self.on_text.invoke_with_args(args);
        };
        let scalar = args
            .args
            .iter()
            .all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let bytes = cast(&first.to_array(rows)?, &DataType::BinaryView)?;
        let bytes = bytes.as_binary_view();
        let result: ArrayRef = match (self.operation, &args.args[1..]) {
            (Operation::OctetLength, _) => Arc::new(lengths(bytes, 1)),
            (Operation::BitLength, _) => Arc::new(lengths(bytes, 8)),
            (Operation::Substr, [from]) => Arc::new(substr(bytes, &from.to_array(rows)?, None)?),
            (Operation::Substr, [from, count]) => {
                let (from, count) = (from.to_array(rows)?, count.to_array(rows)?);
                Arc::new(substr(bytes, &from, Some(&count))?)
            }
            (Operation::Contains, [needle]) => Arc::new(find::contains(bytes, needle)?),
            (Operation::RegexpLike, [pattern]) => Arc::new(find::matches(bytes, pattern)?),
            _ => return internal_err!("{}: the number of arguments was checked", self.name),
        };
        if scalar {
            let value = ScalarValue::try_from_array(&result, 0)?;
            return Ok(ColumnarValue::Scalar(value));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// Lengths times `unit`. It only reads the views and not the bytes.
fn lengths(bytes: &BinaryViewArray, unit: i64) -> Int64Array {
    // The low 32 bits of a view are its length.
    let lengths = bytes
        .views()
        .iter()
        .map(|view| i64::from(*view as u32) * unit);
    Int64Array::new(lengths.collect(), bytes.nulls().cloned())
}

/// Like `substr` on text, with bytes instead of characters. Positions before the first also count.
fn substr(
    bytes: &BinaryViewArray,
    from: &ArrayRef,
    count: Option<&ArrayRef>,
) -> Result<BinaryViewArray> {
    let from = from.as_primitive::<arrow::datatypes::Int64Type>();
    let count = count.map(|c| c.as_primitive::<arrow::datatypes::Int64Type>());
    let mut builder = BinaryViewBuilder::with_capacity(bytes.len());
    for row in 0..bytes.len() {
        let missing =
            bytes.is_null(row) || from.is_null(row) || count.is_some_and(|c| c.is_null(row));
        if missing {
            builder.append_null();
            continue;
        }
        let value = bytes.value(row);
        let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
        let start = from.value(row);
        let end = match count.map(|c| c.value(row)) {
            Some(count) if count < 0 => {
                return exec_err!("negative substring length not allowed: {count}");
            }
            Some(count) => start.saturating_add(count),
            None => i64::MAX,
        };
        let position =
            |p: i64| usize::try_from((p.saturating_sub(1)).clamp(0, length)).unwrap_or(0);
        builder.append_value(value.get(position(start)..position(end)).unwrap_or(&[]));
    }
    Ok(builder.finish())
}

/// Compares bytes with text as bytes, and matches patterns against bytes that are text. DataFusion would cast
/// the column to text and fail on the first record that is not.
#[derive(Debug)]
pub(crate) struct CompareBytes;

impl FunctionRewrite for CompareBytes {
    fn name(&self) -> &str {
        "kafka_compare_bytes"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _config: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        match expr {
            Expr::Like(mut like) if of_bytes(&like.expr, schema) => {
                like.expr = Box::new(text_function().call(vec![*like.expr]));
                Ok(Transformed::yes(Expr::Like(like)))
            }
            Expr::SimilarTo(mut like) if of_bytes(&like.expr, schema) => {
                like.expr = Box::new(text_function().call(vec![*like.expr]));
                Ok(Transformed::yes(Expr::SimilarTo(like)))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (left, right) = if is_pattern(op) && of_bytes(&left, schema) {
                    (text_function().call(vec![*left]), *right)
                } else if is_comparison(op) && of_bytes(&left, schema) {
                    let right = bytes_of_text(*right, schema);
                    (*left, right)
                } else if is_comparison(op) && of_bytes(&right, schema) {
                    (bytes_of_text(*left, schema), *right)
                } else {
                    let unchanged = BinaryExpr { left, op, right };
                    return Ok(Transformed::no(Expr::BinaryExpr(unchanged)));
                };
                let (left, right) = (Box::new(left), Box::new(right));
                Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr {
                    left,
                    op,
                    right,
                })))
            }
            Expr::InList(mut list) if of_bytes(&list.expr, schema) => {
                let items = list.list.into_iter();
                list.list = items.map(|item| bytes_of_text(item, schema)).collect();
                Ok(Transformed::yes(Expr::InList(list)))
            }
            Expr::Between(mut between) if of_bytes(&between.expr, schema) => {
                between.low = Box::new(bytes_of_text(*between.low, schema));
                between.high = Box::new(bytes_of_text(*between.high, schema));
                Ok(Transformed::yes(Expr::Between(between)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn of_bytes(expr: &Expr, schema: &DFSchema) -> bool {
    // An expression without a type of its own is not bytes.
    expr.get_type(schema).is_ok_and(|t| is_bytes(&t))
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(
        op,
        Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom
    )
}

fn is_pattern(op: Operator) -> bool {
    use Operator::{RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    matches!(
        op,
        RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch
    )
}

/// A text expression as bytes; any other expression is unchanged.
fn bytes_of_text(expr: Expr, schema: &DFSchema) -> Expr {
    use ScalarValue::{LargeUtf8, Utf8, Utf8View};
    if let Expr::Literal(Utf8(text) | Utf8View(text) | LargeUtf8(text), metadata) = &expr {
        let bytes = text.as_ref().map(|t| t.clone().into_bytes());
        return Expr::Literal(ScalarValue::BinaryView(bytes), metadata.clone());
    }
    if expr.get_type(schema).is_ok_and(|t| t.is_string()) {
        return Expr::Cast(Cast::new(Box::new(expr), DataType::BinaryView));
    }
    expr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_from_the_views() {
        let bytes: BinaryViewArray = [Some(&b"abc"[..]), None, Some(b""), Some(&[7; 300])]
            .into_iter()
            .collect();
        let expected = Int64Array::from(vec![Some(3), None, Some(0), Some(300)]);
        assert_eq!(lengths(&bytes, 1), expected);
    }

    #[test]
    fn substr_counts_positions_before_the_first() {
        let bytes: BinaryViewArray = vec![Some(&b"abcdef"[..]); 5].into_iter().collect();
        let from: ArrayRef = Arc::new(Int64Array::from(vec![2, 0, -2, 9, i64::MAX]));
        let count: ArrayRef = Arc::new(Int64Array::from(vec![3, 3, 4, 1, i64::MAX]));
        let cut = substr(&bytes, &from, Some(&count)).unwrap();
        let cut: Vec<&[u8]> = cut.iter().flatten().collect();
        assert_eq!(cut, [&b"bcd"[..], b"ab", b"a", b"", b""]);
    }
}
