//! Laws and tables of cases for the values of ranges.

mod binding;
mod grammar;
mod offset_range;
mod spark;
mod splitting;
