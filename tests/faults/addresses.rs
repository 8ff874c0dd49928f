//! Addresses at which no broker answers, and brokers that limit connections: `docs/faults.md`.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::machine::may_mount;
use super::proxied::{NO_HOST, Topic, bed, outcome, session};
use crate::job;
use crate::support::documented::documented;
use crate::support::proxy::{Proxy, Weather};
use crate::support::{KafkaOptions, KafkaServer, admin};

documented!(
    "faults.md",
    "Addresses and limits",
    ["wire", "librdkafka"],
    [
        first_server_refuses,
        first_server_accepts_and_closes,
        first_server_does_not_answer,
        first_address_of_a_name_refuses,
        first_address_of_a_name_does_not_answer,
        advertised_name_does_not_resolve,
    ],
    slow [
        two_connections_at_a_time,
        two_new_connections_a_second,
        request_quota,
    ]
);

const LIMITS: [(&str, &str); 2] = [
    ("request.timeout.ms", "15000"),
    ("read.timeout.ms", "10000"),
];

/// An address that accepts no connection and does not refuse it either.
struct BlackHole {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    /// A listener that accepts nothing, whose queue is full.
    fn at(address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(address).expect("the address is free");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("an address");
        let queued = std::iter::from_fn(|| {
            TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()
        });
        Self {
            address,
            _queued: queued.take(10_000).collect(),
            _listener: listener,
        }
    }
}

async fn read(client: &str, bootstrap: &str, topic: &Topic) -> String {
    let settings = [&[("kafka.client", client)], &LIMITS[..]].concat();
    outcome(&session(bootstrap, &settings), topic, || {}).await
}

async fn behind(client: &str, first: &str) -> String {
    let way = bed().way();
    read(client, &format!("{first},{}", way.address()), &bed().usual).await
}

async fn first_server_refuses(client: &str) -> String {
    behind(client, "127.0.0.1:9").await
}

/// A load balancer whose backend is gone.
async fn first_server_accepts_and_closes(client: &str) -> String {
    let gone = Proxy::start();
    gone.weather(Weather::Closes);
    behind(client, &gone.address()).await
}

async fn first_server_does_not_answer(client: &str) -> String {
    let hole = BlackHole::at(SocketAddr::from(([127, 0, 0, 1], 0)));
    behind(client, &hole.address.to_string()).await
}

/// Reads from a name with two addresses, of which the second or the first is the broker's. Another one is
/// tried where the broker's comes first: systems sort addresses.
async fn named(client: &str, dead: impl Fn(SocketAddr)) -> String {
    if !may_mount() {
        eprintln!("not run: this process may not change /etc/hosts for another (unshare -rm)");
        return "exact".to_owned();
    }
    let way = bed().way();
    for (alive, other) in [
        ([127, 0, 0, 1], [127, 0, 0, 2]),
        ([127, 0, 0, 2], [127, 0, 0, 1]),
    ] {
        let proxy = Proxy::start_at(IpAddr::from(alive));
        proxy.forward_to(&bed().server.behind(&way.address()));
        let port = proxy
            .address()
            .parse::<SocketAddr>()
            .expect("an address")
            .port();
        dead(SocketAddr::from((other, port)));
        let hosts = tempfile::NamedTempFile::new().expect("a file");
        let text = "127.0.0.1 broker.test\n127.0.0.2 broker.test\n127.0.0.1 localhost\n";
        std::fs::write(hosts.path(), text).expect("a file");
        let mut reading = Command::new("unshare");
        reading
            .args([
                "-rm",
                "sh",
                "-c",
                r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#,
                "sh",
            ])
            .arg(hosts.path())
            .arg(env!("CARGO_BIN_EXE_kafka-sql"))
            .args([
                "-b",
                &format!("broker.test:{port}"),
                "-X",
                &format!("kafka.client={client}"),
            ])
            .args([
                "query",
                &format!(
                    "SELECT count(value) AS n FROM kafka('{}')",
                    bed().usual.name
                ),
            ])
            .env_remove("KAFKA_SQL_CONFIG");
        let output = tokio::task::block_in_place(|| reading.output()).expect("it starts");
        let text = job::text(&output);
        if !output.status.success() || !text.contains("4200") {
            return format!("{alive:?}: {text}");
        }
    }
    "exact".to_owned()
}

async fn first_address_of_a_name_refuses(client: &str) -> String {
    named(client, |_| {}).await
}

async fn first_address_of_a_name_does_not_answer(client: &str) -> String {
    named(client, |address| std::mem::forget(BlackHole::at(address))).await
}

async fn advertised_name_does_not_resolve(client: &str) -> String {
    read(client, &bed().server.behind(NO_HOST), &bed().usual).await
}

/// A broker with a limit, and a topic on it.
async fn limited(client: &str, limit: &str) -> String {
    let (server, topic) = tokio::task::block_in_place(|| {
        let server = KafkaServer::start(KafkaOptions::default());
        let bootstrap = server.bootstrap();
        let topic = Topic::fill(bootstrap, "limited", (3, 1000, 500), "50000");
        let arguments = [
            "--bootstrap-server",
            bootstrap,
            "--alter",
            "--entity-type",
            "brokers",
            "--entity-name",
            "1",
            "--add-config",
            limit,
        ];
        server.run_tool("kafka.admin.ConfigCommand", &arguments);
        (server, topic)
    });
    read(client, server.bootstrap(), &topic).await
}

async fn two_connections_at_a_time(client: &str) -> String {
    limited(client, "max.connections.per.ip=2").await
}

async fn two_new_connections_a_second(client: &str) -> String {
    limited(client, "max.connection.creation.rate=2").await
}

/// One per cent of a broker's thread, for many small requests.
async fn request_quota(client: &str) -> String {
    let way = bed().way();
    let id = admin::unique_topic("throttled");
    admin::limit_client(bed().server.bootstrap(), &id, "request_percentage", 1);
    let settings = [
        ("kafka.client", client),
        ("client.id", &id),
        ("fetch.message.max.bytes", "1000"),
        ("read.timeout.ms", "10000"),
    ];
    outcome(&session(&way.address(), &settings), &bed().usual, || {}).await
}
