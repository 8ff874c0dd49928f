//! Files of a job or an export, in a local folder or an object store.
//!
//! A [`Store`] is a URL with a few operations. The one that everything rests on is
//! [`create`](Store::create): a file is written whole and once, and of two writers of one name one
//! is told that it came too late.
//!
//! | URL | store |
//! |---|---|
//! | `/dir`, `dir`, `file:///dir` | a local folder |
//! | `s3://bucket/prefix` | S3 and what speaks its protocol (feature `s3`) |
//! | `gs://bucket/prefix` | Google Cloud Storage (feature `gcs`) |
//! | `az://container/prefix`, `abfss://…` | Azure (feature `azure`) |
//! | `memory:///prefix` | memory, for tests: each store that is opened is empty |
//!
//! Settings come from the environment as object_store reads it (`AWS_ACCESS_KEY_ID`,
//! `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, `AWS_REGION`, …), and over it from options under
//! object_store's names, such as `aws_access_key_id`; dots serve as well (`aws.endpoint`).

mod cloud;
pub(crate) mod hive;
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

/// Bytes of a folder's or a file's name: no common file system takes more.
const MAX_PART_BYTES: usize = 255;
/// The shortest path that Linux refuses.
const LOCAL_PATH_BYTES: usize = 4096;
/// Bytes of a part where many are too long together: more than a file of ours has.
const SHORT_PART_BYTES: usize = 96;
/// Bytes of a file's whole path: S3 takes no longer key.
const MAX_PATH_BYTES: usize = 1024;

/// Whether a file was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was not there, or it was there with the very same bytes: an earlier attempt of ours whose
    /// answer was lost.
    New,
    /// It was there with other bytes, and was not touched.
    Exists,
}

/// Whether a file must survive a crash of the machine. Object stores always see to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// File and folder are synced to the disk before the call returns.
    Fsync,
    /// The operating system writes when it likes.
    None,
}

/// A file as listings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the store.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// A folder of a file system or of an object store.
///
/// Names are relative and have `/` between their parts. Clones share connections.
#[derive(Clone)]
pub struct Store {
    url: String,
    backend: Backend,
    /// Whether local files are for their owner alone.
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
    /// Opens a folder. Nothing is read, and a local folder is made when the first file is written.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a URL that is none, a scheme that this build does not know, or an
    /// option that the scheme does not have.
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

    /// The same folder, whose new files on a local disk only their owner can read.
    pub(crate) fn private(&self) -> Self {
        Self {
            private: true,
            ..self.clone()
        }
    }

    /// Where the store lies, without secrets; a path for a local folder.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The local folder, if it is one.
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

    /// The store as object_store knows it, with [`path`](Self::path) for the names.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        match &self.backend {
            Backend::Local(_) => Arc::new(object_store::local::LocalFileSystem::new()),
            Backend::Cloud(cloud) => Arc::clone(&cloud.store),
        }
    }

    /// The path of a name in [`object_store`](Self::object_store).
    ///
    /// # Errors
    /// When the folder's name is no path of an object store.
    pub fn path(&self, name: &str) -> Result<Path> {
        match &self.backend {
            Backend::Local(folder) => Path::from_absolute_path(folder.join(name))
                .map_err(|e| Error::invalid(format!("{}: {e}", self.url))),
            Backend::Cloud(cloud) => Ok(cloud.path(name)),
        }
    }

    /// Why a file cannot have a name, on local disks and in object stores alike: a part of it has more
    /// than 255 bytes, or its whole path, or its key, more than 1,024.
    ///
    /// # Errors
    /// What is too long, in words.
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

    /// The name by which a file goes that was to have one that is [too long](Self::check_name): what is
    /// too long of folders `column=value` ends with a hash of the whole. A name that is not stays.
    pub(crate) fn possible_name(&self, name: &str) -> String {
        // What was published under a name that is not given any more keeps it.
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

    /// The bytes of a file's path or key.
    fn whole(&self, name: &str) -> usize {
        let folder = match &self.backend {
            Backend::Local(folder) => folder.as_os_str().len(),
            Backend::Cloud(cloud) => cloud.path("").as_ref().len(),
        };
        folder + 1 + name.len()
    }

    /// Writes a file if there is none of its name. It appears whole or not at all.
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

    /// Writes a file, in place of one that may be there. It appears whole or not at all.
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

    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        match &self.backend {
            Backend::Local(_) => self.on_disk("reading", name, local::get).await,
            Backend::Cloud(cloud) => cloud.get(name).await,
        }
    }

    /// The size of a file in bytes; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn size(&self, name: &str) -> Result<Option<u64>> {
        match &self.backend {
            Backend::Local(_) => self.on_disk("looking at", name, local::size).await,
            Backend::Cloud(cloud) => cloud.size(name).await,
        }
    }

    /// The names of all files under a folder, sorted; none if there is no such folder. `""` is the
    /// whole store.
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

    /// The files under a folder with their sizes and times, sorted by name; none if there is no such
    /// folder.
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

    /// The names of the files under a folder that come after `after` in the order of their bytes,
    /// sorted.
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

    /// Gives a file a second name: a link on a local disk, a copy in an object store. A file that
    /// has the second name already is taken for the same one.
    ///
    /// Returns whether there was such a file. [`sync`](Self::sync) makes the name durable.
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

    /// Makes files that others wrote, and their folders, survive a crash of the machine. Nothing
    /// to do in an object store.
    ///
    /// # Errors
    /// [`Error::Sink`] when the disk fails or a file is not there.
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

    /// Removes all files under a folder; on a local disk also the folder.
    ///
    /// # Errors
    /// [`Error::Sink`] when the store fails.
    pub async fn delete_folder(&self, folder: &str) -> Result<()> {
        match &self.backend {
            Backend::Local(_) => self.on_disk("removing", folder, local::remove_folder).await,
            Backend::Cloud(cloud) => cloud.delete_folder(folder).await,
        }
    }

    /// Removes files; those that are not there are none to remove.
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

    /// Gives a file another name, in place of one that may have it. In an object store this is a
    /// copy and a removal: after a crash both may be there.
    ///
    /// Returns whether there was such a file.
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

/// Whether a name could lead out of its store: one that begins at the root, or has parts that are empty,
/// `.` or `..`.
pub(crate) fn leads_out(name: &str) -> bool {
    let foreign = cfg!(windows) && name.contains(['\\', ':']);
    let mut parts = name.split('/');
    foreign || name.contains('\0') || parts.any(|part| matches!(part, "" | "." | ".."))
}

/// A part of a name in at most `most` bytes.
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
    fn urls_that_are_none_are_refused() {
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
