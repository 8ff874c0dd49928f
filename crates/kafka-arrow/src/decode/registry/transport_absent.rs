//! Replaces [`transport`](super::transport) in builds without the feature. It refuses every registry, so none
//! is ever contacted.

use serde_json::Value;
use tokio::time::Instant;

use super::config::RegistryConfig;
use crate::error::{Error, Result};

/// A registry, which cannot exist in this build.
#[derive(Debug)]
pub(super) enum Transport {}

impl Transport {
    /// # Errors
    /// Always.
    pub(super) fn new(_config: RegistryConfig) -> Result<Self> {
        Err(Error::config(
            "schema.registry.url",
            "this build cannot use a schema registry (feature 'registry')",
        ))
    }

    pub(super) async fn ask(
        &self,
        _operation: &str,
        _path: &[&str],
        _deadline: Instant,
    ) -> Result<Option<Value>> {
        match *self {}
    }

    pub(super) async fn tell(
        &self,
        _operation: &str,
        _path: &[&str],
        _body: &Value,
    ) -> Result<Option<Value>> {
        match *self {}
    }

    pub(super) fn deadline(&self) -> Instant {
        match *self {}
    }

    pub(super) fn error(&self, _operation: &str, _reason: String) -> Error {
        match *self {}
    }
}
