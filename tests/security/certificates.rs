//! Certificates of brokers: which are trusted, and what is said of the others.

use super::{Bed, config, outcome, read, settings};
use crate::support::Listener;
use crate::support::documented::documented;

documented!(
    "security.md",
    "Certificates of brokers",
    ["wire", "librdkafka"],
    [
        a_private_authority,
        an_intermediate_authority_whose_certificate_the_broker_sends,
        an_intermediate_authority_whose_certificate_is_missing,
        only_the_intermediate_authority_is_trusted,
        signed_by_itself_and_trusted,
        another_authority,
        expired,
        not_yet_valid,
        for_another_host,
        for_another_host_and_names_are_not_checked,
        nothing_is_checked,
        only_tls_1_2,
    ],
    slow []
);

/// Reads through a listener of the bed. `trusted` names the file with the authorities.
async fn tried(
    client: &str,
    listener: &'static str,
    trusted: &str,
    more: &[(&str, &str)],
) -> String {
    let bed = Bed::shared();
    let mut all = settings([
        ("kafka.client", client),
        ("security.protocol", "ssl"),
        ("ssl.ca.location", &bed.path(trusted)),
        (
            "bootstrap.servers",
            &bed.server.bootstrap_of(Listener::Named(listener)),
        ),
    ]);
    all.extend(settings(more.iter().copied()));
    let found = read(config(&all).expect("known settings"), &bed.topic).await;
    outcome(
        found,
        &[
            ("is not signed by an authority among", "unknown authority"),
            ("its certificate expired on", "expired"),
            ("its certificate is not valid before", "not yet valid"),
            (
                "its certificate is for elsewhere, not for localhost",
                "for another host",
            ),
            ("certificate could not be verified", "not verified"),
            ("certificate verify failed", "not verified"),
        ],
    )
}

async fn a_private_authority(client: &str) -> String {
    tried(client, "GOOD", "ca.pem", &[]).await
}

async fn an_intermediate_authority_whose_certificate_the_broker_sends(client: &str) -> String {
    tried(client, "CHAIN", "ca.pem", &[]).await
}

async fn an_intermediate_authority_whose_certificate_is_missing(client: &str) -> String {
    tried(client, "BARE", "ca.pem", &[]).await
}

async fn only_the_intermediate_authority_is_trusted(client: &str) -> String {
    tried(client, "CHAIN", "between.pem", &[]).await
}

async fn signed_by_itself_and_trusted(client: &str) -> String {
    tried(client, "SELF", "self.pem", &[]).await
}

async fn another_authority(client: &str) -> String {
    tried(client, "GOOD", "foreign.pem", &[]).await
}

async fn expired(client: &str) -> String {
    tried(client, "EXPIRED", "ca.pem", &[]).await
}

async fn not_yet_valid(client: &str) -> String {
    tried(client, "EARLY", "ca.pem", &[]).await
}

async fn for_another_host(client: &str) -> String {
    tried(client, "OTHER", "ca.pem", &[]).await
}

async fn for_another_host_and_names_are_not_checked(client: &str) -> String {
    let more = [("ssl.endpoint.identification.algorithm", "none")];
    tried(client, "OTHER", "ca.pem", &more).await
}

async fn nothing_is_checked(client: &str) -> String {
    let more = [("enable.ssl.certificate.verification", "false")];
    tried(client, "EXPIRED", "foreign.pem", &more).await
}

async fn only_tls_1_2(client: &str) -> String {
    tried(client, "OLD", "ca.pem", &[]).await
}
