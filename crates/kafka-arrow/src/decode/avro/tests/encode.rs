//! Writes datums, by the specification and independently of the reader.

/// A value to write. The caller makes sure that it fits the schema.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Datum {
    Null,
    Boolean(bool),
    /// An int, a long, or a logical type based on one.
    Long(i64),
    Float(f32),
    Double(f64),
    Bytes(Vec<u8>),
    Text(String),
    Fixed(Vec<u8>),
    /// A symbol's place.
    Enum(usize),
    /// A branch's place.
    Union(usize, Box<Datum>),
    Array(Vec<Datum>),
    Map(Vec<(String, Datum)>),
    Record(Vec<Datum>),
}

impl Datum {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => {}
            Self::Boolean(value) => out.push(u8::from(*value)),
            Self::Long(value) => long(*value, out),
            Self::Float(value) => out.extend(value.to_le_bytes()),
            Self::Double(value) => out.extend(value.to_le_bytes()),
            Self::Bytes(value) => {
                long(value.len() as i64, out);
                out.extend(value);
            }
            Self::Text(value) => {
                long(value.len() as i64, out);
                out.extend(value.as_bytes());
            }
            Self::Fixed(value) => out.extend(value),
            Self::Enum(place) => long(*place as i64, out),
            Self::Union(place, value) => {
                long(*place as i64, out);
                value.write(out);
            }
            Self::Array(items) => blocks(items.len(), out, |place, out| items[place].write(out)),
            Self::Map(entries) => blocks(entries.len(), out, |place, out| {
                let (key, value) = &entries[place];
                Self::Text(key.clone()).write(out);
                value.write(out);
            }),
            Self::Record(fields) => fields.iter().for_each(|field| field.write(out)),
        }
    }
}

/// Writes two blocks, of which the second has its length in bytes, to cover both forms.
fn blocks(count: usize, out: &mut Vec<u8>, write: impl Fn(usize, &mut Vec<u8>)) {
    let first = count / 2;
    if first > 0 {
        long(first as i64, out);
        (0..first).for_each(|place| write(place, out));
    }
    if count > first {
        let mut block = Vec::new();
        (first..count).for_each(|place| write(place, &mut block));
        long(-((count - first) as i64), out);
        long(block.len() as i64, out);
        out.extend(block);
    }
    long(0, out);
}

pub(super) fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = i128::from(value);
    rest = if rest < 0 { -2 * rest - 1 } else { 2 * rest };
    loop {
        let seven = (rest % 128) as u8;
        rest /= 128;
        if rest == 0 {
            return out.push(seven);
        }
        out.push(seven | 0x80);
    }
}

pub(super) fn text(value: &str) -> Datum {
    Datum::Text(value.to_owned())
}

pub(super) fn some(value: Datum) -> Datum {
    Datum::Union(1, Box::new(value))
}

pub(super) fn none() -> Datum {
    Datum::Union(0, Box::new(Datum::Null))
}
