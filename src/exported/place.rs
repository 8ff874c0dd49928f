//! The folder of an export: a [`Store`] that can also hold files of any size.
//!
//! A file appears as a whole or not at all. Local files are written as `NAME#N`, which globs by extension do
//! not match, and get their name when they are complete. Object stores show an upload only once it is
//! complete.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, WriteMultipart};

use crate::error::{Cause, Error, Result};
use crate::store::{Created, Durability, Store};

/// The size of one part of an upload in bytes. Object stores require at least 5 MiB.
const PART_BYTES: usize = 5 << 20;
/// How many parts of an upload may be in flight.
const PARTS_UNDER_WAY: usize = 2;
/// Where the files of other processes wait for their names: in a folder for each run.
const STAGING: &str = "_export/staging";
/// The file by which they see that it is the coordinator's folder.
const BEGUN: &str = "begun";
/// The file whose lock keeps a second process out of a local export.
const LOCK: &str = "_export/lock";

/// The location of an export. Names are relative to it, with `/` between folders.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    store: Store,
    objects: Arc<dyn ObjectStore>,
    root: Path,
    /// The folder, if it is on this machine.
    folder: Option<PathBuf>,
}

/// Keeps other processes out, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "holding it is its use")] Option<File>);

impl Place {
    /// Opens a folder by URL or path. This reads nothing.
    ///
    /// # Errors
    /// When the URL is not valid.
    pub(crate) fn open(target: &str) -> Result<Self> {
        Self::over(Store::open(target, &HashMap::new())?)
    }

    /// Uses a folder that is already open.
    ///
    /// # Errors
    /// When the folder's name is not a valid path in object stores.
    pub(crate) fn over(store: Store) -> Result<Self> {
        Ok(Self {
            objects: store.object_store(),
            root: store.path("")?,
            folder: store.local().map(FilePath::to_owned),
            store,
        })
    }

    /// The folder as messages show it, without secrets.
    pub(crate) fn url(&self) -> &str {
        self.store.url()
    }

    /// A file as messages show it.
    pub(crate) fn show(&self, name: &str) -> String {
        format!("{}/{name}", self.url())
    }

    /// The store and the file's path in it, for readers that need both.
    pub(crate) fn object(&self, name: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        Ok((Arc::clone(&self.objects), self.path(name)?))
    }

    /// Why a file cannot have this name; see [`Store::check_name`].
    pub(crate) fn check_name(&self, name: &str) -> std::result::Result<(), String> {
        self.store.check_name(name)
    }

    fn path(&self, name: &str) -> Result<Path> {
        let path = match self.root.as_ref() {
            "" => name.to_owned(),
            root => format!("{root}/{name}"),
        };
        // Names of Hive folders already contain escapes, which must not be escaped again.
        Path::parse(&path)
            .map_err(|e| Error::invalid(format!("{}: {e}", self.show(name))).because(e))
    }

    fn failed(&self, name: &str, operation: &str, error: object_store::Error) -> Error {
        Error::Sink {
            target: self.show(name),
            operation: operation.to_owned(),
            // Servers answer in several lines, but a message has one.
            reason: error.to_string().replace('\n', " "),
            transient: matches!(error, object_store::Error::Generic { .. }),
            source: Some(Cause::new(error)),
        }
    }

    /// Creates a small file, unless a different one with the same name exists.
    pub(crate) async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<Created> {
        let bytes = Bytes::from(bytes);
        self.store.create(name, bytes, Durability::Fsync).await
    }

    /// Writes a small file, replacing one with the same name.
    pub(crate) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let bytes = Bytes::from(bytes);
        self.store.put(name, bytes, Durability::Fsync).await
    }

    /// Reads a small file.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.store.get(name).await
    }

    /// All files with their sizes in bytes.
    pub(crate) async fn list(&self) -> Result<BTreeMap<String, u64>> {
        let entries = self.store.entries("").await?.into_iter();
        Ok(entries.map(|entry| (entry.name, entry.bytes)).collect())
    }

    /// A file that the beginning of an export would not have left, if there is one.
    pub(crate) async fn first_foreign(&self) -> Result<Option<String>> {
        let ours = |name: &str| name == LOCK || name.starts_with("_export/.tmp-");
        let Some(folder) = self.folder.clone() else {
            let mut found = self.objects.list(Some(&self.root));
            let first = found.try_next().await;
            let first = first.map_err(|e| self.failed("", "listing the files", e))?;
            return Ok(first.map(|object| object.location.to_string()));
        };
        let found = blocking(move || {
            let mut foreign = None;
            walk(&folder, &mut |path| {
                let name = path.strip_prefix(&folder).unwrap_or(path);
                let name = name.to_string_lossy().into_owned();
                if !ours(&name) {
                    foreign = Some(name);
                }
                foreign.is_none()
            })?;
            Ok(foreign)
        });
        found.await.map_err(|e| self.io("listing the files", e))
    }

    /// Removes what unfinished writes have left in the given folders.
    pub(crate) async fn remove_staged(&self, below: Vec<String>) -> Result<()> {
        let Some(folder) = self.folder.clone() else {
            return Ok(());
        };
        let removed = blocking(move || {
            for below in below {
                walk(&folder.join(below), &mut |path| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    let upload = name.rsplit_once('#').is_some_and(|(_, number)| {
                        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
                    });
                    if upload || name.starts_with(".tmp-") {
                        let _ = fs::remove_file(path);
                    }
                    true
                })?;
            }
            Ok(())
        });
        removed
            .await
            .map_err(|e| self.io("removing what an unfinished run left", e))
    }

    /// Makes the folder in which the files of a run wait for their names.
    pub(crate) async fn begin_staging(&self) -> Result<String> {
        let folder = format!("{STAGING}/{}", uuid::Uuid::new_v4().simple());
        self.put(&format!("{folder}/{BEGUN}"), vec![]).await?;
        Ok(folder)
    }

    /// Refuses a folder or an endpoint that only has the same name as the coordinator's, and a run that is over.
    pub(crate) async fn check_staging(&self, folder: &str) -> Result<()> {
        match self.get(&format!("{folder}/{BEGUN}")).await? {
            Some(_) => Ok(()),
            None => Err(Error::invalid(format!(
                "{}: what the coordinator has written there is not to be seen: workers write to a folder that they \
                 share with the coordinator, or to an object store with the same settings in their environment",
                self.url()
            ))),
        }
    }

    /// Gives a staged file its name.
    pub(crate) async fn publish(&self, staged: &str, name: &str) -> Result<()> {
        match self.store.rename(staged, name, Durability::Fsync).await? {
            true => Ok(()),
            false => Err(Error::sink(
                self.show(staged),
                "publishing",
                "the file is gone",
            )),
        }
    }

    /// Removes what waits for its name.
    pub(crate) async fn end_staging(&self) -> Result<()> {
        self.store.delete_folder(STAGING).await
    }

    /// Whether other processes can write there: those on this machine, or on any.
    pub(crate) fn travels(&self, on_this_machine: bool) -> bool {
        self.store.address().is_some() && (on_this_machine || self.folder.is_none())
    }

    /// The URL or path under which they open it.
    ///
    /// # Errors
    /// When it has settings that others do not have.
    pub(crate) fn address(&self) -> Result<&str> {
        self.store.address().ok_or_else(|| {
            Error::invalid(format!(
                "{}: the store has settings that other machines do not have",
                self.url()
            ))
        })
    }

    /// Removes files.
    pub(crate) async fn delete(&self, names: &[String]) -> Result<()> {
        for name in names {
            match self.objects.delete(&self.path(name)?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(self.failed(name, "removing the file", e)),
            }
        }
        Ok(())
    }

    /// Begins a file of any size.
    pub(crate) async fn upload(&self, name: &str) -> Result<Upload> {
        let upload: Box<dyn MultipartUpload> = self
            .objects
            .put_multipart(&self.path(name)?)
            .await
            .map_err(|e| self.failed(name, "creating the file", e))?;
        Ok(Upload {
            writer: WriteMultipart::new_with_chunk_size(upload, PART_BYTES),
            place: self.clone(),
            name: name.to_owned(),
        })
    }

    /// Keeps other processes out of a local folder. Object stores offer no way to do this.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another process is working there.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let Some(folder) = &self.folder else {
            return Ok(Lock(None));
        };
        let failed = |e: io::Error| self.io("locking the export", e);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(LOCK))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(Some(file))),
            Err(fs::TryLockError::WouldBlock) => Err(Error::Conflict {
                target: self.url().to_owned(),
                message: "another process is writing this export now; wait until it ends"
                    .to_owned(),
            }),
            // Some network file systems do not support locks.
            Err(fs::TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                Ok(Lock(None))
            }
            Err(fs::TryLockError::Error(e)) => Err(failed(e)),
        }
    }

    fn io(&self, operation: &str, error: io::Error) -> Error {
        Error::sink(self.url(), operation, error.to_string()).because(error)
    }
}

/// A file that is being written. If it is dropped, readers will not see anything of it.
pub(crate) struct Upload {
    writer: WriteMultipart,
    place: Place,
    name: String,
}

impl Upload {
    /// Appends bytes. Waits while too many are in flight.
    pub(crate) async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<()> {
        self.writer.put(bytes.into());
        let capacity = self.writer.wait_for_capacity(PARTS_UNDER_WAY);
        capacity.await.map_err(|e| {
            let place = &self.place;
            place.failed(&self.name, "writing the file", e)
        })
    }

    /// Makes the file durable and gives it its name.
    pub(crate) async fn finish(self) -> Result<()> {
        let Self {
            writer,
            place,
            name,
        } = self;
        writer
            .finish()
            .await
            .map_err(|e| place.failed(&name, "completing the file", e))?;
        place.store.sync(vec![name]).await
    }

    /// Abandons the file.
    pub(crate) async fn abort(self) {
        // The upload has failed already; the store's own rules remove what is left.
        let _ = self.writer.abort().await;
    }
}

/// Passes every file below `folder` to `see` until that returns false. Links are not followed.
fn walk(folder: &FilePath, see: &mut dyn FnMut(&FilePath) -> bool) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if !see(&entry.path()) {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn uploads_appear_whole_and_staged_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::open(folder.path().to_str().unwrap()).unwrap();
        assert_eq!(place.first_foreign().await.unwrap(), None);
        let name = "a/day=2026%3A1/x.csv";
        let mut upload = place.upload(name).await.unwrap();
        upload.write(vec![1, 2]).await.unwrap();
        assert!(!folder.path().join(name).exists());
        upload.finish().await.unwrap();
        assert!(folder.path().join(name).exists());
        let (store, path) = place.object(name).unwrap();
        assert_eq!(store.head(&path).await.unwrap().size, 2);
        fs::write(folder.path().join("a/y.csv#12"), "torn").unwrap();
        fs::write(folder.path().join("a/y#z"), "other").unwrap();
        assert_eq!(place.list().await.unwrap().get(name), Some(&2));
        place.remove_staged(vec!["a".to_owned()]).await.unwrap();
        assert!(!folder.path().join("a/y.csv#12").exists());
        assert!(folder.path().join("a/y#z").exists());
        assert!(place.first_foreign().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_store_in_memory_is_a_place() {
        let place = Place::open("memory:///some/prefix").unwrap();
        let name = "a/x=1%2F2/y.csv";
        let mut upload = place.upload(name).await.unwrap();
        upload.write(vec![7; 3]).await.unwrap();
        upload.finish().await.unwrap();
        let files = place.list().await.unwrap();
        assert_eq!(files, BTreeMap::from([(name.to_owned(), 3)]));
        assert!(place.first_foreign().await.unwrap().is_some());
        place.delete(&[name.to_owned()]).await.unwrap();
        assert_eq!(place.first_foreign().await.unwrap(), None);
    }
}
