//! What is said about a text that is wrong: the line, and the nearest name.

use crate::problem::Problem;

/// A message with its line. It does not quote the line, which may hold a secret.
pub(super) fn explain(text: &str, error: &toml::de::Error) -> Problem {
    let message = unknown_key(error.message()).unwrap_or_else(|| error.message().to_owned());
    match error.span() {
        Some(span) => at_line(line(text, span.start), &message),
        None => Problem::new(message),
    }
}

/// A problem with the line of a key, given by the names of the sections around it and its own; that of the innermost
/// section where the key itself is not found.
pub(super) fn place(text: &str, keys: &[&str], problem: Problem) -> Problem {
    let header = |keys: &[&str]| {
        let shown = format!("[{}]", keys.join("."));
        let lines = text.lines().map(|line| line.split('#').next());
        lines
            .map(|line| line.unwrap_or_default().replace(['"', ' ', '\t'], ""))
            .position(|line| line == shown)
    };
    let found = header(keys).or_else(|| {
        let (last, section) = keys.split_last()?;
        let start = header(section)?;
        let within = text.lines().enumerate().skip(start + 1);
        let mut within = within.take_while(|(_, line)| !line.trim_start().starts_with('['));
        let key = within.find(|(_, line)| {
            let (key, _) = line.split_once('=').unwrap_or_default();
            key.trim().trim_matches('"') == *last
        });
        Some(key.map_or(start, |(at, _)| at))
    });
    let message = format!("{}: {}", keys.join("."), problem.message);
    match found {
        Some(at) => at_line(at + 1, &message),
        None => Problem::new(message),
    }
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similar = names
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known));
    let near = similar.filter(|(distance, _)| *distance <= 1 + name.len() / 4);
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

fn at_line(line: usize, message: &str) -> Problem {
    Problem::new(format!("{line}: {message}"))
}

fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// ``unknown field `x`, expected one of `a`, `b` `` in the words of this project.
fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, expected) = rest.split_once('`')?;
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let hint = match nearest(key, known.iter().copied()) {
        Some(name) => format!("did you mean '{name}'?"),
        None => format!("there are: {}", known.join(", ")),
    };
    Some(format!("unknown key '{key}'; {hint}"))
}
