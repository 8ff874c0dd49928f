//! A checksum of records that does not depend on their order.

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The sum of the records' hashes, modulo 2^128, written as 32 hexadecimal digits.
///
/// The sums of parts add up to the sum of the whole, so neither the order of records nor the split of a range
/// matters. It detects accidents. It does not protect against someone who forges records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RowsChecksum(pub u128);

impl AddAssign for RowsChecksum {
    fn add_assign(&mut self, more: Self) {
        self.0 = self.0.wrapping_add(more.0);
    }
}

impl fmt::Display for RowsChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for RowsChecksum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(sum) if hex => Ok(Self(sum)),
            _ => Err(format!(
                "a checksum has 32 hexadecimal digits, found '{text}'"
            )),
        }
    }
}

impl Serialize for RowsChecksum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RowsChecksum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_wrap_and_print_all_digits() {
        let mut sum = RowsChecksum(u128::MAX);
        sum += RowsChecksum(3);
        assert_eq!(sum.to_string(), "00000000000000000000000000000002");
        assert_eq!(sum.to_string().parse(), Ok(sum));
        for wrong in ["", "2", "+0000000000000000000000000000002"] {
            assert!(wrong.parse::<RowsChecksum>().is_err(), "{wrong}");
        }
    }
}
