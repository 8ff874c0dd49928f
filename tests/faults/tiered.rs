//! Tiered storage.
