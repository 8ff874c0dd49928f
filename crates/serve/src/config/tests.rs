use std::time::Duration;

use datafusion_kafka::driver::Trigger;

use super::*;

const WHOLE: &str = r#"
[connections.main]
"bootstrap.servers" = "localhost:9092"
sasl.username = "me"
"sasl.password" = "env:CARGO_PKG_NAME"

[jobs.orders]
file = "jobs/orders.sql"
connection = "main"
trigger = "every 5s"
max_offsets = 1_000_000
deadline = "1m"

[jobs.payments]
file = "/etc/payments.sql"
connection = "main"
checkpoint = "s3://bucket/payments"

[http]
listen = "127.0.0.1:8080"
token = "env:CARGO_PKG_NAME"

[postgres]
listen = "127.0.0.1:5432"
connection = "main"
catalog = "catalog.sql"
[postgres.users.grafana]
password = "env:CARGO_PKG_NAME"
max_scan_records = 10_000_000
max_scan_bytes = "10G"

[lineage]
file = "lineage.ndjson"

[service]
memory_limit = "2GB"
log_format = "json"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/srv")).map_err(|problem| problem.message)
}

/// The file with a line in place of another.
fn refused(line: &str, other: &str) -> String {
    assert!(WHOLE.contains(line), "{line}");
    parse(&WHOLE.replace(line, other)).unwrap_err()
}

#[test]
fn a_file_says_all() {
    let config = parse(WHOLE).unwrap();
    let orders = &config.jobs["orders"];
    assert_eq!(orders.file, Path::new("/srv/jobs/orders.sql"));
    assert_eq!(orders.checkpoint(), "/srv/jobs/orders.checkpoint");
    assert_eq!(orders.trigger, Trigger::Every(Duration::from_secs(5)));
    assert_eq!(orders.trigger_text(), "every 5s");
    assert_eq!(orders.deadline(), Duration::from_secs(60));
    assert_eq!(orders.max_offsets, Some(1_000_000));
    let payments = &config.jobs["payments"];
    assert_eq!(payments.file, Path::new("/etc/payments.sql"));
    assert_eq!(payments.checkpoint(), "s3://bucket/payments");
    assert_eq!(payments.trigger, Trigger::Continuous);
    assert_eq!(payments.deadline(), Duration::from_secs(300));
    let main = &config.connections["main"].config;
    assert_eq!(main.get("sasl.username"), Some("me"));
    assert_eq!(main.get("sasl.password"), Some(env!("CARGO_PKG_NAME")));
    let http = config.http.as_ref().unwrap();
    let token = http.token.as_ref().unwrap();
    assert_eq!(token.reveal(), env!("CARGO_PKG_NAME"));
    let postgres = config.postgres.as_ref().unwrap();
    let grafana = &postgres.users["grafana"];
    assert_eq!(grafana.max_scan_records.as_deref(), Some("10000000"));
    assert_eq!(grafana.max_scan_bytes.as_deref(), Some("10G"));
    assert_eq!(config.service.memory_limit, Some(2 << 30));
    assert_eq!(config.service.log_format, LogFormat::Json);
}

#[test]
fn secrets_are_shown_by_where_they_stand() {
    let config = parse(WHOLE).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains(env!("CARGO_PKG_NAME")), "{shown}");
    assert!(shown.contains("env:CARGO_PKG_NAME"), "{shown}");
}

#[test]
fn unknown_keys_are_errors_with_the_nearest_name_and_the_line() {
    assert_eq!(
        refused("trigger = ", "trigerr = "),
        "10: unknown key 'trigerr'; did you mean 'trigger'?"
    );
    assert_eq!(
        refused("[lineage]\nfile", "[lineage]\nurrl"),
        "33: unknown key 'urrl'; did you mean 'url'?"
    );
    assert_eq!(
        refused("[service]", "[servise]"),
        "35: unknown key 'servise'; did you mean 'service'?"
    );
    let far = refused("log_format = \"json\"", "colour = 1");
    assert!(
        far.starts_with("37: unknown key 'colour'; there are: memory_limit,"),
        "{far}"
    );
    let setting = refused("sasl.username", "sasl.usernome");
    assert!(
        setting.starts_with("2: connections.main: setting 'sasl.usernome'"),
        "{setting}"
    );
    assert!(setting.contains("sasl.username"), "{setting}");
}

#[test]
fn wrong_values_are_errors_with_the_line() {
    assert_eq!(
        refused("\"every 5s\"", "\"every 5\""),
        "10: expected a time such as 250ms, 5s or 15m, found '5'"
    );
    assert_eq!(
        refused("\"every 5s\"", "\"daily\""),
        "10: expected 'every 5s', 'continuous', 'available-now' or 'once', found 'daily'"
    );
    assert_eq!(
        refused("\"2GB\"", "\"much\""),
        "36: expected a size such as 256M or 2GB, found 'much'"
    );
    assert_eq!(
        refused(
            "connection = \"main\"\ntrigger",
            "connection = \"mian\"\ntrigger"
        ),
        "9: jobs.orders.connection: there is no connection 'mian'; did you mean 'main'?"
    );
    assert_eq!(
        refused("127.0.0.1:8080", "127.0.0.1"),
        "19: http: listen = '127.0.0.1': expected host:port, for example 127.0.0.1:8080"
    );
    assert_eq!(
        refused("\"bootstrap.servers\" = \"localhost:9092\"\n", ""),
        "2: connections.main: the connection has no brokers; set \"bootstrap.servers\" = \"host:port\""
    );
}

#[test]
fn no_message_shows_a_secret() {
    let secrets = [
        ("token = \"env:CARGO_PKG_NAME\"", "token = \"hunter2\""),
        ("token = \"env:CARGO_PKG_NAME\"", "token = [\"hunter2\"]"),
        ("token = \"env:CARGO_PKG_NAME\"", "token = \"hunter2"),
        (
            "password = \"env:CARGO_PKG_NAME\"",
            "password = { hunter2 = 1 }",
        ),
        (
            "\"sasl.password\" = \"env:CARGO_PKG_NAME\"",
            "\"sasl.password\" = 2.5",
        ),
        (
            "\"sasl.password\" = \"env:CARGO_PKG_NAME\"",
            "\"sasl.pasword\" = \"hunter2\"",
        ),
    ];
    for (line, other) in secrets {
        let message = refused(line, other);
        assert!(!message.contains("hunter2"), "{message}");
        assert!(!message.contains("2.5"), "{message}");
    }
    assert_eq!(
        refused("token = \"env:CARGO_PKG_NAME\"", "token = \"hunter2\""),
        "21: secret: a secret is env:NAME or file:PATH, since others may read this file"
    );
    let missing = refused(
        "token = \"env:CARGO_PKG_NAME\"",
        "token = \"env:NO_SUCH_THING\"",
    );
    assert!(missing.contains("'NO_SUCH_THING' is not set"), "{missing}");
}

#[test]
fn sizes_are_powers_of_1024() {
    for (text, bytes) in [
        ("256M", Some(256 << 20)),
        ("2GB", Some(2 << 30)),
        ("1 GiB", Some(1 << 30)),
        ("1_000b", Some(1000)),
        ("G", None),
        ("", None),
        ("-1G", None),
        ("99999999999999999999T", None),
    ] {
        assert_eq!(values::parse_size(text), bytes, "{text}");
    }
}

#[test]
fn no_text_panics() {
    for at in (0..WHOLE.len()).filter(|at| WHOLE.is_char_boundary(*at)) {
        let _ = parse(&WHOLE[..at]);
        let _ = parse(&WHOLE[at..]);
    }
}
