//! What certificates say of themselves.

use jiff::Timestamp;

use super::finding::{Finding, Outcome};
use crate::client::wire::security::{Shown, Trust};

/// A certificate that expires within this time is worth a warning.
const SOON_DAYS: i64 = 30;
const SECONDS_A_DAY: i64 = 24 * 60 * 60;
/// The most hosts of a certificate that are shown.
const HOSTS_MOST: usize = 20;

#[cfg_attr(not(feature = "ssl"), allow(dead_code))]
struct Certificate {
    subject: String,
    issuer: String,
    /// The hosts that it is for: names and addresses.
    hosts: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

#[cfg(feature = "ssl")]
fn read(der: &[u8]) -> Option<Certificate> {
    use std::net::IpAddr;

    use x509_parser::extensions::GeneralName;
    use x509_parser::parse_x509_certificate;

    let (_, parsed) = parse_x509_certificate(der).ok()?;
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|a| a.to_string())
        }
        _ => None,
    };
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| &extension.value.general_names);
    let time = |seconds: i64| Timestamp::from_second(seconds).ok();
    Some(Certificate {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        hosts: names.into_iter().flatten().filter_map(host).collect(),
        not_before: time(parsed.validity().not_before.timestamp())?,
        not_after: time(parsed.validity().not_after.timestamp())?,
    })
}

#[cfg(not(feature = "ssl"))]
fn read(_: &[u8]) -> Option<Certificate> {
    None
}

/// Adds what a broker's certificates say, and whom this client trusts.
pub(super) fn shown(mut finding: Finding, shown: &Shown, trust: &Trust) -> Finding {
    let chain: Vec<Certificate> = shown.chain.iter().filter_map(|der| read(der)).collect();
    if let Some(leaf) = chain.first() {
        let mut hosts = leaf.hosts.clone();
        let more = hosts.len().saturating_sub(HOSTS_MOST);
        hosts.truncate(HOSTS_MOST);
        let mut listed = hosts.join(", ");
        if more > 0 {
            listed.push_str(&format!(" and {more} more"));
        }
        if listed.is_empty() {
            listed.push_str("no host");
        }
        finding = finding
            .note(format!("certificate of {}, for {listed}", leaf.subject))
            .note(format!(
                "valid from {} to {}",
                leaf.not_before, leaf.not_after
            ))
            .fact("subject", leaf.subject.clone())
            .fact("hosts", hosts)
            .fact("not_before", leaf.not_before.to_string())
            .fact("not_after", leaf.not_after.to_string());
    }
    let issuers: Vec<String> = chain.iter().map(|c| c.issuer.clone()).collect();
    if !issuers.is_empty() {
        finding = finding
            .note(format!("signed by {}", issuers.join(", by ")))
            .fact("issuers", issuers);
    }
    if trust.trusted.is_empty() {
        return finding.note("certificates are not verified");
    }
    let trusted = match &trust.trusted[..] {
        few if few.len() <= 3 => {
            let names = few.iter().filter_map(|der| read(der));
            let names: Vec<String> = names.map(|c| c.subject).collect();
            names.join(", ")
        }
        all => format!("{} authorities", all.len()),
    };
    finding
        .note(format!("trusted: {trusted} ({})", trust.origin))
        .fact("trust", trust.origin.clone())
        .fact("trusted", trust.trusted.len())
}

/// Warns of certificates that are not verified, and of those that expire soon: the broker's, those of its signers, and the client's own.
pub(super) fn dated(mut finding: Finding, shown: &Shown, trust: &Trust) -> Finding {
    if trust.trusted.is_empty() {
        finding.outcome = Outcome::Warning;
        finding = finding.advise(
            "anybody in between could read along: set 'enable.ssl.certificate.verification' = 'true', and \
             'ssl.ca.location' if need be",
        );
    }
    let now = Timestamp::now();
    for (whose, chain) in [
        ("the broker's", &shown.chain),
        ("this client's", &trust.own),
    ] {
        let soonest = chain.iter().filter_map(|der| read(der));
        let Some(soonest) = soonest.min_by_key(|c| c.not_after) else {
            continue;
        };
        let days = (soonest.not_after.as_second() - now.as_second()).div_euclid(SECONDS_A_DAY);
        if days >= SOON_DAYS {
            continue;
        }
        let subject = &soonest.subject;
        let text = match days {
            ..0 => format!("{whose} certificate, of {subject}, has expired"),
            days => {
                let left = super::count(usize::try_from(days).unwrap_or_default(), "day");
                format!("{whose} certificate, of {subject}, expires in {left}")
            }
        };
        finding.text = format!("{}; {text}", finding.text);
        finding.outcome = Outcome::Warning;
        finding = finding
            .advise(format!("have it renewed before {}", soonest.not_after))
            .fact("days_left", days);
    }
    finding
}
