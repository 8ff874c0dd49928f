//! Jobs on workers over records that are gone or do not decode: as on one machine.

use std::fmt::Write as _;

use super::crossed::{CLIENTS, Job, PARTITIONS, Reads, numbered, table, without_worker};
use super::support::produce::{Record, produce};
use super::support::read::{Isolation, read};
use super::support::{admin, shared};
use super::{addresses, start, text};

/// A batch whose ranges were fixed before the start of the log moved: by what the table says of it.
#[test]
fn a_batch_of_records_that_are_gone_fails_or_counts_them() {
    let brokers = shared().bootstrap();
    let workers = start(2);
    let all = addresses(&workers);
    for (policy, code, left) in [("fail", 5, 0), ("skip", 0, 80)] {
        for client in CLIENTS {
            let topic = admin::unique_topic("gone");
            admin::create_topic(brokers, &topic, PARTITIONS, &[]);
            for partition in 0..PARTITIONS {
                produce(brokers, &topic, &numbered(partition, 0..40));
            }
            let declared = table(
                &topic,
                &format!("'value.format' 'json', 'on.data.loss' '{policy}'"),
            );
            let settings = &[("kafka.client", client)];
            let both = [None, Some(all.as_str())].map(|workers| {
                let folder = tempfile::tempdir().expect("a folder");
                let reads = Reads { workers, settings };
                let job = Job::new(folder.path(), &declared, "");
                let file = job.file();
                let mut crashed = reads.command();
                crashed.env("KAFKA_SQL_FAULT", "after-intent:1");
                crashed.args(["run", &file, "--available-now", "--max-offsets", "90"]);
                let crashed = crashed.output().expect("the shell runs");
                assert!(!crashed.status.success(), "{}", text(&crashed));
                (folder, reads)
            });
            admin::delete_records(brokers, &topic, 0, 15);
            admin::delete_records(brokers, &topic, 2, 25);
            let [here, there] = both.map(|(folder, reads)| {
                let job = Job {
                    folder: folder.path(),
                };
                let said = job.run(reads, &[]);
                said + &job.rows()
            });
            let case = format!("{policy} {client}");
            // Two partitions have lost offsets, and either may be read first.
            let first = |said: &str| said.replace("[2]", "[0]").replace("25", "15");
            assert_eq!(first(&there), first(&here), "{case}");
            assert!(
                here.contains(&format!("code Some({code})")),
                "{case}: {here}"
            );
            let rows = here.lines().filter(|line| line.split(' ').count() == 3);
            let rows = rows.filter(|line| line.starts_with(char::is_numeric));
            assert_eq!(rows.count(), left, "{case}: {here}");
        }
    }
}

/// Records that do not decode, in jobs and exports: set aside together with the rows, and too many of them.
#[test]
fn dead_letters_and_limits_are_those_of_one_machine() {
    let brokers = shared().bootstrap();
    let workers = start(2);
    let all = addresses(&workers);
    let topic = admin::unique_topic("bad");
    admin::create_topic(brokers, &topic, PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        let mut records = numbered(partition, 0..40);
        for at in [3, 17, 30] {
            records[at] = Record::new(partition)
                .key(format!("k{at}"))
                .value("no json");
        }
        produce(brokers, &topic, &records);
    }
    let cases = [
        ("'on.bad.row' 'dlq'", 0),
        ("'on.bad.row' 'dlq', 'dlq.location' 'FOLDER/'", 0),
        ("'on.bad.row' 'dlq', 'bad.row.limit' '9'", 0),
        ("'on.bad.row' 'dlq', 'bad.row.limit' '8'", 6),
        ("'on.bad.row' 'skip', 'bad.row.limit' '9'", 0),
        ("'on.bad.row' 'skip', 'bad.row.limit' '8'", 6),
        ("'on.bad.row' 'skip', 'bad.row.limit' '10%'", 0),
        ("'on.bad.row' 'skip', 'bad.row.limit' '5%'", 6),
        ("'on.bad.row' 'fail'", 1),
    ];
    for (export, (options, code)) in [false, true]
        .into_iter()
        .flat_map(|e| cases.map(|c| (e, c)))
    {
        let case = format!("export {export}: {options}");
        let made = [None, Some(all.as_str())].map(|workers| {
            let folder = tempfile::tempdir().expect("a folder");
            let dead = admin::unique_topic("dead");
            let place = folder.path().join("dead");
            let place = place.to_str().expect("UTF-8");
            let mut options = format!("'value.format' 'json', {options}").replace("FOLDER", place);
            let in_topic = options.contains("dlq") && !options.contains(place);
            if in_topic {
                admin::create_topic(brokers, &dead, 1, &[]);
                let _ = write!(options, ", 'dlq.topic' '{dead}'");
            }
            let job = Job::new(folder.path(), &table(&topic, &options), "");
            let reads = Reads {
                workers,
                settings: &[],
            };
            let file = job.file();
            let mut command = reads.command();
            if export {
                let out = folder.path().join("out");
                command.args(["export", &topic, "--max-file-offsets", "25", "-o"]);
                command.arg(out);
                for option in options.split(", ") {
                    let option = option.replace("' '", "=").replace('\'', "");
                    command.args(["--option", &option]);
                }
            } else {
                // One batch, so that all of its bad records count.
                command.args(["-q", "run", &file, "--available-now"]);
            }
            let output = command.output().expect("the shell runs");
            let mut letters = vec![];
            if options.contains(place) {
                let sql = format!(
                    "CREATE EXTERNAL TABLE dead STORED AS PARQUET LOCATION '{place}/'; \
                     SELECT * FROM dead ORDER BY partition, \"offset\""
                );
                let here = Reads {
                    workers: None,
                    settings: &[],
                };
                letters.extend(
                    here.said(&["query", &sql])
                        .lines()
                        .skip(1)
                        .map(str::to_owned),
                );
                letters.retain(|line| line.starts_with("bad-"));
            }
            if in_topic {
                for record in read(brokers, &dead, 0, Isolation::ReadCommitted) {
                    letters.push(format!(
                        "{:?} {:?} {:?}",
                        record.key, record.value, record.headers
                    ));
                }
            }
            letters.sort_unstable();
            let error = without_worker(&String::from_utf8_lossy(&output.stderr));
            let rows = match export {
                true => std::fs::read_to_string(folder.path().join("out/manifest.json"))
                    .unwrap_or_default(),
                false => job.rows(),
            };
            (output.status.code(), error, rows, letters)
        });
        let [here, there] = made;
        assert_eq!(here.0, Some(code), "{case}: {here:?}");
        assert_eq!(there.0, Some(code), "{case}: {there:?}");
        assert_eq!(there.2, here.2, "{case}");
        assert_eq!(there.3, here.3, "{case}");
        let letters = if options.contains("dlq") && code == 0 {
            9
        } else {
            0
        };
        assert_eq!(here.3.len(), letters, "{case}: {here:?}");
    }
}
