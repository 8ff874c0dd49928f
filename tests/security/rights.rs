//! Rights that are missing: which, on what, and how they are granted.

use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion_kafka::Error;
use datafusion_kafka::client::commit_group_offsets;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::range::TopicPartition;

use super::{config, filled, settings};
use crate::sql::session_with;
use crate::support::documented::documented;
use crate::support::{Listener, Login, admin, shared};

documented!(
    "security.md",
    "Missing rights",
    ["wire", "librdkafka"],
    [
        describe_on_the_topic,
        read_on_the_topic,
        describe_on_the_group,
        describe_configs_on_the_topic,
        read_on_the_group_to_commit_offsets,
    ],
    slow []
);

/// Somebody with some rights on a topic, and nothing else.
struct Somebody {
    client: String,
    name: String,
    topic: String,
}

impl Somebody {
    fn who_may(client: &str, operations: &[&str]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("somebody-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        tokio::task::block_in_place(|| {
            let topic = filled(shared().bootstrap());
            for operation in operations {
                admin::allow_topic(shared(), &format!("User:{name}"), operation, &topic);
            }
            let client = client.to_owned();
            Self {
                client,
                name,
                topic,
            }
        })
    }

    fn config(&self) -> ConnectionConfig {
        let login = Login::OAuthBearer(&self.name);
        let mut all = shared().client_settings(Listener::SaslPlaintext, login);
        all.extend(settings([("kafka.client", self.client.as_str())]));
        config(&all).expect("known settings")
    }

    /// What happens to a query, in which `TOPIC` stands for the topic's name.
    async fn asks(&self, sql: &str) -> String {
        let session = session_with(self.config());
        let sql = sql.replace("TOPIC", &self.topic);
        let rows = async { session.sql(&sql).await?.collect().await };
        match rows.await {
            Ok(_) => "reads".to_owned(),
            Err(e) => self.missing(Error::find(&e).expect("an error of ours")),
        }
    }

    /// The right that an error names.
    fn missing(&self, error: &Error) -> String {
        let error = error.to_string();
        let said = error.strip_prefix("not authorized: ").unwrap_or(&error);
        let (right, rest) = said.split_once(": ").unwrap_or((said, ""));
        let is_granted = rest.contains("; grant it: kafka-acls --add --allow-principal");
        assert!(is_granted, "{error}");
        right.replace(&self.topic, "TOPIC")
    }
}

async fn describe_on_the_topic(client: &str) -> String {
    let nobody = Somebody::who_may(client, &[]);
    nobody.asks("SELECT value FROM \"TOPIC\"").await
}

async fn read_on_the_topic(client: &str) -> String {
    let reader = Somebody::who_may(client, &["Describe"]);
    reader.asks("SELECT value FROM \"TOPIC\"").await
}

async fn describe_on_the_group(client: &str) -> String {
    let reader = Somebody::who_may(client, &["Read"]);
    reader
        .asks("SELECT value FROM kafka('TOPIC', 'group:billing')")
        .await
}

async fn describe_configs_on_the_topic(client: &str) -> String {
    let reader = Somebody::who_may(client, &["Read"]);
    reader
        .asks("SELECT value FROM kafka('TOPIC', '@-1h:')")
        .await
}

async fn read_on_the_group_to_commit_offsets(client: &str) -> String {
    let reader = Somebody::who_may(client, &["Read"]);
    let next = [(TopicPartition::new(reader.topic.as_str(), 0), 3)].into();
    match commit_group_offsets(&reader.config(), "billing", &next).await {
        Ok(()) => "commits".to_owned(),
        Err(e) => reader.missing(&e),
    }
}
