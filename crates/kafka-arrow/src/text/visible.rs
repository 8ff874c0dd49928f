//! Makes text from other sources safe to show to a person.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with every character escaped that a terminal obeys or hides: control characters, line and paragraph
/// separators, characters that change the direction of writing, and those without width. Records, topics,
/// brokers, registries and databases may contain anything. Unescaped, they could move the cursor, overwrite
/// what is on the screen, or begin a line that looks like the program's own.
///
/// Escapes are JSON's: `\n` and `\u001b`. Characters in `kept` stay as they are, for texts in which they have
/// a meaning.
pub fn visible<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let hides = |c: char| is_hidden(c) && !kept.contains(&c);
    if !text.contains(hides) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !hides(c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // They all have four digits. Writing into a String does not fail.
            c => drop(write!(shown, "\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(shown)
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_is_escaped() {
        let shown = |text| visible(text, &[]).into_owned();
        assert_eq!(
            shown("\u{1b}[2J\u{7}\0\u{7f}"),
            r"\u001b[2J\u0007\u0000\u007f"
        );
        assert_eq!(shown("\u{9b}2J\u{85}"), r"\u009b2J\u0085");
        assert_eq!(shown("a\r\nb\tc"), r"a\r\nb\tc");
        assert_eq!(
            shown("\u{202e}cba\u{2066}\u{61c}"),
            r"\u202ecba\u2066\u061c"
        );
        assert_eq!(
            shown("or\u{200b}ders\u{feff}\u{2060}"),
            r"or\u200bders\ufeff\u2060"
        );
        assert_eq!(shown("\u{2028}x"), r"\u2028x");
    }

    #[test]
    fn other_text_is_left_alone() {
        for text in ["", "orders[0]@7", "größe ≥ 日本 🙂", "back\\slash"] {
            assert!(matches!(visible(text, &[]), Cow::Borrowed(t) if t == text));
        }
        assert_eq!(visible("a\tb\nc\r", &['\n', '\t']), "a\tb\nc\\r");
    }
}
