//! A job that runs, fails and recovers, as somebody sees it who looks at the page.

use serde_json::Value;

use super::browser::Browser;
use super::start;
use crate::running::{Files, LIMIT, Running, TOKEN, assert_no_secret, kafka_sql};
use crate::support::{Record, admin, produce, shared, wait_until};

/// A topic with two partitions, and a job that copies it into a table of SQLite.
struct World {
    topic: String,
    files: Files,
    running: Running,
}

impl World {
    /// The sink refuses `forbidden` until its trigger is dropped. The job `strict` meets a record that does not decode.
    fn start() -> Self {
        let [topic, bad] = ["page", "page-bad"].map(admin::unique_topic);
        let bootstrap = shared().bootstrap();
        admin::create_topic(bootstrap, &topic, 2, &[]);
        admin::create_topic(bootstrap, &bad, 1, &[]);
        let values = ["{\"n\":1}", "{\"n\":2}", "no <b>JSON</b>"];
        let records = values.map(|value| Record::new(0).value(value));
        produce::produce(bootstrap, &bad, &records);
        let files = Files::new();
        let database = files.path("sink.db");
        rusqlite::Connection::open(&database)
            .expect("a database")
            .execute_batch(
                "CREATE TABLE orders (partition INTEGER, \"offset\" INTEGER, value TEXT); \
                 CREATE TRIGGER no BEFORE INSERT ON orders WHEN NEW.value = 'forbidden' \
                 BEGIN SELECT RAISE(ABORT, 'forbidden is forbidden'); END;",
            )
            .expect("a table");
        let file = database.display();
        files.write(
            "orders.sql",
            &format!(
                "CREATE EXTERNAL TABLE orders STORED AS SQLITE LOCATION '{file}' OPTIONS ('table' 'orders');\n\
                 INSERT INTO orders SELECT partition, \"offset\", CAST(value AS VARCHAR) AS value FROM \"{topic}\";"
            ),
        );
        let strict = files.path("strict.db");
        let file = strict.display();
        files.write(
            "strict.sql",
            &format!(
                "CREATE EXTERNAL TABLE strict STORED AS SQLITE LOCATION '{file}' OPTIONS ('table' 'strict');\n\
                 CREATE EXTERNAL TABLE source (n INT) STORED AS KAFKA LOCATION '{bad}' OPTIONS ('value.format' 'json');\n\
                 INSERT INTO strict SELECT n FROM source;"
            ),
        );
        Self {
            running: start(&files, &["orders", "strict"]),
            topic,
            files,
        }
    }

    fn produce(&self, partition: i32, values: impl IntoIterator<Item = String>) {
        let values = values.into_iter();
        let records: Vec<Record> = values.map(|v| Record::new(partition).value(v)).collect();
        produce::produce(shared().bootstrap(), &self.topic, &records);
    }

    fn rows(&self) -> i64 {
        let count = "SELECT count(*) FROM orders";
        let rows = self.database().query_row(count, [], |row| row.get(0));
        rows.expect("a table")
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.files.path("sink.db")).expect("a database")
    }

    /// Waits until a job has a state.
    fn wait_for(&self, job: &str, state: &str) {
        wait_until(LIMIT, &format!("{job} is {state}"), || {
            (self.running.job(job)["state"] == state).then_some(())
        });
    }

    fn delivered(&self, rows: i64) {
        wait_until(LIMIT, "the rows are in the sink", || {
            (self.rows() == rows).then_some(())
        });
        self.wait_for("orders", "idle");
    }
}

fn values(numbers: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("value {number}"))
}

#[test]
fn a_job_that_runs_fails_and_recovers_is_seen() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::start();
    let served = &world.running;
    world.produce(0, values(0..700));
    world.produce(1, values(0..300));
    world.delivered(1_000);

    // It runs: page, API and sink agree.
    assert_eq!(browser.goto(&served.url("/")), 200);
    assert_eq!(browser.texts("tbody th a"), ["orders", "strict"]);
    browser.click("tbody th a");
    browser.wait("h1", "orders");
    browser.wait("#connection", "live");
    browser.wait("#head .state", "idle");
    assert_eq!(browser.number(".tiles div:nth-child(1) dd"), 0);
    assert_eq!(browser.number("#sinks tbody td.number"), world.rows());
    let api = served.job("orders");
    let target = browser.text("#sinks tbody th");
    assert_eq!(api["totals"]["rows"][&target], world.rows());
    let positions = browser.texts("#partitions tbody td:nth-child(2)");
    assert_eq!(positions, ["700", "300"]);
    let ends = browser.text("#sinks .ends");
    let [first, second] = [0, 1].map(|partition| format!("{}[{partition}]", world.topic));
    assert!(ends.contains(&format!("{first} 700")), "{ends}");
    assert!(ends.contains(&format!("{second} 300")), "{ends}");

    // More comes, and the page follows by itself.
    browser.evaluate("window.isTheSamePage = true");
    world.produce(0, values(700..1_000));
    browser.wait("#sinks tbody td", "1,300");
    assert_eq!(world.rows(), 1_300);

    // A row that the sink refuses: the job fails with what to do, and nothing of the batch is visible.
    world.produce(1, ["forbidden".to_owned()]);
    browser.wait("#head .state", "failed");
    browser.wait("#head .trouble", "forbidden is forbidden");
    browser.wait("#head .trouble", "Nothing of it is visible");
    browser.wait("#errors", "forbidden is forbidden");
    browser.wait(".tiles div:nth-child(1) dd", "1");
    assert_eq!(world.rows(), 1_300);

    // Somebody removes the cause, and retries with the token.
    let dropped = world.database().execute_batch("DROP TRIGGER no");
    dropped.expect("it is there");
    browser.click("text=Retry now");
    browser.fill("dialog input", "not the token");
    browser.press("Enter");
    browser.wait("dialog .trouble", "That is not the token.");
    browser.fill("dialog input", TOKEN);
    browser.press("Enter");
    browser.wait("#head .state", "idle");
    browser.wait("#sinks tbody td", "1,301");
    assert_eq!(world.rows(), 1_301);
    assert_eq!(browser.count("#head .trouble"), 0);
    assert_eq!(browser.evaluate("window.isTheSamePage"), true);

    // Pause and resume, with the token that the tab knows; each is in the log.
    browser.click("text=Pause");
    browser.wait("#head .state", "paused");
    world.produce(0, values(1_000..1_010));
    browser.wait(".tiles div:nth-child(1) dd", "10");
    assert_eq!(world.rows(), 1_301);
    browser.click("text=Resume");
    browser.wait("#sinks tbody td", "1,311");
    let log = served.said();
    for action in ["retry", "pause", "resume"] {
        assert!(
            log.contains(&format!("orders: {action} by HTTP client 127.0.0.1:")),
            "{log}"
        );
    }
    assert_no_secret([log.as_str()]);

    // A batch: its ranges, its command, its receipt.
    browser.click("#list summary");
    browser.click("#list tbody a");
    browser.wait("h1", "committed");
    let sink = browser.number("h2:text('Sinks') + table td.number >> nth=0");
    assert!((1..=10).contains(&sink), "{sink}");
    let replay = browser.text("pre");
    let number = served.job("orders")["batches"]
        .as_array()
        .and_then(|batches| batches.last()?["batch"].as_u64())
        .expect("a batch");
    assert!(
        replay.ends_with(&format!("--batch {number} --diff")),
        "{replay}"
    );
    let words: Vec<&str> = replay.split(' ').skip(1).collect();
    let replayed = kafka_sql().args(words).output().expect("the shell starts");
    let said = String::from_utf8_lossy(&replayed.stderr);
    assert!(replayed.status.success(), "{said}");
    let path = browser.evaluate("document.querySelector('h2 ~ p a[href$=receipt]').pathname");
    let (status, body) = served.get(path.as_str().expect("a path"));
    assert_eq!(status, 200, "{body}");
    let receipt: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(receipt["commit"]["progress"]["batch"], number);

    // Another tab knows nothing of the token. Only refusals of a wrong one are in the console.
    let trouble = browser.trouble();
    assert!(
        trouble.iter().all(|said| said.contains("401")),
        "{trouble:?}"
    );
    assert_eq!(trouble.len(), 1, "{trouble:?}");
}

#[test]
fn an_error_leads_to_its_record() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::start();
    world.wait_for("strict", "failed");
    browser.goto(&world.running.url("/jobs/strict"));
    browser.wait("#errors", "'on.bad.row' = 'dlq'");
    let place = browser.text("#errors li a");
    assert!(place.ends_with("[0]@2"), "{place}");
    browser.click("#errors li a");
    browser.wait("h2", "Records");
    // What a record holds is text, and no part of the page.
    browser.wait(".rows td", "no <b>JSON</b>");
    assert_eq!(browser.count("main b"), 0);
    assert_eq!(browser.trouble(), [""; 0]);
}

#[test]
fn a_phone_the_dark_and_the_keyboard_do() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::start();
    world.produce(0, values(0..500));
    world.delivered(500);
    world.wait_for("strict", "failed");
    let background = "getComputedStyle(document.body).backgroundColor";
    let too_wide = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth";
    for path in [
        "/",
        "/jobs/orders",
        "/jobs/strict",
        "/jobs/orders/batches/0",
        "/topics",
        "/query",
    ] {
        browser.look(375, 700, false);
        assert_eq!(browser.goto(&world.running.url(path)), 200, "{path}");
        assert_eq!(
            browser.evaluate(too_wide),
            0,
            "{path} is wider than a phone"
        );
        let light = browser.evaluate(background);
        browser.look(375, 700, true);
        assert_ne!(browser.evaluate(background), light, "{path}");
    }

    // Tab leads to the content, to the pages and to the jobs; Enter follows.
    browser.look(1_000, 800, false);
    browser.goto(&world.running.url("/"));
    let mut seen = vec![];
    for _ in 0..6 {
        browser.press("Tab");
        let focused = browser.evaluate("document.activeElement.textContent");
        seen.push(focused.as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(
        seen,
        [
            "To the content",
            "kafka-sql",
            "Jobs",
            "Topics",
            "Query",
            "orders"
        ]
    );
    browser.press("Enter");
    browser.wait("h1", "orders");
    if let Some(path) = std::env::var_os("KAFKA_SQL_TEST_PICTURE") {
        take_picture(&mut browser, &world, path.as_ref());
    }
    assert_eq!(browser.trouble(), [""; 0]);
}

/// The picture of the README.
fn take_picture(browser: &mut Browser, world: &World, path: &std::path::Path) {
    for number in 0..62 {
        world.produce(
            number % 2,
            values(0..(150 + usize::try_from(number * 61 % 170).expect("few"))),
        );
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    browser.look(1_000, 840, false);
    browser.goto(&world.running.url("/jobs/orders"));
    browser.wait("#connection", "live");
    // The folder is one of the test.
    browser.evaluate(
        "(() => { const said = document.querySelector('#head .quiet'); \
         said.innerHTML = said.innerHTML.replace(/\\/\\S*orders.sql/, 'jobs/orders.sql'); })()",
    );
    browser.picture(path);
}
