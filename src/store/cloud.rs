//! Files in object stores.

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
        // Unchanged where possible: a percent sign in a name is not encoded again.
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
        // Any other error came from the network or the server, after retries.
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

/// How long object_store itself retries. A job's own retries come on top.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn retries() -> object_store::RetryConfig {
    object_store::RetryConfig {
        max_retries: 5,
        retry_timeout: std::time::Duration::from_secs(10),
        ..object_store::RetryConfig::default()
    }
}

/// Options that neither name a location nor weaken how it is reached. With only these, the store still uses
/// the environment's credentials where they belong.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
const OF_NO_PLACE: [&str; 9] = [
    "aws_allow_http",
    "aws_checksum_algorithm",
    "aws_conditional_put",
    "aws_copy_if_not_exists",
    "aws_default_region",
    "aws_region",
    "aws_request_payer",
    "aws_unsigned_payload",
    "aws_virtual_hosted_style_request",
];

/// Parts of the names of options that are credentials, or disable them.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
const CREDENTIALS: [&str; 8] = [
    "access_key",
    "account_key",
    "bearer_token",
    "client_secret",
    "master_key",
    "sas_",
    "service_account",
    "skip_signature",
];

/// Whether a store with these options is the one that the environment describes. A store with its own
/// location or credentials takes nothing from the environment.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn is_of_environment(
    options: &[(String, &String)],
    variable: impl Fn(&str) -> Option<String>,
) -> object_store::Result<bool> {
    let plain = |value: &str| {
        value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let same = |key: &str, value: &str| {
        // AWS has three names for this.
        let more = key
            .starts_with("aws_endpoint")
            .then_some(["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]);
        let names = [key.to_ascii_uppercase()].into_iter();
        let mut names = names.chain(more.into_iter().flatten().map(str::to_owned));
        names.any(|name| variable(&name).as_deref() == Some(value))
    };
    let own = |(key, value): &&(String, &String)| {
        // A region becomes part of a host name.
        !(OF_NO_PLACE.contains(&key.as_str()) && plain(value) || same(key, value))
    };
    let Some((name, _)) = options.iter().find(own) else {
        return Ok(true);
    };
    let is_credential = |name: &str| CREDENTIALS.iter().any(|part| name.contains(part));
    if options.iter().any(|(name, _)| is_credential(name)) {
        return Ok(false);
    }
    let name = name.replacen('_', ".", 1);
    Err(object_store::Error::Generic {
        store: "option",
        source: format!(
            "'{name}' names another place, for which the environment's credentials were not given: set \
             its own as well (for S3 aws.access_key_id and aws.secret_access_key, or \
             aws.skip_signature = 'true')"
        )
        .into(),
    })
}

/// Parses the options as keys of a store.
///
/// # Errors
/// When the store has no such key.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn parsed<'a, K: std::str::FromStr<Err = object_store::Error>>(
    options: &[(String, &'a String)],
) -> object_store::Result<Vec<(K, &'a str)>> {
    let parse = |(key, value): &(String, &'a String)| Ok((key.parse()?, value.as_str()));
    options.iter().map(parse).collect()
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
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    let variable = |name: &str| std::env::var(name).ok();
    match url.scheme() {
        #[cfg(feature = "s3")]
        "s3" | "s3a" => {
            let keys = parsed(&options)?;
            let base = match is_of_environment(&options, variable)? {
                true => object_store::aws::AmazonS3Builder::from_env(),
                false => object_store::aws::AmazonS3Builder::new(),
            };
            let base = base.with_url(url.as_str()).with_retry(retries());
            let builder = keys.into_iter().fold(base, |builder, (key, value)| {
                builder.with_config(key, value)
            });
            Ok((Arc::new(builder.build()?), path))
        }
        #[cfg(feature = "gcs")]
        "gs" => {
            let keys = parsed(&options)?;
            let base = match is_of_environment(&options, variable)? {
                true => object_store::gcp::GoogleCloudStorageBuilder::from_env(),
                false => object_store::gcp::GoogleCloudStorageBuilder::new(),
            };
            let base = base.with_url(url.as_str()).with_retry(retries());
            let builder = keys.into_iter().fold(base, |builder, (key, value)| {
                builder.with_config(key, value)
            });
            Ok((Arc::new(builder.build()?), path))
        }
        #[cfg(feature = "azure")]
        "az" | "abfs" | "abfss" | "azure" => {
            let keys = parsed(&options)?;
            let base = match is_of_environment(&options, variable)? {
                true => object_store::azure::MicrosoftAzureBuilder::from_env(),
                false => object_store::azure::MicrosoftAzureBuilder::new(),
            };
            let base = base.with_url(url.as_str()).with_retry(retries());
            let builder = keys.into_iter().fold(base, |builder, (key, value)| {
                builder.with_config(key, value)
            });
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

#[cfg(all(test, feature = "s3"))]
mod tests {
    use super::*;

    #[test]
    fn the_environments_credentials_stay_with_its_endpoint() {
        let variable =
            |name: &str| (name == "AWS_ENDPOINT_URL").then(|| "http://minio:9000".to_owned());
        let of_environment = |options: &[(&str, &str)]| {
            let values: Vec<String> = options
                .iter()
                .map(|(_, value)| (*value).to_owned())
                .collect();
            let names = options.iter().map(|(name, _)| (*name).to_owned());
            let options: Vec<(String, &String)> = names.zip(&values).collect();
            is_of_environment(&options, variable).ok()
        };
        let elsewhere = ("aws_endpoint", "http://evil:9000");
        for (options, expected) in [
            (&[][..], Some(true)),
            (
                &[("aws_region", "eu-central-1"), ("aws_allow_http", "true")],
                Some(true),
            ),
            (&[("aws_endpoint", "http://minio:9000")], Some(true)),
            (&[elsewhere], None),
            (&[("aws_region", "evil.com/")], None),
            (&[("azure_account_name", "evil.com/")], None),
            (&[("aws_metadata_endpoint", "http://evil")], None),
            (
                &[
                    elsewhere,
                    ("aws_access_key_id", "a"),
                    ("aws_secret_access_key", "b"),
                ],
                Some(false),
            ),
            (&[elsewhere, ("aws_skip_signature", "true")], Some(false)),
        ] {
            assert_eq!(of_environment(options), expected, "{options:?}");
        }
    }
}
