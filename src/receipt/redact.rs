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
    let mut secret_next = false;
    for token in &mut tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::Eq if secret_next => continue,
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
                let key = text.split_once('=').map_or(text.as_str(), |(key, _)| key);
                let secret = is_secret(key);
                let inline = secret && key.len() < text.len();
                if secret_next {
                    *text = REDACTED.to_owned();
                    changed = true;
                } else if inline {
                    *text = format!("{key}={REDACTED}");
                    changed = true;
                }
                secret_next = !secret_next && secret && !inline;
            }
            // An option may be written without quotes: `aws.secret_access_key 'x'`.
            Token::Word(word) => secret_next = is_secret(&word.value),
            Token::Period => {}
            _ => secret_next = false,
        }
    }
    if !changed {
        return sql.to_owned();
    }
    tokens.iter().map(ToString::to_string).collect()
}

/// Names of settings hold no blanks; a sentence about passwords is no setting.
fn is_secret(key: &str) -> bool {
    let key = key.trim().to_ascii_lowercase();
    !key.contains(char::is_whitespace) && (config::is_secret(&key) || key.contains("access_key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_without_secrets_is_kept_to_the_byte() {
        for sql in [
            "SELECT  *\nFROM orders -- all\nWHERE value LIKE '%password%' AND key = 'a=b'",
            "SELECT 'the password is missing' FROM orders",
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
            ("SELECT 'open", "[redacted]"),
        ] {
            assert_eq!(without_secrets(sql), expected);
        }
    }
}
