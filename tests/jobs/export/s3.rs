//! Exports to a bucket.

use super::*;
use crate::support::s3;

fn command(arguments: &[&str]) -> Command {
    let mut command = kafka_sql();
    command.args(arguments).envs(s3::shared().environment());
    command
}

#[test]
fn a_killed_export_to_a_bucket_is_resumed_and_verified() {
    let world = World::new(2);
    world.produce(2, 40);
    let url = format!("s3://{}/{}/a", s3::BUCKET, world.topic);
    let by = "h=date_trunc('second', timestamp)";
    let options = ["--max-file-offsets", "9", "--partition-by", by, "-o", &url];
    let export = |more: &[&str], fault: &str| {
        let mut command = command(&["export", &world.topic]);
        command.args(options).args(more);
        command.env("KAFKA_SQL_FAULT", fault).output().unwrap()
    };
    for fault in [
        "export-after-plan",
        "export-after-files:3",
        "export-after-done:2",
    ] {
        let crash = export(&["--resume"], fault);
        assert!(!crash.status.success(), "{fault}: {}", err(&crash));
    }
    let message = failed(&export(&[], ""), 8);
    assert!(message.contains("--resume"), "{message}");
    ok(&export(&["--resume"], ""));
    let verified = command(&["verify", &url, "--against-kafka"])
        .output()
        .unwrap();
    ok(&verified);
    assert!(
        err(&verified).contains("80 rows the same in Kafka"),
        "{}",
        err(&verified)
    );
    // A folder above contains the export, so it is not empty.
    let above = format!("s3://{}/{}", s3::BUCKET, world.topic);
    let refused = command(&["export", &world.topic, "-o", &above])
        .output()
        .unwrap();
    let message = failed(&refused, 8);
    assert!(message.contains("not empty"), "{message}");
}
