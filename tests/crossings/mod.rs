//! The table of crossings: which ones exist, which are refused by design and how, and the rows that the
//! others must yield. Nothing here uses the crate. `src/crossings` runs the verbs against the cluster in
//! memory, and `tests/jobs/crossings.rs` runs them through the shell on real servers.

pub(crate) mod encode;
pub(crate) mod model;
mod pairs;
mod run;

use std::fmt;

use model::{Around, Format, Isolation, Made, Part, Policy, Values, dimension};
pub(crate) use run::{all_pairs, run};
use serde_json::{Map, Value};

dimension!(
    /// Where the records are, and which client reads them there.
    Client { Memory, Wire, Librdkafka }
);
dimension!(
    /// What is done with the records. A verb that writes also checks what it wrote, reads it back, and
    /// continues after a crash.
    Verb {
        Query, SelfJoin, OrderDescLimit,
        /// The scan is sent as bytes and read in pieces, as by another machine.
        Elsewhere,
        /// A condition, on a table with an index that was made under the same choices.
        Indexed,
        /// With the options of the table on the command line.
        Search,
        /// Conditions on each column, inside the scan and above it.
        Where,
        ReceiptRerun,
        ExportParquet, ExportParquetSql, ExportParquetBy,
        ExportCsv, ExportCsvSql, ExportCsvBy,
        ExportNdjson, ExportNdjsonSql, ExportNdjsonBy,
        JobMemory, JobSqlite, JobParquet, JobPostgres, JobWindow, JobCrash,
        /// Rows with their types, as JSON, and as Avro with a registry.
        JobKafkaJson, JobKafkaAvro,
        Redecode,
    }
);

impl Verb {
    pub(crate) fn is_query(self) -> bool {
        self <= Self::ReceiptRerun
    }

    pub(crate) fn is_export(self) -> bool {
        !self.is_query() && self <= Self::ExportNdjsonBy
    }

    fn is_done_by(self, client: Client) -> bool {
        match self {
            Self::Search | Self::JobPostgres | Self::JobKafkaJson | Self::JobKafkaAvro => {
                client != Client::Memory
            }
            Self::JobMemory
            | Self::JobWindow
            | Self::JobCrash
            | Self::Elsewhere
            | Self::Indexed => client == Client::Memory,
            // On real servers, one export of each format and of each kind is enough.
            Self::ExportParquet | Self::ExportCsvSql | Self::ExportNdjsonBy => true,
            verb => !verb.is_export() || client == Client::Memory,
        }
    }
}

/// A crossing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) format: Format,
    pub(crate) values: Values,
    pub(crate) verb: Verb,
    pub(crate) client: Client,
    pub(crate) part: Part,
    pub(crate) policy: Policy,
    pub(crate) isolation: Isolation,
    pub(crate) around: Around,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            format,
            values,
            verb,
            client,
            part,
            policy,
            isolation,
            around,
        } = self;
        write!(
            f,
            "{format:?} {part:?} {values:?} {client:?} {verb:?} {policy:?} {isolation:?} {around:?}"
        )
    }
}

/// An expected row: its partition and offset, and its columns.
pub(crate) type Expected = (i32, i64, Map<String, Value>);

impl Cell {
    /// All crossings of these clients, ordered so that one format, kind of values and verb stay together.
    pub(crate) fn all(clients: &[Client]) -> Vec<Self> {
        let sizes = [
            Format::ALL.len(),
            Values::ALL.len(),
            Verb::ALL.len(),
            Client::ALL.len(),
            Part::ALL.len(),
            Policy::ALL.len(),
            Isolation::ALL.len(),
            Around::ALL.len(),
        ];
        let number: usize = sizes.iter().product();
        let cells = (0..number).map(|mut number| {
            let mut cell = sizes;
            for (index, size) in cell.iter_mut().zip(sizes).rev() {
                (*index, number) = (number % size, number / size);
            }
            Self::of(&cell)
        });
        cells
            .filter(|cell| clients.contains(&cell.client) && cell.is_possible())
            .collect()
    }

    fn of(indexes: &[usize]) -> Self {
        Self {
            format: Format::ALL[indexes[0]],
            values: Values::ALL[indexes[1]],
            verb: Verb::ALL[indexes[2]],
            client: Client::ALL[indexes[3]],
            part: Part::ALL[indexes[4]],
            policy: Policy::ALL[indexes[5]],
            isolation: Isolation::ALL[indexes[6]],
            around: Around::ALL[indexes[7]],
        }
    }

    fn indexes(&self) -> Vec<usize> {
        vec![
            self.format as usize,
            self.values as usize,
            self.verb as usize,
            self.client as usize,
            self.part as usize,
            self.policy as usize,
            self.isolation as usize,
            self.around as usize,
        ]
    }

    /// Whether this crossing can exist at all.
    fn is_possible(&self) -> bool {
        let set_aside = self.policy == Policy::Dlq && self.values == Values::Bad;
        // Slow or unrelated dimensions are crossed with the others only at their plainest.
        let is_plain = self.part == Part::Value && self.isolation == Isolation::Committed;
        let usual = is_plain && self.policy == Policy::Fail;
        let around = match self.around {
            Around::Usual => true,
            Around::Scarce => {
                let fails = self.policy == Policy::Fail && self.values == Values::Plain;
                fails && self.part == Part::Value
            }
            _ if self.verb == Verb::Redecode => is_plain,
            _ => usual && self.values == Values::Plain,
        };
        let there = match self.around {
            // The cluster in memory has no quotas, and its tables are not made by text. Each crossing waits
            // for half a minute, so one of each kind is enough.
            Around::Quota => {
                let verb = matches!(
                    self.verb,
                    Verb::Query | Verb::ReceiptRerun | Verb::ExportCsvSql | Verb::JobSqlite
                );
                verb && self.client != Client::Memory && self.format == Format::Text
            }
            Around::Restricted | Around::Allowed => self.client != Client::Memory,
            // The cluster in memory has neither logins nor a network.
            Around::Tokens | Around::Damaged => self.client != Client::Memory && self.is_in_few(),
            Around::Scarce => {
                let chosen = self.client == Client::Memory || self.is_in_few();
                chosen && self.verb != Verb::Redecode
            }
            // Records that were set aside expire with the log like others.
            Around::CutFail | Around::CutSkip => self.verb != Verb::Redecode,
            Around::Usual => true,
        };
        // The shell's options for exports and searches declare no columns.
        let by_options = self.verb.is_export() || self.verb == Verb::Search;
        let declares = by_options && self.client != Client::Memory;
        self.format.has(self.values)
            && self.verb.is_done_by(self.client)
            && (self.part == Part::Value || !self.format.of_values_alone())
            && (self.verb != Verb::Redecode || set_aside)
            && (self.values != Values::Big || (usual && self.is_in_few()))
            && around
            && there
            && !(declares && self.format.declared().is_some())
    }

    /// Every verb in one format, and some verbs in the others: for what takes long, as ten megabytes do.
    fn is_in_few(&self) -> bool {
        self.format == Format::Json
            || matches!(
                self.verb,
                Verb::Query | Verb::ReceiptRerun | Verb::ExportParquet | Verb::JobSqlite
            )
    }

    /// The part of the message that refuses a crossing by design, and the shell's exit code.
    pub(crate) fn refused(&self) -> Option<(&'static str, i32)> {
        if self.verb.is_query() && self.policy == Policy::Dlq {
            return Some(("in a query choose 'fail', 'null' or 'skip'", 1));
        }
        let bad = self.values == Values::Bad;
        if bad && self.policy == Policy::Fail {
            return Some(("[0]@", 1));
        }
        if bad && self.policy == Policy::Skip && self.verb == Verb::ReceiptRerun {
            return Some(("a receipt covers every record that was read", 1));
        }
        match self.around {
            Around::Scarce => Some(("allows 5", 7)),
            Around::CutFail => Some(("the log now starts at 1, 1 offset", 5)),
            Around::Restricted if self.names_a_file() => Some(("restricted session: ", 1)),
            _ => None,
        }
    }

    /// Whether the text of a statement names a file or a host, so that a restricted session must be allowed
    /// to use it.
    fn names_a_file(&self) -> bool {
        let schema = self.format.schema().is_some() && !self.format.asks_registry();
        match self.verb {
            // An export's options are flags on the command line, but a statement reads its Parquet files
            // back.
            verb if verb.is_export() => verb == Verb::ExportParquet,
            Verb::JobParquet | Verb::JobSqlite | Verb::JobPostgres => true,
            Verb::Redecode => true,
            // A restricted session may use its own registry.
            Verb::JobKafkaAvro => !self.format.asks_registry(),
            _ => schema,
        }
    }

    /// The column's name in the table, given the format's own name.
    pub(crate) fn column(&self, name: &str) -> String {
        match (self.part, name) {
            (Part::Key, "value") => "key".to_owned(),
            (Part::Key, field) => format!("key_{field}"),
            (Part::Value, name) => name.to_owned(),
        }
    }

    /// Whether records may be bad, so that `null` adds the column `_error`.
    pub(crate) fn says_why(&self) -> bool {
        self.policy == Policy::Null && self.format != Format::Raw
    }

    /// The records to write: into partition 0 three records, then one of an aborted transaction, then three
    /// more; and two into partition 1.
    pub(crate) fn written(&self, changed: bool) -> (Vec<Made>, Made) {
        let mut records = self.format.records(self.values);
        if changed {
            records[1] = self.format.plain(999);
        }
        (records, self.format.plain(500))
    }

    /// All records with their coordinates. This includes those of an aborted transaction where they are
    /// visible, and leaves out those that were cut away.
    pub(crate) fn records(&self) -> Vec<(i32, i64, Made)> {
        let (records, aborted) = self.written(false);
        // Together with its control record, the transaction takes offsets 3 and 4.
        let places = [0, 1, 2, 5, 6, 7].into_iter();
        let mut all: Vec<_> = places.zip(records.iter().cloned()).collect();
        if self.isolation == Isolation::Uncommitted {
            all.insert(3, (3, aborted));
        }
        if self.around == Around::CutSkip {
            all.remove(0);
        }
        let first = all.into_iter().map(|(offset, made)| (0, offset, made));
        let second = (0..).zip(records[..2].iter().cloned());
        first
            .chain(second.map(|(offset, made)| (1, offset, made)))
            .collect()
    }

    /// The rows that they must yield, in order.
    pub(crate) fn expected(&self) -> Vec<Expected> {
        let mut rows = vec![];
        for (partition, offset, made) in self.records() {
            let (columns, bad) = match (made.columns, self.policy) {
                (Some(columns), _) => (columns, false),
                (None, Policy::Null) => (self.format.nulls(), true),
                (None, _) => continue,
            };
            let mut row: Map<String, Value> = columns
                .into_iter()
                .map(|(name, value)| (self.column(&name), value))
                .collect();
            row.insert("partition".to_owned(), partition.into());
            row.insert("offset".to_owned(), offset.into());
            if self.says_why() {
                row.insert("bad".to_owned(), bad.into());
            }
            rows.push((partition, offset, row));
        }
        rows
    }

    /// Conditions on each column, with the places of the expected rows that they leave.
    pub(crate) fn conditions(&self) -> Vec<(String, Vec<usize>)> {
        let all = self.expected();
        let mut conditions = vec![];
        for (name, data_type) in self.format.columns() {
            let column = self.column(name);
            let mut add = |condition: String, passes: &dyn Fn(&Value) -> bool| {
                let rows = all.iter().enumerate();
                let rows = rows.filter(|(_, (_, _, row))| passes(&row[&column]));
                conditions.push((condition, rows.map(|(at, _)| at).collect()));
            };
            add(format!("\"{column}\" IS NOT NULL"), &|value| {
                !value.is_null()
            });
            add(format!("\"{column}\" IS NULL"), &Value::is_null);
            let texts = all.iter().filter_map(|(_, _, row)| row[&column].as_str());
            let short = texts.filter(|text| text.len() < 1000);
            if let (&"VARCHAR", Some(text)) = (data_type, short.max_by_key(|text| text.len())) {
                let literal = text.replace('\'', "''");
                add(format!("\"{column}\" = '{literal}'"), &|value| {
                    *value == text
                });
                add(format!("\"{column}\" <> '{literal}'"), &|value| {
                    !value.is_null() && *value != text
                });
            }
        }
        conditions
    }

    /// The records that do not decode.
    pub(crate) fn bad(&self) -> Vec<(i32, i64, Made)> {
        let mut records = self.records();
        records.retain(|(_, _, made)| made.columns.is_none());
        records
    }

    /// The rows of a table of dead letters.
    pub(crate) fn letters(&self) -> Vec<Value> {
        let bad = self.bad().into_iter();
        bad.map(|(p, o, _)| serde_json::json!({"partition": p, "offset": o}))
            .collect()
    }

    /// The rows of the dead letters when they are read again, with payloads in hexadecimal.
    pub(crate) fn redecoded(&self) -> Vec<Value> {
        let bad = self.bad().into_iter();
        let row = |(partition, offset, made): (i32, i64, Made)| {
            let payload = made.payload.as_deref().map(model::hex);
            serde_json::json!({"partition": partition, "offset": offset, "payload": payload})
        };
        bad.map(row).collect()
    }

    /// Compares the outcome of a crossing with the table. Only the shell has exit codes.
    fn judge(&self, done: Result<(), String>) -> Result<(), String> {
        match (done, self.refused()) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some((message, _))) => Err(format!("works, and is to be refused: {message}")),
            (Err(found), Some((message, code)))
                if found.contains(message)
                    && (self.client == Client::Memory
                        || found.contains(&format!(" ends with {code}: "))) =>
            {
                Ok(())
            }
            (Err(found), _) => Err(found),
        }
    }
}

/// Expected rows, as values.
pub(crate) fn values(expected: &[Expected]) -> Vec<Value> {
    let rows = expected.iter();
    rows.map(|(_, _, row)| Value::Object(row.clone())).collect()
}

/// Compares rows in order. Numbers as text count as numbers.
pub(crate) fn same(found: &[Value], expected: &[Value]) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{} rows, expected {}", found.len(), expected.len()));
    }
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let alike = |found: &Value, expected: &Value| {
        found == expected || (number(found).is_some() && number(found) == number(expected))
    };
    for (found, expected) in found.iter().zip(expected) {
        let (Some(columns), Some(wanted)) = (found.as_object(), expected.as_object()) else {
            return Err(format!("{found} is no row"));
        };
        let all = columns.len() == wanted.len();
        let mut wanted = wanted.iter();
        if !all || !wanted.all(|(name, value)| alike(&found[name], value)) {
            let cut = |value: &Value| value.to_string().chars().take(400).collect::<String>();
            let (found, expected) = (cut(found), cut(expected));
            return Err(format!("a row is {found}, expected {expected}"));
        }
    }
    Ok(())
}

/// Rows as databases hold them: nested columns are JSON text, and moments have the precision of their
/// columns.
pub(crate) fn from_database(rows: &mut [Value], expected: &[Value]) -> Result<(), String> {
    for (row, expected) in rows.iter_mut().zip(expected) {
        for (name, value) in row.as_object_mut().into_iter().flatten() {
            let Some(text) = value.as_str() else { continue };
            if expected[name].is_object() {
                *value = serde_json::from_str(text).map_err(|e| e.to_string())?;
            } else if ["at", "ts", "key_at"].contains(&name.as_str()) {
                *value = text.replace(".000Z", "Z").replace("000Z", "Z").into();
            }
        }
    }
    Ok(())
}
