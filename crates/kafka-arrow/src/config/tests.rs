use std::time::Duration;

use super::*;

fn set(key: &str, value: &str) -> Result<ConnectionConfig> {
    let mut config = ConnectionConfig::new("h:1");
    config.set(key, value)?;
    Ok(config)
}

fn refused(key: &str, value: &str) -> String {
    set(key, value).unwrap_err().to_string()
}

fn file(content: &str) -> Result<ConnectionConfig> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
    ConnectionConfig::from_file(file.path())
}

#[test]
fn keys_take_prefix_and_any_case() {
    let config = set("Kafka.Client.Id", "me").unwrap();
    assert_eq!(config.get("client.id"), Some("me"));
    assert_eq!(config.get("kafka.client.id"), Some("me"));
    assert_eq!(config.bootstrap_servers(), "h:1");
}

#[test]
fn unknown_key_names_the_nearest() {
    assert_eq!(
        refused("fetch.min.byte", "1"),
        "setting 'fetch.min.byte': there is no such setting; did you mean fetch.min.bytes, \
         fetch.max.bytes, fetch.message.max.bytes?"
    );
    assert!(refused("sasl.passwort", "x").contains("did you mean sasl.password"));
    assert!(refused("read.timeout", "1").contains("read.timeout.ms"));
}

#[test]
fn values_are_checked_at_once() {
    assert!(refused("fetch.wait.max.ms", "soon").contains("fetch.wait.max.ms"));
    assert!(refused("security.protocol", "TSL").contains("security.protocol"));
    assert_eq!(
        refused("request.timeout.ms", "0"),
        "setting 'request.timeout.ms': expected a whole number of ms from 1 to 2147483647, found '0'"
    );
}

#[test]
fn values_are_spelled_in_one_way() {
    for (key, value, normal) in [
        ("check.crcs", "F", "false"),
        ("enable.idempotence", "TRUE", "true"),
        ("broker.address.family", "V4", "v4"),
        ("security.protocol", "SASL_SSL", "sasl_ssl"),
        ("fetch.min.bytes", "007", "7"),
        ("acks", "ALL", "all"),
    ] {
        assert_eq!(set(key, value).unwrap().get(key), Some(normal));
    }
}

#[test]
fn invalid_values_are_refused_and_valid_ones_listed() {
    for (key, value, message) in [
        (
            "fetch.min.bytes",
            "10MB",
            "setting 'fetch.min.bytes': expected a whole number from 1 to 100000000, found '10MB'",
        ),
        (
            "fetch.min.bytes",
            "0x10",
            "setting 'fetch.min.bytes': expected a whole number from 1 to 100000000, found '0x10'",
        ),
        (
            "check.crcs",
            "on",
            "setting 'check.crcs': expected 'true' or 'false', found 'on'",
        ),
        (
            "broker.address.family",
            "v5",
            "setting 'broker.address.family': expected one of 'any', 'v4', 'v6', found 'v5'",
        ),
    ] {
        assert_eq!(refused(key, value), message);
    }
}

#[test]
fn what_we_decide_is_refused_with_the_reason() {
    for (key, reason) in [
        ("auto.offset.reset", "a range names its start"),
        ("group.id", "group:NAME"),
        ("enable.auto.commit", "ever committed"),
        ("enable.partition.eof", "sets this itself"),
        ("interceptor.classes", "cannot be loaded"),
        ("kafka.key.deserializer", "key.format"),
        ("allow.auto.create.topics", "never creates"),
    ] {
        assert!(refused(key, "x").contains(reason), "{key}");
    }
}

#[test]
fn a_file_may_hold_the_habits_of_consumers() {
    let content = "bootstrap.servers=a:1\ngroup.id=g\nauto.offset.reset=latest\n\
                   enable.auto.commit=true\nkey.deserializer=org.x.Y\nmax.poll.records=10\n\
                   fetch.max.wait.ms=7\nreceive.buffer.bytes=-1\n";
    let config = file(content).unwrap();
    assert_eq!(
        config.properties().collect::<Vec<_>>(),
        [
            ("bootstrap.servers", "a:1"),
            ("fetch.wait.max.ms", "7"),
            ("socket.receive.buffer.bytes", "0"),
        ]
    );
}

#[test]
fn twice_with_different_values_is_an_error() {
    let error = file("bootstrap.servers=a:1\nmetadata.broker.list=b:1\n")
        .unwrap_err()
        .to_string();
    assert!(error.contains("twice with different values"), "{error}");
    assert!(error.contains("line 2"), "{error}");
    assert!(file("client.id=a\nclient.id=a\n").is_ok());
}

#[test]
fn merge_overrides() {
    let mut config = file("bootstrap.servers=a:1\nclient.id=x\n").unwrap();
    config.merge(&ConnectionConfig::new("b:1"));
    assert_eq!(config.bootstrap_servers(), "b:1");
    assert_eq!(config.get("client.id"), Some("x"));
}

#[test]
fn no_secret_is_printed() {
    let mut config = ConnectionConfig::new("h:1");
    for (key, value) in [
        ("sasl.password", "s3cret-a"),
        ("ssl.key.password", "s3cret-b"),
        ("ssl.keystore.key", "s3cret-c"),
        ("ssl.truststore.password", "s3cret-d"),
        ("ssl.keystore.password", "s3cret-e"),
        ("sasl.oauthbearer.config", "principal=s3cret-f"),
    ] {
        config.set(key, value).unwrap();
    }
    let shown = format!(
        "{config:?}\n{config}\n{:?}",
        config.properties().collect::<Vec<_>>()
    );
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(shown.contains("sasl.password=[redacted]"), "{shown}");
    assert_eq!(config.get("sasl.password"), Some("s3cret-a"));
    let error = config.set("sasl.password", "s3cret-z").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[test]
fn secrets_come_from_files_and_the_environment() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut secret, b"pw\n").unwrap();
    let path = format!("file:{}", secret.path().display());
    assert_eq!(
        set("sasl.password", &path).unwrap().get("sasl.password"),
        Some("pw")
    );
    // A variable that is always set.
    let home = std::env::var("PATH").unwrap();
    assert_eq!(
        set("sasl.password", "env:PATH")
            .unwrap()
            .get("sasl.password"),
        Some(home.as_str())
    );
    assert!(
        refused("sasl.password", "env:NO_SUCH_VARIABLE_4711").contains("NO_SUCH_VARIABLE_4711")
    );
    assert!(refused("sasl.password", "file:/no/such/file").contains("/no/such/file"));
    // Not a secret, so it is taken literally.
    assert_eq!(
        set("client.id", "env:PATH").unwrap().get("client.id"),
        Some("env:PATH")
    );
}

#[test]
fn jaas_lines_are_translated() {
    let line = "org.apache.kafka.common.security.scram.ScramLoginModule required \
                username=\"alice\" password=\"p\\\"w; 1\";";
    let config = set("sasl.jaas.config", line).unwrap();
    assert_eq!(config.get("sasl.username"), Some("alice"));
    assert_eq!(config.get("sasl.password"), Some("p\"w; 1"));
    let line = "x.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"bob\";";
    let config = set("sasl.jaas.config", line).unwrap();
    assert_eq!(config.get("sasl.oauthbearer.config"), Some("principal=bob"));
    let line = "x.OAuthBearerLoginModule required clientId=\"me\" clientSecret=\"pw\" scope=\"s\" \
                extension_a=\"1\" extension_b=\"2\";";
    let config = set("sasl.jaas.config", line).unwrap();
    for (key, value) in [
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.client.id", "me"),
        ("sasl.oauthbearer.client.secret", "pw"),
        ("sasl.oauthbearer.scope", "s"),
        ("sasl.oauthbearer.extensions", "a=1,b=2"),
    ] {
        assert_eq!(config.get(key), Some(value), "{key}");
    }
    let error = refused(
        "sasl.jaas.config",
        "x.PlainLoginModule required username=\"a\";",
    );
    assert!(error.contains("needs the option 'password"), "{error}");
    let error = refused(
        "sasl.jaas.config",
        "x.MyLoginModule required secret=\"pw\";",
    );
    assert!(
        error.contains("MyLoginModule") && !error.contains("pw"),
        "{error}"
    );
}

#[test]
fn java_spellings_of_values() {
    let config = set("ssl.endpoint.identification.algorithm", "").unwrap();
    assert_eq!(
        config.get("ssl.endpoint.identification.algorithm"),
        Some("none")
    );
    let config = set("isolation.level", "READ_UNCOMMITTED").unwrap();
    assert_eq!(config.isolation(), IsolationLevel::ReadUncommitted);
    assert_eq!(
        ConnectionConfig::empty().isolation(),
        IsolationLevel::ReadCommitted
    );
}

#[test]
fn own_settings_do_not_reach_librdkafka() {
    let mut config = ConnectionConfig::new("h:1");
    config.set("request.timeout.ms", "500").unwrap();
    config.set("read.buffer.bytes", "1048576").unwrap();
    assert_eq!(config.request_timeout(), Duration::from_millis(500));
    assert_eq!(config.read_timeout(), Duration::from_secs(60));
    assert_eq!(config.read_buffer_bytes(), 1 << 20);
    let properties = config.client_properties().unwrap();
    assert_eq!(properties.keys().collect::<Vec<_>>(), ["bootstrap.servers"]);
}

#[test]
fn producers_and_readers_are_given_their_own_settings() {
    let mut config = ConnectionConfig::new("h:1");
    for (key, value) in [
        ("kafka.acks", "all"),
        ("compression.codec", "lz4"),
        ("delivery.timeout.ms", "5000"),
        ("queue.buffering.max.kbytes", "1024"),
        ("fetch.min.bytes", "7"),
        ("isolation.level", "read_committed"),
        ("client.id", "me"),
    ] {
        config.set(key, value).unwrap();
    }
    let names = |of: BTreeMap<String, String>| of.into_keys().collect::<Vec<_>>();
    assert_eq!(
        names(config.client_properties().unwrap()),
        [
            "bootstrap.servers",
            "client.id",
            "fetch.min.bytes",
            "isolation.level"
        ]
    );
    assert_eq!(
        names(config.producer_properties().unwrap()),
        [
            "acks",
            "bootstrap.servers",
            "client.id",
            "compression.type",
            "message.timeout.ms",
            "queue.buffering.max.kbytes"
        ]
    );
    let mut other = ConnectionConfig::new("h:1");
    other.set("acks", "1").unwrap();
    assert_eq!(other.for_reading(), ConnectionConfig::new("h:1"));
}

#[test]
fn a_registrys_settings_are_kept_for_tables() {
    let mut config = file("bootstrap.servers=h:1\nschema.registry.url=http://a:8081\n").unwrap();
    config
        .set("kafka.Schema.Registry.Basic.Auth.User.Info", "anna:hidden")
        .unwrap();
    let found: Vec<_> = config.registry().collect();
    assert_eq!(
        found,
        [
            ("schema.registry.basic.auth.user.info", "anna:hidden"),
            ("schema.registry.url", "http://a:8081"),
        ]
    );
    // Clients ignore these settings, so they are shared.
    assert_eq!(config.for_reading(), ConnectionConfig::new("h:1"));
    let clear = config.producer_properties().unwrap();
    assert!(clear.keys().all(|key| !key.contains("registry")));
    assert!(ConnectionConfig::known_keys().contains(&"schema.registry.url".to_owned()));

    let mut login = ConnectionConfig::new("h:1");
    login
        .set("schema.registry.url", "http://anna:hidden@a")
        .unwrap();
    for shown in [
        format!("{config}"),
        format!("{config:?}"),
        format!("{login}"),
        format!("{login:?}"),
    ] {
        assert!(
            !shown.contains("hidden") && shown.contains("h:1"),
            "{shown}"
        );
    }
    assert!(
        refused("schema.registry.ulr", "http://a").contains("did you mean 'schema.registry.url'")
    );
    assert!(refused("schema.registry.request.timeout.ms", "soon").contains("milliseconds"));
    assert!(!refused("schema.registry.url", "ftp://anna:hidden@a").contains("hidden"));
}

fn by_statement(key: &str, value: &str) -> Result<ConnectionConfig> {
    let mut config = ConnectionConfig::new("h:1");
    config.set_by_statement(key, value, &Policy::default())?;
    Ok(config)
}

#[test]
fn the_text_of_a_statement_runs_no_code() {
    let krb5 =
        "com.sun.security.auth.module.Krb5LoginModule required principal=\"x; touch /tmp/y\";";
    for (key, value) in [
        ("ssl.engine.location", "/tmp/evil.so"),
        ("kafka.SSL.engine.location", "/tmp/evil.so"),
        ("ssl.engine.id", "evil"),
        ("ssl.providers", "evil"),
        ("sasl.kerberos.kinit.cmd", "touch /tmp/x"),
        ("sasl.kerberos.principal", "x; touch /tmp/x"),
        ("sasl.kerberos.keytab", "x\"; touch /tmp/x"),
        ("sasl.jaas.config", krb5),
        ("test.mock.num.brokers", "3"),
        ("internal.termination.signal", "9"),
        ("plugin.library.paths", "/tmp/evil.so"),
    ] {
        let error = by_statement(key, value).unwrap_err().to_string();
        let said = ["text of a statement", "code cannot be loaded"];
        assert!(
            said.iter().any(|said| error.contains(said)),
            "{key}: {error}"
        );
    }
    // The operator may set it.
    assert!(set("ssl.providers", "default").is_ok());
}

#[test]
fn settings_of_topics_have_one_name() {
    for key in [
        "topic.auto.offset.reset",
        "topic.offset.store.path",
        "offset.store.path",
    ] {
        assert!(set(key, "x").is_err(), "{key}");
    }
    assert!(set("topic.metadata.refresh.interval.ms", "1000").is_ok());
    assert_eq!(set("topic.acks", "1").unwrap().get("acks"), Some("1"));
}

#[test]
fn other_security_leaves_the_credentials_behind() {
    let mut session = ConnectionConfig::new("a:1");
    for (key, value) in [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "anna"),
        ("sasl.password", "hunter2"),
        ("ssl.key.pem", "hunter2"),
        ("ssl.keystore.password", "hunter2"),
        ("ssl.ca.location", "/ca.pem"),
        ("client.id", "x"),
        ("schema.registry.url", "https://r"),
        ("schema.registry.bearer.auth.token", "hunter2"),
    ] {
        session.set(key, value).unwrap();
    }
    let secrets = |base: &ConnectionConfig| {
        let all = base.values.iter().chain(&base.stores);
        all.filter(|(_, value)| *value == "hunter2").count()
    };
    assert_eq!(secrets(&session), 4);
    // A setting of the table, and how many of the session's secrets the table then gets.
    for (key, value, left) in [
        ("client.id", "y", 4),
        ("fetch.max.bytes", "1000000", 4),
        ("security.protocol", "SASL_SSL", 4),
        ("security.protocol", "sasl_plaintext", 1),
        ("sasl.mechanism", "PLAIN", 1),
        ("sasl.username", "bob", 1),
        ("enable.ssl.certificate.verification", "false", 1),
        ("ssl.endpoint.identification.algorithm", "none", 1),
        ("ssl.ca.location", "/mine.pem", 1),
        ("ssl.truststore.location", "/mine.pem", 1),
        ("ssl.keystore.location", "/mine.p12", 1),
        ("sasl.oauthbearer.config", "principal=bob", 1),
        (
            "sasl.oauthbearer.token.endpoint.url",
            "https://theirs/token",
            1,
        ),
        ("https.ca.location", "/mine.pem", 1),
        (
            "client.dns.lookup",
            "resolve_canonical_bootstrap_servers_only",
            1,
        ),
        ("schema.registry.url", "https://r", 4),
        ("schema.registry.url", "http://r", 3),
        ("schema.registry.ssl.ca.location", "/mine.pem", 3),
        ("schema.registry.request.timeout.ms", "5", 4),
        ("bootstrap.servers", "a:1", 4),
        ("bootstrap.servers", "b:1", 0),
    ] {
        let mut table = ConnectionConfig::empty();
        table.set(key, value).unwrap();
        let base = session.base_for(&table);
        assert_eq!(secrets(&base), left, "{key}={value}: {base:?}");
        // All other settings stay.
        let kept = if left == 0 { None } else { Some("x") };
        assert_eq!(base.get("client.id"), kept, "{key}={value}");
    }
}

#[test]
fn a_secret_that_stands_for_a_jaas_line_is_not_printed() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut secret, b"org.x.hunter2 a=b").unwrap();
    let path = format!("file:{}", secret.path().display());
    let error = refused("sasl.jaas.config", &path);
    assert!(
        error.contains("does not begin with a login module"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_secret_is_not_read_for_ever() {
    let error = refused("sasl.password", "file:/dev/zero");
    assert!(error.contains("more than 1048576 bytes"), "{error}");
}

#[test]
fn masks_add_up_and_stay_whatever_a_table_says() {
    let mut session = ConnectionConfig::new("a:1");
    for (key, value) in [
        ("mask", "t.card=hash"),
        ("mask.salt", "0123456789abcdef"),
        ("schema.registry.url", "https://r"),
        ("sasl.password", "hunter2"),
    ] {
        session.set(key, value).unwrap();
    }
    for (key, value) in [
        ("bootstrap.servers", "b:1"),
        ("security.protocol", "sasl_plaintext"),
        ("schema.registry.url", "https://theirs"),
        ("client.id", "y"),
    ] {
        let mut table = ConnectionConfig::empty();
        table.set(key, value).unwrap();
        let mut config = session.base_for(&table);
        config.merge(&table);
        for config in [&config, &config.for_reading()] {
            let masks = config.masks().unwrap().unwrap();
            assert_eq!(masks.to_string(), "t.card=hash", "{key}={value}");
        }
        assert_eq!(config.masks_by_registry(), value != "https://theirs");
    }
    for (key, value) in [("mask", ""), ("mask.salt", "fedcba9876543210")] {
        let mut table = ConnectionConfig::empty();
        let refused = table.set_by_statement(key, value, &Policy::default());
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("the text of a statement may not choose"),
            "{refused}"
        );
    }
    let mut more = ConnectionConfig::empty();
    more.set("mask", "u.key").unwrap();
    session.merge(&more);
    assert_eq!(session.get("mask"), Some("t.card=hash, u.key"));

    // The list travels, the salt does not.
    let public = session.public();
    assert!(
        public.contains_key("mask") && !public.contains_key("mask.salt"),
        "{public:?}"
    );
    assert!(!session.is_public());
    let tuned = ConnectionConfig::new("a:1").tuned(&public).unwrap();
    assert!(
        tuned
            .masks()
            .unwrap_err()
            .to_string()
            .contains("set mask.salt")
    );
    assert!(refused("mask.salt", "short").contains("too short"));
    assert!(refused("mask", "t").contains("expected masks such as"));
    assert!(refused("mask.registry", "x").contains("no such setting"));
    session.set("debug", "all").unwrap();
    assert!(
        session
            .masks()
            .unwrap_err()
            .to_string()
            .contains("writes to the log")
    );
}
