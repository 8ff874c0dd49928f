//! A listener over TLS that checks logins as AWS MSK does, and hands all other requests to a broker behind it.
//!
//! A token is a signed URL (SigV4) of the action `kafka-cluster:Connect`. The gate computes its signature from what the
//! endpoints of credentials gave. Logins last for [`SESSION`], and no longer than the credentials.

use std::collections::BTreeMap;
use std::io::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use kafka_protocol::messages::{
    ApiKey, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use url::Url;

use crate::credentials::Given;

/// How long a login lasts.
pub const SESSION: Duration = Duration::from_secs(2);
/// How long each Fetch waits, so that logins end while a topic is read.
const FETCH_WAITS: Duration = Duration::from_millis(150);
const SASL_AUTHENTICATION_FAILED: i16 = 58;

/// What connections did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Logins again on the same connection.
    pub again: usize,
    pub refused: usize,
    /// Requests after the end of a login. The connection ends.
    pub over: usize,
}

impl Seen {
    pub fn since(self, before: &Self) -> Self {
        Self {
            again: self.again - before.again,
            refused: self.refused - before.refused,
            over: self.over - before.over,
        }
    }
}

/// A running gate. It ends with the process.
#[derive(Clone)]
pub struct Gate {
    address: String,
    broker: String,
    region: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    known: Vec<Given>,
    seen: Seen,
}

pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

impl Gate {
    /// A gate in front of a broker, with the certificate in the broker's folder.
    pub fn start(address: &str, broker: &str, folder: &Path, region: &str) -> Self {
        let certificate = folder.join("server.pem");
        let chain = CertificateDer::pem_file_iter(&certificate).expect("a file");
        let chain = chain
            .map(|certificate| certificate.expect("a certificate"))
            .collect();
        let key = PrivateKeyDer::from_pem_file(&certificate).expect("a key");
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("ring has them")
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .expect("they belong together");
        let gate = Self {
            address: address.to_owned(),
            broker: broker.to_owned(),
            region: region.to_owned(),
            shared: Arc::default(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let served = gate.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        // Longer than the runtime of the test that comes first.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async move {
                let port = served
                    .address
                    .rsplit(':')
                    .next()
                    .expect("a port")
                    .to_owned();
                let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await;
                let listener = listener.expect("the port is free");
                ready.send(()).expect("it is awaited");
                while let Ok((stream, _)) = listener.accept().await {
                    let (served, acceptor) = (served.clone(), acceptor.clone());
                    tokio::spawn(async move {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            let _ = served.serve(stream).await;
                        }
                    });
                }
            });
        });
        is_ready.recv().expect("it starts");
        gate
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn seen(&self) -> Seen {
        self.shared().seen
    }

    /// All credentials that were given.
    pub fn known(&self) -> Vec<Given> {
        self.shared().known.clone()
    }

    /// New credentials.
    pub fn give(&self, lifetime: Duration) -> Given {
        let mut shared = self.shared();
        let number = shared.known.len();
        let given = Given {
            id: format!("ASIAREADER{number}"),
            secret: format!("s3cret/+{number}"),
            session: format!("session+/=={number}"),
            expires: SystemTime::now() + lifetime,
        };
        shared.known.push(given.clone());
        given
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, mut client: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Error> {
        let mut broker = TcpStream::connect(&self.broker).await?;
        let mut ends: Option<Instant> = None;
        while let Ok(frame) = frame(&mut client).await {
            let key = i16::from_be_bytes([frame[0], frame[1]]);
            let answer = if key == ApiKey::SaslHandshake as i16 {
                handshake(frame)?
            } else if key == ApiKey::SaslAuthenticate as i16 {
                let (answer, lasts) = self.authenticate(frame)?;
                self.shared().seen.again += usize::from(ends.is_some() && lasts.is_some());
                ends = lasts.map(|lasts| Instant::now() + lasts);
                answer
            } else {
                match ends {
                    None if key == ApiKey::ApiVersions as i16 => {}
                    Some(ends) if Instant::now() < ends => {}
                    Some(_) => {
                        self.shared().seen.over += 1;
                        break;
                    }
                    None => break,
                }
                if key == ApiKey::Fetch as i16 {
                    tokio::time::sleep(FETCH_WAITS).await;
                }
                send(&mut broker, &frame).await?;
                self::frame(&mut broker).await?
            };
            send(&mut client, &answer).await?;
        }
        Ok(())
    }

    /// The answer to a token, and how long the login lasts.
    fn authenticate(&self, frame: Bytes) -> Result<(Bytes, Option<Duration>), Error> {
        let (header, request) = decoded::<SaslAuthenticateRequest>(frame)?;
        let checked = self.check(&request.auth_bytes);
        let mut answer = SaslAuthenticateResponse::default();
        match &checked {
            Ok(lasts) => answer.session_lifetime_ms = lasts.as_millis() as i64,
            Err(reason) => {
                self.shared().seen.refused += 1;
                eprintln!("the gate refuses a token: {reason}");
                answer.error_code = SASL_AUTHENTICATION_FAILED;
                answer.error_message = Some(StrBytes::from_static_str("[6a1f]: Access denied"));
            }
        }
        Ok((encoded(&header, &answer)?, checked.ok()))
    }

    fn check(&self, message: &[u8]) -> Result<Duration, String> {
        let message = String::from_utf8_lossy(message);
        let token = message
            .strip_prefix("n,,\u{1}auth=Bearer ")
            .ok_or("not a token")?;
        let token = token.trim_end_matches('\u{1}');
        let url = BASE64_URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|e| e.to_string())?;
        let url = Url::parse(&String::from_utf8_lossy(&url)).map_err(|e| e.to_string())?;
        let host = format!("kafka.{}.amazonaws.com", self.region);
        if url.host_str() != Some(&host) {
            return Err(format!("the host is not {host}: {url}"));
        }
        let mut signed: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let mut take = |name: &str| signed.remove(name).ok_or(format!("no {name}"));
        let signature = take("X-Amz-Signature")?;
        take("User-Agent")?;
        let value = |name: &str| {
            signed
                .get(name)
                .map(String::as_str)
                .ok_or(format!("no {name}"))
        };
        for (name, wanted) in [
            ("Action", "kafka-cluster:Connect"),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Expires", "900"),
            ("X-Amz-SignedHeaders", "host"),
        ] {
            if value(name)? != wanted {
                return Err(format!("{name} is not {wanted}"));
            }
        }
        let (id, scope) = value("X-Amz-Credential")?
            .split_once('/')
            .ok_or("no scope")?;
        let date = value("X-Amz-Date")?;
        let wanted = format!("{}/{}/kafka-cluster/aws4_request", &date[..8], self.region);
        if scope != wanted {
            return Err(format!("the scope is not {wanted}"));
        }
        let known = self.known();
        let given = known
            .iter()
            .find(|given| given.id == id)
            .ok_or("unknown credentials")?;
        if value("X-Amz-Security-Token")? != given.session {
            return Err("another session".to_owned());
        }
        if signature != signature_of(&host, &signed, given, date, scope) {
            return Err("the signature is wrong".to_owned());
        }
        let begun = DateTime::strptime("%Y%m%dT%H%M%SZ", date).map_err(|e| e.to_string())?;
        let begun = begun.to_zoned(TimeZone::UTC).map_err(|e| e.to_string())?;
        let begun = SystemTime::from(begun.timestamp());
        let now = SystemTime::now();
        let ends = given.expires.min(begun + Duration::from_secs(900));
        let left = ends.duration_since(now).map_err(|_| "it has expired")?;
        Ok(left.min(SESSION))
    }
}

/// AWS's Signature Version 4 of a GET without a body.
fn signature_of(
    host: &str,
    query: &BTreeMap<String, String>,
    given: &Given,
    date: &str,
    scope: &str,
) -> String {
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect();
    let request = format!(
        "GET\n/\n{}\nhost:{host}\n\nhost\n{}",
        query.join("&"),
        hex(&Sha256::digest(b""))
    );
    let signed = format!(
        "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
        hex(&Sha256::digest(&request))
    );
    let key = scope
        .split('/')
        .fold(format!("AWS4{}", given.secret).into_bytes(), |key, part| {
            mac(&key, part)
        });
    hex(&mac(&key, &signed))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("keys have any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn handshake(frame: Bytes) -> Result<Bytes, Error> {
    let (header, _) = decoded::<SaslHandshakeRequest>(frame)?;
    let mechanisms = vec![StrBytes::from_static_str("OAUTHBEARER")];
    encoded(
        &header,
        &SaslHandshakeResponse::default().with_mechanisms(mechanisms),
    )
}

fn decoded<R: Decodable + HeaderVersion>(mut frame: Bytes) -> Result<(RequestHeader, R), Error> {
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let header =
        RequestHeader::decode(&mut frame, R::header_version(version)).map_err(Error::other)?;
    let request = R::decode(&mut frame, version).map_err(Error::other)?;
    Ok((header, request))
}

fn encoded<R: Encodable + HeaderVersion>(
    asked: &RequestHeader,
    answer: &R,
) -> Result<Bytes, Error> {
    let version = asked.request_api_version;
    let mut bytes = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(asked.correlation_id);
    header
        .encode(&mut bytes, R::header_version(version))
        .map_err(Error::other)?;
    answer.encode(&mut bytes, version).map_err(Error::other)?;
    Ok(bytes.freeze())
}

async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Error> {
    let mut bytes = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut bytes).await?;
    match bytes.len() {
        0..4 => Err(Error::other("too short")),
        _ => Ok(bytes.into()),
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Error> {
    stream.write_u32(bytes.len() as u32).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}
