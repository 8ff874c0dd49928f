//! A small identity provider: a token endpoint for the client credentials grant, and the keys with which
//! brokers check its tokens.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{KeyPair, SigningKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// What clients send. Characters that URLs escape are among them.
pub const CLIENT: &str = "reader";
pub const SECRET: &str = "s3cret/+ of the client";
/// Whom the tokens are for.
pub const AUDIENCE: &str = "kafka";

/// How the endpoint answers a request.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Token,
    /// A token whose audience is another.
    OtherAudience,
    /// A token that has expired.
    Expired,
    /// A token without `expires_in`.
    WithoutLifetime,
    Status(u16),
    /// After this many milliseconds.
    Late(u64),
    NotJson,
    /// Elsewhere, where an open endpoint would take the secret.
    Redirect,
}

/// A running provider. Its threads end with the process.
#[derive(Clone)]
pub struct Identity {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    key: KeyPair,
    endpoints: Mutex<Vec<Arc<Endpoint>>>,
    tokens: Mutex<Vec<String>>,
}

/// One of its token endpoints.
pub struct Endpoint {
    pub url: String,
    /// The answers to the next requests; the last one is repeated.
    answers: Mutex<VecDeque<Answer>>,
    lifetime_s: u64,
    given: AtomicUsize,
}

impl Endpoint {
    /// Sets the answers to the next requests. The last one is repeated.
    pub fn answer(&self, answers: &[Answer]) {
        *lock(&self.answers) = answers.iter().copied().collect();
    }

    /// How many tokens it has given.
    pub fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    fn next(&self) -> Answer {
        let mut answers = lock(&self.answers);
        match answers.len() {
            0 | 1 => answers.front().copied().unwrap_or(Answer::Token),
            _ => answers.pop_front().unwrap_or(Answer::Token),
        }
    }
}

impl Identity {
    /// Starts a provider.
    pub fn start() -> Self {
        let (listener, port) = bound();
        let shared = Arc::new(Shared {
            key: KeyPair::generate().expect("P-256 keys can be made"),
            endpoints: Mutex::default(),
            tokens: Mutex::default(),
        });
        let url = format!("http://127.0.0.1:{port}");
        let made = Self { url, shared };
        made.listen(listener, |served, stream| served.serve(stream));
        made
    }

    /// A new endpoint with these answers, whose tokens last so long.
    pub fn endpoint(&self, answers: &[Answer], lifetime_s: u64) -> Arc<Endpoint> {
        let mut endpoints = lock(&self.shared.endpoints);
        let endpoint = Arc::new(Endpoint {
            url: format!("{}/token/{}", self.url, endpoints.len()),
            answers: Mutex::new(answers.iter().copied().collect()),
            lifetime_s,
            given: AtomicUsize::new(0),
        });
        endpoints.push(Arc::clone(&endpoint));
        endpoint
    }

    /// The URL of the same provider behind TLS, with this certificate and key for `localhost`.
    pub fn behind_tls(&self, certificate: Vec<u8>, key: Vec<u8>) -> String {
        let (listener, port) = bound();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.into()],
                PrivateKeyDer::try_from(key).expect("a PKCS8 key"),
            );
        let config = Arc::new(config.expect("they belong together"));
        self.listen(listener, move |served, stream| {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a configuration");
            served.serve(StreamOwned::new(session, stream));
        });
        format!("https://localhost:{port}")
    }

    fn listen(
        &self,
        listener: TcpListener,
        serve: impl Fn(&Self, TcpStream) + Clone + Send + 'static,
    ) {
        let served = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (served, serve) = (served.clone(), serve.clone());
                std::thread::spawn(move || serve(&served, stream));
            }
        });
    }

    /// The URL of the keys.
    pub fn keys_url(&self) -> String {
        format!("{}/keys", self.url)
    }

    /// Whether a text contains the secret, or a token.
    pub fn is_leaked_in(&self, text: &str) -> bool {
        let tokens = lock(&self.shared.tokens);
        let basic = STANDARD.encode(format!("{CLIENT}:{SECRET}"));
        let mut secrets = tokens.iter().map(String::as_str).chain([SECRET, &basic]);
        secrets.any(|secret| text.contains(secret))
    }

    fn serve(&self, mut stream: impl Read + Write) {
        let Some((head, body)) = request(&mut stream) else {
            return;
        };
        let (status, text) = match head.split(' ').nth(1) {
            Some("/keys") => (200, self.keys().to_string()),
            Some(path) => self
                .endpoint_at(path)
                .map_or((404, String::new()), |endpoint| {
                    self.token(&endpoint, &head, &body)
                }),
            None => (400, String::new()),
        };
        let place = format!("Location: {}/open\r\n", self.url);
        let place = if status == 307 { place.as_str() } else { "" };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{place}\
             Connection: close\r\n\r\n{text}",
            text.len()
        );
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.flush();
    }

    fn endpoint_at(&self, path: &str) -> Option<Arc<Endpoint>> {
        let number: usize = path.strip_prefix("/token/")?.parse().ok()?;
        lock(&self.shared.endpoints).get(number).cloned()
    }

    fn token(&self, endpoint: &Endpoint, head: &str, body: &str) -> (u16, String) {
        let sent = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_login = name.eq_ignore_ascii_case("authorization");
            let value = is_login.then(|| value.trim().strip_prefix("Basic "))??;
            String::from_utf8(STANDARD.decode(value).ok()?).ok()
        });
        let sent = sent.unwrap_or_default();
        let is_known = sent == format!("{CLIENT}:{SECRET}");
        if !is_known || !body.contains("grant_type=client_credentials") {
            // As some providers do, it repeats what it was sent.
            let told = json!({"error": "invalid_client", "error_description": sent});
            return (401, told.to_string());
        }
        let lifetime_s = endpoint.lifetime_s as i64;
        let (audience, lifetime_s, is_told) = match endpoint.next() {
            Answer::Token => (AUDIENCE, lifetime_s, true),
            Answer::Late(ms) => {
                std::thread::sleep(Duration::from_millis(ms));
                (AUDIENCE, lifetime_s, true)
            }
            Answer::OtherAudience => ("others", lifetime_s, true),
            Answer::Expired => (AUDIENCE, -lifetime_s, true),
            Answer::WithoutLifetime => (AUDIENCE, lifetime_s, false),
            Answer::NotJson => return (200, "<html>Sign in</html>".to_owned()),
            Answer::Redirect => return (307, String::new()),
            Answer::Status(status) => return (status, json!({"error": "told"}).to_string()),
        };
        endpoint.given.fetch_add(1, Ordering::Relaxed);
        (200, self.answer_with(audience, lifetime_s, is_told))
    }

    fn answer_with(&self, audience: &str, lifetime_s: i64, told: bool) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("it is after 1970").as_secs() as i64;
        let begun = now.min(now + lifetime_s) - 1;
        let claims = json!({
            "sub": "admin", "aud": audience, "iat": begun, "exp": now + lifetime_s, "scope": "read",
        });
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": "1"});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.shared.key.sign(signed.as_bytes());
        let signature = fixed(&signature.expect("a key signs"));
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        lock(&self.shared.tokens).push(token.clone());
        let mut answer = json!({"access_token": token, "token_type": "Bearer"});
        if told {
            answer["expires_in"] = json!(lifetime_s);
        }
        answer.to_string()
    }

    fn keys(&self) -> Value {
        // 4, and the two coordinates of a point.
        let point = self.shared.key.public_key_raw();
        let part = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1",
            "x": part(&point[1..33]), "y": part(&point[33..65]),
        }]})
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The head and the body of a request.
fn request(stream: &mut impl Read) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}

/// The two numbers of an ECDSA signature in 32 bytes each, as JWS has them; ring makes DER.
fn fixed(der: &[u8]) -> Vec<u8> {
    // A sequence of two integers, all shorter than 128 bytes.
    let mut numbers = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        numbers.extend(std::iter::repeat_n(0, 32 - number.len()));
        numbers.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    numbers
}

fn bound() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}
