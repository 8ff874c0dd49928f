//! Decodes raw batches into rows, good and bad.

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{Fields, Int32Type, Int64Type};

use super::*;
use crate::client::PassedOffsets;
use crate::decode::JsonDecoder;
use crate::range::TopicPartition;

fn raw(values: Vec<Option<&[u8]>>) -> RawBatch {
    let rows = values.len() as i64;
    RawBatch {
        partition: TopicPartition::new("a-topic-with-a-long-name", 3),
        next_offset: 10 + rows,
        offsets: Int64Array::from_iter_values(10..10 + rows),
        timestamps: None,
        timestamp_types: None,
        keys: None,
        values: Some(values.into_iter().collect()),
        headers: None,
        leader_epochs: None,
        bytes: 0,
        budgeted_bytes: 0,
        lost_offsets: 0,
        passed: PassedOffsets::default(),
        fetch_wait_ns: 0,
        decode_ns: 0,
        throttle_ns: 0,
    }
}

fn decode(decoder: &RecordDecoder, raw: &RawBatch, columns: &[Column]) -> Result<Rows> {
    let projection: Vec<usize> = columns
        .iter()
        .map(|c| decoder.index_of(*c).expect("the table has all columns"))
        .collect();
    let schema = decoder
        .schema()
        .project(&projection)
        .expect("valid indices");
    decoder.decode(raw, &projection, &Arc::new(schema))
}

fn text(on: OnBadRow) -> RecordDecoder {
    RecordDecoder::new(TableFormat {
        value: Payload::of_scalar(Format::Text, "value"),
        bad_rows: BadRows { on, limit: None },
        ..TableFormat::default()
    })
    .unwrap()
}

fn json(fields: Vec<Field>, on: OnBadRow) -> Result<RecordDecoder> {
    let decoder = JsonDecoder::new(&Fields::from(fields), false)?;
    RecordDecoder::new(TableFormat {
        value: Payload::Fields(Arc::new(decoder)),
        bad_rows: BadRows { on, limit: None },
        ..TableFormat::default()
    })
}

#[test]
fn projection_without_columns_keeps_the_row_count() {
    let decoder = RecordDecoder::default();
    let rows = decode(&decoder, &raw(vec![None, Some(b"x")]), &[]).unwrap();
    assert_eq!((rows.batch.num_columns(), rows.batch.num_rows()), (0, 2));
    assert_eq!(decoder.raw_columns(&[]), RawColumns::default());
}

#[test]
fn topic_is_repeated_and_partition_constant() {
    let decoder = RecordDecoder::default();
    let columns = [Column::Topic, Column::Partition, Column::Offset];
    let batch = decode(&decoder, &raw(vec![None, Some(b"x")]), &columns)
        .unwrap()
        .batch;
    let topics = batch.column(0).as_string_view();
    assert_eq!(topics.value(0), "a-topic-with-a-long-name");
    assert_eq!(topics.value(1), topics.value(0));
    assert_eq!(topics.data_buffers().len(), 1);
    assert_eq!(batch.column(1).as_primitive::<Int32Type>().value(1), 3);
}

#[test]
fn text_keeps_nulls_and_names_the_bad_record() {
    let decoder = text(OnBadRow::Fail);
    let values = vec![None, Some(b"x".as_slice())];
    let good = decode(&decoder, &raw(values), &[Column::Value])
        .unwrap()
        .batch;
    assert!(good.column(0).is_null(0));
    assert_eq!(good.column(0).as_string_view().value(1), "x");

    // The choice of columns does not decide whether a record is bad.
    for columns in [vec![Column::Value], vec![Column::Offset], vec![]] {
        let bad = decode(&decoder, &raw(vec![None, Some(b"x\xff")]), &columns);
        assert_eq!(
            bad.unwrap_err().to_string(),
            "a-topic-with-a-long-name[3]@11: the value does not decode: not UTF-8 text: byte 1 \
             is not part of a character (2 bytes in hex: 78ff); 'on.bad.row' = 'null' or 'skip' continues \
             without it"
        );
    }
}

#[test]
fn bad_records_are_null_with_a_reason_or_no_rows() {
    let values = || raw(vec![Some(b"a"), Some(b"\xff"), None]);
    let decoder = text(OnBadRow::Null);
    let rows = decode(&decoder, &values(), &[Column::Value, Column::BadReason]).unwrap();
    assert_eq!((rows.bad, rows.kept), (1, None));
    let shown = rows.batch.column(0).as_string_view();
    assert_eq!(shown.iter().collect::<Vec<_>>(), [Some("a"), None, None]);
    let reasons = rows.batch.column(1).as_string_view();
    let expected = "value: not UTF-8 text: byte 0 is not part of a character";
    assert_eq!(
        reasons.iter().collect::<Vec<_>>(),
        [None, Some(expected), None]
    );

    let decoder = text(OnBadRow::Skip);
    let rows = decode(&decoder, &values(), &[Column::Offset]).unwrap();
    assert_eq!(rows.bad, 1);
    assert_eq!(rows.kept, Some(vec![true, false, true].into()));
    let offsets = rows.batch.column(0).as_primitive::<Int64Type>();
    assert_eq!(offsets.values(), &[10, 12]);
}

#[test]
fn fields_come_first_and_names_do_not_collide() {
    let fields = |name: &str| vec![Field::new(name, DataType::Int64, true)];
    let decoder = json(fields("id"), OnBadRow::Null).unwrap();
    let names: Vec<&str> = decoder
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect();
    assert_eq!(
        (names[0], names[1], names[names.len() - 1]),
        ("id", "topic", "_error")
    );

    let error = json(fields("offset"), OnBadRow::Fail)
        .unwrap_err()
        .to_string();
    assert!(error.contains("'metadata.prefix' = '_'"), "{error}");
    let error = json(fields("_error"), OnBadRow::Null)
        .unwrap_err()
        .to_string();
    assert!(error.contains("needs the column '_error'"), "{error}");
}

#[test]
fn fields_that_are_not_shown_are_checked_unless_bad_records_are_null() {
    let fields = vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int64, true),
    ];
    let values = || raw(vec![Some(br#"{"a":1,"b":"x"}"#)]);
    let only_a = [Column::ValueField(0)];
    let decoder = json(fields.clone(), OnBadRow::Fail).unwrap();
    let error = decode(&decoder, &values(), &only_a)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("field 'b': expected Int64, found the text 'x'"),
        "{error}"
    );

    let decoder = json(fields, OnBadRow::Null).unwrap();
    let rows = decode(&decoder, &values(), &only_a).unwrap();
    assert_eq!(rows.batch.column(0).as_primitive::<Int64Type>().value(0), 1);
    let columns = [Column::ValueField(0), Column::BadReason];
    let rows = decode(&decoder, &values(), &columns).unwrap();
    assert!(rows.batch.column(0).is_null(0));
}

#[test]
fn a_dead_letter_keeps_its_bytes_and_says_where_it_comes_from() {
    let decoder = json(vec![Field::new("id", DataType::Int64, true)], OnBadRow::Dlq).unwrap();
    let letters = decoder.dead_letters(&LETTER_RECORD, None);
    let raw = raw(vec![Some(b"{\"id\":1}"), None, Some(b"{"), Some(b"[]")]);
    let projection = [0, 1, 2];
    let schema = letters.schema().project(&projection).unwrap();
    assert!(letters.raw_columns(&projection).headers);
    let rows = letters
        .decode(&raw, &projection, &Arc::new(schema))
        .unwrap();
    assert_eq!(rows.kept.unwrap(), vec![false, false, true, true].into());
    assert_eq!(rows.batch.num_rows(), 2);
    let values = rows.batch.column(1).as_binary_view();
    assert_eq!((values.value(0), values.value(1)), (&b"{"[..], &b"[]"[..]));
    let headers = rows.batch.column(2).as_list::<i32>().value(1);
    let said = headers.as_struct();
    let (names, values) = (
        said.column(0).as_string::<i32>(),
        said.column(1).as_binary::<i32>(),
    );
    let said: Vec<(&str, &str)> = (0..said.len())
        .map(|at| {
            (
                names.value(at),
                std::str::from_utf8(values.value(at)).unwrap(),
            )
        })
        .collect();
    assert_eq!(
        said[..3],
        [
            ("dlq.topic", "a-topic-with-a-long-name"),
            ("dlq.partition", "3"),
            ("dlq.offset", "13")
        ]
    );
    assert_eq!(said[3].0, "dlq.error.class");
    assert!(said[4].0 == "dlq.error.message" && said[4].1.starts_with("value: "));
    assert_eq!(said.len(), 5);
}
