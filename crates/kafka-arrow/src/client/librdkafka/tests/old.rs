//! A broker of an old release, which knows three requests.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, CreateTopicsRequest, CreateTopicsResponse,
    MetadataResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::client::librdkafka::writing::create_topic;

/// As of Kafka 2.3.
const KNOWN: [(ApiKey, i16); 3] = [
    (ApiKey::ApiVersions, 2),
    (ApiKey::Metadata, 7),
    (ApiKey::CreateTopics, 3),
];

/// Answers one request. Forwards what a request to create topics contains.
fn answer(
    mut request: Bytes,
    port: u16,
    asked: &mpsc::UnboundedSender<CreateTopicsRequest>,
) -> Vec<u8> {
    let api = ApiKey::try_from(i16::from_be_bytes([request[0], request[1]])).unwrap();
    let version = i16::from_be_bytes([request[2], request[3]]);
    let correlation = i32::from_be_bytes(request[4..8].try_into().unwrap());
    match api {
        ApiKey::ApiVersions => {
            let known = KNOWN.map(|(key, most)| {
                ApiVersion::default()
                    .with_api_key(key as i16)
                    .with_max_version(most)
            });
            let answer = ApiVersionsResponse::default().with_api_keys(known.to_vec());
            // As a broker does that does not know the version.
            let unknown = version > 2;
            let answer = answer.with_error_code(if unknown { 35 } else { 0 });
            frame(correlation, if unknown { 0 } else { version }, &answer)
        }
        ApiKey::Metadata => {
            let broker = |id| {
                MetadataResponseBroker::default()
                    .with_node_id(BrokerId(id))
                    .with_host(StrBytes::from_static_str("127.0.0.1"))
                    .with_port(i32::from(port))
            };
            let answer = MetadataResponse::default()
                .with_brokers(vec![broker(1), broker(2)])
                .with_controller_id(BrokerId(1));
            frame(correlation, version, &answer)
        }
        ApiKey::CreateTopics => {
            RequestHeader::decode(&mut request, api.request_header_version(version)).unwrap();
            let request = CreateTopicsRequest::decode(&mut request, version).unwrap();
            let result = |name: &kafka_protocol::messages::TopicName| {
                CreatableTopicResult::default().with_name(name.clone())
            };
            let results = request.topics.iter().map(|t| result(&t.name)).collect();
            asked.send(request).unwrap();
            let answer = CreateTopicsResponse::default().with_topics(results);
            frame(correlation, version, &answer)
        }
        other => panic!("a {other:?} request"),
    }
}

fn frame<R: Encodable + HeaderVersion>(correlation: i32, version: i16, answer: &R) -> Vec<u8> {
    let mut frame = BytesMut::from(&[0; 4][..]);
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header
        .encode(&mut frame, R::header_version(version))
        .unwrap();
    answer.encode(&mut frame, version).unwrap();
    let size = u32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame.into()
}

#[tokio::test]
async fn brokers_without_defaults_are_told_how_many_replicas() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, mut seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                while let Ok(size) = stream.read_u32().await {
                    let mut request = vec![0; size as usize];
                    stream.read_exact(&mut request).await.unwrap();
                    let answer = answer(request.into(), port, &asked);
                    stream.write_all(&answer).await.unwrap();
                }
            });
        }
    });
    let config = ConnectionConfig::new(format!("127.0.0.1:{port}"));
    let settings = [("cleanup.policy", "compact")];
    create_topic(&config, "state", &settings)
        .await
        .unwrap()
        .unwrap();
    let request = seen.recv().await.unwrap();
    let topic = &request.topics[0];
    assert_eq!(&*topic.name.0, "state");
    assert_eq!((topic.num_partitions, topic.replication_factor), (1, 2));
    assert_eq!(&*topic.configs[0].name, "cleanup.policy");
}
