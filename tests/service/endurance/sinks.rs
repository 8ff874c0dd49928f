//! The jobs, one kind of sink after the other, and what their sinks hold.

use std::collections::BTreeMap;

use super::World;
use crate::held::{self, AllHeld, COUNT, Held};
use crate::running::PARTITIONS;
use crate::support::read::{Isolation, read};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Parquet,
    Postgres,
    Sqlite,
    Kafka,
}

/// A job that copies the coordinates of a topic's records.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) topic: String,
    pub(super) kind: Kind,
}

impl Job {
    pub(super) fn new(number: usize, topics: &[String]) -> Self {
        const KINDS: [Kind; 4] = [Kind::Parquet, Kind::Postgres, Kind::Sqlite, Kind::Kafka];
        let kind = KINDS[number % KINDS.len()];
        Self {
            name: format!("job{number}_{}", format!("{kind:?}").to_lowercase()),
            topic: topics[number % topics.len()].clone(),
            kind,
        }
    }

    /// The topic that a job of the kind Kafka writes to.
    pub(super) fn out(&self) -> String {
        format!("{}-of-{}", self.name, self.topic)
    }

    /// The statements of its file.
    pub(super) fn statements(&self, world: &World) -> String {
        let name = &self.name;
        let columns = match self.kind {
            Kind::Kafka => {
                "CAST(partition AS VARCHAR) AS key, CAST(\"offset\" AS VARCHAR) AS value"
            }
            _ => "partition, \"offset\"",
        };
        let target = match self.kind {
            Kind::Parquet => format!("PARQUET LOCATION '{}/'", world.files.path(name).display()),
            Kind::Postgres => format!(
                "POSTGRES LOCATION '{}' OPTIONS ('table' '{name}', 'password' 'env:TEST_SINK_PASSWORD')",
                world.database.url("alice")
            ),
            Kind::Sqlite => format!(
                "SQLITE LOCATION '{}' OPTIONS ('table' 'out')",
                world.files.path(&format!("{name}.db")).display()
            ),
            Kind::Kafka => format!("KAFKA LOCATION '{}'", self.out()),
        };
        format!(
            "CREATE EXTERNAL TABLE out STORED AS {target};\n\
             INSERT INTO out SELECT {columns} FROM \"{}\";\n",
            self.topic
        )
    }

    /// What its sink holds, by partition. All servers must be up.
    pub(super) fn held(&self, world: &World) -> AllHeld {
        match self.kind {
            Kind::Parquet => held::of_parquet(&world.files.path(&self.name)),
            Kind::Postgres => {
                let count = format!("{COUNT} {} GROUP BY partition", self.name);
                let counted = world.database.sql(&count);
                counted.lines().map(line).collect()
            }
            Kind::Sqlite => held::of_sqlite(&world.files.path(&format!("{}.db", self.name)), "out"),
            Kind::Kafka => {
                let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
                for partition in 0..PARTITIONS {
                    let brokers = world.cluster.bootstrap();
                    for record in read(&brokers, &self.out(), partition, Isolation::ReadCommitted) {
                        let number = |bytes: Option<Vec<u8>>| {
                            let text = String::from_utf8(bytes.expect("not NULL"));
                            text.expect("digits").parse::<i64>().expect("a number")
                        };
                        let partition = i32::try_from(number(record.key)).expect("small");
                        offsets
                            .entry(partition)
                            .or_default()
                            .push(number(record.value));
                    }
                }
                held::of_offsets(offsets)
            }
        }
    }
}

/// A line of psql.
fn line(line: &str) -> (i32, Held) {
    let numbers: Vec<i64> = line
        .split('\t')
        .map(|number| number.parse().unwrap_or_else(|e| panic!("{line}: {e}")))
        .collect();
    let held = Held {
        rows: numbers[1],
        distinct: numbers[2],
        first: numbers[3],
        last: numbers[4],
    };
    (i32::try_from(numbers[0]).expect("small"), held)
}
