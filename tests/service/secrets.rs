//! What the service says, with every line of its log, and whom it refuses: nowhere is a secret.

use std::time::Duration;

use tokio_postgres::NoTls;

use crate::running::{
    CLIENT_PASSWORD, Files, LIMIT, PASSWORD, Running, assert_no_secret, new_topic, produce_to,
};
use crate::support::{Listener, postgres, shared, wait_until};

/// Stands in the text of a job and in statements, where no secret should.
const INLINE: &str = "hunter2-of-a-statement";

/// The file of a service that logs in wherever it can, once rightly and once wrongly.
fn files(topic: &str) -> Files {
    let files = Files::new();
    let brokers = shared().bootstrap_of(Listener::SaslPlaintext);
    let database = postgres::shared().url("alice");
    postgres::shared().sql("GRANT ALL ON SCHEMA public TO alice");
    let connection = |name: &str, password: &str| {
        format!(
            "[connections.{name}]\n\"bootstrap.servers\" = \"{brokers}\"\n\
             \"security.protocol\" = \"sasl_plaintext\"\n\"sasl.mechanism\" = \"PLAIN\"\n\
             \"sasl.username\" = \"admin\"\n\"sasl.password\" = \"env:{password}\"\n"
        )
    };
    let job = |name: &str, connection: &str| {
        format!(
            "[jobs.{name}]\nfile = \"{name}.sql\"\nconnection = \"{connection}\"\nretry_for = \"1s\"\n"
        )
    };
    let sink = |name: &str, options: &str| {
        let table = topic.replace('-', "_");
        let text = format!(
            "CREATE EXTERNAL TABLE out STORED AS POSTGRES LOCATION '{database}' OPTIONS ('table' '{table}_{name}', {options});\n\
             INSERT INTO out SELECT partition, \"offset\" FROM \"{topic}\";\n"
        );
        files.write(&format!("{name}.sql"), &text);
    };
    sink("good", "'password' 'env:TEST_SINK_PASSWORD'");
    sink("stranger", "'password' 'env:TEST_SINK_PASSWORD'");
    sink("refused", "'password' 'env:TEST_PASSWORD'");
    sink(
        "wrong",
        &format!("'password' '{INLINE}', 'passwort' '{INLINE}'"),
    );
    files.service(
        &[
            connection("right", "TEST_SINK_PASSWORD"),
            connection("strange", "TEST_PASSWORD"),
            job("good", "right"),
            job("stranger", "strange"),
            job("refused", "right"),
            job("wrong", "right"),
            "[postgres]\nlisten = \"127.0.0.1:0\"\nconnection = \"right\"\n\
             [postgres.users.ada]\npassword = \"env:TEST_CLIENT_PASSWORD\"\n"
                .to_owned(),
        ]
        .concat(),
    );
    files
}

/// What clients of the PostgreSQL port are told.
async fn asked(port: u16, topic: &str) -> Vec<String> {
    let connect = async |password: &str| {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(port)
            .user("ada")
            .password(password)
            .connect_timeout(Duration::from_secs(20));
        config.connect(NoTls).await
    };
    let mut told = vec![];
    told.extend(
        connect(PASSWORD)
            .await
            .err()
            .map(|error| format!("{error:?}")),
    );
    assert_eq!(told.len(), 1, "the password is wrong");
    let (client, connection) = connect(CLIENT_PASSWORD)
        .await
        .expect("the password is right");
    tokio::spawn(connection);
    for statement in [
        format!("SELECT count(*) FROM \"{topic}\""),
        format!("SELECT * FROM kafka('{topic}', ':', 'kafka.sasl.password={INLINE}')"),
        format!(
            "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION '{topic}' OPTIONS ('kafka.sasl.password' '{INLINE}')"
        ),
        format!("COPY (SELECT 1) TO 's3://b/x' OPTIONS ('aws.secret_access_key' '{INLINE}')"),
        format!("SET kafka.sasl.password = '{INLINE}'"),
        "SHOW ALL".to_owned(),
        format!("EXPLAIN VERBOSE SELECT * FROM \"{topic}\""),
    ] {
        told.push(format!("{:?}", client.simple_query(&statement).await));
    }
    told
}

#[test]
fn no_line_page_or_answer_has_a_secret() {
    for format in ["text", "json"] {
        let topic = new_topic();
        let files = files(&topic);
        produce_to(shared().bootstrap(), &topic, 9);
        let service = Running::start_with(&files, |command| {
            command
                .args(["--log-format", format])
                .env("RUST_LOG", "trace")
        });
        wait_until(LIMIT, "one job delivers, and the others fail", || {
            let state = |job: &str| service.job(job)["totals"].clone();
            let fails = ["stranger", "refused", "wrong"];
            let all_fail = fails
                .iter()
                .all(|job| state(job)["failed"].as_u64() > Some(0));
            (state("good")["committed"].as_u64() > Some(0) && all_fail).then_some(())
        });
        let said = service.said();
        let (_, port) = said
            .split_once("PostgreSQL on 127.0.0.1:")
            .expect("its line");
        let digits = port.find(|c: char| !c.is_ascii_digit()).expect("more");
        let port = port[..digits].parse().expect("a port");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut outputs = runtime.block_on(asked(port, &topic));
        for job in ["good", "stranger", "refused", "wrong"] {
            outputs.push(service.get(&format!("/api/jobs/{job}")).1);
            outputs.push(service.get(&format!("/jobs/{job}")).1);
        }
        for path in ["/", "/topics", "/metrics", "/readyz", "/api/jobs"] {
            outputs.push(service.get(path).1);
        }
        let statement =
            format!("SELECT%20*%20FROM%20kafka('{topic}',':','kafka.sasl.password={INLINE}')");
        let refused = service.get(&format!("/query?sql={statement}")).1;
        // It is shown to whoever wrote it, in the box.
        assert!(refused.contains("class=\"trouble\""), "{refused}");
        let guess = service.ask("POST /api/jobs/good/pause", Some("guessed"));
        assert_eq!(guess.0, 401);
        assert_eq!(service.post("/api/jobs/good/pause").0, 202);
        service.wait_until_said("good: pause by HTTP client");
        let (ended, said) = service.end();
        assert!(ended.success(), "{ended}");
        // Libraries say what they do at this level.
        assert!(said.lines().count() > 1_000, "{}", said.lines().count());
        outputs.push(said);
        assert_no_secret(outputs.iter().map(String::as_str));
        let mut lines = outputs.iter().flat_map(|output| output.lines());
        assert_eq!(lines.find(|line| line.contains(INLINE)), None);
    }
}
