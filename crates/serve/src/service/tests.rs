use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::job::JobState;
use crate::testing::{INSERT, World, until};

const TWO: &str = "[jobs.good]\nfile = \"good.sql\"\nconnection = \"main\"\n\
                   [jobs.bad]\nfile = \"bad.sql\"\nconnection = \"main\"\n";
const ONE: &str = "[jobs.good]\nfile = \"good.sql\"\nconnection = \"main\"\n";

fn status(service: &Service, job: &str) -> JobStatus {
    service.board().monitor(job).expect("a job").status()
}

fn is(service: &Service, job: &str, state: JobState) -> bool {
    let monitor = service.board().monitor(job);
    monitor.is_some_and(|monitor| monitor.state() == state)
}

/// Whether there are so many jobs, and all have looked.
fn is_ready(service: &Service, jobs: usize) -> bool {
    service.jobs().len() == jobs && service.not_ready().is_empty()
}

async fn end(service: &Service, ended: tokio::task::JoinHandle<Result<(), Problem>>) {
    service.close();
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_that_fails_is_started_again_and_others_go_on() {
    for bad in ["INSERT INTO nowhere SELECT 1", "PANIC"] {
        let world = World::new();
        world.configure(TWO);
        world.write("good.sql", INSERT);
        world.write("bad.sql", bad);
        world.produce(0, 3);
        let (service, ended) = world.run();
        until("bad fails three times", || {
            let bad = service.board().monitor("bad");
            bad.is_some_and(|bad| bad.status().totals.failed >= 3)
        })
        .await;
        until("good delivers", || world.rows() == 3).await;
        world.produce(1, 4);
        until("good goes on", || world.rows() == 7).await;
        let failed = status(&service, "bad");
        assert!(!failed.errors.is_empty());
        let why = service.not_ready();
        assert!(
            matches!(&why[..], [only] if only.starts_with("bad: has not looked yet")),
            "{why:?}"
        );
        until("good commits", || {
            status(&service, "good").totals.rows.values().sum::<u64>() == 7
        })
        .await;
        end(&service, ended).await;
    }
}

#[tokio::test]
async fn a_file_that_is_mended_runs_at_the_next_attempt() {
    let world = World::new();
    world.configure(TWO);
    world.write("good.sql", INSERT);
    let (service, ended) = world.run();
    until("bad fails", || is(&service, "bad", JobState::Failed)).await;
    world.produce(0, 1);
    world.write("bad.sql", INSERT);
    service.retry_now("bad", "a test").unwrap();
    until("both deliver", || world.rows() == 2).await;
    until("both are ready", || is_ready(&service, 2)).await;
    end(&service, ended).await;
}

#[tokio::test]
async fn jobs_are_paused_resumed_and_stopped() {
    let world = World::new();
    world.configure(ONE);
    world.write("good.sql", INSERT);
    let (service, ended) = world.run();
    until("it is idle", || is(&service, "good", JobState::Idle)).await;
    let mut events = service.events();
    let refused = service.pause("god", "a test").unwrap_err();
    assert_eq!(refused.message, "there is no job 'god'; there are: good");
    service.pause("good", "a test").unwrap();
    until("it is paused", || is(&service, "good", JobState::Paused)).await;
    while !matches!(
        events.recv().await.unwrap(),
        Event::State {
            state: JobState::Paused,
            ..
        }
    ) {}
    world.produce(0, 2);
    assert_eq!(service.not_ready(), Vec::<String>::new());
    assert_eq!(world.rows(), 0);
    service.resume("good", "a test").unwrap();
    until("it goes on", || world.rows() == 2).await;
    service.stop_after_this_batch("good", "a test").unwrap();
    until("it stops", || is(&service, "good", JobState::Stopped)).await;
    // A service without ports ends when all its jobs have.
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_service_without_ports_ends_with_its_last_job() {
    let world = World::new();
    world.configure(&ONE.replace("connection", "trigger = \"available-now\"\nconnection"));
    world.write("good.sql", INSERT);
    world.produce(0, 5);
    let (service, ended) = world.run();
    ended.await.unwrap().unwrap();
    assert_eq!(world.rows(), 5);
    assert!(status(&service, "good").last_commit_ms.is_some());
}

#[tokio::test]
async fn a_reload_takes_over_what_has_changed() {
    let world = World::new();
    world.configure(TWO);
    world.write("good.sql", INSERT);
    world.write("bad.sql", INSERT);
    let (service, ended) = world.run();
    until("both look", || is_ready(&service, 2)).await;
    assert_eq!(service.reload().await, Some(Reloaded::default()));

    world.write("bad.sql", &format!("{INSERT} WHERE partition = 0"));
    world.configure(&format!(
        "history = 7\n{}\n[jobs.new]\nfile = \"good.sql\"\nconnection = \"main\"\nmax_offsets = 5",
        TWO.replace("[jobs.good]", "[jobs.better]")
    ));
    let done = service.reload().await.unwrap();
    assert_eq!(done.added, ["better", "new"]);
    assert_eq!(done.changed, ["bad"]);
    assert_eq!(done.removed, ["good"]);
    assert_eq!(done.at_restart, ["[service]"]);
    until("good has left", || {
        service.board().monitor("good").is_none()
    })
    .await;
    until("bad says that its query has changed", || {
        is(&service, "bad", JobState::Failed)
    })
    .await;

    world.write("serve.toml", "[jobs.x]");
    assert_eq!(service.reload().await, None);
    assert_eq!(service.config().jobs.len(), 3);
    assert_eq!(service.jobs().len(), 3);
    end(&service, ended).await;
}

#[tokio::test]
async fn a_job_that_is_in_the_file_again_runs_again() {
    let world = World::new();
    world.configure(TWO);
    world.write("good.sql", INSERT);
    world.write("bad.sql", INSERT);
    let (service, ended) = world.run();
    until("both look", || is_ready(&service, 2)).await;
    for _ in 0..20 {
        world.configure(ONE);
        service.reload().await.unwrap();
        world.configure(TWO);
        service.reload().await.unwrap();
    }
    world.produce(0, 1);
    until("both deliver", || world.rows() == 2).await;
    end(&service, ended).await;
}

#[tokio::test]
async fn what_hangs_is_told_from_what_fails() {
    let world = World::new();
    world.configure(&TWO.replacen("connection", "deadline = \"50ms\"\nconnection", 1));
    world.write("good.sql", INSERT);
    world.write("bad.sql", "nonsense");
    world.produce(0, 1);
    world.cluster.stall("orders", 0);
    let (service, ended) = world.run();
    let hangs_in_a_batch = || {
        let good = service.board().monitor("good");
        good.is_some_and(|good| good.hangs() && good.status().running.is_some())
    };
    until("the batch hangs", hangs_in_a_batch).await;
    let why = service.not_ready();
    assert!(
        why.iter().any(|why| why.starts_with(
            "good: has not looked yet, batch 0 has read no further than orders[0]@0 of 0..1"
        )),
        "{why:?}"
    );
    assert!(!service.board().monitor("bad").unwrap().hangs());
    world.cluster.resume("orders", 0);
    until("it goes on", || world.rows() == 1).await;
    end(&service, ended).await;
}

#[tokio::test]
async fn a_long_batch_makes_progress_as_long_as_it_reads() {
    let world = World::new();
    world.configure(&ONE.replace("connection", "deadline = \"2s\"\nconnection"));
    world.write("good.sql", INSERT);
    world.produce(0, 3);
    world.produce(1, 500);
    world.cluster.stall("orders", 1);
    let (service, ended) = world.run();
    until("the other partition is read", || is_ready(&service, 1)).await;
    assert!(is(&service, "good", JobState::Running));
    until("it is stuck", || !is_ready(&service, 1)).await;
    let why = service.not_ready().concat();
    assert!(why.starts_with("good: no progress for "), "{why}");
    let stuck = " s, batch 0 has read no further than orders[1]@0 of 0..500";
    assert!(why.ends_with(stuck), "{why}");
    assert!(service.board().monitor("good").unwrap().hangs());
    assert_eq!(world.rows(), 0);
    world.cluster.resume("orders", 1);
    until("it goes on", || world.rows() == 503).await;
    until("it is ready", || is_ready(&service, 1)).await;
    end(&service, ended).await;
}

#[tokio::test]
async fn to_read_again_what_cannot_be_committed_is_no_progress() {
    let world = World::new();
    world.configure(&ONE.replace("connection", "deadline = \"1s\"\nconnection"));
    world.write("good.sql", INSERT);
    world.produce(0, 3);
    world.produce(1, 1);
    world.cluster.stall("orders", 1);
    world.sink.fail("commit", u32::MAX, true);
    let (service, ended) = world.run();
    until("it has read some", || is_ready(&service, 1)).await;
    world.cluster.resume("orders", 1);
    until("it is stuck", || !is_ready(&service, 1)).await;
    let retries = status(&service, "good").totals.retries;
    until("it tries again", || {
        status(&service, "good").totals.retries > retries
    })
    .await;
    let why = service.not_ready().concat();
    let stuck = " s, batch 0 has read all and is not committed: ";
    assert!(
        why.starts_with("good: no progress for ") && why.contains(stuck),
        "{why}"
    );
    world.sink.fail("commit", 0, true);
    until("it goes on", || world.rows() == 4).await;
    until("it is ready", || is_ready(&service, 1)).await;
    end(&service, ended).await;
}

#[tokio::test]
async fn the_port_answers_until_the_jobs_have_ended() {
    let world = World::new();
    world.configure(&format!("{ONE}[http]\nlisten = \"127.0.0.1:0\"\n"));
    world.write("good.sql", INSERT);
    world.produce(0, 1);
    world.cluster.stall("orders", 0);
    let (service, ended) = world.run();
    until("the batch runs", || is(&service, "good", JobState::Running)).await;
    let address = service.port.lock().unwrap().as_ref().unwrap().address();
    let ask = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    service.close();
    let ready = ask("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.contains("\r\n\r\ndraining: "), "{ready}");
    assert!(ask("/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(ask("/metrics").await.contains("state=\"running\"} 1"));
    assert!(!ended.is_finished());
    world.cluster.resume("orders", 0);
    ended.await.unwrap().unwrap();
    assert_eq!(world.rows(), 1);
}

#[tokio::test]
async fn the_postgresql_port_opens_is_renewed_and_closes() {
    let world = World::new();
    let postgres = |user: &str| {
        format!(
            "[postgres]\nlisten = \"127.0.0.1:0\"\nconnection = \"main\"\n\
             [postgres.users.{user}]\npassword = \"env:CARGO_PKG_NAME\"\n"
        )
    };
    world.configure(&postgres("ada"));
    world.produce(0, 3);
    let (service, ended) = world.run();
    let port = || service.postgres.lock().unwrap().clone();
    until("the port is open", || port().is_some()).await;
    let connect = async |user: &str| {
        tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(port().unwrap().address().port())
            .user(user)
            .password(env!("CARGO_PKG_NAME"))
            .connect(tokio_postgres::NoTls)
            .await
    };
    let (ada, connection) = connect("ada").await.unwrap();
    let ada_ended = tokio::spawn(connection);
    let counted = ada.query_one("SELECT count(*) FROM orders", &[]).await;
    assert_eq!(counted.unwrap().get::<_, i64>(0), 3);
    let metrics = crate::metrics::text(service.board()).await;
    let one = "kafka_sql_postgres_statements_total{result=\"ok\"} 1\n";
    assert!(metrics.contains(one), "{metrics}");
    world.configure(&postgres("bob"));
    assert_eq!(service.reload().await.unwrap().at_restart, [""; 0]);
    connect("ada").await.map(|_| ()).unwrap_err();
    connect("bob").await.map(|_| ()).unwrap();
    let connection = "[connections.main]\n\"bootstrap.servers\" = \"memory:1\"\n";
    let budget = format!("{connection}\"max.scan.records\" = 2\n{}", postgres("bob"));
    world.write("serve.toml", &budget);
    service.reload().await.unwrap();
    let (bob, connection) = connect("bob").await.unwrap();
    tokio::spawn(connection);
    let refused = bob.query("SELECT count(*) FROM orders", &[]).await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "53400");
    end(&service, ended).await;
    // It was told why.
    ada_ended.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let world = World::new();
    let config = |token: &str, most: &str| {
        format!(
            "[http]\nlisten = \"127.0.0.1:0\"\ntoken = \"env:{token}\"\n\
             [postgres]\nlisten = \"127.0.0.1:0\"\nconnection = \"main\"\n\
             [postgres.users.ada]\npassword = \"env:CARGO_PKG_NAME\"\nmax_scan_records = {most}\n"
        )
    };
    world.configure(&config("CARGO_PKG_NAME", "3"));
    let (service, ended) = world.run();
    until("the port is open", || {
        service.port.lock().unwrap().is_some()
    })
    .await;
    let address = service.port.lock().unwrap().as_ref().unwrap().address();
    let act = async |token: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST /api/jobs/none/pause HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer[..12].to_owned()
    };
    let (old, new) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    world.configure(&config("CARGO_PKG_VERSION", "\"few\""));
    assert_eq!(service.reload().await, None);
    assert_eq!(act(old).await, "HTTP/1.1 404");
    assert_eq!(act(new).await, "HTTP/1.1 401");
    world.configure(&config("CARGO_PKG_VERSION", "4"));
    assert_eq!(service.reload().await, Some(Reloaded::default()));
    assert_eq!(act(old).await, "HTTP/1.1 401");
    assert_eq!(act(new).await, "HTTP/1.1 404");
    end(&service, ended).await;
}

#[tokio::test]
async fn what_others_ask_for_takes_no_memory_from_jobs() {
    use datafusion::execution::memory_pool::MemoryConsumer;
    let world = World::new();
    let http = "[http]\nlisten = \"127.0.0.1:0\"\n";
    for (jobs, of_readers, of_jobs) in [(ONE, 1 << 20, 3 << 20), ("", 4 << 20, 0)] {
        world.configure(&format!("memory_limit = \"4MB\"\n{jobs}{http}"));
        let service = world.service();
        let session = service.session("main", Access::Reader).unwrap();
        let reader = MemoryConsumer::new("a reader").register(&session.runtime_env().memory_pool);
        assert!(reader.try_grow(of_readers + 1).is_err());
        reader.try_grow(of_readers).unwrap();
        let job = MemoryConsumer::new("a job").register(&service.runtime().memory_pool);
        job.try_grow(of_jobs).unwrap();
        assert!(job.try_grow(1).is_err());
    }
}

#[tokio::test]
async fn a_job_that_leaves_is_not_brought_back() {
    let world = World::new();
    world.configure(ONE);
    world.write("good.sql", INSERT);
    world.produce(0, 1);
    world.cluster.stall("orders", 0);
    let (service, ended) = world.run();
    until("the batch runs", || is(&service, "good", JobState::Running)).await;
    world.configure("");
    assert_eq!(service.reload().await.unwrap().removed, ["good"]);
    for action in ["resume", "pause", "stop", "retry"] {
        let refused = service.act("good", Action::of(action).unwrap(), "a test");
        assert_eq!(
            refused.unwrap_err().message,
            "the job 'good' is no longer in the file and leaves after the batch that runs"
        );
    }
    world.cluster.resume("orders", 0);
    ended.await.unwrap().unwrap();
    assert_eq!(world.rows(), 1);
    assert!(service.board().monitor("good").is_none());
}
