//! Topics and queries on the page; they read, within a budget.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::browser::Browser;
use super::start;
use crate::running::{Files, Running, assert_no_secret};
use crate::support::{Record, admin, produce, shared};

const HOSTILE: &str = "<img src=x onerror=\"window.hit = 1\"><script>window.hit = 1</script>";

fn topic() -> String {
    let topic = admin::unique_topic("page-topic");
    let bootstrap = shared().bootstrap();
    admin::create_topic(bootstrap, &topic, 2, &[]);
    let records: Vec<Record> = (0..30)
        .map(|n| {
            Record::new(n % 2)
                .key(format!("k{n}"))
                .value(format!("v{n}"))
        })
        .chain([Record::new(0)
            .key(HOSTILE)
            .value(HOSTILE)
            .header(HOSTILE, Some(b"\xff"))])
        .collect();
    produce::produce(bootstrap, &topic, &records);
    topic
}

#[test]
fn topics_show_their_offsets_and_last_records() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let topic = topic();
    let served = start(&Files::new(), &[]);
    browser.goto(&served.url("/topics"));
    browser.click(&format!("text={topic}"));
    browser.wait("h1", &topic);
    let ends = browser.texts("main table >> nth=0 >> tbody td:nth-child(3)");
    assert_eq!(ends, ["16", "15"]);
    browser.wait(".rows td", HOSTILE);
    assert_eq!(browser.texts("main table >> nth=1 >> tbody tr").len(), 31);
    browser.fill("input[name=range]", "1=3:5");
    browser.press("Enter");
    browser.wait("h2", "Records");
    let offsets = browser.texts("main table >> nth=1 >> tbody td:nth-child(2)");
    assert_eq!(offsets, ["3", "4"]);
    browser.fill("input[name=range]", "nonsense");
    browser.press("Enter");
    browser.wait(".trouble", "nonsense");
    assert_eq!(browser.evaluate("window.hit === undefined"), true);
    assert_eq!(browser.count("main img, main script"), 0);
    assert_eq!(browser.trouble(), [""; 0]);
}

#[test]
fn queries_read_and_change_nothing() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let topic = topic();
    let files = Files::new();
    let file = files.path("out.csv").display().to_string();
    let served = start(&files, &[]);
    browser.goto(&served.url("/query"));
    let mut ask = |sql: &str, at: &str, says: &str| {
        browser.fill("textarea", sql);
        browser.press("Control+Enter");
        browser.wait(at, says);
    };
    ask(
        &format!("SELECT count(*) AS n FROM \"{topic}\""),
        ".rows td",
        "31",
    );
    ask(
        &format!("SELECT value FROM \"{topic}\" WHERE value LIKE '%onerror%'"),
        ".rows td",
        HOSTILE,
    );
    ask(
        "SELECT * FROM generate_series(1, 1000)",
        "main",
        "The first 200 rows of more",
    );
    let changes = [
        format!("INSERT INTO \"{topic}\" (value) VALUES ('x')"),
        format!("COPY (SELECT 1) TO '{file}'"),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{file}'"),
        "SET kafka.max.scan.records = '1G'".to_owned(),
        format!("EXPLAIN ANALYZE INSERT INTO \"{topic}\" (value) VALUES ('x')"),
    ];
    for sql in &changes {
        ask("SELECT 1", ".rows td", "1");
        ask(sql, ".trouble", "only statements that read run here");
    }
    ask("SELECT nosuch FROM nowhere", ".trouble", "nowhere");
    assert!(!std::path::Path::new(&file).exists());
    let ends =
        [0, 1].map(|partition| admin::watermarks(shared().bootstrap(), &topic, partition).high);
    assert_eq!(ends, [16, 15]);
    assert_eq!(browser.evaluate("window.hit === undefined"), true);
    assert_eq!(browser.trouble(), [""; 0]);
}

#[test]
fn pages_from_elsewhere_reach_nothing() {
    let served = start(&Files::new(), &[]);
    for (path, headers, status) in [
        ("/", "", 200),
        (
            "/query?sql=SELECT%201",
            "Sec-Fetch-Site: same-origin\r\n",
            200,
        ),
        ("/query?sql=SELECT%201", "Sec-Fetch-Site: none\r\n", 200),
        (
            "/query?sql=SELECT%201",
            "Sec-Fetch-Site: cross-site\r\n",
            403,
        ),
        ("/topics/orders", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("/jobs/nosuch", "", 404),
        ("/jobs/nosuch/batches/1", "", 404),
        ("/page/style.css", "", 200),
        ("/page/live.js", "", 200),
    ] {
        let (found, head, body) = get(&served, path, headers);
        assert_eq!(found, status, "{path}: {body}");
        let policy = "content-security-policy: default-src 'none'; script-src 'self'";
        assert!(head.contains(policy), "{path}: {head}");
        assert!(!head.contains("set-cookie"), "{path}: {head}");
        assert_no_secret([body.as_str()]);
    }
    let (found, _, _) = get(&served, "/", "Host: elsewhere.example\r\n");
    assert_eq!(found, 421);
}

/// The status, the head in small letters and the body of an answer.
fn get(served: &Running, path: &str, headers: &str) -> (u16, String, String) {
    let url = served.url("");
    let address = url.strip_prefix("http://").expect("HTTP");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let host = match headers.contains("Host:") {
        true => "",
        false => "Host: localhost\r\n",
    };
    let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).expect("a status");
    let status = status.parse().expect("a number");
    (status, head.to_lowercase(), body.to_owned())
}
