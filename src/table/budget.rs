//! The budgets of a statement's scans, and how large the records of topics are.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::catalog::Session;
use datafusion::common::alias::AliasGenerator;
use futures::TryStreamExt;

use super::resolve::Selection;
use super::sample::thirds;
use super::snapshots::SessionSnapshots;
use crate::client::{RawColumns, ReadRequest};
use crate::config::ScanBudget;
use crate::error::Result;
use crate::range::{OffsetRange, OnDataLoss, Snapshot};
use crate::scan::{ASSUMED_BYTES_PER_OFFSET, Account, Holder, KafkaScanExec, ScanSettings};
use crate::statement::Explained;

/// At how many offsets of a place the sizes of records are looked at, and in how many partitions of a topic: the
/// longest.
const OFFSETS: i64 = 32;
const PARTITIONS: usize = 4;
/// What brokers take at most, unless they are told otherwise: where records of this size fit into a budget, nobody
/// asks how large they are.
const LARGEST_RECORD_BYTES: u64 = 1 << 20;

/// The accounts of a session's statements, and what it knows of topics.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    statements: Mutex<Vec<StatementAccounts>>,
    /// Mean bytes of the records at an offset, by topic id.
    sizes: Mutex<HashMap<String, f64>>,
}

#[derive(Debug)]
struct StatementAccounts {
    /// While this list holds it, no other statement's generator has the same address.
    statement: Weak<AliasGenerator>,
    session: Option<Arc<Account>>,
    tables: Vec<(Arc<ScanBudget>, Arc<Account>)>,
}

impl StatementAccounts {
    fn new(statement: &Arc<AliasGenerator>, state: &dyn Session) -> Self {
        let options = state.config_options().extensions.get::<ScanSettings>();
        let budget = options.map(|options| options.budget);
        let budget = budget.filter(|budget| !budget.is_unlimited());
        Self {
            statement: Arc::downgrade(statement),
            session: budget.map(|budget| Account::new(budget, Holder::Session)),
            tables: vec![],
        }
    }

    fn of(&mut self, table: Option<&Arc<ScanBudget>>) -> Vec<Arc<Account>> {
        let mut accounts: Vec<Arc<Account>> = self.session.iter().cloned().collect();
        if let Some(budget) = table {
            let same = |(known, _): &&(Arc<ScanBudget>, _)| Arc::ptr_eq(known, budget);
            let known = self.tables.iter().find(same);
            let account = known.map_or_else(
                || Account::new(**budget, Holder::Table),
                |(_, account)| Arc::clone(account),
            );
            if known.is_none() {
                let entry = (Arc::clone(budget), Arc::clone(&account));
                self.tables.push(entry);
            }
            accounts.push(account);
        }
        accounts
    }
}

impl Budgets {
    /// The accounts of a table's scan in the statement that `state` belongs to; those of its own for a state that
    /// belongs to none.
    fn accounts(&self, state: &dyn Session, table: Option<&Arc<ScanBudget>>) -> Vec<Arc<Account>> {
        let properties = state.execution_props();
        let statement = &properties.alias_generator;
        if properties.query_execution_start_time.is_none() {
            return StatementAccounts::new(statement, state).of(table);
        }
        let mut all = lock(&self.statements);
        all.retain(|known| known.statement.strong_count() > 0);
        let same = |known: &StatementAccounts| known.statement.as_ptr() == Arc::as_ptr(statement);
        let place = all.iter().position(same).unwrap_or_else(|| {
            all.push(StatementAccounts::new(statement, state));
            all.len() - 1
        });
        all[place].of(table)
    }
}

// Lists and maps are whole after any panic: entries are only ever added and removed.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The scan with the budgets that count it. How large records are is looked up where a budget of bytes or EXPLAIN
/// needs it.
pub(super) async fn counted(
    scan: KafkaScanExec,
    selection: &Selection,
    snapshot: &Snapshot,
    table: Option<&Arc<ScanBudget>>,
    state: &dyn Session,
) -> Result<KafkaScanExec> {
    let session = SessionSnapshots::of(state);
    let accounts = session.budgets.accounts(state, table);
    let most = scan.offsets().saturating_mul(LARGEST_RECORD_BYTES);
    let is_explained = state.config().get_extension::<Explained>().is_some();
    let asks = accounts
        .iter()
        .any(|a| a.budget().bytes.is_some_and(|b| b < most));
    let sizes = match is_explained || asks {
        true => sizes(&session.budgets, selection, snapshot).await,
        false => Ok(BTreeMap::new()),
    };
    let sizes = match sizes {
        Err(error) if !asks => {
            // EXPLAIN says the rest also to those who may not read.
            log::debug!("how large records are is not known: {error}");
            BTreeMap::new()
        }
        sizes => sizes?,
    };
    Ok(scan.counted_in(accounts, Arc::new(sizes)))
}

/// Mean bytes of the records at an offset of each topic.
async fn sizes(
    known: &Budgets,
    selection: &Selection,
    snapshot: &Snapshot,
) -> Result<BTreeMap<Arc<str>, f64>> {
    let mut sizes = BTreeMap::new();
    let ids = snapshot.topic_ids();
    for topic in snapshot.topics() {
        let name = &topic.topic;
        let id = ids.get(name);
        let known_size = id.and_then(|id| lock(&known.sizes).get(id).copied());
        let size = match known_size {
            Some(size) => size,
            None => sampled(selection, snapshot, name).await?,
        };
        if let Some(id) = id {
            lock(&known.sizes).insert(id.clone(), size);
        }
        sizes.insert(Arc::clone(name), size);
    }
    Ok(sizes)
}

/// Looks at some records of the topic's longest ranges.
async fn sampled(selection: &Selection, snapshot: &Snapshot, topic: &Arc<str>) -> Result<f64> {
    let ranges = snapshot
        .offset_ranges()
        .filter(|range| range.topic() == topic);
    let mut ranges: Vec<&OffsetRange> = ranges.filter(|range| !range.is_empty()).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.len()));
    ranges.truncate(PARTITIONS);
    let places: Vec<OffsetRange> = ranges
        .into_iter()
        .flat_map(|range| thirds(range, OFFSETS))
        .collect();
    let (mut offsets, mut bytes) = (0, 0);
    if !places.is_empty() {
        let ids = snapshot.topic_ids();
        let id = ids.get(topic).map(|id| (Arc::clone(topic), id.clone()));
        let request = ReadRequest {
            topic_ids: id.into_iter().collect(),
            columns: RawColumns {
                key: true,
                value: true,
                headers: true,
                ..RawColumns::default()
            },
            isolation: selection.isolation,
            on_data_loss: OnDataLoss::Skip,
            ..ReadRequest::new(places.clone())
        };
        offsets = places.iter().map(OffsetRange::len).sum::<i64>();
        let mut records = selection.client.read(request);
        while let Some(batch) = records.try_next().await? {
            offsets -= batch.lost_offsets;
            bytes += batch.bytes;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a mean of few records")]
    Ok(match bytes {
        0 => ASSUMED_BYTES_PER_OFFSET as f64,
        bytes => bytes as f64 / offsets.max(1) as f64,
    })
}
