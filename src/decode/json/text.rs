//! JSON as text: values that are passed over, or kept as they were written.

use std::borrow::Cow;

use jiter::{Jiter, Peek};

use super::{DEPTH_MOST, syntax};
use crate::decode::value::Fault;

type Outcome = std::result::Result<(), Fault>;

/// What a value that begins so is called.
pub(super) fn kind(peek: Peek) -> String {
    match peek {
        Peek::Null => "null".to_owned(),
        Peek::True | Peek::False => "a boolean".to_owned(),
        Peek::String => "a text".to_owned(),
        Peek::Array => "an array".to_owned(),
        Peek::Object => "an object".to_owned(),
        other if other.is_num() => "a number".to_owned(),
        other => format!("the byte {:#04x}", other.into_inner()),
    }
}

pub(super) fn deeper(depth: usize) -> Outcome {
    if depth > DEPTH_MOST {
        return Err(Fault::new(
            "syntax",
            format!("arrays and objects lie more than {DEPTH_MOST} deep within each other"),
        ));
    }
    Ok(())
}

/// Passes over a value; it must be JSON all the same.
pub(super) fn skip(parser: &mut Jiter<'_>, peek: Peek, depth: usize) -> Outcome {
    let depth = depth + 1;
    match peek {
        Peek::Array => {
            deeper(depth)?;
            let mut next = parser.known_array().map_err(syntax)?;
            while let Some(peek) = next {
                skip(parser, peek, depth)?;
                next = parser.array_step().map_err(syntax)?;
            }
        }
        Peek::Object => {
            deeper(depth)?;
            let mut more = parser.known_object().map_err(syntax)?.is_some();
            while more {
                let peek = parser.peek().map_err(syntax)?;
                skip(parser, peek, depth)?;
                more = parser.next_key().map_err(syntax)?.is_some();
            }
        }
        // Not merely passed over: half a surrogate or half a character is no JSON.
        Peek::String => {
            parser.known_str().map_err(syntax)?;
        }
        Peek::Null => parser.known_null().map_err(syntax)?,
        Peek::True | Peek::False => {
            parser.known_bool(peek).map_err(syntax)?;
        }
        _ => {
            parser.known_number_bytes(peek).map_err(syntax)?;
        }
    }
    Ok(())
}

/// JSON without the spaces around its values.
pub(super) fn compact(json: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(json);
    if !text.contains([' ', '\n', '\r', '\t']) {
        return text;
    }
    let (mut quoted, mut escaped) = (false, false);
    let kept = text.chars().filter(|&c| {
        let keep = quoted || !matches!(c, ' ' | '\n' | '\r' | '\t');
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        }
        keep
    });
    Cow::Owned(kept.collect())
}
