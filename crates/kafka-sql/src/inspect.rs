//! The statements of `topics`, `offsets` and the like, which the shell's backslash commands share.

use datafusion::common::utils::quote_identifier;

use crate::failure::Failure;

/// The statement that lists tables: topics, and what the session made.
pub(crate) const TABLES_SQL: &str = "SELECT table_name, table_type FROM information_schema.tables \
     WHERE table_schema <> 'information_schema' ORDER BY table_name";

/// The statement that lists topics.
///
/// # Errors
/// When `/…/` is not a regular expression.
pub(crate) fn topics_sql(pattern: Option<&str>) -> Result<String, Failure> {
    let from = "SELECT * FROM kafka_topics()";
    let Some(pattern) = pattern else {
        return Ok(format!("{from} ORDER BY topic"));
    };
    let expression = topic_pattern(pattern)?;
    Ok(format!(
        "{from} WHERE topic ~ {} ORDER BY topic",
        literal(&expression)
    ))
}

/// The regular expression for a pattern of topic names: `/…/` unchanged and anchored, `*` and `?`
/// as in file names, anything else as a part of the name.
///
/// # Errors
/// When `/…/` is not a regular expression.
pub(crate) fn topic_pattern(pattern: &str) -> Result<String, Failure> {
    if let Some(inner) = pattern.strip_prefix('/').and_then(|p| p.strip_suffix('/')) {
        let anchored = format!("^(?:{inner})$");
        return match regex::Regex::new(&anchored) {
            Ok(_) => Ok(anchored),
            Err(_) => Err(Failure::usage(format!(
                "{pattern} is no regular expression"
            ))),
        };
    }
    if !pattern.contains(['*', '?']) {
        return Ok(regex::escape(pattern));
    }
    let mut out = String::from("^");
    for c in pattern.chars() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push('$');
    Ok(out)
}

/// The statement that shows what a range means.
pub(crate) fn offsets_sql(topic: &str, range: Option<&str>) -> String {
    let arguments = match range {
        Some(range) => format!("{}, {}", literal(topic), literal(range)),
        None => literal(topic),
    };
    format!("SELECT * FROM kafka_offsets({arguments}) ORDER BY topic, partition, start_offset")
}

/// The statement that lists the columns of a table, given as in SQL or as a bare topic name.
pub(crate) fn columns_sql(table: &str) -> String {
    format!("DESCRIBE {}", table_reference(table))
}

/// `table` as SQL can name it: quoted unless it is quoted or needs no quotes.
pub(crate) fn table_reference(table: &str) -> String {
    if table.starts_with('"') {
        return table.to_owned();
    }
    quote_identifier(table).into_owned()
}

/// `text` as an SQL string.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_anchored_expressions() {
        assert_eq!(topic_pattern("a.b").unwrap(), r"a\.b");
        assert_eq!(topic_pattern("a.*").unwrap(), r"^a\..*$");
        assert_eq!(topic_pattern("o?d").unwrap(), "^o.d$");
        assert_eq!(topic_pattern("/a|b/").unwrap(), "^(?:a|b)$");
        assert_eq!(topic_pattern("/(/").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn names_are_quoted_where_sql_needs_it() {
        assert_eq!(columns_sql("orders"), "DESCRIBE orders");
        assert_eq!(columns_sql("my.topic-name"), r#"DESCRIBE "my.topic-name""#);
        assert_eq!(
            columns_sql(r#"prod.topics."x""#),
            r#"DESCRIBE "prod.topics.""x""""#
        );
        assert_eq!(columns_sql(r#""Orders""#), r#"DESCRIBE "Orders""#);
        assert_eq!(
            offsets_sql("o'x", Some("-1")),
            "SELECT * FROM kafka_offsets('o''x', '-1') ORDER BY topic, partition, start_offset"
        );
        assert!(topics_sql(Some("it's")).unwrap().contains("'it''s'"));
    }
}
