//! Explains what went wrong with TLS, and what to do about it.

use std::io;
use std::net::IpAddr;

use jiff::Timestamp;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::super::LIBRDKAFKA;
use super::Trouble;

/// Why a handshake with `host` failed. `trust` says where the trusted certificates came from.
pub(super) fn handshake(error: &io::Error, host: &str, trust: &str) -> Trouble {
    let reason = match tls_error(error) {
        Some(TlsError::InvalidCertificate(reason)) => certificate(reason, host, trust),
        Some(TlsError::AlertReceived(alert)) => said(*alert),
        Some(TlsError::InvalidMessage(_)) => {
            "it does not answer in TLS; for a listener without TLS set 'security.protocol' to \
             'plaintext' or 'sasl_plaintext'"
                .to_owned()
        }
        Some(TlsError::PeerIncompatible(reason)) => format!(
            "it shares no version or cipher of TLS with this client ({reason:?}); \
             {LIBRDKAFKA} may"
        ),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof
            || error.kind() == io::ErrorKind::ConnectionReset =>
        {
            "it closed the connection; for a listener without TLS set 'security.protocol' to \
             'plaintext' or 'sasl_plaintext'"
                .to_owned()
        }
        None => return Trouble::Io(format!("TLS handshake with {host}: {error}")),
    };
    Trouble::Refused(format!("TLS handshake with {host}: {reason}"))
}

/// What a broker says about this client over an established connection, if the error is that.
pub(super) fn refusal(error: &io::Error) -> Option<String> {
    match tls_error(error)? {
        TlsError::AlertReceived(alert) if is_about_us(*alert) => Some(said(*alert)),
        _ => None,
    }
}

/// Whether the network failed, rather than TLS.
pub(super) fn is_network(error: &io::Error) -> bool {
    tls_error(error).is_none()
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

fn certificate(error: &CertificateError, host: &str, trust: &str) -> String {
    match error {
        CertificateError::UnknownIssuer => format!(
            "its certificate is not signed by an authority among {trust}; name the authority's \
             certificate (PEM) in 'ssl.ca.location'"
        ),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!(
                "its certificate names no host (subject alternative name), so not {host} either; have one \
             made that does, or set 'ssl.endpoint.identification.algorithm' = 'none'; \
             {LIBRDKAFKA} looks at the common name too"
            )
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "its certificate is for {}, not for {}; connect by a name that it is for, or set \
             'ssl.endpoint.identification.algorithm' = 'none'",
            presented
                .iter()
                .map(|n| plain(n))
                .collect::<Vec<_>>()
                .join(", "),
            match expected {
                ServerName::IpAddress(_) => host.to_owned(),
                name => name.to_str().into_owned(),
            }
        ),
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "its certificate expired on {}; have it renewed, or set this machine's clock",
            day(*not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid before {}; set this machine's clock",
            day(*not_before)
        ),
        CertificateError::Expired => {
            "its certificate has expired; have it renewed, or set this machine's clock".to_owned()
        }
        CertificateError::NotValidYet => {
            "its certificate is not valid yet; set this machine's clock".to_owned()
        }
        other => format!("its certificate is not accepted: {other}; {LIBRDKAFKA} may accept it"),
    }
}

/// rustls prints names as `DnsName("localhost")` and `IpAddress(0::1)`.
fn plain(name: &str) -> String {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    let inner = inner.unwrap_or(name).trim_matches('"');
    match inner.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => inner.to_owned(),
    }
}

fn day(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok())
        .map_or_else(|| "an unknown day".to_owned(), |t| t.to_string())
}

fn is_about_us(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}

fn said(alert: AlertDescription) -> String {
    let no_version = format!("it has no version of TLS that this client has; {LIBRDKAFKA} may");
    let hint = match alert {
        AlertDescription::NoCertificate
        | AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::HandshakeFailure => {
            "does it expect a client certificate ('ssl.certificate.location' and 'ssl.key.location', \
             or 'ssl.keystore.location'), or another one?"
        }
        AlertDescription::UnknownCA => "it does not trust who signed this client's certificate",
        // Java sends this for any reason.
        AlertDescription::CertificateUnknown => {
            "it does not accept this client's certificate: it has expired, or the broker does not trust \
             who signed it"
        }
        AlertDescription::CertificateExpired => {
            "this client's certificate has expired: have it renewed, or look at the broker's clock"
        }
        AlertDescription::ProtocolVersion => &no_version,
        _ => "its log may say why",
    };
    format!("it refuses with the TLS alert '{alert:?}': {hint}")
}
