//! A connection with masks: no worker shows more than the coordinator would, whatever settings it has, and the salt stays
//! where it is.

use datafusion::prelude::SessionContext;
use datafusion_kafka::client::memory::Record;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka_distributed::{OwnConnections, Worker};

use crate::bed::Bed;
use crate::engines::{BROKERS, rows};

const MARKER: &str = "Zq7mCarrotVw93kT";
const SALT: &str = "0123456789abcdef";
const ADDED_UP: &str = "masked.$.card=last4, masked.key, masked.headers";
const HASHED: &str = "masked.$.card=hash, masked.key=hash, masked.headers";

/// Scans alone, rows that go from worker to worker, and joins, whose hints stay on a machine.
const QUERIES: [&str; 6] = [
    "SELECT * FROM masked",
    "SELECT kafka_text(key) AS k, kafka_text(value) AS v, header(headers, 'h') AS h FROM masked",
    "SELECT v, count(*) FROM (SELECT kafka_text(value) AS v FROM masked) GROUP BY v ORDER BY v",
    "SELECT count(*) FROM masked WHERE key = 'Zq7mCarrotVw93kT' OR kafka_text(value) LIKE '%Zq7mCarrotVw93kT%'",
    "SELECT count(*) FROM masked a JOIN masked b ON a.key = b.key",
    "SELECT count(*) FROM masked a JOIN (VALUES ('Zq7mCarrotVw93kT')) AS w (k) ON a.key = w.k",
];

fn connection(masks: &str, salt: &str) -> ConnectionConfig {
    let mut config = ConnectionConfig::new(BROKERS);
    for (key, value) in [("mask", masks), ("mask.salt", salt)] {
        if !value.is_empty() {
            config.set(key, value).unwrap();
        }
    }
    config
}

/// Two workers with these connections.
async fn bed(own: &[ConnectionConfig]) -> Bed {
    let mut bed = Bed::new(0).await;
    bed.cluster.create_topic("masked", 3).unwrap();
    for n in 0..30 {
        let record = Record::new(format!(r#"{{"id":1,"card":"{MARKER}"}}"#))
            .with_key(MARKER)
            .with_header("h", Some(MARKER.as_bytes()));
        bed.cluster.append("masked", n % 3, record).unwrap();
    }
    for _ in 0..2 {
        let own = OwnConnections::new(own.to_vec(), bed.pool());
        bed.start(Worker::new(own)).await;
    }
    bed.behind_proxies();
    for worker in &bed.workers {
        worker.proxy.as_ref().unwrap().record();
    }
    bed
}

/// What workers were told and have answered.
fn on_the_way(bed: &Bed) -> Vec<u8> {
    let proxies = bed.workers.iter().flat_map(|worker| &worker.proxy);
    proxies
        .flat_map(|proxy| proxy.recorded())
        .flatten()
        .collect()
}

fn has(bytes: &[u8], text: &str) -> bool {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let has = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    has(text) || has(&hex)
}

/// The rows of each query, or what is said in their place.
async fn outcomes(session: &SessionContext) -> Vec<Result<Vec<String>, String>> {
    let mut all = vec![];
    for sql in QUERIES {
        all.push(rows(session, sql).await.map_err(|error| error.to_string()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_shows_what_the_coordinator_would_or_nothing() {
    let other = "fedcba9876543210";
    for (masks, salt, own, refused) in [
        // A worker without connections is told of the masks.
        (ADDED_UP, "", vec![], ""),
        (ADDED_UP, "", vec![connection("", "")], ""),
        (ADDED_UP, "", vec![connection(ADDED_UP, "")], ""),
        ("", "", vec![connection(ADDED_UP, "")], ""),
        (
            ADDED_UP,
            "",
            vec![connection("masked.value", "")],
            "this machine hides",
        ),
        // And of no salt.
        (HASHED, SALT, vec![], "it has none"),
        (HASHED, SALT, vec![connection("", "")], "set mask.salt"),
        (HASHED, SALT, vec![connection("", SALT)], ""),
        (HASHED, SALT, vec![connection(HASHED, SALT)], ""),
        (
            HASHED,
            SALT,
            vec![connection("", other)],
            "this machine hides",
        ),
    ] {
        let what = format!("{masks} {salt} {own:?}");
        let bed = bed(&own).await;
        let expected = match masks {
            "" => connection(ADDED_UP, ""),
            masks => connection(masks, salt),
        };
        let expected = outcomes(&bed.local_over(expected)).await;
        let session = bed.session_over(connection(masks, salt)).await;
        for (found, expected) in outcomes(&session).await.into_iter().zip(expected) {
            match refused {
                "" => assert_eq!(found, expected, "{what}"),
                why => {
                    let error = found.unwrap_err();
                    assert!(error.contains(why), "{what}: {error}");
                }
            }
        }
        let seen = on_the_way(&bed);
        assert!(seen.len() > 1000, "{what}");
        assert!(
            !has(&seen, SALT) && !has(&seen, other),
            "{what}: the salt travels"
        );
    }
}

/// Rows go between machines as they are shown.
#[tokio::test(flavor = "multi_thread")]
async fn the_marker_is_not_on_the_way() {
    for (masks, leaks) in [(ADDED_UP, false), ("", true)] {
        let bed = bed(&[]).await;
        let session = bed.session_over(connection(masks, "")).await;
        // The others have it in their text.
        for sql in &QUERIES[..3] {
            let found = rows(&session, sql).await.unwrap().concat();
            assert_eq!(has(found.as_bytes(), MARKER), leaks, "{sql}: {found}");
        }
        assert_eq!(has(&on_the_way(&bed), MARKER), leaks);
    }
}
