//! Answers that break off or are damaged at every byte: `docs/faults.md`.

use std::collections::BTreeSet;

use super::proxied::{bed, outcome, session};
use crate::support::documented::documented;
use crate::support::proxy::{Of, Strike};

/// Of the head of a record batch, those bytes that its checksum does not cover: base offset, length, leader
/// epoch, version, and the checksum itself.
const UNCHECKED: std::ops::Range<i64> = 0..21;
/// The head of a record batch.
const HEAD: i64 = 61;
/// What the value of the first record begins with, behind that head and seven bytes of the record.
const FIRST: &[u8] = b"0000000000000000abcdef";
const FIRST_AT: i64 = HEAD + 8;

documented!(
    "faults.md",
    "Cut and damaged bytes",
    ["wire", "librdkafka"],
    [
        an_answer_is_cut,
        a_request_is_cut,
        a_bit_of_a_record_is_flipped,
        a_bit_of_a_base_offset_is_flipped,
        a_bit_of_a_batch_s_length_epoch_or_version_is_flipped,
        a_bit_of_any_other_byte_is_flipped,
    ],
    slow [an_answer_is_cut_at_each_byte, a_bit_of_each_other_byte_is_flipped]
);

/// How long it waits for an answer, and for progress.
type Limits = [(&'static str, &'static str); 2];
/// Where it ends at once or goes on, whatever else the machine does.
const PATIENT: Limits = [
    ("request.timeout.ms", "15000"),
    ("read.timeout.ms", "10000"),
];
/// Where it may be left waiting.
const SHORT: Limits = [("request.timeout.ms", "3000"), ("read.timeout.ms", "3000")];

/// What comes of reading a record batch of 20 kB by a new client, which is struck at a byte.
async fn struck(
    client: &str,
    limits: Limits,
    strike: impl FnOnce(&crate::support::proxy::Proxy),
) -> (String, u64, bool) {
    let (bed, way) = (bed(), bed().way());
    let settings = [&[("kafka.client", client)], &limits[..]].concat();
    let context = session(&way.address(), &settings);
    let before = way.forwarded(Of::Answers);
    strike(&way);
    let outcome = outcome(&context, &bed.small, || {}).await;
    (
        outcome,
        way.forwarded(Of::Answers) - before,
        way.has_struck(),
    )
}

/// All that came of strikes at these places, which must all have been met.
async fn all(
    client: &str,
    limits: Limits,
    places: impl IntoIterator<Item = u64>,
    strike: impl Fn(&crate::support::proxy::Proxy, u64),
) -> String {
    let mut found = BTreeSet::new();
    let (mut met, mut tried) = (0, 0);
    for place in places {
        // What comes in pieces may pass the place by.
        let mut tries = 0..5;
        let (outcome, has_struck) = loop {
            let (outcome, _, has_struck) =
                struck(client, limits, |proxy| strike(proxy, place)).await;
            if has_struck || outcome != "exact" || tries.next().is_none() {
                break (outcome, has_struck);
            }
        };
        if outcome != "exact" {
            eprintln!("{client} at {place}: {outcome}");
        }
        tried += 1;
        met += usize::from(has_struck);
        found.insert(outcome);
    }
    // A client may end before it gets to the last bytes.
    assert!(met * 10 >= tried * 9, "{met} of {tried} strikes were met");
    // Best first.
    let exact = found.take("exact");
    exact
        .into_iter()
        .chain(found)
        .collect::<Vec<_>>()
        .join(" or ")
}

/// How many bytes of answers it takes.
async fn total(client: &str) -> u64 {
    let (outcome, bytes, _) = struck(client, PATIENT, |_| {}).await;
    assert_eq!(outcome, "exact");
    bytes
}

async fn an_answer_is_cut(client: &str) -> String {
    let all_bytes = total(client).await;
    // Each of the first bytes of an answer's head, then fewer.
    let places = (0..12).chain((12..all_bytes).step_by(631));
    all(client, PATIENT, places, |proxy, at| {
        proxy.strike(Of::Answers, at, Strike::Cut)
    })
    .await
}

async fn an_answer_is_cut_at_each_byte(client: &str) -> String {
    let all_bytes = total(client).await;
    let places = (0..2000).chain((2000..all_bytes).step_by(97));
    all(client, PATIENT, places, |proxy, at| {
        proxy.strike(Of::Answers, at, Strike::Cut)
    })
    .await
}

async fn a_request_is_cut(client: &str) -> String {
    all(client, PATIENT, (0..240).step_by(11), |proxy, at| {
        proxy.strike(Of::Requests, at, Strike::Cut);
    })
    .await
}

/// Flips bits of the record batch, at bytes that count from its head.
async fn flips(client: &str, limits: Limits, bytes: impl IntoIterator<Item = i64>) -> String {
    let places = bytes.into_iter().map(|byte| byte.unsigned_abs());
    all(client, limits, places, |proxy, byte| {
        let behind = i64::try_from(byte).expect("small") - FIRST_AT;
        proxy.strike_behind(FIRST, behind, Strike::Flip(1 << (byte % 8)));
    })
    .await
}

async fn a_bit_of_a_record_is_flipped(client: &str) -> String {
    flips(
        client,
        PATIENT,
        (UNCHECKED.end..90).chain((90..20_000).step_by(1201)),
    )
    .await
}

async fn a_bit_of_a_base_offset_is_flipped(client: &str) -> String {
    flips(client, PATIENT, 0..8).await
}

async fn a_bit_of_a_batch_s_length_epoch_or_version_is_flipped(client: &str) -> String {
    flips(client, SHORT, 8..UNCHECKED.end).await
}

/// All answers up to the records: of the handshake, about the topic, and the head of the one with records.
async fn a_bit_of_any_other_byte_is_flipped(client: &str) -> String {
    others(client, 101).await
}

async fn a_bit_of_each_other_byte_is_flipped(client: &str) -> String {
    others(client, 1).await
}

async fn others(client: &str, step: usize) -> String {
    let records = 100 * 208;
    let before_records = total(client).await - records;
    let found = all(
        client,
        SHORT,
        (0..before_records).step_by(step),
        |proxy, at| {
            proxy.strike(Of::Answers, at, Strike::Flip(1 << (at % 8)));
        },
    )
    .await;
    match found.as_str() {
        "exact" => found,
        _ => "exact or an error".to_owned(),
    }
}
