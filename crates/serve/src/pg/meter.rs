//! What the port counts, for `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{Shared, sqlstate};

type Labels = [(&'static str, &'static str); 1];

/// How statements end, as the label `result`.
const RESULTS: [&str; 5] = ["ok", "failed", "refused", "cancelled", "ended"];

/// How logins end, as the label `result`.
const LOGINS: [&str; 3] = ["ok", "failed", "refused"];

/// Counts what the clients of a port do.
#[derive(Debug)]
pub(super) struct Counts {
    logins: Family<Labels, Counter>,
    statements: Family<Labels, Counter>,
    rows: Counter,
    durations: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        // All begin at 0, so that the first of a kind is seen to be one more.
        let zeros = |results: &[&'static str]| {
            let family = Family::<Labels, Counter>::default();
            for result in results {
                drop(family.get_or_create(&[("result", *result)]));
            }
            family
        };
        Self {
            logins: zeros(&LOGINS),
            statements: zeros(&RESULTS),
            rows: Counter::default(),
            durations: Histogram::new(exponential_buckets(0.001, 4.0, 10)),
        }
    }
}

impl Counts {
    /// A login, of one of the results above.
    pub(super) fn login(&self, result: &'static str) {
        self.logins.get_or_create(&[("result", result)]).inc();
    }

    /// A row that a client is sent.
    pub(super) fn row(&self) {
        self.rows.inc();
    }

    /// The end of a statement, with one of the results above.
    pub(super) fn statement(&self, result: &'static str, took: Duration) {
        self.statements.get_or_create(&[("result", result)]).inc();
        self.durations.observe(took.as_secs_f64());
    }
}

/// The result of a statement that has failed with an SQLSTATE.
pub(super) fn failed(code: &str) -> &'static str {
    match code {
        sqlstate::QUERY_CANCELED => "cancelled",
        sqlstate::READ_ONLY
        | sqlstate::INSUFFICIENT_PRIVILEGE
        | sqlstate::INSUFFICIENT_RESOURCES
        | sqlstate::OVER_BUDGET => "refused",
        _ => "failed",
    }
}

/// The numbers of a port, to be looked at.
pub(crate) struct Meter(pub(super) Arc<Shared>);

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.0.counts).finish()
    }
}

impl Meter {
    /// Adds what there is now.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let shared = &self.0;
        let used = |most: usize, free: usize| i64::try_from(most.saturating_sub(free)).ok();
        let connections = used(
            shared.options.max_connections,
            shared.connections.available_permits(),
        );
        let running = used(
            shared.options.max_statements,
            shared.places.available_permits(),
        );
        let queued = i64::try_from(shared.queued.load(Ordering::Relaxed)).ok();
        for (name, help, value) in [
            ("connections", "Clients that have logged in", connections),
            (
                "statements_running",
                "Statements that have a place",
                running,
            ),
            (
                "statements_queued",
                "Statements that wait for a place",
                queued,
            ),
        ] {
            let gauge = ConstGauge::new(value.unwrap_or(i64::MAX));
            registry.register(format!("kafka_sql_postgres_{name}"), help, gauge);
        }
        let counts = &shared.counts;
        registry.register(
            "kafka_sql_postgres_logins",
            "Logins, by how they ended",
            counts.logins.clone(),
        );
        registry.register(
            "kafka_sql_postgres_statements",
            "Statements that are over, by how they ended",
            counts.statements.clone(),
        );
        registry.register(
            "kafka_sql_postgres_rows",
            "Rows that were sent to clients",
            counts.rows.clone(),
        );
        registry.register(
            "kafka_sql_postgres_statement_duration_seconds",
            "How long statements took, with the time that they waited for a place",
            counts.durations.clone(),
        );
    }
}
