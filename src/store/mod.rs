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
pub(crate) mod hive;
mod local;
mod names;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use crate::error::{Cause, Error, Result};

pub(crate) use kafka_arrow::path::local_path;
pub(crate) use names::leads_out;

/// Whether a file was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
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
    /// Whether the environment and the URL say all of a store in a cloud.
    plain: bool,
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
                plain: true,
            });
        }
        let parsed =
            Url::parse(url).map_err(|e| Error::invalid(format!("'{url}': {e}")).because(e))?;
        let url = redacted(&parsed);
        let cloud = cloud::Cloud::open(&parsed, &url, options)?;
        Ok(Self {
            url,
            backend: Backend::Cloud(cloud),
            private: false,
            plain: options.is_empty()
                && parsed.scheme() != "memory"
                && parsed.query().is_none()
                && parsed.username().is_empty()
                && parsed.password().is_none(),
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

    /// The URL or path under which another process with the same folders and the same environment
    /// [opens](Self::open) the store. `None` where it also needs what only this process has: options, a login
    /// in the URL, its memory.
    pub(crate) fn address(&self) -> Option<&str> {
        match &self.backend {
            Backend::Local(path) => path.to_str(),
            Backend::Cloud(_) => self.plain.then_some(&self.url),
        }
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
        Url::parse(root).map_err(|e| Error::invalid(format!("'{root}': {e}")).because(e))
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
                .map_err(|e| Error::invalid(format!("{}: {e}", self.url)).because(e)),
            Backend::Cloud(cloud) => Ok(cloud.path(name)),
        }
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
        let failed = |reason: String, transient: bool, source: Cause| Error::Sink {
            target: self.url.clone(),
            operation: format!(
                "{operation} {}",
                if name.is_empty() { "files" } else { name }
            ),
            reason,
            transient,
            source: Some(source),
        };
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let transient = local::may_pass(&error);
                Err(failed(error.to_string(), transient, Cause::new(error)))
            }
            Err(error) => Err(failed(error.to_string(), false, Cause::new(error))),
        }
    }
}

/// A URL without user, password and query.
fn redacted(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let path = url.path().trim_end_matches('/');
    format!("{}://{host}{path}", url.scheme())
}
