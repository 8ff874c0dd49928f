//! Finds fields of a line of CSV by their places. Their names are the statement's, which could choose them around a mask.

use super::way::{Salt, Way};
use crate::line::{Line, quoted};

/// A field of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// From 0 on.
    pub(super) place: usize,
    pub(super) delimiter: u8,
}

impl Field {
    /// Reads what is in the brackets: `2`, or `2 by ;`. Places count from 1 there.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (place, delimiter) = match text.split_once(" by ") {
            Some((place, delimiter)) => (place, delimiter.trim().as_bytes()),
            None => (text, &b","[..]),
        };
        let place: Option<usize> = place.trim().parse().ok();
        let place = place.and_then(|place| place.checked_sub(1));
        let delimiter = match delimiter {
            b"\\t" => b'\t',
            [byte] if byte.is_ascii() && *byte != b'"' => *byte,
            _ => return Err("fields are separated by one ASCII character, or \\t".to_owned()),
        };
        match place {
            Some(place) => Ok(Self { place, delimiter }),
            None => Err("a field of CSV is written csv[N] or csv[N by ;], from 1 on".to_owned()),
        }
    }
}

/// Appends the line without what is hidden to `to`. `None` if it is not one line, or lacks one of the fields, and so may
/// be something else.
pub(super) fn rewrite(
    line: &[u8],
    hidden: &[(Field, Way)],
    salt: &Salt,
    to: &mut Vec<u8>,
) -> Option<()> {
    let (Field { delimiter, .. }, _) = *hidden.first()?;
    if hidden.iter().any(|(field, _)| field.delimiter != delimiter) {
        return None;
    }
    let mut fields = Line::new(delimiter);
    let count = fields.split_all(line, delimiter)?;
    if hidden.iter().any(|(field, _)| field.place >= count) {
        return None;
    }
    let start = to.len();
    for place in 0..count {
        if place > 0 {
            to.push(delimiter);
        }
        let field = fields.field(place);
        let ways = hidden.iter().filter(|(hidden, _)| hidden.place == place);
        match ways.map(|(_, way)| *way).min() {
            // What is empty is NULL.
            Some(way) if !field.is_empty() => {
                quoted(&way.bytes(field, salt).unwrap_or_default(), delimiter, to);
            }
            _ => quoted(field, delimiter, to),
        }
    }
    if to.len() == start {
        // A line has at least one byte.
        to.extend_from_slice(b"\"\"");
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(line: &str, hidden: &[(&str, Way)]) -> Option<String> {
        let hidden: Vec<(Field, Way)> = (hidden.iter())
            .map(|(field, way)| (Field::parse(field).unwrap(), *way))
            .collect();
        let mut to = vec![];
        rewrite(line.as_bytes(), &hidden, &Salt::new("pepper"), &mut to)?;
        Some(String::from_utf8(to).unwrap())
    }

    #[test]
    fn a_field_is_hidden_by_its_place() {
        let null = Way::Null;
        for (line, hidden, shown) in [
            ("1,4111,x", &[("2", null)][..], Some("1,,x")),
            ("1,4111,x\r\n", &[("3", null), ("1", null)], Some(",4111,")),
            (
                "1,\"a,\"\"b\"\"\ncd\",x",
                &[("2", Way::Last(2))],
                Some("1,****cd,x"),
            ),
            (
                "1,abcd\"\"\"\",x",
                &[("2", Way::Last(2))],
                Some("1,\"****\"\"\"\"\",x"),
            ),
            ("1;4,1;\"y;\"", &[("2 by ;", null)], Some("1;;\"y;\"")),
            (
                "1\t4111",
                &[("2 by \\t", null), ("2 by \\t", Way::Last(2))],
                Some("1\t"),
            ),
            ("1,,x", &[("2", Way::Last(2))], Some("1,,x")),
            ("4111", &[("1", null)], Some("\"\"")),
            // It may be anything.
            ("1,4111", &[("3", null)], None),
            ("1,4111\n2,4111", &[("2", null)], None),
            ("1,\"4111", &[("2", null)], None),
            ("", &[("1", null)], None),
            ("1,4111;x", &[("1", null), ("2 by ;", null)], None),
        ] {
            assert_eq!(masked(line, hidden).as_deref(), shown, "{line}");
        }
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for text in [
            "", "0", "-1", "x", "2 by", "2 by ", "2 by \"", "2 by ;;", "2;",
        ] {
            assert!(Field::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// A decoder sees all other fields as they were.
        #[test]
        fn other_fields_stay(fields in prop::collection::vec("[ab,;\"\n\r\u{feff}é ]{0,5}", 1..6), place in 0usize..6) {
            let place = place % fields.len();
            let line = |fields: &[String]| {
                let mut line = vec![];
                for (at, field) in fields.iter().enumerate() {
                    if at > 0 {
                        line.push(b',');
                    }
                    quoted(field.as_bytes(), b',', &mut line);
                }
                if line.is_empty() {
                    line.extend_from_slice(b"\"\"");
                }
                line
            };
            let hidden = [(Field { place, delimiter: b',' }, Way::Null)];
            let mut to = vec![];
            let done = rewrite(&line(&fields), &hidden, &Salt::new("pepper"), &mut to);
            prop_assert!(done.is_some());
            let mut expected = fields;
            expected[place].clear();
            prop_assert_eq!(to, line(&expected));
        }

        #[test]
        fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..20), place in 0usize..4, delimiter in 0u8..128) {
            let hidden = [(Field { place, delimiter }, Way::Last(2))];
            let _ = rewrite(&line, &hidden, &Salt::new("pepper"), &mut vec![]);
        }
    }
}
