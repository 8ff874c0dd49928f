//! Who reaches a session.

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::testing::{certificate, tls};

#[tokio::test]
async fn an_unknown_user_is_refused_as_a_wrong_password_is() {
    let served = serve("", "").await;
    let mut refusals = vec![];
    for (user, password) in [("ada", "wrong"), ("eve", PASSWORD), ("ADA", PASSWORD)] {
        let mut config = served.config(user);
        let refused = config
            .password(password)
            .connect(NoTls)
            .await
            .err()
            .unwrap();
        let (code, message) = failure(&refused);
        refusals.push((code, message.replace(user, "USER")));
    }
    let expected = "password authentication failed for user \"USER\"";
    assert_eq!(refusals[0], ("28P01".to_owned(), expected.to_owned()));
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]));
    served.ada().await;
}

#[tokio::test]
async fn a_session_knows_who_it_is_and_is_its_own() {
    let served = serve("", "").await;
    let (ada, bob) = (served.ada().await, served.connect("bob").await.unwrap());
    assert_eq!(ada.value("SELECT session_user").await, "ada");
    assert_eq!(bob.value("SELECT current_user").await, "bob");
    assert_eq!(
        ada.value("SELECT current_database(), current_schema()")
            .await,
        "kafka|public"
    );
    ada.rows("SET application_name = 'mine'").await.unwrap();
    assert_eq!(ada.value("SHOW application_name").await, "mine");
    assert_eq!(bob.value("SHOW application_name").await, "");
    assert_eq!(
        ada.value("SELECT current_setting('application_name')")
            .await,
        "mine"
    );
}

/// A certificate for `localhost`, in the folder of the port, and the lines that name it.
fn of(folder: &Path) -> String {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    format!("tls = {{ cert = {cert:?}, key = {key:?} }}")
}

#[tokio::test]
async fn with_a_certificate_nobody_logs_in_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let served = serve(&of(folder.path()), "").await;
    let mut config = served.config("ada");
    let refused = config
        .ssl_mode(SslMode::Disable)
        .connect(NoTls)
        .await
        .err()
        .unwrap();
    assert_eq!(
        failure(&refused),
        (
            "28000".into(),
            "this port takes connections with TLS only: set sslmode=require".into()
        )
    );
    let conninfo = |mode: &str| {
        let port = served.port.address().port();
        format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user=ada dbname=kafka sslmode={mode}"
        )
    };
    let root = folder.path().join("cert.pem");
    for (mode, root, works) in [
        ("verify-full", Some(&root), true),
        ("require", None, true),
        ("disable", None, false),
    ] {
        let mut psql = tokio::process::Command::new("psql");
        psql.args(["-X", "-A", "-t", "-c", "SELECT 1", &conninfo(mode)]);
        psql.env("PGPASSWORD", PASSWORD);
        if let Some(root) = root {
            psql.env("PGSSLROOTCERT", root);
        }
        let Ok(answer) = psql.output().await else {
            eprintln!("skipped: psql with TLS, as psql is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(answer.status.success(), works, "{mode}: {said}");
    }
}

/// Asks for TLS, with more bytes behind that, and speaks it.
async fn ask_for_tls(
    served: &Served,
    behind: &[u8],
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut tcp = TcpStream::connect(served.port.address()).await.unwrap();
    tcp.write_all(&[&[0, 0, 0, 8, 4, 210, 22, 47], behind].concat())
        .await
        .unwrap();
    let mut answer = [0];
    tcp.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"S");
    tls(tcp, trusted).await
}

#[tokio::test]
async fn bytes_from_before_the_handshake_are_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = certificate(folder.path());
    let served = serve(&of(folder.path()), "").await;
    // A start-up message that somebody else has put there.
    let startup = [&[0, 0, 0, 18, 0, 3, 0, 0][..], b"user\0eve\0\0"].concat();
    let mut tls = ask_for_tls(&served, &startup, &trusted).await.unwrap();
    let mut said = vec![];
    // It ends with or without a farewell of TLS, and without an answer.
    let _ = tls.read_to_end(&mut said).await;
    assert_eq!(said, b"");
}

#[tokio::test]
async fn the_certificate_changes_while_the_port_serves() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path());
    let served = serve(&of(folder.path()), "").await;
    let connect = async |trusted| ask_for_tls(&served, b"", trusted).await;
    connect(&first).await.unwrap();
    let second = certificate(folder.path());
    let config = Config::parse(&served.text, served.folder.path()).unwrap();
    served.renew(&config).await;
    assert!(connect(&first).await.is_err());
    std::fs::write(folder.path().join("cert.pem"), "").unwrap();
    let (postgres, connection) = (&config.postgres, config.connection("main").unwrap());
    let renewed = served.port.renew(postgres.as_ref().unwrap(), connection);
    assert!(renewed.await.is_err());
    connect(&second).await.unwrap();
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_certificate() {
    let text = "[connections.main]\n\"bootstrap.servers\" = \"memory:1\"\n\
         [postgres]\nlisten = \"0.0.0.0:0\"\nconnection = \"main\"\n\
         [postgres.users.ada]\npassword = \"env:CARGO_PKG_NAME\"\n";
    let config = Config::parse(text, Path::new("")).unwrap();
    let refused = PgPort::check(config.postgres.as_ref().unwrap())
        .await
        .unwrap_err();
    assert!(
        refused
            .message
            .contains("[postgres] 0.0.0.0:0 is reached from other machines and has no TLS"),
        "{refused}"
    );
}

#[tokio::test]
async fn users_change_while_the_port_serves() {
    let served = serve("", "").await;
    let before = served.ada().await;
    std::fs::write(served.folder.path().join("other"), "other").unwrap();
    let text = format!(
        "[connections.main]\n\"bootstrap.servers\" = \"memory:1\"\n\
         [postgres]\nlisten = \"127.0.0.1:0\"\nconnection = \"main\"\n\
         [postgres.users.ada]\npassword = \"file:{}\"\n",
        served.folder.path().join("other").display()
    );
    let config = Config::parse(&text, Path::new("")).unwrap();
    served.renew(&config).await;
    for user in ["ada", "bob"] {
        let refused = served.connect(user).await.err().unwrap();
        assert_eq!(failure(&refused).0, "28P01");
    }
    let _other = served
        .config("ada")
        .password("other")
        .connect(NoTls)
        .await
        .unwrap();
    let (code, message) = before.failure("SELECT 1").await;
    assert_eq!(code, "57P01");
    assert!(message.contains("connect again"), "{message}");
}

#[tokio::test]
async fn the_connection_and_the_catalog_file_change_while_the_port_serves() {
    let served = serve("", "").await;
    let before = served.ada().await;
    let same = Config::parse(&served.text, served.folder.path()).unwrap();
    served.renew(&same).await;
    assert_eq!(before.value("SELECT count(*) FROM few").await, "3");
    let catalog =
        "CREATE EXTERNAL TABLE first STORED AS KAFKA LOCATION 'orders' OPTIONS ('range' '0=0:1')";
    std::fs::write(served.folder.path().join("catalog.sql"), catalog).unwrap();
    let text = |mask: &str| {
        format!(
            "[connections.main]\n\"bootstrap.servers\" = \"memory:1\"\n{mask}\n\
             [postgres]\nlisten = \"127.0.0.1:0\"\nconnection = \"main\"\ncatalog = \"catalog.sql\"\n\
             [postgres.users.ada]\npassword = \"file:{}\"\n",
            served.folder.path().join("password").display()
        )
    };
    let config = |mask: &str| Config::parse(&text(mask), served.folder.path()).unwrap();
    served.renew(&config("")).await;
    let keys = ["first", "kafka('orders', '0=0:1')"]
        .map(|from| format!("SELECT CAST(key AS VARCHAR) FROM {from}"));
    let clear = served.ada().await;
    for keys in &keys {
        assert_eq!(clear.value(keys).await, "k0");
    }
    served.renew(&config("mask = [\"orders.key\"]")).await;
    let masked = served.ada().await;
    for keys in &keys {
        assert_eq!(masked.value(keys).await, "-");
    }
    let listed = "SELECT relname FROM pg_class WHERE relname IN ('few', 'first')";
    assert_eq!(masked.rows(listed).await.unwrap(), ["first"]);
    // Nobody goes on without the mask.
    for open in [before, clear] {
        assert_eq!(open.failure(&keys[1]).await.0, "57P01");
    }
    // A file that fails changes nothing.
    std::fs::write(served.folder.path().join("catalog.sql"), "nonsense").unwrap();
    let config = config("");
    let (postgres, connection) = (&config.postgres, config.connection("main").unwrap());
    let renewed = served.port.renew(postgres.as_ref().unwrap(), connection);
    assert!(renewed.await.is_err());
    assert_eq!(served.ada().await.value(&keys[0]).await, "-");
}
