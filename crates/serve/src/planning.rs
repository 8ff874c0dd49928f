//! Planning, in the middle of which a table function may ask the cluster for its columns, in a call that cannot await.

use tokio::runtime::Handle;
use tokio::task::{JoinError, spawn_blocking};

/// Does work that may hold up its thread on one that nobody else waits for. It goes on if this is dropped.
///
/// # Errors
/// When it panics.
pub(crate) async fn beside<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, JoinError> {
    let runtime = Handle::current();
    spawn_blocking(move || runtime.block_on(work)).await
}
