//! Protects against files that prost-reflect cannot take: it panics on an unknown syntax, and deeply nested
//! options overflow its stack. Also rewrites text that protoc accepts and protox does not.

use std::borrow::Cow;
use std::sync::LazyLock;

use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    UninterpretedOption,
};

use regex::Regex;

use super::wire::MAX_DEPTH;

pub(super) const NO_EDITIONS: &str = "editions are not read, only the syntaxes proto2 and proto3";

/// Rewrites what protoc reads and protox does not, keeping the line numbers: options of a single extension
/// number, and custom options whose value is NaN or infinite. Neither has a meaning here.
pub(super) fn for_protox(text: &str) -> Cow<'_, str> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"\b(extensions\s(?:[^;\[{}]*,)?\s*)(\d\w*)(\s*\[)";
        Regex::new(pattern).expect("it is a constant")
    });
    static VALUE: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"(\)[\w.]*\s*=\s*)-?\s*(?:inf|nan)\b";
        Regex::new(pattern).expect("it is a constant")
    });
    match NUMBER.replace_all(text, "$1$2 to $2$3") {
        Cow::Borrowed(text) => VALUE.replace_all(text, "${1}0"),
        Cow::Owned(text) => VALUE.replace_all(&text, "${1}0").into_owned().into(),
    }
}

/// The reason why a file must not be compiled, if there is one.
pub(super) fn unreadable(file: &FileDescriptorProto) -> Option<String> {
    match file.syntax() {
        "" | "proto2" | "proto3" => {}
        "editions" => return Some(NO_EDITIONS.to_owned()),
        other => {
            return Some(format!(
                "the syntax '{other}' is not known; proto2 and proto3 are"
            ));
        }
    }
    let mut deepest = 0;
    walk(file, &mut |options| {
        let values = options.iter().map(|option| option.aggregate_value());
        deepest = values.map(depth).fold(deepest, usize::max);
    });
    (deepest > MAX_DEPTH).then(|| format!("an option is nested more than {MAX_DEPTH} deep"))
}

/// How deep messages are nested in a value in Protobuf's text format.
fn depth(value: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'<' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b'>' | b']' => depth = depth.saturating_sub(1),
            b'#' => drop(bytes.find(|b| *b == b'\n')),
            b'"' | b'\'' => {
                while let Some(inner) = bytes.next()
                    && inner != byte
                {
                    if inner == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

type Look<'a> = dyn FnMut(&[UninterpretedOption]) + 'a;

/// Visits all options that are not compiled yet.
fn walk(file: &FileDescriptorProto, look: &mut Look<'_>) {
    if let Some(options) = &file.options {
        look(&options.uninterpreted_option);
    }
    file.message_type.iter().for_each(|m| message(m, look));
    file.enum_type.iter().for_each(|e| enumeration(e, look));
    fields(&file.extension, look);
    for service in &file.service {
        if let Some(options) = &service.options {
            look(&options.uninterpreted_option);
        }
        for options in service.method.iter().filter_map(|m| m.options.as_ref()) {
            look(&options.uninterpreted_option);
        }
    }
}

fn message(of: &DescriptorProto, look: &mut Look<'_>) {
    if let Some(options) = &of.options {
        look(&options.uninterpreted_option);
    }
    fields(&of.field, look);
    fields(&of.extension, look);
    for options in of.oneof_decl.iter().filter_map(|o| o.options.as_ref()) {
        look(&options.uninterpreted_option);
    }
    let ranges = of.extension_range.iter();
    for options in ranges.filter_map(|r| r.options.as_ref()) {
        look(&options.uninterpreted_option);
    }
    of.enum_type.iter().for_each(|e| enumeration(e, look));
    of.nested_type.iter().for_each(|m| message(m, look));
}

fn fields(of: &[FieldDescriptorProto], look: &mut Look<'_>) {
    for options in of.iter().filter_map(|f| f.options.as_ref()) {
        look(&options.uninterpreted_option);
    }
}

fn enumeration(of: &EnumDescriptorProto, look: &mut Look<'_>) {
    if let Some(options) = &of.options {
        look(&options.uninterpreted_option);
    }
    for options in of.value.iter().filter_map(|v| v.options.as_ref()) {
        look(&options.uninterpreted_option);
    }
}

#[cfg(test)]
mod tests {
    use super::depth;

    #[test]
    fn depth_is_that_of_messages() {
        for (value, expected) in [
            ("", 0),
            ("a: 1", 0),
            ("a { b: [<c: 1>, <>] } d {}", 3),
            (r#"a: "{{{ \" {" b: '\'{' c {}"#, 1),
            ("a {} # {{{ ' \n b { c {} }", 2),
            ("}}} {", 1),
            ("\"{", 0),
        ] {
            assert_eq!(depth(value), expected, "{value}");
        }
    }
}
