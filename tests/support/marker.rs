//! A text that must not come out, and whether it does, however it is written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// In every part of the records that a test hides.
pub(crate) const MARKER: &str = "Zq7mCarrotVw93kT";

/// Whether the bytes have the marker as it is, or as text formats write it where it is a part of bytes.
pub(crate) fn leaks(seen: &[u8]) -> bool {
    let each = |of: fn(u8) -> String| MARKER.bytes().map(of).collect::<Vec<_>>();
    let mut forms = vec![
        MARKER.to_owned(),
        each(|byte| format!("{byte:02x}")).concat(),
        each(|byte| format!("{byte:02X}")).concat(),
        each(|byte| byte.to_string()).join(", "),
    ];
    for shift in 0..3 {
        let encoded = STANDARD_NO_PAD.encode([&vec![0; shift], MARKER.as_bytes()].concat());
        // What depends on the bytes around it is left out.
        forms.push(encoded[4..encoded.len() - 4].to_owned());
    }
    let has = |form: &String| {
        seen.windows(form.len())
            .any(|window| window == form.as_bytes())
    };
    forms.iter().any(has)
}

#[test]
fn the_marker_is_recognised_in_all_its_forms() {
    let hex = |text: &str| {
        text.bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    for seen in [
        MARKER.to_owned(),
        format!("{:?}", MARKER.as_bytes()),
        hex(&format!("x{MARKER}")),
        hex(MARKER).to_uppercase(),
        STANDARD_NO_PAD.encode(format!("{{\"card\":\"{MARKER}\"}}")),
        STANDARD_NO_PAD.encode(format!("a{MARKER}")),
        STANDARD_NO_PAD.encode(format!("ab{MARKER}c")),
    ] {
        assert!(leaks(seen.as_bytes()), "{seen}");
    }
    assert!(!leaks(&MARKER.as_bytes()[1..]));
}
