//! What the program and the libraries log.

use std::io::Write;

use datafusion_kafka::client::ClientPool;
use datafusion_kafka::text::visible;

/// The log of this program and of librdkafka goes to standard error, where it was asked for.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => log::LevelFilter::Off,
        1 => log::LevelFilter::Warn,
        _ => log::LevelFilter::Debug,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .filter_module(ClientPool::NOTICES, level.max(log::LevelFilter::Warn))
        .format(|to, record| match record.target() {
            ClientPool::NOTICES => writeln!(to, "kafka-sql: {}", shown(record)),
            target => writeln!(to, "[{} {target}] {}", record.level(), shown(record)),
        })
        .parse_default_env()
        .init();
}

/// A log message without what a terminal obeys: it may quote brokers and libraries.
fn shown(record: &log::Record<'_>) -> String {
    visible(&record.args().to_string(), &[]).into_owned()
}
