//! Records of every shape: NULLs, headers, codecs, sizes, names.

use arrow::array::{Array, AsArray};

use super::{batches, filled, rows, session, table, topic, with_table};
use crate::support::{Record, admin, produce, shared};

#[tokio::test(flavor = "multi_thread")]
async fn null_is_not_empty() {
    let topic = topic(1);
    let records = [
        Record::new(0),
        Record::new(0).key("").value(""),
        Record::new(0).key("k"),
        Record::new(0).value("v"),
    ];
    produce::produce(shared().bootstrap(), &topic, &records);
    let sql = format!(
        "SELECT offset, key IS NULL, octet_length(key), value IS NULL, octet_length(value) \
         FROM \"{topic}\" ORDER BY offset"
    );
    let expected = [
        "0 true  true ",
        "1 false 0 false 0",
        "2 false 1 true ",
        "3 true  false 1",
    ];
    assert_eq!(rows(&session(), &sql).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_keep_order_duplicates_and_nulls() {
    let topic = topic(1);
    let records = [
        Record::new(0).value("x"),
        Record::new(0)
            .value("y")
            .header("a", Some(b"1"))
            .header("b", None)
            .header("a", Some(b"")),
    ];
    produce::produce(shared().bootstrap(), &topic, &records);
    let context = with_table(table(&topic)).await;
    let found = batches(&context, "SELECT headers FROM t ORDER BY offset")
        .await
        .expect("rows");
    let found = arrow::compute::concat_batches(&found[0].schema(), &found).expect("one schema");
    let lists = found.column(0).as_list::<i32>();
    assert!(lists.is_valid(0));
    assert_eq!(lists.value(0).len(), 0);
    let headers = lists.value(1);
    let headers = headers.as_struct();
    let names: Vec<_> = headers
        .column(0)
        .as_string::<i32>()
        .iter()
        .flatten()
        .collect();
    assert_eq!(names, ["a", "b", "a"]);
    let values: Vec<_> = headers.column(1).as_binary::<i32>().iter().collect();
    assert_eq!(values, [Some(&b"1"[..]), None, Some(&b""[..])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_and_topic_name() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("{}.Codec-{codec}_X", admin::unique_topic("Names"));
        admin::create_topic(shared().bootstrap(), &topic, 1, &[]);
        let records: Vec<Record> = (0..500)
            .map(|n| {
                Record::new(0)
                    .key(n.to_string())
                    .value(format!("{{\"n\":{n}}}").repeat(3))
            })
            .collect();
        let settings = [("compression.type", codec)];
        produce::produce_with(shared().bootstrap(), &topic, &records, &settings);
        let sql = format!(
            "SELECT count(*), sum(CAST(CAST(key AS VARCHAR) AS BIGINT)), sum(octet_length(value)) \
             FROM \"{topic}\""
        );
        let bytes: usize = (0..500)
            .map(|n: i32| format!("{{\"n\":{n}}}").len() * 3)
            .sum();
        assert_eq!(
            rows(&session(), &sql).await,
            [format!("500 124750 {bytes}")],
            "{codec}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_from_nothing_to_ten_megabytes() {
    let topic = admin::unique_topic("sizes");
    let bytes = (16 << 20).to_string();
    admin::create_topic(
        shared().bootstrap(),
        &topic,
        1,
        &[("max.message.bytes", &bytes)],
    );
    let sizes = [0usize, 1, 1 << 20, 10 << 20, 3];
    let records: Vec<Record> = sizes
        .iter()
        .map(|n| Record::new(0).value(vec![b'x'; *n]))
        .collect();
    let settings = [("message.max.bytes", "20000000")];
    produce::produce_with(shared().bootstrap(), &topic, &records, &settings);
    let sql = format!("SELECT octet_length(value) FROM \"{topic}\" ORDER BY offset");
    let expected: Vec<String> = sizes.iter().map(usize::to_string).collect();
    assert_eq!(rows(&session(), &sql).await, expected);
    let sql = format!("SELECT octet_length(value) FROM kafka('{topic}', '3:4')");
    assert_eq!(rows(&session(), &sql).await, [(10 << 20).to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_format_and_text_habits() {
    let topic = topic(1);
    let values: [&[u8]; 4] = [b"apple", b"\xff\x00", "\u{e4}pfel".as_bytes(), b"avocado"];
    let records: Vec<Record> = values.iter().map(|v| Record::new(0).value(*v)).collect();
    produce::produce(shared().bootstrap(), &topic, &records);
    let context = session();
    let offsets =
        |filter: &str| format!("SELECT offset FROM \"{topic}\" WHERE {filter} ORDER BY offset");
    assert_eq!(
        rows(&context, &offsets("value LIKE 'a%'")).await,
        ["0", "3"]
    );
    assert_eq!(rows(&context, &offsets("value = 'apple'")).await, ["0"]);
    assert_eq!(rows(&context, &offsets("length(value) = 2")).await, ["1"]);
    assert_eq!(
        rows(
            &context,
            &offsets("offset <> 1 AND CAST(value AS VARCHAR) = 'avocado'")
        )
        .await,
        ["3"]
    );
    let good = format!("SELECT value FROM kafka('{topic}', '2:', 'value.format=text')");
    assert_eq!(rows(&context, &good).await, ["\u{e4}pfel", "avocado"]);
    let bad = format!("SELECT value FROM kafka('{topic}', ':', 'value.format=text')");
    let error = super::error(&context, &bad).await.to_string();
    assert!(
        error.starts_with(&format!(
            "{topic}[0]@1: the value does not decode: not UTF-8 text"
        )),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_topics_are_one_table() {
    let (a, b) = (filled(1, 3), filled(2, 4));
    let context = session();
    let sql =
        format!("SELECT topic, count(*) FROM kafka('{a},{b}') GROUP BY topic ORDER BY count(*)");
    assert_eq!(
        rows(&context, &sql).await,
        [format!("{a} 3"), format!("{b} 8")]
    );
    let prefix = &b[..b.len() - 1];
    let sql = format!("SELECT DISTINCT topic FROM kafka('/{prefix}.*/') WHERE topic = '{b}'");
    assert_eq!(rows(&context, &sql).await, [b]);
}
