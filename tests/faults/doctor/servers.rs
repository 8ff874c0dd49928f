//! Servers that are not as they should be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

use crate::support::{KafkaOptions, KafkaServer, Listener, admin};

/// A port on which nothing listens. It stays taken, so that nobody else does.
pub(super) fn closed_port() -> u16 {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    let any = "127.0.0.1:0".parse().expect("an address");
    socket.bind(any).expect("a free port");
    let port = socket.local_addr().expect("it is bound").port();
    std::mem::forget(socket);
    port
}

/// A port whose queue of connections is full, so that further ones get no answer.
pub(super) struct BlackHole {
    pub(super) address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _waiting: Vec<tokio::task::JoinHandle<std::io::Result<tokio::net::TcpStream>>>,
}

impl BlackHole {
    pub(super) fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind("127.0.0.1:0".parse().expect("an address"))
            .expect("a free port");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("it is bound");
        let waiting = (0..8).map(|_| tokio::spawn(tokio::net::TcpStream::connect(address)));
        let waiting = waiting.collect();
        std::thread::sleep(Duration::from_millis(300));
        Self {
            address,
            _listener: listener,
            _waiting: waiting,
        }
    }
}

/// A server that sends this to whoever connects, once they have said something.
pub(super) fn server(says: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 512]);
                if says.is_empty() {
                    let _ = stream.read_to_end(&mut Vec::new());
                }
                let _ = stream.write_all(says);
            });
        }
    });
    address.to_string()
}

/// A broker whose certificate for logins expires in a week. That of its other listener has expired. Without
/// TLS it only offers PLAIN.
pub(super) struct Dated {
    pub(super) server: KafkaServer,
    pub(super) ca: String,
    _folder: tempfile::TempDir,
}

pub(super) fn dated() -> &'static Dated {
    static DATED: OnceLock<Dated> = OnceLock::new();
    DATED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "dated authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let now = std::time::SystemTime::now();
        let week = now + Duration::from_secs(7 * 24 * 3600 - 600);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let store = |name: &str, until: &dyn Fn(&mut CertificateParams)| {
            let file = path(&format!("{name}.pem"));
            std::fs::write(&file, format!("{}{ca}", leaf(&issuer, name, until))).expect("written");
            file
        };
        let soon = store("soon", &|params| params.not_after = week.into());
        let expired = store("expired", &|params| {
            params.not_after = rcgen::date_time_ymd(2001, 1, 2);
        });
        std::fs::write(path("ca.pem"), &ca).expect("written");
        let options = KafkaOptions::default()
            .listener(Listener::SaslPlaintext)
            .listener(Listener::SaslSsl)
            .listener(Listener::Ssl)
            .property("listener.name.sasl_ssl.ssl.keystore.type", "PEM")
            .property("listener.name.sasl_ssl.ssl.keystore.location", &soon)
            .property("listener.name.ssl.ssl.keystore.type", "PEM")
            .property("listener.name.ssl.ssl.keystore.location", &expired)
            .property(
                "listener.name.sasl_plaintext.sasl.enabled.mechanisms",
                "PLAIN",
            );
        let server = KafkaServer::start(options);
        admin::create_topic(server.bootstrap(), "any", 1, &[]);
        let ca = path("ca.pem");
        Dated {
            server,
            ca,
            _folder: folder,
        }
    })
}

/// A key and its certificate (PEM), which is good until then.
pub(super) fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    until: &dyn Fn(&mut CertificateParams),
) -> String {
    let hosts = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    let mut params = CertificateParams::new(hosts).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    until(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    format!("{}{}", key.serialize_pem(), certificate.pem())
}
