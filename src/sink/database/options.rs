//! The options of tables in databases, and names in SQL.

use std::collections::BTreeMap;

use datafusion::logical_expr::CreateExternalTable;

use crate::error::{Error, Result};

/// What stands for a secret.
const HIDDEN: &str = "***";

/// The options that every database takes.
const COMMON: &[&str] = &["offsets.table", "shared", "table", "upsert.key"];

/// The options of a `CREATE EXTERNAL TABLE`, by their names without case and separators.
#[derive(Clone)]
pub(crate) struct Given {
    options: BTreeMap<String, (String, String)>,
}

impl Given {
    /// Takes the options of a statement. `own` are those beyond the common ones, `noun` is what the
    /// table is called in messages.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an option that is not known or given twice, and for clauses that a
    /// table in a database does not have.
    pub(crate) fn of(cmd: &CreateExternalTable, noun: &str, own: &[&str]) -> Result<Self> {
        let refused = |what: &str| Err(Error::invalid(format!("a {noun} table {what}")));
        if cmd.unbounded {
            return refused("cannot be UNBOUNDED");
        }
        if !cmd.schema.fields().is_empty() {
            return refused(
                "has the columns that it has in the database, or those of the query that fills it: \
                 leave the column list out",
            );
        }
        if !cmd.table_partition_cols.is_empty() {
            return refused("cannot be PARTITIONED BY here; create it in the database");
        }
        if !cmd.order_exprs.is_empty() {
            return refused("has no order: leave WITH ORDER out");
        }
        let known: Vec<&str> = COMMON.iter().chain(own).copied().collect();
        let mut options = BTreeMap::new();
        for (name, value) in &cmd.options {
            // DataFusion puts this before names that have no dot.
            let name = name.strip_prefix("format.").unwrap_or(name);
            let Some(known) = known.iter().find(|known| plain(known) == plain(name)) else {
                let there_are = || format!("there are {}", known.join(", "));
                let names = known.iter().copied();
                return Err(Error::unknown_option(name, names, there_are));
            };
            let option = ((*known).to_owned(), value.clone());
            if options.insert(plain(name), option).is_some() {
                return Err(Error::invalid(format!("option '{known}' is given twice")));
            }
        }
        Ok(Self { options })
    }

    /// The value of an option.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let option = self.options.get(&plain(name));
        option.map(|(_, value)| value.as_str())
    }

    /// The table: the option `table`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is missing.
    pub(crate) fn table(&self) -> Result<&str> {
        self.get("table")
            .ok_or_else(|| Error::invalid("the option 'table' must name the table in the database"))
    }

    /// The option `shared`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not a boolean.
    pub(crate) fn shared(&self) -> Result<bool> {
        match self.get("shared").map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(value) => Err(Error::option_value("shared", value, "'true' or 'false'")),
        }
    }

    /// The columns of the option `upsert.key`; none if rows are only added.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a name is empty or comes twice.
    pub(crate) fn upsert_key(&self) -> Result<Vec<String>> {
        let Some(list) = self.get("upsert.key") else {
            return Ok(Vec::new());
        };
        let names: Vec<String> = list.split(',').map(|name| name.trim().to_owned()).collect();
        let twice = (1..names.len()).any(|i| names[..i].contains(&names[i]));
        if twice || names.iter().any(String::is_empty) {
            return Err(Error::option_value(
                "upsert.key",
                list,
                "different names of columns, separated by commas",
            ));
        }
        Ok(names)
    }

    /// The statement that makes the table, values of `secrets` hidden; `location` has none.
    pub(crate) fn definition(
        &self,
        cmd: &CreateExternalTable,
        location: &str,
        secrets: &[&str],
    ) -> String {
        let options: Vec<String> = self
            .options
            .values()
            .map(|(name, value)| {
                let shown = if secrets.contains(&name.as_str()) {
                    HIDDEN
                } else {
                    value
                };
                format!("{} {}", quoted_text(name), quoted_text(shown))
            })
            .collect();
        format!(
            "CREATE EXTERNAL TABLE {} STORED AS {} LOCATION {} OPTIONS ({})",
            cmd.name.to_quoted_string(),
            cmd.file_type,
            quoted_text(location),
            options.join(", ")
        )
    }
}

/// A name without case and separators.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '.' | '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// A name as SQL takes it literally.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it literally.
pub(crate) fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Splits a name at its dots: `shop.orders`; a part with a dot is quoted: `shop."a.b"`. Case is kept.
///
/// # Errors
/// [`Error::Invalid`] when a part is empty, a quote is not closed or there are more than `parts`.
pub(crate) fn identifier(option: &str, text: &str, parts: usize) -> Result<Vec<String>> {
    let wrong = |expected: &str| Err(Error::option_value(option, text, expected));
    let mut found = vec![String::new()];
    let mut quotes = false;
    let mut characters = text.trim().chars().peekable();
    while let Some(character) = characters.next() {
        // There is always a last part: it starts with one and only grows.
        let Some(part) = found.last_mut() else { break };
        match character {
            '"' if quotes && characters.next_if_eq(&'"').is_some() => part.push('"'),
            '"' => quotes = !quotes,
            '.' if !quotes => found.push(String::new()),
            '\0' => return wrong("a name without a NUL character"),
            _ => part.push(character),
        }
    }
    if quotes {
        return wrong("a closing quotation mark");
    }
    if found.iter().any(String::is_empty) {
        return wrong("a name such as 'orders' or 'shop.orders'");
    }
    if found.len() > parts {
        return wrong(if parts == 1 {
            "one name; a name with a dot is written in quotation marks"
        } else {
            "at most a schema and a table; a name with a dot is written in quotation marks"
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_dots_outside_quotes() {
        let parts = |text| identifier("table", text, 2).unwrap();
        assert_eq!(parts("orders"), ["orders"]);
        assert_eq!(parts("Shop.Orders"), ["Shop", "Orders"]);
        assert_eq!(parts(r#"shop."a.b""c""#), ["shop", "a.b\"c"]);
        for wrong in ["", ".", "a.", "a.b.c", "\"a", "a\0b"] {
            assert!(identifier("table", wrong, 2).is_err(), "{wrong}");
        }
    }
}
