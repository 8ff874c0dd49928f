//! A client whose records are masked: nothing that reads through it sees what its connection hides.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::{
    ClusterDescription, EpochEnd, EpochQuery, KafkaClient, MemoryBudget, OffsetAnswer, OffsetQuery,
    RawBatch, ReadRequest, TopicSelection, TopicSettings,
};
use crate::config::ConnectionConfig;
use crate::decode::{Registry, RegistryConfig, WrittenSchemas};
use crate::error::Result;
use crate::mask::{Masks, Payload};
use crate::range::{IsolationLevel, TopicPartition};

#[derive(Debug)]
pub(super) struct MaskedClient {
    inner: Arc<dyn KafkaClient>,
    masks: Masks,
    /// By the connection's own registry.
    schemas: Option<Arc<WrittenSchemas>>,
}

impl MaskedClient {
    /// # Errors
    /// When the connection has a registry that cannot be used.
    pub(super) fn new(
        inner: Arc<dyn KafkaClient>,
        masks: Masks,
        config: &ConnectionConfig,
    ) -> Result<Self> {
        let registry = RegistryConfig::from_options(config.registry())?;
        let registry = registry.filter(|_| config.masks_by_registry());
        let registry = registry.map(Registry::new).transpose()?;
        let masks = match &registry {
            Some(_) => masks.with_registry(),
            None => masks,
        };
        let schemas = registry.map(|registry| Arc::new(WrittenSchemas::new(registry)));
        Ok(Self {
            inner,
            masks,
            schemas,
        })
    }

    /// A needle is looked for in the bytes as they are, and would tell what they contain.
    fn without_needle(&self, request: ReadRequest) -> ReadRequest {
        let concerned = (request.ranges.iter()).any(|range| self.masks.concern(range.topic()));
        ReadRequest {
            needle: request.needle.filter(|_| !concerned),
            ..request
        }
    }

    fn masked(
        &self,
        records: BoxStream<'static, Result<RawBatch>>,
    ) -> BoxStream<'static, Result<RawBatch>> {
        let (masks, schemas) = (self.masks.clone(), self.schemas.clone());
        records
            .then(move |batch| masked(batch, masks.clone(), schemas.clone()))
            .boxed()
    }
}

async fn masked(
    batch: Result<RawBatch>,
    masks: Masks,
    schemas: Option<Arc<WrittenSchemas>>,
) -> Result<RawBatch> {
    let batch = batch?;
    let Some(schemas) = schemas else {
        return masks.apply(batch, &|_, _, _| None);
    };
    for (payloads, of) in [(&batch.keys, Payload::Key), (&batch.values, Payload::Value)] {
        if let Some(payloads) = payloads
            && masks.has_paths(&batch.partition.topic, of)
        {
            schemas.prepare(payloads).await?;
        }
    }
    masks.apply(batch, &|payload, places, to| {
        schemas.rewrite(payload, places, to)
    })
}

// A default would go around the masks, or forget what the client can do.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KafkaClient for MaskedClient {
    async fn describe(&self, topics: TopicSelection<'_>) -> Result<ClusterDescription> {
        self.inner.describe(topics).await
    }

    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
    ) -> Result<Vec<OffsetAnswer>> {
        self.inner.list_offsets(queries, isolation).await
    }

    async fn epoch_ends(&self, queries: &[EpochQuery]) -> Result<Vec<Option<EpochEnd>>> {
        self.inner.epoch_ends(queries).await
    }

    async fn newest_epochs(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i32>>> {
        self.inner.newest_epochs(partitions).await
    }

    async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.inner.group_offsets(group, partitions).await
    }

    async fn topic_settings(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicSettings>>> {
        self.inner.topic_settings(topics).await
    }

    fn read(&self, request: ReadRequest) -> BoxStream<'static, Result<RawBatch>> {
        self.masked(self.inner.read(self.without_needle(request)))
    }

    fn read_within(
        &self,
        request: ReadRequest,
        memory: Arc<dyn MemoryBudget>,
    ) -> BoxStream<'static, Result<RawBatch>> {
        let request = self.without_needle(request);
        self.masked(self.inner.read_within(request, memory))
    }

    fn read_buffer_bytes(&self, request: &ReadRequest) -> usize {
        self.inner.read_buffer_bytes(request)
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn masks(&self) -> Option<&Masks> {
        Some(&self.masks)
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::client::memory::{MemoryCluster, Record};
    use crate::client::{ClientPool, Needle};
    use crate::config::ConnectionConfig;
    use crate::range::OffsetRange;

    #[tokio::test]
    async fn a_pool_masks_what_the_settings_hide_and_drops_needles_there() {
        let cluster = MemoryCluster::builder().build();
        for topic in ["t", "u"] {
            cluster.create_topic(topic, 1).unwrap();
            for text in ["{\"a\":\"secret\"}", "{\"a\":\"other\"}"] {
                let record = Record {
                    value: Some(text.into()),
                    ..Record::default()
                };
                cluster.append_all(topic, 0, [record]).unwrap();
            }
        }
        let pool = ClientPool::with_factory(move |_| Ok(Arc::new(cluster.client())));
        let mut config = ConnectionConfig::new("memory:1");
        config.set("mask", "t.a").unwrap();
        let client = pool.client(&config).unwrap();
        assert_eq!(client.masks().unwrap().to_string(), "t.a");
        for (topic, rows, leaks) in [("t", 2, false), ("u", 1, true)] {
            let request = ReadRequest {
                needle: Some(Needle::new("secret")),
                ..ReadRequest::new(vec![OffsetRange::try_new(topic, 0, 0, 2).unwrap()])
            };
            let batches: Vec<RawBatch> = client.read(request).try_collect().await.unwrap();
            let found: usize = batches.iter().map(|batch| batch.offsets.len()).sum();
            assert_eq!(found, rows, "{topic}");
            let values = batches.iter().filter_map(|batch| batch.values.as_ref());
            let mut values = values.flatten().flatten();
            let leaking = values.any(|value| value == b"{\"a\":\"secret\"}");
            assert_eq!(leaking, leaks, "{topic}");
        }
    }
}
