//! What each format writes, byte for byte.

use std::io;
use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, BinaryArray, BinaryViewArray, DictionaryArray, FixedSizeBinaryArray, Int64Array,
    ListBuilder, StringArray, StructArray, StructBuilder, TimestampMillisecondArray,
};
use arrow::array::{BinaryBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};

use super::*;

/// A sink that can be read while a writer owns it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options(format: Format, bytes: BytesAs) -> OutputOptions {
    OutputOptions {
        format,
        bytes,
        max_rows: MaxRows::default().0,
        path: None,
        overwrite: false,
        on_screen: false,
        table: Drawing::default(),
    }
}

fn write(options: &OutputOptions, schema: &SchemaRef, batches: &[RecordBatch]) -> Vec<u8> {
    let sink = Shared::default();
    let mut writer = open(options, schema, Box::new(sink.clone()), true).unwrap();
    for batch in batches {
        if writer.write(batch).unwrap() == Flow::Enough {
            break;
        }
    }
    writer.finish().unwrap();
    std::mem::take(&mut *sink.0.lock().unwrap())
}

fn text(format: Format, batch: &RecordBatch) -> String {
    String::from_utf8(write(
        &options(format, BytesAs::Auto),
        &batch.schema(),
        std::slice::from_ref(batch),
    ))
    .unwrap()
}

/// A table of `orders` with a wide value, drawn in some way.
fn drawn(drawing: Drawing) -> String {
    let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("k1"), None]));
    let values = [
        "{\"id\":1,\"city\":\"Zürich\",\"note\":\"日本語 text\"}",
        "short",
    ];
    let values: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
    let batch = RecordBatch::try_from_iter([("key", keys), ("value", values)]).unwrap();
    let options = OutputOptions {
        table: drawing,
        ..options(Format::Table, BytesAs::Auto)
    };
    let text = write(&options, &batch.schema(), std::slice::from_ref(&batch));
    String::from_utf8(text).unwrap()
}

#[test]
fn a_table_fits_where_it_is_to_fit() {
    let columns = |width| Drawing {
        width: MostWidth::Columns(width),
        ..Drawing::default()
    };
    assert_eq!(
        drawn(columns(30)),
        "+------+---------------------+\n\
         | key  | value               |\n\
         +------+---------------------+\n\
         | k1   | {\"id\":1,\"city\":\"Zü… |\n\
         | NULL | short               |\n\
         +------+---------------------+\n"
    );
    let wrapped = Drawing {
        wraps: true,
        null: "-".to_owned(),
        ..columns(30)
    };
    assert_eq!(
        drawn(wrapped),
        "+-----+----------------------+\n\
         | key | value                |\n\
         +-----+----------------------+\n\
         | k1  | {\"id\":1,\"city\":\"Züri |\n\
         |     | ch\",\"note\":\"日本語   |\n\
         |     | text\"}               |\n\
         | -   | short                |\n\
         +-----+----------------------+\n"
    );
    let listed = "-[ RECORD 1 ]-----------\n\
                  key   | k1\n\
                  value | {\"id\":1,\"city\":\"\n      \
                        | Zürich\",\"note\":\"\n      \
                        | 日本語 text\"}\n\
                  -[ RECORD 2 ]-----------\n\
                  key   | NULL\n\
                  value | short\n";
    for expanded in [Expanded::On, Expanded::Auto] {
        let drawing = Drawing {
            expanded,
            ..columns(24)
        };
        assert_eq!(drawn(drawing), listed, "{expanded:?}");
    }
    // Neither a pipe nor a file has a width, and a table that fits stays as it is.
    let plain = drawn(Drawing::default());
    assert!(plain.contains("日本語 text\"} |\n"), "{plain}");
    assert_eq!(drawn(columns(200)), plain);
    let auto = Drawing {
        expanded: Expanded::Auto,
        ..columns(200)
    };
    assert_eq!(drawn(auto), plain);
    // Too little to be read, but it is what the user wants.
    let off = Drawing {
        expanded: Expanded::Off,
        ..columns(16)
    };
    assert!(drawn(off).contains("| k1   | {\"id… |\n"));
}

#[test]
fn cells_of_several_lines_are_wrapped_and_lose_nothing() {
    let plans: ArrayRef = Arc::new(StringArray::from(vec!["a b c d e f g h\n  two"]));
    let batch = RecordBatch::try_from_iter([("plan", plans)]).unwrap();
    let options = OutputOptions {
        table: Drawing {
            width: MostWidth::Columns(14),
            ..Drawing::default()
        },
        ..options(Format::Table, BytesAs::Auto)
    };
    let text = write(&options, &batch.schema(), std::slice::from_ref(&batch));
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("| a b c d e |\n| f g h     |\n|   two     |\n"),
        "{text}"
    );
}

/// A cell of several lines could hold one that looks like the program's own.
#[test]
fn a_row_of_csv_is_one_line_on_a_terminal() {
    let cells: ArrayRef = Arc::new(StringArray::from(vec!["a,\nkafka-sql: b\u{1b}[2J\u{2028}"]));
    let rows = RecordBatch::try_from_iter([("na\nme", cells)]).unwrap();
    let csv = |on_screen| {
        let options = OutputOptions {
            on_screen,
            ..options(Format::Csv, BytesAs::Auto)
        };
        String::from_utf8(write(&options, &rows.schema(), std::slice::from_ref(&rows))).unwrap()
    };
    assert_eq!(
        csv(true),
        "na\\nme\n\"a,\\nkafka-sql: b\\u001b[2J\\u2028\"\n"
    );
    assert_eq!(
        csv(false),
        "\"na\nme\"\n\"a,\nkafka-sql: b\u{1b}[2J\u{2028}\"\n"
    );
}

fn records() -> RecordBatch {
    RecordBatch::try_from_iter([
        (
            "offset",
            Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef,
        ),
        (
            "timestamp",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(1_768_392_000_123), None, Some(0)])
                    .with_timezone("UTC"),
            ),
        ),
        (
            "value",
            Arc::new(BinaryViewArray::from(vec![
                Some(b"a,\"b\"\t\\\n".as_slice()),
                None,
                Some(b"\xff\x00"),
            ])),
        ),
        (
            "note",
            Arc::new(StringArray::from(vec![Some(""), None, Some("x")])),
        ),
    ])
    .unwrap()
}

fn headers() -> ArrayRef {
    let mut list = ListBuilder::new(StructBuilder::new(
        vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Binary, true),
        ],
        vec![
            Box::new(StringBuilder::new()),
            Box::new(BinaryBuilder::new()),
        ],
    ));
    for (key, value) in [
        ("trace", Some(b"ab".as_slice())),
        ("raw", Some(b"\xfe")),
        ("none", None),
    ] {
        let header = list.values();
        header
            .field_builder::<StringBuilder>(0)
            .unwrap()
            .append_value(key);
        header
            .field_builder::<BinaryBuilder>(1)
            .unwrap()
            .append_option(value);
        header.append(true);
    }
    list.append(true);
    list.append(true);
    list.append(false);
    Arc::new(list.finish())
}

#[test]
fn ndjson_writes_nulls_text_and_base64() {
    assert_eq!(
        text(Format::Ndjson, &records()),
        concat!(
            r#"{"offset":1,"timestamp":"2026-01-14T12:00:00.123Z","value":"a,\"b\"\t\\\n","note":""}"#,
            "\n",
            r#"{"offset":2,"timestamp":null,"value":null,"note":null}"#,
            "\n",
            r#"{"offset":3,"timestamp":"1970-01-01T00:00:00Z","value":"/wA=","note":"x"}"#,
            "\n"
        )
    );
}

#[test]
fn json_is_one_array() {
    let value: serde_json::Value = serde_json::from_str(&text(Format::Json, &records())).unwrap();
    assert_eq!(value.as_array().unwrap().len(), 3);
    assert_eq!(value[1]["value"], serde_json::Value::Null);
    let empty = write(
        &options(Format::Json, BytesAs::Auto),
        &records().schema(),
        &[],
    );
    assert_eq!(String::from_utf8(empty).unwrap(), "[]\n");
}

#[test]
fn csv_tells_null_from_empty() {
    assert_eq!(
        text(Format::Csv, &records()),
        "offset,timestamp,value,note\n\
         1,2026-01-14T12:00:00.123Z,\"a,\"\"b\"\"\t\\\n\",\"\"\n\
         2,,,\n\
         3,1970-01-01T00:00:00Z,/wA=,x\n"
    );
}

#[test]
fn tsv_escapes_and_marks_null() {
    assert_eq!(
        text(Format::Tsv, &records()),
        "offset\ttimestamp\tvalue\tnote\n\
         1\t2026-01-14T12:00:00.123Z\ta,\"b\"\\t\\\\\\n\t\n\
         2\t\\N\t\\N\t\\N\n\
         3\t1970-01-01T00:00:00Z\t/wA=\tx\n"
    );
}

#[test]
fn nested_binary_is_text_in_every_text_format() {
    let batch = RecordBatch::try_from_iter([("headers", headers())]).unwrap();
    let first = r#"[{"key":"trace","value":"ab"},{"key":"raw","value":"/g=="},{"key":"none","value":null}]"#;
    assert_eq!(
        text(Format::Ndjson, &batch),
        format!("{{\"headers\":{first}}}\n{{\"headers\":[]}}\n{{\"headers\":null}}\n")
    );
    assert_eq!(
        text(Format::Tsv, &batch),
        format!("headers\n{first}\n[]\n\\N\n")
    );
    assert!(text(Format::Table, &batch).contains(first));
}

#[test]
fn every_binary_type_is_converted() {
    let dictionary: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(
        vec![Some(0), None].into(),
        Arc::new(BinaryArray::from(vec![b"\xffk".as_slice()])),
    ));
    let fixed: ArrayRef = Arc::new(
        FixedSizeBinaryArray::try_from_iter([[0xff, 0x01], [b'o', b'k']].into_iter()).unwrap(),
    );
    let group: ArrayRef = Arc::new(StructArray::from(vec![(
        Arc::new(Field::new("b", DataType::Binary, true)),
        Arc::new(BinaryArray::from(vec![Some(b"\xff".as_slice()), None])) as ArrayRef,
    )]));
    let batch =
        RecordBatch::try_from_iter([("d", dictionary), ("f", fixed), ("s", group)]).unwrap();
    let hex = write(
        &options(Format::Ndjson, BytesAs::Hex),
        &batch.schema(),
        &[batch],
    );
    assert_eq!(
        String::from_utf8(hex).unwrap(),
        "{\"d\":\"ff6b\",\"f\":\"ff01\",\"s\":{\"b\":\"ff\"}}\n{\"d\":null,\"f\":\"6f6b\",\"s\":{\"b\":null}}\n"
    );
}

#[test]
fn bytes_as_utf8_refuses_other_bytes() {
    let batch = records();
    let options = options(Format::Ndjson, BytesAs::Utf8);
    let mut writer = open(&options, &batch.schema(), Box::new(io::sink()), true).unwrap();
    let message = writer.write(&batch).unwrap_err().text(false);
    assert_eq!(
        message,
        "column \"value\": row 2 of a batch is not UTF-8 after 0 bytes; write --bytes auto, base64 or hex"
    );
}

#[test]
fn table_escapes_what_a_terminal_would_obey() {
    let batch = RecordBatch::try_from_iter([(
        "v",
        Arc::new(StringArray::from(vec![
            Some("\u{1b}[31mred\r\u{9b}"),
            None,
            Some("a\nb"),
        ])) as ArrayRef,
    )])
    .unwrap();
    assert_eq!(
        text(Format::Table, &batch),
        "+-----------------------+\n\
         | v                     |\n\
         +-----------------------+\n\
         | \\u001b[31mred\\r\\u009b |\n\
         | NULL                  |\n\
         | a                     |\n\
         | b                     |\n\
         +-----------------------+\n"
    );
}

#[test]
fn table_stops_at_its_row_limit_and_says_so() {
    let mut options = options(Format::Table, BytesAs::Auto);
    options.max_rows = Some(4);
    let batch = records();
    let drawn = String::from_utf8(write(
        &options,
        &batch.schema(),
        &[batch.clone(), batch.clone()],
    ))
    .unwrap();
    assert_eq!(drawn.lines().filter(|l| l.starts_with("| 1 ")).count(), 2);
    assert_eq!(drawn.lines().filter(|l| l.starts_with("| 3 ")).count(), 1);
    assert!(
        drawn.contains("The first 4 rows; there are more"),
        "{drawn}"
    );
    options.max_rows = Some(6);
    let whole = String::from_utf8(write(
        &options,
        &batch.schema(),
        &[batch.clone(), batch.clone()],
    ))
    .unwrap();
    assert!(!whole.contains("there are more"), "{whole}");
}

#[test]
fn an_empty_table_has_its_columns() {
    let drawn = write(
        &options(Format::Table, BytesAs::Auto),
        &records().schema(),
        &[],
    );
    assert!(
        String::from_utf8(drawn)
            .unwrap()
            .contains("| offset | timestamp | value | note |")
    );
}

#[test]
fn parquet_and_arrow_give_back_the_same_rows() {
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let mut columns = records().columns().to_vec();
    columns.push(headers());
    let names = ["offset", "timestamp", "value", "note", "headers"];
    let batch = RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let bytes = write(
        &options(Format::Parquet, BytesAs::Auto),
        &batch.schema(),
        std::slice::from_ref(&batch),
    );
    std::fs::write(&path, bytes).unwrap();
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&path).unwrap()).unwrap();
    let back: Vec<RecordBatch> = reader.build().unwrap().map(|b| b.unwrap()).collect();
    assert_eq!(back, std::slice::from_ref(&batch));

    let stream = write(
        &options(Format::Arrow, BytesAs::Auto),
        &batch.schema(),
        std::slice::from_ref(&batch),
    );
    let reader = arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None).unwrap();
    let back: Vec<RecordBatch> = reader.map(|b| b.unwrap()).collect();
    assert_eq!(back, [batch]);
}

#[test]
fn repeated_names_are_told_apart() {
    let schema = Schema::new(vec![
        Field::new("key", DataType::Int32, true),
        Field::new("key", DataType::Int32, true),
        Field::new("x", DataType::Int32, true),
    ]);
    let names = |plan: &DFSchema| -> Vec<String> {
        with_unique_names(plan, &schema)
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect()
    };
    let field = |name: &str| Arc::new(Field::new(name, DataType::Int32, true));
    let plan = DFSchema::new_with_metadata(
        vec![
            (Some("a".into()), field("key")),
            (Some("b".into()), field("key")),
            (None, field("x")),
        ],
        Default::default(),
    )
    .unwrap();
    assert_eq!(names(&plan), ["a.key", "b.key", "x"]);
    assert_eq!(names(&DFSchema::empty()), ["key", "key_2", "x"]);
}

#[test]
fn extension_names_the_format() {
    assert_eq!(
        Format::of_path(Path::new("a/b.Parquet")),
        Some(Format::Parquet)
    );
    assert_eq!(Format::of_path(Path::new("x.jsonl")), Some(Format::Ndjson));
    assert_eq!(Format::of_path(Path::new("x.txt")), None);
}
