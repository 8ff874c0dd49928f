//! What the text of a session may do.
//!
//! The text of a statement has the authority of whoever runs it: it reads and writes their files, reaches
//! any host, and names their environment's secrets. A [`Policy`] that is
//! [restricted](Policy::restricted) takes that away for text which somebody else wrote. It is asked where a
//! file is opened, a host is named, a secret is looked up and a setting is changed; what it was not told to
//! allow is refused.
//!
//! ```
//! use datafusion_kafka::config::ConnectionConfig;
//! use datafusion_kafka::policy::Policy;
//! use datafusion_kafka::session::KafkaSessionBuilder;
//! use datafusion_kafka::statement;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::restricted()
//!     .allow_path("/srv/landing")?
//!     .allow_host("db.example.com:5432")?;
//! let context = KafkaSessionBuilder::new()
//!     .connection(ConnectionConfig::new("broker:9092"))
//!     .policy(policy)
//!     .build()?;
//! // Text goes through `statement::sql`, which also judges what kind of statement it is.
//! let foreign = "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'";
//! let refused = statement::sql(&context, foreign).await.unwrap_err();
//! assert!(refused.to_string().contains("restricted session"));
//! # Ok(())
//! # }
//! ```

mod files;
mod statements;
#[cfg(test)]
mod tests;

use datafusion::prelude::SessionConfig;

pub(crate) use files::GuardedStores;
pub use kafka_arrow::policy::Policy;
#[cfg(feature = "postgres")]
pub(crate) use kafka_arrow::policy::read_bounded;
pub(crate) use kafka_arrow::policy::{MAX_FILE_BYTES, refused};
pub(crate) use statements::judge;

/// The policy of a session.
pub(crate) fn of(config: &SessionConfig) -> Policy {
    let policy = config.get_extension::<Policy>();
    policy.map_or_else(Policy::default, |policy| policy.as_ref().clone())
}
