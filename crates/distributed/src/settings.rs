//! The settings of a session travel with its plans: functions depend on them, for example on the time zone.

use std::collections::{BTreeMap, HashSet};

use datafusion::common::config::ConfigOptions;
use datafusion::common::internal_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::prelude::SessionConfig;
use datafusion_distributed::DistributedExt;
use http::{HeaderMap, HeaderName, HeaderValue};

const HEADER: HeaderName = HeaderName::from_static("x-datafusion-kafka-settings");

/// What travels. The others say how to plan and to print, or what a machine has.
const TRAVELS: &str = "datafusion.execution.";

/// A task that sends its settings with the plan, as far as they are not the defaults.
pub(crate) fn sent(context: &TaskContext) -> Result<TaskContext> {
    let settings = |options: &ConfigOptions| {
        let all = options.entries().into_iter();
        let travelling = all.filter(|entry| entry.key.starts_with(TRAVELS));
        travelling.filter_map(|entry| Some((entry.key, entry.value?)))
    };
    let config = context.session_config();
    let defaults: HashSet<_> = settings(&ConfigOptions::default()).collect();
    let set = settings(config.options()).filter(|setting| !defaults.contains(setting));
    let text = serde_json::to_vec(&set.collect::<BTreeMap<String, String>>());
    let text = text.map_err(|e| internal_datafusion_err!("settings: {e}"))?;
    let text = HeaderValue::from_bytes(&text);
    let text = text.map_err(|e| internal_datafusion_err!("settings cannot be sent: {e}"))?;
    let headers = HeaderMap::from_iter([(HEADER, text)]);
    Ok(TaskContext::new(
        context.task_id(),
        context.session_id(),
        config
            .clone()
            .with_distributed_passthrough_headers(headers)?,
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    ))
}

/// Takes the settings that came with a plan.
pub(crate) fn take(config: &mut SessionConfig, headers: &HeaderMap) -> Result<()> {
    let Some(text) = headers.get(HEADER) else {
        return Ok(());
    };
    let set: BTreeMap<String, String> = serde_json::from_slice(text.as_bytes())
        .map_err(|e| internal_datafusion_err!("settings of the coordinator: {e}"))?;
    let travelling = set.iter().filter(|(key, _)| key.starts_with(TRAVELS));
    for (key, value) in travelling {
        config.options_mut().set(key, value)?;
    }
    Ok(())
}
