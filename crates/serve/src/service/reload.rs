//! Reading the file again: what changes while the service runs, and what does not.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion_kafka::driver::ProgressListener;

use super::Service;
use super::runner::Want;
use crate::config::Config;
use crate::logs;
use crate::problem::Problem;

/// What reading the file again has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Jobs that are new.
    pub added: Vec<String>,
    /// Jobs that start again: their settings, their connection or their file are others.
    pub changed: Vec<String>,
    /// Jobs that end after the batch that runs.
    pub removed: Vec<String>,
    /// Settings that take effect when the service starts again.
    pub at_restart: Vec<&'static str>,
}

impl Service {
    /// Reads the file again. Jobs come, go and start again; users, tokens, certificates and connections are the new ones.
    /// If the file is wrong, all stays as it is.
    ///
    /// # Errors
    /// What is wrong with the file or a certificate, which is logged too.
    pub async fn reload(self: &Arc<Self>) -> Option<Reloaded> {
        match self.try_reload().await {
            Ok(done) => {
                let list = |what: &str, names: &[String]| match names.is_empty() {
                    true => String::new(),
                    false => format!("; {what}: {}", names.join(", ")),
                };
                log::warn!(
                    target: logs::SERVICE,
                    "{} was read again{}{}{}",
                    self.path.display(),
                    list("added", &done.added),
                    list("changed", &done.changed),
                    list("removed", &done.removed),
                );
                if !done.at_restart.is_empty() {
                    log::warn!(
                        target: logs::SERVICE,
                        "these settings take effect when the service starts again: {}",
                        done.at_restart.join(", ")
                    );
                }
                Some(done)
            }
            Err(problem) => {
                log::error!(target: logs::SERVICE, "{problem}; all stays as it was");
                None
            }
        }
    }

    async fn try_reload(self: &Arc<Self>) -> Result<Reloaded, Problem> {
        let new = Arc::new(Config::read(&self.path)?);
        let old = self.config();
        let http = opened(&self.port);
        let postgres = opened(&self.postgres);
        let renew_postgres = match (&postgres, &new.postgres) {
            (Some(port), Some(config)) => {
                let connection = new.connection(&config.connection)?;
                Some(port.renew(config, connection).await?)
            }
            _ => None,
        };
        let renew_http = match (&http, &new.http) {
            (Some(port), Some(config)) => Some(port.renew(config)?),
            _ => None,
        };
        // Nothing from here on fails.
        if let Some(renew) = renew_postgres {
            renew();
        }
        if let Some(renew) = renew_http {
            renew();
        }
        let mut done = Reloaded {
            at_restart: at_restart(&old, &new),
            ..Reloaded::default()
        };
        let definitions = self.definitions(&new);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        for (name, task) in &*self.tasks() {
            if !definitions.contains_key(name) && !task.is_leaving() {
                task.want(Want::Leave);
                done.removed.push(name.clone());
            }
        }
        for (name, definition) in definitions {
            let known = self
                .tasks()
                .get(&name)
                .map(|task| task.define(definition.clone()));
            match known {
                Some(true) => done.changed.push(name),
                Some(false) => {}
                None => {
                    self.start(&name, definition);
                    done.added.push(name);
                }
            }
        }
        Ok(done)
    }

    /// Forgets a job that leaves, unless it is in the file again. Between [`Want::Leave`] and this, it may be.
    pub(super) fn leave(&self, name: &str) -> bool {
        let mut tasks = self.tasks();
        // The service that ends has let go of its tasks.
        if tasks.get(name).is_some_and(|task| !task.is_leaving()) {
            return false;
        }
        if tasks.remove(name).is_some() {
            self.board.remove(name);
        }
        true
    }

    pub(super) fn listeners(&self) -> Vec<Arc<dyn ProgressListener>> {
        let listeners = self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.clone()
    }
}

fn opened<P: Clone>(port: &Mutex<Option<P>>) -> Option<P> {
    port.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The settings that differ and are only read at the start.
fn at_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let http = |config: &Config| {
        let http = config.http.clone()?;
        Some((http.listen, http.tls, http.insecure))
    };
    let postgres = |config: &Config| {
        let mut postgres = config.postgres.clone()?;
        postgres.users.clear();
        postgres.connection.clear();
        postgres.catalog = None;
        Some(postgres)
    };
    let differs = [
        ("[service]", old.service != new.service),
        ("listen, tls and insecure of [http]", http(old) != http(new)),
        (
            "all of [postgres] but its users, connection and catalog",
            postgres(old) != postgres(new),
        ),
        ("[lineage]", old.lineage != new.lineage),
    ];
    let differs = differs.into_iter().filter(|(_, differs)| *differs);
    differs.map(|(what, _)| what).collect()
}
