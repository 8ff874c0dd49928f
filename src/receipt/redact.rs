//! Removes what looks like a secret from the text of a statement.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::config;

/// What stands in the place of a secret, and of a text that does not parse.
const REDACTED: &str = "[redacted]";

/// The statement with the values of secret settings replaced: `'sasl.password' 'x'`, as in OPTIONS,
/// and `'sasl.password=x'`, as in the arguments of table functions.
///
/// A statement without secrets comes back to the byte.
pub(super) fn without_secrets(sql: &str) -> String {
    // Not unescaped, so that what stays is printed as it was written.
    let mut tokenizer = Tokenizer::new(&PostgreSqlDialect {}, sql).with_unescape(false);
    let Ok(mut tokens) = tokenizer.tokenize() else {
        return REDACTED.to_owned();
    };
    let mut changed = false;
    let mut secret_next: Option<String> = None;
    // The words before, with the dots between them.
    let mut name = String::new();
    for token in &mut tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::Eq if secret_next.is_some() => continue,
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
                let redacted = match (secret_next.take(), text.split_once('=')) {
                    (Some(key), _) => hides(&key, text).then(|| REDACTED.to_owned()),
                    (None, Some((key, value))) => {
                        hides(key, value).then(|| format!("{key}={REDACTED}"))
                    }
                    (None, None) => {
                        secret_next = may_hide(text);
                        None
                    }
                };
                if let Some(redacted) = redacted {
                    *text = redacted;
                    changed = true;
                }
            }
            // An option may be written without quotes: `aws.secret_access_key 'x'`.
            Token::Word(word) => {
                if !name.ends_with('.') {
                    name.clear();
                }
                name.push_str(&word.value);
                secret_next = may_hide(&name);
            }
            Token::Period => name.push('.'),
            _ => {
                name.clear();
                secret_next = None;
            }
        }
    }
    if !changed {
        return sql.to_owned();
    }
    tokens.iter().map(ToString::to_string).collect()
}

/// The name of a setting whose value may be a secret.
fn may_hide(key: &str) -> Option<String> {
    // A login in a URL is told by its '@'.
    hides(key, "@").then(|| key.to_owned())
}

/// Names of settings hold no blanks; a sentence about passwords is no setting.
fn hides(key: &str, value: &str) -> bool {
    let key = key.trim().to_ascii_lowercase();
    let hides = config::hides(&key, value) || key.contains("access_key");
    hides && !key.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_without_secrets_is_kept_to_the_byte() {
        for sql in [
            "SELECT  *\nFROM orders -- all\nWHERE value LIKE '%password%' AND key = 'a=b'",
            "SELECT 'the password is missing' FROM orders",
            "SELECT * FROM kafka('o', ':', 'schema.registry.url=http://r:8081')",
            "SELECT $$x$$, E'\\n', \"Quoted\" FROM kafka('orders', '0=1:2', 'value.format=text')",
        ] {
            assert_eq!(without_secrets(sql), sql);
        }
    }

    #[test]
    fn secrets_go_wherever_options_may_stand() {
        for (sql, expected) in [
            (
                "SELECT * FROM kafka('o', 'start', 'kafka.sasl.password=hunter2=')",
                "SELECT * FROM kafka('o', 'start', 'kafka.sasl.password=[redacted]')",
            ),
            (
                "COPY orders TO 'f' OPTIONS ('aws.secret_access_key' 'hunter2', 'a' 'b')",
                "COPY orders TO 'f' OPTIONS ('aws.secret_access_key' '[redacted]', 'a' 'b')",
            ),
            (
                "COPY orders TO 'f' OPTIONS (aws.secret_access_key 'hunter2')",
                "COPY orders TO 'f' OPTIONS (aws.secret_access_key '[redacted]')",
            ),
            (
                "SELECT * FROM kafka('o', ':', 'schema.registry.url=http://anna:hunter2@r')",
                "SELECT * FROM kafka('o', ':', 'schema.registry.url=[redacted]')",
            ),
            (
                "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION 'o' OPTIONS (schema.registry.url \
                 'http://anna:hunter2@r', schema.registry.basic.auth.user.info 'anna:hunter2')",
                "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION 'o' OPTIONS (schema.registry.url \
                 '[redacted]', schema.registry.basic.auth.user.info '[redacted]')",
            ),
            ("SELECT 'open", "[redacted]"),
        ] {
            assert_eq!(without_secrets(sql), expected);
        }
    }
}
