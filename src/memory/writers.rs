//! What writers of files hold: the turns and the shares that bound what no pool sees.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The bytes of a batch's values, regardless of the buffers they point into.
pub(crate) fn payload_bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(column_bytes).sum()
}

/// The bytes of a column's values, regardless of the buffers they point into.
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

/// Rows above this mean size, in batches of more than `LARGE_BATCH_BYTES`, are large.
const LARGE_ROW_BYTES: usize = 1 << 20;
const LARGE_BATCH_BYTES: usize = 8 << 20;
static LARGE: Semaphore = Semaphore::const_new(1);

/// A writer's turn to encode `bytes` bytes in `rows` rows, held until it is dropped. In the whole process,
/// large rows are encoded one batch at a time, because no pool knows about their pages and the compressed
/// copies.
pub(crate) async fn turn(bytes: usize, rows: usize) -> Option<SemaphorePermit<'static>> {
    let is_large = bytes > LARGE_BATCH_BYTES && bytes / rows.max(1) > LARGE_ROW_BYTES;
    // The semaphore is never closed.
    if is_large {
        LARGE.acquire().await.ok()
    } else {
        None
    }
}

/// The most bytes of row groups that all writers of the process collect together.
const ROW_GROUPS_BYTES: usize = 24 << 20;
/// The number of these writers.
static WRITERS: AtomicUsize = AtomicUsize::new(0);

/// A writer's equal share of the memory for row groups, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Share(());

impl Share {
    pub(crate) fn join() -> Self {
        WRITERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// The size at which the writer should currently end a row group.
    pub(crate) fn bytes(&self) -> usize {
        ROW_GROUPS_BYTES / WRITERS.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        WRITERS.fetch_sub(1, Ordering::Relaxed);
    }
}
