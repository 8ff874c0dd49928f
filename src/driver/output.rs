//! The outputs of a job: sinks with the queries whose rows go there, and how far the job got in each.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;

use super::intent::Intent;
use crate::error::Result;
use crate::sink::{BatchRanges, Committed, Ends, OpenSink, Sink, SinkJob, Standing};

/// A sink and the queries whose rows go there.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) sink: Arc<dyn Sink>,
    /// The columns of the rows.
    pub(crate) schema: SchemaRef,
    /// What is run for each batch, with the tables as they were registered.
    pub(crate) queries: Vec<LogicalPlan>,
    /// Of a sink of dead letters: the source that each of the queries reads them of.
    pub(crate) letters_of: Vec<String>,
}

impl Output {
    /// Opens the sink for a job; also how far the job got in it.
    pub(crate) async fn open(
        self: &Arc<Self>,
        job: &str,
    ) -> Result<(OpenOutput, Option<Committed>)> {
        let job = SinkJob {
            name: job.to_owned(),
            schema: Arc::clone(&self.schema),
        };
        let opened = self.sink.open(&job).await?;
        let recorded = match &opened.committed {
            _ if !self.sink.records_ends() => Recorded::NotKept,
            None => Recorded::Nothing,
            Some(committed) => Recorded::Ends(committed.ends.clone()),
        };
        let open = OpenOutput {
            output: Arc::clone(self),
            sink: opened.sink,
            recorded,
        };
        Ok((open, opened.committed))
    }
}

/// An output whose sink the job has opened.
#[derive(Debug)]
pub(crate) struct OpenOutput {
    pub(crate) output: Arc<Output>,
    pub(crate) sink: Arc<dyn OpenSink>,
    pub(crate) recorded: Recorded,
}

/// What a sink has recorded of the job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// The sink keeps no ends: it is trusted to do what it must.
    NotKept,
    /// It knows nothing of the job.
    Nothing,
    /// It knows nothing of the job, which is under way: it joins with the job's next batch.
    Joins,
    Ends(Ends),
}

impl OpenOutput {
    pub(crate) fn target(&self) -> String {
        self.output.sink.target()
    }

    /// A sink that knows nothing of a job joins it with the next batch.
    pub(crate) fn join(&mut self) {
        if self.recorded == Recorded::Nothing {
            self.recorded = Recorded::Joins;
        }
    }

    /// The batch as this sink has to compare it.
    pub(crate) fn ranges(&self, intent: &Intent, attempt: &str) -> BatchRanges {
        let mut ranges = intent.ranges(attempt);
        if self.recorded == Recorded::Joins {
            for range in &mut ranges.ranges {
                range.previous = None;
            }
        }
        ranges
    }

    /// How the batch stands to the recorded ends.
    pub(crate) fn standing(&self, ranges: &BatchRanges) -> Result<Standing> {
        match &self.recorded {
            Recorded::NotKept => Ok(Standing::Next),
            Recorded::Nothing | Recorded::Joins => ranges.against(&self.target(), None),
            Recorded::Ends(ends) => ranges.against(&self.target(), Some(ends)),
        }
    }

    /// Notes that the sink has committed a batch.
    pub(crate) fn committed(&mut self, ranges: &BatchRanges) {
        if self.recorded != Recorded::NotKept {
            self.recorded = Recorded::Ends(ranges.ends());
        }
    }
}
