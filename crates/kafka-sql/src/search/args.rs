//! What was typed after `search`, checked for shape only.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use datafusion_kafka::range::RangeSpec;

/// What to look for, and where.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "kafka-sql search [OPTIONS] <CONDITION>... <TOPIC>... [RANGE]",
    group = ArgGroup::new("conditions").required(true).multiple(true),
    after_help = "A record is a hit if it meets all conditions. Exit codes: 0 hits, 9 none although everything was \
                  looked at, 130 interrupted; the others are those of every command."
)]
pub(crate) struct SearchArgs {
    /// Topics or patterns (with * and ?, or a regular expression as /…/), and at the end a range such as
    /// @-1h:end [default: the whole log]
    #[arg(value_name = "TOPIC", required = true, allow_negative_numbers = true)]
    places: Vec<String>,
    /// The key is K; given several times, it is one of them
    #[arg(
        long,
        value_name = "K",
        group = "conditions",
        allow_hyphen_values = true
    )]
    pub(super) key: Vec<String>,
    /// The value or the key has TEXT in it, byte by byte
    #[arg(
        long,
        value_name = "TEXT",
        group = "conditions",
        allow_hyphen_values = true
    )]
    pub(super) contains: Option<String>,
    /// The value or the key matches the regular expression somewhere; also bytes that are no text
    #[arg(
        long,
        value_name = "R",
        group = "conditions",
        allow_hyphen_values = true
    )]
    pub(super) regex: Option<String>,
    /// The SQL condition holds, over the columns of the table
    #[arg(
        long = "where",
        value_name = "SQL",
        group = "conditions",
        allow_hyphen_values = true
    )]
    pub(super) condition: Option<String>,
    /// A header has this name and value; any number of times
    #[arg(
        long,
        value_name = "NAME=VALUE",
        group = "conditions",
        allow_hyphen_values = true
    )]
    pub(super) header: Vec<String>,
    /// K, TEXT and the VALUE of a header are bytes in hexadecimal digits
    #[arg(long)]
    pub(super) hex: bool,
    /// Stop after N hits
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) first: Option<u64>,
    /// Read each partition from its end, newest record first
    #[arg(long)]
    pub(super) reverse: bool,
    /// The columns to print [default: topic, partition, offset, timestamp, key, value and headers, or all
    /// where --option is given]
    #[arg(long, value_name = "SQL")]
    pub(super) select: Option<String>,
    /// An option of the table, such as value.format=json; any number of times
    #[arg(long = "option", value_name = "NAME=VALUE")]
    pub(super) options: Vec<String>,
    /// Write what was looked at, with checksums, to a file that `rerun` can check
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
}

impl SearchArgs {
    /// The topics and patterns, and the range.
    pub(super) fn places(&self) -> (&[String], Option<&str>) {
        match self.places.split_last() {
            Some((last, topics)) if !topics.is_empty() && is_range(last) => (topics, Some(last)),
            _ => (&self.places, None),
        }
    }
}

/// Whether the last of several places is a range: what no topic can be called, and what reads as a range.
fn is_range(text: &str) -> bool {
    let pattern = text.starts_with('/') || text.contains(['*', '?']);
    let of_names = |c: char| c.is_ascii_alphanumeric() || ".-_,".contains(c);
    !pattern && (!text.chars().all(of_names) || text.parse::<RangeSpec>().is_ok())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        search: SearchArgs,
    }

    fn parse(line: &str) -> Result<SearchArgs, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.search)
    }

    #[test]
    fn the_last_place_may_be_a_range() {
        for (line, topics, range) in [
            ("search a --key k", vec!["a"], None),
            ("search a b --key k", vec!["a", "b"], None),
            (
                "search a b @-1h:end --key k",
                vec!["a", "b"],
                Some("@-1h:end"),
            ),
            ("search a -10 --key k", vec!["a"], Some("-10")),
            ("search --key k -- a -100:-10", vec!["a"], Some("-100:-10")),
            ("search a 0=5:,1=:9 --key k", vec!["a"], Some("0=5:,1=:9")),
            ("search a end --key k", vec!["a"], Some("end")),
            // A mistake in a range is not taken for a topic.
            ("search a @-1hh --key k", vec!["a"], Some("@-1hh")),
            ("search a /b.*/ --key k", vec!["a", "/b.*/"], None),
            ("search a b-* --key k", vec!["a", "b-*"], None),
            ("search 100 --key k", vec!["100"], None),
        ] {
            let args = parse(line).unwrap();
            let (found, range_found) = args.places();
            assert_eq!(
                (found, range_found),
                (
                    &topics.iter().map(ToString::to_string).collect::<Vec<_>>()[..],
                    range
                ),
                "{line}"
            );
        }
    }

    #[test]
    fn a_condition_is_needed_and_hits_are_counted_from_one() {
        for wrong in ["search a", "search --key k", "search a --key k --first 0"] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
        let all =
            "search a --key k --key l --contains -x --regex -y --where true --header a=b --first 2";
        assert_eq!(parse(all).unwrap().key, ["k", "l"]);
    }
}
