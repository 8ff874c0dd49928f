//! The flags that say how results look and where they go.

use std::path::PathBuf;

use clap::Args;

use super::{BytesAs, Drawing, Format, OutputOptions};
use crate::failure::Failure;

/// How many rows a table shows unless `--maxrows` says otherwise.
const DEFAULT_MAX_ROWS: usize = 1000;

/// How results look and where they go.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Format of results [default: by the extension of -o, else table on a terminal, else ndjson]
    #[arg(long, global = true, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write the result to a file, which appears when it is complete
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file of -o, or of COPY, if it exists
    #[arg(long, global = true)]
    pub(crate) overwrite: bool,
    /// How text formats write binary values
    #[arg(long, global = true, value_enum, default_value_t = BytesAs::Auto)]
    pub(crate) bytes: BytesAs,
    /// Rows that a table shows: a number or `all`
    #[arg(long, global = true, value_name = "N", default_value = "1000", value_parser = parse_max_rows)]
    pub(crate) maxrows: MaxRows,
}

/// A limit of rows, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxRows(pub(crate) Option<usize>);

impl Default for MaxRows {
    fn default() -> Self {
        Self(Some(DEFAULT_MAX_ROWS))
    }
}

/// Reads `N` or `all`.
pub(crate) fn parse_max_rows(text: &str) -> Result<MaxRows, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(MaxRows(None));
    }
    text.parse()
        .map(|n| MaxRows(Some(n)))
        .map_err(|_| format!("expected a number of rows or 'all', found '{text}'"))
}

impl OutputArgs {
    /// Chooses the format and checks that it can be written where it shall go.
    pub(crate) fn resolve(&self, stdout_is_terminal: bool) -> Result<OutputOptions, Failure> {
        let path = self.output.clone().filter(|p| p.as_os_str() != "-");
        let format = self
            .format
            .or_else(|| path.as_deref().and_then(Format::of_path))
            .unwrap_or(if path.is_none() && stdout_is_terminal {
                Format::Table
            } else {
                Format::Ndjson
            });
        if path.is_none() && stdout_is_terminal && !format.is_text() {
            return Err(Failure::usage(
                "parquet and arrow are not for a terminal; write to a file with -o FILE or to a pipe",
            ));
        }
        Ok(OutputOptions {
            format,
            bytes: self.bytes,
            max_rows: self.maxrows.0,
            on_screen: path.is_none() && stdout_is_terminal,
            path,
            overwrite: self.overwrite,
            table: Drawing::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        output: OutputArgs,
    }

    fn parse(line: &str) -> OutputArgs {
        Flags::try_parse_from(line.split(' ')).unwrap().output
    }

    #[test]
    fn the_format_follows_terminal_and_extension() {
        let format = |line: &str, terminal: bool| parse(line).resolve(terminal).map(|o| o.format);
        for (line, terminal, expected) in [
            ("x", true, Format::Table),
            ("x", false, Format::Ndjson),
            ("x -o a.csv", true, Format::Csv),
            ("x -o a.txt", true, Format::Ndjson),
            ("x -o a.csv --format tsv", true, Format::Tsv),
            ("x --format parquet", false, Format::Parquet),
        ] {
            assert_eq!(format(line, terminal).unwrap(), expected, "{line}");
        }
        let refused = format("x --format parquet", true).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
    }

    #[test]
    fn row_limits() {
        assert_eq!(parse_max_rows("all"), Ok(MaxRows(None)));
        assert_eq!(parse_max_rows("5"), Ok(MaxRows(Some(5))));
        assert!(parse_max_rows("-1").is_err());
        assert_eq!(parse("x").maxrows, MaxRows::default());
    }
}
