//! Topics that lose records, are made again or grow while they are read, or between two readings.

use datafusion_kafka::Error;

use super::bed::{Bed, Job, LIMIT, marked};
use super::gate::Gate;
use super::tried::{CLIENTS, Outcomes, Row, Tried, column, tried};
use crate::support::documented::documented;
use crate::support::read::{Isolation, read};
use crate::support::{admin, cluster, wait_until};

documented!(
    "faults.md",
    "Topics that change",
    [
        "scan, wire",
        "scan, librdkafka",
        "pinned, wire",
        "pinned, librdkafka",
        "job, wire",
        "job, librdkafka",
    ],
    [
        deleterecords_passes_the_range,
        retention_passes_the_range,
        records_compacted,
        topic_deleted,
        topic_recreated_shorter,
        topic_recreated_longer,
        partitions_added,
    ],
    slow []
);

/// The records of each partition.
const RECORDS: usize = 600;
/// Where the scan and the job stand when the topic changes.
const HELD_AT: i64 = 150;
/// What the job has taken over of each of three partitions.
const TAKEN: i64 = 150;

/// A topic that is changed while a scan is under way, a snapshot of it is kept and a job has taken a part over.
struct Change {
    partitions: i32,
    create: fn(&str, &str),
    change: fn(&Bed),
    /// What a scan that found these rows, or a snapshot that found none before, shall find, if it is no error.
    expected: fn(&Bed, &[Row]) -> Vec<Row>,
    /// The same for the job.
    of_job: fn(&Bed) -> Vec<Row>,
}

const CHANGE: Change = Change {
    partitions: 3,
    create: |bootstrap, topic| {
        let all: &[&[i32]] = &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]];
        admin::create_replicated_topic(bootstrap, topic, all, &[]);
    },
    change: |_| {},
    expected: |_, _| originals(),
    of_job: |_| originals(),
};

fn originals() -> Vec<Row> {
    (0..3)
        .flat_map(|p| marked(p, 0, RECORDS as i64, 'a'))
        .collect()
}

impl Change {
    async fn meets_readers(self) -> Outcomes {
        let cluster = cluster::shared().await;
        let bed = tokio::task::block_in_place(|| {
            let bed = Bed::of(cluster.bootstrap(), admin::unique_topic("faults"));
            (self.create)(&bed.bootstrap, &bed.topic);
            (0..self.partitions).for_each(|p| bed.produce(p, RECORDS, 'a'));
            bed
        });
        let (mut scans, mut snapshots, mut jobs) = (vec![], vec![], vec![]);
        for client in CLIENTS {
            let gate = Gate::at(HELD_AT);
            let mut scan = bed.reader(column("scan", client), &gate, async move |bed, gate| {
                bed.scan(client, &gate, "").await
            });
            scan.stands().await;
            scans.push(scan);
            snapshots.push((client, bed.snapshot(client, "").await.unwrap()));
            let job = Job::new(&bed, client);
            job.step((TAKEN * i64::from(self.partitions)) as u64).await;
            jobs.push((client, job));
        }
        tokio::task::block_in_place(|| (self.change)(&bed));
        let expected = |rows: &[Row]| tokio::task::block_in_place(|| (self.expected)(&bed, rows));
        let of_jobs = tokio::task::block_in_place(|| (self.of_job)(&bed));
        let mut outcomes = Outcomes::new();
        for scan in scans {
            assert!(!scan.has_ended(), "{}", scan.column);
            scan.gate.open();
            let column = scan.column.clone();
            let read = scan.done(LIMIT).await;
            let outcome = match &read.1 {
                Some(Error::TopicRecreated { .. }) if column.ends_with("librdkafka") => {
                    "TopicRecreated (late)".to_owned()
                }
                _ => bed.outcome(&read, &expected(&read.0)),
            };
            outcomes.insert(column, outcome);
        }
        for (client, snapshot) in snapshots {
            let read = tokio::time::timeout(LIMIT, bed.pinned(client, snapshot)).await;
            let outcome = bed.outcome(&read.expect("it ends in time"), &expected(&[]));
            outcomes.insert(column("pinned", client), outcome);
        }
        for (client, job) in jobs {
            let read = tokio::time::timeout(LIMIT, job.run(&Gate::at(i64::MAX), 10_000)).await;
            let outcome = bed.outcome(&read.expect("it ends in time"), &of_jobs);
            outcomes.insert(column("job", client), outcome);
        }
        outcomes
    }
}

async fn deleterecords_passes_the_range(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let change = Change {
        change: |bed| admin::delete_records(&bed.bootstrap, &bed.topic, 0, 550),
        ..CHANGE
    };
    tried(&ALL, column, change.meets_readers()).await
}

async fn retention_passes_the_range(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let change = Change {
        change: |bed| {
            admin::alter_topic(&bed.bootstrap, &bed.topic, &[("retention.ms", "1000")]);
            wait_until(LIMIT, "the records have expired", || {
                let starts = (0..3).map(|p| admin::watermarks(&bed.bootstrap, &bed.topic, p).start);
                starts
                    .into_iter()
                    .all(|start| start == RECORDS as i64)
                    .then_some(())
            });
        },
        ..CHANGE
    };
    tried(&ALL, column, change.meets_readers()).await
}

/// Each key keeps its last record, which are the last ten of the range. A scan has fetched a part of the others before.
async fn records_compacted(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let change = Change {
        partitions: 1,
        create: |bootstrap, topic| admin::create_compacted_topic(bootstrap, topic, 1),
        change: |bed| {
            admin::compact(&bed.bootstrap, &bed.topic, 0);
        },
        expected: |bed, rows| {
            let left = left(bed);
            let fetched = rows
                .iter()
                .filter(|row| !left.contains(row))
                .map(|row| row.1 + 1);
            let fetched = fetched.max().unwrap_or(0);
            assert!(
                fetched < RECORDS as i64 - 100,
                "compaction came too late: {fetched}"
            );
            let rest = left
                .into_iter()
                .filter(|row| (fetched..RECORDS as i64).contains(&row.1));
            marked(0, 0, fetched, 'a').into_iter().chain(rest).collect()
        },
        of_job: |bed| {
            let rest = left(bed).into_iter().filter(|row| row.1 >= TAKEN);
            marked(0, 0, TAKEN, 'a').into_iter().chain(rest).collect()
        },
    };
    tried(&ALL, column, change.meets_readers()).await
}

/// The records that are in the log of partition 0.
fn left(bed: &Bed) -> Vec<Row> {
    let records = read(&bed.bootstrap, &bed.topic, 0, Isolation::ReadUncommitted);
    let mark = |value: Option<Vec<u8>>| value.map_or(' ', |value| char::from(value[0]));
    let rows = records
        .into_iter()
        .map(|record| (0, record.offset, mark(record.value)));
    rows.collect()
}

async fn topic_deleted(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let change = Change {
        change: |bed| admin::delete_topic(&bed.bootstrap, &bed.topic),
        ..CHANGE
    };
    tried(&ALL, column, change.meets_readers()).await
}

fn recreate(bed: &Bed, records: usize) {
    admin::delete_topic(&bed.bootstrap, &bed.topic);
    (CHANGE.create)(&bed.bootstrap, &bed.topic);
    (0..3).for_each(|p| bed.produce(p, records, 'b'));
}

async fn topic_recreated_shorter(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let change = Change {
        change: |bed| recreate(bed, 100),
        ..CHANGE
    };
    tried(&ALL, column, change.meets_readers()).await
}

async fn topic_recreated_longer(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let change = Change {
        change: |bed| recreate(bed, 700),
        ..CHANGE
    };
    tried(&ALL, column, change.meets_readers()).await
}

/// A scan and a snapshot have their ranges. A job reads new partitions from their start.
async fn partitions_added(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    let change = Change {
        change: |bed| {
            admin::grow_topic(&bed.bootstrap, &bed.topic, 4);
            bed.produce(3, 20, 'b');
        },
        of_job: |_| {
            let all = originals().into_iter().chain(marked(3, 0, 20, 'b'));
            all.collect()
        },
        ..CHANGE
    };
    tried(&ALL, column, change.meets_readers()).await
}
