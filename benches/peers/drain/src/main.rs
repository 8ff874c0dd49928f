//! The upper limit in the race, and the tool that fills its topics. It speaks Kafka's protocol directly and
//! builds nothing from the records.
//!
//! `kafka-drain wait|fill|read --bootstrap HOST:PORT [--topic T …]`. Each command prints one JSON
//! object. One broker, no TLS: it leads every partition.

mod fill;
mod inflate;
mod read;
mod wire;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// Any failure, as text.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "\
usage: kafka-drain wait --bootstrap HOST:PORT
       kafka-drain fill --bootstrap HOST:PORT --topic T --partitions N --records N --value-bytes N
                        [--payload random|json] [--codec none|lz4|zstd] [--key-bytes N]
                        [--headers N] [--batch-bytes N]
       kafka-drain read --bootstrap HOST:PORT --topic T [--connections N] [--fetch-bytes N]
                        [--decompress yes]";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let done = Options::parse(arguments).and_then(|options| match command.as_str() {
        "wait" => wait(&options),
        "fill" => fill::run(&options),
        "read" => read::run(&options),
        _ => Err(USAGE.into()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kafka-drain {command}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `--name value` pairs.
pub struct Options(HashMap<String, String>);

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = HashMap::new();
        while let Some(name) = arguments.next() {
            let Some(name) = name.strip_prefix("--") else {
                return Err(format!("'{name}' is no option\n{USAGE}").into());
            };
            let value = arguments
                .next()
                .ok_or_else(|| format!("--{name} has no value\n{USAGE}"))?;
            options.insert(name.to_owned(), value);
        }
        Ok(Self(options))
    }

    pub fn text(&self, name: &str) -> Result<&str> {
        match self.0.get(name) {
            Some(value) => Ok(value),
            None => Err(format!("--{name} is missing\n{USAGE}").into()),
        }
    }

    pub fn text_or<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    pub fn number(&self, name: &str) -> Result<usize> {
        let text = self.text(name)?;
        text.parse()
            .map_err(|error| format!("--{name} {text}: {error}").into())
    }

    pub fn number_or(&self, name: &str, default: usize) -> Result<usize> {
        if self.0.contains_key(name) {
            self.number(name)
        } else {
            Ok(default)
        }
    }
}

/// Waits until the broker answers, at most a minute.
fn wait(options: &Options) -> Result<()> {
    let begun = Instant::now();
    loop {
        let answer = wire::Connection::open(options.text("bootstrap")?)
            .and_then(|mut connection| connection.brokers());
        match answer {
            Ok(1..) => break,
            Err(error) if begun.elapsed() > Duration::from_secs(60) => return Err(error),
            _ if begun.elapsed() > Duration::from_secs(60) => {
                return Err("the broker does not know itself after a minute".into());
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    println!("{{\"seconds\": {:.3}}}", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Prints what a command did, and what it cost this process.
pub fn print_result(records: u64, bytes: u64, took: Duration, more: &str) -> Result<()> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    println!(
        "{{\"records\": {records}, \"bytes\": {bytes}, \"seconds\": {:.6}, \"user\": {:.6}, \
         \"system\": {:.6}, \"peak_kib\": {}{more}}}",
        took.as_secs_f64(),
        seconds(usage.user_time()),
        seconds(usage.system_time()),
        peak_kib()?,
    );
    Ok(())
}

/// The most memory that this process had resident. (`ru_maxrss` would include the process that started it.)
fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmHWM in /proc/self/status")?.parse()?)
}
