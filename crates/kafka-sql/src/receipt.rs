//! `--receipt FILE`: the file that takes the receipt of what a command read.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion_kafka::receipt::Receipt;

use crate::failure::Failure;
use crate::output::Destination;

/// Lets `work` note what it reads, and writes that to `path` once it has succeeded. Without a path nothing is
/// noted.
///
/// # Errors
/// Those of `work`, and when the file exists or cannot be written, or nothing was read.
pub(crate) fn noted<T>(
    path: Option<&Path>,
    overwrite: bool,
    work: impl FnOnce(Option<Arc<Mutex<Receipt>>>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(path) = path else {
        return work(None);
    };
    // Opened before anything is read, so that an existing receipt is kept. Only the owner may read
    // it, because its statements may contain secrets.
    let file = Destination::private(path, overwrite)?;
    let receipt = Arc::new(Mutex::new(Receipt::new()));
    let done = work(Some(Arc::clone(&receipt)))?;
    let receipt = receipt.lock().unwrap_or_else(PoisonError::into_inner);
    if receipt.statements.is_empty() {
        return Err(Failure::usage(
            "no statement read a Kafka topic, so no receipt was written",
        ));
    }
    let mut writer = file.writer()?;
    writeln!(writer, "{}", receipt.to_json())
        .and_then(|()| writer.flush())
        .map_err(|e| Failure::io(format_args!("cannot write {}", path.display()), &e))?;
    drop(writer);
    file.commit()?;
    Ok(done)
}
