//! The JSON of a receipt, and its validation.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Receipt, ReceiptStatement, sha256};
use crate::error::{Error, Result};

/// The version of the JSON that this crate reads and writes.
const VERSION: u64 = 1;

#[derive(Serialize)]
struct Written<'a> {
    version: u64,
    created_ms: i64,
    program: &'a str,
    statements: &'a [ReceiptStatement],
}

#[derive(Deserialize)]
struct Read {
    created_ms: i64,
    program: String,
    statements: Vec<ReceiptStatement>,
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Written {
            version: VERSION,
            created_ms: self.created_ms,
            program: &self.program,
            statements: &self.statements,
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for Receipt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;

        // The version determines the meaning of the other fields, so it is checked first.
        let json = serde_json::Value::deserialize(from)?;
        let Some(version) = json.get("version") else {
            return Err(D::Error::custom(
                "expected a JSON object with \"version\": 1",
            ));
        };
        if version.as_u64() != Some(VERSION) {
            return Err(D::Error::custom(format!(
                "version {version} is unknown, this program reads version {VERSION}; \
                 check it with the version that wrote it"
            )));
        }
        let read: Read = serde_json::from_value(json).map_err(D::Error::custom)?;
        let receipt = Self {
            created_ms: read.created_ms,
            program: read.program,
            statements: read.statements,
        };
        receipt.validate().map_err(D::Error::custom)?;
        Ok(receipt)
    }
}

impl FromStr for Receipt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| Error::invalid(format!("receipt: {error}")).because(error))
    }
}

impl Receipt {
    /// Checks that a receipt is consistent.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a statement does not match its hash, or a ledger does not add up or lies
    /// outside its snapshot.
    pub fn validate(&self) -> Result<()> {
        for statement in &self.statements {
            if sha256(&statement.sql) != statement.sql_sha256 {
                return Err(Error::invalid(format!(
                    "the statement does not match the SHA-256 next to it: {}",
                    statement.sql
                )));
            }
            for scan in &statement.scans {
                let mut ranges: Vec<_> = scan.ledger.ranges.iter().map(|l| &l.range).collect();
                ranges.sort();
                for pair in ranges.windows(2) {
                    let same = pair[0].topic_partition() == pair[1].topic_partition();
                    if same && pair[1].start() < pair[0].end() {
                        return Err(Error::invalid(format!(
                            "the ranges {} and {} of a scan overlap",
                            pair[0], pair[1]
                        )));
                    }
                }
                for ledger in &scan.ledger.ranges {
                    ledger.validate()?;
                    let range = &ledger.range;
                    let within = scan.snapshot.offset_ranges().any(|all| {
                        all.topic() == range.topic()
                            && all.partition() == range.partition()
                            && all.start() <= range.start()
                            && range.end() <= all.end()
                    });
                    if !within {
                        return Err(Error::invalid(format!(
                            "{range} lies in no range of the scan's snapshot"
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}
