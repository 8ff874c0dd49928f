//! The program against a listener that checks tokens as AWS MSK does, and endpoints that give credentials as AWS does. The
//! records are those of a real broker.

#[path = "login/credentials.rs"]
mod credentials;
#[path = "login/gate.rs"]
mod gate;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use self::credentials::{Credentials, Given};
use self::gate::{Gate, Seen};
use self::support::documented::documented;
use self::support::{KafkaOptions, KafkaServer, Record, admin, produce};

documented!(
    "security.md",
    "AWS MSK IAM",
    ["wire"],
    [
        credentials_of_a_container,
        credentials_of_an_instance,
        credentials_in_the_environment,
        logins_that_end_in_mid_read,
        credentials_that_end_in_mid_read,
        no_credentials_anywhere,
        the_endpoint_of_credentials_refuses,
        credentials_of_somebody_else,
        another_region,
    ],
    slow []
);

const REGION: &str = "eu-central-1";
const HOUR: Duration = Duration::from_secs(3600);
/// Each is a record batch, and comes with an answer of its own.
const RECORDS: usize = 40;

struct Bed {
    gate: Gate,
    topic: String,
    /// Runs until the tests end.
    server: KafkaServer,
}

impl Bed {
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Bed> = OnceLock::new();
        tokio::task::block_in_place(|| {
            SHARED.get_or_init(|| {
                let address = format!("localhost:{}", gate::free_port());
                let server = KafkaServer::start(KafkaOptions::default().behind(address.clone()));
                let gate = Gate::start(&address, &server.behind(&address), server.folder(), REGION);
                let topic = admin::unique_topic("secured");
                admin::create_topic(server.bootstrap(), &topic, 1, &[]);
                for n in 0..RECORDS {
                    let record = Record::new(0).value(vec![b'0' + (n % 10) as u8; 2000]);
                    produce::produce(server.bootstrap(), &topic, &[record]);
                }
                Self {
                    gate,
                    topic,
                    server,
                }
            })
        })
    }
}

/// What the program says with these variables, and what the listener has seen of it.
fn run(region: &str, variables: &[(&str, String)]) -> (String, Seen) {
    let bed = Bed::shared();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("client.properties");
    let settings = format!(
        "bootstrap.servers={}\nsecurity.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n\
         ssl.truststore.type=PEM\nssl.truststore.location={}\n\
         fetch.message.max.bytes=1000\nrequest.timeout.ms=5000\n",
        bed.gate.address(),
        bed.server.ca_pem_path().display()
    );
    std::fs::write(&file, settings).expect("a file");
    let before = bed.gate.seen();
    let output = tokio::task::block_in_place(|| {
        Command::new(env!("CARGO_BIN_EXE_msk-iam"))
            .arg(&file)
            .args([region, &bed.topic])
            .env_clear()
            // Without files of the user.
            .env("HOME", folder.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(
                variables
                    .iter()
                    .map(|(name, value)| (*name, value.as_str())),
            )
            .output()
            .expect("it starts")
    });
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    for given in bed.gate.known() {
        assert!(
            !said.contains(&given.secret) && !said.contains(&given.session),
            "{said}"
        );
    }
    let outcome = if said == format!("{}: {RECORDS} records", bed.topic) {
        "reads".to_owned()
    } else if said.contains("Access denied") && said.contains(bed.gate.address()) {
        "token refused".to_owned()
    } else if said.contains("no token for OAUTHBEARER") {
        "no credentials".to_owned()
    } else {
        said
    };
    (outcome, bed.gate.seen().since(&before))
}

fn container(url: String) -> Vec<(&'static str, String)> {
    vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]
}

fn environment(given: &Given) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", given.id.clone()),
        ("AWS_SECRET_ACCESS_KEY", given.secret.clone()),
        ("AWS_SESSION_TOKEN", given.session.clone()),
    ]
}

async fn credentials_of_a_container(_: &str) -> String {
    let endpoint = Credentials::start(&Bed::shared().gate, HOUR);
    run(REGION, &container(endpoint.container_url())).0
}

async fn credentials_of_an_instance(_: &str) -> String {
    let endpoint = Credentials::start(&Bed::shared().gate, HOUR);
    let variables = [
        ("AWS_EC2_METADATA_DISABLED", "false".to_owned()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.instance_url()),
    ];
    run(REGION, &variables).0
}

async fn credentials_in_the_environment(_: &str) -> String {
    run(REGION, &environment(&Bed::shared().gate.give(HOUR))).0
}

/// The listener ends logins after [`gate::SESSION`].
async fn logins_that_end_in_mid_read(_: &str) -> String {
    let endpoint = Credentials::start(&Bed::shared().gate, HOUR);
    let (outcome, seen) = run(REGION, &container(endpoint.container_url()));
    assert_eq!(endpoint.given(), 1, "a token is used again");
    assert!(seen.again >= 2, "{seen:?}");
    assert_eq!(seen.over, 0, "a request after the end of its login");
    outcome
}

async fn credentials_that_end_in_mid_read(_: &str) -> String {
    let endpoint = Credentials::start(&Bed::shared().gate, Duration::from_secs(3));
    let (outcome, seen) = run(REGION, &container(endpoint.container_url()));
    assert!(endpoint.given() >= 2, "{}", endpoint.given());
    assert!(seen.again >= 2, "{seen:?}");
    assert_eq!((seen.over, seen.refused), (0, 0), "{seen:?}");
    outcome
}

async fn no_credentials_anywhere(_: &str) -> String {
    run(REGION, &[]).0
}

async fn the_endpoint_of_credentials_refuses(_: &str) -> String {
    let endpoint = Credentials::start(&Bed::shared().gate, HOUR);
    run(REGION, &container(endpoint.refusing_url())).0
}

async fn credentials_of_somebody_else(_: &str) -> String {
    let given = Bed::shared().gate.give(HOUR);
    let other = Given {
        secret: "another secret".to_owned(),
        ..given
    };
    run(REGION, &environment(&other)).0
}

async fn another_region(_: &str) -> String {
    let given = Bed::shared().gate.give(HOUR);
    run("us-east-1", &environment(&given)).0
}

/// The page shows the provider as it is compiled here.
#[test]
fn the_documentation_shows_this_provider() {
    let page = support::repository().join("docs/security.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, code) = include_str!("../src/msk.rs")
        .split_once("\n\n")
        .expect("a line for the module");
    assert!(
        page.contains(&format!("\n```rust,ignore\n{code}```\n")),
        "docs/security.md differs from msk.rs"
    );
}
