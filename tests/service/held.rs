//! What a sink holds of a topic: which offsets of each partition, and how often.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Of one partition: each offset up to the last once, if all four fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) rows: i64,
    pub(crate) distinct: i64,
    pub(crate) first: i64,
    pub(crate) last: i64,
}

/// By partition.
pub(crate) type AllHeld = BTreeMap<i32, Held>;

/// The statement whose rows are those of [`AllHeld`], before the name of a table.
pub(crate) const COUNT: &str =
    "SELECT partition, count(*), count(DISTINCT \"offset\"), min(\"offset\"), max(\"offset\") FROM";

impl Held {
    /// What there is of a log that ends at `end`.
    pub(crate) fn whole(end: i64) -> Self {
        Self {
            rows: end,
            distinct: end,
            first: 0,
            last: end - 1,
        }
    }

    fn of(mut offsets: Vec<i64>) -> Self {
        let count = |offsets: &[i64]| i64::try_from(offsets.len()).expect("it fits");
        let rows = count(&offsets);
        offsets.sort_unstable();
        offsets.dedup();
        Self {
            rows,
            distinct: count(&offsets),
            first: offsets.first().copied().unwrap_or_default(),
            last: offsets.last().copied().unwrap_or_default(),
        }
    }
}

/// All rows.
pub(crate) fn rows(held: &AllHeld) -> i64 {
    held.values().map(|held| held.rows).sum()
}

/// Sums offsets up.
pub(crate) fn of_offsets(offsets: BTreeMap<i32, Vec<i64>>) -> AllHeld {
    let held = |(partition, offsets)| (partition, Held::of(offsets));
    offsets.into_iter().map(held).collect()
}

/// What a table of a file of SQLite holds; nothing if it is not there.
pub(crate) fn of_sqlite(file: &Path, table: &str) -> AllHeld {
    let connection = rusqlite::Connection::open(file).expect("a database");
    let Ok(mut counted) = connection.prepare(&format!("{COUNT} {table} GROUP BY partition")) else {
        return AllHeld::new();
    };
    let rows = counted.query_map([], |row| {
        let held = Held {
            rows: row.get(1)?,
            distinct: row.get(2)?,
            first: row.get(3)?,
            last: row.get(4)?,
        };
        Ok((row.get(0)?, held))
    });
    rows.expect("five columns").map(Result::unwrap).collect()
}

/// What the visible files of a folder hold; nothing if it is not there.
pub(crate) fn of_parquet(folder: &Path) -> AllHeld {
    let mut offsets = BTreeMap::new();
    files(folder, &mut offsets);
    of_offsets(offsets)
}

fn files(folder: &Path, offsets: &mut BTreeMap<i32, Vec<i64>>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(['_', '.']) {
            continue;
        }
        if path.is_dir() {
            files(&path, offsets);
            continue;
        }
        let file = std::fs::File::open(&path).expect("a file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
        for rows in reader.build().expect("a reader") {
            let rows = rows.expect("it is whole");
            let partitions = rows["partition"].as_primitive::<Int32Type>();
            let column = rows["offset"].as_primitive::<Int64Type>();
            for (partition, offset) in partitions.values().iter().zip(column.values()) {
                offsets.entry(*partition).or_default().push(*offset);
            }
        }
    }
}
