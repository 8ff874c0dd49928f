//! Sends events: a line of a file, or a POST that is repeated while the endpoint is down.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, InvalidHeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use super::event::Event;
use crate::config::LineageConfig;
use crate::problem::Problem;

/// How long an endpoint may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pauses between attempts; after the last one the event is dropped.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
];

pub(super) enum Endpoint {
    /// Open unless a write is going on in it.
    File { path: PathBuf, file: Option<File> },
    Url {
        client: Client,
        url: Url,
        token: Option<HeaderValue>,
    },
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Endpoint {
    pub(super) fn open(config: &LineageConfig) -> Result<Self, Problem> {
        let wrong = |key: &str, what: String| Problem::new(format!("lineage.{key}: {what}"));
        if let Some(path) = &config.file {
            let file = append(path);
            let file = file.map_err(|e| wrong("file", format!("{}: {e}", path.display())))?;
            return Ok(Self::File {
                path: path.clone(),
                file: Some(file),
            });
        }
        let url: Url = config
            .url
            .as_deref()
            .unwrap_or_default()
            .parse()
            .map_err(|e| wrong("url", format!("not a URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            let found = url.scheme();
            let what = format!("expected http://… or https://…, found the scheme '{found}'");
            return Err(wrong("url", what));
        }
        let token = config.token.as_ref().map(|token| {
            let mut header = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))?;
            header.set_sensitive(true);
            Ok::<_, InvalidHeaderValue>(header)
        });
        let token = token
            .transpose()
            .map_err(|_| wrong("token", "it has characters that no header takes".to_owned()))?;
        let client = client().map_err(|what| wrong("url", what))?;
        Ok(Self::Url { client, url, token })
    }

    /// Sends an event, or says in the log why it could not.
    pub(super) async fn send(&mut self, event: &Event) {
        let text = match serde_json::to_string(event) {
            Ok(text) => text,
            Err(error) => return log::warn!("lineage: an event is lost: {error}"),
        };
        let sent = match self {
            Self::File { path, file } => write(path, file, text).await,
            Self::Url { client, url, token } => post(client, url, token.as_ref(), &text).await,
        };
        if let Err(reason) = sent {
            log::warn!("lineage: an event is lost: {}: {reason}", self.name());
        }
    }

    /// The place, without a login that its URL may have.
    fn name(&self) -> String {
        match self {
            Self::File { path, .. } => path.display().to_string(),
            Self::Url { url, .. } => {
                format!("{}{}", url.origin().ascii_serialization(), url.path())
            }
        }
    }
}

/// Opens a file for appending. Statements are in it, so others cannot read it.
fn append(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

async fn write(path: &Path, file: &mut Option<File>, mut line: String) -> Result<(), String> {
    line.push('\n');
    let (path, open) = (path.to_path_buf(), file.take());
    let written = tokio::task::spawn_blocking(move || {
        // One that failed before, or was moved away by a rotation, is opened anew.
        let mut open = match open {
            Some(open) if path.exists() => open,
            _ => append(&path)?,
        };
        open.write_all(line.as_bytes())?;
        Ok::<_, std::io::Error>(open)
    });
    match written.await {
        Ok(Ok(open)) => {
            *file = Some(open);
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn post(
    client: &Client,
    url: &Url,
    token: Option<&HeaderValue>,
    event: &str,
) -> Result<(), String> {
    let mut pauses = PAUSES.iter();
    loop {
        let mut request = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(event.to_owned());
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let (reason, may_pass) = match request.send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status();
                let may_pass = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                (format!("it answers {status}"), may_pass)
            }
            Err(error) => (with_causes(&error.without_url()), true),
        };
        match pauses.next() {
            Some(pause) if may_pass => tokio::time::sleep(*pause).await,
            _ => return Err(reason),
        }
    }
}

/// A client that follows no redirect: the token is for this endpoint.
fn client() -> Result<Client, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .user_agent(concat!("kafka-sql/", env!("CARGO_PKG_VERSION")))
        .use_preconfigured_tls(tls)
        .redirect(Policy::none())
        .timeout(TIMEOUT)
        .build()
        .map_err(|e| format!("HTTP cannot be set up: {}", with_causes(&e)))
}

/// An error with what caused it, which `Display` of reqwest's errors leaves out.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
