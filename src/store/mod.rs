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

use crate::error::{Error, Result};

pub(crate) use kafka_arrow::path::local_path;
pub(crate) use names::leads_out;

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

/// A URL without user, password and query.
fn redacted(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let path = url.path().trim_end_matches('/');
    format!("{}://{host}{path}", url.scheme())
}
