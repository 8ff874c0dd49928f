//! What the scans of a statement may read together, and what they have read.
//!
//! ```text
//! planning    each scan ─ Estimate ─▶ Account of the session in this statement, Account of the table in it
//! execution   Account: do the estimates of all scans fit? ─▶ Spent, one for all streams of an execution
//! reading     each batch ─▶ Spent: is there more than the budget?
//! ```
//!
//! An estimate is held by its scan and known to the account weakly, so plans that were dropped do not count. A
//! [`TaskContext`] stands for an execution: all scans of a plan get the same one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;

use super::estimate::{Amount, Estimate, topics_in_words};
use super::{KafkaScanExec, scans};
use crate::client::RawBatch;
use crate::config::ScanBudget;
use crate::error::{Error, Result};

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The session's, of all scans of a statement.
    Session,
    /// A table's, of all its scans in a statement.
    Table,
    /// What came with a scan from another machine.
    #[cfg_attr(
        not(feature = "jobs"),
        allow(dead_code, reason = "scans are sent with it")
    )]
    Coordinator,
}

/// A budget in a statement, and the scans that it is for.
#[derive(Debug)]
pub(crate) struct Account {
    budget: ScanBudget,
    holder: Holder,
    /// Whether the user wants to read more nevertheless.
    lifted: AtomicBool,
    planned: Mutex<Vec<Weak<Estimate>>>,
    executions: Mutex<Vec<(Weak<TaskContext>, Arc<Spent>)>>,
}

/// What an execution has read.
#[derive(Debug)]
struct Spent {
    began: Instant,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Account {
    pub(crate) fn new(budget: ScanBudget, holder: Holder) -> Arc<Self> {
        Arc::new(Self {
            budget,
            holder,
            lifted: AtomicBool::new(false),
            planned: Mutex::default(),
            executions: Mutex::default(),
        })
    }

    pub(crate) fn budget(&self) -> &ScanBudget {
        &self.budget
    }

    fn plan(&self, estimate: &Arc<Estimate>) {
        let mut planned = lock(&self.planned);
        planned.retain(|known| known.strong_count() > 0);
        planned.push(Arc::downgrade(estimate));
    }

    /// The estimates of the plans that are there.
    fn estimates(&self) -> Vec<Arc<Estimate>> {
        let planned = lock(&self.planned);
        planned.iter().filter_map(Weak::upgrade).collect()
    }

    /// # Errors
    /// [`Error::Budget`] when the scans are to read more.
    fn check_estimates(&self) -> Result<()> {
        let all = self.estimates();
        let sum = all.iter().map(|estimate| estimate.amount).sum::<Amount>();
        let Some((key, limit)) = self.exceeded(&sum) else {
            return Ok(());
        };
        let read = match key {
            "max.scan.bytes" => format!("about {}", sum.bytes_in_words()),
            _ => format!("up to {} records", thousands(sum.records)),
        };
        let topics = topics_in_words(&all);
        Err(self.refusal(&format!(
            "nothing was read: the statement reads {read} of {topics}, and '{key}'{} allows {limit}",
            self.whose(),
        )))
    }

    /// What the scans have read on other machines.
    fn check_elsewhere(&self) -> Result<()> {
        let all = self.estimates();
        let sum = all.iter().map(|estimate| estimate.elsewhere()).sum();
        match self.exceeded(&sum) {
            Some((key, limit)) => Err(self.passed(key, &limit, &sum)),
            None => Ok(()),
        }
    }

    /// The limit that an amount is above.
    fn exceeded(&self, amount: &Amount) -> Option<(&'static str, String)> {
        if self.lifted.load(Ordering::Relaxed) {
            return None;
        }
        let records = self.budget.records.filter(|most| amount.records > *most);
        if let Some(most) = records {
            return Some(("max.scan.records", thousands(most)));
        }
        let bytes = self.budget.bytes.filter(|most| amount.bytes > *most);
        bytes.map(|most| ("max.scan.bytes", bytes_in_words(most)))
    }

    fn passed(&self, key: &'static str, limit: &str, read: &Amount) -> Error {
        self.refusal(&format!(
            "stopped after {} records of {}: '{key}'{} allows {limit}; rows that came before are not the whole result",
            thousands(read.records),
            read.bytes_in_words(),
            self.whose(),
        ))
    }

    fn whose(&self) -> &'static str {
        match self.holder {
            Holder::Session | Holder::Coordinator => "",
            Holder::Table => " of the table",
        }
    }

    fn refusal(&self, what: &str) -> Error {
        let raise = match self.holder {
            Holder::Table => {
                "raise the limit: an option of the table, or --max-scan-… of an export"
            }
            Holder::Session | Holder::Coordinator => {
                "raise the limit: SET kafka.max.scan.…, or --max-scan-…"
            }
        };
        Error::Budget {
            message: format!(
                "{what}; narrow it with a range ('@-1h:end', '-1000') or a condition on \"offset\", timestamp or \
                 partition, or {raise}"
            ),
        }
    }

    /// What the execution with this context has read.
    fn spent(&self, context: &Arc<TaskContext>) -> Arc<Spent> {
        let mut executions = lock(&self.executions);
        executions.retain(|(known, _)| known.strong_count() > 0);
        let same = |(known, _): &&(Weak<TaskContext>, _)| known.as_ptr() == Arc::as_ptr(context);
        if let Some((_, spent)) = executions.iter().find(same) {
            return Arc::clone(spent);
        }
        let spent = Arc::new(Spent {
            began: Instant::now(),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        executions.push((Arc::downgrade(context), Arc::clone(&spent)));
        spent
    }

    fn charge(&self, spent: &Spent, added: Amount) -> Result<()> {
        let add = |to: &AtomicU64, n: u64| to.fetch_add(n, Ordering::Relaxed).saturating_add(n);
        let sum = Amount {
            records: add(&spent.records, added.records),
            bytes: add(&spent.bytes, added.bytes),
        };
        match self.exceeded(&sum) {
            Some((key, limit)) => Err(self.passed(key, &limit, &sum)),
            None => Ok(()),
        }
    }

    fn deadline(&self, spent: &Spent) -> Option<Instant> {
        let time = (self.budget.time).filter(|_| !self.lifted.load(Ordering::Relaxed))?;
        spent.began.checked_add(time)
    }

    fn out_of_time(&self, spent: &Spent) -> Error {
        let limit = self.budget.get("max.scan.time").unwrap_or_default();
        let read = Amount {
            records: spent.records.load(Ordering::Relaxed),
            bytes: spent.bytes.load(Ordering::Relaxed),
        };
        self.passed("max.scan.time", &limit, &read)
    }
}

// Lists are whole after any panic: entries are only ever added and removed.
fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The accounts that a scan is counted in, and what it was estimated by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Share {
    accounts: Vec<Arc<Account>>,
    /// Mean bytes of the records at an offset of each topic, where they are known.
    sizes: Arc<BTreeMap<Arc<str>, f64>>,
    estimate: Option<Arc<Estimate>>,
}

#[cfg_attr(
    not(feature = "jobs"),
    allow(dead_code, reason = "scans are sent with it")
)]
impl Share {
    /// What the account of another machine allows a part of a scan.
    pub(super) fn sent(budget: ScanBudget) -> Self {
        let accounts = match budget.is_unlimited() {
            true => vec![],
            false => vec![Account::new(budget, Holder::Coordinator)],
        };
        Self {
            accounts,
            ..Self::default()
        }
    }

    /// The least of the budgets.
    pub(super) fn budget(&self) -> ScanBudget {
        let accounts = self.accounts.iter();
        let all = accounts.filter(|account| !account.lifted.load(Ordering::Relaxed));
        all.fold(ScanBudget::default(), |least, account| {
            least.and(&account.budget)
        })
    }

    pub(super) fn estimate(&self) -> Option<&Arc<Estimate>> {
        self.estimate.as_ref()
    }

    /// # Errors
    /// [`Error::Budget`] when the statement is to read more than a budget allows.
    pub(super) fn check_estimates(&self) -> Result<()> {
        let mut accounts = self.accounts.iter();
        accounts.try_for_each(|account| account.check_estimates())
    }

    pub(super) fn spending(&self, context: &Arc<TaskContext>) -> Spending {
        let accounts = self.accounts.iter();
        let parts = accounts.map(|account| (Arc::clone(account), account.spent(context)));
        Spending(parts.collect())
    }
}

/// The accounts that a stream is counted in.
#[derive(Debug, Clone)]
pub(super) struct Spending(Vec<(Arc<Account>, Arc<Spent>)>);

impl Spending {
    /// The batches as long as the budgets allow them, and then an error.
    pub(super) fn within(
        &self,
        batches: BoxStream<'static, Result<RawBatch>>,
    ) -> BoxStream<'static, Result<RawBatch>> {
        if self.0.is_empty() {
            return batches;
        }
        let parts = self.0.clone();
        futures::stream::try_unfold((parts, batches), |(parts, mut batches)| async move {
            let deadlines = parts.iter().enumerate();
            let deadlines =
                deadlines.filter_map(|(n, (account, spent))| Some((account.deadline(spent)?, n)));
            let next = match deadlines.min() {
                Some((at, _)) if at <= Instant::now() => None,
                Some((at, _)) => tokio::time::timeout_at(at, batches.next()).await.ok(),
                None => Some(batches.next().await),
            };
            let Some(next) = next else {
                let passed = |(account, spent): &&(Arc<Account>, Arc<Spent>)| {
                    account
                        .deadline(spent)
                        .is_some_and(|at| at <= Instant::now())
                };
                return match parts.iter().find(passed) {
                    Some((account, spent)) => Err(account.out_of_time(spent)),
                    None => Err(Error::internal("a deadline has passed that is none")),
                };
            };
            let Some(batch) = next.transpose()? else {
                return Ok(None);
            };
            let looked_at =
                batch.offsets.len() as u64 + batch.passed.filtered + batch.passed.aborted;
            let added = Amount {
                records: looked_at,
                bytes: (batch.bytes + batch.passed_bytes) as u64,
            };
            for (account, spent) in &parts {
                account.charge(spent, added)?;
            }
            Ok(Some((batch, (parts, batches))))
        })
        .boxed()
    }
}

impl KafkaScanExec {
    /// This scan, counted in these accounts.
    pub(crate) fn counted_in(
        mut self,
        accounts: Vec<Arc<Account>>,
        sizes: Arc<BTreeMap<Arc<str>, f64>>,
    ) -> Self {
        let estimate = Arc::new(Estimate::of(&self, &sizes));
        accounts.iter().for_each(|account| account.plan(&estimate));
        self.share = Share {
            accounts,
            sizes,
            estimate: Some(estimate),
        };
        self
    }

    /// The same after it has changed.
    pub(super) fn counted_again(self) -> Self {
        match self.share.estimate {
            Some(_) => {
                let Share {
                    accounts, sizes, ..
                } = self.share.clone();
                self.counted_in(accounts, sizes)
            }
            None => self,
        }
    }

    /// Compares what all scans of the statement have read on other machines with its budget, of which each machine
    /// knows only its own part.
    ///
    /// # Errors
    /// [`Error::Budget`] when it is more.
    pub fn check_budget(&self) -> Result<()> {
        if let Some(estimate) = &self.share.estimate {
            estimate.set_elsewhere(self.read_elsewhere());
        }
        let mut accounts = self.share.accounts.iter();
        accounts.try_for_each(|account| account.check_elsewhere())
    }
}

/// What the scans of a plan are to read, as far as it is known before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanEstimate {
    /// The most records.
    pub records: u64,
    /// About how many bytes of keys, values and headers, where a budget or EXPLAIN asked for it.
    pub bytes: Option<u64>,
    /// The topics, by name.
    pub topics: Vec<String>,
}

impl ScanEstimate {
    /// Sums over all [`KafkaScanExec`] nodes of a plan.
    pub fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let mut sum = Self::default();
        for estimate in scans(plan).filter_map(|scan| scan.share.estimate.as_ref()) {
            sum.records = sum.records.saturating_add(estimate.amount.records);
            if estimate.is_sized {
                sum.bytes = Some(sum.bytes.unwrap_or(0).saturating_add(estimate.amount.bytes));
            }
            let topics = estimate.topics.iter().map(ToString::to_string);
            sum.topics.extend(topics);
        }
        sum.topics.sort();
        sum.topics.dedup();
        sum
    }
}

impl fmt::Display for ScanEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes {
            Some(bytes) => write!(f, "about {}", bytes_in_words(bytes)),
            None => write!(f, "up to {} records", thousands(self.records)),
        }
    }
}

/// Why the plan's scans may not begin, if their budgets forbid it. [`lift_budget`] lets them read nevertheless.
pub fn over_budget(plan: &Arc<dyn ExecutionPlan>) -> Option<Error> {
    scans(plan).find_map(|scan| scan.share.check_estimates().err())
}

/// Lets the plan's scans read without the limits of the session, for a user who was asked. Those of tables stay.
pub fn lift_budget(plan: &Arc<dyn ExecutionPlan>) {
    let accounts = scans(plan).flat_map(|scan| &scan.share.accounts);
    for account in accounts.filter(|account| account.holder == Holder::Session) {
        account.lifted.store(true, Ordering::Relaxed);
    }
}

/// `1234567` as `1,234,567`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let parts = digits.as_bytes().rchunks(3).rev();
    let parts: Vec<_> = parts.map(String::from_utf8_lossy).collect();
    parts.join(",")
}

/// `41.2 GiB`.
pub(super) fn bytes_in_words(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let mut left = bytes as f64;
    let mut unit = "bytes";
    for larger in UNITS {
        if left < 1023.95 {
            break;
        }
        left /= 1024.0;
        unit = larger;
    }
    let digits = usize::from(left < 99.95);
    format!("{left:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_with_three_digits() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (44_023_414_784, "41.0 GiB"),
            (107_374_182_400, "100 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes_in_words(bytes), expected);
        }
        for (n, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(n), expected);
        }
    }
}
