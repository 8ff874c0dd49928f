//! Files of a job or an export, in a local folder or an object store.
//!
//! A [`Store`] is a URL with a few operations. Everything relies on one of them, [`create`](Store::create):
//! it writes a file once and as a whole, and of two writers of the same name, one learns that it came too
//! late.
//!
//! | URL | store |
//! |---|---|
//! | `/dir`, `dir`, `file:///dir` | a local folder |
//! | `s3://bucket/prefix` | S3 and what speaks its protocol (feature `s3`) |
//! | `gs://bucket/prefix` | Google Cloud Storage (feature `gcs`) |
//! | `az://container/prefix`, `abfss://…` | Azure (feature `azure`) |
//! | `memory:///prefix` | memory, for tests: each store starts empty |
//!
//! Settings come from the environment, as object_store reads it (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
//! `AWS_ALLOW_HTTP`, `AWS_REGION`, …). Options override them. They have object_store's names, such as
//! `aws_access_key_id`, also written with dots (`aws.endpoint`).

mod cloud;
mod local;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use sha2::{Digest, Sha256};
use url::Url;

use crate::error::{Error, Result};

pub(crate) use kafka_arrow::path::local_path;

/// The most bytes in the name of a folder or file that common file systems allow.
const MAX_PART_BYTES: usize = 255;
/// The length of the shortest path that Linux refuses.
const LOCAL_PATH_BYTES: usize = 4096;
/// The length to which parts are shortened when they are too long together. No file name of this crate is
/// longer.
const SHORT_PART_BYTES: usize = 96;
/// The most bytes in a file's whole path: S3 allows no longer key.
const MAX_PATH_BYTES: usize = 1024;

/// Whether a file was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The file did not exist, or existed with the very same bytes. The latter happens when the answer to an
    /// earlier attempt was lost.
    New,
    /// The file existed with other bytes, and was not changed.
    Exists,
}

/// Whether a file must survive a crash of the machine. In object stores it always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// File and folder are synced to disk before the call returns.
    Fsync,
    /// The operating system decides when to write.
    None,
}

/// A file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the store.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// A folder in a file system or an object store.
///
/// Names are relative, with `/` between their parts. Clones share connections.
#[derive(Clone)]
pub struct Store {
    url: String,
    backend: Backend,
    /// Whether only their owner can access local files.
    private: bool,
}

#[derive(Clone)]
enum Backend {
    Local(PathBuf),
    Cloud(cloud::Cloud),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.url).finish()
    }
}

impl Store {
    /// Opens a folder. This reads nothing. A local folder is created with its first file.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid URL, a scheme that this build does not support, or an option that
    /// the scheme does not have.
    pub fn open(url: &str, options: &HashMap<String, String>) -> Result<Self> {
        if let Some(path) = local_path(url)? {
            return Ok(Self {
                url: path.display().to_string(),
                backend: Backend::Local(path),
                private: false,
            });
        }
        let parsed = Url::parse(url).map_err(|e| Error::invalid(format!("'{url}': {e}")))?;
        let url = redacted(&parsed);
        let cloud = cloud::Cloud::open(&parsed, &url, options)?;
        Ok(Self {
            url,
            backend: Backend::Cloud(cloud),
            private: false,
        })
    }

    /// The same folder, but new files on a local disk are only readable by their owner.
    pub(crate) fn private(&self) -> Self {
        Self {
            private: true,
            ..self.clone()
        }
    }

    /// The location of the store, without secrets; a path if it is a local folder.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The path, if the store is a local folder.
    pub fn local(&self) -> Option<&std::path::Path> {
        match &self.backend {
            Backend::Local(path) => Some(path),
            Backend::Cloud(_) => None,
        }
    }

    /// The URL of the bucket or file system as DataFusion registers object stores, for example
    /// `s3://bucket/` or `file:///`.
    ///
    /// # Errors
    /// Never for a store that was opened; the type is DataFusion's.
    pub fn root_url(&self) -> Result<Url> {
        let root = match &self.backend {
            Backend::Local(_) => "file:///",
            Backend::Cloud(cloud) => &cloud.root,
        };
        Url::parse(root).map_err(|e| Error::invalid(format!("'{root}': {e}")))
    }

    /// The store as an object_store, in which [`path`](Self::path) locates names.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        match &self.backend {
            Backend::Local(_) => Arc::new(object_store::local::LocalFileSystem::new()),
            Backend::Cloud(cloud) => Arc::clone(&cloud.store),
        }
    }

    /// The path of a name in [`object_store`](Self::object_store).
    ///
    /// # Errors
    /// When the folder's name is not a valid path in object stores.
    pub fn path(&self, name: &str) -> Result<Path> {
        match &self.backend {
            Backend::Local(folder) => Path::from_absolute_path(folder.join(name))
                .map_err(|e| Error::invalid(format!("{}: {e}", self.url))),
            Backend::Cloud(cloud) => Ok(cloud.path(name)),
        }
    }

    /// Checks that a file can have a name, on local disks as well as in object stores. No part may have more
    /// than 255 bytes, and the whole path or key no more than 1,024.
    ///
    /// # Errors
    /// A message that says what is too long.
    pub fn check_name(&self, name: &str) -> std::result::Result<(), String> {
        if let Some(part) = name.split('/').find(|part| part.len() > MAX_PART_BYTES) {
            return Err(format!(
                "a name of {} bytes, and a folder or file has {MAX_PART_BYTES} at most",
                part.len()
            ));
        }
        let whole = self.whole(name);
        match whole > MAX_PATH_BYTES {
            true => Err(format!(
                "a path of {whole} bytes, and a file's path or key has {MAX_PATH_BYTES} at most"
            )),
            false => Ok(()),
        }
    }

    /// The name to use for a file: this one, unless it is [too long](Self::check_name). In that case, parts
    /// of the form `column=value` that are too long are cut and end with a hash of the whole part.
    pub(crate) fn possible_name(&self, name: &str) -> String {
        // A file may already have been published under a name that would not be chosen today. It keeps that
        // name.
        let may_be_there = match &self.backend {
            Backend::Local(_) => {
                let fits = |part: &str| part.len() <= MAX_PART_BYTES;
                self.whole(name) < LOCAL_PATH_BYTES && name.split('/').all(fits)
            }
            Backend::Cloud(_) => self.whole(name) <= MAX_PATH_BYTES,
        };
        if may_be_there {
            return name.to_owned();
        }
        for most in [MAX_PART_BYTES, SHORT_PART_BYTES] {
            let parts = name.split('/').map(|part| shortened(part, most));
            let shorter = parts.collect::<Vec<_>>().join("/");
            if self.check_name(&shorter).is_ok() {
                return shorter;
            }
        }
        name.to_owned()
    }

    /// The number of bytes in a file's path or key.
    fn whole(&self, name: &str) -> usize {
        let folder = match &self.backend {
            Backend::Local(folder) => folder.as_os_str().len(),
            Backend::Cloud(cloud) => cloud.path("").as_ref().len(),
        };
        folder + 1 + name.len()
    }

    /// Writes a file unless its name is taken. It appears as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn create(
        &self,
        name: &str,
        bytes: Bytes,
        durability: Durability,
    ) -> Result<Created> {
        let created = match &self.backend {
            Backend::Local(_) => {
                let (bytes, private) = (bytes.clone(), self.private);
                self.on_disk("creating", name, move |path| {
                    local::create(path, &bytes, durability, private)
                })
                .await?
            }
            Backend::Cloud(cloud) => cloud.create(name, bytes.clone()).await?,
        };
        if created == Created::Exists && self.get(name).await?.is_some_and(|found| found == bytes) {
            return Ok(Created::New);
        }
        Ok(created)
    }

    /// Writes a file, replacing any that has the name. It appears as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn put(&self, name: &str, bytes: Bytes, durability: Durability) -> Result<()> {
        match &self.backend {
            Backend::Local(_) => {
                let private = self.private;
                self.on_disk("writing", name, move |path| {
                    local::put(path, &bytes, durability, private)
                })
                .await
            }
            Backend::Cloud(cloud) => cloud.put(name, bytes).await,
        }
    }

    /// Reads a file; `None` if it does not exist.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        match &self.backend {
            Backend::Local(_) => self.on_disk("reading", name, local::get).await,
            Backend::Cloud(cloud) => cloud.get(name).await,
        }
    }

    /// The size of a file in bytes; `None` if it does not exist.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn size(&self, name: &str) -> Result<Option<u64>> {
        match &self.backend {
            Backend::Local(_) => self.on_disk("looking at", name, local::size).await,
            Backend::Cloud(cloud) => cloud.size(name).await,
        }
    }

    /// The names of all files under a folder, sorted; empty if there is no such folder. `""` is the whole
    /// store.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = match &self.backend {
            Backend::Local(root) => {
                let root = root.clone();
                self.on_disk("listing", folder, move |path| local::list(&root, path))
                    .await?
            }
            Backend::Cloud(cloud) => cloud.list(folder).await?,
        };
        names.sort_unstable();
        Ok(names)
    }

    /// The files under a folder with their sizes and times, sorted by name; empty if there is no such folder.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn entries(&self, folder: &str) -> Result<Vec<Entry>> {
        let mut entries = match &self.backend {
            Backend::Local(root) => {
                let root = root.clone();
                self.on_disk("listing", folder, move |path| local::entries(&root, path))
                    .await?
            }
            Backend::Cloud(cloud) => cloud.entries(folder, None).await?,
        };
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The names of the files under a folder that sort after `after` by their bytes, sorted.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn list_after(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        let mut names = match &self.backend {
            Backend::Local(_) => self.list(folder).await?,
            Backend::Cloud(cloud) => {
                let entries = cloud.entries(folder, Some(after)).await?;
                entries.into_iter().map(|entry| entry.name).collect()
            }
        };
        names.retain(|name| name.as_str() > after);
        names.sort_unstable();
        Ok(names)
    }

    /// Gives a file a second name: with a link on a local disk, with a copy in an object store. A file that
    /// already has the second name is assumed to be the same one.
    ///
    /// Returns whether the file exists. [`sync`](Self::sync) makes the name durable.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn link(&self, from: &str, to: &str) -> Result<bool> {
        self.keep_within(to)?;
        match &self.backend {
            Backend::Local(root) => {
                let to = root.join(to);
                self.on_disk("publishing", from, move |from| local::link(from, &to))
                    .await
            }
            Backend::Cloud(cloud) => cloud.copy(from, to).await,
        }
    }

    /// Makes files written by other code, and their folders, survive a crash of the machine. In an object
    /// store there is nothing to do.
    ///
    /// # Errors
    /// [`Error::Sink`] when the disk fails or a file does not exist.
    pub async fn sync(&self, names: Vec<String>) -> Result<()> {
        match &self.backend {
            Backend::Local(_) if !names.is_empty() => {
                names.iter().try_for_each(|name| self.keep_within(name))?;
                self.on_disk("syncing", "", move |root| local::sync(root, &names))
                    .await
            }
            _ => Ok(()),
        }
    }

    /// Removes all files under a folder, and on a local disk also the folder.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn delete_folder(&self, folder: &str) -> Result<()> {
        match &self.backend {
            Backend::Local(_) => self.on_disk("removing", folder, local::remove_folder).await,
            Backend::Cloud(cloud) => cloud.delete_folder(folder).await,
        }
    }

    /// Removes files. Files that do not exist are ignored.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn delete(&self, names: &[String]) -> Result<()> {
        if let Backend::Cloud(cloud) = &self.backend {
            return cloud.delete_all(names).await;
        }
        for name in names {
            self.on_disk("removing", name, local::remove).await?;
        }
        Ok(())
    }

    /// Renames a file, replacing any that has the new name. In an object store this is a copy and a removal;
    /// after a crash both may exist.
    ///
    /// Returns whether the file existed.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn rename(&self, from: &str, to: &str, durability: Durability) -> Result<bool> {
        self.keep_within(to)?;
        match &self.backend {
            Backend::Local(root) => {
                let to = root.join(to);
                self.on_disk("renaming", from, move |from| {
                    local::rename(from, &to, durability)
                })
                .await
            }
            Backend::Cloud(cloud) => cloud.rename(from, to).await,
        }
    }

    /// Refuses a name that leads out of the store.
    fn keep_within(&self, name: &str) -> Result<()> {
        match leads_out(name) {
            false => Ok(()),
            true => Err(Error::invalid(format!(
                "{}: the name '{name}' leads out of it",
                self.url
            ))),
        }
    }

    /// Runs `work` on the path of a name, on a thread that may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        operation: &str,
        name: &str,
        work: impl FnOnce(&std::path::Path) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let Backend::Local(root) = &self.backend else {
            return Err(Error::invalid(format!("{}: not a local folder", self.url)));
        };
        if !name.is_empty() {
            self.keep_within(name)?;
        }
        let path = root.join(name);
        let done = tokio::task::spawn_blocking(move || work(&path)).await;
        let failed = |reason: String, transient: bool| Error::Sink {
            target: self.url.clone(),
            operation: format!(
                "{operation} {}",
                if name.is_empty() { "files" } else { name }
            ),
            reason,
            transient,
        };
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failed(error.to_string(), local::may_pass(&error))),
            Err(error) => Err(failed(error.to_string(), false)),
        }
    }
}

/// Whether a name could lead out of its store, because it begins at the root or has parts that are empty, `.`
/// or `..`.
pub(crate) fn leads_out(name: &str) -> bool {
    let foreign = cfg!(windows) && name.contains(['\\', ':']);
    let mut parts = name.split('/');
    foreign || name.contains('\0') || parts.any(|part| matches!(part, "" | "." | ".."))
}

/// A part of a name, shortened to at most `most` bytes.
fn shortened(part: &str, most: usize) -> String {
    if part.len() <= most {
        return part.to_owned();
    }
    let hash = crate::hex::hex(&Sha256::digest(part)[..16]);
    let mut cut = most - hash.len() - 1;
    while !part.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}~{hash}", &part[..cut])
}

/// A URL without user, password and query.
fn redacted(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let path = url.path().trim_end_matches('/');
    format!("{}://{host}{path}", url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_has_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let url = |path: &std::path::Path| {
            let store = Store::open(path.to_str().unwrap(), &HashMap::new());
            store.unwrap().url().to_owned()
        };
        let expected = real.join("new").to_str().unwrap().to_owned();
        assert_eq!(url(&link.join("new")), expected);
        assert_eq!(url(&real.join("new/")), expected);
    }

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    async fn keeps_its_promises(store: &Store) {
        use Created::{Exists, New};
        let fsync = Durability::Fsync;
        assert_eq!(store.get("a/b").await.unwrap(), None);
        assert_eq!(store.list("").await.unwrap(), Vec::<String>::new());
        assert_eq!(store.create("a/b", bytes("1"), fsync).await.unwrap(), New);
        assert_eq!(
            store.create("a/b", bytes("2"), fsync).await.unwrap(),
            Exists
        );
        assert_eq!(store.create("a/b", bytes("1"), fsync).await.unwrap(), New);
        assert_eq!(store.get("a/b").await.unwrap(), Some(bytes("1")));
        store.put("a/b", bytes("three"), fsync).await.unwrap();
        assert_eq!(store.size("a/b").await.unwrap(), Some(5));
        assert_eq!(store.size("a/x").await.unwrap(), None);
        store
            .put("a/c d", bytes(""), Durability::None)
            .await
            .unwrap();
        store
            .put("ab/c", bytes("x"), Durability::None)
            .await
            .unwrap();
        assert_eq!(store.list("a").await.unwrap(), ["a/b", "a/c d"]);
        assert_eq!(store.list("").await.unwrap(), ["a/b", "a/c d", "ab/c"]);
        assert!(store.rename("a/b", "z/y/b", fsync).await.unwrap());
        assert!(!store.rename("a/b", "z/y/b", fsync).await.unwrap());
        assert_eq!(store.get("z/y/b").await.unwrap(), Some(bytes("three")));
        let again = "z/y=%20 x/b";
        for _ in 0..2 {
            assert!(store.link("z/y/b", again).await.unwrap());
        }
        assert!(!store.link("nothing", "z/nothing").await.unwrap());
        store.sync(vec![again.to_owned()]).await.unwrap();
        let entries = store.entries("z").await.unwrap();
        let entries: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.bytes)).collect();
        assert_eq!(entries, [("z/y/b", 5), (again, 5)]);
        assert_eq!(store.list_after("z", "z/y/b").await.unwrap(), [again]);
        let path = store.path(again).unwrap();
        assert!(path.as_ref().ends_with(again), "{path}");
        store.delete_folder("z/y=%20 x").await.unwrap();
        store.delete_folder("z/nowhere").await.unwrap();
        assert_eq!(store.list("z").await.unwrap(), ["z/y/b"]);
        let names = ["z/y/b", "nothing"].map(str::to_owned);
        store.delete(&names).await.unwrap();
        assert_eq!(store.list("").await.unwrap(), ["a/c d", "ab/c"]);
        let path = store.path("a/c d").unwrap();
        let found = object_store::ObjectStoreExt::head(&store.object_store(), &path).await;
        assert_eq!(found.unwrap().size, 0);
    }

    #[tokio::test]
    async fn a_local_folder() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("not yet/there");
        let store = Store::open(inside.to_str().unwrap(), &HashMap::new()).unwrap();
        keeps_its_promises(&store).await;
    }

    #[tokio::test]
    async fn an_object_store() {
        let store = Store::open("memory:///some/prefix", &HashMap::new()).unwrap();
        keeps_its_promises(&store).await;
    }

    #[tokio::test]
    async fn of_many_creators_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let store = Store::open(&url, &HashMap::new()).unwrap();
        let creators = (0..20).map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let bytes = bytes(&n.to_string());
                store.create("one", bytes, Durability::None).await.unwrap()
            })
        });
        let results = futures::future::join_all(creators).await;
        let new = results
            .into_iter()
            .filter(|r| matches!(r, Ok(Created::New)));
        assert_eq!(new.count(), 1);
        assert_eq!(
            store.list("").await.unwrap(),
            ["one"],
            "no file is left over"
        );
    }

    #[test]
    fn names_that_are_too_long_are_refused_and_have_a_possible_one() {
        for url in ["/data", "memory:///data"] {
            let store = Store::open(url, &HashMap::new()).unwrap();
            let part = |bytes: usize| format!("k={}", "x".repeat(bytes - 2));
            let file = "part-0.parquet";
            let fits = format!("{}/{file}", part(255));
            assert_eq!(store.check_name(&fits), Ok(()));
            assert_eq!(store.possible_name(&fits), fits);
            let long = format!("{}/{file}", part(256));
            let error = store.check_name(&long).unwrap_err();
            assert!(error.starts_with("a name of 256 bytes"), "{error}");
            let deep = format!("{0}/{0}/{0}/{0}/{file}", part(255));
            let error = store.check_name(&deep).unwrap_err();
            assert!(error.starts_with("a path of 10"), "{error}");
            for long in [long, deep, format!("k={}/{file}", "é".repeat(200))] {
                let possible = store.possible_name(&long);
                let fits = long.split('/').all(|part| part.len() <= 255);
                if (url == "/data" && fits) || (url != "/data" && long.len() < 1000) {
                    assert_eq!(possible, long, "it may be there");
                    continue;
                }
                assert_eq!(store.check_name(&possible), Ok(()), "{possible}");
                assert!(
                    possible.starts_with("k=") && possible.ends_with(file),
                    "{possible}"
                );
                let other = store.possible_name(&long.replacen('=', "=y", 1));
                assert_ne!(possible, other);
            }
        }
    }

    #[test]
    fn invalid_urls_are_refused() {
        let open = |url: &str| Store::open(url, &HashMap::new()).map(|s| s.url().to_owned());
        assert!(open("").is_err());
        assert!(
            open("ftp://host/x")
                .unwrap_err()
                .to_string()
                .contains("ftp")
        );
        assert!(open("relative/dir").unwrap().ends_with("/relative/dir"));
        assert_eq!(open("file:///a%20b").unwrap(), "/a b");
    }

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        let store = Store::open("memory://user:hunter2@host/x?token=y", &HashMap::new()).unwrap();
        assert_eq!(store.url(), "memory://host/x");
        assert!(!format!("{store:?}").contains("hunter2"));
    }
}
