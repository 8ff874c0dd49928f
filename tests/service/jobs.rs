//! Jobs side by side: what they deliver, and what the service says of it.

use crate::running::{
    Files, LIMIT, PARTITIONS, Running, TOKEN, assert_no_secret, new_topic, produce_to, section,
};
use crate::support::{KafkaOptions, KafkaServer, Record, admin, produce, shared, wait_until};

#[test]
fn a_job_that_fails_is_shown_and_the_others_deliver() {
    let (files, topic, brokers) = (Files::new(), new_topic(), shared().bootstrap());
    files.service(
        &(section("one", "") + &section("two", "trigger = \"every 50ms\"") + &section("bad", "")),
    );
    files.job("one", &topic);
    files.job("two", &topic);
    files.write("bad.sql", "SELECT 1;\n");
    produce_to(brokers, &topic, 30);
    let service = Running::start(&files);
    for job in ["one", "two"] {
        files.wait_for_each_once(job, 30);
    }
    let (status, why) = service.get("/readyz");
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("bad: has not looked yet"), "{why}");
    assert!(
        why.contains("bad.sql:1: a job has CREATE, SET and INSERT"),
        "{why}"
    );
    assert_eq!(service.get("/livez"), (200, "ok\n".to_owned()));
    wait_until(LIMIT, "it is shown as failed", || {
        let bad = service.job("bad");
        (bad["state"] == "failed" && bad["next_attempt_ms"].is_i64()).then_some(())
    });

    // It runs as soon as its file is mended, without a restart of anything else.
    files.job("bad", &topic);
    let (status, answer) = service.post("/api/jobs/bad/retry");
    assert_eq!(status, 202, "{answer}");
    files.wait_for_each_once("bad", 30);
    service.wait_until_ready();

    produce_to(brokers, &topic, 30);
    for job in ["one", "two", "bad"] {
        files.wait_for_each_once(job, 60);
        // The metrics and the API are what the sink holds.
        let sink = format!("sink=\"{}\"", sink_of(&service, job));
        let rows = format!("kafka_sql_job_sink_rows_total{{job=\"{job}\",{sink}}}");
        wait_until(LIMIT, "the batch is noted", || {
            (service.metric(&rows) == Some(60.0)).then_some(())
        });
        let read = format!("kafka_sql_job_records_total{{job=\"{job}\",class=\"delivered\"}}");
        assert_eq!(service.metric(&read), Some(60.0));
        for partition in 0..PARTITIONS {
            let labels = format!("{{job=\"{job}\",topic=\"{topic}\",partition=\"{partition}\"}}");
            for name in ["records", "seconds"] {
                let series = format!("kafka_sql_job_lag_{name}{labels}");
                assert_eq!(service.metric(&series), Some(0.0), "{series}");
            }
        }
        assert_eq!(service.job(job)["totals"]["ledger"]["delivered"], 60);
    }
    let answers = ["/api/jobs", "/metrics", "/readyz"].map(|path| service.get(path).1);
    let (ended, said) = service.end();
    assert!(ended.success(), "{said}");
    assert!(
        said.contains("bad: retry by HTTP client 127.0.0.1:"),
        "{said}"
    );
    assert_no_secret(answers.iter().chain([&said]).map(String::as_str));
}

/// The target of a job's sink.
fn sink_of(service: &Running, job: &str) -> String {
    let job = service.job(job);
    let rows = job["totals"]["rows"].as_object().expect("sinks");
    rows.keys().next().expect("a sink").clone()
}

#[test]
fn a_paused_job_is_behind_by_the_age_of_its_first_record() {
    let (files, topic, brokers) = (Files::new(), new_topic(), shared().bootstrap());
    files.service(&section("one", ""));
    files.job("one", &topic);
    produce_to(brokers, &topic, 3);
    let service = Running::start(&files);
    files.wait_for_each_once("one", 3);
    assert_eq!(service.ask("POST /api/jobs/one/pause", None).0, 401);
    assert_eq!(
        service.ask("POST /api/jobs/one/pause", Some("guessed")).0,
        401
    );
    assert_eq!(service.post("/api/jobs/one/pause").0, 202);
    wait_until(LIMIT, "it is paused", || {
        (service.job("one")["state"] == "paused").then_some(())
    });
    // A record that says it is an hour old, and one that comes after it.
    let now = jiff::Timestamp::now().as_millisecond();
    let old = Record::new(1).value("old").timestamp_ms(now - 3_600_000);
    produce::produce(brokers, &topic, &[old, Record::new(1).value("new")]);
    let of = |name: &str| {
        let labels = format!("{{job=\"one\",topic=\"{topic}\",partition=\"1\"}}");
        service.metric(&format!("kafka_sql_job_lag_{name}{labels}"))
    };
    wait_until(LIMIT, "it is behind", || {
        (of("records") == Some(2.0)).then_some(())
    });
    let age = of("seconds").expect("it is known");
    let most = (jiff::Timestamp::now().as_millisecond() - now) as f64 / 1e3 + 3600.0;
    assert!((3600.0..=most).contains(&age), "{age} of {most}");
    assert_eq!(
        service.get("/readyz").0,
        200,
        "nothing is expected of a job that was paused"
    );
    assert_eq!(service.post("/api/jobs/one/resume").0, 202);
    files.wait_for_each_once("one", 5);
    wait_until(LIMIT, "it is not behind", || {
        (of("seconds") == Some(0.0)).then_some(())
    });
}

#[test]
fn a_service_that_is_killed_delivers_each_row_once() {
    let (files, topic, brokers) = (Files::new(), new_topic(), shared().bootstrap());
    let jobs = ["one", "two", "three"];
    let sections: String = jobs.map(|job| section(job, "max_offsets = 20")).concat();
    files.service(&sections);
    for job in jobs {
        files.job(job, &topic);
    }
    let mut produced = 0;
    for n in 0..8 {
        produce_to(brokers, &topic, 100);
        produced += 100;
        let mut service = Running::start(&files);
        // Killed at different moments: before the first batch, within one, after several.
        let held = produced - 100 + n * 15;
        wait_until(LIMIT, "some rows are there", || {
            (files.held("two").len() >= held.min(produced)).then_some(())
        });
        service.child.kill().expect("it runs");
        service.child.wait().expect("it ends");
    }
    let service = Running::start(&files);
    for job in jobs {
        files.wait_for_each_once(job, produced);
    }
    let shown = service.job("one");
    assert!(
        shown["batches"]
            .as_array()
            .is_some_and(|batches| batches.len() > 3),
        "batches before the restart are shown: {shown}"
    );
    let (ended, said) = service.end();
    assert!(ended.success(), "{said}");
}

#[test]
fn a_job_whose_broker_is_frozen_is_named() {
    let mut server = KafkaServer::start(KafkaOptions::default());
    let topic = admin::unique_topic("stuck");
    admin::create_topic(server.bootstrap(), &topic, PARTITIONS, &[]);
    let files = Files::over(server.bootstrap());
    files.service(&section("one", "deadline = \"3s\""));
    files.job("one", &topic);
    produce_to(server.bootstrap(), &topic, 3);
    let service = Running::start(&files);
    files.wait_for_each_once("one", 3);
    service.wait_until_ready();
    server.freeze();
    let why = wait_until(LIMIT, "it is not ready", || {
        let (status, why) = service.get("/readyz");
        (status == 503).then_some(why)
    });
    assert!(why.starts_with("one: no progress for "), "{why}");
    assert_eq!(
        service.get("/livez").0,
        200,
        "a broker that is down is no reason to kill the process"
    );
    server.thaw();
    produce_to(server.bootstrap(), &topic, 3);
    files.wait_for_each_once("one", 6);
    service.wait_until_ready();
    drop(service);
    server.stop();
}

#[test]
fn a_bad_record_is_in_the_log_with_its_coordinates() {
    let (files, topic, brokers) = (Files::new(), new_topic(), shared().bootstrap());
    files.service(&section("one", ""));
    let database = files.path("one.db");
    files.write(
        "one.sql",
        &format!(
            "CREATE EXTERNAL TABLE orders (id BIGINT) STORED AS KAFKA LOCATION '{topic}' OPTIONS ('value.format' 'json');\n\
             CREATE EXTERNAL TABLE out STORED AS SQLITE LOCATION '{}' OPTIONS ('table' 'out');\n\
             INSERT INTO out SELECT partition, offset, id FROM orders;\n",
            database.display()
        ),
    );
    let good = Record::new(2).value("{\"id\":1}");
    produce::produce(brokers, &topic, &[good, Record::new(2).value("{\"id\":")]);
    let service = Running::start_with(&files, |command| command.args(["--log-format", "json"]));
    service.wait_until_said("\"offset\":1");
    let (ended, said) = service.end();
    assert!(ended.success(), "{said}");
    let lines: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
        .collect();
    let failed = lines
        .iter()
        .find(|line| line["offset"] == 1)
        .expect("the record");
    assert_eq!(failed["level"], "error", "{failed}");
    assert_eq!(failed["job"], "one", "{failed}");
    assert_eq!(failed["topic"], topic.as_str(), "{failed}");
    assert_eq!(failed["partition"], 2, "{failed}");
    assert_eq!(failed["batch"], 0, "{failed}");
}

#[test]
fn one_job_has_metrics_too() {
    let (files, topic, brokers) = (Files::new(), new_topic(), shared().bootstrap());
    files.job("one", &topic);
    produce_to(brokers, &topic, 9);
    let mut command = crate::running::kafka_sql();
    command
        .args(["-b", brokers, "-v", "run"])
        .arg(files.path("one.sql"))
        .args(["--metrics", "127.0.0.1:0"]);
    let run = Running::spawn(&mut command);
    files.wait_for_each_once("one", 9);
    let read = "kafka_sql_job_records_total{job=\"one\",class=\"delivered\"}";
    wait_until(LIMIT, "the batch is noted", || {
        (run.metric(read) == Some(9.0)).then_some(())
    });
    run.wait_until_ready();
    assert_eq!(run.ask("POST /api/jobs/one/pause", Some(TOKEN)).0, 403);
    let (ended, said) = run.end();
    assert!(ended.success(), "{said}");
}
