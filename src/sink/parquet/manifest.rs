//! What a batch put into a location: the commit point, as JSON.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::partition::Values;
use crate::error::{Error, Result};
use crate::sink::{BatchRanges, Committed, Ends, Position, SourcePartition, SourceRange};
use crate::store::{Store, hive, leads_out};

/// The version that this build reads and writes.
const VERSION: u32 = 1;

/// A data file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DataFile {
    /// Its name once it is published.
    pub(super) name: String,
    /// Its name before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) staged: String,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// The values of the partition columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) values: Values,
}

/// What readers need to know of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its place in the job's row of manifests, from 0 without gaps.
    pub(super) number: u64,
    pub(super) batch: u64,
    pub(super) attempt: String,
    /// The name of the file that has the columns.
    pub(super) schema: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) partitioned_by: Vec<String>,
    pub(super) files: Vec<DataFile>,
}

/// A batch that is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    pub(super) job: String,
    /// The attempt of the manifest before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<String>,
    pub(super) ranges: Vec<SourceRange>,
    /// Recorded ends of partitions that the batch does not name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<End>,
    #[serde(flatten)]
    pub(super) record: Record,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    #[serde(flatten)]
    partition: SourcePartition,
    #[serde(flatten)]
    position: Position,
}

impl Record {
    /// Takes possible names in place of those that no store takes: batches that were committed before
    /// such rows were refused.
    pub(super) fn with_possible_names(mut self, store: &Store) -> Self {
        for file in &mut self.files {
            file.name = store.possible_name(&file.name);
        }
        self
    }
}

impl Manifest {
    /// The manifest of a batch that follows `newest`.
    pub(super) fn next(newest: Option<&Self>, batch: &BatchRanges, record: Record) -> Self {
        let ends = batch.ends();
        let kept = newest.map(Self::ends).unwrap_or_default();
        let kept = kept
            .into_iter()
            .filter(|(partition, _)| !ends.contains_key(partition))
            .map(|(partition, position)| End {
                partition,
                position,
            });
        Self {
            version: VERSION,
            job: batch.job.clone(),
            previous: newest.map(|newest| newest.record.attempt.clone()),
            ranges: batch.ranges.clone(),
            kept: kept.collect(),
            record,
        }
    }

    /// The recorded ends.
    pub(super) fn ends(&self) -> Ends {
        let ranges = BatchRanges {
            job: String::new(),
            batch: 0,
            attempt: String::new(),
            ranges: self.ranges.clone(),
        };
        let mut ends = ranges.ends();
        let kept = self.kept.iter().cloned();
        ends.extend(kept.map(|end| (end.partition, end.position)));
        ends
    }

    pub(super) fn committed(&self) -> Committed {
        Committed {
            batch: self.record.batch,
            ends: self.ends(),
        }
    }

    /// Whether it is the batch, of whichever attempt.
    pub(super) fn holds(&self, batch: &BatchRanges) -> bool {
        self.record.batch == batch.batch && self.ranges == batch.ranges
    }

    pub(super) fn to_json(&self) -> Result<bytes::Bytes> {
        let json = serde_json::to_vec(self);
        json.map(Into::into)
            .map_err(|error| Error::internal(format!("a manifest: {error}")).because(error))
    }
}

/// Reads a manifest; `file` names it in messages.
pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Manifest> {
    check_version(file, bytes)?;
    let manifest: Manifest = json(file, bytes)?;
    check_names(file, &manifest.record)?;
    Ok(manifest)
}

/// Refuses names that lead out of the location: files are published, read and removed by them.
fn check_names(file: &str, record: &Record) -> Result<()> {
    let names = record
        .files
        .iter()
        .flat_map(|file| [&file.name, &file.staged]);
    let names = names.filter(|name| !name.is_empty());
    let parts = [&record.schema, &record.attempt].into_iter();
    // These become parts of names.
    let wrong = parts.filter(|part| part.contains('/') || (!part.is_empty() && leads_out(part)));
    match names.filter(|name| leads_out(name)).chain(wrong).next() {
        None => Ok(()),
        Some(name) => Err(Error::corrupt(
            file,
            format!(
                "the name '{name}' in it leads out of the location: it was not written by this program"
            ),
        )),
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    job: String,
    first: u64,
    last: u64,
}

/// Many manifests as one file: a line each, after a line that says which.
pub(super) fn checkpoint(job: &str, records: &[Record]) -> Result<bytes::Bytes> {
    let header = Header {
        version: VERSION,
        job: job.to_owned(),
        first: records.first().map_or(0, |r| r.number),
        last: records.last().map_or(0, |r| r.number),
    };
    let write = || {
        let mut lines = serde_json::to_vec(&header)?;
        for record in records {
            lines.push(b'\n');
            serde_json::to_writer(&mut lines, record)?;
        }
        lines.push(b'\n');
        Ok::<_, serde_json::Error>(lines)
    };
    let lines = write()
        .map_err(|error| Error::internal(format!("a checkpoint: {error}")).because(error))?;
    Ok(lines.into())
}

/// Reads what [`checkpoint`] wrote.
pub(super) fn read_checkpoint(file: &str, bytes: &[u8]) -> Result<Vec<Record>> {
    let mut lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    check_version(file, first)?;
    let header: Header = json(file, first)?;
    let records: Vec<Record> = lines.map(|line| json(file, line)).collect::<Result<_>>()?;
    records
        .iter()
        .try_for_each(|record| check_names(file, record))?;
    let numbers = records.iter().map(|record| record.number);
    if !numbers.eq(header.first..=header.last) {
        return Err(Error::corrupt(
            file,
            format!(
                "it says that it has the manifests {} to {} and does not",
                header.first, header.last
            ),
        ));
    }
    Ok(records)
}

fn check_version(file: &str, bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let found: Versioned = json(file, bytes)?;
    if found.version == VERSION {
        return Ok(());
    }
    Err(Error::corrupt(
        file,
        format!(
            "its version is {}, this build knows {VERSION}: use the build that wrote it or a newer one",
            found.version
        ),
    ))
}

fn json<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::corrupt(file, format!("it is no manifest: {error}")).because(error))
}

/// The folder of all jobs' manifests.
pub(super) const MANIFESTS: &str = "_manifests";
/// The folder of files that are not committed.
pub(super) const STAGED: &str = "_staged";

/// `_manifests/JOB`
pub(super) fn folder_of(job: &str) -> String {
    format!("{MANIFESTS}/{}", job_name(job))
}

/// `_staged/JOB`
pub(super) fn staged_of(job: &str) -> String {
    format!("{STAGED}/{}", job_name(job))
}

/// A job's name as a folder's: no job is called `.`, `..` or nothing.
fn job_name(job: &str) -> String {
    match job {
        "" => "%".to_owned(),
        _ if job.starts_with('.') => format!("%2E{}", hive::escape(&job[1..])),
        _ => hive::escape(job),
    }
}

/// `00000000000000000007.json` in a job's folder.
pub(super) fn name_of(folder: &str, number: u64) -> String {
    format!("{folder}/{number:020}.json")
}

/// `00000000000000000007-ATTEMPT` in a job's folder of staged files.
pub(super) fn attempt_folder(job: &str, number: u64, attempt: &str) -> String {
    format!("{}/{number:020}-{attempt}", staged_of(job))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Record {
        Record {
            number,
            batch: number + 3,
            attempt: "a".repeat(32),
            schema: "s".to_owned(),
            partitioned_by: vec!["k".to_owned()],
            files: vec![DataFile {
                name: "k=1/part".to_owned(),
                staged: String::new(),
                rows: 5,
                bytes: 100,
                sha256: "0".repeat(64),
                values: vec![Some("1".to_owned()), None],
            }],
        }
    }

    fn batch(partitions: &[(i32, Option<i64>, i64)]) -> BatchRanges {
        let ranges = partitions
            .iter()
            .map(|(partition, previous, end)| SourceRange {
                partition: SourcePartition {
                    source: "s".into(),
                    topic: "t".into(),
                    partition: *partition,
                },
                previous: *previous,
                start: previous.unwrap_or(0),
                end: *end,
                topic_id: Some("id".to_owned()),
                leader_epoch: Some(6),
            });
        BatchRanges {
            job: "job".to_owned(),
            batch: 3,
            attempt: "a".repeat(32),
            ranges: ranges.collect(),
        }
    }

    #[test]
    fn a_manifest_keeps_the_ends_of_partitions_that_left() {
        let first = Manifest::next(None, &batch(&[(0, None, 5), (1, None, 6)]), record(0));
        let second = Manifest::next(Some(&first), &batch(&[(1, Some(6), 9)]), record(1));
        let read = read("x", &second.to_json().unwrap()).unwrap();
        assert_eq!(read, second);
        let ends: Vec<_> = read.ends().into_iter().collect();
        let ends: Vec<_> = ends.iter().map(|(p, e)| (p.partition, e.next)).collect();
        assert_eq!(ends, [(0, 5), (1, 9)]);
    }

    #[test]
    fn changed_manifests_are_read_or_refused() {
        let first = Manifest::next(None, &batch(&[(0, None, 5), (1, None, 6)]), record(0));
        let second = Manifest::next(Some(&first), &batch(&[(1, Some(6), 9)]), record(1));
        let json = String::from_utf8(second.to_json().unwrap().into()).unwrap();
        for changed in crate::spoil::spoiled(&json) {
            if let Ok(manifest) = read("x", changed.as_bytes()) {
                let _ = (manifest.committed(), manifest.to_json().unwrap());
            }
            let lines = format!(
                "{{\"version\":1,\"job\":\"j\",\"first\":0,\"last\":18446744073709551615}}\n{changed}"
            );
            assert!(read_checkpoint("x", lines.as_bytes()).is_err());
        }
    }

    #[test]
    fn torn_and_foreign_files_are_named() {
        let manifest = Manifest::next(None, &batch(&[(0, None, 5)]), record(0));
        let json = manifest.to_json().unwrap();
        let error = read("dir/7.json", &json[..40]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("dir/7.json: it is no manifest")
        );
        let newer = String::from_utf8_lossy(&json).replace("\"version\":1", "\"version\":2");
        let error = read("x", newer.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("version is 2"), "{error}");
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        let of = |change: &dyn Fn(&mut Record)| {
            let mut record = record(0);
            change(&mut record);
            let manifest = Manifest::next(None, &batch(&[(0, None, 5)]), record.clone());
            let lines = checkpoint("job", &[record]).unwrap();
            let json = manifest.to_json().unwrap();
            (
                read("x", &json).map(drop),
                read_checkpoint("x", &lines).map(drop),
            )
        };
        for name in ["../x", "a/../../x", "/etc/x", "a//x", "./x", "s3://other/x"] {
            for field in 0..4 {
                let (single, many) = of(&|record| match field {
                    0 => name.clone_into(&mut record.files[0].name),
                    1 => name.clone_into(&mut record.files[0].staged),
                    2 => name.clone_into(&mut record.schema),
                    _ => name.clone_into(&mut record.attempt),
                });
                for found in [single, many] {
                    let error = found.unwrap_err();
                    assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error}");
                    assert!(error.to_string().contains("leads out"), "{name}: {error}");
                }
            }
        }
        assert!(of(&|_| {}).0.is_ok());
    }

    #[test]
    fn a_checkpoint_is_whole_or_refused() {
        let records: Vec<_> = (5..9).map(record).collect();
        let bytes = checkpoint("job", &records).unwrap();
        assert_eq!(read_checkpoint("x", &bytes).unwrap(), records);
        let torn = &bytes[..bytes.len() * 3 / 4];
        assert!(read_checkpoint("x", torn).is_err());
        let lines: Vec<_> = bytes.split_inclusive(|b| *b == b'\n').collect();
        assert!(read_checkpoint("x", &lines[..3].concat()).is_err());
        assert!(read_checkpoint("x", b"").is_err());
    }

    #[test]
    fn any_job_name_is_a_folder() {
        let folders = ["", "..", ".", "a/b", "%", "é"].map(folder_of);
        let distinct: std::collections::BTreeSet<_> = folders.iter().collect();
        assert_eq!(distinct.len(), folders.len(), "{folders:?}");
        assert!(
            folders
                .iter()
                .all(|f| !f.ends_with("/.") && !f.ends_with("/.."))
        );
        assert!(folders.iter().all(|f| f.matches('/').count() == 1));
    }
}
