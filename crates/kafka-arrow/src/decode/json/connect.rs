//! Kafka Connect's wrapper: `{"schema": …, "payload": …}`, as its JsonConverter writes it where
//! `schemas.enable` is on.

use super::scan::Scan;
use super::text::skip;

/// What is in the wrapper; `None` where there is none.
///
/// An object is one when it has these two fields and no other. What is no JSON is no wrapper either:
/// whoever reads it next says what is wrong.
pub fn unwrapped(json: &[u8]) -> Option<&[u8]> {
    let mut parser = Scan::new(json);
    if parser.peek().ok()? != jiter::Peek::Object {
        return None;
    }
    let (mut schema, mut payload) = (false, None);
    let mut more = parser.object().ok()?;
    while more {
        let of_payload = match parser.key().ok()?.as_ref() {
            "schema" => false,
            "payload" => true,
            _ => return None,
        };
        let peek = parser.peek().ok()?;
        let from = parser.at();
        skip(&mut parser, peek, 1).ok()?;
        match of_payload {
            true => payload = Some(parser.since(from)),
            false => schema = true,
        }
        more = parser.next_key().ok()?;
    }
    parser.finish().ok()?;
    payload.filter(|_| schema)
}
