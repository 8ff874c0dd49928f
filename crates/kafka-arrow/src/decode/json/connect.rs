//! Kafka Connect's wrapper: `{"schema": …, "payload": …}`, as its JsonConverter writes it where
//! `schemas.enable` is on.

use super::scan::Scan;
use super::text::skip;

/// The payload within the wrapper; `None` where there is no wrapper.
///
/// An object is a wrapper when it has exactly these two fields. Invalid JSON is not a wrapper either: the
/// next reader reports what is wrong with it.
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
