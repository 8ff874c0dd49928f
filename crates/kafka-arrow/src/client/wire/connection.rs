//! A connection to a broker: it is opened, secured, and handles one request at a time.
//!
//! ```text
//! dial ─TCP─▶ TLS ─▶ ApiVersions ─▶ SASL ─▶ ready ─▶ call(request) ─▶ answer
//!                                             └─▶ send(request), then the caller takes the answer's bytes
//! ```
//!
//! The answer to a Fetch has megabytes, so its bytes go to the caller as they arrive
//! ([`receive`](Connection::receive)). All other answers are read as a whole.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, DescribeConfigsResponse, FindCoordinatorResponse,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, OffsetCommitResponse,
    OffsetFetchResponse, OffsetForLeaderEpochResponse, RequestHeader,
};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::dial;
use super::security::{self, Security, Transport};
use super::settings::Settings;
use super::{LIBRDKAFKA, decode};

/// The size of an answer, and its correlation id.
pub(super) const FRAME_HEAD: usize = 8;
/// The most bytes to read from a socket at once, so that they are decoded while they are in the processor's
/// cache.
const RECEIVE_MOST: usize = 256 << 10;
/// The rest of an answer is read and dropped up to this size, to keep the connection.
const SKIP_MOST: usize = 4 << 20;

/// Why there is no connection, or why it cannot be used any more.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The network failed, or the broker went away. Another attempt may help.
    Io(String),
    /// The broker refused the credentials, or the TLS handshake failed.
    Refused(String),
    /// The bytes received are not an answer in Kafka's protocol, or not one that this client understands.
    Protocol(String),
}

impl Trouble {
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Io(reason) | Self::Refused(reason) | Self::Protocol(reason) => reason,
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// An answer that says for how long the broker throttles the client (KIP-124).
pub(super) trait Throttles {
    /// The first version in which brokers answer immediately and delay the next request (KIP-219). Before,
    /// they delayed the answer itself.
    const AHEAD_FROM: i16;

    fn throttle_ms(&self) -> i32;
}

macro_rules! throttles {
    ($($answer:ty: $from:literal,)*) => {
        $(impl Throttles for $answer {
            const AHEAD_FROM: i16 = $from;

            fn throttle_ms(&self) -> i32 {
                self.throttle_time_ms
            }
        })*
    };
}

throttles! {
    DescribeConfigsResponse: 2,
    FindCoordinatorResponse: 2,
    ListOffsetsResponse: 3,
    MetadataResponse: 6,
    OffsetCommitResponse: 4,
    OffsetFetchResponse: 4,
    OffsetForLeaderEpochResponse: 2,
}

/// The request versions that a broker has announced.
#[derive(Debug, Default)]
pub(super) struct Versions {
    ranges: Vec<(i16, VersionRange)>,
}

impl Versions {
    /// The highest version that both sides know, at most `most`.
    pub(super) fn of<R: Request>(&self, most: i16) -> Option<i16> {
        let theirs = self.ranges.iter().find(|(key, _)| *key == R::KEY)?.1;
        let both = theirs.intersect(&R::VERSIONS);
        let version = both.max.min(most);
        (version >= both.min).then_some(version)
    }

    /// API keys with the first and the last version that the broker knows.
    pub(super) fn announced(&self) -> Vec<[i16; 3]> {
        let ranges = self.ranges.iter();
        ranges.map(|(api, of)| [*api, of.min, of.max]).collect()
    }
}

/// See the module's documentation.
pub(super) struct Connection {
    transport: Transport,
    pub(super) versions: Versions,
    /// The mechanisms of SASL that the broker offered at the last login.
    pub(super) offered: Vec<String>,
    client_id: StrBytes,
    correlation: i32,
    /// Bytes of an abandoned answer that are still to be received.
    to_skip: usize,
    /// When the broker closes the connection unless the client logs in again.
    expires: Option<Instant>,
    broker: Arc<str>,
    answer_most: usize,
    /// What to say if the broker closes the connection instead of answering. This matters for the first
    /// request, and for the first one after the setup.
    if_closed: &'static str,
}

impl Connection {
    /// Connects to `host:port`, trying every address of the host.
    pub(super) async fn dial(
        host: &str,
        port: u16,
        settings: &Settings,
        security: &Security,
    ) -> Result<Self, Trouble> {
        let stream = dial(host, port, settings).await?;
        let transport = security.wrap(stream, host).await?;
        let mut connection = Self::over(transport, host, port, settings, security);
        connection.ask_versions().await?;
        connection.log_in(security).await?;
        Ok(connection)
    }

    /// A connection over a transport that is protected. Nothing was sent yet.
    pub(super) fn over(
        transport: Transport,
        host: &str,
        port: u16,
        settings: &Settings,
        security: &Security,
    ) -> Self {
        Self {
            transport,
            versions: Versions::default(),
            offered: Vec::new(),
            client_id: StrBytes::from_string(settings.client_id.clone()),
            correlation: 0,
            to_skip: 0,
            expires: None,
            broker: format!("{host}:{port}").into(),
            answer_most: settings.answer_bytes_most,
            if_closed: security.hint_for_close(true),
        }
    }

    /// The first login, for which the broker must have told its versions.
    pub(super) async fn log_in(&mut self, security: &Security) -> Result<(), Trouble> {
        self.if_closed = "";
        self.authenticate(security).await?;
        self.if_closed = security.hint_for_close(false);
        Ok(())
    }

    /// When to log in again.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// `host:port`.
    pub(super) fn broker(&self) -> &Arc<str> {
        &self.broker
    }

    /// Whether the credentials on this connection are about to expire (KIP-368).
    pub(super) fn is_expiring(&self) -> bool {
        self.expires.is_some_and(|at| Instant::now() >= at)
    }

    /// Logs in, or logs in again. The broker says how long that lasts.
    pub(super) async fn authenticate(&mut self, security: &Security) -> Result<(), Trouble> {
        let lifetime = security.authenticate(self).await?;
        // Earlier than the broker does.
        self.expires = lifetime.map(|lifetime| Instant::now() + lifetime.mul_f64(0.8));
        Ok(())
    }

    /// Whether the connection is open and silent, as an unused one must be.
    pub(super) fn is_idle(&mut self) -> bool {
        self.to_skip > 0 || self.transport.is_silent()
    }

    /// Learns which versions of requests the broker knows.
    pub(super) async fn ask_versions(&mut self) -> Result<(), Trouble> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("datafusion-kafka"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut version = 3;
        loop {
            let body = self.exchange(&request, version).await?;
            // A broker that does not know the version answers in version 0.
            const UNSUPPORTED_VERSION: i16 = 35;
            if body.starts_with(&UNSUPPORTED_VERSION.to_be_bytes()) && version > 0 {
                version = 0;
                continue;
            }
            let garbled = |reason: &str| self.garbled("ApiVersions", reason);
            let (error, known) =
                decode::api_versions(&body, version).ok_or_else(|| garbled("it is cut off"))?;
            if error != 0 {
                return Err(garbled(&format!("error {error}")));
            }
            let known = known.into_iter();
            let ranges = known.map(|[api, min, max]| (api, VersionRange { min, max }));
            self.versions.ranges = ranges.collect();
            return self.expect_supported();
        }
    }

    /// Older brokers create a topic when its name is mentioned, and their Fetch is too old.
    fn expect_supported(&self) -> Result<(), Trouble> {
        const CREATES_NO_TOPIC: i16 = 4;
        let newest = self.versions.of::<MetadataRequest>(i16::MAX);
        if newest.is_some_and(|version| version >= CREATES_NO_TOPIC) {
            return Ok(());
        }
        Err(Trouble::Protocol(format!(
            "broker {} is older than Kafka 0.11, the oldest release that can be read",
            self.broker
        )))
    }

    /// Sends a request in the highest version up to `most`, and returns the answer with its version.
    pub(super) async fn call<R: Request>(
        &mut self,
        request: &R,
        most: i16,
    ) -> Result<(R::Response, i16), Trouble> {
        let version = self.version_of::<R>(most)?;
        let mut body = self.exchange(request, version).await?;
        let garbled = |reason: String| self.garbled(api_name(R::KEY), &reason);
        decode::check(R::KEY, version, &body).map_err(|e| garbled(e.to_string()))?;
        let answer = R::Response::decode(&mut body, version).map_err(|e| garbled(e.to_string()))?;
        Ok((answer, version))
    }

    pub(super) fn version_of<R: Request>(&self, most: i16) -> Result<i16, Trouble> {
        self.versions.of::<R>(most).ok_or_else(|| {
            let name = api_name(R::KEY);
            Trouble::Protocol(format!(
                "broker {} has no version of {name} that this client speaks; {LIBRDKAFKA} may",
                self.broker
            ))
        })
    }

    /// Sends a request and receives its whole answer, without the answer's header.
    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes, Trouble> {
        let expected = self.send(request, version).await?;
        let mut buffer = BytesMut::with_capacity(4096);
        while buffer.len() < FRAME_HEAD {
            match self.receive(&mut buffer).await {
                Ok(_) => {}
                // A TLS alert is shorter than the head of an answer.
                Err(_) if is_tls_alert(&buffer) => return Err(self.speaks_tls()),
                Err(trouble) => return Err(trouble),
            }
        }
        let (size, correlation) = frame_head(&buffer);
        let size = self.check_frame(size, correlation, expected)?;
        let whole = 4 + size;
        while buffer.len() < whole {
            buffer.reserve(whole - buffer.len());
            self.receive(&mut buffer).await?;
        }
        let mut body = buffer.freeze();
        body.truncate(whole);
        body.advance(FRAME_HEAD);
        let header = R::Response::header_version(version);
        if header >= 1 {
            let begin = decode::after_header(&body)
                .ok_or_else(|| self.garbled(api_name(R::KEY), "its header is cut off"))?;
            body.advance(begin);
        }
        Ok(body)
    }

    /// Sends a request, and returns the correlation id that its answer will have.
    pub(super) async fn send<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<i32, Trouble> {
        self.skip_rest().await?;
        self.correlation = self.correlation.wrapping_add(1) & i32::MAX;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::with_capacity(512);
        frame.extend_from_slice(&[0; 4]);
        let encoded = header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version));
        encoded.map_err(|e| Trouble::Protocol(format!("{}: {e}", api_name(R::KEY))))?;
        let size = i32::try_from(frame.len() - 4)
            .map_err(|_| Trouble::Protocol(format!("{} is too long", api_name(R::KEY))))?;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        let written = match self.transport.write_all(&frame).await {
            Ok(()) => self.transport.flush().await,
            failed => failed,
        };
        match written {
            Ok(()) => Ok(self.correlation),
            Err(e) => Err(self.failed(&e)),
        }
    }

    /// Checks the first eight bytes of an answer. The size counts from the correlation id on.
    pub(super) fn check_frame(
        &self,
        size: i32,
        correlation: i32,
        expected: i32,
    ) -> Result<usize, Trouble> {
        let most = self.answer_most;
        match usize::try_from(size) {
            Ok(size) if (4..=most).contains(&size) && correlation == expected => Ok(size),
            _ if is_tls_alert(&size.to_be_bytes()) => Err(self.speaks_tls()),
            _ => Err(Trouble::Protocol(format!(
                "broker {} does not answer in Kafka's protocol: an answer of {size} bytes to request \
                 {correlation}, expected one to request {expected} of at most {most} bytes \
                 ('receive.message.max.bytes'); is this the port of another listener or service?",
                self.broker
            ))),
        }
    }

    fn speaks_tls(&self) -> Trouble {
        Trouble::Refused(format!(
            "broker {} answers in TLS; set 'security.protocol' to 'ssl' or 'sasl_ssl'",
            self.broker
        ))
    }

    /// Waits for more bytes of an answer; never returns zero.
    pub(super) async fn receive(&mut self, buffer: &mut BytesMut) -> Result<usize, Trouble> {
        let mut buffer = buffer.limit(RECEIVE_MOST);
        match self.transport.read_buf(&mut buffer).await {
            Ok(0) => Err(self.closed()),
            Ok(n) => Ok(self.received(n)),
            Err(e) => Err(self.failed(&e)),
        }
    }

    /// Takes the bytes that are available without waiting; `None` when there are none.
    pub(super) fn receive_now(&mut self, buffer: &mut BytesMut) -> Result<Option<usize>, Trouble> {
        match self.transport.try_read_buf(&mut buffer.limit(RECEIVE_MOST)) {
            Ok(Some(0)) => Err(self.closed()),
            Ok(n) => Ok(n.map(|n| self.received(n))),
            Err(e) => Err(self.failed(&e)),
        }
    }

    /// The broker has answered, so it did not close the connection over what it was sent.
    fn received(&mut self, n: usize) -> usize {
        self.if_closed = "";
        n
    }

    fn failed(&self, error: &io::Error) -> Trouble {
        if let Some(reason) = security::refusal(error) {
            return Trouble::Refused(format!("broker {}: {reason}", self.broker));
        }
        match error.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof => self.closed(),
            _ => Trouble::Io(format!("broker {}: {error}", self.broker)),
        }
    }

    fn closed(&self) -> Trouble {
        let hint = self.if_closed;
        Trouble::Io(format!(
            "broker {} closed the connection{hint}",
            self.broker
        ))
    }

    /// Abandons the rest of an answer. Returns whether the connection can still be used.
    pub(super) fn give_up(&mut self, rest: usize) -> bool {
        self.to_skip = rest;
        rest <= SKIP_MOST
    }

    async fn skip_rest(&mut self) -> Result<(), Trouble> {
        let mut buffer = BytesMut::new();
        while self.to_skip > 0 {
            buffer.clear();
            buffer.reserve(64 << 10);
            let most = self.to_skip;
            let n = {
                let mut limited = bytes::BufMut::limit(&mut buffer, most);
                self.transport.read_buf(&mut limited).await
            };
            match n {
                Ok(0) => return Err(self.closed()),
                Ok(n) => self.to_skip -= n,
                Err(e) => return Err(self.failed(&e)),
            }
        }
        Ok(())
    }

    fn garbled(&self, what: &str, reason: &str) -> Trouble {
        Trouble::Protocol(format!(
            "broker {}: the answer to {what} cannot be read: {reason}",
            self.broker
        ))
    }
}

/// Whether a TLS listener reports that it could not read what it was sent.
fn is_tls_alert(answer: &[u8]) -> bool {
    answer.starts_with(&[0x15, 0x03])
}

/// The size and the correlation id of an answer whose head has arrived.
pub(super) fn frame_head(buffer: &[u8]) -> (i32, i32) {
    let word = |at: usize| {
        let bytes = buffer.get(at..at + 4).and_then(|b| b.try_into().ok());
        i32::from_be_bytes(bytes.unwrap_or_default())
    };
    (word(0), word(4))
}

fn api_name(key: i16) -> &'static str {
    match ApiKey::try_from(key) {
        Ok(ApiKey::Fetch) => "Fetch",
        Ok(ApiKey::ListOffsets) => "ListOffsets",
        Ok(ApiKey::Metadata) => "Metadata",
        Ok(ApiKey::OffsetFetch) => "OffsetFetch",
        Ok(ApiKey::FindCoordinator) => "FindCoordinator",
        Ok(ApiKey::SaslHandshake) => "SaslHandshake",
        Ok(ApiKey::SaslAuthenticate) => "SaslAuthenticate",
        Ok(ApiKey::ApiVersions) => "ApiVersions",
        Ok(ApiKey::OffsetForLeaderEpoch) => "OffsetForLeaderEpoch",
        Ok(ApiKey::DescribeConfigs) => "DescribeConfigs",
        _ => "a request",
    }
}

/// The time limit for TCP, TLS and login together.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(30);
