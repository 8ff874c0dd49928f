//! `search TOPIC… [RANGE]`: the records that meet conditions, as they are found, and what was looked at.
//!
//! A search is one statement of SQL over `kafka(…)`. Its plan is changed so that hits appear at once, and so that
//! an interruption leaves no hit of what was looked at behind ([`plan`]).

mod args;
mod coverage;
mod plan;
mod statement;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::tree_node::TreeNode;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion_kafka::receipt::{Receipt, with_checksums};
use datafusion_kafka::table::TopicSource;
use futures::StreamExt;
use tokio::sync::watch;

pub(crate) use args::SearchArgs;

use self::coverage::{Coverage, End};
use crate::failure::{Exit, Failure};
use crate::ledger;
use crate::output::{self, Destination, Format, OutputOptions};
use crate::progress::Meter;
use crate::script::deliver;
use crate::session::Session;
use crate::ui::{self, Ui};
use crate::{Shell, inspect, interrupt, receipt};

impl Shell {
    /// Runs a search. No hit is a failure of its own kind.
    pub(crate) fn search(&self, args: SearchArgs) -> Result<(), Failure> {
        let mut options = self.output.resolve(self.ui.stdout_is_terminal)?;
        // A table is drawn when all its rows are known, and a terminal shall see hits at once.
        if self.output.format.is_none() && options.format == Format::Table {
            options.format = Format::Tsv;
        }
        let session = Arc::new(self.session()?);
        let here = !self.runs_elsewhere();
        let (ui, stop) = (self.ui, watch::Sender::new(false));
        let file = args.receipt.clone();
        receipt::noted(file.as_deref(), options.overwrite, |receipt| {
            self.with_destination(options, |options, destination| {
                let search = Search {
                    session,
                    args,
                    receipt,
                    here,
                    stop: stop.subscribe(),
                    ui,
                };
                let work = search.run(options, destination);
                let tell = || {
                    stop.send_replace(true);
                };
                interrupt::run_until_told(self.runtime, tell, work)
            })
        })?
        .map_or(Ok(()), Err)
    }

    /// Whether statements run on other machines.
    fn runs_elsewhere(&self) -> bool {
        #[cfg(feature = "distributed")]
        if self.workers.are_named() {
            return true;
        }
        #[cfg(feature = "ballista")]
        if self.ballista.is_named() {
            return true;
        }
        false
    }
}

struct Search {
    session: Arc<Session>,
    args: SearchArgs,
    /// Where it is noted what was looked at.
    receipt: Option<Arc<Mutex<Receipt>>>,
    /// Whether the plan is for this process.
    here: bool,
    stop: watch::Receiver<bool>,
    ui: Ui,
}

impl Search {
    /// Returns the failure that stands for no hit.
    async fn run(
        self,
        options: OutputOptions,
        destination: Arc<Destination>,
    ) -> Result<Option<Failure>, Failure> {
        let planned = async {
            let sql = self.sql().await?;
            let frame = self.session.sql(&sql).await?;
            let (task, schema) = (frame.task_ctx(), frame.schema().clone());
            let (state, logical) = frame.into_parts();
            let of_several = |node: &LogicalPlan| {
                use LogicalPlan::{Aggregate, Distinct, Unnest, Window};
                matches!(node, Aggregate(_) | Distinct(_) | Unnest(_) | Window(_))
            };
            if logical.exists(|node| Ok(of_several(node)))? {
                return Err(Failure::usage(
                    "--select: expected columns of a hit; for what is computed of several use 'query'",
                ));
            }
            let plan = self.planning(state).create_physical_plan(&logical).await?;
            Ok::<_, Failure>((sql, schema, task, plan))
        };
        let (sql, schema, task, plan) = tokio::select! {
            planned = planned => planned?,
            () = plan::told(self.stop.clone()) => return Err(Failure::Interrupted),
        };
        let names = output::with_unique_names(&schema, &plan.schema());
        let task = Arc::new(match self.receipt {
            Some(_) => with_checksums(task),
            None => task,
        });
        let hits = Arc::new(AtomicU64::new(0));
        let found = execute_stream(Arc::clone(&plan), task)?;
        let (counted, columns) = (Arc::clone(&hits), found.schema());
        let found = found.inspect(move |batch| {
            let rows = batch.as_ref().map_or(0, |batch| batch.num_rows());
            counted.fetch_add(rows as u64, Ordering::Relaxed);
        });
        let found = Box::pin(RecordBatchStreamAdapter::new(columns, found));
        let meter = Meter::start(&plan, self.ui).beside_rows();
        let delivered = deliver(&names, found, meter, &options, &destination, self.ui);
        let ends = plan::ends_when_told(&plan);
        let delivered = tokio::select! {
            delivered = delivered => delivered,
            () = plan::told(self.stop.clone()), if !ends => Err(Failure::Interrupted),
        };
        let stopped = *self.stop.borrow();
        let hits = hits.load(Ordering::Relaxed);
        // A table may have had enough.
        let (shown, all) = delivered
            .as_ref()
            .map_or((hits, hits), |(shown, all, _)| (*shown, *all));
        let enough = shown < all || self.args.first == Some(shown);
        let coverage = Coverage::of(&plan, shown, enough, self.args.reverse);
        let end = match &delivered {
            Ok(_) if !stopped => End::Itself,
            Ok(_) => End::Interrupted,
            Err(_) => End::Failed,
        };
        if !self.ui.quiet && !matches!(delivered, Err(Failure::ClosedPipe)) {
            ui::note(coverage.line(end));
        }
        delivered?;
        if stopped {
            return Err(Failure::Interrupted);
        }
        self.note(&sql, &plan, &options).await?;
        Ok(self.without_hits(&coverage))
    }

    /// Puts what was looked at into the receipt, and prints it where it is asked for.
    async fn note(
        &self,
        sql: &str,
        plan: &Arc<dyn ExecutionPlan>,
        options: &OutputOptions,
    ) -> Result<(), Failure> {
        if let Some(receipt) = &self.receipt {
            let mut added = Receipt::new();
            added.add_with_epochs(sql, plan).await?;
            let mut receipt = receipt.lock().unwrap_or_else(PoisonError::into_inner);
            receipt.statements.append(&mut added.statements);
        }
        let ui = Ui {
            summary: false,
            ..self.ui
        };
        ledger::report(plan, options, ui)
    }

    fn without_hits(&self, coverage: &Coverage) -> Option<Failure> {
        match (coverage.hits(), coverage.is_complete()) {
            (0, true) => Some(Failure::Absent),
            (0, false) => Some(Failure::new(
                Exit::DataUnavailable,
                "there is no hit, but not all that was asked for could be looked at",
            )),
            _ => None,
        }
    }

    async fn sql(&self) -> Result<String, Failure> {
        let (places, range) = self.args.places();
        let state = self.session.context().state();
        for text in self.args.condition.iter().chain(&self.args.select) {
            datafusion_kafka::statement::check_text(&state, text)?;
        }
        // What is wrong with them is said before a cluster is asked.
        statement::statement(&self.args, "", range)?;
        let topics = self.topics(places).await?;
        statement::statement(&self.args, &topics, range)
    }

    /// The names of the topics, separated by commas. Patterns are looked up now.
    async fn topics(&self, places: &[String]) -> Result<String, Failure> {
        let mut topics = BTreeSet::new();
        for place in places {
            if !place.starts_with('/') && !place.contains(['*', '?']) {
                topics.insert(place.clone());
                continue;
            }
            let pattern = TopicSource::pattern(&inspect::topic_pattern(place)?)?;
            let matching = pattern.describe(self.session.client()?.as_ref()).await?;
            topics.extend(matching.topics.iter().map(|topic| topic.name.to_string()));
        }
        Ok(topics.into_iter().collect::<Vec<_>>().join(","))
    }

    /// What plans as a search wants it.
    fn planning(&self, state: SessionState) -> SessionState {
        if !self.here {
            return state;
        }
        let rule = plan::AsFound {
            reverse: self.args.reverse,
            stop: self.stop.clone(),
        };
        let mut state = SessionStateBuilder::new_from_existing(state)
            .with_physical_optimizer_rule(Arc::new(rule))
            .build();
        // Threads that take turns at the batches of a partition would mix their hits.
        let options = state.config_mut().options_mut();
        options.optimizer.enable_round_robin_repartition = false;
        state
    }
}
