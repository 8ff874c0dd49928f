//! Which partition a producer puts a key into.

use std::str::FromStr;

use crate::error::{Error, Result};

/// How the producers of a topic choose the partition of a record with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyPartitioner {
    /// Java's default, and librdkafka's `murmur2` and `murmur2_random`.
    Murmur2,
    /// librdkafka's default, which hashes by CRC-32. Empty keys may be in any partition.
    ConsistentRandom,
    /// librdkafka's `fnv1a` and `fnv1a_random`, which is Sarama's default.
    Fnv1a,
}

impl KeyPartitioner {
    const NAMES: [(&'static str, Self); 3] = [
        ("murmur2", Self::Murmur2),
        ("consistent_random", Self::ConsistentRandom),
        ("fnv1a", Self::Fnv1a),
    ];

    /// The name that the setting `key.partitioner` has for it.
    pub fn name(self) -> &'static str {
        let mut names = Self::NAMES.into_iter();
        names.find(|(_, known)| *known == self).map_or("", |n| n.0)
    }

    /// The partition, from 0, of a key in a topic that has this many partitions; `None` if it may be in any.
    pub fn partition(self, key: &[u8], partitions: u32) -> Option<i32> {
        let hash = match self {
            Self::Murmur2 => murmur2(key) & 0x7fff_ffff,
            Self::ConsistentRandom if key.is_empty() => return None,
            Self::ConsistentRandom => {
                // A checksum of 32 bits.
                crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, key) as u32
            }
            Self::Fnv1a => fnv1a(key),
        };
        let partition = hash.checked_rem(partitions)?;
        i32::try_from(partition).ok()
    }
}

impl FromStr for KeyPartitioner {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut names = Self::NAMES.into_iter();
        let found = names.find(|(name, _)| *name == text);
        found.map(|(_, known)| known).ok_or_else(|| {
            let names = Self::NAMES.map(|(name, _)| name).join(", ");
            Error::invalid(format!(
                "'{text}' is none of the ways to partition by keys: {names}"
            ))
        })
    }
}

/// MurmurHash2 with the seed of Kafka's `Utils.murmur2`.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // Kafka's records are shorter than 4 GiB.
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let (words, rest) = key.as_chunks();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// FNV-1a, of which Sarama and librdkafka take the absolute value.
fn fnv1a(key: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = key.iter().fold(0x811c_9dc5, step);
    hash.cast_signed().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&[u8]; 11] = [
        b"kafka",
        b"giberish123456789",
        b"1234",
        b"234",
        b"34",
        b"4",
        b"PreAmbleWillBeRemoved,ThePrePartThatIs",
        b"reAmbleWillBeRemoved,ThePrePartThatIs",
        b"eAmbleWillBeRemoved,ThePrePartThatIs",
        b"AmbleWillBeRemoved,ThePrePartThatIs",
        b"",
    ];

    /// The values that librdkafka's own tests took from Java and Go.
    #[test]
    fn hashes_are_those_of_java_and_sarama() {
        let java = [
            0xd067_cf64,
            0x8f55_2b0c,
            0x9fc9_7b14,
            0xe7c0_09ca,
            0x8739_30da,
            0x5a4b_5ca1,
            0x7842_4f1c,
            0x4a62_b377,
            0xe0e4_e09e,
            0x62b8_b43f,
            0x106e_08d9,
        ];
        let sarama = [
            0x0d33_c4e1,
            0x77a5_8295,
            0x023b_dd03,
            0x2dea_3cd2,
            0x740f_a83e,
            0x310c_a263,
            0x65cb_d69c,
            0x6e49_c79a,
            0x69ee_d356,
            0x6abc_c023,
            0x7ee3_623b,
        ];
        assert_eq!(KEYS.map(murmur2), java);
        assert_eq!(KEYS.map(fnv1a), sarama);
    }

    #[test]
    fn partitions_are_from_zero_and_none_of_none() {
        for (_, partitioner) in KeyPartitioner::NAMES {
            assert_eq!(
                partitioner.name().parse::<KeyPartitioner>().unwrap(),
                partitioner
            );
            for key in KEYS {
                let found = partitioner.partition(key, 7);
                let any = partitioner == KeyPartitioner::ConsistentRandom && key.is_empty();
                assert_eq!(found.is_none(), any, "{partitioner:?} {key:?}");
                assert!(found.is_none_or(|partition| (0..7).contains(&partition)));
                assert_eq!(partitioner.partition(key, 0), None);
            }
        }
        // The check value of CRC-32 is 0xcbf43926.
        let crc = KeyPartitioner::ConsistentRandom;
        assert_eq!(crc.partition(b"123456789", 1000), Some(262));
    }
}
