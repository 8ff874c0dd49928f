//! Checks the lengths in an answer, before code that trusts them decodes it.
//!
//! `kafka-protocol` reserves memory for as many elements as an array announces before it reads the first. A
//! malicious server could announce two billion elements in forty bytes. So answers for `kafka-protocol` are
//! first walked through element by element, and an answer that is shorter than it claims is refused.
//! [`FetchAnswer`](super::FetchAnswer) does not need this, because it parses Fetch answers itself.

use self::Shape::{Bytes, Data, List, Structs, Text};
use super::answer::Malformed;
use super::cursor::Cursor;

/// The structure of a part of an answer, as far as skipping it requires.
enum Shape {
    /// A fixed number of bytes.
    Bytes(usize),
    /// Text, preceded by its length.
    Text,
    /// Bytes, preceded by their length.
    Data,
    /// Elements, preceded by their number.
    List(&'static Shape),
    /// The same, where each element is a structure.
    Structs(&'static [Field]),
}

/// The first and the last version of a field, and its content.
type Field = (i16, i16, Shape);

/// An answer: the key of its request, the first version with compact lengths, its fields.
type Layout = (i16, i16, &'static [Field]);

/// The last version of a field that the newest version still has.
const ON: i16 = i16::MAX;

const LIST_OFFSETS: Layout = (
    2,
    6,
    &[
        (2, ON, Bytes(4)), // throttle time
        (
            0,
            ON,
            Structs(&[
                (0, ON, Text),
                (
                    0,
                    ON,
                    // partition, error, timestamp, offset; leader epoch
                    Structs(&[(0, ON, Bytes(4 + 2 + 8 + 8)), (4, ON, Bytes(4))]),
                ),
            ]),
        ),
    ],
);

const METADATA: Layout = (
    3,
    9,
    &[
        (3, ON, Bytes(4)), // throttle time
        (
            0,
            ON,
            // brokers: id, host, port, rack
            Structs(&[
                (0, ON, Bytes(4)),
                (0, ON, Text),
                (0, ON, Bytes(4)),
                (1, ON, Text),
            ]),
        ),
        (2, ON, Text),     // cluster
        (1, ON, Bytes(4)), // controller
        (
            0,
            ON,
            // topics: error, name, id, internal, partitions, operations
            Structs(&[
                (0, ON, Bytes(2)),
                (0, ON, Text),
                (10, ON, Bytes(16)),
                (1, ON, Bytes(1)),
                (
                    0,
                    ON,
                    // error, partition, leader; epoch; replicas, in sync, offline
                    Structs(&[
                        (0, ON, Bytes(2 + 4 + 4)),
                        (7, ON, Bytes(4)),
                        (0, ON, List(&Bytes(4))),
                        (0, ON, List(&Bytes(4))),
                        (5, ON, List(&Bytes(4))),
                    ]),
                ),
                (8, ON, Bytes(4)),
            ]),
        ),
        (8, 10, Bytes(4)),  // operations
        (13, ON, Bytes(2)), // error
    ],
);

const OFFSET_COMMIT: Layout = (
    8,
    8,
    &[
        (3, ON, Bytes(4)), // throttle time
        (
            0,
            ON,
            Structs(&[
                (0, 9, Text),
                (10, ON, Bytes(16)), // id
                // partition, error
                (0, ON, Structs(&[(0, ON, Bytes(4 + 2))])),
            ]),
        ),
    ],
);

const OFFSET_FETCH: Layout = (
    9,
    6,
    &[
        (3, ON, Bytes(4)), // throttle time
        (0, 7, Structs(OFFSET_FETCH_TOPIC)),
        (2, 7, Bytes(2)), // error
        (
            8,
            ON,
            // groups: name, topics, error
            Structs(&[
                (0, ON, Text),
                (0, ON, Structs(OFFSET_FETCH_TOPIC)),
                (0, ON, Bytes(2)),
            ]),
        ),
    ],
);

const OFFSET_FETCH_TOPIC: &[Field] = &[
    (0, 9, Text),
    (10, ON, Bytes(16)), // id
    (
        0,
        ON,
        // partition, offset; epoch; metadata, error
        Structs(&[
            (0, ON, Bytes(4 + 8)),
            (5, ON, Bytes(4)),
            (0, ON, Text),
            (0, ON, Bytes(2)),
        ]),
    ),
];

const FIND_COORDINATOR: Layout = (
    10,
    3,
    &[
        (1, ON, Bytes(4)), // throttle time
        (0, 3, Bytes(2)),  // error
        (1, 3, Text),      // its message
        (0, 3, Bytes(4)),  // broker, host, port
        (0, 3, Text),
        (0, 3, Bytes(4)),
        (
            4,
            ON,
            // key, broker, host, port, error, its message
            Structs(&[
                (0, ON, Text),
                (0, ON, Bytes(4)),
                (0, ON, Text),
                (0, ON, Bytes(4 + 2)),
                (0, ON, Text),
            ]),
        ),
    ],
);

const SASL_HANDSHAKE: Layout = (17, ON, &[(0, ON, Bytes(2)), (0, ON, List(&Text))]);

const OFFSET_FOR_LEADER_EPOCH: Layout = (
    23,
    4,
    &[
        (2, ON, Bytes(4)), // throttle time
        (
            0,
            ON,
            Structs(&[
                (0, ON, Text),
                (
                    0,
                    ON,
                    // error, partition; epoch; end
                    Structs(&[(0, ON, Bytes(2 + 4)), (1, ON, Bytes(4)), (0, ON, Bytes(8))]),
                ),
            ]),
        ),
    ],
);

const DESCRIBE_CONFIGS: Layout = (
    32,
    4,
    &[
        (0, ON, Bytes(4)), // throttle time
        (
            0,
            ON,
            // resources: error, its message, type, name, settings
            Structs(&[
                (0, ON, Bytes(2)),
                (0, ON, Text),
                (0, ON, Bytes(1)),
                (0, ON, Text),
                (
                    0,
                    ON,
                    // name, value; read-only, source, sensitive; synonyms, type, documentation
                    Structs(&[
                        (0, ON, Text),
                        (0, ON, Text),
                        (0, ON, Bytes(3)),
                        (
                            1,
                            ON,
                            Structs(&[(0, ON, Text), (0, ON, Text), (0, ON, Bytes(1))]),
                        ),
                        (3, ON, Bytes(1)),
                        (3, ON, Text),
                    ]),
                ),
            ]),
        ),
    ],
);

const SASL_AUTHENTICATE: Layout = (
    36,
    2,
    &[
        (0, ON, Bytes(2)),
        (0, ON, Text),
        (0, ON, Data),
        (1, ON, Bytes(8)), // lifetime
    ],
);

const LAYOUTS: [Layout; 9] = [
    LIST_OFFSETS,
    METADATA,
    OFFSET_COMMIT,
    OFFSET_FETCH,
    FIND_COORDINATOR,
    SASL_HANDSHAKE,
    OFFSET_FOR_LEADER_EPOCH,
    DESCRIBE_CONFIGS,
    SASL_AUTHENTICATE,
];

/// Walks through the answer to a request, without its header, and returns its length.
///
/// # Errors
/// When the answer is shorter than it claims, or its layout is not known here.
pub(crate) fn check(api: i16, version: i16, answer: &[u8]) -> Result<usize, Malformed> {
    let layout = LAYOUTS.iter().find(|(key, ..)| *key == api);
    let Some((_, compact, fields)) = layout else {
        return Err(Malformed(format!("the layout of answer {api} is unknown")));
    };
    let mut walk = Walk {
        cursor: Cursor::new(answer),
        version,
        compact: version >= *compact,
    };
    match walk.fields(fields) {
        Some(()) => Ok(walk.cursor.at()),
        None => Err(Malformed(format!(
            "its {} bytes are fewer than it says",
            answer.len()
        ))),
    }
}

/// Where the body of a flexible answer begins, after the tagged fields of its header.
pub(crate) fn after_header(answer: &[u8]) -> Option<usize> {
    let mut cursor = Cursor::new(answer);
    cursor.skip_tagged_fields()?;
    Some(cursor.at())
}

/// The answer to ApiVersions: its error, and for each request, by key, the first and last version that the
/// broker knows. Its tagged fields also contain arrays, which are not needed here.
pub(crate) fn api_versions(answer: &[u8], version: i16) -> Option<(i16, Vec<[i16; 3]>)> {
    let mut walk = Walk {
        cursor: Cursor::new(answer),
        version,
        compact: version >= 3,
    };
    let error = walk.cursor.i16()?;
    let mut known = Vec::new();
    for _ in 0..walk.length::<4>()? {
        let cursor = &mut walk.cursor;
        known.push([cursor.i16()?, cursor.i16()?, cursor.i16()?]);
        walk.end()?;
    }
    Some((error, known))
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    version: i16,
    /// Whether lengths are varints and structures end with tagged fields.
    compact: bool,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Option<()> {
        for (first, last, shape) in fields {
            if (*first..=*last).contains(&self.version) {
                self.pass(shape)?;
            }
        }
        self.end()
    }

    /// Skips a part. Every element takes at least a byte, so a false count is soon noticed.
    fn pass(&mut self, shape: &Shape) -> Option<()> {
        let bytes = match shape {
            Bytes(bytes) => *bytes,
            Text => self.length::<2>()?,
            Data => self.length::<4>()?,
            List(element) => {
                for _ in 0..self.length::<4>()? {
                    self.pass(element)?;
                }
                0
            }
            Structs(fields) => {
                for _ in 0..self.length::<4>()? {
                    self.fields(fields)?;
                }
                0
            }
        };
        self.cursor.bytes(bytes).map(drop)
    }

    /// A length in `N` bytes, or a compact one. A null length yields 0.
    fn length<const N: usize>(&mut self) -> Option<usize> {
        if self.compact {
            return Some(
                usize::try_from(self.cursor.uvarint()?)
                    .ok()?
                    .saturating_sub(1),
            );
        }
        let length = match N {
            2 => i32::from(self.cursor.i16()?),
            _ => self.cursor.i32()?,
        };
        Some(usize::try_from(length).unwrap_or(0))
    }

    /// The end of a structure.
    fn end(&mut self) -> Option<()> {
        match self.compact {
            true => self.cursor.skip_tagged_fields(),
            false => Some(()),
        }
    }
}
