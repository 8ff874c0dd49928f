//! What is looked for in bytes: other bytes, or a regular expression.

use std::cell::RefCell;

use arrow::array::{Array, AsArray, BinaryViewArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::ColumnarValue;
use memchr::memmem::Finder;
use regex::bytes::Regex;

/// Where `bytes` have `needle` in them, which is bytes.
pub(super) fn contains(bytes: &BinaryViewArray, needle: &ColumnarValue) -> Result<BooleanArray> {
    let needles = needle.to_array(needle_rows(bytes, needle))?;
    let needles = cast(&needles, &DataType::BinaryView)?;
    let needles = needles.as_binary_view();
    if matches!(needle, ColumnarValue::Scalar(_)) {
        if needles.is_null(0) {
            return Ok(BooleanArray::new_null(bytes.len()));
        }
        let finder = Finder::new(needles.value(0));
        let found = |bytes: Option<&[u8]>| bytes.map(|bytes| finder.find(bytes).is_some());
        return Ok(bytes.iter().map(found).collect());
    }
    let pairs = bytes.iter().zip(needles);
    Ok(pairs
        .map(|(bytes, needle)| Some(Finder::new(needle?).find(bytes?).is_some()))
        .collect())
}

/// Where `bytes` match the regular expression `pattern`, which is text.
///
/// # Errors
/// When it is no regular expression.
pub(super) fn matches(bytes: &BinaryViewArray, pattern: &ColumnarValue) -> Result<BooleanArray> {
    let patterns = pattern.to_array(needle_rows(bytes, pattern))?;
    let patterns = cast(&patterns, &DataType::Utf8View)?;
    let patterns = patterns.as_string_view();
    if matches!(pattern, ColumnarValue::Scalar(_)) {
        if patterns.is_null(0) {
            return Ok(BooleanArray::new_null(bytes.len()));
        }
        return with_regex(patterns.value(0), |regex| {
            let found = |bytes: Option<&[u8]>| bytes.map(|bytes| regex.is_match(bytes));
            bytes.iter().map(found).collect()
        });
    }
    let pairs = bytes.iter().zip(patterns);
    pairs
        .map(|pair| match pair {
            (Some(bytes), Some(pattern)) => {
                with_regex(pattern, |regex| Some(regex.is_match(bytes)))
            }
            _ => Ok(None),
        })
        .collect()
}

fn needle_rows(bytes: &BinaryViewArray, needle: &ColumnarValue) -> usize {
    match needle {
        ColumnarValue::Scalar(_) => 1,
        ColumnarValue::Array(_) => bytes.len(),
    }
}

/// Compiling takes longer than matching a batch, so a thread keeps what it used last.
fn with_regex<T>(pattern: &str, work: impl FnOnce(&Regex) -> T) -> Result<T> {
    thread_local! {
        static LAST: RefCell<Option<Regex>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        let regex = match last {
            Some(regex) if regex.as_str() == pattern => regex,
            last => {
                let regex = Regex::new(pattern).map_err(|error| {
                    exec_datafusion_err!("'{pattern}' is no regular expression: {error}")
                })?;
                last.insert(regex)
            }
        };
        Ok(work(regex))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, StringArray};
    use datafusion::common::ScalarValue;

    use super::*;

    fn shown(found: &BooleanArray) -> String {
        let letter = |found| match found {
            None => '-',
            Some(true) => 'y',
            Some(false) => 'n',
        };
        found.iter().map(letter).collect()
    }

    #[test]
    fn bytes_are_found_in_bytes_that_are_no_text() {
        let bytes: BinaryViewArray = [Some(&b"\xff'a%\\b"[..]), None, Some(b""), Some(b"a%")]
            .into_iter()
            .collect();
        let scalar =
            |needle: &[u8]| ColumnarValue::Scalar(ScalarValue::Binary(Some(needle.to_vec())));
        for (needle, expected) in [
            (&b"a%"[..], "y-ny"),
            (b"\xff'", "y-nn"),
            (b"%\\b", "y-nn"),
            (b"a_", "n-nn"),
            (b"", "y-yy"),
        ] {
            let found = contains(&bytes, &scalar(needle)).unwrap();
            assert_eq!(shown(&found), expected, "{needle:?}");
        }
        let null = ColumnarValue::Scalar(ScalarValue::Binary(None));
        assert_eq!(shown(&contains(&bytes, &null).unwrap()), "----");
        let each: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![
            Some(b"b"),
            Some(b"b"),
            Some(b"b"),
            None,
        ]));
        let each = ColumnarValue::Array(each);
        assert_eq!(shown(&contains(&bytes, &each).unwrap()), "y-n-");
    }

    #[test]
    fn expressions_match_bytes() {
        let bytes: BinaryViewArray = [Some(&b"\xff a1"[..]), None, Some("ü".as_bytes())]
            .into_iter()
            .collect();
        let scalar =
            |pattern: &str| ColumnarValue::Scalar(ScalarValue::Utf8View(Some(pattern.to_owned())));
        for (pattern, expected) in [
            ("[a-z][0-9]$", "y-n"),
            ("^.$", "n-y"),
            (r"(?-u)^\xff", "y-n"),
            ("(?i)A1", "y-n"),
        ] {
            let found = matches(&bytes, &scalar(pattern)).unwrap();
            assert_eq!(shown(&found), expected, "{pattern}");
        }
        let wrong = matches(&bytes, &scalar("(")).unwrap_err();
        assert!(
            wrong.to_string().contains("'(' is no regular expression"),
            "{wrong}"
        );
        let each: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("a"), None]));
        let each = ColumnarValue::Array(each);
        assert_eq!(shown(&matches(&bytes, &each).unwrap()), "y--");
    }
}
