//! Reads Java's own format of key stores, JKS, as `sun.security.provider.JavaKeyStore` writes it.
//!
//! ```text
//! magic, version, count, entries …, SHA-1 of the password and all before
//! entry = 1, alias, date, key (encrypted), count, certificates …
//!       | 2, alias, date, certificate
//! ```

use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::{Decode, Reader, SliceReader};
use pkcs8::spki::AlgorithmIdentifierRef;
use sha1::{Digest, Sha1};

const JKS: u32 = 0xfeed_feed;
/// The same with stronger encryption of keys, which no client of Kafka needs.
const JCEKS: u32 = 0xcece_cece;
/// The size of a SHA-1 digest, and of a key's salt.
const DIGEST_BYTES: usize = 20;
/// The only algorithm that keys of JKS are encrypted with.
const KEY_PROTECTOR: &str = "1.3.6.1.4.1.42.2.17.1.1";

/// The entries of a store.
#[derive(Debug, Default)]
pub(super) struct Jks<'a> {
    /// Encrypted keys, each with its certificates.
    pub(super) keys: Vec<(&'a [u8], Vec<&'a [u8]>)>,
    pub(super) trusted: Vec<&'a [u8]>,
}

/// Why a store cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closed {
    Damaged,
    Jceks,
    /// Its digest is not that of the password.
    Password,
}

/// Reads a store. Without a password, it is not checked whether somebody changed it, as in Java.
///
/// # Errors
/// When it has another format, or the password is wrong.
pub(super) fn open<'a>(content: &'a [u8], password: Option<&str>) -> Result<Jks<'a>, Closed> {
    let entries_end = content.len().saturating_sub(DIGEST_BYTES);
    let (signed, digest) = content.split_at(entries_end);
    let mut bytes = Bytes(signed);
    match bytes.number() {
        Some(JKS) => {}
        Some(JCEKS) => return Err(Closed::Jceks),
        _ => return Err(Closed::Damaged),
    }
    let store = bytes.entries().ok_or(Closed::Damaged)?;
    if let Some(password) = password {
        let mut hash = Sha1::new();
        hash.update(utf16(password));
        hash.update(b"Mighty Aphrodite");
        hash.update(signed);
        if hash.finalize().as_slice() != digest {
            return Err(Closed::Password);
        }
    }
    Ok(store)
}

/// The key (PKCS8) in an entry.
///
/// # Errors
/// When the password is wrong, or it is encrypted in another way.
pub(super) fn decrypted(entry: &[u8], password: &str) -> Result<Vec<u8>, &'static str> {
    let parsed = SliceReader::new(entry).and_then(|mut reader| {
        reader.sequence(|inner| {
            let algorithm = AlgorithmIdentifierRef::decode(inner)?;
            let bytes = <&OctetStringRef>::decode(inner)?;
            Ok::<_, pkcs8::der::Error>((algorithm.oid.to_string(), bytes.as_bytes()))
        })
    });
    let Ok((KEY_PROTECTOR, bytes)) = parsed.as_ref().map(|(oid, bytes)| (oid.as_str(), *bytes))
    else {
        return Err("the key is damaged, or encrypted in an unknown way");
    };
    let parts = bytes.split_at_checked(DIGEST_BYTES);
    let parts = parts.and_then(|(salt, rest)| {
        let (key, check) = rest.split_at_checked(rest.len().checked_sub(DIGEST_BYTES)?)?;
        Some((salt, key, check))
    });
    let Some((salt, encrypted, check)) = parts else {
        return Err("the key is damaged");
    };
    let password = utf16(password);
    let mut stream = salt.to_vec();
    let mut key = Vec::with_capacity(encrypted.len());
    for block in encrypted.chunks(DIGEST_BYTES) {
        stream = Sha1::new()
            .chain_update(&password)
            .chain_update(&stream)
            .finalize()
            .to_vec();
        key.extend(block.iter().zip(&stream).map(|(a, b)| a ^ b));
    }
    let right = Sha1::new().chain_update(&password).chain_update(&key);
    match right.finalize().as_slice() == check {
        true => Ok(key),
        false => Err("the password does not open the key"),
    }
}

/// Java hashes the two bytes of each character.
fn utf16(password: &str) -> Vec<u8> {
    password.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Bytes that are still to be read. Every method is `None` when there are too few.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let size = self.number()?;
        self.take(size as usize)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let size = self.take(2)?.try_into().ok()?;
        self.take(u16::from_be_bytes(size).into())
    }

    fn certificate(&mut self, version: u32) -> Option<&'a [u8]> {
        // The first version does not say that it is X.509.
        if version == 2 {
            self.text()?;
        }
        self.sized()
    }

    fn entries(&mut self) -> Option<Jks<'a>> {
        let version = self.number().filter(|version| matches!(version, 1 | 2))?;
        let mut store = Jks::default();
        for _ in 0..self.number()? {
            let kind = self.number()?;
            self.text()?;
            const DATE_BYTES: usize = 8;
            self.take(DATE_BYTES)?;
            match kind {
                1 => {
                    let key = self.sized()?;
                    let count = self.number()?;
                    let chain: Option<Vec<_>> =
                        (0..count).map(|_| self.certificate(version)).collect();
                    store.keys.push((key, chain?));
                }
                2 => store.trusted.push(self.certificate(version)?),
                _ => return None,
            }
        }
        self.0.is_empty().then_some(store)
    }
}
