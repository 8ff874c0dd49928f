//! Jobs in Rust, one per module. Each processes the available records and ends. When run again, it continues.
//!
//! ```sh
//! cargo run --release --example jobs -- landing localhost:9092 orders /data/orders/ /data/landing.log
//! ```

mod copy;
mod delivery;
mod landing;
mod per_minute;
mod windowed;

use datafusion_kafka::sink::BoxError;
use delivery::Semantics;

const USAGE: &str = "\
usage: jobs landing    BROKERS TOPIC FOLDER CHECKPOINT
       jobs per-minute BROKERS TOPIC POSTGRES_URL CHECKPOINT
       jobs copy       BROKERS TOPIC TARGET_BROKERS TARGET_TOPIC CHECKPOINT
       jobs windowed   BROKERS TOPIC SQLITE_FILE CHECKPOINT
       jobs delivery   at-most-once|at-least-once|idempotent|transactional [--crash]
                       BROKERS TOPIC SQLITE_FILE CHECKPOINT";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let summary = match arguments[..] {
        ["landing", brokers, topic, folder, checkpoint] => {
            landing::run(brokers, topic, folder, checkpoint).await?
        }
        ["per-minute", brokers, topic, database, checkpoint] => {
            per_minute::run(brokers, topic, database, checkpoint).await?
        }
        ["copy", brokers, topic, target_brokers, target, checkpoint] => {
            copy::run(brokers, topic, target_brokers, target, checkpoint).await?
        }
        ["windowed", brokers, topic, file, checkpoint] => {
            windowed::run(brokers, topic, file, checkpoint).await?
        }
        ["delivery", semantics, brokers, topic, file, checkpoint] => {
            let semantics = semantics_of(semantics);
            delivery::run(semantics, false, brokers, topic, file, checkpoint).await?
        }
        [
            "delivery",
            semantics,
            "--crash",
            brokers,
            topic,
            file,
            checkpoint,
        ] => {
            let semantics = semantics_of(semantics);
            delivery::run(semantics, true, brokers, topic, file, checkpoint).await?
        }
        _ => wrong_usage(),
    };
    println!(
        "{} batches, {} records in, {} rows out",
        summary.batches, summary.records, summary.rows
    );
    Ok(())
}

fn semantics_of(name: &str) -> Semantics {
    match name {
        "at-most-once" => Semantics::AtMostOnce,
        "at-least-once" => Semantics::AtLeastOnce,
        "idempotent" => Semantics::Idempotent,
        "transactional" => Semantics::Transactional,
        _ => wrong_usage(),
    }
}

fn wrong_usage() -> ! {
    eprintln!("{USAGE}");
    std::process::exit(2);
}
