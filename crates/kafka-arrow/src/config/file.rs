//! Parses settings files, either librdkafka's `key=value` lines or Java's properties. The content tells
//! which.

/// One setting in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    /// The line on which it starts, counted from 1.
    pub(super) line: usize,
}

/// The settings in a file, in order.
///
/// A file is Java's if it has anything that only Java's format knows: a line continued after a backslash, a
/// `:` or blank as separator, or a key that only the Java client has. In librdkafka's files, a backslash is
/// just a backslash.
pub(super) fn parse(content: &str) -> Vec<Entry> {
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    if is_java(content) {
        java(content)
    } else {
        plain(content)
    }
}

fn is_comment(line: &str) -> bool {
    line.is_empty() || line.starts_with(['#', '!'])
}

fn is_java(content: &str) -> bool {
    const JAVA_KEYS: [&str; 6] = [
        "sasl.jaas.config",
        "ssl.truststore.",
        "ssl.keystore.type",
        "ssl.keystore.certificate.chain",
        "key.deserializer",
        "value.deserializer",
    ];
    content
        .lines()
        .map(str::trim_start)
        .filter(|l| !is_comment(l))
        .any(|line| {
            let key = line.split(['=', ':', ' ', '\t']).next().unwrap_or_default();
            let separator = line[key.len()..].trim_start();
            !separator.starts_with('=')
                || ends_in_continuation(line)
                || JAVA_KEYS.iter().any(|k| key.starts_with(k))
        })
}

/// Whether a line ends in an odd number of backslashes.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

fn plain(content: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (i, line) in content.lines().enumerate() {
        let line = line.trim();
        if is_comment(line) {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        entries.push(Entry {
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
            line: i + 1,
        });
    }
    entries
}

fn java(content: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut lines = content.lines().enumerate();
    while let Some((i, line)) = lines.next() {
        let line = line.trim_start();
        if is_comment(line) {
            continue;
        }
        let mut logical = line.to_owned();
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, more)) => logical.push_str(more.trim_start()),
                None => break,
            }
        }
        let (key, value) = split_java(&logical);
        entries.push(Entry {
            key: unescape(key),
            value: unescape(value).trim_end().to_owned(),
            line: i + 1,
        });
    }
    entries
}

/// Splits at the first unescaped `=`, `:` or blank. Blanks around the separator are dropped.
fn split_java(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (i, c) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if matches!(c, '=' | ':' | ' ' | '\t' | '\u{c}') {
            let rest = line[i..].trim_start();
            let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..i], value.trim_start());
        }
    }
    (line, "")
}

/// Resolves `\n`, `\t`, `\uXXXX` and the like. An unknown escape stands for its character.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut units: Vec<u16> = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let next = if c == '\\' { chars.next() } else { None };
        if next == Some('u') {
            let hex: String = chars.clone().take(4).collect();
            if let (4, Ok(unit)) = (hex.len(), u16::from_str_radix(&hex, 16)) {
                chars.nth(3);
                units.push(unit);
                continue;
            }
        }
        flush(&mut units, &mut out);
        match (c, next) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some('f')) => out.push('\u{c}'),
            ('\\', Some(other)) => out.push(other),
            (other, _) => out.push(other),
        }
    }
    flush(&mut units, &mut out);
    out
}

/// Decodes escaped code units, two of which may form one character.
fn flush(units: &mut Vec<u16>, out: &mut String) {
    out.extend(char::decode_utf16(units.drain(..)).map(|r| r.unwrap_or('\u{fffd}')));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(content: &str) -> Vec<(String, String)> {
        parse(content)
            .into_iter()
            .map(|e| (e.key, e.value))
            .collect()
    }

    #[test]
    fn librdkafka_file_keeps_backslashes() {
        let content = "# comment\nbootstrap.servers = a:9092,b:9092\n\nsasl.password=a\\nb=c\r\n";
        let expected = [
            ("bootstrap.servers", "a:9092,b:9092"),
            ("sasl.password", "a\\nb=c"),
        ];
        assert_eq!(pairs(content), expected.map(|(k, v)| (k.into(), v.into())));
    }

    #[test]
    fn java_file_resolves_escapes_and_continuations() {
        let content = "! comment\nsasl.jaas.config=a required \\\n    password=\"x\\\\y\";\n\
                       client.id : caf\\u00e9\nclient.rack r\\:1\n";
        let expected = [
            ("sasl.jaas.config", "a required password=\"x\\y\";"),
            ("client.id", "café"),
            ("client.rack", "r:1"),
        ];
        assert_eq!(pairs(content), expected.map(|(k, v)| (k.into(), v.into())));
    }

    #[test]
    fn lines_are_counted_through_continuations() {
        let entries = parse("a:1\nb=\\\n 2\nc=3\n");
        assert_eq!(
            entries.iter().map(|e| e.line).collect::<Vec<_>>(),
            [1, 2, 4]
        );
    }

    #[test]
    fn odd_ends_do_not_panic() {
        for content in [
            "\\",
            "a\\",
            "\\u12",
            "=",
            ":",
            "a=\\ud83d",
            "a=\\ud83d\\ude00",
            "\u{feff}",
        ] {
            parse(content);
        }
        assert_eq!(pairs("a:\\ud83d\\ude00"), [("a".into(), "😀".into())]);
    }
}
