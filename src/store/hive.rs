//! Hive folders, `column=value`: one way to write and to read their names.
//!
//! The rules are those of Spark's `ExternalCatalogUtils` (`escapePathName`, `getPartitionPathString`), which
//! took them from Hive. Letters outside ASCII stay as they are. NULL and empty text share one folder: Spark
//! refuses a table with a folder `column=`. Where the two must be told apart, the value is kept elsewhere.

/// The value of a folder whose rows have none.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The folder of the rows with a value.
pub(crate) fn folder(column: &str, value: Option<&str>) -> String {
    let value = value.filter(|value| !value.is_empty());
    let value = value.map_or(NULL.to_owned(), escape);
    format!("{}={value}", escape(column))
}

/// The column and the value of a folder, whichever way a version before has escaped them.
pub(crate) fn read_folder(folder: &str) -> Option<(String, Option<String>)> {
    let (column, value) = folder.split_once('=')?;
    let value = (value != NULL).then(|| unescape(value));
    Some((unescape(column), value))
}

/// A path as it is written now. Exports of versions before have escaped letters outside ASCII, and more.
pub(crate) fn as_written_now(path: &str) -> String {
    let parts = path.split('/').map(|part| match read_folder(part) {
        Some((column, value)) => folder(&column, value.as_deref()),
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Text as part of a path: `%XX` for what Spark escapes, on whichever system, and for `}`.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"'
            | '#'
            | '%'
            | '\''
            | '*'
            | '/'
            | ':'
            | '='
            | '?'
            | '\\'
            | '{'
            | '}'
            | '['
            | ']'
            | '^'
            | '<'
            | '>'
            | '|'
            | '\0'..'\u{20}'
            | '\u{7f}' => {
                escaped.push_str(&format!("%{:02X}", c as u32));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

fn unescape(text: &str) -> String {
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
    fn folders_are_named_as_spark_does() {
        for (value, name) in [
            (Some("2026-01-14"), "2026-01-14"),
            (Some("x/y=1 %é\n"), "x%2Fy%3D1 %25é%0A"),
            (Some("日本, (a&b)~"), "日本, (a&b)~"),
            (Some("a:b#c?d*e\"'\\"), "a%3Ab%23c%3Fd%2Ae%22%27%5C"),
            (Some(""), NULL),
            (None, NULL),
        ] {
            assert_eq!(folder("c d", value), format!("c d={name}"));
        }
        assert_eq!(folder("ä=b", Some("1")), "ä%3Db=1");
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [
            "a/b=c:d%",
            "é",
            "日本",
            "%41",
            "..",
            " ",
            "\0\u{1}\n\u{7f}",
            "{}[]<>|^",
        ] {
            let folder = folder("ä b", Some(value));
            assert!(!folder.contains(['/', '\n', '\0']), "{folder}");
            let read = read_folder(&folder).unwrap();
            assert_eq!(read, ("ä b".to_owned(), Some(value.to_owned())));
        }
        assert_eq!(
            read_folder(&folder("x", None)),
            Some(("x".to_owned(), None))
        );
        assert_eq!(read_folder("no folder of Hive"), None);
        assert_eq!(
            read_folder("x="),
            Some(("x".to_owned(), Some(String::new())))
        );
    }

    #[test]
    fn folders_of_versions_before_have_a_name_of_now() {
        let before = "orders/k=%C3%A9%2C%7E%2F %25/partition=3";
        assert_eq!(as_written_now(before), "orders/k=é,~%2F %25/partition=3");
        for same in [
            "orders/partition=3",
            "",
            "%41/k=__HIVE_DEFAULT_PARTITION__/partition=0",
        ] {
            assert_eq!(as_written_now(same), same);
        }
    }
}
