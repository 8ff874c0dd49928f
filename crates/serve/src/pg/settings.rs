//! The settings that clients make: those of how values are shown, and others that change nothing here.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datafusion::arrow::array::timezone::Tz;
use pgwire::error::PgWireResult;
use pgwire::types::format::FormatOptions;

use super::{login, sqlstate};
use crate::config::nearest;

/// What a setting may be.
enum Values {
    /// Anything, as it changes nothing.
    Any,
    /// Values that begin so, in lower case.
    Of(&'static [&'static str]),
    /// Whatever is shown, and no other.
    Fixed,
    Integer,
    Time,
    Zone,
}

/// The settings by name, with what they are at first.
const SETTINGS: &[(&str, &str, Values)] = &[
    ("application_name", "", Values::Any),
    ("bytea_output", "hex", Values::Of(&["hex", "escape"])),
    (
        "client_encoding",
        "UTF8",
        Values::Of(&["utf8", "utf-8", "unicode"]),
    ),
    (
        "client_min_messages",
        "notice",
        Values::Of(&["debug", "log", "info", "notice", "warning", "error"]),
    ),
    ("datestyle", "ISO, YMD", Values::Of(&["iso"])),
    (
        "default_transaction_isolation",
        "read committed",
        Values::Any,
    ),
    ("default_transaction_read_only", "on", Values::Any),
    ("extra_float_digits", "1", Values::Integer),
    ("geqo", "on", Values::Any),
    ("idle_in_transaction_session_timeout", "0", Values::Any),
    ("idle_session_timeout", "0", Values::Any),
    ("in_hot_standby", "off", Values::Fixed),
    ("integer_datetimes", "on", Values::Fixed),
    (
        "intervalstyle",
        "postgres",
        Values::Of(&["postgres", "sql_standard", "iso_8601"]),
    ),
    ("is_superuser", "off", Values::Fixed),
    ("jit", "off", Values::Any),
    ("lc_collate", "C", Values::Fixed),
    ("lc_ctype", "C", Values::Fixed),
    ("lc_messages", "C", Values::Any),
    ("lc_monetary", "C", Values::Any),
    ("lc_numeric", "C", Values::Any),
    ("lc_time", "C", Values::Any),
    ("lock_timeout", "0", Values::Any),
    ("max_identifier_length", "63", Values::Fixed),
    ("max_index_keys", "32", Values::Fixed),
    ("row_security", "on", Values::Any),
    ("search_path", "public", Values::Any),
    ("server_encoding", "UTF8", Values::Fixed),
    ("server_version_num", "160006", Values::Fixed),
    (
        "standard_conforming_strings",
        "on",
        Values::Of(&["on", "true"]),
    ),
    ("statement_timeout", "0", Values::Time),
    ("synchronous_commit", "on", Values::Any),
    ("timezone", "UTC", Values::Zone),
    ("transaction_isolation", "read committed", Values::Any),
    ("transaction_read_only", "on", Values::Any),
    ("transaction_timeout", "0", Values::Any),
];

/// The settings of a connection.
#[derive(Debug, Default)]
pub(super) struct Settings(Mutex<HashMap<String, String>>);

impl Settings {
    /// Sets `name`; `None` makes it what it was at first. Returns the name and the value that clients are told of, if
    /// they are told.
    ///
    /// # Errors
    /// When there is no such setting, or it may not be that.
    pub(super) fn set(
        &self,
        name: &str,
        value: Option<&str>,
    ) -> PgWireResult<Option<(String, String)>> {
        let name = name.to_lowercase();
        if name.starts_with("datafusion.") || name.starts_with("kafka.") {
            let message =
                format!("the setting \"{name}\" is the operator's and cannot be changed here");
            return Err(sqlstate::error(sqlstate::INSUFFICIENT_PRIVILEGE, message));
        }
        let Some((_, first, values)) = SETTINGS.iter().find(|(known, ..)| *known == name) else {
            return Err(unknown(&name));
        };
        let value = value.filter(|value| !value.eq_ignore_ascii_case("default"));
        if let Some(value) = value
            && let Some(expected) = refuses(values, first, value)
        {
            let message = format!("\"{name}\" cannot be \"{value}\": expected {expected}");
            return Err(sqlstate::error(sqlstate::INVALID_PARAMETER, message));
        }
        let value = value.unwrap_or(first).to_owned();
        self.lock().insert(name.clone(), value.clone());
        let told: &str = match name.as_str() {
            "datestyle" => "DateStyle",
            "intervalstyle" => "IntervalStyle",
            "timezone" => "TimeZone",
            "application_name" | "client_encoding" | "standard_conforming_strings" => &name,
            _ => return Ok(None),
        };
        Ok(Some((told.to_owned(), value)))
    }

    /// Makes all settings what they were at first.
    pub(super) fn reset(&self) {
        self.lock().clear();
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// When there is no such setting.
    pub(super) fn show(&self, name: &str) -> PgWireResult<String> {
        let name = name.to_lowercase();
        if name == "server_version" {
            return Ok(login::server_version());
        }
        if let Some(value) = self.lock().get(&name) {
            return Ok(value.clone());
        }
        let known = SETTINGS.iter().find(|(known, ..)| *known == name);
        known
            .map(|(_, first, _)| (*first).to_owned())
            .ok_or_else(|| unknown(&name))
    }

    /// All settings with their values.
    pub(super) fn all(&self) -> Vec<(String, String)> {
        let set = self.lock();
        let shown = SETTINGS.iter().map(|(name, first, _)| {
            let value = set.get(*name).map_or(*first, String::as_str);
            ((*name).to_owned(), value.to_owned())
        });
        shown.collect()
    }

    /// How values are shown.
    pub(super) fn format(&self) -> Arc<FormatOptions> {
        Arc::new(FormatOptions::from_client_metadata(&self.lock()))
    }

    /// How long a statement may take; `None` is without end.
    pub(super) fn statement_timeout(&self) -> Option<Duration> {
        let set = self.lock();
        let timeout = set.get("statement_timeout").and_then(|text| time(text))?;
        (!timeout.is_zero()).then_some(timeout)
    }

    /// Whether the client wants to hear notices.
    pub(super) fn wants_notices(&self) -> bool {
        let set = self.lock();
        let least = set
            .get("client_min_messages")
            .map(|least| least.to_lowercase());
        !least.is_some_and(|least| least.starts_with("warning") || least.starts_with("error"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        // Whole after any panic: each change is one insert.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(name: &str) -> pgwire::error::PgWireError {
    let near = nearest(name, SETTINGS.iter().map(|(known, ..)| *known));
    let near = near.map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
    sqlstate::error(
        sqlstate::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\"{near}"),
    )
}

/// What would have been accepted, if `value` is not.
fn refuses(values: &Values, first: &str, value: &str) -> Option<String> {
    let lower = value.to_lowercase();
    match values {
        Values::Any => None,
        Values::Of(known) => {
            let fits = known.iter().any(|known| lower.starts_with(known));
            (!fits).then(|| known.join(", "))
        }
        Values::Fixed => (value != first).then(|| format!("\"{first}\"")),
        Values::Integer => (lower.parse::<i8>().is_err()).then(|| "an integer".to_owned()),
        Values::Time => {
            (time(value).is_none()).then(|| "a time such as 500ms, 30s, 5min".to_owned())
        }
        Values::Zone => (Tz::from_str(value).is_err() && !lower.eq("utc"))
            .then(|| "a time zone such as UTC, Europe/Berlin, +02:00".to_owned()),
    }
}

/// A time as PostgreSQL writes it: milliseconds where there is no unit.
fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use pgwire::error::ErrorInfo;

    use super::*;

    fn refusal(name: &str, value: &str) -> (String, String) {
        let error = Settings::default().set(name, Some(value)).unwrap_err();
        let info = ErrorInfo::from(error);
        (info.code, info.message)
    }

    #[test]
    fn settings_are_shown_as_they_were_set() {
        let settings = Settings::default();
        assert_eq!(settings.show("TimeZone").unwrap(), "UTC");
        let told = settings.set("TimeZone", Some("Europe/Berlin")).unwrap();
        assert_eq!(told, Some(("TimeZone".into(), "Europe/Berlin".into())));
        assert_eq!(settings.show("timezone").unwrap(), "Europe/Berlin");
        settings.set("timezone", None).unwrap();
        assert_eq!(settings.show("timezone").unwrap(), "UTC");
        settings.set("statement_timeout", Some("2min")).unwrap();
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(120)));
        settings.reset();
        assert_eq!(settings.statement_timeout(), None);
    }

    #[test]
    fn other_settings_are_refused() {
        assert_eq!(
            refusal("kafka.max.scan.records", "none"),
            (
                "42501".into(),
                "the setting \"kafka.max.scan.records\" is the operator's and cannot be changed here".into()
            )
        );
        assert_eq!(refusal("DataFusion.execution.batch_size", "1").0, "42501");
        assert_eq!(
            refusal("statement_timeot", "1"),
            (
                "42704".into(),
                "unrecognized configuration parameter \"statement_timeot\"; did you mean \"statement_timeout\"?".into()
            )
        );
        assert_eq!(
            refusal("client_encoding", "LATIN1"),
            (
                "22023".into(),
                "\"client_encoding\" cannot be \"LATIN1\": expected utf8, utf-8, unicode".into()
            )
        );
        assert_eq!(refusal("timezone", "Mars/Olympus").0, "22023");
        assert_eq!(refusal("extra_float_digits", "x").0, "22023");
        assert_eq!(refusal("is_superuser", "on").0, "22023");
    }

    #[test]
    fn times_have_units() {
        for (text, ms) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("3s", Some(3000)),
            ("1 min", Some(60_000)),
            ("x", None),
            ("5y", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text), ms.map(Duration::from_millis), "{text}");
        }
    }
}
