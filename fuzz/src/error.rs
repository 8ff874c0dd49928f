//! The errors that decoders have, as the crate's `error` has them.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone)]
pub enum Error {
    Invalid { message: String },
    Kafka { operation: String, reason: String },
}

impl Error {
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { message } => f.write_str(message),
            Self::Kafka { operation, reason } => write!(f, "{operation} failed: {reason}"),
        }
    }
}

/// The candidate that looks most like `name`.
pub fn nearest_names<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let near = |candidate: &&str| strsim::jaro_winkler(name, candidate) >= 0.75;
    let found = candidates.into_iter().find(near);
    found.map(str::to_owned).into_iter().collect()
}
