//! How files are cut, compressed and laid out.

use std::collections::{BTreeMap, HashMap};

use datafusion::parquet::basic::{Compression, ZstdLevel};

use crate::error::{Error, Result};
use crate::store::Durability;

/// What can be set on a [`ParquetSink`](super::ParquetSink).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetOptions {
    /// Columns whose values become folders `column=value` instead of columns of the files.
    pub partition_by: Vec<String>,
    /// Rows after which a file ends.
    pub max_file_rows: u64,
    /// Bytes after which a file ends, at the next batch of rows; at most 4 GiB.
    pub max_file_bytes: u64,
    /// Rows of a row group at most; one that reaches 64 MiB ends before.
    pub row_group_rows: usize,
    /// Partitioned files that one execution partition has open at most; the one that waited
    /// longest is ended for a further one.
    pub max_open_files: usize,
    /// How pages are compressed.
    pub compression: Compression,
    /// Whether several jobs may write to one location.
    pub shared: bool,
    /// Whether local files survive a crash of the machine.
    pub durability: Durability,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        Self {
            partition_by: vec![],
            max_file_rows: 10_000_000,
            max_file_bytes: 256 << 20,
            row_group_rows: 1 << 20,
            max_open_files: 64,
            // Of JSON records half the size of snappy and lz4, at lz4's speed and 3/4 of snappy's.
            compression: Compression::ZSTD(ZstdLevel::default()),
            shared: false,
            durability: Durability::Fsync,
        }
    }
}

/// Copies to the published name end at 5 GiB in S3.
const MAX_FILE_BYTES: u64 = 4 << 30;

impl ParquetOptions {
    /// The names that [`set`](Self::set) takes.
    pub const NAMES: [&'static str; 7] = [
        // Not `compression`: DataFusion's parser refuses that one for parquet.
        "compression.codec",
        "fsync",
        "max.file.bytes",
        "max.file.rows",
        "max.open.files",
        "row.group.rows",
        "shared",
    ];

    /// Sets an option by its name in SQL.
    ///
    /// # Errors
    /// [`Error::UnknownOption`], and [`Error::OptionValue`] for a value that it does not take.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name.to_lowercase().as_str() {
            "compression.codec" => self.compression = compression(value)?,
            "fsync" => {
                self.durability = if boolean(name, value)? {
                    Durability::Fsync
                } else {
                    Durability::None
                }
            }
            "max.file.bytes" => {
                self.max_file_bytes = number(name, value, 1, MAX_FILE_BYTES)?;
            }
            "max.file.rows" => self.max_file_rows = number(name, value, 1, u64::MAX)?,
            "max.open.files" => self.max_open_files = small(name, value)?,
            "row.group.rows" => self.row_group_rows = small(name, value)?,
            "shared" => self.shared = boolean(name, value)?,
            _ => {
                return Err(Error::unknown_option(name, Self::NAMES, || {
                    format!("a parquet sink has {}", Self::NAMES.join(", "))
                }));
            }
        }
        Ok(())
    }

    /// The options that files are written by, as [`set`](Self::set) takes them.
    pub(super) fn of_files(&self) -> BTreeMap<String, String> {
        let codec = match self.compression {
            Compression::GZIP(level) => format!("gzip({})", level.compression_level()),
            Compression::BROTLI(level) => format!("brotli({})", level.compression_level()),
            Compression::ZSTD(level) => format!("zstd({})", level.compression_level()),
            plain => plain.to_string(),
        };
        let all = [
            ("compression.codec", codec),
            ("max.file.bytes", self.max_file_bytes.to_string()),
            ("max.file.rows", self.max_file_rows.to_string()),
            ("max.open.files", self.max_open_files.to_string()),
            ("row.group.rows", self.row_group_rows.to_string()),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Splits options of SQL into those of the sink and those of its object store (`aws.…`,
    /// `google.…`, `azure.…`).
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn split(options: &HashMap<String, String>) -> Result<(Self, HashMap<String, String>)> {
        let mut own = Self::default();
        let mut store = HashMap::new();
        for (name, value) in options {
            // DataFusion puts this before names that have no dot.
            let name = name.strip_prefix("format.").unwrap_or(name);
            if is_of_store(name) {
                store.insert(name.to_owned(), value.clone());
            } else {
                own.set(name, value)?;
            }
        }
        Ok((own, store))
    }
}

/// Whether an option is one of the object store.
pub(super) fn is_of_store(name: &str) -> bool {
    let name = name.to_lowercase();
    ["aws.", "google.", "azure."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

fn compression(value: &str) -> Result<Compression> {
    value.to_lowercase().parse().map_err(|_| {
        let codecs = "zstd(1) to zstd(22), snappy, lz4_raw, gzip(6), brotli(1) or uncompressed";
        Error::option_value("compression.codec", value, codecs)
    })
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    value
        .to_lowercase()
        .parse()
        .map_err(|_| Error::option_value(name, value, "'true' or 'false'"))
}

fn small(name: &str, value: &str) -> Result<usize> {
    let number = number(name, value, 1, 1 << 30)?;
    usize::try_from(number)
        .map_err(|_| Error::invalid(format!("'{name}' = '{value}' is too much for this machine")))
}

fn number(name: &str, value: &str, least: u64, most: u64) -> Result<u64> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let expected = format!("a number from {least} to {most}");
            Err(Error::option_value(name, value, expected))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_named() {
        let mut options = ParquetOptions::default();
        options.set("max.file.rows", "5").unwrap();
        options.set("compression.codec", "SNAPPY").unwrap();
        options.set("compression.codec", "zstd(3)").unwrap();
        options.set("shared", "true").unwrap();
        assert_eq!(options.max_file_rows, 5);
        assert!(options.shared);
        let refused = |name: &str, value: &str| {
            let error = ParquetOptions::default().set(name, value).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            refused("max.file.row", "5"),
            "option 'max.file.row' is not known: did you mean 'max.file.rows'?"
        );
        assert_eq!(
            refused("max.file.rows", "0"),
            "option 'max.file.rows' = '0': expected a number from 1 to 18446744073709551615"
        );
        assert!(refused("compression.codec", "zip").contains("zstd(1)"));
        assert!(refused("shared", "yes").contains("'true' or 'false'"));
        assert!(refused("max.file.bytes", "9999999999999").contains("4294967296"));
    }

    #[test]
    fn options_of_files_are_read_again() {
        for codec in [
            "zstd(3)",
            "gzip(6)",
            "brotli(2)",
            "snappy",
            "lz4_raw",
            "uncompressed",
        ] {
            let mut options = ParquetOptions {
                max_file_rows: 7,
                max_file_bytes: 8,
                row_group_rows: 9,
                max_open_files: 10,
                ..ParquetOptions::default()
            };
            options.set("compression.codec", codec).unwrap();
            let mut again = ParquetOptions::default();
            for (name, value) in options.of_files() {
                again.set(&name, &value).unwrap();
            }
            assert_eq!(again, options);
        }
    }
}
