//! Text habits on bytes: what DataFusion refuses on binary columns, or would answer with an error
//! on the first record that is no UTF-8.
//!
//! `octet_length`, `bit_length`, `length` and `substr` count bytes when they are given bytes, as
//! PostgreSQL's do on `bytea`, and stay DataFusion's own on text. `LIKE` on bytes looks at those
//! that are UTF-8 text; on others it is NULL, so they do not match.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, Int64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, exec_err, internal_err, plan_err};
use datafusion::functions::{string, unicode};
use datafusion::logical_expr::expr::{Like, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

/// The functions that replace DataFusion's of the same name.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let on_bytes = |name, operation, on_text| {
        Arc::new(ScalarUDF::new_from_impl(OnBytes {
            name,
            operation,
            on_text,
            signature: Signature::user_defined(Volatility::Immutable),
        }))
    };
    vec![
        on_bytes("octet_length", Operation::OctetLength, string::octet_length()),
        on_bytes("bit_length", Operation::BitLength, string::bit_length()),
        on_bytes("length", Operation::OctetLength, unicode::character_length()),
        on_bytes("substr", Operation::Substr, unicode::substr()),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    /// Bytes: Int64.
    OctetLength,
    /// Bytes times eight: Int64.
    BitLength,
    /// Bytes from a position that counts from 1: BinaryView.
    Substr,
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
        let positions = arg_types.iter().skip(1).map(|_| DataType::Int64);
        Ok(std::iter::once(DataType::BinaryView).chain(positions).collect())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match (arg_types.first(), self.operation) {
            (Some(t), Operation::Substr) if is_bytes(t) => Ok(DataType::BinaryView),
            (Some(t), _) if is_bytes(t) => Ok(DataType::Int64),
            _ => self.on_text.return_type(arg_types),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields.first() {
            Some(first) if is_bytes(first.data_type()) => {
                let types: Vec<DataType> =
                    args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
                let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
                Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, nullable)))
            }
            _ => self.on_text.return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(first) = args.args.first().filter(|a| is_bytes(&a.data_type())) else {
            return self.on_text.invoke_with_args(args);
        };
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
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
            (Operation::Substr, _) => return internal_err!("substr takes 2 or 3 arguments"),
        };
        if scalar {
            let value = datafusion::common::ScalarValue::try_from_array(&result, 0)?;
            return Ok(ColumnarValue::Scalar(value));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// Lengths times `unit`, from the views alone: the bytes are not touched.
fn lengths(bytes: &BinaryViewArray, unit: i64) -> Int64Array {
    // The low 32 bits of a view are its length.
    let lengths = bytes.views().iter().map(|view| i64::from(*view as u32) * unit);
    Int64Array::new(lengths.collect(), bytes.nulls().cloned())
}

/// As `substr` on text, with bytes for characters: positions before the first count as well.
fn substr(bytes: &BinaryViewArray, from: &ArrayRef, count: Option<&ArrayRef>) -> Result<BinaryViewArray> {
    let from = from.as_primitive::<arrow::datatypes::Int64Type>();
    let count = count.map(|c| c.as_primitive::<arrow::datatypes::Int64Type>());
    let mut builder = BinaryViewBuilder::with_capacity(bytes.len());
    for row in 0..bytes.len() {
        let missing = bytes.is_null(row)
            || from.is_null(row)
            || count.is_some_and(|c| c.is_null(row));
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
        let position = |p: i64| usize::try_from((p.saturating_sub(1)).clamp(0, length)).unwrap_or(0);
        builder.append_value(value.get(position(start)..position(end)).unwrap_or(&[]));
    }
    Ok(builder.finish())
}

/// Lets `LIKE` and `ILIKE` on bytes pass over what is no text, where DataFusion's own cast fails.
#[derive(Debug)]
pub(crate) struct LikeOnBytes;

impl FunctionRewrite for LikeOnBytes {
    fn name(&self) -> &str {
        "kafka_like_on_bytes"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _config: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        let Expr::Like(like) = expr else {
            return Ok(Transformed::no(expr));
        };
        if !is_bytes(&like.expr.get_type(schema)?) {
            return Ok(Transformed::no(Expr::Like(like)));
        }
        let text = Expr::TryCast(TryCast::new(like.expr, DataType::Utf8View));
        Ok(Transformed::yes(Expr::Like(Like {
            expr: Box::new(text),
            ..like
        })))
    }
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
