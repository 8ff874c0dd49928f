use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;
use crate::config::{HttpConfig, Secret, TlsConfig};
use crate::testing::{INSERT, World, certificate, tls, until};

/// A text that stands in the environment, and where.
const TOKEN: (&str, &str) = (env!("CARGO_PKG_NAME"), "env:CARGO_PKG_NAME");

/// A service with one job that is idle, and its port.
struct Served {
    world: World,
    service: Arc<Service>,
    address: SocketAddr,
    port: Arc<Port>,
    closing: watch::Sender<bool>,
}

async fn serve(http: &HttpConfig) -> Served {
    let world = World::new();
    world.configure("[jobs.orders]\nfile = \"orders.sql\"\nconnection = \"main\"\n[http]\nlisten = \"127.0.0.1:0\"");
    world.write("orders.sql", INSERT);
    let (service, _) = world.run();
    until("it looks", || {
        !service.jobs().is_empty() && service.not_ready().is_empty()
    })
    .await;
    let (closing, closed) = watch::channel(false);
    let port = Arc::new(Port::open(http, closed).await.unwrap());
    let address = port.address();
    let router = of_service(&service, port.guard());
    let serving = Arc::clone(&port);
    tokio::spawn(async move { serving.serve(router).await });
    Served {
        world,
        service,
        address,
        port,
        closing,
    }
}

fn http(token: bool) -> HttpConfig {
    let mut http = HttpConfig::new("127.0.0.1:0");
    http.token = token.then(|| Secret::new("token", TOKEN.1).unwrap());
    http
}

impl Served {
    /// The status and the whole answer to a request.
    async fn ask(&self, request: &str, headers: &[&str]) -> (u16, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        ask(stream, request, "127.0.0.1", headers).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        self.service.close();
    }
}

/// The token as a browser's dialog sends it.
fn basic() -> String {
    use base64::Engine;
    let given = format!("anybody:{}", TOKEN.0);
    let given = base64::prelude::BASE64_STANDARD.encode(given);
    format!("Authorization: Basic {given}")
}

async fn ask(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    request: &str,
    host: &str,
    headers: &[&str],
) -> (u16, String) {
    let headers: String = headers
        .iter()
        .map(|header| format!("{header}\r\n"))
        .collect();
    let request =
        format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![];
    // A TLS stream may end without a farewell.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.unwrap_or(0), answer)
}

#[tokio::test]
async fn everybody_on_the_machine_may_look() {
    let served = serve(&http(true)).await;
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/api/jobs",
        "/api/jobs/orders",
    ] {
        let (status, answer) = served.ask(&format!("GET {path}"), &[]).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let (status, answer) = served.ask("GET /api/jobs/none", &[]).await;
    assert_eq!(status, 404);
    assert!(answer.contains("there is no job 'none'"), "{answer}");
    let (_, answer) = served.ask("GET /api/jobs/orders", &[]).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let job: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(job["name"], "orders");
    assert_eq!(job["state"], "idle");
    assert_eq!(job["totals"]["committed"], 0);
}

#[tokio::test]
async fn only_who_has_the_token_may_change_something() {
    let served = serve(&http(true)).await;
    let bearer = format!("Authorization: Bearer {}", TOKEN.0);
    for headers in [&[][..], &["Authorization: Bearer wrong"], &[&basic()]] {
        let (status, answer) = served.ask("POST /api/jobs/orders/pause", headers).await;
        assert_eq!(status, 401, "{answer}");
    }
    assert_eq!(served.service.jobs()[0].state.name(), "idle");
    let (status, answer) = served.ask("POST /api/jobs/orders/pause", &[&bearer]).await;
    assert_eq!(status, 202, "{answer}");
    until("it is paused", || {
        served.service.jobs()[0].state.name() == "paused"
    })
    .await;
    let (status, _) = served.ask("POST /api/jobs/orders/resume", &[&bearer]).await;
    assert_eq!(status, 202);
    served.world.produce(0, 1);
    until("it goes on", || served.world.rows() == 1).await;
    assert_eq!(
        served.ask("POST /api/jobs/none/pause", &[&bearer]).await.0,
        404
    );
    assert_eq!(
        served
            .ask("POST /api/jobs/orders/dance", &[&bearer])
            .await
            .0,
        404
    );
    assert_eq!(
        served.ask("GET /api/jobs/orders/pause", &[&bearer]).await.0,
        405
    );
}

#[tokio::test]
async fn without_a_token_nobody_may_change_anything() {
    let served = serve(&http(false)).await;
    let (status, answer) = served
        .ask("POST /api/jobs/orders/pause", &["Authorization: Bearer "])
        .await;
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("[http] has no token"), "{answer}");
}

#[tokio::test]
async fn other_names_of_the_machine_are_those_of_the_file() {
    let mut config = http(true);
    config.hosts = vec!["kafka.example.com".to_owned()];
    let served = serve(&config).await;
    let names = [
        ("localhost:8080", 200),
        ("[::1]:8080", 200),
        ("KAFKA.example.com", 200),
        ("evil.example.com", 421),
        ("127.0.0.1.example.com", 421),
        ("", 421),
    ];
    for (host, expected) in names {
        let stream = TcpStream::connect(served.address).await.unwrap();
        let (status, answer) = ask(stream, "GET /api/jobs", host, &[]).await;
        assert_eq!(status, expected, "{host}: {answer}");
    }
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (status, _) = ask(stream, "GET /livez", "10.0.0.1", &[]).await;
    assert_eq!(status, 200, "probes come from anywhere");
}

#[tokio::test]
async fn beyond_the_machine_whoever_looks_needs_the_token_too() {
    let mut config = http(true);
    config.listen = "0.0.0.0:0".to_owned();
    let refused = Port::open(&config, watch::channel(false).1)
        .await
        .unwrap_err();
    assert!(refused.message.contains("has no TLS"), "{refused}");
    config.insecure = true;
    let mut served = serve(&config).await;
    served.address.set_ip([127, 0, 0, 1].into());
    let bearer = format!("Authorization: Bearer {}", TOKEN.0);
    for path in ["/metrics", "/api/jobs", "/api/events"] {
        let (status, answer) = served.ask(&format!("GET {path}"), &[]).await;
        assert_eq!(status, 401, "{path}: {answer}");
        assert!(answer.contains("www-authenticate: Basic"), "{answer}");
    }
    assert_eq!(served.ask("GET /api/jobs", &[&bearer]).await.0, 200);
    assert_eq!(served.ask("GET /api/jobs", &[&basic()]).await.0, 200);
    for probe in ["/livez", "/readyz"] {
        assert_eq!(served.ask(&format!("GET {probe}"), &[]).await.0, 200);
    }
}

#[tokio::test]
async fn tls_is_spoken_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let with = |cert: &str| {
        let mut http = http(false);
        let files = format!(
            "cert = '{0}/{cert}'\nkey = '{0}/key.pem'",
            folder.path().display()
        );
        http.tls = Some(toml::from_str::<TlsConfig>(&files).unwrap());
        http
    };
    let first = certificate(folder.path());
    // Nothing is served where the certificate is of no use.
    assert!(
        Port::open(&with("none.pem"), watch::channel(false).1)
            .await
            .is_err()
    );
    let config = with("cert.pem");
    let served = serve(&config).await;
    let connect = async |trusted: &CertificateDer<'static>| {
        let tcp = TcpStream::connect(served.address).await.unwrap();
        tls(tcp, trusted).await
    };
    let stream = connect(&first).await.unwrap();
    assert_eq!(ask(stream, "GET /livez", "localhost", &[]).await.0, 200);
    assert_eq!(
        served.ask("GET /livez", &[]).await.0,
        0,
        "clear text gets no answer"
    );
    // The files are read again, and stay what they were if they are of no use.
    let second = certificate(folder.path());
    (served.port.renew(&config).ok().unwrap())();
    assert!(connect(&first).await.is_err());
    std::fs::write(folder.path().join("cert.pem"), "").unwrap();
    assert!(served.port.renew(&config).is_err());
    let stream = connect(&second).await.unwrap();
    assert_eq!(ask(stream, "GET /livez", "localhost", &[]).await.0, 200);
}

#[tokio::test]
async fn events_begin_with_all_jobs_and_end_with_the_service() {
    let served = serve(&http(false)).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = "GET /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = String::new();
    let mut part = [0; 4096];
    let mut produced = false;
    while !said.contains("\"event\":\"batch\"") {
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&part[..read]));
        if said.contains("event: job") && !produced {
            served.world.produce(0, 1);
            produced = true;
        }
    }
    served.service.close();
    let mut rest = vec![];
    // It ends, and does not wait for ever.
    stream.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn connections_that_do_nothing_hold_up_no_probe() {
    let served = serve(&http(false)).await;
    let mut idle = vec![];
    for _ in 0..port::CONNECTIONS {
        idle.push(TcpStream::connect(served.address).await.unwrap());
    }
    for probe in ["/livez", "/readyz"] {
        let (status, answer) = served.ask(&format!("GET {probe}"), &[]).await;
        assert_eq!(status, 200, "{probe}: {answer}");
    }
    let (status, answer) = served.ask("GET /api/jobs", &[]).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("256 connections already"), "{answer}");
}

#[tokio::test]
async fn only_so_many_follow_the_events() {
    let served = serve(&http(false)).await;
    let follow = || async {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let request = "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        (stream, String::from_utf8_lossy(&status).into_owned())
    };
    let mut followers = vec![];
    for _ in 0..crate::service::FOLLOWERS {
        let (stream, status) = follow().await;
        assert_eq!(status, "HTTP/1.1 200");
        followers.push(stream);
    }
    assert_eq!(follow().await.1, "HTTP/1.1 503");
    drop(followers);
    let again = async { while follow().await.1 != "HTTP/1.1 200" {} };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), again).await;
    assert!(waited.is_ok(), "whoever goes leaves a place");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_loses_its_connection() {
    let (mut client, server) = tokio::io::duplex(1000);
    let router = Router::new().route("/", get(|| async { vec![b'x'; 1 << 20] }));
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let pipe = crate::pipe::Pipe::new(server, std::time::Duration::from_millis(50));
    let (_open, closing) = watch::channel(false);
    port::answer(pipe, router, closing).await;
    let mut part = vec![];
    client.read_to_end(&mut part).await.unwrap();
    assert!(part.len() < 1 << 20, "{}", part.len());
}
