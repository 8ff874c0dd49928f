//! What is kept of each statement: a line in the log, and the counts of the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use datafusion::physical_plan::ExecutionPlan;
use datafusion_kafka::range::Ledger;
use datafusion_kafka::{scan, statement};
use pgwire::error::{PgWireError, PgWireResult};

use super::session::Session;
use super::{Shared, meter, notice, sqlstate};
use crate::logs::{self, Fields};

/// The longest statement that the log shows whole.
const LOGGED_CHARS: usize = 2000;

/// A statement that runs. What is kept of it is written when it ends, however it ends.
pub(super) struct Journal {
    shared: Arc<Shared>,
    user: String,
    client: String,
    text: String,
    began: Instant,
    rows: u64,
    plan: Option<Arc<dyn ExecutionPlan>>,
    /// The code and the message of what it has failed with. `None` where nobody said how it ended: it was cancelled, or
    /// the client has gone.
    outcome: Option<Result<(), (String, String)>>,
    cancelled: Arc<AtomicBool>,
}

impl Journal {
    pub(super) fn begin(session: &Session, text: &str) -> Self {
        let text = statement::without_secrets(text);
        let end = text.char_indices().nth(LOGGED_CHARS);
        Self {
            shared: Arc::clone(&session.shared),
            user: session.user.clone(),
            client: session.client.to_string(),
            text: end
                .map_or(text.as_str(), |(end, _)| &text[..end])
                .to_owned(),
            began: Instant::now(),
            rows: 0,
            plan: None,
            outcome: None,
            cancelled: session.cancelled(),
        }
    }

    /// Notes what it reads.
    pub(super) fn reads(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        self.plan = Some(Arc::clone(plan));
    }

    /// Notes a row that the client is sent.
    pub(super) fn row(&mut self) {
        self.rows += 1;
        self.shared.counts.row();
    }

    /// How many rows the client was sent.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Notes how it has ended.
    pub(super) fn ends<T>(&mut self, result: &PgWireResult<T>) {
        self.outcome = Some(match result {
            Ok(_) => Ok(()),
            Err(PgWireError::UserError(info)) => Err((info.code.clone(), info.message.clone())),
            Err(other) => Err((sqlstate::INTERNAL_ERROR.to_owned(), other.to_string())),
        });
    }

    /// Ends it.
    pub(super) fn end<T>(mut self, result: &PgWireResult<T>) {
        self.ends(result);
    }

    /// What became of the offsets that it has read.
    pub(super) fn ledger(&self) -> Ledger {
        self.plan.as_ref().map(scan::ledger).unwrap_or_default()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let outcome = self.outcome.take().or_else(|| {
            let cancelled = || (sqlstate::QUERY_CANCELED.to_owned(), "cancelled".to_owned());
            self.cancelled
                .load(Ordering::Relaxed)
                .then(|| Err(cancelled()))
        });
        let (result, outcome) = match &outcome {
            Some(Ok(())) => ("ok", "ok".to_owned()),
            Some(Err((code, message))) => (meter::failed(code), format!("{code} {message}")),
            None => ("ended", "ended early".to_owned()),
        };
        let took = self.began.elapsed();
        self.shared.counts.statement(result, took);
        let ledger = self.ledger();
        let counts = ledger.total();
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (user, client, rows) = (&self.user, &self.client, self.rows);
        let (counts, offsets) = (counts.to_string(), counts.passed());
        let ranges = notice::ranges(&ledger);
        let fields = Fields::default()
            .field("user", user.as_str())
            .field("client", client.as_str())
            .field("ms", ms)
            .field("rows", rows)
            .field("offsets", offsets)
            .field("ledger", counts.as_str())
            .field("ranges", ranges.as_str())
            .field("outcome", outcome.as_str())
            .field("statement", self.text.as_str());
        logs::with(fields, || {
            log::info!(
                target: logs::SERVICE,
                "statement of {user} from {client}: {outcome}, {ms} ms, {rows} rows; {offsets} offsets of {ranges:?}: \
                 {counts}; {:?}",
                self.text,
            );
        });
    }
}
