//! Payloads that claim to be large: none may take memory or time that its length does not justify.

use arrow::datatypes::{DataType, Field};

use super::*;
use crate::decode::RegisteredSchema;

/// A wide message of 500 fields, in every place where it may repeat.
fn wide(extra: &str) -> ProtobufSchema {
    let fields: Vec<String> = (1..=500).map(|n| format!("int64 w{n} = {n};")).collect();
    schema(&format!(
        "syntax = \"proto3\";
         message Wide {{ {} }}
         message Around {{ Wide w = 1; }}
         enum Long {{ {} = 0; {} = 1; }}
         message M {{
             repeated Wide a = 1; map<int32, Wide> b = 2; Wide c = 3;
             oneof o {{ Wide d = 4; bool e = 5; }} repeated Around f = 6; repeated Long g = 7;
             {extra}
         }}",
        fields.join(" "),
        "Z".repeat(400),
        "A".repeat(400)
    ))
}

const EXCEEDED: &str = "elements of lists and maps would take more than 96 times the payload's bytes \
    and 64 KiB for fields that they do not have; declare the columns that you want, with fewer fields \
    in them";

#[test]
fn what_elements_do_not_have_is_bounded() {
    let schema = wide("");
    for (piece, path) in [
        // An empty message, an empty entry, and an empty message within one.
        (&[0x0a, 0][..], "field 'a': "),
        (&[0x12, 0], "field 'b': "),
        (&[0x32, 2, 0x0a, 0], "field 'f': "),
        // A message that is merged with nothing, and one that is replaced again and again.
        (&[0x1a, 0], "field 'c': "),
        (&[0x22, 0, 0x28, 1], ""),
        // Names that are longer than their numbers.
        (&[0x3a, 8, 0, 1, 0, 1, 0, 1, 0, 1], "field 'g': "),
    ] {
        let few = piece.repeat(12);
        let decoder = plain(&schema, None).unwrap();
        assert_eq!(decode(&decoder, &[Some(few)]).1, [], "{piece:?}");
        let many = piece.repeat(200_000 / piece.len());
        assert_eq!(fault(&schema, &many), format!("size: {path}{EXCEEDED}"));
    }
}

/// Data that is present may be wide. Undeclared fields take no memory.
#[test]
fn what_is_there_is_good() {
    let schema = wide("");
    let element: Vec<u8> = (1..16u8).flat_map(|n| [n << 3, 1]).collect();
    let element: Vec<u8> = element.repeat(4);
    let mut payload = Vec::new();
    for _ in 0..2_000 {
        payload.extend([0x0a, element.len() as u8]);
        payload.extend(&element);
    }
    let decoder = plain(&schema, None).unwrap();
    let (_, bad) = decode(&decoder, &[Some(payload)]);
    assert_eq!(bad, []);
    let one = DataType::Struct(vec![Field::new("w1", DataType::Int64, true)].into());
    let declared = Fields::from(vec![Field::new("a", DataType::new_list(one, true), true)]);
    let decoder = plain(&schema, Some(&declared)).unwrap();
    let (_, bad) = decode(&decoder, &[Some([0x0a, 0].repeat(200))]);
    assert_eq!(bad, []);
}

#[test]
fn ten_thousand_levels_are_no_recursion() {
    let schema = proto3("int32 f = 1;");
    let groups = [vec![0x13; 10_000], vec![0x14; 10_000]].concat();
    assert_eq!(
        fault(&schema, &groups),
        "syntax: groups are nested more than 100 deep"
    );
    // Messages in a field that the table does not declare are just bytes.
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        let mut length = Vec::new();
        let mut rest = nested.len();
        while rest >= 0x80 {
            length.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        length.push(rest as u8);
        nested = [&[0x12][..], &length, &nested].concat();
    }
    assert_eq!(row(&schema, &nested), "{f: 0}");
}

/// There can be as many unknown ids as bad records.
#[tokio::test]
async fn unknown_ids_are_not_kept() {
    #[derive(Debug)]
    struct Nothing;

    #[async_trait]
    impl WriterSchemas for Nothing {
        async fn schema(&self, _: i32) -> Result<Option<Arc<RegisteredSchema>>> {
            Ok(None)
        }
    }

    let decoder = ProtobufDecoder::new(ProtobufOptions {
        schema: proto3("int32 f = 1;"),
        declared: None,
        framing: Framing::Registry(Arc::new(Nothing)),
    })
    .unwrap();
    let payloads = (0..5_000i32).map(|id| Some([&[0][..], &id.to_be_bytes(), &[0]].concat()));
    let payloads: Vec<_> = payloads.collect();
    let array = BinaryViewArray::from_iter(&payloads);
    decoder.prepare(&array).await.unwrap();
    let (_, bad) = decode(&decoder, &payloads);
    assert_eq!(bad.len(), payloads.len());
    assert_eq!(bad[7].message, "the registry does not know schema 7");
    assert_eq!(decoder.writers.unwrap().known_ids(), 0);
}
