//! Looks up schemas by id and by subject, in a registry with Confluent's API.
//!
//! A schema registry is a server that keeps the schemas of a topic's records, so that each record only needs
//! to carry an id.
//!
//! ```text
//! Registry ── caches schemas by id, requests each once
//!    └─ transport ── URLs, retries, logins
//! ```
//!
//! An id means the same schema forever, so a schema is cached without a limit of time. An unknown id is
//! cached only for half a minute, because a producer may register it at any time.

// Without the feature, settings are still checked, but never used.
#[cfg_attr(not(feature = "registry"), allow(dead_code))]
mod references;
mod register;
mod subject;
#[cfg(all(test, feature = "registry"))]
pub(super) mod tests;
#[cfg(feature = "registry")]
mod transport;
#[cfg(not(feature = "registry"))]
#[path = "transport_absent.rs"]
mod transport;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use self::references::listed;
pub use self::register::Submitted;
pub use self::subject::SubjectNames;
use self::transport::Transport;
use super::proto_files::ProtoFiles;
use crate::cache::BoundedCache;
pub use crate::config::RegistryConfig;
use crate::error::{Error, Result};

/// For how long an id stays unknown before it is requested again.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// How many ids are cached.
const MAX_IDS: usize = 10_000;

/// A client of a registry. Clones share its cache.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    transport: Transport,
    unknown_for: Duration,
    by_id: Mutex<BoundedCache<i32, Slot>>,
}

/// What is known of an id. The task that requests it holds the lock while others wait.
type Slot = Arc<tokio::sync::Mutex<State>>;

#[derive(Debug, Default)]
enum State {
    #[default]
    NotAsked,
    Known(Arc<RegisteredSchema>),
    Unknown(Instant),
    Failed(Error, Instant),
}

/// A schema from a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RegisteredSchema {
    /// Its id, which means this schema forever.
    pub id: i32,
    /// Its language.
    pub kind: SchemaKind,
    /// Its text.
    pub text: String,
    /// Names and texts of all schemas that it uses. Each comes after those that it uses itself.
    pub references: Vec<(String, String)>,
}

impl RegisteredSchema {
    /// The schema as `.proto` files.
    pub fn proto_files(&self) -> ProtoFiles {
        ProtoFiles {
            name: format!("schema {}", self.id),
            text: self.text.clone(),
            references: self.references.clone(),
        }
    }
}

/// The schemas that payloads were written with, by id.
#[async_trait]
pub trait WriterSchemas: fmt::Debug + Send + Sync {
    /// The schema with this id; `None` when the registry does not know the id.
    ///
    /// # Errors
    /// When the registry does not answer.
    async fn schema(&self, id: i32) -> Result<Option<Arc<RegisteredSchema>>>;
}

#[async_trait]
impl WriterSchemas for Registry {
    async fn schema(&self, id: i32) -> Result<Option<Arc<RegisteredSchema>>> {
        Self::schema(self, id).await
    }
}

/// The languages of schemas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchemaKind {
    /// Avro.
    Avro,
    /// JSON Schema.
    Json,
    /// Protocol Buffers.
    Protobuf,
    /// Another language, under the registry's name for it.
    Other(String),
}

impl fmt::Display for SchemaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avro => "Avro",
            Self::Json => "JSON Schema",
            Self::Protobuf => "Protobuf",
            Self::Other(name) => name,
        })
    }
}

impl Registry {
    /// A client, which does not connect yet.
    ///
    /// # Errors
    /// When certificates cannot be read, or the login is malformed.
    pub fn new(config: RegistryConfig) -> Result<Self> {
        let inner = Inner {
            transport: Transport::new(config)?,
            unknown_for: UNKNOWN_FOR,
            by_id: Mutex::new(BoundedCache::new(MAX_IDS)),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The schema with this id; `None` when the registry does not know it. Concurrent callers share one
    /// request, and the result is cached.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses, see [`Error::Registry`].
    pub async fn schema(&self, id: i32) -> Result<Option<Arc<RegisteredSchema>>> {
        if id < 0 {
            return Ok(None);
        }
        let asked = Instant::now();
        let slot = self.slot(id);
        let mut state = slot.lock().await;
        match &*state {
            State::Known(schema) => return Ok(Some(Arc::clone(schema))),
            State::Unknown(since) if since.elapsed() < self.inner.unknown_for => return Ok(None),
            // The request failed while this call waited for it.
            State::Failed(error, at) if *at >= asked => return Err(error.clone()),
            _ => {}
        }
        let answer = self.ask_schema(id).await;
        *state = match &answer {
            Ok(Some(schema)) => State::Known(Arc::clone(schema)),
            Ok(None) => State::Unknown(Instant::now()),
            Err(error) => State::Failed(error.clone(), Instant::now()),
        };
        answer
    }

    /// The latest schema of a subject; `None` when there is no such subject. Requested each time.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses, see [`Error::Registry`].
    pub async fn latest(&self, subject: &str) -> Result<Option<Arc<RegisteredSchema>>> {
        self.of_subject(subject, "latest").await
    }

    /// One version of a subject's schema, counted from 1; `None` when there is no such version or subject.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses, see [`Error::Registry`].
    pub async fn version(
        &self,
        subject: &str,
        version: i32,
    ) -> Result<Option<Arc<RegisteredSchema>>> {
        self.of_subject(subject, &version.to_string()).await
    }

    fn slot(&self, id: i32) -> Slot {
        let by_id = self.inner.by_id.lock();
        let mut by_id = by_id.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(by_id.get_or_insert_with(id, Slot::default))
    }

    async fn ask_schema(&self, id: i32) -> Result<Option<Arc<RegisteredSchema>>> {
        let operation = format!("getting schema {id}");
        let path = ["schemas", "ids", &id.to_string()];
        let deadline = self.inner.transport.deadline();
        let answer = self.inner.transport.ask(&operation, &path, deadline);
        match answer.await? {
            None => Ok(None),
            Some(answer) => {
                let schema = self.complete(id, &answer, &operation, deadline);
                schema.await.map(Some)
            }
        }
    }

    async fn of_subject(
        &self,
        subject: &str,
        version: &str,
    ) -> Result<Option<Arc<RegisteredSchema>>> {
        let operation = format!("getting version {version} of subject '{subject}'");
        let path = ["subjects", subject, "versions", version];
        let deadline = self.inner.transport.deadline();
        let answer = self.inner.transport.ask(&operation, &path, deadline);
        let Some(answer) = answer.await? else {
            return Ok(None);
        };
        let id = integer(&answer["id"]).ok_or_else(|| self.useless(&operation, "has no 'id'"))?;
        let schema = self.complete(id, &answer, &operation, deadline);
        schema.await.map(Some)
    }

    /// Reads the schema of an answer and fetches those that it refers to, all before one deadline.
    async fn complete(
        &self,
        id: i32,
        answer: &Value,
        operation: &str,
        deadline: Instant,
    ) -> Result<Arc<RegisteredSchema>> {
        let text = answer["schema"]
            .as_str()
            .ok_or_else(|| self.useless(operation, "has no 'schema'"))?;
        // Registries omit the type for Avro.
        let kind = match answer["schemaType"].as_str() {
            None | Some("AVRO") => SchemaKind::Avro,
            Some("JSON") => SchemaKind::Json,
            Some("PROTOBUF") => SchemaKind::Protobuf,
            Some(other) => SchemaKind::Other(other.to_owned()),
        };
        let listed = listed(answer)
            .ok_or_else(|| self.useless(operation, "has 'references' that cannot be read"))?;
        Ok(Arc::new(RegisteredSchema {
            id,
            kind,
            text: text.to_owned(),
            references: self.references(listed, operation, deadline).await?,
        }))
    }

    #[cold]
    fn useless(&self, operation: &str, reason: &str) -> Error {
        self.inner.transport.error(
            operation,
            format!("the answer {reason}; is it a schema registry?"),
        )
    }
}

fn integer(json: &Value) -> Option<i32> {
    json.as_i64().and_then(|value| i32::try_from(value).ok())
}
