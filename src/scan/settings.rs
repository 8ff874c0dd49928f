//! How the scans of a session read.

use std::any::Any;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::error::Result;

use crate::config::ScanBudget;
use crate::error::{Error, External as _};

const PUSH_DOWN: &str = "push_down";

/// How the scans of a session read: its settings `kafka.…`, which `SET` changes.
#[derive(Debug, Clone)]
pub struct ScanSettings {
    /// Whether scans apply conditions themselves. The rows are the same; this is for comparisons.
    pub push_down: bool,
    /// What the scans of a statement may read together: `max.scan.records` and its like.
    pub budget: ScanBudget,
}

impl Default for ScanSettings {
    fn default() -> Self {
        Self {
            push_down: true,
            budget: ScanBudget::default(),
        }
    }
}

impl ConfigExtension for ScanSettings {
    const PREFIX: &'static str = "kafka";
}

impl ExtensionOptions for ScanSettings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        if key != PUSH_DOWN {
            return self.budget.set(key, value).external();
        }
        let parsed = value.parse().map_err(|_| {
            Error::config(
                "kafka.push_down",
                format!("expected true or false, found '{value}'"),
            )
        });
        self.push_down = parsed.external()?;
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |key: &str, value, description| ConfigEntry {
            key: format!("{}.{key}", Self::PREFIX),
            value,
            description,
        };
        let limits = ScanBudget::KEYS.into_iter().map(|key| {
            let most = "The most that the scans of a statement may read";
            entry(key, self.budget.get(key), most)
        });
        let push_down = Some(self.push_down.to_string());
        let first = entry(
            PUSH_DOWN,
            push_down,
            "Whether scans apply conditions themselves",
        );
        std::iter::once(first).chain(limits).collect()
    }
}
