//! Files that schemas may import without supplying them, as registries allow too.

use protox::file::{File, FileResolver};

/// `confluent/meta.proto` holds annotations; the others are small common types.
const FILES: &[(&str, &str)] = &[
    (
        "confluent/meta.proto",
        r#"syntax = "proto3";
        package confluent;
        import "google/protobuf/descriptor.proto";
        message Meta {
            string doc = 1;
            map<string, string> params = 2;
            repeated string tags = 3;
        }
        extend google.protobuf.FileOptions { Meta file_meta = 1088; }
        extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
        extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
        extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
        extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
        "#,
    ),
    (
        "confluent/type/decimal.proto",
        r#"syntax = "proto3";
        package confluent.type;
        message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }
        "#,
    ),
    (
        "google/type/date.proto",
        r#"syntax = "proto3";
        package google.type;
        message Date { int32 year = 1; int32 month = 2; int32 day = 3; }
        "#,
    ),
    (
        "google/type/dayofweek.proto",
        r#"syntax = "proto3";
        package google.type;
        enum DayOfWeek {
            DAY_OF_WEEK_UNSPECIFIED = 0;
            MONDAY = 1; TUESDAY = 2; WEDNESDAY = 3; THURSDAY = 4; FRIDAY = 5; SATURDAY = 6;
            SUNDAY = 7;
        }
        "#,
    ),
    (
        "google/type/latlng.proto",
        r#"syntax = "proto3";
        package google.type;
        message LatLng { double latitude = 1; double longitude = 2; }
        "#,
    ),
    (
        "google/type/money.proto",
        r#"syntax = "proto3";
        package google.type;
        message Money { string currency_code = 1; int64 units = 2; int32 nanos = 3; }
        "#,
    ),
    (
        "google/type/timeofday.proto",
        r#"syntax = "proto3";
        package google.type;
        message TimeOfDay { int32 hours = 1; int32 minutes = 2; int32 seconds = 3; int32 nanos = 4; }
        "#,
    ),
];

/// Resolves imports of these files.
pub(super) struct BuiltinFiles;

impl FileResolver for BuiltinFiles {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match FILES.iter().find(|(file, _)| *file == name) {
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ProtoFiles, ProtobufSchema};
    use super::FILES;

    #[test]
    fn each_can_be_imported() {
        for (name, _) in FILES {
            let files = ProtoFiles {
                name: "m.proto".into(),
                text: format!("syntax = \"proto3\"; import \"{name}\"; message M {{}}"),
                references: Vec::new(),
            };
            ProtobufSchema::from_files(&files, None).unwrap();
        }
    }
}
