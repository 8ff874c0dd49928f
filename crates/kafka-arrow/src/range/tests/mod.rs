//! Laws and tables of the range values.

mod binding;
mod grammar;
mod spark;
mod splitting;
