//! Logs that lose their end: a follower that lags behind becomes the leader (an unclean election).

use super::bed::{Bed, Job, LIMIT, marked};
use super::gate::Gate;
use super::tried::{CLIENTS, Outcomes, Tried, column, tried};
use crate::support::cluster;
use crate::support::documented::documented;

documented!(
    "faults.md",
    "Logs that are cut",
    [
        "scan, wire",
        "scan, librdkafka",
        "pinned, wire",
        "pinned, librdkafka",
        "batch of a job, wire",
        "batch of a job, librdkafka",
        "resumed job, wire",
        "resumed job, librdkafka",
        "fixed batch, wire",
        "fixed batch, librdkafka",
        "fixed batch with skip, wire",
        "fixed batch with skip, librdkafka",
    ],
    [],
    slow [
        cut_before_the_position,
        cut_before_the_position_and_nothing_written_since,
        cut_behind_the_position,
        cut_behind_the_position_and_nothing_written_since,
    ]
);

/// Where the log is cut, and where it ended.
const CUT: i64 = 300;
const END: i64 = 600;
/// Longer than it was.
const GROWN: usize = 450;

/// A log of 600 records is cut at 300, and perhaps grows again, while readers stand at a position. A scan and a batch
/// go up to the old end, the snapshot and the earlier batch of the resumed job up to the position. A batch that was fixed
/// from there up to the old end is run when the log was cut.
async fn cut(position: i64, written: usize) -> Outcomes {
    let mut cluster = cluster::shared().await;
    let settings = [
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "1"),
    ];
    // The follower lacks the second half.
    let bed = tokio::task::block_in_place(|| {
        let bed = Bed::new(&cluster, &[&[1, 2]], &settings);
        bed.produce(0, CUT as usize, 'a');
        cluster.node_mut(2).kill();
        bed.produce(0, (END - CUT) as usize, 'a');
        bed
    });
    let range = format!("0:{position}");
    let (mut readers, mut snapshots, mut jobs) = (vec![], vec![], vec![]);
    for client in CLIENTS {
        let gate = || Gate::at(position);
        readers.push(
            bed.reader(column("scan", client), &gate(), async move |bed, gate| {
                bed.scan(client, &gate, "").await
            }),
        );
        readers.push(bed.reader(
            column("batch of a job", client),
            &gate(),
            async move |bed, gate| Job::new(&bed, client).run(&gate, END as u64).await,
        ));
        snapshots.push((client, bed.snapshot(client, &range).await.unwrap()));
        let end = (END - position) as u64;
        for (name, losses, fixed) in [
            ("resumed job", bed.clone(), false),
            ("fixed batch", bed.clone(), true),
            ("fixed batch with skip", bed.skipping(), true),
        ] {
            let job = Job::new(&losses, client);
            job.step(position as u64).await;
            if fixed {
                job.fix(end).await;
            }
            jobs.push((column(name, client), job));
        }
    }
    for reader in &mut readers {
        reader.stands().await;
    }
    tokio::task::block_in_place(|| {
        // Node 3 and the follower form a quorum, and only the follower has the log.
        cluster.node_mut(1).kill();
        cluster.node_mut(2).restart();
        cluster.wait_for_leader(&bed.topic, 0, 2);
        bed.produce(0, written, 'b');
    });
    let all = marked(0, 0, END, 'a');
    let mut outcomes = Outcomes::new();
    for reader in readers {
        reader.gate.open();
        let column = reader.column.clone();
        let read = reader.done(LIMIT).await;
        outcomes.insert(column, bed.outcome(&read, &all));
    }
    for (client, snapshot) in snapshots {
        let read = tokio::time::timeout(LIMIT, bed.pinned(client, snapshot)).await;
        let outcome = bed.outcome(
            &read.expect("it ends in time"),
            &marked(0, 0, position, 'a'),
        );
        outcomes.insert(column("pinned", client), outcome);
    }
    // What was cut away and taken over before stays; what stands there now follows.
    let mut expected = marked(0, 0, position, 'a');
    expected.extend(marked(0, position, CUT, 'a'));
    expected.extend(marked(0, CUT, CUT + written as i64, 'b'));
    for (column, job) in jobs {
        let read = tokio::time::timeout(LIMIT, job.run(&Gate::at(i64::MAX), 10_000)).await;
        let outcome = bed.outcome(&read.expect("it ends in time"), &expected);
        outcomes.insert(column, outcome);
    }
    outcomes
}

async fn cut_before_the_position(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, column, cut(450, GROWN)).await
}

async fn cut_before_the_position_and_nothing_written_since(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, column, cut(450, 0)).await
}

async fn cut_behind_the_position(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, column, cut(150, GROWN)).await
}

async fn cut_behind_the_position_and_nothing_written_since(column: &str) -> String {
    static ALL: Tried = Tried::const_new();
    tried(&ALL, column, cut(150, 0)).await
}
