//! Whether the lengths in an answer are true, before code decodes it that believes them.
//!
//! `kafka-protocol` makes room for as many elements as an array announces before it reads the first
//! one, and whoever answers in a broker's stead may announce two billion of them in forty bytes. So
//! the answers that it decodes are walked through first, element by element; one that is shorter
//! than it says is refused. [`FetchAnswer`](super::FetchAnswer) reads Fetch answers by itself.

use self::Shape::{Bytes, Data, List, Structs, Text};
use super::answer::Malformed;
use super::cursor::Cursor;

/// What lies in an answer, as far as one must know to pass over it.
enum Shape {
    /// So many bytes.
    Bytes(usize),
    /// Text behind its length.
    Text,
    /// Bytes behind their length.
    Data,
    /// Elements behind their number.
    List(&'static Shape),
    /// The same; each is a structure.
    Structs(&'static [Field]),
}

/// The first and the last version with a field, and what it holds.
type Field = (i16, i16, Shape);

/// An answer: its request's key, the first version with compact lengths, its fields.
type Layout = (i16, i16, &'static [Field]);

/// A field that the newest version has.
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

const LAYOUTS: [Layout; 8] = [
    LIST_OFFSETS,
    METADATA,
    OFFSET_FETCH,
    FIND_COORDINATOR,
    SASL_HANDSHAKE,
    OFFSET_FOR_LEADER_EPOCH,
    DESCRIBE_CONFIGS,
    SASL_AUTHENTICATE,
];

/// Walks through the answer to a request, without its header; gives its length.
///
/// # Errors
/// When the answer is shorter than it says, or nobody has written down its layout.
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

/// Where the body of a flexible answer begins, behind the tagged fields of its header.
pub(crate) fn after_header(answer: &[u8]) -> Option<usize> {
    let mut cursor = Cursor::new(answer);
    cursor.skip_tagged_fields()?;
    Some(cursor.at())
}

/// An answer to ApiVersions: its error, and the first and last version of each request that the
/// broker knows, by key. Its tagged fields hold arrays, too, which nobody here needs.
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
    /// Whether lengths are varints, and structures end with tagged fields.
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

    /// Every element takes bytes, so that a number of them which is not true ends soon.
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

    /// A length of `N` bytes, or a compact one; nothing at all is 0 as well.
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
