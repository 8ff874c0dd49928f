//! The statements of the tools.

use std::collections::BTreeMap;

use datafusion::common::utils::quote_identifier;

/// What Kafka's columns begin with where those of values are asked for. No field begins so.
pub(super) const OWN_PREFIX: &str = "kafka-sql:";
/// Kafka's columns.
const COLUMNS: &str = "topic, partition, \"offset\", timestamp, key, value, headers";

/// What a record must have.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) topic: &'a str,
    pub(super) range: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    pub(super) contains: Option<&'a str>,
    pub(super) regex: Option<&'a str>,
    pub(super) headers: &'a BTreeMap<String, String>,
}

pub(super) fn topics(pattern: Option<&str>) -> String {
    let condition = pattern.map(|pattern| format!(" WHERE topic ~ {}", literal(pattern)));
    format!(
        "SELECT * FROM kafka_topics(){} ORDER BY topic",
        condition.unwrap_or_default()
    )
}

pub(super) fn partitions(topic: &str) -> String {
    format!(
        "SELECT * FROM kafka_offsets({}) ORDER BY partition",
        literal(topic)
    )
}

pub(super) fn columns(topic: &str) -> String {
    format!("SELECT * FROM {}", quote_identifier(topic))
}

/// A sample of records is read for its columns.
pub(super) fn json_columns(topic: &str) -> String {
    format!(
        "SELECT * FROM kafka({}, 'start:end', 'value.format=json', 'metadata.columns=offset', 'metadata.prefix={OWN_PREFIX}', 'on.bad.row=skip')",
        literal(topic)
    )
}

pub(super) fn records(topic: &str, partition: i32, offset: i64, count: u32) -> String {
    let end = offset.saturating_add(i64::from(count));
    let range = format!("{partition}={offset}:{end}");
    format!(
        "SELECT {COLUMNS} FROM kafka({}, {}) ORDER BY \"offset\"",
        literal(topic),
        literal(&range)
    )
}

/// # Errors
/// When nothing is looked for.
pub(super) fn search(search: &Search<'_>) -> Result<String, String> {
    let either = |function: &str, text: &str| {
        let text = literal(text);
        format!("({function}(value, {text}) OR {function}(key, {text}))")
    };
    let mut conditions = vec![];
    conditions.extend(search.key.map(|key| format!("key = {}", literal(key))));
    conditions.extend(search.contains.map(|text| either("contains", text)));
    conditions.extend(search.regex.map(|regex| either("regexp_like", regex)));
    conditions.extend(search.headers.iter().map(|(name, value)| {
        format!("has_header(headers, {}, {})", literal(name), literal(value))
    }));
    if conditions.is_empty() {
        return Err(
            "nothing to look for: give key, contains, regex or headers, or use query".to_owned(),
        );
    }
    let range = search.range.map(|range| format!(", {}", literal(range)));
    Ok(format!(
        "SELECT {COLUMNS} FROM kafka({}{}) WHERE {}",
        literal(search.topic),
        range.unwrap_or_default(),
        conditions.join(" AND ")
    ))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_quoted() {
        let headers = BTreeMap::from([("a'b".to_owned(), "c".to_owned())]);
        let made = search(&Search {
            topic: "o'x",
            range: Some("-5"),
            key: Some("k"),
            contains: Some("'; DROP"),
            regex: None,
            headers: &headers,
        });
        assert_eq!(
            made.unwrap(),
            "SELECT topic, partition, \"offset\", timestamp, key, value, headers FROM kafka('o''x', '-5') WHERE key = 'k' \
             AND (contains(value, '''; DROP') OR contains(key, '''; DROP')) AND has_header(headers, 'a''b', 'c')"
        );
        assert_eq!(
            records("t", 3, i64::MAX, 7),
            "SELECT topic, partition, \"offset\", timestamp, key, value, headers \
             FROM kafka('t', '3=9223372036854775807:9223372036854775807') ORDER BY \"offset\""
        );
        assert_eq!(columns("my.topic"), "SELECT * FROM \"my.topic\"");
        assert_eq!(
            topics(Some("^o'")),
            "SELECT * FROM kafka_topics() WHERE topic ~ '^o''' ORDER BY topic"
        );
    }

    #[test]
    fn a_search_looks_for_something() {
        let nothing = Search {
            topic: "t",
            range: None,
            key: None,
            contains: None,
            regex: None,
            headers: &BTreeMap::new(),
        };
        assert!(
            search(&nothing)
                .unwrap_err()
                .contains("nothing to look for")
        );
    }
}
