//! The log of this program and of librdkafka, which goes to standard error where it is asked for.

use std::io::Write;
#[cfg(feature = "serve")]
use std::sync::OnceLock;

use datafusion_kafka::client::ClientPool;
use datafusion_kafka::text::visible;

/// How lines are written where a service runs.
#[cfg(feature = "serve")]
static SERVICE: OnceLock<datafusion_kafka_serve::config::LogFormat> = OnceLock::new();

/// Starts the log, as verbose as `-v` is given often; that of a service also says what jobs do.
pub(crate) fn start(verbose: u8, is_service: bool) {
    let level = match (verbose, is_service) {
        (0, false) => log::LevelFilter::Off,
        (0, true) | (1, _) => log::LevelFilter::Warn,
        _ => log::LevelFilter::Debug,
    };
    let mut logger = env_logger::Builder::new();
    logger
        .filter_level(level)
        .filter_module(ClientPool::NOTICES, level.max(log::LevelFilter::Warn));
    if is_service {
        logger.filter_module("kafka_sql", level.max(log::LevelFilter::Info));
    }
    logger
        .format(|to, record| {
            // It logs statements as they are written, with the passwords in them.
            if record.target().starts_with("sqlparser") {
                return Ok(());
            }
            #[cfg(feature = "serve")]
            if let Some(format) = SERVICE.get() {
                use datafusion_kafka_serve::logs::line;
                let line = line(*format, record.level(), record.target(), &shown(record));
                return writeln!(to, "{line}");
            }
            match record.target() {
                ClientPool::NOTICES => writeln!(to, "kafka-sql: {}", shown(record)),
                target => writeln!(to, "[{} {target}] {}", record.level(), shown(record)),
            }
        })
        .parse_default_env()
        .init();
}

/// Writes lines from now on as the log of a service.
#[cfg(feature = "serve")]
pub(crate) fn use_format(format: datafusion_kafka_serve::config::LogFormat) {
    // The first one stays: a process is one service.
    let _ = SERVICE.set(format);
}

/// A log message without what a terminal obeys: it may quote brokers and libraries.
fn shown(record: &log::Record<'_>) -> String {
    visible(&record.args().to_string(), &[]).into_owned()
}
