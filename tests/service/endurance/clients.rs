//! Fifty connections to the PostgreSQL port: some ask, some read slowly, some are half open, some die.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use super::random;
use crate::running::{CLIENT_PASSWORD, LIMIT};
use crate::support::proxy::Proxy;

const CLIENTS: usize = 50;
/// Longer than the port leaves clients that log in, stall or are silent: `[postgres]` of the test.
const LONG: Duration = Duration::from_secs(20);
const ENDLESS: &str = "SELECT value, repeat('x', 1000) FROM generate_series(1, 1000000000)";

/// How often what has happened.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of each client that asks.
    answers: Vec<AtomicU64>,
    errors: AtomicU64,
    cut: AtomicU64,
    never_logged_in: AtomicU64,
    silent: AtomicU64,
    died: AtomicU64,
    cancelled: AtomicU64,
    /// What was wrong.
    lies: Mutex<Vec<String>>,
    /// What the port has said, to look for secrets in it.
    said: Mutex<Vec<String>>,
}

pub(super) struct Clients {
    proxy: Proxy,
    seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

/// A client whose connection ends with it. By itself it would read what it was sent first, to an end that there is not.
struct Asking {
    client: Client,
    connection: AbortHandle,
}

impl Deref for Asking {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

#[derive(Clone)]
struct Target {
    address: String,
    /// The same behind a network that stops.
    proxied: String,
    question: String,
    answer: i64,
    seen: Arc<Seen>,
}

impl Clients {
    /// They count the records of a topic, which are so many.
    pub(super) fn start(address: &str, topic: &str, records: usize) -> Self {
        let proxy = Proxy::start();
        let seen = Arc::new(Seen {
            answers: (0..CLIENTS).map(|_| AtomicU64::default()).collect(),
            ..Seen::default()
        });
        proxy.forward_to(address);
        let target = Target {
            address: address.to_owned(),
            proxied: proxy.address(),
            question: format!("SELECT count(*) FROM \"{topic}\""),
            answer: i64::try_from(records).expect("few"),
            seen: Arc::clone(&seen),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        for number in 0..CLIENTS {
            let target = target.clone();
            runtime.spawn(async move {
                loop {
                    if let Err(error) = target.behave(number).await {
                        target.seen.errors.fetch_add(1, Ordering::Relaxed);
                        let mut said = target.seen.said.lock().expect("nobody panics with it");
                        if said.len() < 10_000 {
                            said.push(format!("{error:?}"));
                        }
                    }
                    sleep(Duration::from_millis(1_000 + random(4_000))).await;
                }
            });
        }
        Self {
            proxy,
            seen,
            runtime: Some(runtime),
        }
    }

    /// Ends the connections that were left half open, and leaves those half open that are behind the proxy now.
    pub(super) fn strand(&self) {
        self.proxy.end_connections();
        self.proxy.strand();
    }

    pub(super) fn assert_true(&self) {
        let lies = self.seen.lies.lock().expect("nobody panics with it");
        assert!(lies.is_empty(), "{}", lies.join("\n"));
    }

    /// What the port has said where something did not work.
    pub(super) fn said(&self) -> Vec<String> {
        self.seen
            .said
            .lock()
            .expect("nobody panics with it")
            .clone()
    }

    /// How often they got an answer, an error, were cut off, fell silent, died, cancelled.
    pub(super) fn counts(&self) -> [(&'static str, u64); 7] {
        let (seen, count) = (&self.seen, |counter: &AtomicU64| {
            counter.load(Ordering::Relaxed)
        });
        [
            ("answers", self.answers().iter().sum()),
            ("errors", count(&seen.errors)),
            ("slow readers cut off", count(&seen.cut)),
            ("never logged in", count(&seen.never_logged_in)),
            ("fell silent", count(&seen.silent)),
            ("died", count(&seen.died)),
            ("cancelled", count(&seen.cancelled)),
        ]
    }

    /// How many answers each client that asks has had.
    pub(super) fn answers(&self) -> Vec<u64> {
        let asking = (0..CLIENTS).filter(|number| number % 5 < 2);
        asking
            .map(|number| self.seen.answers[number].load(Ordering::Relaxed))
            .collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Target {
    async fn behave(&self, number: usize) -> Result<(), tokio_postgres::Error> {
        match number % 5 {
            0 | 1 => self.ask(number).await,
            2 => self.read_slowly().await,
            3 if number.is_multiple_of(2) => {
                self.never_log_in().await;
                Ok(())
            }
            3 => self.fall_silent().await,
            _ => self.die(number).await,
        }
    }

    async fn connect(&self, address: &str) -> Result<Asking, tokio_postgres::Error> {
        let (host, port) = address.rsplit_once(':').expect("host:port");
        let mut config = Config::new();
        config
            .host(host)
            .port(port.parse().expect("a port"))
            .user("ada")
            .dbname("kafka")
            .password(CLIENT_PASSWORD)
            .connect_timeout(LONG);
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Asking { client, connection })
    }

    /// Some questions; each has the right answer or none, and soon.
    async fn ask(&self, number: usize) -> Result<(), tokio_postgres::Error> {
        let client = self.connect(&self.address).await?;
        for _ in 0..5 {
            let asked = timeout(LIMIT, client.query_one(&self.question, &[]));
            let Ok(row) = asked.await else {
                self.lie(format!("{}: no answer", self.question));
                break;
            };
            let found: i64 = row?.get(0);
            if found != self.answer {
                self.lie(format!("{}: {found}", self.question));
            }
            self.count(&self.seen.answers[number]);
            sleep(Duration::from_millis(1_000 + random(4_000))).await;
        }
        Ok(())
    }

    /// A result without an end that nobody reads: it ends in an error.
    async fn read_slowly(&self) -> Result<(), tokio_postgres::Error> {
        let client = self.connect(&self.address).await?;
        let rows = client.query_raw(ENDLESS, std::iter::empty::<i32>()).await?;
        let mut rows = std::pin::pin!(rows);
        for _ in 0..3 {
            if rows.next().await.transpose()?.is_none() {
                self.lie("a result without an end has ended".to_owned());
            }
        }
        sleep(LONG).await;
        loop {
            match rows.next().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => break self.count(&self.seen.cut),
                None => break self.lie("a result that was cut has ended early".to_owned()),
            }
        }
        Ok(())
    }

    /// Sends a part of the first message, and waits until it is told to go.
    async fn never_log_in(&self) {
        let Ok(mut tcp) = TcpStream::connect(&self.address).await else {
            return;
        };
        let _ = tcp.write_all(&[0, 0, 0, 50, 0]).await;
        let mut rest = vec![];
        match timeout(2 * LONG, tcp.read_to_end(&mut rest)).await {
            Ok(_) => self.count(&self.seen.never_logged_in),
            Err(_) => self.lie("a client that does not log in is left alone".to_owned()),
        }
    }

    /// Asks, and then is not heard of any more, nor does it hear.
    async fn fall_silent(&self) -> Result<(), tokio_postgres::Error> {
        let client = self.connect(&self.proxied).await?;
        client.simple_query("SELECT 1").await?;
        sleep(2 * LONG).await;
        self.count(&self.seen.silent);
        Ok(())
    }

    /// Goes in the middle of a result, or cancels it.
    async fn die(&self, number: usize) -> Result<(), tokio_postgres::Error> {
        let client = self.connect(&self.address).await?;
        if number.is_multiple_of(2) {
            let rows = client.query_raw(ENDLESS, std::iter::empty::<i32>()).await?;
            if std::pin::pin!(rows).next().await.transpose()?.is_some() {
                self.count(&self.seen.died);
            }
            return Ok(());
        }
        let cancel = client.cancel_token();
        let cancelling = async {
            // A request that comes before its statement cancels nothing.
            loop {
                sleep(Duration::from_millis(200)).await;
                let _ = cancel.cancel_query(NoTls).await;
            }
        };
        let answer = tokio::select! {
            answer = client.simple_query(ENDLESS) => answer,
            never = cancelling => never,
            () = sleep(LIMIT) => {
                self.lie("what is cancelled goes on".to_owned());
                return Ok(());
            }
        };
        match answer {
            Ok(_) => self.lie("a result without an end has ended".to_owned()),
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                self.count(&self.seen.cancelled);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn lie(&self, lie: String) {
        let mut lies = self.seen.lies.lock().expect("nobody panics with it");
        lies.push(lie);
    }
}
