//! The offset log: what a job is about to do, and what it has done.
//!
//! ```text
//! job.json                       the job's name and queries
//! start.json                     where it starts, before the first record is read
//! owner.json                     the run of a driver that took the log over last
//! intent/00000000000000000007    batch 7, fixed before it runs
//! commit/00000000000000000007    all sinks have committed batch 7
//! ```
//!
//! Start, intents and commits are written once, by a conditional create: of two drivers on one log
//! the slower one is refused (Spark's rule S4). The owner only decides which of the two goes on: the
//! one that came later, so that a driver that hangs somewhere can always be replaced. On local disks a file and its folder are synced
//! before the next step. The rules of recovery are Spark's S2 and S3: an intent without commit is
//! run again with exactly its ranges.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::intent::{CommitRecord, Intent, JobRecord, Owner, QueryRecord, Start, VERSION};
use crate::error::{Error, Result};
use crate::store::{Created, Durability, Store};

/// How many batches the log keeps, as Spark's does.
pub const KEPT_BATCHES: u64 = 100;

const JOB: &str = "job.json";
const START: &str = "start.json";
const OWNER: &str = "owner.json";

/// A job's offset log.
#[derive(Debug)]
pub struct OffsetLog {
    store: Store,
    durability: Durability,
}

/// What an offset log says about its last batches.
#[derive(Debug, Default)]
pub(crate) struct LogState {
    /// Where the job starts, if that was fixed.
    pub(crate) start: Option<Start>,
    /// The last batch that was fixed.
    pub(crate) intent: Option<Intent>,
    /// Whether all sinks have committed that batch.
    pub(crate) committed: bool,
}

impl OffsetLog {
    /// A log in `store`; nothing is read or written yet.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            durability: Durability::Fsync,
        }
    }

    /// Whether files on local disks are synced; they are unless set. Without it a crash of the
    /// machine may lose the last batches of the log, whose sinks then refuse the job (exit 8).
    #[must_use]
    pub fn fsync(mut self, fsync: bool) -> Self {
        self.durability = if fsync {
            Durability::Fsync
        } else {
            Durability::None
        };
        self
    }

    /// Where the log lies, without secrets.
    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// Takes the log for a job: writes `job.json`, or compares with the one that is there.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the log belongs to a job of another name, [`Error::Invalid`] when
    /// its queries differ and `allow_changed_query` is not set.
    pub(crate) async fn claim(&self, job: JobRecord, allow_changed_query: bool) -> Result<()> {
        // The statements hold what stood for `${NAME}`, perhaps a password.
        let private = self.store.private();
        let bytes = to_json(&job);
        if private.create(JOB, bytes, self.durability).await? == Created::New {
            return Ok(());
        }
        let Some(found) = self.read::<JobRecord>(JOB).await? else {
            return Err(self.vanished(JOB));
        };
        if found.job != job.job {
            return Err(Error::Conflict {
                target: self.url().to_owned(),
                message: format!(
                    "this offset log belongs to job '{}', not to '{}': give it its own checkpoint, \
                     or the old name with --name",
                    found.job, job.job
                ),
            });
        }
        if found.query == job.query {
            return Ok(());
        }
        if !allow_changed_query {
            return Err(Error::invalid(format!(
                "{}: the job's queries are not those that the offset log was made with: {}; \
                 start with --allow-changed-query to go on from the recorded offsets with the new ones, \
                 or give the changed job a new name and checkpoint",
                self.url(),
                difference(&found.query, &job.query)
            )));
        }
        let changed = JobRecord {
            created_ms: found.created_ms,
            ..job
        };
        private.put(JOB, to_json(&changed), self.durability).await
    }

    /// The name of the job that the log belongs to; `None` for an empty log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn job(&self) -> Result<Option<String>> {
        Ok(self.read::<JobRecord>(JOB).await?.map(|record| record.job))
    }

    /// Makes a run of a driver the owner: earlier ones stop before their next batch.
    pub(crate) async fn take_over(&self, owner: &Owner) -> Result<()> {
        self.store.put(OWNER, to_json(owner), self.durability).await
    }

    /// Refuses a run that is not the owner any more.
    pub(crate) async fn check_owner(&self, run: &str) -> Result<()> {
        match self.read::<Owner>(OWNER).await? {
            Some(owner) if owner.run != run => Err(Error::Conflict {
                target: self.url().to_owned(),
                message: format!(
                    "another driver took this job over at {}: this one stops",
                    jiff::Timestamp::from_millisecond(owner.started_ms).unwrap_or_default()
                ),
            }),
            // A log that was removed under way is found out by the next intent.
            _ => Ok(()),
        }
    }

    /// Writes where the job starts; of two drivers that do so the first one's holds.
    pub(crate) async fn start(&self, start: Start) -> Result<Start> {
        if self.create(START, to_json(&start)).await? == Created::New {
            return Ok(start);
        }
        self.read(START).await?.ok_or_else(|| self.vanished(START))
    }

    /// Reads the start and the last batch.
    ///
    /// A driver that was overtaken may write its last files meanwhile: what does not fit together is
    /// looked at again.
    pub(crate) async fn state(&self) -> Result<LogState> {
        const LOOKS: u32 = 4;
        let mut look = 1;
        loop {
            match self.look().await {
                Err(Error::Corrupt { .. }) if look < LOOKS => look += 1,
                state => return state,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn look(&self) -> Result<LogState> {
        let start = self.read(START).await?;
        // Commits first: each has its intent by then.
        let commits = self.batches("commit").await?;
        let intents = self.batches("intent").await?;
        let last_commit = commits.last().copied();
        let Some(last) = intents.last().copied() else {
            return match last_commit {
                Some(batch) => Err(self.incomplete(&file("intent", batch))),
                None => Ok(LogState {
                    start,
                    ..LogState::default()
                }),
            };
        };
        if last_commit.is_some_and(|commit| commit > last) {
            return Err(self.incomplete(&file("intent", last + 1)));
        }
        // Spark's rule S3: with an intent that is not the next after the last commit, batches
        // are missing.
        let before = last.checked_sub(1);
        let gap = match last_commit {
            Some(commit) => Some(commit) < before,
            None => intents.len() > 1,
        };
        if gap {
            return Err(self.incomplete(&file("commit", before.unwrap_or(0))));
        }
        Ok(LogState {
            start,
            committed: last_commit == Some(last),
            intent: Some(self.intent(last).await?),
        })
    }

    fn incomplete(&self, name: &str) -> Error {
        self.corrupt(
            name,
            "the file is missing, and later ones are there: restore it, or remove the whole log; \
             the job then goes on from the ends that its sinks recorded",
        )
    }

    /// The intent of a batch.
    ///
    /// # Errors
    /// When the log does not have it (any more), or it cannot be read.
    pub async fn intent(&self, batch: u64) -> Result<Intent> {
        let name = file("intent", batch);
        let intent: Intent = match self.read(&name).await? {
            Some(intent) => intent,
            None => {
                let kept = self.batches("intent").await?;
                let there_are = match (kept.first(), kept.last()) {
                    (Some(first), Some(last)) => format!("it has batches {first} to {last}"),
                    _ => "it has none".to_owned(),
                };
                return Err(Error::invalid(format!(
                    "{}: the offset log has no batch {batch}; {there_are}",
                    self.url()
                )));
            }
        };
        if intent.batch != batch {
            return Err(self.corrupt(&name, &format!("it holds batch {}", intent.batch)));
        }
        for source in &intent.sources {
            let readable = source.reading();
            readable.map_err(|error| self.corrupt(&name, &error.to_string()))?;
        }
        Ok(intent)
    }

    /// Fixes a batch.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another driver has fixed one of its number.
    pub(crate) async fn write_intent(&self, intent: &Intent) -> Result<()> {
        let name = file("intent", intent.batch);
        match self.create(&name, to_json(intent)).await? {
            Created::New => Ok(()),
            Created::Exists => Err(self.fenced(&name, intent.batch)),
        }
    }

    /// Takes back a batch that no sink has and that can never be run: it is fixed again.
    pub(crate) async fn withdraw(&self, batch: u64) -> Result<()> {
        self.store.delete(&[file("intent", batch)]).await
    }

    /// Notes that all sinks have committed a batch.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another driver has noted it.
    pub(crate) async fn write_commit(&self, commit: &CommitRecord) -> Result<()> {
        let name = file("commit", commit.batch);
        match self.create(&name, to_json(commit)).await? {
            Created::New => Ok(()),
            Created::Exists => Err(self.fenced(&name, commit.batch)),
        }
    }

    /// What a committed batch did; `None` if it is not committed or not kept.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn commit(&self, batch: u64) -> Result<Option<CommitRecord>> {
        self.read(&file("commit", batch)).await
    }

    /// The numbers of the batches that the log keeps, ascending.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn intents(&self) -> Result<Vec<u64>> {
        self.batches("intent").await
    }

    /// Removes what lies more than [`KEPT_BATCHES`] before `batch`, where a step of ten is due.
    pub(crate) async fn prune(&self, batch: u64) -> Result<()> {
        const STEP: u64 = 10;
        if !batch.is_multiple_of(STEP) || batch < KEPT_BATCHES {
            return Ok(());
        }
        let keep_from = batch - KEPT_BATCHES + 1;
        let mut old = vec![];
        // The commit goes first: an intent alone would look like a batch to be run again.
        for kind in ["commit", "intent"] {
            let batches = self.batches(kind).await?;
            old.extend(
                batches
                    .into_iter()
                    .filter(|b| *b < keep_from)
                    .map(|b| file(kind, b)),
            );
        }
        self.store.delete(&old).await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<Created> {
        self.store.create(name, bytes, self.durability).await
    }

    async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.store.get(name).await? else {
            return Ok(None);
        };
        parse(&bytes)
            .map(Some)
            .map_err(|message| self.corrupt(name, &message))
    }

    async fn batches(&self, kind: &str) -> Result<Vec<u64>> {
        let names = self.store.list(kind).await?;
        let mut batches = vec![];
        for name in names {
            let last = name.rsplit('/').next().unwrap_or_default();
            // What is not a number is not ours: an editor's backup, a file that was being written.
            if let Ok(batch) = last.parse() {
                batches.push(batch);
            }
        }
        batches.sort_unstable();
        Ok(batches)
    }

    fn corrupt(&self, name: &str, message: &str) -> Error {
        let file = format!("{}/{name}", self.url().trim_end_matches('/'));
        Error::corrupt(file, message)
    }

    fn vanished(&self, name: &str) -> Error {
        self.corrupt(name, "it was there a moment ago and is gone")
    }

    fn fenced(&self, name: &str, batch: u64) -> Error {
        Error::Conflict {
            target: self.url().to_owned(),
            message: format!(
                "another driver has written {name}: it runs this job and batch {batch} is its own; \
                 this one stops"
            ),
        }
    }
}

fn file(kind: &str, batch: u64) -> String {
    format!("{kind}/{batch:020}")
}

fn to_json(value: &impl Serialize) -> Bytes {
    // Strings, numbers and lists of them, which JSON always can.
    let mut bytes = serde_json::to_vec(value).expect("strings and numbers are JSON");
    bytes.push(b'\n');
    bytes.into()
}

/// Reads a file of the log, its version first: another one's fields may mean other things.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "this is no whole JSON ({error}): the file was torn or overwritten; restore it, or remove the \
             whole log: the job then goes on from the ends that its sinks recorded"
        )
    })?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(VERSION) => {}
        Some(other) => {
            return Err(format!(
                "its version is {other}, this program knows {VERSION}: use the program that wrote it or a newer one"
            ));
        }
        None => return Err("it names no version: this is no file of an offset log".to_owned()),
    }
    serde_json::from_value(value)
        .map_err(|error| format!("{error}: this is no file of an offset log"))
}

/// In what two jobs differ, for a message.
fn difference(found: &QueryRecord, given: &QueryRecord) -> String {
    if found.sources != given.sources {
        let list = |q: &QueryRecord| {
            let topics = q
                .sources
                .iter()
                .map(|(name, topics)| format!("{name} ({topics})"));
            topics.collect::<Vec<_>>().join(", ")
        };
        return format!("sources were {}, now {}", list(found), list(given));
    }
    if found.sinks != given.sinks {
        return format!(
            "sinks were {}, now {}",
            found.sinks.join(", "),
            given.sinks.join(", ")
        );
    }
    let pairs = found.statements.iter().zip(&given.statements);
    match pairs.into_iter().find(|(a, b)| a != b) {
        Some((was, is)) => format!("was '{was}', now '{is}'"),
        None => format!(
            "there were {} INSERT statements, now {}",
            found.statements.len(),
            given.statements.len()
        ),
    }
}
