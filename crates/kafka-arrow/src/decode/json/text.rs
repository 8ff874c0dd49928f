//! JSON as text: values that are skipped, or kept as they were written.

use std::borrow::Cow;

use jiter::Peek;

use super::DEPTH_MOST;
use super::scan::Scan;
use crate::decode::value::Fault;

type Outcome = std::result::Result<(), Fault>;

/// What messages call a value that begins like this.
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
            format!("arrays and objects are nested more than {DEPTH_MOST} deep"),
        ));
    }
    Ok(())
}

/// Passes over a value, which must still be valid JSON.
pub(super) fn skip(parser: &mut Scan<'_>, peek: Peek, depth: usize) -> Outcome {
    let depth = depth + 1;
    match peek {
        Peek::Array => {
            deeper(depth)?;
            let mut next = parser.array()?;
            while let Some(peek) = next {
                skip(parser, peek, depth)?;
                next = parser.next_item()?;
            }
        }
        Peek::Object => {
            deeper(depth)?;
            let mut more = parser.object()?;
            while more {
                parser.key()?;
                let peek = parser.peek()?;
                skip(parser, peek, depth)?;
                more = parser.next_key()?;
            }
        }
        // Decoded although it is skipped: half a surrogate or half a character is not JSON.
        Peek::String => {
            parser.text()?;
        }
        Peek::Null => parser.null()?,
        Peek::True | Peek::False => {
            parser.bool(peek)?;
        }
        _ => {
            parser.number(peek)?;
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
