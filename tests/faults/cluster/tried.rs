//! What became of readers, in the words of the tables.

use std::collections::BTreeMap;

use datafusion_kafka::Error;
use tokio::sync::OnceCell;

/// A record: its partition, its offset, and the first letter of its value, which says when it was written.
pub type Row = (i32, i64, char);

/// The clients that each case is for.
pub const CLIENTS: [&str; 2] = ["wire", "librdkafka"];

/// What became of all readers that met a fault, by the columns of the table.
pub type Outcomes = BTreeMap<String, String>;

/// The outcomes of a row. The fault comes once for all columns, because it takes longer than the reading.
pub type Tried = OnceCell<Outcomes>;

/// The outcome of one column. Tries all of them if none was tried before.
pub async fn tried(all: &Tried, column: &str, case: impl Future<Output = Outcomes>) -> String {
    let outcomes = all.get_or_init(|| case).await;
    let outcome = outcomes.get(column);
    outcome
        .unwrap_or_else(|| panic!("{column}: not tried, but {:?}", outcomes.keys()))
        .clone()
}

/// The column of a verb and a client.
pub fn column(verb: &str, client: &str) -> String {
    format!("{verb}, {client}")
}

/// `exact`, the name of the error, or what is wrong with the rows. The rows before an error must be right, and
/// the error must say where.
pub fn outcome(topic: &str, rows: &[Row], expected: &[Row], error: Option<&Error>) -> String {
    let partitions = |rows: &[Row]| -> BTreeMap<i32, Vec<(i64, char)>> {
        let mut of = BTreeMap::<i32, Vec<_>>::new();
        for (partition, offset, mark) in rows {
            of.entry(*partition).or_default().push((*offset, *mark));
        }
        of
    };
    let (found, expected) = (partitions(rows), partitions(expected));
    if error.is_none() && found == expected {
        return "exact".to_owned();
    }
    for (partition, rows) in &found {
        let expected = expected.get(partition).map_or(&[][..], Vec::as_slice);
        if !expected.starts_with(rows) {
            let differ = rows.iter().zip(expected).position(|(a, b)| a != b);
            let at = differ.unwrap_or(expected.len().min(rows.len()));
            return format!(
                "wrong rows in {partition}: {} of {}, at {at} {:?} instead of {:?} ({})",
                rows.len(),
                expected.len(),
                rows.get(at),
                expected.get(at),
                error.map_or_else(String::new, Error::to_string),
            );
        }
    }
    let Some(error) = error else {
        return "short, without an error".to_owned();
    };
    let text = error.to_string();
    println!("{text}");
    let places = [
        format!("{topic}["),
        format!("'{topic}'"),
        "127.0.0.1:".to_owned(),
    ];
    if !places.iter().any(|place| text.contains(place)) {
        return format!("an error without a place: {text}");
    }
    name(error)
}

/// The name of an error's variant.
pub fn name(error: &Error) -> String {
    let text = format!("{error:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}
