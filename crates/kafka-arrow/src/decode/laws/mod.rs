//! Laws that every decoder obeys, whatever the bytes. The unit tests and `fuzz/` check them.
//!
//! An input is a byte that chooses a decoder, a byte of options, a mask of wanted fields, and payloads with
//! their lengths: 255 stands for NULL, 254 for a length of two bytes.
//!
//! - Every column has a row for each payload, and the type of its field.
//! - A bad row is reported once, with a class and a message. All its columns are NULL, as for a NULL payload.
//! - A row does not depend on its neighbours.
//! - The choice of wanted fields changes no row. It changes no badness either, if all fields are checked.
//! - The payloads' length bounds the memory of the columns, see [`memory_bound`].

mod cases;
mod declare;
mod schemas;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use arrow::array::{Array, ArrayRef, BinaryViewArray};
use arrow::datatypes::DataType;

use self::cases::Case;
use super::budget::{ELEMENT_FREE_BYTES, FREE_BYTES, PER_BYTE, width};
use super::payload::{BadPayload, Decoded, PayloadDecoder, Wanted};

pub(crate) use self::cases::{avro, csv, json, protobuf, scalar};
pub(crate) use self::schemas::schemas;

/// More payloads would only take time.
const MOST_PAYLOADS: usize = 12;

/// Payloads, and which fields are wanted.
struct Input {
    payloads: Vec<Option<Vec<u8>>>,
    options: u8,
    mask: u8,
}

impl Input {
    /// The choice of a decoder, and the rest.
    fn parse(data: &[u8]) -> Option<(usize, Self)> {
        let [choice, options, mask, rest @ ..] = data else {
            return None;
        };
        let mut rest = rest;
        let mut payloads = Vec::new();
        while let [length, after @ ..] = rest
            && payloads.len() < MOST_PAYLOADS
        {
            rest = after;
            let length = match (length, rest) {
                (255, _) => {
                    payloads.push(None);
                    continue;
                }
                (254, [low, high, after @ ..]) => {
                    rest = after;
                    usize::from(u16::from_le_bytes([*low, *high]))
                }
                (length, _) => usize::from(*length),
            };
            let (payload, after) = rest.split_at(length.min(rest.len()));
            payloads.push(Some(payload.to_vec()));
            rest = after;
        }
        let input = Self {
            payloads,
            options: *options,
            mask: *mask,
        };
        Some((usize::from(*choice), input))
    }

    /// Some of the fields, in either order.
    fn wanted(&self, fields: usize) -> Vec<usize> {
        let some = (0..fields).filter(|field| self.mask >> (field % 8) & 1 == 1);
        match self.options & 1 {
            0 => some.collect(),
            _ => some.rev().collect(),
        }
    }
}

/// Decodes an input with the decoder that it chooses, if it chooses one.
fn run(cases: &[Case], data: &[u8]) {
    let Some((choice, mut input)) = Input::parse(data) else {
        return;
    };
    let Some(case) = cases.get(choice % cases.len()) else {
        return;
    };
    for payload in input.payloads.iter_mut().flatten() {
        case.frame(payload);
    }
    obeys(case.decoder.as_ref(), &input);
}

/// Checks all laws.
fn obeys(decoder: &dyn PayloadDecoder, input: &Input) {
    let payloads = &input.payloads;
    let every: Vec<usize> = (0..decoder.fields().len()).collect();
    let all = decode(decoder, payloads, &every, true);
    let of_all = |row: usize| all.bad.iter().find(|bad| bad.row == row);
    for (row, payload) in payloads.iter().enumerate() {
        let alone = decode(decoder, std::slice::from_ref(payload), &every, true);
        for (column, alone) in all.columns.iter().zip(&alone.columns) {
            assert!(same(column, row, alone, 0), "row {row} has other values");
        }
        let expected = alone
            .bad
            .first()
            .map(|bad| BadPayload { row, ..bad.clone() });
        assert_eq!(of_all(row), expected.as_ref(), "row {row} alone");
    }
    let wanted = input.wanted(every.len());
    let some = decode(decoder, payloads, &wanted, true);
    assert_eq!(some.bad, all.bad, "badness depends on what is wanted");
    assert_eq!(some.schema_ids, all.schema_ids);
    let unchecked = decode(decoder, payloads, &wanted, false);
    assert_eq!(unchecked.schema_ids, all.schema_ids);
    for bad in &unchecked.bad {
        assert!(of_all(bad.row).is_some(), "bad when less is looked at");
    }
    for (place, field) in wanted.iter().enumerate() {
        for row in 0..payloads.len() {
            let expected = &all.columns[*field];
            assert!(same(&some.columns[place], row, expected, row));
            if of_all(row).is_none() {
                assert!(same(&unchecked.columns[place], row, expected, row));
            }
        }
    }
}

/// Decodes, and checks the laws that one result can show.
fn decode(
    decoder: &dyn PayloadDecoder,
    payloads: &[Option<Vec<u8>>],
    fields: &[usize],
    check_all: bool,
) -> Decoded {
    let array: BinaryViewArray = payloads.iter().map(Option::as_deref).collect();
    wait(decoder.prepare(&array)).expect("the source of schemas answers");
    let wanted = Wanted {
        fields,
        check_all,
        schema_ids: true,
    };
    let decoded = decoder.decode(&array, &wanted).expect("no fault of ours");
    assert_eq!(decoded.columns.len(), fields.len());
    for (column, field) in decoded.columns.iter().zip(fields) {
        assert_eq!(column.len(), payloads.len());
        assert_eq!(column.data_type(), decoder.fields()[*field].data_type());
        let whole = column.to_data().validate_full();
        whole.expect("a column is whole");
    }
    let null = |row| decoded.columns.iter().all(|column| is_null(column, row));
    let mut told = vec![false; payloads.len()];
    for bad in &decoded.bad {
        let again = std::mem::replace(&mut told[bad.row], true);
        assert!(!again, "row {} is bad twice", bad.row);
        assert!(payloads[bad.row].is_some(), "a NULL is bad");
        assert!(!bad.class.is_empty() && !bad.message.is_empty());
        assert!(null(bad.row), "bad, and not NULL");
        if let Some(ids) = &decoded.schema_ids {
            let id = ids.is_valid(bad.row).then(|| ids.value(bad.row));
            assert_eq!(bad.schema_id, id, "row {}", bad.row);
        }
    }
    for (row, payload) in payloads.iter().enumerate() {
        assert!(payload.is_some() || null(row), "row {row} has no payload");
    }
    if let Some(ids) = &decoded.schema_ids {
        assert_eq!(ids.len(), payloads.len());
    }
    let columns = decoded.columns.iter();
    let bytes: usize = columns.map(|c| c.get_buffer_memory_size()).sum();
    let bound = memory_bound(decoder, payloads);
    assert!(bytes <= bound, "{bytes} bytes, where {bound} are the most");
    decoded
}

/// The most memory that columns may take: that of rows without values, plus 64 KiB for each payload and
/// 128 bytes for each of its bytes. All of it twice, because growing buffers keep spare room.
fn memory_bound(decoder: &dyn PayloadDecoder, payloads: &[Option<Vec<u8>>]) -> usize {
    let fields = decoder.fields();
    let row: usize = fields.iter().map(|f| width(f.data_type())).sum();
    let bytes: usize = payloads.iter().flatten().map(Vec::len).sum();
    // Each buffer is rounded up, also in columns within columns.
    let empty = 1024 * (1 + fields.iter().map(|f| leaves(f.data_type())).sum::<usize>());
    let each = payloads.len() * (row + FREE_BYTES);
    2 * (each + bytes * (PER_BYTE + ELEMENT_FREE_BYTES)) + empty
}

fn leaves(data_type: &DataType) -> usize {
    1 + match data_type {
        DataType::Struct(fields) => fields.iter().map(|f| leaves(f.data_type())).sum(),
        DataType::List(item) | DataType::Map(item, _) => leaves(item.data_type()),
        _ => 0,
    }
}

fn is_null(column: &ArrayRef, row: usize) -> bool {
    column.data_type().is_null() || column.is_null(row)
}

fn same(one: &ArrayRef, row: usize, other: &ArrayRef, other_row: usize) -> bool {
    *one.slice(row, 1) == *other.slice(other_row, 1)
}

/// Waits for a future that never needs to wait, because its source is in memory.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
