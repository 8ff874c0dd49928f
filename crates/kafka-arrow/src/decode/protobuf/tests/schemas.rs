//! Schemas from text, descriptor sets and registries, and the choice of a message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

const ORDER: &str = "syntax = \"proto3\"; package shop;
    import \"common/money.proto\"; import \"google/protobuf/timestamp.proto\";
    message Order { common.Money price = 1; google.protobuf.Timestamp at = 2;
        message Line { int32 n = 1; } }";
const MONEY: &str = "syntax = \"proto3\"; package common; import \"common/currency.proto\";
    message Money { int64 units = 1; Currency currency = 2; }";
const CURRENCY: &str = "syntax = \"proto3\"; package common; enum Currency { NONE = 0; EUR = 1; }";

fn order() -> ProtoFiles {
    ProtoFiles {
        name: "/schemas/order.proto".into(),
        text: ORDER.into(),
        references: vec![
            ("common/money.proto".into(), MONEY.into()),
            ("common/currency.proto".into(), CURRENCY.into()),
        ],
    }
}

fn types(schema: &ProtobufSchema) -> String {
    let decoder = plain(schema, None).unwrap();
    let fields = decoder.fields().iter();
    let fields = fields.map(|f| format!("{} {}", f.name(), f.data_type()));
    fields.collect::<Vec<_>>().join(", ")
}

const TYPES: &str = "price Struct(\"units\": Int64, \"currency\": Utf8), at Timestamp(µs, \"UTC\")";

/// The descriptors of the order's files, each after its imports.
fn set() -> Vec<prost_reflect::prost_types::FileDescriptorProto> {
    let schema = ProtobufSchema::from_files(&order(), None).unwrap();
    let pool = schema.message().parent_pool().clone();
    pool.files()
        .map(|file| file.file_descriptor_proto().clone())
        .collect()
}

fn encoded(files: Vec<prost_reflect::prost_types::FileDescriptorProto>) -> Vec<u8> {
    prost_reflect::prost_types::FileDescriptorSet { file: files }.encode_to_vec()
}

#[test]
fn a_text_with_its_imports() {
    let schema = ProtobufSchema::from_files(&order(), None).unwrap();
    assert_eq!(schema.full_name(), "shop.Order");
    assert_eq!(types(&schema), TYPES);
    assert_eq!(
        imports("order.proto", ORDER).unwrap(),
        ["common/money.proto", "google/protobuf/timestamp.proto"]
    );
}

#[test]
fn a_descriptor_set() {
    for files in [
        set(),
        // protoc without --include_imports omits the well-known types as well.
        set()
            .into_iter()
            .filter(|f| !f.name().starts_with("google/"))
            .collect(),
        set().into_iter().rev().collect(),
    ] {
        let schema = ProtobufSchema::from_descriptor_set("s.pb", &encoded(files), None).unwrap();
        assert_eq!(types(&schema), TYPES);
    }
}

#[test]
fn base64_of_a_set_or_of_a_file() {
    let whole = ProtoFiles {
        name: "schema 1".into(),
        text: STANDARD.encode(encoded(set())),
        references: Vec::new(),
    };
    let schema = ProtobufSchema::from_files(&whole, None).unwrap();
    assert_eq!(types(&schema), TYPES);

    let mut files = order();
    let one = |name: &str| {
        let file = set().into_iter().find(|f| f.name() == name).unwrap();
        STANDARD.encode(file.encode_to_vec())
    };
    files.text = one("/schemas/order.proto");
    let schema = ProtobufSchema::from_files(&files, None).unwrap();
    assert_eq!(types(&schema), TYPES);
    files.references[0].1 = one("common/money.proto");
    let schema = ProtobufSchema::from_files(&files, None).unwrap();
    assert_eq!(types(&schema), TYPES);
}

#[test]
fn messages_are_chosen_by_their_full_name() {
    let choose = |message: &str| {
        let schema = ProtobufSchema::from_files(&order(), Some(message));
        schema
            .map(|s| s.full_name().to_owned())
            .map_err(|e| e.to_string())
    };
    assert_eq!(choose("shop.Order.Line").unwrap(), "shop.Order.Line");
    assert_eq!(choose("common.Money").unwrap(), "common.Money");
    for (wanted, expected) in [
        ("shop.Ordre", "did you mean 'shop.Order'?"),
        ("Money", "did you mean 'common.Money'?"),
        ("zzz", "it has shop.Order"),
    ] {
        assert_eq!(
            choose(wanted).unwrap_err(),
            format!("Protobuf schema '/schemas/order.proto': no message '{wanted}'; {expected}")
        );
    }
}

fn refused(text: &str) -> String {
    let files = ProtoFiles {
        name: "a.proto".into(),
        text: text.into(),
        references: Vec::new(),
    };
    let error = ProtobufSchema::from_files(&files, None).unwrap_err();
    error.to_string()
}

#[test]
fn one_message_need_not_be_named() {
    assert_eq!(
        refused("message A {} message B {}"),
        "Protobuf schema 'a.proto': it has several messages: A, B; choose one with \
         'value.schema.message'"
    );
    assert_eq!(
        refused("enum E { A = 0; }"),
        "Protobuf schema 'a.proto': it has no message"
    );
    let many: String = (0..12).map(|n| format!("message M{n} {{}}")).collect();
    assert!(refused(&many).contains("M9, 2 more; choose"));
}

#[test]
fn compile_errors_name_their_place() {
    for (text, expected) in [
        (
            "syntax = \"proto3\";\nmessage A { B b = 1; }",
            "2:13: name 'B' is not defined",
        ),
        (
            "message A {\n  optional int32 = 1;\n}",
            "2:18: expected an identifier, but found '='",
        ),
        (
            "import \"b.proto\"; message A {}",
            "1:1: import 'b.proto' not found; give it as a reference of the schema",
        ),
    ] {
        assert_eq!(
            refused(text),
            format!("Protobuf schema 'a.proto': {expected}")
        );
    }
    let editions = refused("edition = \"2023\"; message A {}");
    assert!(
        editions.ends_with("editions are not read, only the syntaxes proto2 and proto3"),
        "{editions}"
    );
}

#[test]
fn what_protoc_takes_compiles() {
    let text = r#"syntax = "proto2";
        import "google/protobuf/descriptor.proto";
        extend google.protobuf.FieldOptions { optional double least = 50001; }
        message A {
            extensions 100 [verification = UNVERIFIED];
            extensions 200 to 300, 0x200 [
                declaration = { number: 200, full_name: ".x", type: ".y" }, verification = DECLARATION];
            extensions 1000 to max [verification = UNVERIFIED];
            optional double a = 1 [default = -inf, (least) = -inf];
            optional float b = 2 [(least) = nan, default = inf];
            repeated int32 c = 3 [(least) = inf];
        }"#;
    let files = ProtoFiles {
        name: "a.proto".into(),
        text: text.into(),
        references: vec![],
    };
    let schema = ProtobufSchema::from_files(&files, None).unwrap();
    assert_eq!(types(&schema), "a Float64, b Float32, c List(Int32)");
    assert_eq!(imports("a.proto", text).unwrap().len(), 1);
    let ranges: Vec<_> = schema.message().extension_ranges().collect();
    assert_eq!(ranges[..3], [100..101, 200..301, 0x200..0x201]);
}

#[test]
fn bytes_that_are_no_set_are_refused() {
    let error = ProtobufSchema::from_descriptor_set("s.pb", &[1, 2, 3], None).unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("Protobuf schema 's.pb': not a descriptor set"),
        "{error}"
    );
    assert!(error.contains("--include_imports"), "{error}");
    let error = ProtobufSchema::from_descriptor_set("s.pb", &[], None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Protobuf schema 's.pb': it has no message"
    );
}

/// protoc writes this for editions. prost-reflect panics on it.
#[test]
fn descriptors_of_another_syntax_are_refused() {
    let file = |syntax: &str| prost_reflect::prost_types::FileDescriptorProto {
        name: Some("a.proto".into()),
        syntax: Some(syntax.into()),
        ..Default::default()
    };
    let refused = |syntax: &str| {
        let set = prost_reflect::prost_types::FileDescriptorSet {
            file: vec![file(syntax)],
        };
        let bytes = set.encode_to_vec();
        let error = ProtobufSchema::from_descriptor_set("a.pb", &bytes, None);
        let as_set = error.unwrap_err().to_string();
        for bytes in [bytes, file(syntax).encode_to_vec()] {
            let files = ProtoFiles {
                name: "a.pb".into(),
                text: base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes),
                references: Vec::new(),
            };
            let error = ProtobufSchema::from_files(&files, None).unwrap_err();
            assert_eq!(error.to_string(), as_set);
        }
        as_set
    };
    assert_eq!(
        refused("editions"),
        "Protobuf schema 'a.pb': editions are not read, only the syntaxes proto2 and proto3"
    );
    assert_eq!(
        refused("proto4"),
        "Protobuf schema 'a.pb': the syntax 'proto4' is not known; proto2 and proto3 are"
    );
}

/// prost-reflect reads options recursively.
#[test]
fn options_are_nested_to_a_depth() {
    let option = |levels: usize| {
        let text = format!(
            "syntax = \"proto3\"; import \"google/protobuf/descriptor.proto\";
             message O {{ O a = 1; }} extend google.protobuf.MessageOptions {{ O o = 50000; }}
             message M {{ option (o) = {{ {}{} }}; }}",
            "a: { ".repeat(levels),
            "}".repeat(levels)
        );
        let files = ProtoFiles {
            name: "m.proto".into(),
            text,
            references: Vec::new(),
        };
        let schema = ProtobufSchema::from_files(&files, Some("M"));
        schema.map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(option(50), Ok(()));
    let expected = "Protobuf schema 'm.proto': an option is nested more than 100 deep";
    assert_eq!(option(10_000), Err(expected.to_owned()));
}
