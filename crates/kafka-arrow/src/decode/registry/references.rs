//! Fetches the schemas that a schema refers to by subject and version, directly or indirectly.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::time::Instant;

use super::{Registry, integer};
use crate::error::Result;

/// How many schemas one schema may use, directly or indirectly.
const MAX_REFERENCES: usize = 512;

/// A schema's reference to another one.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    /// The name by which the schema uses it: an Avro type, or a file in Protobuf.
    name: String,
    subject: String,
    version: i32,
}

/// The references in a registry's answer; `None` when they are malformed.
pub(super) fn listed(answer: &Value) -> Option<Vec<Reference>> {
    let listed = match &answer["references"] {
        Value::Null => return Some(Vec::new()),
        listed => listed.as_array()?,
    };
    listed
        .iter()
        .map(|reference| {
            Some(Reference {
                name: reference["name"].as_str()?.to_owned(),
                subject: reference["subject"].as_str()?.to_owned(),
                version: integer(&reference["version"])?,
            })
        })
        .collect()
}

/// A step of the walk over references.
enum Step {
    Ask(Reference),
    /// Everything that this schema uses has been found.
    Found(String, String),
}

impl Registry {
    /// Names and texts of the listed schemas and of all that they use. Each comes once, after those that it
    /// uses
    /// itself.
    ///
    /// # Errors
    /// When the registry does not answer before the deadline, lacks a schema, or there are too many of them.
    pub(super) async fn references(
        &self,
        listed_first: Vec<Reference>,
        operation: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut steps: Vec<_> = listed_first.into_iter().rev().map(Step::Ask).collect();
        while let Some(step) = steps.pop() {
            let reference = match step {
                Step::Found(name, text) => {
                    found.push((name, text));
                    continue;
                }
                Step::Ask(reference) => reference,
            };
            let Reference {
                name,
                subject,
                version,
            } = reference;
            if !seen.insert((subject.clone(), version)) {
                continue;
            }
            if seen.len() > MAX_REFERENCES {
                return Err(self.inner.transport.error(
                    operation,
                    format!("it refers to more than {MAX_REFERENCES} schemas"),
                ));
            }
            let path = ["subjects", &subject, "versions", &version.to_string()];
            let answer = self.inner.transport.ask(operation, &path, deadline);
            let answer = answer.await?.unwrap_or_default();
            let (Some(text), Some(listed)) = (answer["schema"].as_str(), listed(&answer)) else {
                return Err(self.inner.transport.error(
                    operation,
                    format!(
                        "it refers to '{name}', which is version {version} of subject '{subject}', and \
                         that is not there"
                    ),
                ));
            };
            steps.push(Step::Found(name, text.to_owned()));
            steps.extend(listed.into_iter().rev().map(Step::Ask));
        }
        Ok(found)
    }
}
