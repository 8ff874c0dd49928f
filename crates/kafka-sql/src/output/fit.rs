//! Text in the columns of a terminal: how wide it is, and how it is cut or wrapped.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// What a cell is not made narrower than.
const NARROWEST: usize = 4;
/// What can be read of a cell that is cut.
const LEGIBLE: usize = 16;

/// The columns that `text` takes on a terminal: two for most characters of East Asia and emoji, none for marks that
/// are drawn over the character before.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The widths of columns that fit into `room` together: the widest give way first. Where there is too little room for
/// [`NARROWEST`] each, it is exceeded.
pub(super) fn widths(natural: &[usize], room: usize) -> Vec<usize> {
    let mut sorted = natural.to_vec();
    sorted.sort_unstable();
    let (mut left, mut columns) = (room, sorted.len());
    let mut most = usize::MAX;
    for width in sorted {
        let share = left / columns;
        if width > share {
            most = share.max(NARROWEST);
            break;
        }
        left -= width;
        columns -= 1;
    }
    natural.iter().map(|width| *width.min(&most)).collect()
}

/// Whether a table of such columns would have some that are cut to too little to be read. Those that are `whole` are
/// wrapped, and not cut.
pub(super) fn is_illegible(natural: &[usize], room: usize, whole: &[bool]) -> bool {
    let fitted = widths(natural, room);
    let columns = fitted.iter().zip(natural).zip(whole);
    let mut cut = columns.filter(|((fitted, natural), whole)| fitted < natural && !**whole);
    cut.any(|((fitted, _), _)| *fitted < LEGIBLE)
}

/// The beginning of a line with `…` for what does not fit.
pub(super) fn cut(line: &str, most: usize) -> Cow<'_, str> {
    if width(line) <= most {
        return Cow::Borrowed(line);
    }
    let end = end_of(line, most.saturating_sub(1));
    Cow::Owned(format!("{}…", &line[..end]))
}

/// The line in pieces that fit, broken behind a space or a comma where there is one in the second half of a piece.
pub(super) fn wrapped(line: &str, most: usize) -> Vec<&str> {
    let mut pieces = vec![];
    let mut rest = line;
    while width(rest) > most {
        let whole = end_of(rest, most.max(1));
        // A character that is wider than the column stands alone.
        let first = || rest.graphemes(true).next().map_or(rest.len(), str::len);
        let whole = if whole == 0 { first() } else { whole };
        let broken = rest[..whole].rfind([' ', ',']).map(|at| at + 1);
        let end = broken
            .filter(|end| width(&rest[..*end]) * 2 > most)
            .unwrap_or(whole);
        pieces.push(rest[..end].trim_end_matches(' '));
        rest = &rest[end..];
    }
    if pieces.is_empty() || !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// The bytes of the longest beginning that is no wider than `most`.
fn end_of(line: &str, most: usize) -> usize {
    let (mut end, mut taken) = (0, 0);
    for (at, character) in line.grapheme_indices(true) {
        taken += width(character);
        if taken > most {
            break;
        }
        end = at + character.len();
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_columns_give_way() {
        for (natural, room, expected) in [
            (&[3, 10, 5][..], 30, &[3, 10, 5][..]),
            (&[3, 100, 5], 30, &[3, 22, 5]),
            (&[3, 100, 90, 5], 48, &[3, 20, 20, 5]),
            (&[100, 100, 100], 10, &[4, 4, 4]),
            (&[], 10, &[]),
        ] {
            assert_eq!(widths(natural, room), expected, "{natural:?} in {room}");
        }
        for (room, whole, expected) in [(30, false, true), (60, false, false), (30, true, false)] {
            let found = is_illegible(&[10, 100, 100], room, &[false, whole, whole]);
            assert_eq!(found, expected, "{room} {whole}");
        }
        assert!(!is_illegible(&[3, 4, 5], 12, &[false; 3]));
    }

    #[test]
    fn text_is_cut_and_wrapped_by_what_a_terminal_shows() {
        for (text, most, short, pieces) in [
            ("orders", 6, "orders", &["orders"][..]),
            ("orders", 5, "orde…", &["order", "s"]),
            ("a bc de fgh", 8, "a bc de…", &["a bc de", "fgh"]),
            ("0123456789,ab", 11, "0123456789…", &["0123456789,", "ab"]),
            // Two columns each.
            ("日本語テキスト", 7, "日本語…", &["日本語", "テキス", "ト"]),
            ("🙂🙂🙂", 4, "🙂…", &["🙂🙂", "🙂"]),
            // A letter and its accent stay together, and so does a family.
            (
                "e\u{301}e\u{301}e\u{301}",
                2,
                "e\u{301}…",
                &["e\u{301}e\u{301}", "e\u{301}"],
            ),
            ("👨‍👩‍👧x", 2, "…", &["👨‍👩‍👧", "x"]),
            ("語", 1, "…", &["語"]),
            ("", 3, "", &[""]),
        ] {
            assert_eq!(cut(text, most), short, "{text} in {most}");
            assert_eq!(wrapped(text, most), pieces, "{text} in {most}");
        }
    }
}
