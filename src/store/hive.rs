//! Hive folders, `column=value`: how their names are written and read.

/// What Hive calls the folder of rows without a value.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

pub(crate) fn folder_value(value: &str) -> String {
    if value.is_empty() {
        return NULL_FOLDER.to_owned();
    }
    escaped(value)
}

/// Percent-encodes what file systems, stores or readers of Hive folders would take for their own.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'+' | b' ' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The name and the value that a folder stands for.
pub(crate) fn read_folder(folder: &str) -> Option<(String, Option<String>)> {
    let (name, value) = folder.split_once('=')?;
    let value = (value != NULL_FOLDER).then(|| unescaped(value));
    Some((unescaped(name), value))
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(code) if *byte == b'%' => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_safe_names() {
        assert_eq!(folder_value("2026-01-14"), "2026-01-14");
        assert_eq!(folder_value("a/b=c:d%"), "a%2Fb%3Dc%3Ad%25");
        assert_eq!(folder_value(""), NULL_FOLDER);
        assert_eq!(folder_value("é"), "%C3%A9");
        for value in ["a/b=c:d%", "é", "%41", "..", "\u{1}\n"] {
            let folder = format!("x={}", folder_value(value));
            assert!(
                !folder.contains(['/', '\n']) && folder.is_ascii(),
                "{folder}"
            );
            let read = read_folder(&folder).unwrap();
            assert_eq!(read, ("x".to_owned(), Some(value.to_owned())));
        }
        let null = read_folder(&format!("x={NULL_FOLDER}"));
        assert_eq!(null, Some(("x".to_owned(), None)));
    }
}
