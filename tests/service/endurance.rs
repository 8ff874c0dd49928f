//! Ten jobs for a long time, with a broker that stands still and dies.

use std::time::{Duration, Instant};

use crate::running::{Files, LIMIT, PARTITIONS, Running, produce_to, section};
use crate::support::{KafkaOptions, KafkaServer, admin, wait_until};

const JOBS: usize = 10;
/// What a process may have more of at the end than when it was warm: connections come and go.
const MORE_DESCRIPTORS: f64 = 40.0;
const MORE_THREADS: f64 = 16.0;
const MORE_BYTES: f64 = 100.0 * 1024.0 * 1024.0;

/// `KAFKA_SQL_TEST_MINUTES=60` makes it an hour.
#[test]
#[ignore = "runs for ten minutes"]
fn ten_jobs_deliver_once_while_the_broker_stands_still_and_dies() {
    let minutes = std::env::var("KAFKA_SQL_TEST_MINUTES");
    let minutes: u64 = minutes.map_or(10, |text| text.parse().expect("minutes"));
    let mut server = KafkaServer::start(KafkaOptions::default());
    let files = Files::over(server.bootstrap());
    let names: Vec<String> = (0..JOBS).map(|n| format!("job{n}")).collect();
    let topics: Vec<String> = (0..3).map(|_| admin::unique_topic("endurance")).collect();
    for topic in &topics {
        admin::create_topic(server.bootstrap(), topic, PARTITIONS, &[]);
    }
    let sections = names.iter().map(|name| section(name, "deadline = \"5s\""));
    files.service(&sections.collect::<String>());
    for (name, topic) in names.iter().zip(topics.iter().cycle()) {
        files.job(name, topic);
    }
    let service = Running::start(&files);
    let mut produced = 0;
    let mut produce = |server: &KafkaServer| {
        for topic in &topics {
            produce_to(server.bootstrap(), topic, 300);
        }
        produced += 300;
        produced
    };
    let all_deliver = |produced: usize| {
        for name in &names {
            files.wait_for_each_once(name, produced);
        }
        service.wait_until_ready();
    };
    all_deliver(produce(&server));
    let usage = || {
        let names = ["open_fds", "threads", "resident_memory_bytes"];
        names.map(|name| {
            let value = service.metric(&format!("process_{name} "));
            value.expect("the system tells")
        })
    };
    let warm = usage();
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        match round % 4 {
            0 => {
                server.freeze();
                wait_until(LIMIT, "the probe notices", || {
                    (service.get("/readyz").0 == 503).then_some(())
                });
                assert_eq!(service.get("/livez").0, 200);
                server.thaw();
            }
            1 => {
                server.kill();
                server.restart();
            }
            2 => service.signal("HUP"),
            _ => {}
        }
        all_deliver(produce(&server));
        if std::env::var_os("KAFKA_SQL_TEST_VERBOSE").is_some() {
            eprintln!("round {round}: {:?}", usage());
        }
    }
    let [descriptors, threads, bytes] = usage();
    let said = format!(
        "{warm:?} when warm, {:?} after {round} rounds",
        [descriptors, threads, bytes]
    );
    assert!(descriptors <= warm[0] + MORE_DESCRIPTORS, "{said}");
    assert!(threads <= warm[1] + MORE_THREADS, "{said}");
    assert!(bytes <= warm[2] + MORE_BYTES, "{said}");
    for name in &names {
        let committed =
            format!("kafka_sql_job_batches_total{{job=\"{name}\",result=\"committed\"}}");
        let batches = service.metric(&committed).expect("a count");
        assert!(batches >= f64::from(round), "{name}: {batches}");
    }
    let (ended, said) = service.end();
    assert!(ended.success(), "{said}");
}
