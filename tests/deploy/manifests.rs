//! The manifests of `deploy/kubernetes`: valid, and typing errors in them are found.

use std::path::Path;
use std::process::Command;

use crate::support::{repository, s3};

/// What the checker says of each of these folders.
fn checked(folders: &[&Path]) -> String {
    let output = Command::new(s3::python())
        .arg(repository().join("tests/python/manifests.py"))
        .args(folders)
        .output()
        .expect("Python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{errors}\nWithout kubernetes_validate: run `make setup`, it fetches what the tests need of Python"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn manifests_of_workers_are_valid_and_what_is_wrong_is_found() {
    let typos = [
        ("containerPort: 7001", "containerport: 7001"),
        ("replicas: 3", "replicas: three"),
        ("tcpSocket:", "tcpSockets:"),
        ("memory: 4Gi", "memory: 2Gi"),
        (
            "            periodSeconds: 5",
            "            periodSeconds: 5\n            periodSeconds: 5",
        ),
        ("runAsNonRoot: true", "runAsNonroot: true"),
        (
            "serviceName: kafka-sql-workers",
            "serviceName: kafka-sql-worker",
        ),
        ("secretName: kafka-sql-tls", "secretName: kafka-sql-tsl"),
        ("=dns:kafka-sql-workers:7001", "=dns:kafka-sql-workers:7010"),
        ("--rack=$(RACK)", "--rack=$(ZONE)"),
        ("tls/tls.key", "tls/tls.pem"),
        (
            "mountPath: /etc/kafka-sql/token",
            "mountPath: /etc/kafka-sql/tokens",
        ),
        ("              port: grpc", "              port: http"),
        (
            "      app.kubernetes.io/component: worker\n  template",
            "      app.kubernetes.io/component: wroker\n  template",
        ),
        ("kind: NetworkPolicy", "kind: NetworkPolice"),
    ];
    find(
        "deploy/kubernetes",
        "kubernetes: 11 objects are valid",
        &typos,
    );
}

#[test]
fn manifests_of_the_service_are_valid_and_what_is_wrong_is_found() {
    let typos = [
        ("path: /readyz", "paths: /readyz"),
        (
            "              path: /livez\n              port: http",
            "              path: /livez\n              port: https",
        ),
        ("containerPort: 5432", "containerPort: 5433"),
        ("config/serve.toml", "config/service.toml"),
        ("secret/client.properties", "secret/client.property"),
        ("config/landing.sql", "config/landings.sql"),
        ("secret/grafana", "secrets/grafana"),
        ("tls/tls.key", "tls/tls.pem"),
        ("[http]", "[http"),
        ("--memory-limit=1G", "--memory-limit=2G"),
        ("claimName: kafka-sql-nightly", "claimName: kafka-sql-night"),
        ("onExitCodes", "onExitCode"),
        ("schedule: ", "schedules: "),
        ("replicas: 1", "replicas: one"),
    ];
    find(
        "deploy/kubernetes/service",
        "service: 9 objects are valid",
        &typos,
    );
}

/// Checks a folder as it is, which must be `valid`, and once more with each text replaced by the wrong one beside it.
fn find(folder: &str, valid: &str, typos: &[(&str, &str)]) {
    let folder = repository().join(folder);
    let scratch = tempfile::tempdir().expect("a folder");
    let mut folders = vec![];
    for (number, (right, wrong)) in typos.iter().enumerate() {
        let to = scratch.path().join(format!("typo-{number}"));
        std::fs::create_dir(&to).expect("a folder");
        let mut times = 0;
        for file in std::fs::read_dir(&folder).expect("it is there") {
            let file = file.expect("it can be read");
            if file.path().is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(file.path()).expect("text");
            times += text.matches(right).count();
            let text = text.replace(right, wrong);
            std::fs::write(to.join(file.file_name()), text).expect("a file");
        }
        assert!(times > 0, "no manifest has '{right}'");
        folders.push(to);
    }
    let all = std::iter::once(folder.as_path()).chain(folders.iter().map(|f| f.as_path()));
    let said = checked(&all.collect::<Vec<_>>());
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some(valid), "{said}");
    for (number, (right, wrong)) in typos.iter().enumerate() {
        let of = format!("typo-{number}: ");
        let found: Vec<&str> = said.lines().filter(|line| line.starts_with(&of)).collect();
        let is_found = !found.is_empty() && !found.iter().any(|line| line.ends_with("are valid"));
        assert!(
            is_found,
            "'{wrong}' in place of '{right}' was not found: {found:?}"
        );
    }
}
