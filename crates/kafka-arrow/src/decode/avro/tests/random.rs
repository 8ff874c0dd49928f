//! Random schemas and values: decoding returns what was encoded.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use serde_json::{Value, json};

use super::encode::Datum;
use super::{decode, plain};

/// Random numbers that are the same in each run (xorshift).
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Small numbers are as likely as large ones.
    const fn number(&mut self) -> i64 {
        let shift = self.below(64) as u32;
        self.next().cast_signed() >> shift
    }
}

/// A type of the generator.
#[derive(Debug, Clone)]
enum Shape {
    Primitive(&'static str),
    Enum,
    Fixed(usize),
    Array(Box<Shape>),
    Map(Box<Shape>),
    /// A union of null and another type.
    Nullable(Box<Shape>),
    /// A union of an int, a string and another type, in this order.
    Union(Box<Shape>),
    Record(Vec<Shape>),
}

impl Shape {
    fn random(random: &mut Random, depth: usize) -> Self {
        let inner = |random: &mut Random| Box::new(Self::random(random, depth + 1));
        match random.below(if depth < 4 { 13 } else { 7 }) {
            0 => Self::Primitive("boolean"),
            1 => Self::Primitive("int"),
            2 => Self::Primitive("long"),
            3 => Self::Primitive(["float", "double", "null"][random.below(3)]),
            4 => Self::Primitive(["bytes", "string"][random.below(2)]),
            5 => Self::Enum,
            6 => Self::Fixed(random.below(5)),
            7 => Self::Array(inner(random)),
            8 => Self::Map(inner(random)),
            9 | 10 => loop {
                let shape = inner(random);
                if !matches!(
                    *shape,
                    Self::Nullable(_) | Self::Union(_) | Self::Primitive("null")
                ) {
                    break Self::Nullable(shape);
                }
            },
            11 => {
                let other = match random.below(3) {
                    0 => Self::Array(inner(random)),
                    1 => Self::Enum,
                    _ => Self::Record(vec![*inner(random)]),
                };
                Self::Union(Box::new(other))
            }
            _ => Self::record(random, depth + 1),
        }
    }

    fn record(random: &mut Random, depth: usize) -> Self {
        let count = random.below(5);
        Self::Record((0..count).map(|_| Self::random(random, depth)).collect())
    }

    /// The type as JSON. Named types are numbered in the order of use.
    fn json(&self, names: &mut usize) -> Value {
        let mut name = || {
            *names += 1;
            format!("T{names}")
        };
        match self {
            Self::Primitive(name) => json!(name),
            Self::Enum => json!({"type": "enum", "name": name(), "symbols": ["A", "B", "C"]}),
            Self::Fixed(size) => json!({"type": "fixed", "name": name(), "size": size}),
            Self::Array(items) => json!({"type": "array", "items": items.json(names)}),
            Self::Map(values) => json!({"type": "map", "values": values.json(names)}),
            Self::Nullable(other) => json!(["null", other.json(names)]),
            Self::Union(other) => json!(["int", "string", other.json(names)]),
            Self::Record(fields) => {
                let name = name();
                let fields: Vec<_> = fields
                    .iter()
                    .enumerate()
                    .map(|(n, field)| json!({"name": format!("f{n}"), "type": field.json(names)}))
                    .collect();
                json!({"type": "record", "name": name, "fields": fields})
            }
        }
    }

    fn datum(&self, random: &mut Random) -> Datum {
        let size = |random: &mut Random| random.below(4);
        match self {
            Self::Primitive("null") => Datum::Null,
            Self::Primitive("boolean") => Datum::Boolean(random.below(2) == 0),
            Self::Primitive("int") => Datum::Long((random.number() as i32).into()),
            Self::Primitive("long") => Datum::Long(random.number()),
            Self::Primitive("float") => Datum::Float(random.number() as f32),
            Self::Primitive("double") => Datum::Double(random.number() as f64),
            Self::Primitive("bytes") => Datum::Bytes(bytes(random, 20)),
            Self::Primitive(_) => {
                let letters = ["a", "ž", "€", "𝄞", ""];
                Datum::Text(
                    (0..random.below(200))
                        .map(|_| letters[random.below(5)])
                        .collect(),
                )
            }
            Self::Enum => Datum::Enum(random.below(3)),
            Self::Fixed(size) => Datum::Fixed((0..*size).map(|_| random.next() as u8).collect()),
            Self::Array(items) => {
                Datum::Array((0..size(random)).map(|_| items.datum(random)).collect())
            }
            Self::Map(values) => Datum::Map(
                (0..size(random))
                    .map(|n| (format!("k{n}"), values.datum(random)))
                    .collect(),
            ),
            Self::Nullable(other) => match random.below(3) {
                0 => Datum::Union(0, Box::new(Datum::Null)),
                _ => Datum::Union(1, Box::new(other.datum(random))),
            },
            Self::Union(other) => {
                let place = random.below(3);
                let value = match place {
                    0 => Self::Primitive("int").datum(random),
                    1 => Self::Primitive("string").datum(random),
                    _ => other.datum(random),
                };
                Datum::Union(place, Box::new(value))
            }
            Self::Record(fields) => {
                Datum::Record(fields.iter().map(|field| field.datum(random)).collect())
            }
        }
    }

    /// What a reader should return.
    fn expected(&self, datum: &Datum) -> Value {
        match (self, datum) {
            (_, Datum::Null) => Value::Null,
            (_, Datum::Boolean(value)) => json!(value),
            (_, Datum::Long(value)) => json!(value),
            (_, Datum::Float(value)) => json!(value.to_bits()),
            (_, Datum::Double(value)) => json!(value.to_bits()),
            (_, Datum::Bytes(value) | Datum::Fixed(value)) => json!(value),
            (_, Datum::Text(value)) => json!(value),
            (_, Datum::Enum(place)) => json!(["A", "B", "C"][*place]),
            (Self::Array(of), Datum::Array(items)) => {
                items.iter().map(|item| of.expected(item)).collect()
            }
            (Self::Map(of), Datum::Map(entries)) => entries
                .iter()
                .map(|(key, value)| json!([key, of.expected(value)]))
                .collect(),
            (Self::Nullable(other), Datum::Union(_, value)) => other.expected(value),
            (Self::Union(other), Datum::Union(place, value)) => {
                let value = other.expected_in_union(*place, value);
                json!([place, value])
            }
            (Self::Record(fields), Datum::Record(values)) => fields
                .iter()
                .zip(values)
                .map(|(field, value)| field.expected(value))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn expected_in_union(&self, place: usize, value: &Datum) -> Value {
        match place {
            0 | 1 => Self::Primitive("").expected(value),
            _ => self.expected(value),
        }
    }
}

fn bytes(random: &mut Random, most: usize) -> Vec<u8> {
    (0..random.below(most))
        .map(|_| random.next() as u8)
        .collect()
}

/// A value in a column. Structs are lists; a union's value is its member's place and the value.
fn seen(shape: &Shape, column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) || column.data_type().is_null() {
        return Value::Null;
    }
    match (shape, column.data_type()) {
        (Shape::Nullable(other), _) => seen(other, column, row),
        (_, DataType::Boolean) => json!(column.as_boolean().value(row)),
        (_, DataType::Int32) => json!(column.as_primitive::<Int32Type>().value(row)),
        (_, DataType::Int64) => json!(column.as_primitive::<Int64Type>().value(row)),
        (_, DataType::Float32) => {
            json!(column.as_primitive::<Float32Type>().value(row).to_bits())
        }
        (_, DataType::Float64) => {
            json!(column.as_primitive::<Float64Type>().value(row).to_bits())
        }
        (_, DataType::Binary) => json!(column.as_binary::<i32>().value(row)),
        (_, DataType::FixedSizeBinary(_)) => json!(column.as_fixed_size_binary().value(row)),
        (_, DataType::Utf8) => json!(column.as_string::<i32>().value(row)),
        (Shape::Array(items), DataType::List(_)) => {
            let values = column.as_list::<i32>().value(row);
            (0..values.len()).map(|n| seen(items, &values, n)).collect()
        }
        (Shape::Map(of), DataType::Map(..)) => {
            let entries = column.as_map().value(row);
            let keys = entries.column(0).as_string::<i32>();
            (0..entries.len())
                .map(|n| json!([keys.value(n), seen(of, entries.column(1), n)]))
                .collect()
        }
        (Shape::Record(fields), DataType::Struct(_)) => {
            let columns = column.as_struct().columns().iter();
            let pairs = fields.iter().zip(columns);
            pairs
                .map(|(field, column)| seen(field, column, row))
                .collect()
        }
        (Shape::Union(other), DataType::Struct(_)) => {
            let columns = column.as_struct().columns();
            let set: Vec<_> = (0..3).filter(|n| columns[*n].is_valid(row)).collect();
            assert_eq!(set.len(), 1);
            let int = Shape::Primitive("");
            let shape = if set[0] == 2 { other } else { &int };
            json!([set[0], seen(shape, &columns[set[0]], row)])
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let shape = Shape::record(&mut random, 0);
        let Shape::Record(fields) = &shape else {
            continue;
        };
        let schema = shape.json(&mut 0).to_string();
        let decoder = plain(&schema, None).unwrap();
        let datums: Vec<_> = (0..20).map(|_| shape.datum(&mut random)).collect();
        let payloads: Vec<_> = datums.iter().map(|datum| Some(datum.encode())).collect();
        let decoded = decode(&decoder, &payloads);
        assert_eq!(decoded.bad, [], "{schema}");
        for (row, datum) in datums.iter().enumerate() {
            let columns = fields.iter().zip(&decoded.columns);
            let read: Value = columns.map(|(of, column)| seen(of, column, row)).collect();
            assert_eq!(read, shape.expected(datum), "{schema}");
        }
    }
}

/// The reader has some of the fields in another order, some promoted, and one that the writer lacks.
#[test]
fn what_is_written_is_read_with_another_schema() {
    for seed in 0..400 {
        let mut random = Random::new(seed + 1_000);
        let shape = Shape::record(&mut random, 0);
        let Shape::Record(fields) = &shape else {
            continue;
        };
        let writer = shape.json(&mut 0);
        let mut kept: Vec<_> = (0..fields.len()).filter(|_| random.below(3) > 0).collect();
        kept.reverse();
        let mut described = vec![json!({"name": "own", "type": "string", "default": "d"})];
        for place in &kept {
            let mut field = writer["fields"][place].clone();
            if field["type"] == json!("int") {
                field["type"] = json!(["int", "long"][random.below(2)]);
            }
            described.push(field);
        }
        let reader = json!({"type": "record", "name": "T1", "fields": described}).to_string();
        let decoder = plain(&reader, Some(&writer.to_string())).unwrap();
        let datums: Vec<_> = (0..10).map(|_| shape.datum(&mut random)).collect();
        let payloads: Vec<_> = datums.iter().map(|datum| Some(datum.encode())).collect();
        let decoded = decode(&decoder, &payloads);
        assert_eq!(decoded.bad, [], "{writer} {reader}");
        for (row, datum) in datums.iter().enumerate() {
            let all = shape.expected(datum);
            let own = decoded.columns[0].as_string::<i32>().value(row);
            assert_eq!(own, "d");
            for (column, place) in decoded.columns[1..].iter().zip(&kept) {
                assert_eq!(seen(&fields[*place], column, row), all[place], "{writer}");
            }
        }
    }
}
