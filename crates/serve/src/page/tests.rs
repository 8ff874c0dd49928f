//! What pages say, without a browser.

use std::time::Duration;

use datafusion_kafka::ErrorKind;

use super::*;
use crate::job::JobState;
use crate::testing::{INSERT, World, until};

const ONE: &str = "[jobs.orders]\nfile = \"orders.sql\"\nconnection = \"main\"\n";

/// A service whose job has delivered five records of one partition and two of the other.
async fn delivered() -> (World, Arc<Service>) {
    let world = World::new();
    world.configure(ONE);
    world.write("orders.sql", INSERT);
    world.produce(0, 5);
    world.produce(1, 2);
    let (service, _) = world.run();
    until("it has delivered", || {
        let jobs = service.jobs();
        jobs.iter()
            .any(|job| job.totals.rows.values().sum::<u64>() == 7)
    })
    .await;
    (world, service)
}

#[tokio::test]
async fn a_job_is_shown_as_the_board_knows_it() {
    let (_world, service) = delivered().await;
    let monitor = service.board().monitor("orders").unwrap();
    monitor.look(Duration::ZERO).await.unwrap();
    let status = monitor.status();
    let ends = batch::recorded_ends(&status).await;
    assert_eq!(ends.values().map(|position| position.next).sum::<i64>(), 7);
    let page = jobs::Job::new(&status, &ends, true).render().unwrap();
    for says in [
        "<h1>orders ",
        "<dd>0 <small>records</small></dd>",
        r#"data-action="/api/jobs/orders/pause""#,
        r#"<tr><th scope="row">memory:out</th><td class="number">7</td>"#,
        "<span>orders[0] 5</span> <span>orders[1] 2</span>",
        r#"href="/topics/orders?range=0%3D-20""#,
    ] {
        assert!(page.contains(says), "{says} is not in {page}");
    }
    let without = jobs::Job::new(&status, &ends, false).render().unwrap();
    assert!(
        !without.contains("data-action") && without.contains("has no token"),
        "{without}"
    );

    let number = status.batches.last().unwrap().batch;
    let logged = batch::Logged::read(&status.checkpoint, number)
        .await
        .unwrap();
    let page = batch::Batch::new(&status, "broker:9092", &logged)
        .render()
        .unwrap();
    let command = format!(
        "kafka-sql -b broker:9092 replay {} --name orders --checkpoint {} --batch {number} --diff",
        status.file, status.checkpoint
    );
    assert!(page.contains(&command), "{command} is not in {page}");
    assert!(
        page.contains("<h1>Batch ") && page.contains(">committed</span>"),
        "{page}"
    );
    let missing = batch::Logged::read(&status.checkpoint, 4711).await;
    assert!(missing.is_err());
    service.close();
}

#[tokio::test]
async fn texts_of_errors_are_texts() {
    let (_world, service) = delivered().await;
    let monitor = service.board().monitor("orders").unwrap();
    let mut problem = Problem::new("<script>alert(1)</script>\u{1b}[2J\u{202e}");
    problem.kind = Some(ErrorKind::BadRow);
    problem.topic = Some("a'\"><b>".to_owned());
    problem.partition = Some(3);
    problem.offset = Some(1042);
    monitor.failed(problem, 1, Duration::from_secs(60));
    assert_eq!(monitor.state(), JobState::Failed);
    let status = monitor.status();
    let all = jobs::Jobs::new(std::slice::from_ref(&status))
        .render()
        .unwrap();
    let one = jobs::Job::new(&status, &Default::default(), true)
        .render()
        .unwrap();
    for page in [&all, &one] {
        let text = "&#60;script&#62;alert(1)&#60;/script&#62;\\u001b[2J\\u202e";
        assert!(page.contains(text), "{page}");
        assert!(
            !page.contains("<script>") && !page.contains("<b>"),
            "{page}"
        );
    }
    let link = r#"<a href="/topics/a%27%22%3E%3Cb%3E?range=3%3D1042%3A1043">a&#39;&#34;&#62;&#60;b&#62;[3]@1042</a>"#;
    assert!(one.contains(link), "{one}");
    assert!(
        one.contains("&#39;on.bad.row&#39; = &#39;dlq&#39;"),
        "{one}"
    );
    assert!(
        one.contains(r#"data-action="/api/jobs/orders/retry""#),
        "{one}"
    );
    service.close();
}

/// What the policy forbids would not work: nothing of it is in the templates.
#[test]
fn templates_hold_to_the_policy() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let mut pages = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "html") {
            let text = std::fs::read_to_string(&path).unwrap();
            for forbidden in [
                " style=",
                "<style",
                " onclick",
                "javascript:",
                "<script>",
                "//",
            ] {
                let at = path.display();
                assert!(!text.contains(forbidden), "{at}: {forbidden}");
            }
            pages += 1;
        }
    }
    assert!(pages > 5);
}

#[tokio::test]
async fn only_so_many_pages_read_at_a_time() {
    let (_world, service) = delivered().await;
    let status = async |sql: &str| {
        let asked = Asked {
            sql: sql.to_owned(),
        };
        let peer = Peer(([127, 0, 0, 1], 1).into());
        let (service, none) = (Arc::clone(&service), HeaderMap::new());
        let page = ask(State(service), Extension(peer), Query(asked), none).await;
        page.status()
    };
    let places: Vec<_> = std::iter::from_fn(|| service.place()).collect();
    assert_eq!(places.len(), PAGES_THAT_READ);
    assert_eq!(status("SELECT 1").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status("").await, StatusCode::OK);
    let topics = all_topics(State(Arc::clone(&service))).await;
    assert_eq!(topics.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(places);
    assert_eq!(status("SELECT 1").await, StatusCode::OK);
    service.close();
}
