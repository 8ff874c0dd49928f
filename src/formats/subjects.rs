//! Which subject of the registry has the schema of a part, and under which id.
//!
//! A schema that is not there is registered where `schema.registry.auto.register` allows it, after the
//! files that it imports.

use std::sync::Arc;

use super::SchemaSource;
use super::encoding::Part;
use crate::decode::{ProtoFiles, RegisteredSchema, Registry, SchemaKind, Submitted, imports};
use crate::error::{Error, Result};

/// The option that lets schemas be registered, as messages name it.
const AUTO_REGISTER: &str = "'schema.registry.auto.register' = 'true'";

/// A schema that is looked up by its text, or registered.
#[derive(Debug)]
pub(super) struct Unnumbered {
    pub(super) kind: SchemaKind,
    pub(super) files: ProtoFiles,
    /// The record or message, which subjects may be named after.
    pub(super) record: Option<String>,
    /// Whether payloads begin with the id.
    pub(super) framed: bool,
}

impl Unnumbered {
    /// A schema of one file.
    pub(super) fn new(kind: SchemaKind, text: &str, record: Option<String>) -> Self {
        Self {
            kind,
            files: ProtoFiles {
                text: text.to_owned(),
                ..ProtoFiles::default()
            },
            record,
            framed: true,
        }
    }
}

impl Part<'_> {
    /// The schema of the subject, if there is such a subject.
    pub(super) async fn of_subject(
        &self,
        registry: &Registry,
        name: &str,
    ) -> Result<Option<Arc<RegisteredSchema>>> {
        let subject = self.subject(Some(name))?;
        match self.of.schema.version {
            Some(version) => registry.version(&subject, version).await,
            None => registry.latest(&subject).await,
        }
    }

    /// The id of a schema under the subject. It is registered where that is allowed.
    pub(super) async fn id_of(&self, registry: &Registry, schema: &Unnumbered) -> Result<i32> {
        let subject = self.subject(schema.record.as_deref())?;
        let references = match schema.files.references.is_empty() {
            true => vec![],
            false => self.import_references(registry, &schema.files).await?,
        };
        let submitted = Submitted {
            subject: &subject,
            kind: &schema.kind,
            text: &schema.files.text,
            references: &references,
        };
        if self.auto_register {
            return registry.register(submitted).await;
        }
        match registry.registered(submitted).await? {
            Some((id, _)) => Ok(id),
            None => Err(self.not_registered(
                self.of.schema.file.as_deref().unwrap_or("the columns"),
                &subject,
            )),
        }
    }

    /// The files that a `.proto` file imports, as the registry has them: each under a subject of the
    /// import's name, as Confluent's serializers register them.
    async fn import_references(
        &self,
        registry: &Registry,
        files: &ProtoFiles,
    ) -> Result<Vec<(String, String, i32)>> {
        let mut known: Vec<(String, String, i32)> = Vec::new();
        let mut open = files.references.clone();
        let of = |known: &[(String, String, i32)], name: &str, text: &str| {
            let names = imports(name, text)?;
            let ours = |name: &String| files.references.iter().any(|(n, _)| n == name);
            let names = names.into_iter().filter(ours);
            let found: Option<Vec<_>> = names
                .map(|name| known.iter().find(|(n, ..)| *n == name).cloned())
                .collect();
            Ok::<_, Error>(found)
        };
        // Each after those that it imports itself; the schema was compiled, so that there is no circle.
        while !open.is_empty() {
            let before = open.len();
            let mut later = Vec::new();
            for (name, text) in open {
                let Some(references) = of(&known, &name, &text)? else {
                    later.push((name, text));
                    continue;
                };
                let submitted = Submitted {
                    subject: &name,
                    kind: &SchemaKind::Protobuf,
                    text: &text,
                    references: &references,
                };
                if self.auto_register {
                    registry.register(submitted).await?;
                }
                let Some((_, version)) = registry.registered(submitted).await? else {
                    return Err(self.not_registered(&name, &name));
                };
                known.push((name.clone(), name, version));
            }
            if later.len() == before {
                return Err(Error::invalid(
                    "the schema's files import each other in a circle",
                ));
            }
            open = later;
        }
        Ok(of(&known, &files.name, &files.text)?.unwrap_or_default())
    }

    pub(super) fn subject(&self, record: Option<&str>) -> Result<String> {
        let SchemaSource {
            subject,
            subjects,
            message,
            ..
        } = &self.of.schema;
        match subject {
            Some(subject) => Ok(subject.clone()),
            None => subjects.subject(
                self.topic,
                self.name == "key",
                message.as_deref().or(record),
            ),
        }
    }

    /// What a type that is made of the columns is called.
    pub(super) fn type_name(&self) -> String {
        if let Some(message) = &self.of.schema.message {
            return message.clone();
        }
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let topic: String = self.topic.chars().map(letter).collect();
        let begins = topic.starts_with(|c: char| c.is_ascii_alphabetic());
        format!(
            "{}{topic}_{}",
            if begins { "" } else { "topic_" },
            self.name
        )
    }

    pub(super) fn may_derive(&self, name: &str) -> Result<()> {
        match (self.auto_register, self.of.schema.version) {
            (true, None) => Ok(()),
            _ => Err(self.no_subject(
                &self.subject(Some(name))?,
                &format!(
                    "let one be made of the columns and registered by {AUTO_REGISTER}, name another"
                ),
            )),
        }
    }

    pub(super) fn no_subject(&self, subject: &str, advice: &str) -> Error {
        let version = self.of.schema.version.map(|v| format!("version {v} of "));
        Error::invalid(format!(
            "the schema registry has no {}subject '{subject}' to write with: {advice} by '{part}.subject', \
             or a file by '{part}.schema.file'",
            version.unwrap_or_default(),
            part = self.name
        ))
    }

    fn not_registered(&self, file: &str, subject: &str) -> Error {
        Error::invalid(format!(
            "the schema of {file} is not registered under subject '{subject}': register it, or let that be \
             done by {AUTO_REGISTER}"
        ))
    }

    pub(super) fn check_kind(&self, found: &RegisteredSchema, kind: &SchemaKind) -> Result<()> {
        match found.kind == *kind {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "the subject has a schema of {}, but '{}.format' is '{}'",
                found.kind, self.name, self.of.format
            ))),
        }
    }
}
