//! What a connection to a bootstrap server shows, step by step.

use std::time::Duration;

use super::certificate;
use super::finding::{Check, Finding, Outcome};
use super::release;
use super::{Probe, Prober, listed};
use crate::client::wire::probe::{Attempt, Stage};

/// What is known besides the probe.
pub(super) struct About<'a> {
    pub(super) prober: &'a Prober,
    pub(super) user: Option<&'a str>,
    /// Whether the cluster can be reached through some bootstrap server.
    pub(super) others: bool,
}

/// The findings about a bootstrap server.
pub(super) fn findings(probe: &Probe, about: &About<'_>) -> Vec<Finding> {
    let steps = [
        name(probe),
        connect(probe),
        tls(probe, about.prober),
        protocol(probe, about.prober),
        login(probe, about),
    ];
    let bearable = |mut finding: Finding| {
        // Clients go on to the next server.
        if about.others
            && finding.outcome == Outcome::Failed
            && matches!(finding.check, Check::Name | Check::Connect)
        {
            finding.outcome = Outcome::Warning;
            return finding.note("another bootstrap server answers in its place");
        }
        finding
    };
    steps.into_iter().map(bearable).collect()
}

fn name(probe: &Probe) -> Finding {
    let took = millis(probe.resolved_in);
    match &probe.addresses {
        Ok(addresses) => {
            let all = listed(addresses.iter().map(|a| a.ip()));
            let facts: Vec<String> = addresses.iter().map(|a| a.ip().to_string()).collect();
            Finding::new(
                Check::Name,
                &probe.host,
                Outcome::Ok,
                format!("{all} in {took}"),
            )
            .fact("addresses", facts)
        }
        Err(reason) => Finding::failed(Check::Name, &probe.host, reason).advise(
            "compare the name with the cluster's ('bootstrap.servers'), and look at this machine's DNS and \
             /etc/hosts",
        ),
    }
}

fn connect(probe: &Probe) -> Finding {
    let subject = probe.name();
    if probe.attempts.is_empty() {
        return Finding::skipped(Check::Connect, subject, "the name does not resolve");
    }
    let accepted = probe.attempts.iter().filter(|a| a.failed.is_none());
    let silent = probe.attempts.iter().filter(|a| a.silent).count();
    let mut finding = match (accepted.count(), silent) {
        (0, _) => {
            let advice = match silent {
                0 => "is a broker running there, and is this the port of its listener?",
                _ => "a firewall drops what is sent there, or the host is down or not routed to",
            };
            let first = probe.attempts.iter().find_map(|a| a.failed.as_deref());
            let text = match probe.attempts.len() {
                1 => format!("no connection: {}", first.unwrap_or_default()),
                all => format!(
                    "no connection to any of {all} addresses: {}",
                    first.unwrap_or_default()
                ),
            };
            Finding::new(Check::Connect, subject, Outcome::Failed, text).advise(advice)
        }
        (accepted, 0) => {
            let first = probe.attempts.iter().find(|a| a.failed.is_none());
            let took = millis(first.map_or(Duration::ZERO, |a| a.took));
            let all = probe.attempts.len();
            let text = match all {
                1 => format!("accepted in {took}"),
                _ => format!("{accepted} of {all} addresses accept, the first in {took}"),
            };
            Finding::new(Check::Connect, subject, Outcome::Ok, text)
        }
        (_, silent) => Finding::new(
            Check::Connect,
            subject,
            Outcome::Warning,
            format!("{silent} of {} addresses do not answer", probe.attempts.len()),
        )
        .advise(
            "clients may wait for them first: take them out of the name, set 'broker.address.family', or lower \
             'socket.connection.setup.timeout.ms'",
        ),
    };
    if probe.attempts.len() > 1 {
        for attempt in &probe.attempts {
            finding = finding.note(said(attempt));
        }
    }
    let facts: Vec<serde_json::Value> = probe.attempts.iter().map(fact_of).collect();
    finding.fact("attempts", facts)
}

fn said(attempt: &Attempt) -> String {
    let address = attempt.address;
    match &attempt.failed {
        None => format!("{address} accepted in {}", millis(attempt.took)),
        Some(reason) => format!("{address}: {reason}"),
    }
}

fn fact_of(attempt: &Attempt) -> serde_json::Value {
    serde_json::json!({
        "address": attempt.address.to_string(),
        "accepted": attempt.failed.is_none(),
        "took_ms": attempt.took.as_secs_f64() * 1e3,
    })
}

fn tls(probe: &Probe, prober: &Prober) -> Finding {
    let subject = probe.name();
    match &probe.tls {
        Stage::NotReached => unreached(Check::Tls, probe, prober),
        Stage::NotWanted => Finding::skipped(
            Check::Tls,
            subject,
            "'security.protocol' asks for none: others in the network may read along",
        ),
        Stage::Failed(reason) => {
            let finding = Finding::failed(Check::Tls, subject, reason);
            certificate::shown(finding, &probe.refused, &prober.trust()).by("wire")
        }
        Stage::Done(shown) => {
            let text = match shown.version {
                Some(version) => version.replace('_', "."),
                None => "TLS".to_owned(),
            };
            let finding = Finding::new(Check::Tls, subject, Outcome::Ok, text);
            let trust = prober.trust();
            let finding = certificate::shown(finding, shown, &trust);
            certificate::dated(finding, shown, &trust).by("wire")
        }
    }
}

fn protocol(probe: &Probe, prober: &Prober) -> Finding {
    let subject = probe.name();
    match &probe.versions {
        Stage::NotReached | Stage::NotWanted => unreached(Check::Protocol, probe, prober),
        Stage::Failed(reason) => Finding::failed(Check::Protocol, subject, reason).by("wire"),
        Stage::Done(versions) => release::of_server(subject, versions).by("wire"),
    }
}

fn login(probe: &Probe, about: &About<'_>) -> Finding {
    let subject = probe.name();
    let finding = match &probe.login {
        Stage::NotReached => return unreached(Check::Login, probe, about.prober),
        Stage::NotWanted => {
            let why = match about.prober.trust().own.is_empty() {
                true => "'security.protocol' asks for none",
                false => {
                    "the certificate of 'ssl.certificate.location' or 'ssl.keystore.location' is the login"
                }
            };
            return Finding::skipped(Check::Login, subject, why);
        }
        Stage::Failed(reason) => Finding::failed(Check::Login, subject, reason),
        Stage::Done(lifetime) => {
            let mut text = about.prober.mechanism().unwrap_or_default().to_owned();
            if let Some(user) = about.user {
                text.push_str(&format!(" as '{user}'"));
            }
            if let Some(lifetime) = lifetime {
                text.push_str(&format!(", again after {} s", lifetime.as_secs()));
            }
            Finding::new(Check::Login, subject, Outcome::Ok, text)
        }
    };
    let mut finding = finding.by("wire");
    if let Some(mechanism) = about.prober.mechanism() {
        finding = finding.fact("mechanism", mechanism);
    }
    if !probe.offered.is_empty() {
        let offered = listed(probe.offered.iter());
        finding = finding
            .note(format!("the broker offers {offered}"))
            .fact("offered", probe.offered.clone());
    }
    finding
}

/// A step that was not reached, and why.
fn unreached(check: Check, probe: &Probe, prober: &Prober) -> Finding {
    let subject = probe.name();
    if let (true, Some(reason)) = (probe.is_connected(), prober.unsupported()) {
        let why = format!(
            "the wire client does not support {reason}; librdkafka does this as a part of 'cluster'"
        );
        return Finding::skipped(check, subject, &why);
    }
    let why = if probe.addresses.is_err() {
        "the name does not resolve"
    } else if !probe.is_connected() {
        "there is no connection"
    } else if matches!(probe.tls, Stage::Failed(_)) {
        "the TLS handshake failed"
    } else {
        "the server does not answer in Kafka's protocol"
    };
    Finding::skipped(check, subject, why)
}

/// `0.3 ms`, `12 ms`.
pub(super) fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms < 10.0 {
        true => format!("{ms:.1} ms"),
        false => format!("{ms:.0} ms"),
    }
}
