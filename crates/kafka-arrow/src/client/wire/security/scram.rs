//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677) as Kafka uses them: without channel binding, and with
//! user names and passwords taken literally.
//!
//! It turns messages into messages and sends nothing itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::digest::Output;
use sha2::{Digest, Sha256, Sha512};

/// Kafka never stores fewer. A broker that asks for fewer may be trying to guess the password.
const ITERATIONS_LEAST: u32 = 4096;
/// Kafka never stores more than 16,384. Hashing must not block a thread of the runtime for long.
const ITERATIONS_MOST: u32 = 100_000;

/// `n,,`: no channel binding, and no other user to act for.
const GS2_HEADER: &str = "n,,";

/// The hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// A password, hashed with the broker's parameters. This takes milliseconds to compute.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Salted {
    salt: Vec<u8>,
    iterations: u32,
    password: Vec<u8>,
}

/// An exchange that waits for the first message from the server.
pub(super) struct Exchange<'a> {
    hash: Hash,
    password: &'a str,
    nonce: String,
    first_bare: String,
}

/// An exchange that waits for the last message from the server.
pub(super) struct Proven {
    signature: Vec<u8>,
}

impl<'a> Exchange<'a> {
    /// Begins an exchange, and returns the client's first message too. The nonce must never repeat.
    pub(super) fn begin(
        hash: Hash,
        user: &str,
        password: &'a str,
        nonce: String,
    ) -> (Self, String) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        let message = format!("{GS2_HEADER}{first_bare}");
        let exchange = Self {
            hash,
            password,
            nonce,
            first_bare,
        };
        (exchange, message)
    }

    /// Processes the server's first message, with `known` from an earlier exchange. Returns the client's last
    /// message, and the hash to reuse next time.
    ///
    /// # Errors
    /// Why the message cannot be trusted or read.
    pub(super) fn prove(
        self,
        server_first: &str,
        known: Option<&Salted>,
    ) -> Result<(Proven, String, Salted), String> {
        let mut parts = server_first.split(',');
        let mut part = |name: &str| {
            let value = parts.next().and_then(|p| p.strip_prefix(name));
            value.ok_or_else(|| format!("its first message lacks '{name}'"))
        };
        let nonce = part("r=")?;
        let salt = part("s=")?;
        let iterations = part("i=")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("it did not use this client's nonce".into());
        }
        let salt = STANDARD
            .decode(salt)
            .map_err(|_| "its salt is not base64".to_owned())?;
        let iterations = match iterations.parse() {
            Ok(n) if (ITERATIONS_LEAST..=ITERATIONS_MOST).contains(&n) => n,
            _ => {
                return Err(format!(
                    "it asks for {iterations} iterations, from {ITERATIONS_LEAST} to \
                     {ITERATIONS_MOST} are accepted"
                ));
            }
        };
        let salted = match known {
            Some(known) if known.salt == salt && known.iterations == iterations => known.clone(),
            _ => Salted {
                password: self
                    .hash
                    .stretch(self.password.as_bytes(), &salt, iterations),
                salt,
                iterations,
            },
        };
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(GS2_HEADER));
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = self.hash.mac(&salted.password, b"Client Key");
        let stored_key = self.hash.digest(&client_key);
        let mut proof = self.hash.mac(&stored_key, signed.as_bytes());
        for (byte, key) in proof.iter_mut().zip(&client_key) {
            *byte ^= key;
        }
        let server_key = self.hash.mac(&salted.password, b"Server Key");
        let signature = self.hash.mac(&server_key, signed.as_bytes());
        let message = format!("{without_proof},p={}", STANDARD.encode(proof));
        Ok((Proven { signature }, message, salted))
    }
}

impl Proven {
    /// Checks by the server's last message that the server knows the password too.
    ///
    /// # Errors
    /// The server's own error, or that it does not know the password.
    pub(super) fn verify(&self, server_final: &str) -> Result<(), String> {
        let first = server_final.split(',').next().unwrap_or_default();
        if let Some(reason) = first.strip_prefix("e=") {
            return Err(reason.to_owned());
        }
        let signature = first.strip_prefix("v=").map(|v| STANDARD.decode(v));
        match signature {
            Some(Ok(signature)) if signature == self.signature => Ok(()),
            _ => Err(
                "it does not prove that it knows the password: it is not the broker that it \
                      seems to be"
                    .into(),
            ),
        }
    }
}

impl Hash {
    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }

    fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Keyed::<Sha256>::new(key, 64).mac(message).to_vec(),
            Self::Sha512 => Keyed::<Sha512>::new(key, 128).mac(message).to_vec(),
        }
    }

    /// PBKDF2 (RFC 8018) with one block.
    fn stretch(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => Keyed::<Sha256>::new(password, 64).stretch(salt, iterations),
            Self::Sha512 => Keyed::<Sha512>::new(password, 128).stretch(salt, iterations),
        }
    }
}

/// HMAC (RFC 2104), with the key already hashed in.
struct Keyed<D> {
    inner: D,
    outer: D,
}

impl<D: Digest + Clone> Keyed<D> {
    /// `block` is the block size of the hash.
    fn new(key: &[u8], block: usize) -> Self {
        let mut padded = vec![0; block];
        if key.len() > block {
            let short = D::digest(key);
            padded[..short.len()].copy_from_slice(&short);
        } else {
            padded[..key.len()].copy_from_slice(key);
        }
        let with = |pad: u8| {
            let bytes: Vec<u8> = padded.iter().map(|b| b ^ pad).collect();
            D::new_with_prefix(bytes)
        };
        Self {
            inner: with(0x36),
            outer: with(0x5c),
        }
    }

    fn mac(&self, message: &[u8]) -> Output<D> {
        let inner = self.inner.clone().chain_update(message).finalize();
        self.outer.clone().chain_update(inner).finalize()
    }

    fn stretch(&self, salt: &[u8], iterations: u32) -> Vec<u8> {
        // The number of the block, which is the only one.
        let mut last = self.mac(&[salt, &1u32.to_be_bytes()].concat());
        let mut sum = last.to_vec();
        for _ in 1..iterations {
            last = self.mac(&last);
            for (byte, other) in sum.iter_mut().zip(last.iter()) {
                *byte ^= other;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example exchange in RFC 7677, section 3.
    const USER: &str = "user";
    const PASSWORD: &str = "pencil";
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn begin() -> Exchange<'static> {
        let (exchange, first) = Exchange::begin(Hash::Sha256, USER, PASSWORD, NONCE.into());
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        exchange
    }

    #[test]
    fn the_exchange_of_the_rfc() {
        let (proven, last, salted) = begin().prove(SERVER_FIRST, None).unwrap();
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        proven.verify(SERVER_FINAL).unwrap();
        let (again, same, _) = begin().prove(SERVER_FIRST, Some(&salted)).unwrap();
        assert_eq!(same, last);
        again.verify(SERVER_FINAL).unwrap();
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        let (proven, _, _) = begin().prove(SERVER_FIRST, None).unwrap();
        for (message, reason) in [
            (
                "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
                "does not prove",
            ),
            ("v=", "does not prove"),
            ("", "does not prove"),
            ("e=invalid-proof", "invalid-proof"),
        ] {
            let error = proven.verify(message).unwrap_err();
            assert!(error.contains(reason), "{message}: {error}");
        }
    }

    #[test]
    fn first_messages_that_are_not_to_be_trusted() {
        for (message, reason) in [
            ("r=someone-else,s=W22Z,i=4096", "nonce"),
            ("r=rOprNGfwEbeRWgbNEkqO,s=W22Z,i=4096", "nonce"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=??,i=4096", "base64"),
            (
                "r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=1",
                "asks for 1 iterations",
            ),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4294967295", "iterations"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z", "lacks 'i='"),
            ("", "lacks 'r='"),
        ] {
            let error = begin().prove(message, None).map(drop).unwrap_err();
            assert!(error.contains(reason), "{message}: {error}");
        }
    }

    #[test]
    fn user_names_are_escaped() {
        let (_, first) = Exchange::begin(Hash::Sha512, "a=b,c", "", "N".into());
        assert_eq!(first, "n,,n=a=3Db=2Cc,r=N");
    }

    /// RFC 4231, test cases 2 and 6: a short key, and one longer than a block.
    #[test]
    fn hmac_of_the_rfc() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let mac = hex(Hash::Sha256.mac(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(
            mac,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let long = [0xaa; 131];
        let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert!(hex(Hash::Sha512.mac(&long, text)).starts_with("80b24263c7c1a3ebb71493c1dd7be8b4"));
    }
}
