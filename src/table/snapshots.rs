//! The snapshots that statements have taken, so that all mentions of a topic in one see the same offsets.
//!
//! DataFusion plans each mention of a table on its own; a self-join would see two different ends
//! of a topic that is being written. When a statement begins, DataFusion makes an alias generator,
//! which all copies of the statement's session state share: those in its `DataFrame`s too. So the
//! generator stands for the statement here. The first mention resolves a snapshot, the others wait
//! for it and use it, and it is kept until the last copy of the state is gone: a `DataFrame` that is
//! executed again reads the same offsets. Mentions of one topic with different ranges share its log
//! bounds.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::catalog::Session;
use datafusion::common::alias::AliasGenerator;
use tokio::sync::OnceCell;

use super::budget::Budgets;
use super::keys::Checked;
use super::resolve::{Selection, SharedBounds, now_ms};
use crate::client::KafkaClient;
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, OnDataLoss, RangeSpec, Snapshot};

/// The snapshots of a session's statements: an extension of its `SessionConfig`.
#[derive(Debug, Default)]
pub(crate) struct SessionSnapshots {
    mentions: Mutex<Vec<Arc<Mentions>>>,
    /// Topics whose keys were found to lie where they should.
    checked: Mutex<HashSet<Checked>>,
    /// What the scans of statements may read.
    pub(super) budgets: Budgets,
}

/// For sessions that have no list of their own because nothing but tables was registered with them.
static UNREGISTERED: LazyLock<Arc<SessionSnapshots>> = LazyLock::new(Arc::default);

/// What the mentions of one cluster in one statement share.
#[derive(Debug)]
struct Mentions {
    /// While this list holds it, no other statement's generator has the same address.
    statement: Weak<AliasGenerator>,
    client: Arc<dyn KafkaClient>,
    isolation: IsolationLevel,
    bounds: SharedBounds,
    snapshots: Mutex<HashMap<Mentioned, Arc<OnceCell<Arc<Snapshot>>>>>,
}

/// Topics and range, and the rules by which the range is resolved.
type Mentioned = (String, RangeSpec, OnDataLoss, bool);

impl SessionSnapshots {
    pub(super) fn of(state: &dyn Session) -> Arc<Self> {
        let registered = state.config().get_extension::<Self>();
        registered.unwrap_or_else(|| Arc::clone(&UNREGISTERED))
    }

    /// What the statement's mentions of the selection's cluster share. Statements that are over are
    /// forgotten.
    fn mentions(&self, statement: &Arc<AliasGenerator>, selection: &Selection) -> Arc<Mentions> {
        // The list is whole after any panic: entries are only ever added and removed.
        let mut all = self.mentions.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.statement.strong_count() > 0);
        let same = |known: &&Arc<Mentions>| {
            known.statement.as_ptr() == Arc::as_ptr(statement)
                && Arc::ptr_eq(&known.client, &selection.client)
                && known.isolation == selection.isolation
        };
        if let Some(known) = all.iter().find(same) {
            return Arc::clone(known);
        }
        let new = Arc::new(Mentions {
            statement: Arc::downgrade(statement),
            client: Arc::clone(&selection.client),
            isolation: selection.isolation,
            bounds: SharedBounds::default(),
            snapshots: Mutex::default(),
        });
        all.push(Arc::clone(&new));
        new
    }

    /// Whether this was found before.
    pub(super) fn has_checked(&self, checked: &Checked) -> bool {
        self.checked().contains(checked)
    }

    pub(super) fn keep_checked(&self, checked: Checked) {
        self.checked().insert(checked);
    }

    fn checked(&self) -> MutexGuard<'_, HashSet<Checked>> {
        // The set is whole after any panic: it is only ever added to.
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many clusters are remembered for statements, over or not.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.mentions.lock().unwrap().len()
    }
}

impl Mentions {
    fn snapshot(&self, selection: &Selection) -> Arc<OnceCell<Arc<Snapshot>>> {
        let mentioned = (
            selection.topics.to_string(),
            selection.range.clone(),
            selection.on_data_loss,
            selection.past_end_is_end,
        );
        // The map is whole after any panic: it is only ever added to.
        let mut known = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(mentioned).or_default())
    }
}

/// The snapshot of `selection` for the statement that `state` belongs to; one of its own for a state
/// that belongs to none.
pub(super) async fn for_statement(
    selection: &Selection,
    state: &dyn Session,
) -> Result<Arc<Snapshot>> {
    let properties = state.execution_props();
    let Some(begun) = properties.query_execution_start_time else {
        let bounds = SharedBounds::default();
        return Ok(Arc::new(selection.resolve(now_ms(), &bounds).await?));
    };
    let session = SessionSnapshots::of(state);
    let mentions = session.mentions(&properties.alias_generator, selection);
    let cell = mentions.snapshot(selection);
    let snapshot = cell
        .get_or_try_init(|| async {
            let now_ms = begun.timestamp_millis();
            let snapshot = selection.resolve(now_ms, &mentions.bounds).await?;
            Ok::<_, Error>(Arc::new(snapshot))
        })
        .await?;
    Ok(Arc::clone(snapshot))
}
