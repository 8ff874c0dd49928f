//! What the text of a session may do.
//!
//! The text of a statement acts with the authority of the user who runs it: it can read and write their
//! files, reach any host, and use the secrets in their environment. A [restricted](Policy::restricted)
//! [`Policy`] takes that away from text that comes from someone else. It decides whenever a file is opened, a
//! host is named, a secret is looked up, or a setting is changed. Everything that it does not explicitly
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
//! // Use `statement::sql`, which also checks what kind of statement the text is.
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
