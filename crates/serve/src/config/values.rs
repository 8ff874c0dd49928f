//! Values with a form of their own: times, sizes, triggers, secrets.

use std::fmt;
use std::time::Duration;

use datafusion_kafka::config::secret;
use datafusion_kafka::driver::Trigger;
use datafusion_kafka::policy::Policy;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};
use toml::Value;

use crate::problem::Problem;

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// A secret, by a reference to where it stands: `env:NAME` or `file:PATH`.
///
/// It was looked up when the file was read. `Debug` shows the reference.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    reference: String,
    value: String,
}

impl Secret {
    /// Looks up what a reference names.
    ///
    /// # Errors
    /// When the text is no reference, or names nothing or an empty text.
    pub fn new(key: &str, reference: &str) -> Result<Self, Problem> {
        if !["env:", "file:"]
            .iter()
            .any(|kind| reference.starts_with(kind))
        {
            return Err(Problem::new(format!(
                "{key}: a secret is env:NAME or file:PATH, since others may read this file"
            )));
        }
        let value = secret(key, reference, &Policy::default())?;
        if value.is_empty() {
            return Err(Problem::new(format!("{key}: {reference} is empty")));
        }
        Ok(Self {
            reference: reference.to_owned(),
            value,
        })
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.reference)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // A message of serde would quote a value of another type.
        match Value::deserialize(from)? {
            Value::String(reference) => Self::new("secret", &reference).map_err(D::Error::custom),
            _ => Err(D::Error::custom(
                "a secret is a text: env:NAME or file:PATH",
            )),
        }
    }
}

/// A time such as `5s` or `1h 30m`.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a time such as 250ms, 5s or 15m, found '{text}'");
    let span: jiff::SignedDuration = text.parse().map_err(|_| expected())?;
    Duration::try_from(span).map_err(|_| expected())
}

pub(super) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse_time(&String::deserialize(from)?).map_err(D::Error::custom)
}

pub(super) fn optional_time<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    time(from).map(Some)
}

/// A number of bytes, or a text such as `256M` or `2GB`, in powers of 1024.
pub(super) fn parse_size(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_')?;
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim().to_ascii_uppercase().as_str() {
        "B" => 0,
        "K" | "KB" | "KIB" => 1,
        "M" | "MB" | "MIB" => 2,
        "G" | "GB" | "GIB" => 3,
        "T" | "TB" | "TIB" => 4,
        _ => return None,
    };
    let number: usize = number.replace('_', "").parse().ok()?;
    number.checked_mul(1024usize.checked_pow(power)?)
}

pub(super) fn optional_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let value = Value::deserialize(from)?;
    let size = match &value {
        Value::Integer(bytes) => usize::try_from(*bytes).ok(),
        Value::String(text) => parse_size(text),
        _ => None,
    };
    let size = size.filter(|bytes| *bytes > 0);
    size.map(Some).ok_or_else(|| {
        D::Error::custom(format!(
            "expected a size such as 256M or 2GB, found {}",
            shown(&value)
        ))
    })
}

/// `continuous`, `once`, `available-now` or `every TIME`.
pub(super) fn trigger<'de, D: Deserializer<'de>>(from: D) -> Result<Trigger, D::Error> {
    let text = String::deserialize(from)?;
    match text.as_str() {
        "continuous" => Ok(Trigger::Continuous),
        "once" => Ok(Trigger::Once),
        "available-now" => Ok(Trigger::AvailableNow),
        other => match other.strip_prefix("every ") {
            Some(time) => parse_time(time.trim())
                .map(Trigger::Every)
                .map_err(D::Error::custom),
            None => Err(D::Error::custom(format!(
                "expected 'every 5s', 'continuous', 'available-now' or 'once', found '{other}'"
            ))),
        },
    }
}

/// The trigger as it is written.
pub(crate) fn trigger_text(trigger: Trigger) -> String {
    match trigger {
        Trigger::Once => "once".to_owned(),
        Trigger::AvailableNow => "available-now".to_owned(),
        Trigger::Every(every) => {
            let span = jiff::SignedDuration::try_from(every).unwrap_or(jiff::SignedDuration::MAX);
            format!("every {span:#}")
        }
        // `Trigger` may grow; what is not known here is no trigger of a file.
        _ => "continuous".to_owned(),
    }
}

/// A number, or a text such as `10M`, as it is written in settings of connections.
pub(super) fn optional_count<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<String>, D::Error> {
    match Value::deserialize(from)? {
        Value::Integer(number) => Ok(Some(number.to_string())),
        Value::String(text) => Ok(Some(text)),
        other => Err(D::Error::custom(format!(
            "expected a number or a text such as '10M', found {}",
            shown(&other)
        ))),
    }
}

/// A value in a message. Only for keys that hold no secret.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{text}'"),
        Value::Integer(number) => number.to_string(),
        other => format!("a value of the type {}", other.type_str()),
    }
}
