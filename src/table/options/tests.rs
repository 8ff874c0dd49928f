use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field};

use super::*;

/// Rewrites the README's tables of options when it is set.
const WRITE_README: &str = "KAFKA_SQL_WRITE_README";

#[test]
fn readme_lists_the_options() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let begin = "<!-- options: from src/table/options/known.rs -->\n";
    let end = "\n<!-- end of options -->";
    let (before, rest) = readme
        .split_once(begin)
        .expect("the comment before the tables");
    let (found, after) = rest.split_once(end).expect("the comment behind the tables");
    let expected = known::markdown();
    if std::env::var_os(WRITE_README).is_some() {
        let text = format!("{before}{begin}{expected}{end}{after}");
        std::fs::write(path, text).unwrap();
    } else {
        assert!(
            found == expected,
            "README.md does not list the options as src/table/options/known.rs does; \
             run this test with {WRITE_README}=1 to write its tables"
        );
    }
}

#[test]
fn each_spelling_means_one_option() {
    let all = KNOWN.iter().flat_map(Known::spellings);
    for spelling in all {
        let meant: Vec<&str> = KNOWN
            .iter()
            .filter(|known| {
                known
                    .spellings()
                    .any(|name| plain(&name) == plain(&spelling))
            })
            .map(|known| known.name)
            .collect();
        assert_eq!(meant.len(), 1, "{spelling}: {meant:?}");
    }
}

#[test]
fn defaults_that_can_be_written_change_nothing() {
    let state = |options: &TableOptions| format!("{:?} {:?}", options.formats, options.sink);
    let unset = state(&TableOptions::default());
    let mut written = 0;
    for known in KNOWN {
        let Some(default) = known.default.strip_prefix('`') else {
            continue;
        };
        for name in known.names() {
            let brokers = ("kafka.bootstrap.servers", "h:1");
            let registry = ("schema.registry.url", "http://r");
            let mut options = set(&[brokers, registry]).unwrap();
            options.set(&name, default.trim_end_matches('`')).unwrap();
            assert_eq!(state(&options), unset, "{name}");
            drop(options.table("t", None, None).unwrap());
            written += 1;
        }
    }
    assert!(written > 20, "{written}");
}

#[test]
fn help_finds_options_by_their_names_and_meanings() {
    let found = TableOptions::help("failOnDataLoss");
    assert!(
        found.contains("fail.on.data.loss (Spark: failOnDataLoss)"),
        "{found}"
    );
    assert!(!found.contains("batch.bytes"), "{found}");
    assert!(TableOptions::help("dead letter").contains("on.bad.row"));
    assert!(TableOptions::help("").contains("key.format, value.format"));
    assert_eq!(TableOptions::help("nosuch"), "");
}

fn set(pairs: &[(&str, &str)]) -> Result<TableOptions> {
    let mut options = TableOptions::default();
    for (name, value) in pairs {
        options.set(name, value)?;
    }
    Ok(options)
}

fn error(pairs: &[(&str, &str)]) -> String {
    set(pairs).unwrap_err().to_string()
}

#[test]
fn spellings_are_one_option() {
    for name in [
        "failOnDataLoss",
        "failondataloss",
        "fail.on.data.loss",
        "FAIL_ON_DATA_LOSS",
    ] {
        let options = set(&[(name, "false")]).unwrap();
        assert_eq!(options.on_data_loss, Some(OnDataLoss::Skip), "{name}");
    }
}

#[test]
fn settings_of_a_registry_are_known_in_each_spelling() {
    for name in [
        "schema.registry.url",
        "schema_registry_url",
        "SchemaRegistryUrl",
    ] {
        let options = set(&[
            ("kafka.bootstrap.servers", "h:1"),
            ("value.format", "avro"),
            (name, "ftp://h"),
        ]);
        let error = options.unwrap().table("t", None, None).unwrap_err();
        let error = error.to_string();
        let named = error.starts_with("setting 'schema.registry.url': a URL begins");
        assert!(named, "{name}: {error}");
    }
}

#[test]
fn unknown_option_names_the_nearest() {
    assert_eq!(
        error(&[("startingOfsets", "earliest")]),
        "option 'startingOfsets' is not known: did you mean 'starting.offsets'?"
    );
}

#[test]
fn limits_of_batches_have_sparks_names() {
    let options = set(&[
        ("maxOffsetsPerTrigger", "5"),
        ("minOffsetsPerTrigger", "2"),
        ("maxTriggerDelay", "15m"),
        ("groupIdPrefix", "x"),
    ])
    .unwrap();
    assert_eq!(options.limits.max_offsets, Some(5));
    assert_eq!(options.limits.max_delay, Some(Duration::from_secs(900)));
    let reversed = set(&[
        ("kafka.bootstrap.servers", "h:1"),
        ("maxOffsetsPerTrigger", "5"),
        ("minOffsetsPerTrigger", "6"),
    ]);
    let refused = reversed.unwrap().table("t", None, None).unwrap_err();
    assert!(refused.to_string().contains("is above"), "{refused}");
    assert!(error(&[("lag", "soon")]).contains("a time span"));
}

#[test]
fn numbers_are_strict_as_in_spark() {
    for bad in ["a", "1.0", "0", "-1", ""] {
        let message = error(&[("minPartitions", bad)]);
        assert!(
            message.ends_with("expected a whole number above 0"),
            "{message}"
        );
    }
}

#[test]
fn topics_are_given_once() {
    let one = r#"{"t":[0]}"#;
    assert!(error(&[("subscribe", "a"), ("assign", one)]).contains("only one of"));
    let options = set(&[("subscribe", "a"), ("kafka.bootstrap.servers", "h:1")]).unwrap();
    assert!(options.table("a", None, None).is_err());
    assert!(options.table("", None, None).is_ok());
}

#[test]
fn a_table_needs_brokers() {
    let error = set(&[]).unwrap().table("t", None, None).unwrap_err();
    assert!(
        error.to_string().contains("kafka.bootstrap.servers"),
        "{error}"
    );
}

#[test]
fn credentials_stay_with_their_brokers() {
    let mut session = ConnectionConfig::new("a:1");
    session.set("sasl.password", "hunter2").unwrap();
    let config = |pairs: &[(&str, &str)]| set(pairs).unwrap().config(Some(&session)).unwrap();
    let same = config(&[("kafka.client.id", "x")]);
    assert_eq!(same.get("sasl.password"), Some("hunter2"));
    let other = config(&[("kafka.bootstrap.servers", "b:1")]);
    assert_eq!(other.get("sasl.password"), None);
}

#[test]
fn a_registrys_login_stays_with_its_url() {
    let mut session = ConnectionConfig::new("a:1");
    session.set("schema.registry.url", "http://a").unwrap();
    let login = "schema.registry.basic.auth.user.info";
    session.set(login, "anna:hidden").unwrap();
    let config = |pairs: &[(&str, &str)]| set(pairs).unwrap().config(Some(&session)).unwrap();
    for same in [
        config(&[("value.format", "avro")]),
        config(&[("schema.registry.url", "http://a")]),
        config(&[("schema.registry.request.timeout.ms", "5")]),
    ] {
        assert_eq!(same.get(login), Some("anna:hidden"));
    }
    for other in [
        config(&[("schema.registry.url", "http://b")]),
        config(&[("kafka.bootstrap.servers", "b:1")]),
    ] {
        assert_eq!(other.get(login), None);
    }
}

#[test]
fn names_of_formats_may_ask_for_a_registry() {
    let brokers = ("kafka.bootstrap.servers", "h:1");
    let refused = |format: &str| {
        let options = set(&[brokers, ("value.format", format)]).unwrap();
        let table = options.table("t", None, None).unwrap().build_lazy();
        table.unwrap_err().to_string()
    };
    for (name, plain) in [
        ("avro-registry", "avro"),
        ("JSON-registry", "json"),
        ("protobuf-registry", "protobuf"),
    ] {
        let found = refused(name);
        assert!(
            found.starts_with(&format!("'value.format' = '{name}' needs a registry"))
                && found.contains(&format!("write '{plain}'")),
            "{found}"
        );
    }
    let misspelt = error(&[("value.format", "avro-registri")]);
    assert!(
        misspelt.contains("did you mean 'avro-registry'?"),
        "{misspelt}"
    );
}

#[test]
fn ranges_are_given_once() {
    let options = set(&[
        ("kafka.bootstrap.servers", "h:1"),
        ("range", "-5"),
        ("startingOffsets", "earliest"),
    ])
    .unwrap();
    let error = options.table("t", None, None).unwrap_err().to_string();
    assert!(error.starts_with("the range is given twice"), "{error}");
}

#[test]
fn any_ending_option_is_refused_in_a_job() {
    let brokers = ("kafka.bootstrap.servers", "h:1");
    let never = i64::MAX.to_string();
    for (name, value, spark) in [
        ("endingOffsets", "latest", "endingOffsets"),
        ("ending.offsets", r#"{"t":{"0":-1}}"#, "endingOffsets"),
        ("endingTimestamp", never.as_str(), "endingTimestamp"),
        (
            "endingOffsetsByTimestamp",
            r#"{"t":9223372036854775807}"#,
            "endingOffsetsByTimestamp",
        ),
    ] {
        let options = set(&[brokers, (name, value)]).unwrap();
        let table = options.table("t", None, None).unwrap().build_lazy();
        let error = table.unwrap().check_followable("s").unwrap_err();
        let expected = format!("its range must not end ('{spark}')");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    let options = set(&[brokers, ("startingOffsets", "earliest")]).unwrap();
    let table = options.table("t", None, None).unwrap().build_lazy();
    table.unwrap().check_followable("s").unwrap();
}

#[test]
fn errors_about_topics_name_the_option() {
    let cases = [
        ("subscribePattern", "", "pattern to subscribe is empty"),
        (
            "subscribePattern",
            "(",
            "topic pattern '(' is no regular expression",
        ),
        ("subscribe", " , ", "no topics to subscribe"),
        ("assign", "{}", "no topic partitions to assign"),
    ];
    for (name, value, message) in cases {
        let found = error(&[(name, value)]);
        let expected = format!("setting '{name}': {message}");
        assert!(found.starts_with(&expected), "{found}");
    }
}

#[test]
fn only_sparks_name_allows_ends_past_the_log() {
    for (name, value, past_end_is_end) in [
        ("failOnDataLoss", "false", true),
        ("failOnDataLoss", "true", false),
        ("on.data.loss", "skip", false),
    ] {
        let options = set(&[(name, value)]).unwrap();
        assert_eq!(options.past_end_is_end, past_end_is_end, "{name}");
    }
}

#[test]
fn definition_masks_secrets() {
    let options = set(&[("kafka.sasl.password", "hunter2"), ("value.format", "text")]).unwrap();
    assert_eq!(
        options.definition("t", "it's"),
        "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION 'it''s' \
         OPTIONS ('kafka.sasl.password' '***', 'value.format' 'text')"
    );
}

#[test]
fn definition_has_the_declared_columns() {
    let mut options = set(&[("value.format", "json")]).unwrap();
    let item = Field::new("item", DataType::Utf8View, true);
    options.declare(Fields::from(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("Tags", DataType::List(Arc::new(item)), true),
    ]));
    assert_eq!(
        options.definition("t", "orders"),
        "CREATE EXTERNAL TABLE t (id BIGINT, \"Tags\" VARCHAR[]) STORED AS KAFKA LOCATION 'orders' \
         OPTIONS ('value.format' 'json')"
    );
}

#[test]
fn headers_and_metadata_columns_choose() {
    let options = set(&[
        ("metadata.columns", "offset, headers,value"),
        ("includeHeaders", "false"),
    ]);
    assert_eq!(
        options.unwrap().table_columns(),
        [Column::Offset, Column::Value]
    );
    assert!(error(&[("metadata.columns", "ofset")]).ends_with("did you mean 'offset'?"));
}
