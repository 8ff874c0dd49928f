//! The decoder's only `unsafe` line.
//!
//! Arrow compares every view with the bytes that it points to. That took a tenth of a scan's processor time
//! (2.3 of 23 ns for a record of 100 bytes), although each view was made from these very bytes a moment
//! before. Builds with debug assertions still compare; tests and fuzz targets are such builds.
#![allow(unsafe_code)]

use arrow::array::BinaryViewArray;
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::error::ArrowError;

/// An array of views. [`view`](crate::client::views::view) must have made each from a slice of `buffers`,
/// with the index of the slice's buffer and the offset in it.
///
/// # Errors
/// When a buffer is larger than a view's offset can express, or the mask has another length. In builds with
/// debug assertions, also when a view does not show its slice.
pub(super) fn binary_views(
    views: ScalarBuffer<u128>,
    buffers: Vec<Buffer>,
    nulls: Option<NullBuffer>,
) -> Result<BinaryViewArray, ArrowError> {
    let addressable = buffers.iter().all(|b| u32::try_from(b.len()).is_ok());
    let masked = nulls.as_ref().is_none_or(|n| n.len() == views.len());
    if cfg!(debug_assertions) || !addressable || !masked {
        return BinaryViewArray::try_new(views, buffers, nulls);
    }
    // SAFETY: `Views` keeps the contract above. So each view has the length and the first bytes of a slice of
    // the buffer that it names. Offsets were not truncated, because buffers are small.
    Ok(unsafe { BinaryViewArray::new_unchecked(views, buffers, nulls) })
}
