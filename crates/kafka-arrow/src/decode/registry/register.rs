//! Schemas for writing: looks up their ids in the registry, or registers them.

use serde_json::{Value, json};

use super::{Registry, SchemaKind, integer};
use crate::error::Result;

/// A schema under a subject, as the registry wants it.
#[derive(Debug, Clone, Copy)]
pub struct Submitted<'a> {
    /// The subject that has the schema, or shall have it.
    pub subject: &'a str,
    /// Its language.
    pub kind: &'a SchemaKind,
    /// Its text.
    pub text: &'a str,
    /// The schemas that it uses: their name in this schema, subject and version.
    pub references: &'a [(String, String, i32)],
}

impl Submitted<'_> {
    fn body(&self) -> Value {
        let references = self.references.iter().map(|(name, subject, version)| {
            json!({ "name": name, "subject": subject, "version": version })
        });
        let mut body = json!({ "schema": self.text });
        // Registries take a schema without a type for Avro, and some do not accept Avro's type.
        let kind = match self.kind {
            SchemaKind::Avro => None,
            SchemaKind::Json => Some("JSON"),
            SchemaKind::Protobuf => Some("PROTOBUF"),
            SchemaKind::Other(name) => Some(name.as_str()),
        };
        if let Some(kind) = kind {
            body["schemaType"] = kind.into();
        }
        if !self.references.is_empty() {
            body["references"] = references.collect();
        }
        body
    }
}

impl Registry {
    /// Registers a schema under a subject and returns its id. A schema that is already there keeps its id.
    ///
    /// # Errors
    /// When the registry cannot be reached, and [`Error::Invalid`](crate::Error::Invalid) when it refuses
    /// the schema as incompatible or invalid.
    pub async fn register(&self, schema: Submitted<'_>) -> Result<i32> {
        let operation = format!(
            "registering a schema of {} under subject '{}'",
            schema.kind, schema.subject
        );
        let path = ["subjects", schema.subject, "versions"];
        let answer = self
            .inner
            .transport
            .tell(&operation, &path, &schema.body())
            .await?;
        let id = answer.as_ref().and_then(|answer| integer(&answer["id"]));
        id.ok_or_else(|| self.useless(&operation, "has no 'id'"))
    }

    /// The id and the version of a schema under a subject; `None` when it is not registered there.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn registered(&self, schema: Submitted<'_>) -> Result<Option<(i32, i32)>> {
        let operation = format!("looking a schema up under subject '{}'", schema.subject);
        let path = ["subjects", schema.subject];
        let answer = self
            .inner
            .transport
            .tell(&operation, &path, &schema.body())
            .await?;
        let Some(answer) = answer else {
            return Ok(None);
        };
        match (integer(&answer["id"]), integer(&answer["version"])) {
            (Some(id), Some(version)) => Ok(Some((id, version))),
            _ => Err(self.useless(&operation, "has no 'id' and 'version'")),
        }
    }
}
