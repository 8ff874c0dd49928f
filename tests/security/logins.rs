//! Each mechanism, by librdkafka's names, by a file for Java, and by the options of a table.

use std::process::Command;
use std::sync::OnceLock;

use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::session::KafkaSessionBuilder;

use super::identity::{CLIENT, SECRET};
use super::{Bed, RECORDS, Settings, config, filled, outcome, read, settings};
use crate::sql::rows as rows_of;
use crate::support::documented::documented;
use crate::support::{Listener, Login, PASSWORD, admin, shared};

documented!(
    "security.md",
    "Mechanisms",
    [
        "wire, keys",
        "wire, Java",
        "wire, SQL",
        "librdkafka, keys",
        "librdkafka, Java",
        "librdkafka, SQL"
    ],
    [
        plain,
        plain_over_tls,
        scram_sha_256_over_tls,
        scram_sha_512_over_tls,
        oauthbearer_client_credentials,
        oauthbearer_endpoint_with_a_private_authority,
        oauthbearer_unsecured_token,
        tls_pem_files,
        tls_pem_in_the_settings,
        tls_encrypted_key,
        tls_pkcs12_stores,
        tls_jks_stores,
    ],
    slow []
);

/// Reads a topic of the shared broker, or of the bed's, in the way that a column names.
async fn tried(column: &str, keys: Settings, java: Settings, topic: &str) -> String {
    let (client, way) = column.split_once(", ").expect("client, way");
    let mut client_only = settings([("kafka.client", client)]);
    match way {
        "keys" => {
            client_only.extend(keys);
            let config = config(&client_only).unwrap_or_else(|e| panic!("{column}: {e}"));
            outcome(read(config, topic).await, &[])
        }
        "Java" => {
            let escaped = |text: &str| text.replace('\\', "\\\\").replace('\n', "\\n");
            let lines = java.iter().map(|(k, v)| format!("{k}={}\n", escaped(v)));
            let file = tempfile::NamedTempFile::new().expect("cannot make a file");
            // A line that only Java has: the file is read as Java reads it.
            let text = format!("key.deserializer=x\n{}", lines.collect::<String>());
            std::fs::write(file.path(), text).expect("cannot write a file");
            let read_file = ConnectionConfig::from_file(file.path());
            let mut connection = read_file.unwrap_or_else(|e| panic!("{column}: {e}"));
            connection.merge(&config(&client_only).expect("it is known"));
            outcome(read(connection, topic).await, &[])
        }
        _ => {
            client_only.extend(keys);
            let quoted = |text: &str| text.replace('\'', "''");
            let options = client_only.iter().map(|(key, value)| {
                let key = format!("kafka.{}", key.trim_start_matches("kafka."));
                format!("'{key}' '{}'", quoted(value))
            });
            let options = options.collect::<Vec<_>>().join(", ");
            let session = KafkaSessionBuilder::new().build().expect("no settings");
            let create = format!(
                "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION '{topic}' OPTIONS ({options})"
            );
            rows_of(&session, &create).await;
            let found = rows_of(&session, "SELECT count(value) FROM t").await;
            match found == [RECORDS.to_string()] {
                true => "reads".to_owned(),
                false => format!("{found:?}"),
            }
        }
    }
}

/// A topic that alice may read, too.
fn topic() -> &'static str {
    static TOPIC: OnceLock<String> = OnceLock::new();
    tokio::task::block_in_place(|| {
        TOPIC.get_or_init(|| {
            let topic = filled(shared().bootstrap());
            admin::allow_topic(shared(), "User:alice", "Read", &topic);
            topic
        })
    })
}

/// The same settings in Java's names, with a login module.
async fn with_module(
    column: &str,
    listener: Listener,
    login: Login<'_>,
    mechanism: &str,
    module: &str,
) -> String {
    let keys = tokio::task::block_in_place(|| shared().client_settings(listener, login));
    let ca = shared().ca_pem_path().display().to_string();
    let bootstrap = shared().bootstrap_of(listener);
    let mut java = vec![
        ("bootstrap.servers", bootstrap.as_str()),
        ("security.protocol", listener.protocol()),
        ("sasl.mechanism", mechanism),
        ("sasl.jaas.config", module),
    ];
    if listener == Listener::SaslSsl {
        java.push(("ssl.truststore.type", "PEM"));
        java.push(("ssl.truststore.location", &ca));
    }
    tried(column, keys, settings(java), topic()).await
}

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";
const OAUTH: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";

fn user(module: &str) -> String {
    format!("{module} required username=\"admin\" password=\"{PASSWORD}\";")
}

async fn plain(column: &str) -> String {
    let login = Login::Plain("admin", PASSWORD);
    with_module(
        column,
        Listener::SaslPlaintext,
        login,
        "PLAIN",
        &user(PLAIN),
    )
    .await
}

async fn plain_over_tls(column: &str) -> String {
    let login = Login::Plain("admin", PASSWORD);
    with_module(column, Listener::SaslSsl, login, "PLAIN", &user(PLAIN)).await
}

async fn scram_sha_256_over_tls(column: &str) -> String {
    let login = Login::ScramSha256("admin", PASSWORD);
    with_module(
        column,
        Listener::SaslSsl,
        login,
        "SCRAM-SHA-256",
        &user(SCRAM),
    )
    .await
}

async fn scram_sha_512_over_tls(column: &str) -> String {
    let login = Login::ScramSha512("admin", PASSWORD);
    with_module(
        column,
        Listener::SaslSsl,
        login,
        "SCRAM-SHA-512",
        &user(SCRAM),
    )
    .await
}

async fn oauthbearer_unsecured_token(column: &str) -> String {
    let login = Login::OAuthBearer("admin");
    let module = format!("{OAUTH} required unsecuredLoginStringClaim_sub=\"admin\";");
    with_module(column, Listener::SaslSsl, login, "OAUTHBEARER", &module).await
}

async fn oauthbearer_client_credentials(column: &str) -> String {
    let bed = Bed::shared();
    let endpoint = bed.identity.endpoint(&[], 3600);
    let module = format!(
        "{OAUTH} required clientId=\"{CLIENT}\" clientSecret=\"{SECRET}\" scope=\"read\" \
         extension_trace=\"a\";"
    );
    let java = settings([
        (
            "bootstrap.servers",
            bed.server.bootstrap_of(Listener::SaslPlaintext).as_str(),
        ),
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.jaas.config", &module),
        ("sasl.oauthbearer.token.endpoint.url", &endpoint.url),
        (
            "sasl.login.callback.handler.class",
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
        ),
    ]);
    tried(column, bed.credentials(&endpoint.url), java, &bed.topic).await
}

async fn oauthbearer_endpoint_with_a_private_authority(column: &str) -> String {
    let bed = Bed::shared();
    let endpoint = bed.identity.endpoint(&[], 3600);
    let path = endpoint.url.find("/token").expect("a path");
    let mut keys = bed.credentials(&format!("{}{}", bed.behind_tls, &endpoint.url[path..]));
    keys.extend(settings([(
        "https.ca.location",
        bed.path("ca.pem").as_str(),
    )]));
    tried(column, keys, Settings::new(), &bed.topic).await
}

/// Client certificates: the settings besides those of the listener.
async fn certificate(column: &str, keys: &[(&str, String)], java: &[(&str, String)]) -> String {
    let bootstrap = shared().bootstrap_of(Listener::Ssl);
    let with = |own: &[(&str, String)]| {
        let all = [
            ("bootstrap.servers", bootstrap.clone()),
            ("security.protocol", "SSL".to_owned()),
        ];
        let all = all.iter().chain(own);
        settings(all.map(|(k, v)| (*k, v.as_str())))
    };
    tried(column, with(keys), with(java), topic()).await
}

fn content(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).expect("the file is there")
}

fn shown(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// The trusted authority in Java's names.
fn java_trust() -> [(&'static str, String); 2] {
    [
        ("ssl.truststore.type", "PEM".to_owned()),
        ("ssl.truststore.location", shown(shared().ca_pem_path())),
    ]
}

async fn tls_pem_files(column: &str) -> String {
    let server = tokio::task::block_in_place(shared);
    let both = tempfile::NamedTempFile::new().expect("cannot make a file");
    let text = content(server.client_key_path()) + &content(server.client_certificate_path());
    std::fs::write(both.path(), text).expect("cannot write a file");
    let keys = [
        ("ssl.ca.location", shown(server.ca_pem_path())),
        (
            "ssl.certificate.location",
            shown(server.client_certificate_path()),
        ),
        ("ssl.key.location", shown(server.client_key_path())),
    ];
    let [kind, trust] = java_trust();
    let java = [
        kind,
        trust,
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", shown(both.path())),
    ];
    certificate(column, &keys, &java).await
}

async fn tls_pem_in_the_settings(column: &str) -> String {
    let server = tokio::task::block_in_place(shared);
    let keys = [
        ("ssl.ca.pem", content(server.ca_pem_path())),
        (
            "ssl.certificate.pem",
            content(server.client_certificate_path()),
        ),
        ("ssl.key.pem", content(server.client_key_path())),
    ];
    let java = [
        ("ssl.truststore.type", "PEM".to_owned()),
        ("ssl.truststore.certificates", content(server.ca_pem_path())),
        ("ssl.keystore.type", "PEM".to_owned()),
        (
            "ssl.keystore.certificate.chain",
            content(server.client_certificate_path()),
        ),
        ("ssl.keystore.key", content(server.client_key_path())),
    ];
    certificate(column, &keys, &java).await
}

async fn tls_encrypted_key(column: &str) -> String {
    let server = tokio::task::block_in_place(shared);
    let folder = tempfile::tempdir().expect("cannot make a folder");
    let key = shown(&folder.path().join("encrypted.pem"));
    run(
        "openssl",
        &[
            "pkcs8",
            "-topk8",
            "-v2",
            "aes-256-cbc",
            "-passout",
            "pass:of the key",
            "-in",
            &shown(server.client_key_path()),
            "-out",
            &key,
        ],
    );
    let both = shown(&folder.path().join("both.pem"));
    let text = content(key.as_ref()) + &content(server.client_certificate_path());
    std::fs::write(&both, text).expect("cannot write a file");
    let keys = [
        ("ssl.ca.location", shown(server.ca_pem_path())),
        (
            "ssl.certificate.location",
            shown(server.client_certificate_path()),
        ),
        ("ssl.key.location", key),
        ("ssl.key.password", "of the key".to_owned()),
    ];
    let [kind, trust] = java_trust();
    let java = [
        kind,
        trust,
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", both),
        ("ssl.key.password", "of the key".to_owned()),
    ];
    certificate(column, &keys, &java).await
}

/// Settings of stores that keytool has made. They have the same names for everyone.
type Stores = OnceLock<(tempfile::TempDir, Vec<(&'static str, String)>)>;

async fn stores(column: &str, kind: &str, made: &'static Stores) -> String {
    let made = tokio::task::block_in_place(|| made.get_or_init(|| made_by_keytool(kind)));
    certificate(column, &made.1, &made.1).await
}

fn made_by_keytool(kind: &str) -> (tempfile::TempDir, Vec<(&'static str, String)>) {
    let of_client = shared().client_settings(Listener::Ssl, Login::CertificateStore);
    let of = |name: &str| {
        let found = of_client.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).expect("a key store")
    };
    let password = of("ssl.keystore.password");
    let folder = tempfile::tempdir().expect("cannot make a folder");
    let trust = shown(&folder.path().join("trust"));
    let own = shown(&folder.path().join("own"));
    let new = ["-storetype", kind, "-storepass", &password];
    let ca = shown(shared().ca_pem_path());
    let import = ["-importcert", "-noprompt", "-alias", "ca", "-file", &ca];
    run(
        "keytool",
        &[&import[..], &["-keystore", &trust], &new].concat(),
    );
    run(
        "keytool",
        &[
            "-importkeystore",
            "-noprompt",
            "-srckeystore",
            &of("ssl.keystore.location"),
            "-srcstoretype",
            "PKCS12",
            "-srcstorepass",
            &password,
            "-destkeystore",
            &own,
            "-deststoretype",
            kind,
            "-deststorepass",
            &password,
        ],
    );
    let all = vec![
        ("ssl.truststore.type", kind.to_owned()),
        ("ssl.truststore.location", trust),
        ("ssl.truststore.password", password.clone()),
        ("ssl.keystore.type", kind.to_owned()),
        ("ssl.keystore.location", own),
        ("ssl.keystore.password", password),
    ];
    (folder, all)
}

async fn tls_pkcs12_stores(column: &str) -> String {
    static MADE: Stores = OnceLock::new();
    stores(column, "PKCS12", &MADE).await
}

async fn tls_jks_stores(column: &str) -> String {
    static MADE: Stores = OnceLock::new();
    stores(column, "JKS", &MADE).await
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output();
    let done = done.unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
}
