//! Endpoints that give credentials to containers and to instances, as AWS does.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::json;

use crate::gate::Gate;

/// Credentials that a role has for some time.
#[derive(Debug, Clone)]
pub struct Given {
    pub id: String,
    pub secret: String,
    pub session: String,
    pub expires: SystemTime,
}

/// A running endpoint. Its thread ends with the process.
pub struct Credentials {
    port: u16,
    given: Arc<AtomicUsize>,
}

impl Credentials {
    /// An endpoint whose credentials last for this long. The gate knows them.
    pub fn start(gate: &Gate, lifetime: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let given = Arc::new(AtomicUsize::new(0));
        let (gate, counted) = (gate.clone(), Arc::clone(&given));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(&stream, &gate, lifetime, &counted);
            }
        });
        Self { port, given }
    }

    /// How often it gave credentials.
    pub fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    pub fn container_url(&self) -> String {
        format!("{}/container", self.instance_url())
    }

    pub fn refusing_url(&self) -> String {
        format!("{}/refused", self.instance_url())
    }

    pub fn instance_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn serve(
    mut stream: &TcpStream,
    gate: &Gate,
    lifetime: Duration,
    counted: &AtomicUsize,
) -> std::io::Result<()> {
    const ROLE: &str = "/latest/meta-data/iam/security-credentials/";
    /// What an instance gets first, and must show afterwards (IMDSv2).
    const SHOWN: &str = "session of the instance";
    let mut head = Vec::new();
    for line in BufReader::new(stream).lines() {
        match line? {
            line if line.is_empty() => break,
            line => head.push(line),
        }
    }
    let first: Vec<&str> = head
        .first()
        .map(|line| line.split(' ').collect())
        .unwrap_or_default();
    let shown = head.iter().any(|line| line.ends_with(SHOWN));
    let credentials = || {
        counted.fetch_add(1, Ordering::Relaxed);
        let given = gate.give(lifetime);
        let expires = Timestamp::try_from(given.expires).expect("a time of today");
        json!({
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": Timestamp::now().to_string(),
            "AccessKeyId": given.id, "SecretAccessKey": given.secret, "Token": given.session,
            "Expiration": expires.to_string(),
        })
        .to_string()
    };
    let (status, body) = match first[..] {
        ["GET", "/container", _] => (200, credentials()),
        ["GET", "/refused", _] => (403, json!({"message": "not for you"}).to_string()),
        ["PUT", "/latest/api/token", _] => (200, SHOWN.to_owned()),
        ["GET", path, _] if shown && path == ROLE => (200, "reader".to_owned()),
        ["GET", path, _] if shown && path.strip_prefix(ROLE) == Some("reader") => {
            (200, credentials())
        }
        _ => (404, String::new()),
    };
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}
