//! Why a datum does not become a row.

use crate::decode::budget::{self, Exceeded};

/// A failure while reading one datum. It is small, because every result of the walk carries one.
#[derive(Debug)]
pub(super) struct Fault(Box<Kind>);

#[derive(Debug)]
pub(super) enum Kind {
    /// The payload is to blame.
    Bad {
        class: &'static str,
        message: String,
    },
    /// The payload is not to blame: it met a limit of Arrow, or a fault of this crate.
    Ours(String),
}

impl From<Exceeded> for Fault {
    #[cold]
    fn from(exceeded: Exceeded) -> Self {
        Self::bad(budget::CLASS, exceeded.to_string())
    }
}

impl Fault {
    /// The bytes do not follow the writer's schema.
    #[cold]
    pub(super) fn syntax(message: impl Into<String>) -> Self {
        Self::bad("syntax", message)
    }

    /// The value does not fit its type.
    #[cold]
    pub(super) fn value(message: impl Into<String>) -> Self {
        Self::bad("type", message)
    }

    /// The value does not exist in the reader's schema.
    #[cold]
    pub(super) fn schema(message: impl Into<String>) -> Self {
        Self::bad("schema", message)
    }

    #[cold]
    fn bad(class: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Kind::Bad { class, message }))
    }

    #[cold]
    pub(super) fn ours(message: impl Into<String>) -> Self {
        Self(Box::new(Kind::Ours(message.into())))
    }

    /// The same failure, with the field in which it was found.
    #[cold]
    pub(super) fn in_field(mut self, name: &str) -> Self {
        if let Kind::Bad { message, .. } = self.0.as_mut() {
            *message = match message.strip_prefix("field '") {
                Some(inner) => format!("field '{name}.{inner}"),
                None => format!("field '{name}': {message}"),
            };
        }
        self
    }

    pub(super) fn into_kind(self) -> Kind {
        *self.0
    }
}
