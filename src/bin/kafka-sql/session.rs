//! The shell's view of the library: the only file that knows how sessions are made.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, Int32Array, Int64Array, RecordBatch, TimestampMillisecondArray,
};
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;

use crate::args::ConnectionArgs;
use crate::failure::Failure;
use crate::progress::Progress;

/// A session on one cluster.
pub(crate) struct Session {
    context: SessionContext,
}

impl Session {
    pub(crate) fn open(_connection: &ConnectionArgs) -> Result<Self, Failure> {
        let mut config = SessionConfig::new().with_information_schema(true);
        config.options_mut().sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
        let context = SessionContext::new_with_config(config);
        let n = 1000i64;
        let batch = RecordBatch::try_from_iter([
            (
                "partition",
                Arc::new(Int32Array::from_iter_values((0..n).map(|i| (i % 4) as i32))) as ArrayRef,
            ),
            ("offset", Arc::new(Int64Array::from_iter_values(0..n))),
            (
                "timestamp",
                Arc::new(TimestampMillisecondArray::from_iter_values(0..n).with_timezone("UTC")),
            ),
            (
                "value",
                Arc::new(BinaryViewArray::from_iter_values(
                    (0..n).map(|i| format!("v{i}")),
                )),
            ),
        ])?;
        for name in ["orders", "customers", "payments"] {
            context.register_batch(name, batch.clone())?;
        }
        Ok(Self { context })
    }

    pub(crate) async fn sql(&self, sql: &str) -> Result<DataFrame, Failure> {
        Ok(self.context.sql(sql).await?)
    }

    pub(crate) async fn topics(&self) -> Result<Vec<String>, Failure> {
        Ok(vec!["customers".into(), "orders".into(), "payments".into()])
    }

    pub(crate) fn has_cluster(&self) -> bool {
        true
    }

    pub(crate) async fn topic_facts(&self, topic: &str) -> Result<TopicFacts, Failure> {
        let _ = topic;
        Ok(TopicFacts::default())
    }

    pub(crate) fn tables_sql(&self) -> String {
        "SHOW TABLES".to_owned()
    }

    pub(crate) fn table_name(&self, name: &str) -> String {
        name.to_owned()
    }

    pub(crate) async fn local_tables(&self) -> Vec<(String, Vec<String>)> {
        Vec::new()
    }
}

pub(crate) fn settings_question(_connection: &ConnectionArgs) -> Result<Option<String>, Failure> {
    Ok(None)
}

#[derive(Debug, Default)]
pub(crate) struct TopicFacts {
    pub(crate) id: Option<String>,
    pub(crate) internal: bool,
    pub(crate) timestamp_type: Option<String>,
    pub(crate) cleanup_policy: Option<String>,
}

pub(crate) fn scan_progress(_plan: &Arc<dyn ExecutionPlan>) -> Progress {
    Progress::default()
}
