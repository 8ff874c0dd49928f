//! The exact bytes of JSON, CSV and single values.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{Field, Int32Type, IntervalMonthDayNano};

use super::samples::{common, dates};
use super::*;
use crate::decode::{CsvDecoder, Format, JsonDecoder};

fn json(batch: &RecordBatch) -> JsonEncoder {
    JsonEncoder::new(&fields(batch), None).unwrap()
}

fn one(array: ArrayRef) -> RecordBatch {
    batch(vec![("x", array)])
}

#[test]
fn json_is_written_to_the_letter() {
    let common = common();
    assert_eq!(
        texts(&json(&common), &common),
        [
            "{\"bool\":true,\"int\":-2147483648,\"long\":-9223372036854775808,\"float\":0.1,\
             \"double\":0.1,\"text\":\"žluť \\\"\\\\\\n\",\"bytes\":\"AP8=\",\
             \"micros\":\"2026-01-14T10:00:00.123456Z\",\"millis\":\"2026-01-14T10:00:00.123Z\",\
             \"record\":{\"n\":1,\"s\":\"in\"},\"list\":[1,-1],\"map\":{\"a\":1,\"ž\\\"\":-2147483648}}",
            "{\"bool\":null,\"int\":null,\"long\":null,\"float\":null,\"double\":null,\"text\":null,\
             \"bytes\":null,\"micros\":null,\"millis\":null,\"record\":null,\"list\":[],\"map\":{}}",
            "{\"bool\":false,\"int\":2147483647,\"long\":9223372036854775807,\"float\":-0.0,\
             \"double\":1.7976931348623157e308,\"text\":\"\",\"bytes\":\"\",\
             \"micros\":\"1969-12-31T23:59:59.999999Z\",\"millis\":\"1969-12-31T23:59:59.999Z\",\
             \"record\":{\"n\":null,\"s\":null},\"list\":[2147483647],\"map\":{\"\":0}}",
        ]
    );
    let dates = dates();
    assert_eq!(
        texts(&json(&dates), &dates)[0],
        "{\"date\":\"2026-01-14\",\"time\":\"00:00:00\",\"time_ms\":\"00:00:00.001\",\
         \"local\":\"1970-01-01T00:00:00.000001\",\"nanos\":\"2262-04-11T23:47:16.854775807\",\
         \"decimal\":-123.45,\"tiny\":-128,\"small\":0,\"unsigned\":0,\"large\":0}"
    );
}

#[test]
fn json_is_read_back_as_it_was() {
    for batch in [common(), dates()] {
        let payloads = encoded(&json(&batch), &batch).unwrap();
        let decoder = JsonDecoder::new(batch.schema().fields(), false).unwrap();
        let found = decoded(&decoder, &payloads);
        assert_eq!(found, batch.columns());
        // Check them with an independent JSON reader too.
        for payload in payloads.iter().flatten() {
            serde_json::from_slice::<serde_json::Value>(payload).unwrap();
        }
    }
}

#[test]
fn the_last_second_of_9999_is_written_and_read_back() {
    let last = TimestampMillisecondArray::from(vec![253_402_300_799_999, -377_705_116_800_000]);
    let batch = one(Arc::new(last.with_timezone("UTC")));
    let payloads = encoded(&json(&batch), &batch).unwrap();
    assert_eq!(payloads.value(0), br#"{"x":"9999-12-31T23:59:59.999Z"}"#);
    let decoder = JsonDecoder::new(batch.schema().fields(), false).unwrap();
    assert_eq!(decoded(&decoder, &payloads), batch.columns());
    let beyond = TimestampMillisecondArray::from(vec![253_402_300_800_000]);
    let batch = one(Arc::new(beyond));
    let found = misfit(&json(&batch), &batch);
    assert!(
        found.starts_with("0 column 'x': the timestamp lies outside"),
        "{found}"
    );
}

#[test]
fn names_within_an_object_come_once() {
    use arrow::datatypes::DataType;
    let x = |of| Arc::new(Field::new("x", of, true));
    let twice = DataType::Struct(vec![x(DataType::Int32), x(DataType::Utf8)].into());
    let list = DataType::List(Arc::new(Field::new_list_field(twice.clone(), true)));
    let refused = |fields: &[FieldRef]| JsonEncoder::new(fields, None).unwrap_err().to_string();
    let why = "occurs twice, but a JSON object can have each name only once: rename one";
    assert_eq!(refused(&[x(twice)]), format!("column 'x.x': {why}"));
    assert_eq!(refused(&[x(list)]), format!("column 'x.x': {why}"));
    let both = [x(DataType::Int32), x(DataType::Utf8)];
    assert_eq!(refused(&both), format!("column 'x': {why}"));
    let inner = DataType::Struct(vec![x(DataType::Int32)].into());
    assert!(JsonEncoder::new(&[x(inner)], None).is_ok());
}

#[test]
fn a_registrys_json_has_a_frame() {
    let batch = one(Arc::new(Int32Array::from(vec![1])));
    let encoder = JsonEncoder::new(&fields(&batch), Some(258)).unwrap();
    let payloads = encoded(&encoder, &batch).unwrap();
    assert_eq!(payloads.value(0), b"\0\0\0\x01\x02{\"x\":1}");
}

#[test]
fn values_that_json_lacks_name_row_and_column() {
    for value in [f64::NAN, f64::INFINITY] {
        let batch = one(Arc::new(Float64Array::from(vec![1.0, value])));
        let found = misfit(&json(&batch), &batch);
        assert!(found.starts_with("1 column 'x': "), "{found}");
    }
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("a", arrow::datatypes::DataType::Date32, true)),
        Arc::new(Date32Array::from(vec![i32::MAX])) as ArrayRef,
    )]);
    let batch = one(Arc::new(inner));
    assert_eq!(
        misfit(&json(&batch), &batch),
        "0 column 'x.a': the date lies outside of the years -9999 to 9999, or of a day"
    );
    let mut map = MapBuilder::new(None, Int32Builder::new(), Int32Builder::new());
    map.append(true).unwrap();
    let batch = one(Arc::new(map.finish()));
    let refused = JsonEncoder::new(&fields(&batch), None).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "column 'x': the keys of a map are names in JSON: make them VARCHAR"
    );
}

#[test]
fn spans_of_time_are_iso_8601() {
    let interval = |months, days, nanoseconds| IntervalMonthDayNano {
        months,
        days,
        nanoseconds,
    };
    let intervals = IntervalMonthDayNanoArray::from(vec![
        interval(1, 2, 3_500_000_000),
        interval(0, 0, 0),
        interval(0, -1, -5),
    ]);
    let batch = batch(vec![
        ("i", Arc::new(intervals)),
        (
            "d",
            Arc::new(DurationMillisecondArray::from(vec![5_400_001, 0, -1])),
        ),
    ]);
    assert_eq!(
        texts(&json(&batch), &batch),
        [
            r#"{"i":"P1M2DT3.5S","d":"PT1H30M0.001S"}"#,
            r#"{"i":"PT0S","d":"PT0S"}"#,
            r#"{"i":"P-1DT-0.000000005S","d":"-PT0.001S"}"#,
        ]
    );
}

#[test]
fn dictionaries_and_views_are_what_they_stand_for() {
    let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None].into_iter().collect();
    let batch = batch(vec![
        ("d", Arc::new(dictionary)),
        ("v", Arc::new(StringViewArray::from(vec!["b", "c"]))),
        ("l", Arc::new(LargeStringArray::from(vec!["d", "e"]))),
        ("n", Arc::new(NullArray::new(2))),
    ]);
    assert_eq!(
        texts(&json(&batch), &batch),
        [
            r#"{"d":"a","v":"b","l":"d","n":null}"#,
            r#"{"d":null,"v":"c","l":"e","n":null}"#,
        ]
    );
}

#[test]
fn slices_of_columns_are_their_own_rows() {
    let batch = common();
    let whole = texts(&json(&batch), &batch);
    let sliced = batch.slice(1, 2);
    assert_eq!(texts(&json(&sliced), &sliced), whole[1..]);
}

#[test]
fn absent_rows_are_not_looked_at() {
    let batch = one(Arc::new(Float64Array::from(vec![f64::NAN, 1.0])));
    let encoder = json(&batch);
    let payloads = encoder.encode(batch.columns(), 2, &|row| row == 0).unwrap();
    assert!(payloads.is_null(0));
    assert_eq!(payloads.value(1), br#"{"x":1.0}"#);
}

#[test]
fn csv_quotes_what_it_must() {
    let batch = batch(vec![
        (
            "n",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)])),
        ),
        (
            "s",
            Arc::new(StringArray::from(vec![
                Some("a;b"),
                None,
                Some("x \"y\"\r\nz"),
            ])),
        ),
        (
            "b",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
    ]);
    let encoder = CsvEncoder::new(&fields(&batch), b';').unwrap();
    assert_eq!(
        texts(&encoder, &batch),
        ["1;\"a;b\";true", ";;", "-3;\"x \"\"y\"\"\r\nz\";false"]
    );
    let payloads = encoded(&encoder, &batch).unwrap();
    let decoder = CsvDecoder::new(batch.schema().fields(), b';').unwrap();
    let found = decoded(&decoder, &payloads);
    assert_eq!(found[0].as_ref(), batch.column(0).as_ref());
    // CSV reads NULL back as '' in a column of text.
    assert_eq!(found[1].as_string::<i32>().value(1), "");
    assert!(!found[1].is_null(1));
    assert_eq!(found[2].as_ref(), batch.column(2).as_ref());

    let alone = one(Arc::new(StringArray::from(vec![
        Some(""),
        None,
        Some("\u{feff}x"),
    ])));
    let encoder = CsvEncoder::new(&fields(&alone), b',').unwrap();
    assert_eq!(texts(&encoder, &alone), ["\"\"", "\"\"", "\"\u{feff}x\""]);
    let payloads = encoded(&encoder, &alone).unwrap();
    let decoder = CsvDecoder::new(alone.schema().fields(), b',').unwrap();
    let found = decoded(&decoder, &payloads);
    assert_eq!(found[0].as_string::<i32>().value(2), "\u{feff}x");
}

#[test]
fn csv_of_dates_and_numbers_is_read_back() {
    let batch = dates();
    let encoder = CsvEncoder::new(&fields(&batch), b',').unwrap();
    let payloads = encoded(&encoder, &batch).unwrap();
    let decoder = CsvDecoder::new(batch.schema().fields(), b',').unwrap();
    assert_eq!(decoded(&decoder, &payloads), batch.columns());
    let refused = CsvEncoder::new(&fields(&common()), b',')
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "column 'record': CSV has no fields for a STRUCT; write it as text"
    );
}

fn single(format: Format, array: ArrayRef) -> std::result::Result<Vec<Option<Vec<u8>>>, String> {
    let batch = one(array);
    let encoder = ScalarEncoder::new(format, batch.schema().field(0)).map_err(|e| e.to_string())?;
    let payloads = encoded(&encoder, &batch).map_err(|e| e.message)?;
    Ok(payloads.iter().map(|p| p.map(<[u8]>::to_vec)).collect())
}

#[test]
fn single_values_are_as_kafkas_serializers_write_them() {
    let found = single(
        Format::Int32,
        Arc::new(Int64Array::from(vec![Some(258), None])),
    );
    assert_eq!(found.unwrap(), [Some(vec![0, 0, 1, 2]), None]);
    let found = single(Format::Int64, Arc::new(Int8Array::from(vec![-2])));
    assert_eq!(
        found.unwrap(),
        [Some(vec![255, 255, 255, 255, 255, 255, 255, 254])]
    );
    let found = single(Format::Float, Arc::new(Float32Array::from(vec![1.5])));
    assert_eq!(found.unwrap(), [Some(1.5f32.to_be_bytes().to_vec())]);
    let found = single(Format::Double, Arc::new(Float32Array::from(vec![1.5])));
    assert_eq!(found.unwrap(), [Some(1.5f64.to_be_bytes().to_vec())]);
    let found = single(Format::Text, Arc::new(StringViewArray::from(vec!["é"])));
    assert_eq!(found.unwrap(), [Some("é".as_bytes().to_vec())]);
    let id = "0F8FAD5B-D9CB-469F-A165-70867728950E";
    let written = Some(id.to_lowercase().into_bytes());
    let found = single(Format::Uuid, Arc::new(StringArray::from(vec![id])));
    assert_eq!(found.unwrap(), std::slice::from_ref(&written));
    let bytes = uuid::Uuid::try_parse(id).unwrap().into_bytes();
    let found = single(
        Format::Uuid,
        Arc::new(BinaryArray::from(vec![bytes.as_slice()])),
    );
    assert_eq!(found.unwrap(), [written]);
}

#[test]
fn single_values_fit_or_are_errors() {
    let error = |format, array: ArrayRef| single(format, array).unwrap_err();
    assert_eq!(
        error(Format::Int32, Arc::new(Int64Array::from(vec![1 << 31]))),
        "column 'x': 2147483648 does not fit into 32 bits"
    );
    assert_eq!(
        error(Format::Int64, Arc::new(UInt64Array::from(vec![u64::MAX]))),
        "column 'x': 18446744073709551615 does not fit into 64 bits"
    );
    assert_eq!(
        error(Format::Float, Arc::new(Float64Array::from(vec![0.1]))),
        "the column 'x' has the type Float64, and the format 'float' takes REAL or whole numbers: CAST it"
    );
    assert_eq!(
        error(Format::Double, Arc::new(Int64Array::from(vec![i64::MAX]))),
        "column 'x': 9223372036854775807 has more digits than a double"
    );
    assert_eq!(
        error(
            Format::Text,
            Arc::new(BinaryArray::from(vec![&[255u8][..]]))
        ),
        "column 'x': the bytes are not UTF-8 text"
    );
    assert!(error(Format::Uuid, Arc::new(StringArray::from(vec!["x"]))).contains("not a UUID"));
}
