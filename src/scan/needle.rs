//! What can be said of a condition by looking at it: a text that a record must contain for it to be true, whether
//! evaluating it can fail, and whether it can be true for NULL.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column as ColumnExpr, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr,
    Literal, NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::condition::Conditions;
use crate::client::Needle;
use crate::decode::{RecordDecoder, Written};

type Expr = std::sync::Arc<dyn PhysicalExpr>;

/// The shortest text that is searched for: shorter ones are in most record batches.
const NEEDLE_BYTES_LEAST: usize = 3;

/// Functions of text that give a value for all arguments, and NULL for NULL.
const INFALLIBLE: [&str; 13] = [
    "kafka_text",
    "strpos",
    "contains",
    "starts_with",
    "ends_with",
    "octet_length",
    "bit_length",
    "length",
    "character_length",
    "lower",
    "upper",
    "json_get_str",
    "json_as_text",
];

/// A text that each record contains for which the conditions are true. Records without it can be left out only
/// if it cannot be seen that they were not looked at: no condition fails for them, and no policy counts them as bad.
pub(super) fn needle(
    conditions: &Conditions,
    projection: &[usize],
    decoder: &RecordDecoder,
) -> Option<Needle> {
    let checked = decoder.has_formats() && decoder.bad_rows().checks_all();
    if checked || decoder.keeps_bad() || !conditions.taken.iter().all(infallible) {
        return None;
    }
    let written = |place: usize| decoder.written(*projection.get(place)?);
    let needles = conditions.taken.iter();
    let needles = needles.filter_map(|expr| needle_of(expr, &written));
    let longest = needles.max_by_key(|needle| needle.bytes.len())?;
    (longest.bytes.len() >= NEEDLE_BYTES_LEAST).then_some(longest)
}

fn needle_of(expr: &Expr, written: &dyn Fn(usize) -> Option<Written>) -> Option<Needle> {
    let found = |expr: &Expr, text: Vec<u8>| match text_of(expr, written)? {
        Written::AsBytes => Some(Needle::new(text)),
        Written::AsJson if json_has_it_as_it_is(&text) => Some(Needle::new(text).in_json()),
        _ => None,
    };
    // A part of a text may be one of an array or an object, which is shown without the spaces in it.
    let part = |expr: &Expr, text: Vec<u8>| match text_of(expr, written)? {
        Written::AsJson => found(expr, longest(text.split(|byte| b",:[]{}".contains(byte)))?),
        _ => found(expr, text),
    };
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let (left, right) = (binary.left(), binary.right());
        return match binary.op() {
            Operator::And => {
                let both = [left, right].map(|side| needle_of(side, written));
                both.into_iter().flatten().max_by_key(|n| n.bytes.len())
            }
            Operator::Eq => match (literal(left), literal(right)) {
                (None, Some(text)) => found(left, text),
                (Some(text), None) => found(right, text),
                _ => None,
            },
            Operator::Gt | Operator::NotEq => {
                let strpos = function(left, "strpos").filter(|_| is_zero(right))?;
                let [text, searched] = strpos.args() else {
                    return None;
                };
                part(text, literal(searched)?)
            }
            _ => None,
        };
    }
    if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        let pattern = literal(like.pattern()).filter(|_| !like.negated())?;
        return match like.case_insensitive() {
            true => None,
            false => part(like.expr(), longest_run(&pattern)?),
        };
    }
    let names = ["contains", "starts_with", "ends_with"];
    let call = names.iter().find_map(|name| function(expr, name))?;
    match call.args() {
        [text, searched] => part(text, literal(searched)?),
        _ => None,
    }
}

/// How the payload writes the text that an expression is.
fn text_of(expr: &Expr, written: &dyn Fn(usize) -> Option<Written>) -> Option<Written> {
    if let Some(column) = expr.downcast_ref::<ColumnExpr>() {
        return written(column.index());
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return text_of(cast.expr(), written).filter(|_| infallible(expr));
    }
    let of = |name| function(expr, name).and_then(|call| call.args().first());
    if let Some(bytes) = of("kafka_text") {
        return text_of(bytes, written);
    }
    let json = of("json_get_str").or_else(|| of("json_as_text"))?;
    match text_of(json, written)? {
        Written::AsBytes => Some(Written::AsJson),
        _ => None,
    }
}

/// Whether JSON, if it has no backslash, contains this text wherever its value is the text. Numbers may be written
/// in other ways, and spaces stand between the parts of arrays and objects.
fn json_has_it_as_it_is(text: &[u8]) -> bool {
    let escaped = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\');
    let of_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eEinfINFaA".contains(byte);
    let is_compound = matches!(text.first(), Some(b'{' | b'['));
    !is_compound && !text.iter().any(escaped) && !text.iter().all(of_number)
}

/// The longest part of a LIKE pattern between its wildcards.
fn longest_run(pattern: &[u8]) -> Option<Vec<u8>> {
    let mut runs: Vec<Vec<u8>> = vec![vec![]];
    let mut bytes = pattern.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' | b'_' => runs.push(vec![]),
            // A wildcard behind it is none, and so is the backslash; its meaning elsewhere is not relied on.
            b'\\' => match bytes.next() {
                Some(escaped @ (b'%' | b'_' | b'\\')) => runs.last_mut()?.push(*escaped),
                _ => return None,
            },
            byte => runs.last_mut()?.push(*byte),
        }
    }
    runs.into_iter().max_by_key(Vec::len)
}

fn longest<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    texts.max_by_key(|text| text.len()).map(<[u8]>::to_vec)
}

fn function<'a>(expr: &'a Expr, name: &str) -> Option<&'a ScalarFunctionExpr> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    (call.fun().name() == name).then_some(call)
}

fn literal(expr: &Expr) -> Option<Vec<u8>> {
    use ScalarValue::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    match expr.downcast_ref::<Literal>()?.value() {
        Utf8(text) | Utf8View(text) | LargeUtf8(text) => text.clone().map(String::into_bytes),
        Binary(bytes) | BinaryView(bytes) | LargeBinary(bytes) => bytes.clone(),
        _ => None,
    }
}

fn is_zero(expr: &Expr) -> bool {
    use ScalarValue::{Int32, Int64};
    let literal = expr.downcast_ref::<Literal>();
    literal.is_some_and(|zero| matches!(zero.value(), Int32(Some(0)) | Int64(Some(0))))
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// Whether evaluating an expression never fails, whatever the values are.
pub(super) fn infallible(expr: &Expr) -> bool {
    let all = || expr.children().into_iter().all(infallible);
    if expr.is::<ColumnExpr>() || expr.is::<Literal>() {
        return true;
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        use Operator::{And, IsDistinctFrom, IsNotDistinctFrom, Or};
        let op = *binary.op();
        let logical = matches!(op, And | Or | IsDistinctFrom | IsNotDistinctFrom);
        return (logical || is_comparison(op)) && all();
    }
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return INFALLIBLE.contains(&call.fun().name()) && all();
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        // Between the ways to lay out text, and from text to bytes.
        let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::Utf8View);
        let bytes = |t: &DataType| matches!(t, DataType::Binary | DataType::BinaryView);
        let of_text = cast.expr().is::<Literal>() || function(cast.expr(), "kafka_text").is_some();
        let to = cast.cast_type();
        return of_text && (text(to) || bytes(to)) && all();
    }
    let simple = expr.is::<LikeExpr>() || expr.is::<InListExpr>() || expr.is::<NotExpr>();
    (simple || expr.is::<IsNullExpr>() || expr.is::<IsNotNullExpr>()) && all()
}

/// Whether a condition, which cannot fail, is never true where the columns at these places are NULL.
pub(super) fn rejects_nulls_of(expr: &Expr, of_part: &dyn Fn(usize) -> bool) -> bool {
    let null = |expr: &Expr| is_null_with(expr, of_part);
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let (left, right) = (binary.left(), binary.right());
        return match binary.op() {
            Operator::And => rejects_nulls_of(left, of_part) || rejects_nulls_of(right, of_part),
            Operator::Or => rejects_nulls_of(left, of_part) && rejects_nulls_of(right, of_part),
            op => is_comparison(*op) && (null(left) || null(right)),
        };
    }
    if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        return null(like.expr());
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        return null(list.expr());
    }
    if let Some(is) = expr.downcast_ref::<IsNotNullExpr>() {
        return null(is.arg());
    }
    null(expr)
}

/// Whether an expression is NULL where the columns at these places are.
fn is_null_with(expr: &Expr, of_part: &dyn Fn(usize) -> bool) -> bool {
    if let Some(column) = expr.downcast_ref::<ColumnExpr>() {
        return of_part(column.index());
    }
    let call = expr.downcast_ref::<ScalarFunctionExpr>();
    let call = call.filter(|call| INFALLIBLE.contains(&call.fun().name()));
    let first = call.and_then(|call| call.args().first());
    first.is_some_and(|text| is_null_with(text, of_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_part_of_a_pattern_is_searched_for() {
        let cases: [(&str, Option<&str>); 9] = [
            ("%needle%", Some("needle")),
            ("needle", Some("needle")),
            ("a%bcd_ef", Some("bcd")),
            ("%", Some("")),
            ("", Some("")),
            (r"%50\% off%", Some("50% off")),
            (r"a\\b%", Some(r"a\b")),
            (r"a\b%", None),
            (r"abc\", None),
        ];
        for (pattern, expected) in cases {
            let found = longest_run(pattern.as_bytes());
            let found = found.map(|run| String::from_utf8(run).unwrap());
            assert_eq!(found.as_deref(), expected, "{pattern}");
        }
    }

    #[test]
    fn what_json_may_write_in_other_ways_is_not_searched_for() {
        for text in ["order-17", "x y", "ÄÖ", "a/b", "17 €"] {
            assert!(json_has_it_as_it_is(text.as_bytes()), "{text}");
        }
        let others = [
            "17",
            "1.5e3",
            "inf",
            "NaN",
            "[1,2]",
            "{\"a\":1}",
            "a\"b",
            "a\\b",
            "a\nb",
        ];
        for text in others {
            assert!(!json_has_it_as_it_is(text.as_bytes()), "{text}");
        }
    }
}
