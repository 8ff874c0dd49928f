//! Kafka Connect's wrapper: `{"schema": …, "payload": …}`, as its JsonConverter writes it where
//! `schemas.enable` is on.

use jiter::Jiter;

use super::text::skip;

/// What is in the wrapper; `None` where there is none.
///
/// An object is one when it has these two fields and no other. What is no JSON is no wrapper either:
/// whoever reads it next says what is wrong.
pub(crate) fn unwrapped(json: &[u8]) -> Option<&[u8]> {
    let mut parser = Jiter::new(json);
    if parser.peek().ok()? != jiter::Peek::Object {
        return None;
    }
    let (mut schema, mut payload) = (false, None);
    let mut name = parser.known_object().ok()?;
    while let Some(key) = name {
        let of_payload = match key {
            "schema" => false,
            "payload" => true,
            _ => return None,
        };
        let peek = parser.peek().ok()?;
        let from = parser.current_index();
        skip(&mut parser, peek, 1).ok()?;
        match of_payload {
            true => payload = Some(parser.slice_to_current(from)),
            false => schema = true,
        }
        name = parser.next_key().ok()?;
    }
    parser.finish().ok()?;
    payload.filter(|_| schema)
}
