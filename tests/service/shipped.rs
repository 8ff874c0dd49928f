//! What `deploy` has for the service: it names what there is, and the programs that read it take it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;

use crate::running::{Files, LIMIT, Running, kafka_sql, new_topic, produce_to, section};
use crate::support::{repository, s3, shared, wait_until};

fn read(path: &str) -> String {
    let path = repository().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All groups 1 of a pattern in a text.
fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).expect("a pattern");
    let captures = pattern.captures_iter(text);
    captures.map(|captures| captures[1].to_owned()).collect()
}

/// A file of YAML as JSON, its documents as a list.
fn yaml(path: &str) -> Value {
    let script =
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let output = Command::new(s3::python())
        .args(["-c", script])
        .arg(repository().join(path))
        .output()
        .expect("Python starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The expressions of the dashboard and of the alerts.
fn expressions() -> String {
    let mut all = String::new();
    let dashboard: Value =
        serde_json::from_str(&read("deploy/grafana/dashboard.json")).expect("JSON");
    let mut panels = vec![];
    for panel in dashboard["panels"].as_array().expect("panels") {
        panels.push(panel["id"].as_u64().expect("an id"));
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push_str(target["expr"].as_str().expect("an expression"));
            all.push('\n');
        }
    }
    assert_eq!(
        panels.iter().collect::<BTreeSet<_>>().len(),
        panels.len(),
        "ids are unique"
    );
    for variable in dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
    {
        all.push_str(variable["definition"].as_str().unwrap_or_default());
        all.push('\n');
    }
    for annotation in dashboard["annotations"]["list"].as_array().expect("a list") {
        all.push_str(annotation["expr"].as_str().expect("an expression"));
        all.push('\n');
    }
    for group in yaml("deploy/prometheus/alerts.yaml")[0]["groups"]
        .as_array()
        .expect("groups")
    {
        for rule in group["rules"].as_array().expect("rules") {
            all.push_str(rule["expr"].as_str().expect("an expression"));
            all.push('\n');
        }
    }
    all
}

#[test]
fn dashboard_alerts_and_docs_name_metrics_that_are_exported() {
    let topic = new_topic();
    produce_to(shared().bootstrap(), &topic, 5);
    let files = Files::new();
    files.job("orders", &topic);
    let postgres = "[postgres]\nlisten = \"127.0.0.1:0\"\nconnection = \"main\"\n\
                    [postgres.users.ada]\npassword = \"env:TEST_PASSWORD\"\n";
    files.service(&(section("orders", "") + postgres));
    let served = Running::start(&files);
    wait_until(LIMIT, "a batch is committed", || {
        served.job("orders")["last_commit_ms"].as_i64()
    });
    let (status, metrics) = served.get("/metrics");
    assert_eq!(status, 200);
    let exported = found(r"(?m)^([a-z_]+)[ {]", &metrics);
    let mut labels = found(r#"([a-z_]+)=""#, &metrics);
    // What Prometheus adds.
    labels.insert("instance".to_owned());
    let metric = r"\b((?:kafka_sql|process)_[a-z_]+)\b";

    let expressions = expressions();
    let used = found(metric, &expressions);
    assert!(used.len() > 10, "{used:?}");
    let unknown: Vec<_> = used.difference(&exported).collect();
    assert!(unknown.is_empty(), "{unknown:?} is not in:\n{metrics}");
    let by: String = found(r"\b(?:by|on) \(([^)]*)\)", &expressions)
        .into_iter()
        .collect::<Vec<_>>()
        .join(", ");
    let mut used = found(r#"([a-z_]+)=~?""#, &expressions);
    used.extend(by.split(", ").map(str::to_owned));
    let unknown: Vec<_> = used.difference(&labels).collect();
    assert!(
        unknown.is_empty(),
        "labels {unknown:?} are not in:\n{metrics}"
    );

    for docs in ["docs/production.md", "docs/postgres-port.md"] {
        let documented = found(metric, &read(docs));
        // A histogram is documented without `_count` and its like.
        let unknown = documented.iter().filter(|name| {
            !exported.contains(*name) && !exported.contains(&format!("{name}_count"))
        });
        let unknown: Vec<_> = unknown.collect();
        assert!(unknown.is_empty(), "{docs}: {unknown:?}");
    }
}

#[test]
fn each_alert_has_a_test_and_a_place_in_the_docs() {
    let alerts = read("deploy/prometheus/alerts.yaml");
    let names = found(r"- alert: (\w+)", &alerts);
    let tests = read("deploy/prometheus/tests.yaml");
    let tested = found(r#"alertname(?:: |=")(\w+)"#, &tests);
    assert_eq!(names, tested);
    let docs = read("docs/production.md");
    let headings: BTreeSet<String> = docs
        .lines()
        .filter_map(|line| {
            line.strip_prefix("## ")
                .or_else(|| line.strip_prefix("### "))
        })
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let anchors = found(r"docs/production\.md#([a-z-]+)", &alerts);
    let missing: Vec<_> = anchors.difference(&headings).collect();
    assert!(missing.is_empty(), "{missing:?} is not in {headings:?}");
    for (what, count) in [
        ("summary: ", names.len()),
        ("description: ", names.len()),
        ("runbook_url: ", names.len()),
    ] {
        assert_eq!(alerts.matches(what).count(), count, "{what}");
    }
}

/// Prometheus' own checker.
fn promtool() -> Option<PathBuf> {
    let named = std::env::var_os("KAFKA_SQL_TEST_PROMTOOL").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join("go/bin"));
    let folders = std::env::split_paths(&path).chain(home);
    let found = named.or_else(|| {
        let mut programs = folders.map(|folder| folder.join("promtool"));
        programs.find(|program| program.is_file())
    });
    if found.is_none() {
        println!(
            "skipped: there is no promtool. go install github.com/prometheus/prometheus/cmd/promtool@latest makes one; \
             KAFKA_SQL_TEST_PROMTOOL names another"
        );
    }
    found
}

#[test]
fn promtool_takes_the_alerts_and_their_tests() {
    let Some(promtool) = promtool() else { return };
    for arguments in [
        &["check", "rules", "--lint-fatal", "alerts.yaml"][..],
        &["check", "config", "--syntax-only", "prometheus.yaml"],
        &["test", "rules", "tests.yaml"],
    ] {
        let output = Command::new(&promtool)
            .args(arguments)
            .current_dir(repository().join("deploy/prometheus"))
            .output()
            .expect("promtool starts");
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }
}

/// Whether `serve --check` takes a file; each text is replaced by another first.
fn check(toml: &str, replaced: &[(&str, &str)], folder: &Path) {
    let mut text = toml.to_owned();
    for (from, to) in replaced {
        assert!(text.contains(from), "{from} is not in {toml}");
        text = text.replace(from, to);
    }
    let file = folder.join("serve.toml");
    std::fs::write(&file, &text).expect("a file");
    let output = kafka_sql()
        .args(["serve", "--check"])
        .arg(&file)
        .output()
        .expect("the shell starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{text}");
}

#[test]
fn the_files_of_services_are_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().display().to_string();
    let job = "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/tmp/t/'; INSERT INTO t SELECT * FROM orders;";
    std::fs::create_dir(folder.path().join("jobs")).expect("a folder");
    let made = rcgen::generate_simple_self_signed(["kafka-sql".to_owned()]).expect("a certificate");
    for (name, text) in [
        ("token", "secret"),
        ("grafana", "secret"),
        ("client.properties", "bootstrap.servers=kafka:9092\n"),
        ("jobs/orders.sql", job),
        ("tls.crt", &made.cert.pem()),
        ("tls.key", &made.signing_key.serialize_pem()),
    ] {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    std::fs::copy(
        repository().join("deploy/compose/jobs/landing.sql"),
        folder.path().join("jobs/landing.sql"),
    )
    .expect("a file");

    let credentials = "/run/credentials/kafka-sql.service";
    check(
        &read("deploy/systemd/serve.toml"),
        &[(credentials, &root)],
        folder.path(),
    );
    check(
        &read("deploy/compose/serve.toml"),
        &[("/run/secrets", &root)],
        folder.path(),
    );

    let settings = yaml("deploy/kubernetes/service/settings.yaml");
    let mut objects = settings.as_array().expect("objects").iter();
    let files = objects
        .find(|object| object["kind"] == "ConfigMap")
        .expect("a ConfigMap");
    for (name, text) in files["data"].as_object().expect("files") {
        std::fs::write(folder.path().join(name), text.as_str().expect("text")).expect("a file");
    }
    let mounts = [
        "/etc/kafka-sql/config",
        "/etc/kafka-sql/secret",
        "/etc/kafka-sql/tls",
    ];
    let replaced = mounts.map(|mount| (mount, root.as_str()));
    check(
        files["data"]["serve.toml"].as_str().expect("text"),
        &replaced,
        folder.path(),
    );
}

#[test]
fn the_manifests_of_the_service_call_the_shell_with_flags_that_it_has() {
    let output = Command::new(s3::python())
        .arg(repository().join("tests/python/manifests.py"))
        .arg("--commands")
        .arg(repository().join("deploy/kubernetes/service"))
        .output()
        .expect("Python starts");
    let commands = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        commands.lines().count(),
        2,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for command in commands.lines() {
        let mut arguments: Vec<String> = serde_json::from_str(command).expect("JSON");
        for (more, code) in [("--help", 0), ("--no-such-flag", 2)] {
            arguments.push(more.to_owned());
            let output = kafka_sql().args(&arguments).output();
            let output = output.expect("the shell runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{command}: {said}");
            arguments.pop();
        }
    }
}

#[test]
fn what_compose_names_is_there() {
    let file = yaml("deploy/compose/compose.yaml")[0].clone();
    let here = repository().join("deploy/compose");
    let named = |of: &str| -> BTreeSet<String> {
        file[of]
            .as_object()
            .expect("a map")
            .keys()
            .cloned()
            .collect()
    };
    let services = file["services"].as_object().expect("services");
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume
                .as_str()
                .and_then(|v| v.split(':').next())
                .expect("a volume");
            match source.starts_with('.') {
                true => assert!(here.join(source).exists(), "{name}: {source}"),
                false => assert!(named("volumes").contains(source), "{name}: {source}"),
            }
        }
        for secret in service["secrets"].as_array().into_iter().flatten() {
            assert!(
                named("secrets").contains(secret.as_str().expect("a name")),
                "{name}"
            );
        }
        for on in service["depends_on"]
            .as_object()
            .into_iter()
            .flat_map(|on| on.keys())
        {
            assert!(services.contains_key(on), "{name}: {on}");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().expect("a port");
            assert!(
                port.starts_with("127.0.0.1:"),
                "{name}: {port} is open to other machines"
            );
        }
    }
    let build = &services["kafka-sql"]["build"];
    let context = here.join(build["context"].as_str().expect("a folder"));
    assert!(
        context
            .join(build["dockerfile"].as_str().expect("a file"))
            .is_file()
    );
    assert!(read("deploy/Dockerfile").contains("--features 'distributed serve'"));
}

/// The unit says what the service counts on, and systemd's own checker takes it where it is installed.
#[test]
fn systemd_takes_the_unit() {
    let unit = read("deploy/systemd/kafka-sql.service");
    for line in [
        "Type=notify",
        "WatchdogSec=120",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        "DynamicUser=yes",
        "StateDirectory=kafka-sql",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("kafka-sql.service");
    let unit = unit.replace("/usr/local/bin/kafka-sql", env!("CARGO_BIN_EXE_kafka-sql"));
    std::fs::write(&copy, &unit).expect("a file");
    let verify = |file: &Path| {
        Command::new("systemd-analyze")
            .arg("verify")
            .arg(file)
            .output()
    };
    let Ok(output) = verify(&copy) else {
        println!("skipped: there is no systemd-analyze, which is in Debian's package systemd");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let about: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("kafka-sql.service"))
        .collect();
    assert!(output.status.success() && about.is_empty(), "{said}");
    let wrong = unit.replace("ProtectSystem=strict", "ProtectSystem=stricter");
    std::fs::write(&copy, wrong).expect("a file");
    let output = verify(&copy).expect("it ran before");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("stricter"), "{said}");
}
