//! How errors are made, and found again within others.

use super::{Cause, Error, nearest_names};

impl Error {
    /// What to do about a log that was cut while it was read.
    pub(crate) const READ_AGAIN: &'static str =
        "what was read before may be of either log: run the query again";

    /// An [`Error::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        let (message, source) = (message.into(), None);
        Self::Invalid { message, source }
    }

    /// An [`Error::Query`].
    pub fn query(message: impl Into<String>) -> Self {
        let (message, source) = (message.into(), None);
        Self::Query { message, source }
    }

    /// An [`Error::Schema`].
    pub fn schema(message: impl Into<String>) -> Self {
        let (message, source) = (message.into(), None);
        Self::Schema { message, source }
    }

    /// An [`Error::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        let (message, source) = (message.into(), None);
        Self::Internal { message, source }
    }

    /// An [`Error::Config`].
    pub fn config(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config {
            key: key.into(),
            message: message.into(),
            source: None,
        }
    }

    /// An [`Error::Corrupt`].
    pub fn corrupt(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Corrupt {
            file: file.into(),
            message: message.into(),
            source: None,
        }
    }

    /// An [`Error::Sink`] that trying again does not mend.
    pub fn sink(
        target: impl Into<String>,
        operation: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Sink {
            target: target.into(),
            operation: operation.into(),
            reason: reason.into(),
            transient: false,
            source: None,
        }
    }

    /// The error with its [`source`](std::error::Error::source); the message has to say already what that
    /// reported. Variants without a source stay as they are.
    #[must_use]
    pub fn because(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        if let Self::Invalid { source, .. }
        | Self::Schema { source, .. }
        | Self::Query { source, .. }
        | Self::Config { source, .. }
        | Self::Registry { source, .. }
        | Self::Sink { source, .. }
        | Self::Corrupt { source, .. }
        | Self::Internal { source, .. } = &mut self
        {
            *source = Some(Cause::new(cause));
        }
        self
    }

    /// The error with the place where it was found before its message, if the message does not name one.
    #[must_use]
    pub fn within(mut self, place: impl std::fmt::Display) -> Self {
        if let Self::Invalid { message, .. } | Self::Schema { message, .. } = &mut self {
            *message = format!("{place}: {message}");
        }
        self
    }

    /// An [`Error::UnknownOption`] with the nearest of the options that there are, or else other advice.
    #[doc(hidden)]
    pub fn unknown_option<'a>(
        option: &str,
        known: impl IntoIterator<Item = &'a str>,
        or_else: impl FnOnce() -> String,
    ) -> Self {
        let nearest = nearest_names(option, known).into_iter().next();
        Self::UnknownOption {
            option: option.to_owned(),
            hint: nearest.map_or_else(or_else, |name| format!("did you mean '{name}'?")),
        }
    }

    /// An [`Error::OptionValue`].
    pub fn option_value(
        option: impl Into<String>,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::OptionValue {
            option: option.into(),
            value: value.into(),
            expected: expected.into(),
        }
    }

    /// An [`Error::MissingFeature`].
    pub fn missing_feature(feature: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        Self::MissingFeature { what, feature }
    }

    /// A partition that is not among the `there` ones of its topic.
    #[doc(hidden)]
    pub fn unknown_partition(topic: &str, partition: i32, there: usize) -> Self {
        Self::UnknownPartition {
            topic: topic.to_owned(),
            partition,
            available: match there {
                0 => "none".into(),
                1 => "partition 0".into(),
                n => format!("partitions 0 to {}", n - 1),
            },
        }
    }

    /// Finds an error of this crate inside another one, however deep it lies.
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut source = Some(error);
        while let Some(current) = source {
            if let Some(found) = current.downcast_ref::<Self>() {
                return Some(found);
            }
            source = current.source();
        }
        None
    }
}
