//! What a step of a diagnosis has found.

use std::fmt;

use serde_json::{Map, Value};

use crate::error::Error;

/// Texts are cut to this many characters. Brokers may send names and reasons of any length.
const TEXT_MOST: usize = 600;
/// The most notes of a finding.
const NOTES_MOST: usize = 32;

/// The steps of a diagnosis, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Check {
    /// The settings in effect; callers who know where they come from report it.
    Configuration,
    /// The client that the settings ask for.
    Client,
    /// The addresses of a bootstrap server's name.
    Name,
    /// Connections to these addresses.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Whether the server speaks Kafka's protocol.
    Protocol,
    /// The login.
    Login,
    /// The cluster's description: its brokers and topics.
    Cluster,
    /// Every broker that the cluster names: its address, TLS and login.
    Brokers,
    /// What the brokers' releases know.
    Releases,
    /// The racks of the brokers and of this client.
    Racks,
    /// Partitions without a leader.
    Leaders,
    /// Partitions with fewer replicas in sync than they should have.
    Replicas,
    /// The right to describe a topic, and whether it exists.
    Topic,
    /// The ends of a topic's logs.
    Offsets,
    /// The right to see a topic's settings.
    Settings,
    /// Whether the compression of a topic can be read.
    Codec,
    /// The right to read a topic.
    Read,
    /// What the timestamps of a topic's last records say of this machine's clock.
    Clock,
    /// The right to see the offsets of a consumer group.
    Group,
}

impl Check {
    /// All of them, in their order.
    pub const ALL: [Self; 20] = [
        Self::Configuration,
        Self::Client,
        Self::Name,
        Self::Connect,
        Self::Tls,
        Self::Protocol,
        Self::Login,
        Self::Cluster,
        Self::Brokers,
        Self::Releases,
        Self::Racks,
        Self::Leaders,
        Self::Replicas,
        Self::Topic,
        Self::Offsets,
        Self::Settings,
        Self::Codec,
        Self::Read,
        Self::Clock,
        Self::Group,
    ];

    /// The name, which does not change between releases.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Client => "client",
            Self::Name => "name",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Login => "login",
            Self::Cluster => "cluster",
            Self::Brokers => "broker",
            Self::Releases => "releases",
            Self::Racks => "racks",
            Self::Leaders => "leaders",
            Self::Replicas => "replicas",
            Self::Topic => "topic",
            Self::Offsets => "offsets",
            Self::Settings => "settings",
            Self::Codec => "codec",
            Self::Read => "read",
            Self::Clock => "clock",
            Self::Group => "group",
        }
    }
}

impl Check {
    /// What to do about a failure whose reason does not say it.
    fn advice(self) -> &'static str {
        match self {
            Self::Configuration | Self::Client => "correct this setting",
            Self::Name => "look at this machine's DNS and /etc/hosts",
            Self::Connect | Self::Protocol => {
                "is this the port of a Kafka listener, and is the broker well?"
            }
            Self::Tls => "compare with 'openssl s_client -connect', and look at the broker's log",
            Self::Login => {
                "compare with the settings of a client that works, and look at the broker's log"
            }
            _ => "look at the brokers' logs",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing is wrong.
    Ok,
    /// It does not apply, or an earlier step failed.
    Skipped,
    /// It works now, but something should be looked after.
    Warning,
    /// It does not work.
    Failed,
}

impl Outcome {
    /// The name, which does not change between releases.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// What a step has found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Finding {
    /// The step.
    pub check: Check,
    /// What it is about: a server, a broker, a topic; empty for the cluster as a whole.
    pub subject: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The client that took the step, where that matters.
    pub by: Option<&'static str>,
    /// What was found, in one sentence.
    pub text: String,
    /// What to do.
    pub advice: Option<String>,
    /// Details, each a line.
    pub notes: Vec<String>,
    /// The same for programs, by name.
    pub facts: Map<String, Value>,
}

impl Finding {
    /// A finding without details.
    pub fn new(
        check: Check,
        subject: impl Into<String>,
        outcome: Outcome,
        text: impl Into<String>,
    ) -> Self {
        Self {
            check,
            subject: cut(subject.into()),
            outcome,
            by: None,
            text: cut(text.into()),
            advice: None,
            notes: Vec::new(),
            facts: Map::new(),
        }
    }

    pub(super) fn skipped(check: Check, subject: impl Into<String>, why: &str) -> Self {
        let text = format!("skipped, because {why}");
        Self::new(check, subject, Outcome::Skipped, text)
    }

    /// A failure with the client's reason, whose part after a semicolon says what to do.
    pub(super) fn failed(check: Check, subject: impl Into<String>, reason: &str) -> Self {
        let alert = || {
            let after = reason.find("TLS alert '")?;
            let at = after + reason[after..].find("': ")?;
            Some((&reason[..=at], &reason[at + 3..]))
        };
        let split = reason.split_once("; ").or_else(alert);
        let (text, advice) = split.unwrap_or((reason, check.advice()));
        Self::new(check, subject, Outcome::Failed, text).advise(advice)
    }

    pub(super) fn of_error(check: Check, subject: impl Into<String>, error: &Error) -> Self {
        Self::failed(check, subject, &error.to_string())
    }

    /// Says which client took the step.
    #[must_use]
    pub fn by(mut self, client: &'static str) -> Self {
        self.by = Some(client);
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(cut(advice.into()));
        self
    }

    /// Adds a detail.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        if self.notes.len() < NOTES_MOST {
            self.notes.push(cut(note.into()));
        }
        self
    }

    /// Adds a detail for programs.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), bounded(value.into()));
        self
    }
}

fn bounded(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(text)),
        Value::Array(all) => {
            let some = all.into_iter().take(super::BROKERS_MOST);
            Value::Array(some.map(bounded).collect())
        }
        value => value,
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(TEXT_MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_split_into_what_is_and_what_to_do() {
        for (reason, text, advice) in [
            ("it is down; start it; wait", "it is down", "start it; wait"),
            (
                "broker h:1: it refuses with the TLS alert 'UnknownCA': it does not trust you",
                "broker h:1: it refuses with the TLS alert 'UnknownCA'",
                "it does not trust you",
            ),
            (
                "it is 'down': why",
                "it is 'down': why",
                "look at the brokers' logs",
            ),
        ] {
            let finding = Finding::failed(Check::Cluster, "", reason);
            assert_eq!(finding.text, text);
            assert_eq!(finding.advice.as_deref(), Some(advice));
        }
    }

    #[test]
    fn what_others_say_is_cut() {
        let long = "ü".repeat(1 << 16);
        let mut finding = Finding::new(Check::Name, &long, Outcome::Ok, &long)
            .advise(&long)
            .fact("text", long.clone())
            .fact("texts", vec![long.clone(); 1000]);
        for _ in 0..100 {
            finding = finding.note(&long);
        }
        let facts = Value::Object(finding.facts).to_string();
        assert!(facts.len() < 1 << 19, "{} bytes", facts.len());
        let notes: usize = finding.notes.iter().map(String::len).sum();
        assert!(notes < 1 << 16, "{notes} bytes");
        assert_eq!(finding.text.chars().count(), TEXT_MOST + 1);
    }

    #[test]
    fn checks_are_in_their_order_and_have_names_of_their_own() {
        assert!(Check::ALL.is_sorted());
        let names: std::collections::BTreeSet<&str> = Check::ALL.map(Check::name).into();
        assert_eq!(names.len(), Check::ALL.len());
    }
}
