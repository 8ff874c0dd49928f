//! Removes staged files that no manifest will name.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::log::Row;
use super::manifest::{self, Manifest, STAGED};
use crate::error::Result;
use crate::store::Store;

/// A file that belongs to no batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Orphan {
    /// Its name in the location.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// How long ago it was written.
    pub age: Duration,
}

/// Finds staged files of crashed and overtaken attempts that are older than `older_than`, and
/// removes them unless it is a `dry_run`.
///
/// Jobs remove what they leave behind by themselves as they go on; this is for jobs that do not. A
/// batch that is being written has staged files too: `older_than` must be longer than the longest
/// batch, else its commit fails and the batch is repeated. Published files are never touched.
///
/// # Errors
/// When the store fails or a manifest cannot be read.
pub async fn clean(store: &Store, older_than: Duration, dry_run: bool) -> Result<Vec<Orphan>> {
    let jobs = super::log::jobs(store).await?;
    let mut newest: BTreeMap<String, Manifest> = BTreeMap::new();
    for job in jobs {
        if let Some(manifest) = Row::new(store, &job).newest().await? {
            newest.insert(manifest::staged_of(&job), manifest);
        }
    }
    let now = SystemTime::now();
    let mut orphans = vec![];
    for entry in store.entries(STAGED).await? {
        let age = now.duration_since(entry.modified).unwrap_or_default();
        if age < older_than {
            continue;
        }
        let job = entry.name.split('/').take(2).collect::<Vec<_>>().join("/");
        let published = newest.get(&job).and_then(|manifest| {
            let files = &manifest.record.files;
            files.iter().find(|file| file.staged == entry.name)
        });
        // The newest batch may be published under its second name only later.
        if let Some(file) = published
            && store.size(&file.name).await? != Some(file.bytes)
        {
            continue;
        }
        orphans.push(Orphan {
            name: entry.name,
            bytes: entry.bytes,
            age,
        });
    }
    if !dry_run {
        let names: Vec<String> = orphans.iter().map(|orphan| orphan.name.clone()).collect();
        store.delete(&names).await?;
    }
    Ok(orphans)
}
