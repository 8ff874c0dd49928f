//! Which columns there are, where a statement names one that is not there.

use datafusion::common::SchemaError;
use datafusion::common::utils::quote_identifier;

/// The most columns that are named.
const MOST: usize = 30;

/// Names the columns that an unknown one could have meant: `The columns are key, value and 3 more`. `None` for other
/// errors, and where there are no columns.
pub fn columns_there_are(error: &SchemaError) -> Option<String> {
    let SchemaError::FieldNotFound { valid_fields, .. } = error else {
        return None;
    };
    let mut names: Vec<String> = vec![];
    for column in valid_fields {
        let name = quote_identifier(&column.name).into_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = match names.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.truncate(MOST);
    (!names.is_empty()).then(|| format!("The columns are {}{more}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use datafusion::common::Column;

    use super::*;

    fn said(columns: impl Iterator<Item = String>) -> Option<String> {
        columns_there_are(&SchemaError::FieldNotFound {
            field: Box::new(Column::from_name("x")),
            valid_fields: columns.map(Column::from_name).collect(),
        })
    }

    #[test]
    fn columns_are_named_once_and_not_without_end() {
        let names = ["key", "a b", "key"].map(str::to_owned).into_iter();
        assert_eq!(said(names).as_deref(), Some("The columns are key, \"a b\""));
        let many = said((0..33).map(|n| format!("c{n}"))).unwrap();
        assert!(many.ends_with("c29 and 3 more"), "{many}");
        assert_eq!(said(std::iter::empty()), None);
    }
}
