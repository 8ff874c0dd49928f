//! Object stores.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use url::Url;

use super::{Created, Entry};
use crate::error::{Error, Result};

/// A prefix of a bucket.
#[derive(Clone)]
pub(super) struct Cloud {
    pub(super) store: Arc<dyn ObjectStore>,
    /// `s3://bucket/`
    pub(super) root: String,
    prefix: Path,
    /// For messages, without secrets.
    url: String,
}

impl Cloud {
    pub(super) fn open(url: &Url, shown: &str, options: &HashMap<String, String>) -> Result<Self> {
        let failed = |error: object_store::Error| Error::invalid(format!("{shown}: {error}"));
        let (store, prefix) = open(url, options).map_err(failed)?;
        Ok(Self {
            store,
            root: format!("{}://{}/", url.scheme(), url.host_str().unwrap_or_default()),
            prefix,
            url: shown.to_owned(),
        })
    }

    pub(super) fn path(&self, name: &str) -> Path {
        let parts = self.prefix.parts();
        // As it is, where it can be: a percent sign of a name is not encoded again.
        let name = Path::parse(name).unwrap_or_else(|_| Path::from(name));
        parts.chain(name.parts()).collect()
    }

    pub(super) async fn create(&self, name: &str, bytes: Bytes) -> Result<Created> {
        let path = self.path(name);
        let put = self
            .store
            .put_opts(&path, bytes.into(), PutMode::Create.into());
        match put.await {
            Ok(_) => Ok(Created::New),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(Created::Exists),
            Err(error) => Err(self.failed("creating", name, &error)),
        }
    }

    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        let put = self.store.put(&self.path(name), bytes.into()).await;
        put.map(drop).map_err(|e| self.failed("writing", name, &e))
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let read = async { self.store.get(&self.path(name)).await?.bytes().await };
        if_there(read.await).map_err(|e| self.failed("reading", name, &e))
    }

    pub(super) async fn size(&self, name: &str) -> Result<Option<u64>> {
        let found = if_there(self.store.head(&self.path(name)).await);
        let found = found.map_err(|e| self.failed("looking at", name, &e))?;
        Ok(found.map(|meta| meta.size))
    }

    pub(super) async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let entries = self.entries(folder, None).await?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    pub(super) async fn entries(&self, folder: &str, after: Option<&str>) -> Result<Vec<Entry>> {
        let prefix = self.path(folder);
        let listed = match after {
            Some(after) => self
                .store
                .list_with_offset(Some(&prefix), &self.path(after)),
            None => self.store.list(Some(&prefix)),
        };
        let found: Vec<_> = listed
            .try_collect()
            .await
            .map_err(|e| self.failed("listing", folder, &e))?;
        let above = self.prefix.parts().count();
        let name = |path: Path| {
            let parts: Vec<_> = path.parts().skip(above).collect();
            let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
            parts.join("/")
        };
        let entry = |meta: object_store::ObjectMeta| Entry {
            name: name(meta.location),
            bytes: meta.size,
            modified: meta.last_modified.into(),
        };
        Ok(found.into_iter().map(entry).collect())
    }

    pub(super) async fn delete_all(&self, names: &[String]) -> Result<()> {
        let paths: Vec<_> = names.iter().map(|name| Ok(self.path(name))).collect();
        let paths = futures::stream::iter(paths).boxed();
        let mut deleted = self.store.delete_stream(paths);
        while let Some(path) = deleted.next().await {
            if_there(path).map_err(|e| self.failed("removing", "", &e))?;
        }
        Ok(())
    }

    pub(super) async fn delete_folder(&self, folder: &str) -> Result<()> {
        let prefix = self.path(folder);
        let listed = self.store.list(Some(&prefix));
        let paths = listed.map_ok(|meta| meta.location).boxed();
        let mut deleted = self.store.delete_stream(paths);
        while let Some(path) = deleted.next().await {
            if_there(path).map_err(|e| self.failed("removing", folder, &e))?;
        }
        Ok(())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        let deleted = if_there(self.store.delete(&self.path(name)).await);
        deleted
            .map(drop)
            .map_err(|e| self.failed("removing", name, &e))
    }

    pub(super) async fn copy(&self, from: &str, to: &str) -> Result<bool> {
        let copied = if_there(self.store.copy(&self.path(from), &self.path(to)).await);
        let copied = copied.map_err(|e| self.failed("copying", from, &e))?;
        Ok(copied.is_some())
    }

    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<bool> {
        let copied = self.copy(from, to).await?;
        if copied {
            self.delete(from).await?;
        }
        Ok(copied)
    }

    fn failed(&self, operation: &str, name: &str, error: &object_store::Error) -> Error {
        // What is none of these came from the network or the server, after retries.
        let transient = matches!(error, object_store::Error::Generic { .. });
        let name = if name.is_empty() { "files" } else { name };
        Error::Sink {
            target: self.url.clone(),
            operation: format!("{operation} {name}"),
            reason: error.to_string(),
            transient,
        }
    }
}

fn if_there<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How long object_store itself retries: a job's own retries come on top.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn retries() -> object_store::RetryConfig {
    object_store::RetryConfig {
        max_retries: 5,
        retry_timeout: std::time::Duration::from_secs(10),
        ..object_store::RetryConfig::default()
    }
}

fn open(
    url: &Url,
    options: &HashMap<String, String>,
) -> object_store::Result<(Arc<dyn ObjectStore>, Path)> {
    let options: Vec<(String, &String)> = options
        .iter()
        .map(|(key, value)| (key.replace('.', "_").to_ascii_lowercase(), value))
        .collect();
    let path = Path::from_url_path(url.path())?;
    match url.scheme() {
        #[cfg(feature = "s3")]
        "s3" | "s3a" => {
            let mut builder = object_store::aws::AmazonS3Builder::from_env()
                .with_url(url.as_str())
                .with_retry(retries());
            for (key, value) in &options {
                builder = builder.with_config(key.parse()?, value.as_str());
            }
            Ok((Arc::new(builder.build()?), path))
        }
        #[cfg(feature = "gcs")]
        "gs" => {
            let mut builder = object_store::gcp::GoogleCloudStorageBuilder::from_env()
                .with_url(url.as_str())
                .with_retry(retries());
            for (key, value) in &options {
                builder = builder.with_config(key.parse()?, value.as_str());
            }
            Ok((Arc::new(builder.build()?), path))
        }
        #[cfg(feature = "azure")]
        "az" | "abfs" | "abfss" | "azure" => {
            let mut builder = object_store::azure::MicrosoftAzureBuilder::from_env()
                .with_url(url.as_str())
                .with_retry(retries());
            for (key, value) in &options {
                builder = builder.with_config(key.parse()?, value.as_str());
            }
            Ok((Arc::new(builder.build()?), path))
        }
        "memory" if options.is_empty() => {
            Ok((Arc::new(object_store::memory::InMemory::new()), path))
        }
        other => Err(object_store::Error::NotSupported {
            source: format!(
                "this build has no store for '{other}://': file and memory, s3, gs and az by the \
                 features s3, gcs and azure"
            )
            .into(),
        }),
    }
}
