//! Streams of rows that are staged side by side.

use tokio::task::JoinSet;

use super::*;

/// The rows of one execution partition for a sink.
pub(crate) struct Part {
    pub(crate) sink: Arc<dyn OpenSink>,
    pub(crate) batch: Arc<BatchRanges>,
    pub(crate) partition: usize,
    pub(crate) rows: SendableRecordBatchStream,
}

/// Stages parts, within a memory pool, and returns what each of them staged, with its key, in no order.
///
/// # Errors
/// Those of the first part that fails; then no other one writes any more.
pub(crate) async fn stage_all<K: Send + 'static>(
    parts: impl IntoIterator<Item = (K, Part)>,
    memory: &Arc<dyn MemoryPool>,
) -> Result<Vec<(K, Staged)>> {
    let mut running: JoinSet<Result<(K, Staged)>> = JoinSet::new();
    for (key, part) in parts {
        let memory = Arc::clone(memory);
        running.spawn(async move {
            let Part {
                sink,
                batch,
                partition,
                rows,
            } = part;
            let staged = sink.stage_within(&batch, partition, rows, &memory);
            Ok((key, staged.await?))
        });
    }
    let mut staged = vec![];
    while let Some(joined) = running.join_next().await {
        let part = joined.unwrap_or_else(|error| {
            Err(Error::internal(format!("staging rows: {error}")).because(error))
        });
        match part {
            Ok(part) => staged.push(part),
            Err(error) => {
                // Nothing may be written any more when the sinks remove what was.
                running.shutdown().await;
                return Err(error);
            }
        }
    }
    Ok(staged)
}
