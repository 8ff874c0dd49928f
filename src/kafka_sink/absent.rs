//! In place of the sink in builds without librdkafka, which has the producer.

use std::convert::Infallible;

use super::*;
use crate::client::KafkaClient;
use crate::config::ConnectionConfig;
use crate::formats::Formats;

/// Writes the batches of a job into a topic, which no client of this build does.
#[derive(Debug)]
pub struct KafkaSink(Infallible);

impl KafkaSink {
    /// # Errors
    /// Always.
    pub fn new(
        _config: &ConnectionConfig,
        topic: impl AsRef<str>,
        _options: KafkaSinkOptions,
    ) -> Result<Self> {
        Err(absent(topic.as_ref()))
    }

    pub(super) fn with_client(
        _config: &ConnectionConfig,
        _client: Arc<dyn KafkaClient>,
        topic: Arc<str>,
        _options: KafkaSinkOptions,
    ) -> Result<Self> {
        Err(absent(&topic))
    }

    /// # Errors
    /// None: there is nothing to call it with.
    pub fn with_formats<'a>(
        self,
        _options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        match self.0 {}
    }

    pub(super) fn with_write_formats(self, _formats: Formats) -> Self {
        self
    }

    pub(super) async fn check_topic(&self) -> Result<()> {
        match self.0 {}
    }
}

fn absent(topic: &str) -> Error {
    let what = "is written by librdkafka, which this build does not have";
    Error::missing_feature("librdkafka", format!("topic '{topic}' {what}"))
}

#[async_trait]
impl Sink for KafkaSink {
    fn target(&self) -> String {
        match self.0 {}
    }

    fn guarantee(&self) -> Guarantee {
        match self.0 {}
    }

    async fn open(&self, _job: &SinkJob) -> Result<Opened> {
        match self.0 {}
    }
}
