//! Finds what is hidden in a JSON text, and writes the text anew around it. All other bytes stay as they are.

use std::borrow::Cow;

use super::path::{Field, Places};
use super::way::Way;

/// How deep arrays and objects may be nested, as for the decoder of JSON.
const DEPTH_MOST: usize = 128;
/// Appends the text without what is hidden at these places to `to`. `None` if it is neither an object nor an array of JSON.
pub(super) fn rewrite(text: &[u8], places: &Places<'_>, to: &mut Vec<u8>) -> Option<()> {
    let mut scan = Scan {
        text: std::str::from_utf8(text).ok()?,
        at: 0,
        written: 0,
        to,
    };
    scan.blanks();
    // A number may be the bytes of anything, and a text may hold JSON.
    matches!(scan.peek()?, b'{' | b'[' | b'n').then_some(())?;
    scan.value(places, 0)?;
    scan.blanks();
    (scan.at == text.len()).then_some(())?;
    scan.write_up_to(text.len());
    Some(())
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// Up to here the text is in `to`.
    written: usize,
    to: &'a mut Vec<u8>,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.blanks();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Passes a value, and writes what takes the place of what is hidden in it.
    fn value(&mut self, places: &Places<'_>, depth: usize) -> Option<()> {
        if depth > DEPTH_MOST {
            return None;
        }
        self.blanks();
        match self.peek()? {
            b'{' => self.object(places, depth),
            b'[' => self.array(places, depth),
            b'"' => self.string().map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, places: &Places<'_>, depth: usize) -> Option<()> {
        self.expect(b'{')?;
        self.blanks();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.blanks();
            let name = self.string()?;
            self.expect(b':')?;
            self.blanks();
            self.field(&name, places, depth)?;
            self.blanks();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn field(&mut self, name: &str, places: &Places<'_>, depth: usize) -> Option<()> {
        match places.field(std::iter::once(name)) {
            Field::Hidden(way) => self.hide(way, places, depth),
            Field::Shown(inside) => self.value(&inside, depth + 1),
        }
    }

    fn array(&mut self, places: &Places<'_>, depth: usize) -> Option<()> {
        self.expect(b'[')?;
        self.blanks();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value(places, depth + 1)?;
            self.blanks();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Passes a value and writes what takes its place. NULL stays NULL.
    fn hide(&mut self, way: Way, places: &Places<'_>, depth: usize) -> Option<()> {
        let start = self.at;
        let shown = match self.peek()? {
            b'"' => {
                let text = self.string()?;
                way.text(&text, places.salt)
            }
            first => {
                self.value(&places.nowhere(), depth + 1)?;
                let text = self.text.get(start..self.at)?;
                match first {
                    b'n' => None,
                    b'-' | b'0'..=b'9' => way.text(text, places.salt),
                    _ => way.other(text.as_bytes(), places.salt),
                }
            }
        };
        self.write_up_to(start);
        match shown {
            Some(shown) => serde_json::to_writer(&mut *self.to, &shown).ok()?,
            None => self.to.extend_from_slice(b"null"),
        }
        self.written = self.at;
        Some(())
    }

    fn write_up_to(&mut self, end: usize) {
        let rest = self.text.as_bytes().get(self.written..end);
        self.to.extend_from_slice(rest.unwrap_or_default());
        self.written = end;
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text
            .get(self.at..)?
            .starts_with(word)
            .then(|| self.at += word.len())
    }

    /// A string with its escapes resolved.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        (self.peek()? == b'"').then_some(())?;
        let mut at = start + 1;
        loop {
            match bytes.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        let inner = self.text.get(start + 1..at)?;
        if inner.bytes().all(|byte| byte != b'\\' && byte >= b' ') {
            return Some(Cow::Borrowed(inner));
        }
        // It refuses what is no string, such as half of a surrogate pair.
        serde_json::from_str(self.text.get(start..self.at)?)
            .ok()
            .map(Cow::Owned)
    }

    fn number(&mut self) -> Option<()> {
        let digits = |scan: &mut Self| {
            let from = scan.at;
            while matches!(scan.peek(), Some(b'0'..=b'9')) {
                scan.at += 1;
            }
            (scan.at > from).then_some(scan.at - from)
        };
        if self.peek()? == b'-' {
            self.at += 1;
        }
        let leads_with_zero = self.peek()? == b'0';
        if digits(self)? > 1 && leads_with_zero {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::path::Path;
    use super::super::way::Salt;
    use super::*;

    fn masked(text: &str, paths: &[(&str, Way)]) -> Option<String> {
        let parsed: Vec<(Path, Way)> = (paths.iter())
            .map(|(path, way)| (Path::parse(path).unwrap(), *way))
            .collect();
        let paths: Vec<(&Path, Way)> = parsed.iter().map(|(path, way)| (path, *way)).collect();
        let mut to = vec![];
        let salt = Salt::new("pepper");
        rewrite(text.as_bytes(), &Places::new(&paths, &salt), &mut to)?;
        Some(String::from_utf8(to).unwrap())
    }

    #[test]
    fn a_path_is_hidden_and_all_other_bytes_stay() {
        for (path, text, shown) in [
            (
                ".card",
                r#" {"a": 1.50, "card" : "4111" } "#,
                r#" {"a": 1.50, "card" : null } "#,
            ),
            (".card", r#"{"Card":[1,{"x":2}]}"#, r#"{"Card":null}"#),
            (
                ".card",
                r#"{"c\u0061rd":1,"card":2}"#,
                r#"{"c\u0061rd":null,"card":null}"#,
            ),
            (".card", r#"{"o":{"card":1}}"#, r#"{"o":{"card":1}}"#),
            (
                "..card",
                r#"{"o":[{"card":1}]}"#,
                r#"{"o":[{"card":null}]}"#,
            ),
            (
                "..o.card",
                r#"{"x":{"o":{"card":1}},"o":2}"#,
                r#"{"x":{"o":{"card":null}},"o":2}"#,
            ),
            (
                ".a.b",
                r#"[{"a":[{"b":1,"c":2}]}]"#,
                r#"[{"a":[{"b":null,"c":2}]}]"#,
            ),
            (".a[*].b", r#"{"a":[{"b":1}]}"#, r#"{"a":[{"b":null}]}"#),
            (
                ".*.b",
                r#"{"a":{"b":1},"b":2}"#,
                r#"{"a":{"b":null},"b":2}"#,
            ),
            ("['a.b']", r#"{"a.b":1}"#, r#"{"a.b":null}"#),
            (
                ".card",
                r#"{"schema":{},"payload":{"card":1}}"#,
                r#"{"schema":{},"payload":{"card":null}}"#,
            ),
            (".card", "null", "null"),
        ] {
            assert_eq!(
                masked(text, &[(path, Way::Null)]).as_deref(),
                Some(shown),
                "{path} {text}"
            );
        }
    }

    #[test]
    fn texts_and_numbers_become_texts() {
        let text = r#"{"a":"41111\"11\u00e9","b":4111111111,"c":true,"d":{"x":1},"e":null}"#;
        let all = |way| {
            masked(
                text,
                &[
                    ("..a", way),
                    (".b", way),
                    (".c", way),
                    (".d", way),
                    (".e", way),
                ],
            )
            .unwrap()
        };
        assert_eq!(
            all(Way::Last(4)),
            r#"{"a":"****\"11é","b":"****1111","c":null,"d":null,"e":null}"#
        );
        let hashed: serde_json::Value = serde_json::from_str(&all(Way::Hash)).unwrap();
        for name in ["a", "b", "c", "d"] {
            assert_eq!(hashed[name].as_str().unwrap().len(), 32, "{name}");
        }
        assert!(hashed["e"].is_null());
        // The strictest way counts.
        assert_eq!(
            masked(
                r#"{"a":"12345678"}"#,
                &[(".a", Way::Last(4)), ("..a", Way::Null)]
            )
            .unwrap(),
            r#"{"a":null}"#
        );
    }

    #[test]
    fn what_is_no_json_is_not_rewritten() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for text in [
            "",
            "4111",
            "\"4111\"",
            "true",
            "{",
            "{\"card\":1",
            "{\"card\":1}x",
            "{card:1}",
            "{\"card\":01}",
            "{\"card\":NaN}",
            "{\"card\":1,}",
            "[1,]",
            "{\"card\":\"\\ud800\"}",
            "{\"a\":\"\n\"}",
            "\"\\",
            "-",
            "1.",
            "1e",
            "tru",
            &deep,
        ] {
            assert_eq!(masked(text, &[(".card", Way::Null)]), None, "{text}");
        }
        let salt = Salt::new("");
        let nowhere = Places::new(&[], &salt);
        assert!(rewrite(b"{\"a\":\"\xff\"}", &nowhere, &mut vec![]).is_none());
    }

    /// Lists and objects within each other.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("false".to_owned()),
            "-?[1-9][0-9]{0,2}(\\.[0-9])?([eE][+-]?[0-9])?",
            r#""([a-c ]|\\u004[1-9]|\\[nt"\\]){0,3}""#,
        ];
        let nested = leaf.prop_recursive(4, 24, 4, |inner| {
            let field = (r#""[a-y]{1,2}""#, inner.clone());
            let field = field.prop_map(|(name, value)| format!("{name} : {value}"));
            prop_oneof![
                vec(inner, 0..4).prop_map(|items| format!("[ {} ]", items.join(","))),
                vec(field, 0..4).prop_map(|fields| format!("{{{}}}", fields.join(" ,"))),
            ]
        });
        nested.prop_map(|value| format!("[{value}]"))
    }

    proptest! {
        #[test]
        fn what_is_json_is_what_serde_takes_for_it(
            whole in json(),
            spoiled in proptest::option::of((any::<Index>(), r#"[\[\]{}",:0-9a\\ue. -]"#)),
        ) {
            let mut text = whole;
            if let Some((at, with)) = spoiled {
                let at = at.index(text.len());
                text.replace_range(at..=at, &with);
            } else {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            }
            let json = serde_json::from_str::<serde_json::Value>(&text);
            let is_json = json.is_ok_and(|json| json.is_object() || json.is_array() || json.is_null());
            let found = masked(&text, &[("..zz", Way::Null)]);
            // A number that no f64 holds is JSON all the same.
            if found.is_some() != is_json {
                prop_assert!(text.contains(['e', 'E']), "{text}");
            }
            if let Some(found) = found {
                prop_assert_eq!(found, text);
            }
        }

        #[test]
        fn nothing_hidden_stays(names in proptest::collection::vec("[a-cA-C]", 1..6), secret in "[a-z]{12}") {
            let mut text = format!("\"{secret}\"");
            for name in &names {
                text = format!("{{\"x\":[1],\"{name}\":[{text}]}}");
            }
            let found = masked(&text, &[("..a", Way::Hash), ("..b", Way::Null), ("..c", Way::Last(3))]).unwrap();
            prop_assert!(!found.contains(&secret), "{found}");
        }
    }
}
