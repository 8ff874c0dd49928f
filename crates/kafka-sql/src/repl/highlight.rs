//! Colours of a statement while it is typed.

use std::borrow::Cow;

use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;

const KEYWORD: &str = "\u{1b}[1;34m";
const TEXT: &str = "\u{1b}[32m";
const NUMBER: &str = "\u{1b}[36m";
const COMMENT: &str = "\u{1b}[2m";
const COMMAND: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// Longer input stays plain: it is drawn again with each key.
const LONGEST: usize = 20_000;

/// The line with colours for keywords, text, numbers and comments, also where it is not finished. `columns` are names
/// that are no keywords.
pub(super) fn colored<'l>(line: &'l str, columns: &[&str]) -> Cow<'l, str> {
    if line.len() > LONGEST || line.is_empty() {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() * 2);
    let mut rest = line;
    if line.trim_start().starts_with('\\') {
        let start = line.len() - line.trim_start().len();
        let command = line[start..].find(char::is_whitespace);
        let end = command.map_or(line.len(), |at| start + at);
        paint(&mut out, COMMAND, &line[..end]);
        out.push_str(&line[end..]);
        return Cow::Owned(out);
    }
    while let Some(first) = rest.chars().next() {
        let (color, end) = token(rest, first, columns);
        match color {
            Some(color) => paint(&mut out, color, &rest[..end]),
            None => out.push_str(&rest[..end]),
        }
        rest = &rest[end..];
    }
    Cow::Owned(out)
}

fn paint(out: &mut String, color: &str, text: &str) {
    out.push_str(color);
    out.push_str(text);
    out.push_str(PLAIN);
}

/// The colour and the length of what stands at the beginning of `rest`.
fn token(rest: &str, first: char, columns: &[&str]) -> (Option<&'static str>, usize) {
    let until = |end: &str, from: usize| {
        let found = rest[from..].find(end);
        found.map_or(rest.len(), |at| from + at + end.len())
    };
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = || rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    match first {
        '-' if rest.starts_with("--") => (Some(COMMENT), until("\n", 2)),
        '/' if rest.starts_with("/*") => (Some(COMMENT), until("*/", 2)),
        // A doubled quote within is the end and the beginning of two texts, which look like one.
        '\'' => (Some(TEXT), until("'", 1)),
        '"' => (None, until("\"", 1)),
        _ if first.is_ascii_digit() => {
            let end = rest.find(|c: char| !is_word(c) && c != '.');
            (Some(NUMBER), end.unwrap_or(rest.len()))
        }
        _ if is_word(first) => {
            let end = word();
            let upper = rest[..end].to_uppercase();
            let is_keyword = ALL_KEYWORDS.binary_search(&upper.as_str()).is_ok();
            let is_column = columns.iter().any(|c| c.eq_ignore_ascii_case(&upper));
            ((is_keyword && !is_column).then_some(KEYWORD), end)
        }
        _ => (None, first.len_utf8()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Colours as letters: K, T, N, C and M for a command.
    fn marked(line: &str) -> String {
        let colors = [
            (KEYWORD, "<K:"),
            (TEXT, "<T:"),
            (NUMBER, "<N:"),
            (COMMENT, "<C:"),
        ];
        let mut text = colored(line, &["offset", "key"]).into_owned();
        for (color, mark) in colors {
            text = text.replace(color, mark);
        }
        text.replace(PLAIN, ">").replace(COMMAND, "<M:")
    }

    #[test]
    fn what_is_typed_has_colours_and_stays_what_it_is() {
        for (line, expected) in [
            (
                "select offset, k1 from \"from\"",
                "<K:select> offset, k1 <K:from> \"from\"",
            ),
            (
                "WHERE value = 'it''s 1' AND n > 1.5e3",
                "<K:WHERE> <K:value> = <T:'it'><T:'s 1'> <K:AND> n > <N:1.5e3>",
            ),
            ("-- select\nselect", "<C:-- select\n><K:select>"),
            ("/* a */ 'open", "<C:/* a */> <T:'open>"),
            ("/* open ü", "<C:/* open ü>"),
            (" \\d orders", "<M: \\d> orders"),
            ("größe = 'ß'", "größe = <T:'ß'>"),
            ("", ""),
        ] {
            assert_eq!(marked(line), expected, "{line}");
        }
    }
}
