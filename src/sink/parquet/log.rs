//! The row of a job's manifests, kept short by checkpoints.
//!
//! ```text
//! _manifests/JOB/00000000000000000207.json                  the batches since the last checkpoint,
//!                                                           and the last 100
//! _manifests/JOB/checkpoints/00…000-00…099.jsonl            a hundred manifests each; a hundred of
//!                                                           these become one of 10,000, and so on
//! _manifests/JOB/schema-0123456789abcdef.arrow              the columns
//! ```
//!
//! A manifest is written once, by a conditional create, and its number follows the one before: of
//! two drivers the slower one finds the name taken. One that is slower by so much that the name
//! was taken *and pruned* finds later manifests behind its own ([`Row::took`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};

use super::manifest::{self, MANIFESTS, Manifest, Record};
use crate::error::{Error, Result};
use crate::formats::{decode_columns, encode_columns};
use crate::store::{Created, Durability, Store};

/// How many manifests a checkpoint takes together, and how many stay single.
pub(super) const STEP: u64 = 100;
/// Requests at a time.
pub(super) const CONCURRENT: usize = 16;
/// How often a listing is read again because a file of it has become part of a checkpoint.
const READ_AGAIN: usize = 5;

/// The manifests of one job.
#[derive(Debug, Clone)]
pub(super) struct Row {
    store: Store,
    pub(super) job: String,
    folder: String,
}

/// The files of a row, by name.
#[derive(Debug, Default)]
struct Listing {
    singles: Vec<u64>,
    /// Checkpoints: first and last number, the longest first where several begin at one.
    checkpoints: BTreeSet<(u64, Reverse<u64>)>,
}

impl Listing {
    fn new<'a>(folder: &str, names: impl Iterator<Item = &'a String>) -> Self {
        let mut listing = Self::default();
        for name in names {
            let name = name.strip_prefix(folder).unwrap_or_default();
            if let Some(number) = name.strip_prefix('/').and_then(single) {
                listing.singles.push(number);
            } else if let Some(rest) = name.strip_prefix("/checkpoints/") {
                let range = rest.strip_suffix(".jsonl").and_then(|r| r.split_once('-'));
                if let Some((Ok(first), Ok(last))) = range.map(|(f, l)| (f.parse(), l.parse())) {
                    let key = (first, Reverse(last));
                    listing.checkpoints.insert(key);
                }
            }
        }
        listing.singles.sort_unstable();
        listing
    }

    /// The fewest checkpoints that follow one another from 0, and the number after them.
    fn cover(&self) -> (Vec<(u64, u64)>, u64) {
        let mut cover = vec![];
        let mut next = 0;
        for (first, Reverse(last)) in &self.checkpoints {
            if *first == next {
                cover.push((*first, *last));
                next = last.saturating_add(1);
            }
        }
        (cover, next)
    }
}

fn single(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}

impl Row {
    pub(super) fn new(store: &Store, job: &str) -> Self {
        Self {
            store: store.clone(),
            job: job.to_owned(),
            folder: manifest::folder_of(job),
        }
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.store.url().trim_end_matches('/'))
    }

    /// Reads a manifest.
    pub(super) async fn get(&self, number: u64) -> Result<Option<Manifest>> {
        let name = manifest::name_of(&self.folder, number);
        let Some(bytes) = self.store.get(&name).await? else {
            return Ok(None);
        };
        let mut manifest = manifest::read(&self.file(&name), &bytes)?;
        manifest.record = manifest.record.with_possible_names(&self.store);
        Ok(Some(manifest))
    }

    /// The newest manifest.
    pub(super) async fn newest(&self) -> Result<Option<Manifest>> {
        for _ in 0..READ_AGAIN {
            let names = self.store.list(&self.folder).await?;
            let listing = Listing::new(&self.folder, names.iter());
            let Some(newest) = listing.singles.last() else {
                return match listing.checkpoints.is_empty() {
                    true => Ok(None),
                    false => Err(self.gap(listing.cover().1)),
                };
            };
            if let Some(manifest) = self.get(*newest).await? {
                return Ok(Some(manifest));
            }
        }
        Err(self.restless())
    }

    /// Writes a manifest; whether its number was free.
    pub(super) async fn put(&self, manifest: &Manifest, durability: Durability) -> Result<Created> {
        let name = manifest::name_of(&self.folder, manifest.record.number);
        self.store
            .create(&name, manifest.to_json()?, durability)
            .await
    }

    /// Whether the row goes on from this manifest, which was just written: false when its number
    /// had been taken and pruned long before.
    pub(super) async fn took(&self, manifest: &Manifest) -> Result<bool> {
        let number = manifest.record.number;
        let name = manifest::name_of(&self.folder, number);
        let later = self.store.list_after(&self.folder, &name).await?;
        let later = Listing::new(&self.folder, later.iter());
        if later.singles.is_empty() {
            return Ok(true);
        }
        if let Some(next) = self.get(number + 1).await? {
            return Ok(next.previous.as_ref() == Some(&manifest.record.attempt));
        }
        let records = self.records().await?;
        let recorded = records.iter().find(|record| record.number == number);
        Ok(recorded.is_some_and(|record| record.attempt == manifest.record.attempt))
    }

    /// Removes a manifest that did not take its number.
    pub(super) async fn withdraw(&self, number: u64) -> Result<()> {
        let name = manifest::name_of(&self.folder, number);
        self.store.delete(&[name]).await
    }

    /// All batches, in their order.
    pub(super) async fn records(&self) -> Result<Vec<Record>> {
        for _ in 0..READ_AGAIN {
            let names = self.store.list(&self.folder).await?;
            let listing = Listing::new(&self.folder, names.iter());
            if let Some(records) = self.read(&listing).await? {
                return Ok(records);
            }
        }
        Err(self.restless())
    }

    /// Reads what is listed; `None` when a checkpoint has taken a file's place meanwhile.
    async fn read(&self, listing: &Listing) -> Result<Option<Vec<Record>>> {
        let (cover, next) = listing.cover();
        let singles: Vec<u64> = listing
            .singles
            .iter()
            .copied()
            .filter(|number| *number >= next)
            .collect();
        if let Some((expected, _)) = (next..).zip(&singles).find(|(e, s)| e != *s) {
            return Err(self.gap(expected));
        }
        let checkpoints =
            futures::stream::iter(cover.into_iter().map(|(first, last)| async move {
                let name = checkpoint_name(&self.folder, first, last);
                let Some(bytes) = self.store.get(&name).await? else {
                    return Ok(None);
                };
                let records = manifest::read_checkpoint(&self.file(&name), &bytes)?;
                let records = records.into_iter();
                let records = records.map(|record| record.with_possible_names(&self.store));
                Ok::<_, Error>(Some(records.collect::<Vec<_>>()))
            }));
        let singles = futures::stream::iter(singles.into_iter().map(|number| async move {
            let found = self.get(number).await?;
            Ok::<_, Error>(found.map(|manifest| vec![manifest.record]))
        }));
        let checkpoints: Vec<_> = checkpoints.buffered(CONCURRENT).try_collect().await?;
        let singles: Vec<_> = singles.buffered(CONCURRENT).try_collect().await?;
        let read: Option<Vec<Vec<Record>>> = checkpoints.into_iter().chain(singles).collect();
        Ok(read.map(|records| records.into_iter().flatten().collect()))
    }

    /// Writes the checkpoints that are due, and removes what they make superfluous.
    pub(super) async fn compact(&self, durability: Durability) -> Result<()> {
        let names = self.store.list(&self.folder).await?;
        let mut listing = Listing::new(&self.folder, names.iter());
        let Some(newest) = listing.singles.last().copied() else {
            return Ok(());
        };
        loop {
            let (_, first) = listing.cover();
            let last = first + (STEP - 1);
            if last > newest {
                break;
            }
            let numbers = futures::stream::iter((first..=last).map(|number| self.get(number)));
            let found: Vec<_> = numbers.buffered(CONCURRENT).try_collect().await?;
            let records: Option<Vec<Record>> =
                found.into_iter().map(|m| m.map(|m| m.record)).collect();
            let Some(mut records) = records else {
                return Ok(()); // Another one compacts.
            };
            for file in records.iter_mut().flat_map(|record| &mut record.files) {
                file.staged.clear();
            }
            self.write_checkpoint(&records, durability).await?;
            listing.checkpoints.insert((first, Reverse(last)));
            let covered = last + 1;
            let mut width = STEP;
            while let Some(wider) = width.checked_mul(STEP) {
                if !covered.is_multiple_of(wider) {
                    break;
                }
                if !self.merge(covered - wider, width, durability).await? {
                    break;
                }
                let key = (covered - wider, Reverse(last));
                listing.checkpoints.insert(key);
                width = wider;
            }
        }
        let (cover, covered) = listing.cover();
        let kept = covered.min((newest + 1).saturating_sub(STEP));
        let singles = listing.singles.iter().filter(|number| **number < kept);
        let singles = singles.map(|number| manifest::name_of(&self.folder, *number));
        let narrow = listing
            .checkpoints
            .iter()
            .filter(|(first, last)| last.0 < covered && !cover.contains(&(*first, last.0)));
        let narrow = narrow.map(|(first, last)| checkpoint_name(&self.folder, *first, last.0));
        let superfluous: Vec<String> = singles.chain(narrow).collect();
        self.store.delete(&superfluous).await
    }

    /// Makes one checkpoint of a hundred narrower ones; false when one of them is gone.
    async fn merge(&self, first: u64, width: u64, durability: Durability) -> Result<bool> {
        let mut records = vec![];
        for part in 0..STEP {
            let from = first + part * width;
            let name = checkpoint_name(&self.folder, from, from + width - 1);
            let Some(bytes) = self.store.get(&name).await? else {
                return Ok(false);
            };
            records.extend(manifest::read_checkpoint(&self.file(&name), &bytes)?);
        }
        self.write_checkpoint(&records, durability).await?;
        Ok(true)
    }

    async fn write_checkpoint(&self, records: &[Record], durability: Durability) -> Result<()> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Ok(());
        };
        let name = checkpoint_name(&self.folder, first.number, last.number);
        let bytes = manifest::checkpoint(&self.job, records)?;
        // Whoever wrote it before wrote the same: manifests do not change.
        self.store.create(&name, bytes, durability).await.map(drop)
    }

    fn gap(&self, number: u64) -> Error {
        Error::corrupt(
            self.file(&manifest::name_of(&self.folder, number)),
            "this manifest is missing, later ones are there: somebody removed it; \
                      restore it, for without it nobody knows which rows the location has",
        )
    }

    fn restless(&self) -> Error {
        Error::Sink {
            target: self.store.url().to_owned(),
            operation: format!("reading the manifests of job '{}'", self.job),
            reason: "they changed each time while they were read".to_owned(),
            transient: true,
            source: None,
        }
    }
}

fn checkpoint_name(folder: &str, first: u64, last: u64) -> String {
    format!("{folder}/checkpoints/{first:020}-{last:020}.jsonl")
}

/// The jobs that have committed to a location.
pub(super) async fn jobs(store: &Store) -> Result<Vec<String>> {
    let names = store.list(MANIFESTS).await?;
    let mut folders: BTreeMap<&str, u64> = BTreeMap::new();
    for name in &names {
        let rest = name
            .strip_prefix(MANIFESTS)
            .and_then(|n| n.strip_prefix('/'));
        if let Some((folder, number)) = rest.and_then(|rest| rest.split_once('/'))
            && let Some(number) = single(number)
        {
            let newest = folders.entry(folder).or_default();
            *newest = number.max(*newest);
        }
    }
    let mut jobs = vec![];
    for (folder, number) in folders {
        let name = manifest::name_of(&format!("{MANIFESTS}/{folder}"), number);
        if let Some(bytes) = store.get(&name).await? {
            jobs.push(manifest::read(&format!("{}/{name}", store.url()), &bytes)?.job);
        }
    }
    Ok(jobs)
}

/// Keeps the columns of a job's files; the name to find them by.
pub(super) async fn put_schema(
    store: &Store,
    job: &str,
    columns: &arrow::datatypes::Schema,
    durability: Durability,
) -> Result<String> {
    let (name, bytes) = encode_columns(columns)?;
    let file = schema_name(job, &name);
    if store.size(&file).await?.is_none() {
        store.create(&file, bytes, durability).await?;
    }
    Ok(name)
}

/// Whether the store has these columns.
pub(super) async fn has_schema(store: &Store, job: &str, name: &str) -> Result<bool> {
    let size = store.size(&schema_name(job, name)).await?;
    Ok(size.is_some())
}

/// The columns of a job's files.
pub(super) async fn get_schema(store: &Store, job: &str, name: &str) -> Result<SchemaRef> {
    let file = schema_name(job, name);
    let shown = format!("{}/{file}", store.url());
    match store.get(&file).await? {
        Some(bytes) => decode_columns(&shown, &bytes),
        None => Err(Error::corrupt(
            shown,
            "it is missing and a manifest names it",
        )),
    }
}

fn schema_name(job: &str, name: &str) -> String {
    format!("{}/schema-{name}.arrow", manifest::folder_of(job))
}
