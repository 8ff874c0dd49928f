//! Modified copies of files, to test the code that reads them.

use serde_json::{Value, json};

/// Variants of a JSON text. Each value in turn is replaced, removed, repeated or cut off.
pub(crate) fn spoiled(text: &str) -> Vec<String> {
    let whole: Value = serde_json::from_str(text).unwrap();
    let mut all = vec![];
    for at in places(&whole) {
        let mut values = vec![
            Value::Null,
            json!(0),
            json!(-1),
            json!(1u64 << 33),
            json!(i64::MIN),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(1e308),
            json!(""),
            json!("../../x\u{1b}[2J\n"),
            json!([]),
            json!({}),
        ];
        let found = whole.pointer(&at).unwrap();
        if let Value::Array(items) = found {
            let repeated = items.iter().flat_map(|item| vec![item.clone(); 3]);
            values.push(repeated.collect());
        }
        for value in values.into_iter().filter(|value| value != found) {
            let mut changed = whole.clone();
            *changed.pointer_mut(&at).unwrap() = value;
            all.push(changed.to_string());
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let mut changed = whole.clone();
        *changed.pointer_mut(&at).unwrap() = json!("HERE");
        all.push(changed.to_string().replace("\"HERE\"", &deep));
        let (parent, name) = at.rsplit_once('/').unwrap_or_default();
        let mut changed = whole.clone();
        if let Some(Value::Object(parent)) = changed.pointer_mut(parent) {
            parent.remove(&name.replace("~1", "/").replace("~0", "~"));
            all.push(changed.to_string());
        }
    }
    let ends = (0..text.len()).filter(|end| end % 37 == 0 && text.is_char_boundary(*end));
    all.extend(ends.map(|end| text[..end].to_owned()));
    all
}

/// Pointers to all values.
fn places(value: &Value) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut add = |name: String, value: &Value| {
        let name = name.replace('~', "~0").replace('/', "~1");
        all.extend(places(value).iter().map(|inner| format!("/{name}{inner}")));
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| add(name.clone(), value)),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(at, value)| add(at.to_string(), value));
        }
        _ => {}
    }
    all
}
