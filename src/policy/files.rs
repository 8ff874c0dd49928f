//! The files of a restricted session, as DataFusion sees them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use url::{Position, Url};

use super::Policy;

/// Provides stores that ask the policy about each file.
#[derive(Debug)]
pub(crate) struct GuardedStores {
    stores: DefaultObjectStoreRegistry,
    policy: Policy,
}

impl GuardedStores {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            stores: DefaultObjectStoreRegistry::new(),
            policy,
        }
    }
}

impl ObjectStoreRegistry for GuardedStores {
    fn register_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        self.stores.register_store(url, store)
    }

    fn get_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        Ok(Arc::new(Guarded {
            store: self.stores.get_store(url)?,
            root: format!(
                "{}://{}",
                url.scheme(),
                &url[Position::BeforeHost..Position::AfterPort]
            ),
            policy: self.policy.clone(),
        }))
    }
}

/// A store that asks the policy about each file.
#[derive(Debug)]
struct Guarded {
    store: Arc<dyn ObjectStore>,
    /// `file://`, `s3://bucket`
    root: String,
    policy: Policy,
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.store, f)
    }
}

impl Guarded {
    fn check(&self, location: &Path) -> Result<()> {
        check(&self.policy, &self.root, location)
    }
}

fn check(policy: &Policy, root: &str, location: &Path) -> Result<()> {
    let checked = if root == "file://" {
        let path = LocalFileSystem::new().path_to_filesystem(location)?;
        policy.check_path("the file", &path)
    } else {
        policy.check_location("the file", &format!("{root}/{location}"))
    };
    checked.map_err(|error| object_store::Error::PermissionDenied {
        path: location.to_string(),
        source: Box::new(error),
    })
}

#[async_trait]
impl ObjectStore for Guarded {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.check(location)?;
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check(location)?;
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check(location)?;
        self.store.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.check(location)?;
        self.store.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (policy, root) = (self.policy.clone(), self.root.clone());
        let checked = locations.map(move |location| {
            let location = location?;
            check(&policy, &root, &location).map(|()| location)
        });
        self.store.delete_stream(checked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.check(prefix.unwrap_or(&Path::default())) {
            Ok(()) => self.store.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        let listed = self.list(prefix);
        listed
            .try_filter(move |found| futures::future::ready(found.location > offset))
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.check(prefix.unwrap_or(&Path::default()))?;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check(from)?;
        self.check(to)?;
        self.store.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.check(from)?;
        self.check(to)?;
        self.store.rename_opts(from, to, options).await
    }
}
