//! What writers of files hold: the turns and the shares that bound what no pool sees.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The bytes of a batch's values, whatever memory they point into.
pub(crate) fn payload_bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(column_bytes).sum()
}

/// The bytes of a column's values, whatever memory they point into.
pub(crate) fn column_bytes(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_bytes_len(),
        DataType::BinaryView => column.as_binary_view().total_bytes_len(),
        _ => {
            let slice = column.to_data().get_slice_memory_size();
            slice.unwrap_or_else(|_| column.get_array_memory_size())
        }
    }
}

/// Rows above this mean size are large, in batches above the second number of bytes.
const LARGE_ROW_BYTES: usize = 1 << 20;
const LARGE_BATCH_BYTES: usize = 8 << 20;
static LARGE: Semaphore = Semaphore::const_new(1);

/// The turn of a writer to encode rows of this number and size, until it is dropped. The process encodes one
/// batch of large rows at a time: their pages, and what these compress to, are copies that no pool knows.
pub(crate) async fn turn(bytes: usize, rows: usize) -> Option<SemaphorePermit<'static>> {
    let is_large = bytes > LARGE_BATCH_BYTES && bytes / rows.max(1) > LARGE_ROW_BYTES;
    // The semaphore is never closed.
    if is_large {
        LARGE.acquire().await.ok()
    } else {
        None
    }
}

/// Bytes of the row groups that all writers of the process gather.
const ROW_GROUPS_BYTES: usize = 24 << 20;
/// Writers that gather.
static WRITERS: AtomicUsize = AtomicUsize::new(0);

/// A writer's part of the memory for row groups, until it is dropped. All writers have equal parts.
#[derive(Debug)]
pub(crate) struct Share(());

impl Share {
    pub(crate) fn join() -> Self {
        WRITERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// The bytes at which the writer ends a row group now.
    pub(crate) fn bytes(&self) -> usize {
        ROW_GROUPS_BYTES / WRITERS.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        WRITERS.fetch_sub(1, Ordering::Relaxed);
    }
}
