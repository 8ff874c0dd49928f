//! Where Kafka's jars are, and how to run Java with them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::release::Release;

/// The folder of a release's jars. That of the newest is `KAFKA_LIBS`, or else the folder in the user's cache
/// that `make setup` fills. The others are beside it.
///
/// # Panics
/// When the folder is missing or incomplete.
pub fn folder(release: Release) -> PathBuf {
    let newest = match set("KAFKA_LIBS") {
        Some(folder) => PathBuf::from(folder),
        None => cache().join("datafusion-kafka/kafka-libs-4.1.1"),
    };
    let version = release.version();
    let (folder, fetch) = if release == Release::default() {
        (newest, "make setup".to_owned())
    } else {
        let beside = newest.with_file_name(format!("kafka-libs-{version}"));
        (beside, format!("scripts/kafka-libs {version}"))
    };
    assert!(
        folder.join(".complete").is_file(),
        "no jars of Kafka {version} in {}: run `{fetch}`, it fetches them (KAFKA_LIBS names another folder)",
        folder.display()
    );
    folder
}

pub(super) fn cache() -> PathBuf {
    set("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        let home = set("HOME").expect("neither KAFKA_LIBS, XDG_CACHE_HOME nor HOME is set");
        Path::new(&home).join(".cache")
    })
}

fn set(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// How to run Java.
#[derive(Debug, Clone, Copy)]
pub(super) enum Jvm {
    /// A small heap, one compiler tier and the simplest collector, for a broker in a test.
    FastStart,
    /// The same with less heap, for one of several brokers.
    Small,
    /// Java's defaults and a gigabyte of heap, for a broker in a benchmark.
    FullSpeed,
}

/// The arguments for `java`.
pub(super) fn java_arguments(
    release: Release,
    jvm: Jvm,
    log4j: &Path,
    class: &str,
) -> Vec<OsString> {
    let mut class_path = folder(release).into_os_string();
    class_path.push("/*");
    let mut configuration = OsString::from(format!("-D{}=file:", release.logging().0));
    configuration.push(log4j);
    let sizes: &[&str] = match jvm {
        Jvm::FastStart => &["-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"],
        Jvm::Small => &["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"],
        Jvm::FullSpeed => &["-Xms1g", "-Xmx1g"],
    };
    let mut arguments: Vec<OsString> = sizes.iter().map(Into::into).collect();
    arguments.extend(["-XX:-UsePerfData".into(), configuration, "-cp".into()]);
    arguments.extend([class_path, class.into()]);
    arguments
}

/// Runs one of Kafka's command-line tools to its end, and returns its output.
///
/// # Panics
/// When Java is missing or the tool fails.
pub(super) fn run_tool(release: Release, log4j: &Path, class: &str, arguments: &[&str]) -> String {
    let output = Command::new("java")
        .args(java_arguments(release, Jvm::FastStart, log4j, class))
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot run java ({error}): run `make setup`"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{class} {arguments:?} failed ({}):\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}
