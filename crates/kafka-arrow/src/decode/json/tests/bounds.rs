//! What is bounded: depth, memory, names.

use super::*;

#[test]
fn depth_is_bounded_everywhere() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    // The object itself is the first level.
    assert!(one(DataType::Utf8View, &nested(127)).is_ok());
    let fault = one(DataType::Utf8View, &nested(128)).unwrap_err();
    assert!(fault.contains("more than 128 deep"), "{fault}");
    assert!(one(DataType::Utf8View, &nested(10_000)).is_err());
    let unknown = format!("{{\"other\":{}}}", nested(10_000));
    let (rows, bad) = decode(vec![field("f", DataType::Int64)], &[&unknown, "{\"f\":1}"]);
    assert_eq!((rows, bad.len()), (vec!["-".to_owned(), "1".to_owned()], 1));
    let objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    assert!(Inference::default().add(objects.as_bytes()).is_err());
}

/// An item of two bytes becomes a struct of 1,800.
#[test]
fn items_without_fields_have_a_bound() {
    let wide: Fields = (0..200)
        .map(|n| field(&format!("w{n}"), DataType::Int64))
        .collect();
    let wide = DataType::Struct(wide);
    let list = DataType::List(Arc::new(field("item", wide.clone())));
    let items = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    assert!(one(list.clone(), &items(30)).is_ok());
    let fault = one(list, &items(10_000)).unwrap_err();
    assert_eq!(
        fault,
        "field 'f': elements of lists and maps would take more than 96 times the payload's bytes and \
         64 KiB for fields that they do not have; declare the columns that you want, with fewer \
         fields in them"
    );
    // Nor may a struct be repeated without bound.
    let again = vec!["\"f\":{}"; 10_000].join(",");
    let payload = format!("{{{again}}}");
    let (rows, bad) = decode(vec![field("f", wide)], &[&payload, "{}"]);
    assert_eq!((rows[1].as_str(), bad.len(), bad[0].0), ("-", 1, 0));
}

#[test]
fn fifty_megabytes_are_copied_a_few_times_at_most() {
    const LEN: usize = 50 << 20;
    let text = "x".repeat(LEN);
    for payload in [
        format!("{{\"f\":\"{text}\"}}"),
        format!("{{\"f\":[ \"{text}\" ]}}"),
        format!("{{\"g\":\"{text}\"}}"),
        format!("{{\"f\":\"{text}"),
    ] {
        let decoder = JsonDecoder::new(&vec![field("f", DataType::Utf8View)].into(), false);
        let payloads = BinaryViewArray::from_iter_values([payload.as_bytes()]);
        let wanted = Wanted {
            fields: &[0],
            check_all: true,
            schema_ids: false,
        };
        let decoded = decoder.unwrap().decode(&payloads, &wanted).unwrap();
        assert!(decoded.columns[0].get_buffer_memory_size() < 2 * LEN + 1024);
        assert_eq!(decoded.bad.len(), usize::from(!payload.ends_with('}')));
    }
}

#[test]
fn a_sample_has_a_thousand_names_at_most() {
    let object = |names: std::ops::Range<i32>| {
        let fields: Vec<String> = names.map(|n| format!("\"f{n}\":1")).collect();
        format!("{{{}}}", fields.join(","))
    };
    let sampled = |payloads: &[String]| {
        let mut inference = Inference::default();
        for payload in payloads {
            inference.add(payload.as_bytes()).unwrap();
        }
        inference.fields()
    };
    assert_eq!(sampled(&[object(0..1000)]).unwrap().len(), 1000);
    // Columns are never dropped silently.
    let many = Err("more than 1000 fields".to_owned());
    assert_eq!(sampled(&[object(0..100_000)]), many);
    assert_eq!(sampled(&[object(0..600), object(500..1100)]), many);
    // An inner object of that size is a map and not a schema, so its column is text.
    let within = |names| format!("{{\"m\":{}}}", object(names));
    for payloads in [&[within(0..1001)][..], &[within(0..600), within(500..1100)]] {
        let fields = sampled(payloads).unwrap();
        assert_eq!(fields[0].data_type(), &DataType::Utf8View);
    }
}
