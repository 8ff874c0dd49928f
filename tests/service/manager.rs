//! What service managers do: reload, watch, end.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::running::{Files, LIMIT, Running, assert_no_secret, new_topic, produce_to, section};
use crate::support::{KafkaOptions, KafkaServer, admin, produce, shared, wait_until};

#[test]
fn a_hangup_reads_the_file_again() {
    let (files, topic, brokers) = (Files::new(), new_topic(), shared().bootstrap());
    files.service(&(section("one", "") + &section("two", "")));
    for job in ["one", "two", "three"] {
        files.job(job, &topic);
    }
    produce_to(brokers, &topic, 6);
    let service = Running::start(&files);
    files.wait_for_each_once("two", 6);

    // One is gone, one is new, one has another limit, and a setting that needs a restart.
    files.service(
        &("history = 5\n".to_owned() + &section("two", "max_offsets = 2") + &section("three", "")),
    );
    service.signal("HUP");
    service.wait_until_said("added: three; changed: two; removed: one");
    service.wait_until_said("take effect when the service starts again: [service]");
    files.wait_for_each_once("three", 6);
    wait_until(LIMIT, "one has left", || {
        (service.get("/api/jobs/one").0 == 404).then_some(())
    });
    produce_to(brokers, &topic, 6);
    files.wait_for_each_once("two", 12);
    files.wait_for_each_once("three", 12);
    assert_eq!(files.held("one").len(), 6);

    // A file that is wrong changes nothing.
    files.write("serve.toml", "[jobs.two]\nfiel = \"two.sql\"");
    service.signal("HUP");
    service.wait_until_said(
        "serve.toml:2: unknown key 'fiel'; did you mean 'file'?; all stays as it was",
    );
    produce_to(brokers, &topic, 6);
    files.wait_for_each_once("two", 18);

    // The token of the file holds from now on.
    files.service(&section("two", ""));
    let text = std::fs::read_to_string(files.path("serve.toml")).expect("a file");
    files.write("token", "another");
    let other = text.replace(
        "env:TEST_TOKEN",
        &format!("file:{}", files.path("token").display()),
    );
    files.write("serve.toml", &other);
    service.signal("HUP");
    service.wait_until_said("removed: three");
    assert_eq!(service.post("/api/jobs/two/pause").0, 401);
    assert_eq!(
        service.ask("POST /api/jobs/two/pause", Some("another")).0,
        202
    );
    let (ended, said) = service.end();
    assert!(ended.success(), "{said}");
    assert_no_secret([said.as_str()]);
}

#[test]
fn systemd_is_told() {
    let (files, topic) = (Files::new(), new_topic());
    files.service(&section("one", ""));
    files.job("one", &topic);
    let socket = UnixDatagram::bind(files.path("notify")).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut service = Running::start_with(&files, |command| {
        command
            .env("NOTIFY_SOCKET", files.path("notify"))
            .env("WATCHDOG_USEC", "2000000")
            .env_remove("WATCHDOG_PID")
    });
    let told = |what: &str| {
        let mut message = [0; 1024];
        loop {
            let read = socket
                .recv(&mut message)
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            let message = String::from_utf8_lossy(&message[..read]).into_owned();
            if message.contains(what) {
                return message;
            }
        }
    };
    told("READY=1");
    told("WATCHDOG=1");
    told("WATCHDOG=1");
    service.signal("HUP");
    let reloading = told("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    told("READY=1");
    service.signal("TERM");
    told("STOPPING=1");
    let ended = service.child.wait().expect("it ends");
    assert!(ended.success(), "{}", service.said());
}

/// A service with one job, in the midst of a batch: a quota holds it back.
fn in_a_batch(files: &Files, brokers: &str, more: &str, with: &[(&str, &str)]) -> Running {
    let id = admin::unique_topic("held-back");
    let (topic, _) = produce::held_back(brokers, &id);
    let connection = format!(
        "[connections.slow]\n\"bootstrap.servers\" = \"{brokers}\"\n\"client.id\" = \"{id}\"\n"
    );
    let job = section("one", more).replace("\"main\"", "\"slow\"");
    files.service(&format!("{connection}{job}"));
    files.job("one", &topic);
    let service = Running::start_with(files, |command| command.envs(with.iter().copied()));
    wait_until(LIMIT, "it reads", || {
        (service.job("one")["state"] == "running").then_some(())
    });
    service
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let files = Files::new();
    let mut service = in_a_batch(&files, shared().bootstrap(), "", &[]);
    service.signal("TERM");
    wait_until(LIMIT, "it waits for its batch", || {
        service.get("/readyz").1.contains("drain").then_some(())
    });
    service.signal("INT");
    let ended = wait_until(LIMIT, "it ends", || {
        service.child.try_wait().expect("a process")
    });
    assert_eq!(ended.code(), Some(130), "{}", service.said());
    assert!(files.held("one").is_empty(), "the batch was left");
}

#[test]
fn the_watchdog_is_not_told_while_a_batch_hangs() {
    let server = KafkaServer::start(KafkaOptions::default());
    let files = Files::over(server.bootstrap());
    let path = files.path("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let with = [
        ("NOTIFY_SOCKET", path.to_str().expect("text")),
        ("WATCHDOG_USEC", "2000000"),
    ];
    let mut service = in_a_batch(&files, server.bootstrap(), "deadline = \"2s\"", &with);
    server.freeze();
    let told = |within: Duration| {
        socket.set_read_timeout(Some(within)).expect("a limit");
        let mut message = [0; 1024];
        let read = socket.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..read]).into_owned())
    };
    // As long as it takes to notice, and then not any more.
    wait_until(LIMIT, "it hangs", || {
        told(Duration::from_secs(5)).is_none().then_some(())
    });
    let (status, why) = service.get("/readyz");
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("quota-") && why.contains("[0]@"), "{why}");
    server.thaw();
    wait_until(LIMIT, "it is told again", || {
        told(LIMIT).filter(|told| told.contains("WATCHDOG=1"))
    });
    service.signal("KILL");
    service.child.wait().expect("it ends");
}
