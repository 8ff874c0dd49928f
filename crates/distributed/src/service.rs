//! What a coordinator asks workers beside what the engine asks: who they are, what became of scans, and to write pieces
//! of exports.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use datafusion_distributed::grpc::BoxCloneSyncChannel;
use datafusion_kafka::scan::ScanFailure;
use datafusion_kafka::{Error, Result};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use prost::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use url::Url;

use crate::nodes::address;
use crate::pieces::PieceWriter;
use crate::reports::{Reports, RunReport};

const HELLO: &str = "/datafusion_kafka.Scans/Hello";
const REPORT: &str = "/datafusion_kafka.Scans/Report";
const WRITE: &str = "/datafusion_kafka.Scans/Write";

/// How long a worker may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A JSON text, as the messages are few and small; or a plan.
#[derive(Clone, PartialEq, Message)]
struct Json {
    #[prost(bytes = "bytes", tag = "1")]
    text: Bytes,
}

impl Json {
    fn of(value: &impl Serialize) -> Self {
        // Numbers, texts and lists.
        Self {
            text: serde_json::to_vec(value).unwrap_or_default().into(),
        }
    }
}

/// Who a worker is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: String,
    pub(crate) rack: Option<String>,
    pub(crate) host: String,
    pub(crate) cores: usize,
    /// Whether it asks for a token, without which it gets no rows from workers that ask for one.
    pub(crate) token: bool,
    /// Whether it finishes what it has and then ends.
    pub(crate) leaving: bool,
}

/// Which executions of scans are asked about.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    keys: Vec<String>,
    over: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct ScansService {
    pub(crate) hello: Hello,
    pub(crate) reports: Arc<Reports>,
    pub(crate) leaving: Arc<AtomicBool>,
    pub(crate) writer: Arc<PieceWriter>,
}

/// A message of a worker that writes a piece.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OfPiece {
    /// A row of the plan.
    Row(String),
    Failed(ScanFailure),
}

impl ScansService {
    fn answer(&self, path: &str, asked: &[u8]) -> std::result::Result<Json, Status> {
        match path {
            HELLO => Ok(Json::of(&Hello {
                leaving: self.leaving.load(Ordering::Relaxed),
                ..self.hello.clone()
            })),
            REPORT => {
                let asked: Asked = serde_json::from_slice(asked)
                    .map_err(|e| Status::invalid_argument(e.to_string()))?;
                let of = |key: &String| self.reports.of(key, asked.over);
                let all: Vec<RunReport> = asked.keys.iter().map(of).collect();
                Ok(Json::of(&all))
            }
            _ => Err(Status::unimplemented("there is no such method")),
        }
    }

    fn write(&self, plan: &[u8]) -> std::result::Result<Response<Written>, Status> {
        if self.leaving.load(Ordering::Relaxed) {
            return Err(Status::unavailable("the worker is about to end"));
        }
        let rows = self.writer.write(plan);
        Ok(Response::new(rows.map(|row| Ok(Json::of(&row))).boxed()))
    }
}

type Written = BoxStream<'static, std::result::Result<Json, Status>>;

impl NamedService for ScansService {
    const NAME: &'static str = "datafusion_kafka.Scans";
}

impl tower::Service<http::Request<Body>> for ScansService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Json, Json>::default())
                .max_decoding_message_size(usize::MAX);
            if path == WRITE {
                let write = tower::service_fn(move |request: Request<Json>| {
                    std::future::ready(service.write(&request.into_inner().text))
                });
                return Ok(grpc.server_streaming(write, request).await);
            }
            let answer = tower::service_fn(move |request: Request<Json>| {
                let answer = service.answer(&path, &request.into_inner().text);
                std::future::ready(answer.map(Response::new))
            });
            Ok(grpc.unary(answer, request).await)
        })
    }
}

fn failed(worker: &Url, reason: String) -> Error {
    Error::Unavailable {
        operation: format!("asking worker {}", address(worker)),
        reason,
    }
}

fn refused(worker: &Url, status: &Status) -> Error {
    match (address(worker), of_status(status)) {
        (hosts, reason) if status.code() == tonic::Code::Unauthenticated => {
            Error::Authentication { hosts, reason }
        }
        (_, reason) => failed(worker, reason),
    }
}

async fn ask<A: DeserializeOwned>(
    channel: BoxCloneSyncChannel,
    worker: &Url,
    path: &'static str,
    asked: &impl Serialize,
) -> Result<A> {
    let asked = async {
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|e| failed(worker, chain(&e)))?;
        let codec = ProstCodec::<Json, Json>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let answer = grpc.unary(Request::new(Json::of(asked)), path, codec).await;
        let answer = answer.map_err(|status| refused(worker, &status))?;
        serde_json::from_slice(&answer.into_inner().text).map_err(|e| {
            let reason = format!("it does not answer as a worker of this version: {e}");
            failed(worker, reason)
        })
    };
    let waited = tokio::time::timeout(ANSWER, asked).await;
    waited.unwrap_or_else(|_| {
        let reason = format!("no answer within {} s", ANSWER.as_secs());
        Err(failed(worker, reason))
    })
}

fn of_status(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None => status.message().to_owned(),
    }
}

/// An error with its causes, of which tonic's messages say nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

pub(crate) async fn hello(channel: BoxCloneSyncChannel, worker: &Url) -> Result<Hello> {
    ask(channel, worker, HELLO, &()).await
}

/// Has a worker execute a plan that writes a piece of an export. The stream ends when the plan has, or with
/// [`Error::Unavailable`] when the worker is lost.
pub(crate) async fn write(
    channel: BoxCloneSyncChannel,
    worker: &Url,
    plan: Bytes,
) -> Result<impl Stream<Item = Result<OfPiece>> + Send + use<>> {
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
    grpc.ready().await.map_err(|e| failed(worker, chain(&e)))?;
    let codec = ProstCodec::<Json, Json>::default();
    let path = http::uri::PathAndQuery::from_static(WRITE);
    let plan = Request::new(Json { text: plan });
    let answer = grpc.server_streaming(plan, path, codec).await;
    let answer = answer.map_err(|status| refused(worker, &status))?;
    let worker = worker.clone();
    Ok(answer.into_inner().map(move |message| {
        let message = message.map_err(|status| refused(&worker, &status))?;
        serde_json::from_slice(&message.text).map_err(|e| failed(&worker, e.to_string()))
    }))
}

/// What a worker knows of these executions of scans, in their order. If they are `over`, it forgets them.
pub(crate) async fn report(
    channel: BoxCloneSyncChannel,
    worker: &Url,
    keys: &[String],
    over: bool,
) -> Result<Vec<RunReport>> {
    let asked = Asked {
        keys: keys.to_vec(),
        over,
    };
    let reports: Vec<RunReport> = ask(channel, worker, REPORT, &asked).await?;
    if reports.len() != keys.len() {
        return Err(Error::Unavailable {
            operation: format!("asking worker {}", address(worker)),
            reason: "it reports of other scans than it was asked for".to_owned(),
        });
    }
    Ok(reports)
}
