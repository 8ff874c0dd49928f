//! Options and subjects.

use super::super::{Registry, RegistryConfig, SubjectNames};

fn wrong(options: &[(&str, &str)]) -> String {
    let config = RegistryConfig::from_options(options.iter().copied());
    config.unwrap_err().to_string()
}

#[test]
fn other_options_are_no_registrys() {
    let none = RegistryConfig::from_options([("value.format", "avro")]);
    assert!(none.unwrap().is_none());
}

#[test]
fn options_that_are_wrong() {
    let url = ("schema.registry.url", "http://a");
    assert_eq!(
        wrong(&[url, ("schema.registry.urls", "http://a")]),
        "setting 'schema.registry.urls': is not an option of a schema registry; did you mean \
         'schema.registry.url'?"
    );
    assert!(
        wrong(&[("schema.registry.request.timeout.ms", "5")]).contains("'schema.registry.url'")
    );
    assert!(wrong(&[url, ("schema.registry.request.timeout.ms", "0")]).contains("above 0"));
    assert!(
        wrong(&[url, ("schema.registry.basic.auth.user.info", "anna")]).contains("':' between")
    );
    let both = [
        url,
        ("schema.registry.basic.auth.user.info", "anna:pw"),
        ("schema.registry.bearer.auth.token", "abc"),
    ];
    assert!(wrong(&both).contains("one login"));
}

#[test]
fn urls_that_are_wrong_are_not_shown() {
    for url in [
        "",
        " , ",
        "registry:8081",
        "anna:hidden@registry:8081",
        "ftp://anna:hidden@registry",
        "http://anna:hidden@registry?x=1",
        "http://anna:hidden@registry:99999",
        "http://",
    ] {
        let message = wrong(&[("schema.registry.url", url)]);
        assert!(
            message.starts_with("setting 'schema.registry.url': "),
            "{message}"
        );
        assert!(!message.contains("hidden"), "{message}");
    }
}

#[test]
fn secrets_are_not_printed() {
    for options in [
        [
            ("schema.registry.url", "http://anna:hidden@a"),
            ("schema.registry.ssl.ca.location", "/x"),
        ],
        [
            ("schema.registry.url", "http://a"),
            ("schema.registry.basic.auth.user.info", "anna:hidden"),
        ],
        [
            ("schema.registry.url", "http://a"),
            ("schema.registry.bearer.auth.token", "hidden"),
        ],
    ] {
        let config = RegistryConfig::from_options(options).unwrap().unwrap();
        let printed = format!("{config:?} {:?}", Registry::new(config.clone()).unwrap());
        assert!(!printed.contains("hidden"), "{printed}");
        assert!(printed.contains("http://a"), "{printed}");
    }
}

#[test]
fn token_that_is_no_header_is_not_shown() {
    let options = [
        ("schema.registry.url", "http://a"),
        ("schema.registry.bearer.auth.token", "hidden\n"),
    ];
    let config = RegistryConfig::from_options(options).unwrap().unwrap();
    let message = Registry::new(config).unwrap_err().to_string();
    assert!(
        message.contains("header") && !message.contains("hidden"),
        "{message}"
    );
}

#[test]
fn subjects() {
    let subject = |names: &str, key, record| {
        let names: SubjectNames = names.parse().unwrap();
        names.subject("orders", key, record).unwrap()
    };
    assert_eq!(subject("topic", false, None), "orders-value");
    assert_eq!(subject("topic", true, Some("com.Order")), "orders-key");
    assert_eq!(subject("record", false, Some("com.Order")), "com.Order");
    assert_eq!(
        subject("topic-record", true, Some("com.Order")),
        "orders-com.Order"
    );
    let class = "io.confluent.kafka.serializers.subject.TopicRecordNameStrategy";
    assert_eq!(subject(class, true, Some("com.Order")), "orders-com.Order");
    let unnamed = SubjectNames::Record.subject("orders", false, None);
    assert!(unnamed.unwrap_err().to_string().contains("'orders'"));
    assert!("topics".parse::<SubjectNames>().is_err());
}
