//! Removes what looks like a secret from the text of a statement.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use url::Url;

use crate::config;

/// Replaces a secret, or a text that does not parse.
pub(crate) const REDACTED: &str = "[redacted]";

/// The statement with the values of secret settings replaced, both as in OPTIONS (`'sasl.password' 'x'`) and
/// as in the arguments of table functions (`'sasl.password=x'`), and without the passwords of URLs.
///
/// A statement without secrets is returned unchanged.
pub(crate) fn without_secrets(sql: &str) -> String {
    // Not unescaped, so that everything else is printed as it was written.
    let mut tokenizer = Tokenizer::new(&PostgreSqlDialect {}, sql).with_unescape(false);
    let Ok(mut tokens) = tokenizer.tokenize() else {
        return REDACTED.to_owned();
    };
    let mut changed = false;
    let mut secret_next: Option<String> = None;
    // Within options, any word or number may be a value.
    let mut in_options = false;
    // The preceding words, with the dots between them.
    let mut name = String::new();
    for token in &mut tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::Eq if secret_next.is_some() => continue,
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
                let redacted = match (secret_next.take(), text.split_once('=')) {
                    (Some(key), _) if hides(&key, text) => Some(REDACTED.to_owned()),
                    _ if has_password(text) => Some(without_login(text)),
                    (Some(_), _) => None,
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
            Token::Word(_)
            | Token::Number(..)
            | Token::NationalStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
                if in_options && secret_next.is_some() && !name.ends_with('.') =>
            {
                secret_next = None;
                *token = Token::SingleQuotedString(REDACTED.to_owned());
                changed = true;
            }
            // An option may be written without quotes: `aws.secret_access_key 'x'`.
            Token::Word(word) => {
                if !name.ends_with('.') {
                    name.clear();
                }
                name.push_str(&word.value);
                secret_next = may_hide(&name);
                in_options |= name.eq_ignore_ascii_case("OPTIONS");
            }
            Token::Period => name.push('.'),
            token => {
                in_options &= *token != Token::RParen;
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

/// The setting's name, if its value may be a secret.
fn may_hide(key: &str) -> Option<String> {
    // An '@' shows that a URL has a login.
    hides(key, "@").then(|| key.to_owned())
}

/// Whether an option's value is a secret. Names of settings contain no spaces, and a sentence about passwords
/// is not a setting.
pub(crate) fn hides(key: &str, value: &str) -> bool {
    // Keys of object stores, in addition to those whose names say that they are secret.
    const KEYS: [&str; 5] = [
        "access_key",
        "account_key",
        "master_key",
        "sas_",
        "service_account_key",
    ];
    let key = key.trim().to_ascii_lowercase();
    let hides = config::hides(&key, value)
        || KEYS.iter().any(|part| key.contains(part))
        || key.ends_with("token");
    hides && !key.contains(char::is_whitespace)
}

fn has_password(text: &str) -> bool {
    const PARTS: [&str; 3] = ["password", "token", "sig="];
    let Ok(url) = Url::parse(text) else {
        return false;
    };
    let query = url.query().unwrap_or_default();
    url.has_host() && (url.password().is_some() || PARTS.iter().any(|part| query.contains(part)))
}

/// A location without anything that may be a login.
pub(crate) fn without_login(place: &str) -> String {
    match Url::parse(place) {
        Ok(url)
            if !url.username().is_empty() || url.password().is_some() || url.query().is_some() =>
        {
            let host = url.host_str().unwrap_or_default();
            format!("{}://***@{host}{}", url.scheme(), url.path())
        }
        _ => place.to_owned(),
    }
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
            "CREATE EXTERNAL TABLE t STORED AS POSTGRES LOCATION 'postgres://etl@db/shop?sslmode=require'",
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
                "COPY orders TO 'f' OPTIONS ('a' b, 'aws.secret_access_key' \"hunter2\", aws.secret_access_key 7)",
                "COPY orders TO 'f' OPTIONS ('a' b, 'aws.secret_access_key' '[redacted]', aws.secret_access_key '[redacted]')",
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
            (
                "CREATE EXTERNAL TABLE t STORED AS POSTGRES LOCATION 'postgres://anna:hunter2@db/shop'",
                "CREATE EXTERNAL TABLE t STORED AS POSTGRES LOCATION 'postgres://***@db/shop'",
            ),
            (
                "COPY orders TO 'f' OPTIONS ('aws.session_token' 'hunter2', 'azure_storage_sas_key' 'hunter2')",
                "COPY orders TO 'f' OPTIONS ('aws.session_token' '[redacted]', 'azure_storage_sas_key' '[redacted]')",
            ),
            ("SELECT 'open", "[redacted]"),
        ] {
            assert_eq!(without_secrets(sql), expected);
        }
    }
}
