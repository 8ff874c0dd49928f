//! An option as it was written, and the kinds of values.

use std::str::FromStr;
use std::time::Duration;

use crate::decode::Column;
use crate::error::{Error, Result, nearest_names};
use crate::range::OnDataLoss;

pub(super) use crate::formats::PartFormat as Part;

/// A name and a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
}

impl Given<'_> {
    /// Text that is read when the table is made.
    pub(super) fn text(self, to: &mut Option<String>) -> Result<()> {
        *to = Some(self.value.to_owned());
        Ok(())
    }

    /// A value whose type says what was expected.
    pub(super) fn parse<T: FromStr>(self) -> Result<T>
    where
        Error: From<T::Err>,
    {
        Ok(self.value.parse()?)
    }

    pub(super) fn boolean(self) -> Result<bool> {
        match self.value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.refused("'true' or 'false'")),
        }
    }

    pub(super) fn on_data_loss(self) -> Result<OnDataLoss> {
        match self.value.to_ascii_lowercase().as_str() {
            "fail" => Ok(OnDataLoss::Fail),
            "skip" => Ok(OnDataLoss::Skip),
            _ => Err(self.refused("'fail' or 'skip'")),
        }
    }

    pub(super) fn positive<T: FromStr + PartialOrd + Default>(self) -> Result<T> {
        match self.value.parse::<T>() {
            Ok(number) if number > T::default() => Ok(number),
            _ => Err(self.refused("a whole number above 0")),
        }
    }

    pub(super) fn duration(self) -> Result<Duration> {
        let span = self.value.parse::<jiff::SignedDuration>().ok();
        span.and_then(|span| Duration::try_from(span).ok())
            .ok_or_else(|| self.refused("a time span such as '500ms', '30s' or '15m'"))
    }

    pub(super) fn version(self) -> Result<Option<i32>> {
        if self.value.eq_ignore_ascii_case("latest") {
            return Ok(None);
        }
        self.positive().map(Some)
    }

    pub(super) fn delimiter(self) -> Result<u8> {
        match self.value.as_bytes() {
            // As it is written in SQL, where a tab has no escape.
            b"\\t" => Ok(b'\t'),
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
            _ => Err(self.refused("one ASCII character, or '\\t'")),
        }
    }

    /// Kafka's columns in the order of the table.
    pub(super) fn columns(self) -> Result<Vec<Column>> {
        let names = self.value.split(',').map(str::trim);
        let wanted: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        let known = Column::ALL.map(Column::name);
        if let Some(wrong) = wanted.iter().find(|name| !known.contains(name)) {
            let nearest = nearest_names(wrong, known);
            let nearest = nearest.first().map_or("topic", String::as_str);
            return Err(Error::invalid(format!(
                "option 'metadata.columns': there is no column '{wrong}', did you mean '{nearest}'?"
            )));
        }
        if wanted.is_empty() {
            return Err(Error::invalid("option 'metadata.columns' names no column"));
        }
        let in_order = Column::ALL.into_iter();
        Ok(in_order
            .filter(|column| wanted.contains(&column.name()))
            .collect())
    }

    fn refused(self, expected: &str) -> Error {
        Error::option_value(self.name, self.value, expected)
    }
}
