//! What takes the place of a hidden value.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::hex::hex;

/// How many bytes of an HMAC are shown. Two values of a billion have the same with a probability of 1 to 10^20.
const HASH_BYTES: usize = 16;
/// What is before the characters that are kept.
const STARS: &str = "****";

/// How values are hidden, the strictest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Null,
    Hash,
    /// The last characters are kept.
    Last(usize),
}

/// The secret of hashes. It is never printed.
#[derive(Clone)]
pub(crate) struct Salt(Hmac<Sha256>);

impl Salt {
    pub(crate) fn new(secret: &str) -> Self {
        // An HMAC takes keys of any length.
        let mac = Hmac::new_from_slice(secret.as_bytes());
        Self(mac.unwrap_or_else(|_| Hmac::new(&Default::default())))
    }

    fn hash(&self, bytes: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(bytes);
        let all = mac.finalize().into_bytes();
        hex(&all[..HASH_BYTES])
    }

    /// Tells salts apart, and says nothing else of them.
    pub(crate) fn fingerprint(&self) -> String {
        let mut print = self.hash(b"datafusion-kafka: the fingerprint of a salt");
        print.truncate(12);
        print
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(…)")
    }
}

impl Way {
    /// In the place of a whole key, value or header; `None` is NULL.
    pub(crate) fn bytes(self, hidden: &[u8], salt: &Salt) -> Option<Vec<u8>> {
        let text = match self {
            Self::Null => None,
            Self::Hash => Some(salt.hash(hidden)),
            Self::Last(kept) => (std::str::from_utf8(hidden).ok()).map(|text| last(text, kept)),
        };
        text.map(String::into_bytes)
    }

    /// In the place of a text or a number in JSON.
    pub(crate) fn text(self, hidden: &str, salt: &Salt) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Hash => Some(salt.hash(hidden.as_bytes())),
            Self::Last(kept) => Some(last(hidden, kept)),
        }
    }

    /// In the place of anything else in JSON, as it is written.
    pub(crate) fn other(self, hidden: &[u8], salt: &Salt) -> Option<String> {
        match self {
            Self::Hash => Some(salt.hash(hidden)),
            Self::Null | Self::Last(_) => None,
        }
    }
}

/// No more than half of a text is kept, and its length is not shown.
fn last(text: &str, kept: usize) -> String {
    let from_end = text.char_indices().rev();
    let begins = match text.chars().count() / 2 >= kept {
        true => from_end.take(kept).last().map_or(text.len(), |(at, _)| at),
        false => text.len(),
    };
    format!("{STARS}{}", text.get(begins..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_text_is_kept_and_nothing_of_a_short_one() {
        for (text, shown) in [
            ("4111111111111111", "****1111"),
            ("12345678", "****5678"),
            ("1234567", "****"),
            ("", "****"),
            ("aaaaéüß€", "****éüß€"),
        ] {
            assert_eq!(last(text, 4), shown, "{text}");
        }
    }

    #[test]
    fn hashes_depend_on_the_salt_which_is_never_printed() {
        let (one, two) = (Salt::new("pepper"), Salt::new("other"));
        let hash = |salt: &Salt| Way::Hash.bytes(b"secret", salt).unwrap();
        assert_eq!(hash(&one), hash(&one.clone()));
        assert_ne!(hash(&one), hash(&two));
        assert_eq!(hash(&one).len(), 2 * HASH_BYTES);
        assert_ne!(one.fingerprint(), two.fingerprint());
        assert!(!format!("{one:?}").contains("pepper"));
    }
}
