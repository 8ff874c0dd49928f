//! The tables of docs/security.md, whose rows are tests on real brokers.

mod certificates;
mod identity;
mod logins;
mod made;
mod rights;
mod tokens;

use std::sync::OnceLock;

use datafusion::error::DataFusionError;
use datafusion_kafka::Error;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::session::KafkaSessionBuilder;
use futures::TryStreamExt;
use tempfile::TempDir;

use self::identity::{AUDIENCE, CLIENT, Identity, SECRET};
use self::made::Authority;
use crate::sql::{error, rows, session_with};
use crate::support::{
    KafkaOptions, KafkaServer, Listener, Login, PASSWORD, Record, admin, produce,
};

type Settings = Vec<(String, String)>;

fn settings<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Settings {
    let pairs = pairs.into_iter();
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn config(pairs: &[(String, String)]) -> datafusion_kafka::Result<ConnectionConfig> {
    let mut config = ConnectionConfig::empty();
    for (key, value) in pairs {
        config.set(key, value)?;
    }
    Ok(config)
}

/// The records of [`Bed::topic`].
const RECORDS: usize = 5;

/// A broker that asks an identity provider, and has listeners with odd certificates.
struct Bed {
    server: KafkaServer,
    identity: Identity,
    /// The URL of the provider behind TLS, with a certificate of the bed's authority.
    behind_tls: String,
    files: TempDir,
    topic: String,
}

impl Bed {
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Bed> = OnceLock::new();
        tokio::task::block_in_place(|| SHARED.get_or_init(Self::start))
    }

    fn start() -> Self {
        let files = TempDir::with_prefix("security-").expect("cannot make a folder");
        let authority = Authority::root("bed");
        let between = authority.authority("between");
        let localhost = || made::leaf(&["localhost"], 2000, 4000);
        let alone = made::alone(&["localhost"]);
        let made = [
            ("GOOD", authority.sign(localhost())),
            (
                "CHAIN",
                between.sign(localhost()).followed_by(between.certificate()),
            ),
            ("BARE", between.sign(localhost())),
            ("SELF", alone),
            (
                "EXPIRED",
                authority.sign(made::leaf(&["localhost"], 2000, 2001)),
            ),
            (
                "EARLY",
                authority.sign(made::leaf(&["localhost"], 3000, 4000)),
            ),
            (
                "OTHER",
                authority.sign(made::leaf(&["elsewhere"], 2000, 4000)),
            ),
            ("OLD", authority.sign(localhost())),
        ];
        let file = |name: &str, text: &str| {
            std::fs::write(files.path().join(name), text).expect("cannot write a file");
        };
        file("ca.pem", authority.certificate());
        file("between.pem", between.certificate());
        file("foreign.pem", Authority::root("foreign").certificate());
        let tls = authority.sign(localhost());
        let identity = Identity::start();
        let behind_tls = identity.behind_tls(tls.der(), tls.key_der());
        let mut options = KafkaOptions::default()
            .listener(Listener::SaslPlaintext)
            .java(&format!(
                "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={}",
                identity.keys_url()
            ));
        let oauth = "listener.name.sasl_plaintext.oauthbearer";
        let handler =
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler";
        for (key, value) in [
            (
                format!("{oauth}.sasl.server.callback.handler.class"),
                handler,
            ),
            (
                "listener.name.sasl_plaintext.sasl.oauthbearer.jwks.endpoint.url".to_owned(),
                identity.keys_url().as_str(),
            ),
            (
                "listener.name.sasl_plaintext.sasl.oauthbearer.expected.audience".to_owned(),
                AUDIENCE,
            ),
            // Kafka 4.1's default checks neither signatures nor the audience.
            (
                "listener.name.sasl_plaintext.sasl.oauthbearer.jwt.validator.class".to_owned(),
                "org.apache.kafka.common.security.oauthbearer.BrokerJwtValidator",
            ),
            (
                "listener.name.old.ssl.enabled.protocols".to_owned(),
                "TLSv1.2",
            ),
            // Logins end soon.
            ("connections.max.reauth.ms".to_owned(), "2000"),
        ] {
            options = options.property(&key, value);
        }
        for (name, made) in &made {
            file(&format!("{name}.pem"), &made.key_and_chain());
            if *name == "SELF" {
                file("self.pem", made.chain());
            }
            let path = files.path().join(format!("{name}.pem"));
            let prefix = format!("listener.name.{}", name.to_lowercase());
            options = options
                .listener(Listener::Named(name))
                .property(&format!("{prefix}.ssl.keystore.type"), "PEM")
                .property(
                    &format!("{prefix}.ssl.keystore.location"),
                    &path.display().to_string(),
                );
        }
        let server = KafkaServer::start(options);
        let topic = filled(server.bootstrap());
        Self {
            server,
            identity,
            behind_tls,
            files,
            topic,
        }
    }

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    /// Settings for the client credentials grant at an endpoint, in librdkafka's names.
    fn credentials(&self, url: &str) -> Settings {
        settings([
            (
                "bootstrap.servers",
                self.server.bootstrap_of(Listener::SaslPlaintext).as_str(),
            ),
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.client.id", CLIENT),
            ("sasl.oauthbearer.client.secret", SECRET),
            ("sasl.oauthbearer.scope", "read"),
            ("sasl.oauthbearer.extensions", "trace=a,logicalCluster=b"),
            ("sasl.oauthbearer.token.endpoint.url", url),
        ])
    }
}

/// A new topic with [`RECORDS`] records.
fn filled(bootstrap: &str) -> String {
    let topic = admin::unique_topic("secured");
    admin::create_topic(bootstrap, &topic, 1, &[]);
    let records = (0..RECORDS).map(|n| Record::new(0).value(format!("v{n}")));
    produce::produce(bootstrap, &topic, &records.collect::<Vec<_>>());
    topic
}

/// `reads` if all records of a topic arrive, or what the error says.
async fn read(config: ConnectionConfig, topic: &str) -> Result<String, Error> {
    let session = session_with(config);
    let counted = async {
        let found = session
            .sql(&format!("SELECT value FROM \"{topic}\""))
            .await?;
        let batches: Vec<_> = found.execute_stream().await?.try_collect().await?;
        let rows = batches.iter().map(|batch| batch.num_rows()).sum();
        Ok::<usize, DataFusionError>(rows)
    };
    match counted.await {
        Ok(RECORDS) => Ok("reads".to_owned()),
        Ok(rows) => Ok(format!("{rows} rows")),
        Err(e) => Err(Error::find(&e).expect("an error of ours").clone()),
    }
}

/// The first of these words that an error says, each with the outcome that it stands for.
fn outcome(found: Result<String, Error>, words: &[(&str, &str)]) -> String {
    let error = match found {
        Ok(outcome) => return outcome,
        Err(error) => error.to_string(),
    };
    let said = words.iter().find(|(word, _)| error.contains(word));
    said.map_or(error.clone(), |(_, outcome)| (*outcome).to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_appear_nowhere() {
    let bed = Bed::shared();
    let login = Login::Plain("admin", PASSWORD);
    let plain = bed.server.client_settings(Listener::SaslPlaintext, login);
    hides(plain, "sasl.password").await;
    let endpoint = bed.identity.endpoint(&[], 3600);
    hides(
        bed.credentials(&endpoint.url),
        "sasl.oauthbearer.client.secret",
    )
    .await;
}

/// A table with these settings shows this one nowhere.
async fn hides(settings: Settings, key: &str) {
    let bed = Bed::shared();
    let secret = settings.iter().find(|(known, _)| known == key);
    let secret = secret.map(|(_, value)| value.as_str()).expect("it is set");
    let context = KafkaSessionBuilder::new().build().expect("no settings");
    let options: Vec<String> = settings
        .iter()
        .map(|(k, v)| format!("'kafka.{k}' '{v}'"))
        .collect();
    let sql = format!(
        "CREATE EXTERNAL TABLE secret STORED AS KAFKA LOCATION '{}' OPTIONS ({})",
        bed.topic,
        options.join(", ")
    );
    rows(&context, &sql).await;
    assert_eq!(rows(&context, "SELECT count(*) FROM secret").await, ["5"]);
    for sql in [
        "EXPLAIN VERBOSE SELECT * FROM secret",
        "EXPLAIN ANALYZE SELECT * FROM secret",
        "SHOW CREATE TABLE secret",
        "SELECT * FROM information_schema.views",
        "SELECT * FROM information_schema.tables",
        "SHOW ALL",
    ] {
        let shown = rows(&context, sql).await.join("\n");
        assert!(!shown.contains(secret), "{sql}: {shown}");
    }
    let shown = rows(&context, "SHOW CREATE TABLE secret").await.join("\n");
    assert!(shown.contains(&format!("'kafka.{key}' '***'")), "{shown}");
    let table = context.table_provider("secret").await.expect("the table");
    assert!(!format!("{table:?}").contains(secret));
    let wrong = key.replace("ss", "s").replace("secret", "secet");
    let refused = sql.replace(&format!("kafka.{key}"), &format!("kafka.{wrong}"));
    let found = error(&context, &refused.replace("TABLE secret", "TABLE other"))
        .await
        .to_string();
    assert!(!found.contains(secret), "{found}");
    assert!(found.contains(key), "{found}");
}
