//! The port over a cluster in memory, asked by tokio-postgres and other clients.

mod clients;
mod hostile;
mod limits;
mod load;
mod login;
mod metrics;
mod results;
mod writes;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::execution::context::SessionContext;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion_kafka::client::ClientPool;
use datafusion_kafka::client::memory::{Call, MemoryCluster, Record};
use datafusion_kafka::driver::MicroBatchBuilder;
use datafusion_kafka::policy::Policy;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::statement;
use futures::future::poll_fn;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

use super::PgPort;
use crate::config::{Config, Connection, JobConfig};
use crate::opener::{Access, Opener};
use crate::problem::Problem;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse";

/// The tables of the catalog file: typed columns, a part of a topic, and a view.
const CATALOG: &str = "CREATE EXTERNAL TABLE typed (id BIGINT, name VARCHAR, price DOUBLE, at TIMESTAMP) STORED AS KAFKA \
     LOCATION 'typed' OPTIONS ('value.format' 'json');
     CREATE EXTERNAL TABLE few STORED AS KAFKA LOCATION 'orders' OPTIONS ('range' '0=0:3');
     CREATE VIEW cheap AS SELECT id, name FROM typed WHERE price < 2;";

/// A port over topics in memory: `orders` with 2 partitions of 100 records each, 10 of them compacted away, and `typed`
/// with JSON.
struct Served {
    cluster: MemoryCluster,
    port: PgPort,
    folder: TempDir,
    text: String,
    stop: Option<oneshot::Sender<()>>,
    stopped: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct InMemory(ClientPool);

#[async_trait]
impl Opener for InMemory {
    fn session(
        &self,
        connection: &Connection,
        runtime: &Arc<RuntimeEnv>,
        access: Access,
    ) -> Result<SessionContext, Problem> {
        let policy = match access {
            Access::Operator => Policy::default(),
            Access::Reader => Policy::restricted(),
        };
        let builder = KafkaSessionBuilder::new()
            .connection(connection.config.clone())
            .pool(self.0.clone())
            .runtime(Arc::clone(runtime))
            .policy(policy);
        Ok(builder.build()?)
    }

    fn check(&self, _: &JobConfig) -> Result<(), Problem> {
        Ok(())
    }

    async fn job(
        &self,
        _: &str,
        _: &JobConfig,
        _: &Connection,
        _: &Arc<RuntimeEnv>,
    ) -> Result<MicroBatchBuilder, Problem> {
        Err(Problem::new("there are no jobs here"))
    }

    async fn define(&self, context: &SessionContext, file: &Path) -> Result<(), Problem> {
        let text = std::fs::read_to_string(file).unwrap();
        for sql in text.split_terminator(';') {
            let defined = statement::sql(context, sql).await;
            defined.map_err(|e| Problem::new(e.to_string()))?;
        }
        Ok(())
    }
}

fn cluster() -> MemoryCluster {
    let cluster = MemoryCluster::builder().fetch_records(10).build();
    cluster.create_topic("orders", 2).unwrap();
    cluster.create_topic("typed", 1).unwrap();
    for n in 0..100 {
        for partition in 0..2 {
            let record = Record::new(format!("{n}"))
                .with_key(format!("k{n}"))
                .with_timestamp_ms(1_768_348_800_000 + n);
            cluster.append("orders", partition, record).unwrap();
        }
    }
    for offset in 20..30 {
        assert!(cluster.remove("orders", 0, offset).unwrap());
    }
    for n in 0..5 {
        let record = Record::new(format!(
            r#"{{"id": {n}, "name": "n{n}", "price": {n}.5, "at": "2026-01-14T00:00:0{n}"}}"#
        ));
        cluster.append("typed", 0, record).unwrap();
    }
    cluster
}

/// Serves with more lines in the section `[postgres]`, and more lines of the user `ada`.
async fn serve(more: &str, of_ada: &str) -> Served {
    try_serve(CATALOG, more, of_ada).await.unwrap()
}

async fn try_serve(catalog: &str, more: &str, of_ada: &str) -> Result<Served, Problem> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("password"), PASSWORD).unwrap();
    std::fs::write(path("catalog.sql"), catalog).unwrap();
    let text = format!(
        "[connections.main]\n\"bootstrap.servers\" = \"memory:1\"\n\
         [postgres]\nlisten = \"127.0.0.1:0\"\nconnection = \"main\"\ncatalog = \"catalog.sql\"\n{more}\n\
         [postgres.users.ada]\npassword = \"file:{password}\"\n{of_ada}\n\
         [postgres.users.bob]\npassword = \"file:{password}\"",
        password = path("password").display()
    );
    let config = Config::parse(&text, folder.path()).unwrap();
    let cluster = cluster();
    let of_pool = cluster.clone();
    let pool = ClientPool::with_factory(move |_| Ok(Arc::new(of_pool.client())));
    let opener: Arc<dyn Opener> = Arc::new(InMemory(pool));
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(256 << 20, 1.0);
    let runtime = runtime.build_arc().unwrap();
    let connection = config.connection("main").unwrap();
    let postgres = config.postgres.as_ref().unwrap();
    let opened = PgPort::open(postgres, connection, &opener, &runtime).await;
    let port = opened?;
    let (stop, stopping) = oneshot::channel::<()>();
    let serving = port.clone().serve(async {
        let _ = stopping.await;
    });
    Ok(Served {
        stopped: Some(tokio::spawn(serving)),
        stop: Some(stop),
        cluster,
        port,
        folder,
        text,
    })
}

/// A client of tokio-postgres, and the notices that it was sent.
struct Asking {
    client: Client,
    notices: Arc<Mutex<Vec<String>>>,
    connection: JoinHandle<()>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        // By itself it would read all answers first.
        self.connection.abort();
    }
}

impl std::ops::Deref for Asking {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Served {
    fn config(&self, user: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port.address().port())
            .user(user)
            .password(PASSWORD)
            .dbname("kafka")
            .connect_timeout(PATIENCE);
        config
    }

    async fn connect(&self, user: &str) -> Result<Asking, tokio_postgres::Error> {
        let (client, mut connection) = self.config(user).connect(NoTls).await?;
        let notices = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&notices);
        let connection = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notice(notice) = message {
                    heard.lock().unwrap().push(notice.message().to_owned());
                }
            }
        });
        Ok(Asking {
            client,
            notices,
            connection,
        })
    }

    async fn ada(&self) -> Asking {
        self.connect("ada").await.unwrap()
    }

    /// Takes over another file.
    async fn renew(&self, config: &Config) {
        let connection = config.connection("main").unwrap();
        let postgres = config.postgres.as_ref().unwrap();
        let renewed = self.port.renew(postgres, connection).await;
        (renewed.ok().unwrap())();
    }

    /// Ends the port and waits for its connections.
    async fn end(mut self) {
        let _ = self.stop.take().unwrap().send(());
        let stopped = self.stopped.take().unwrap();
        tokio::time::timeout(PATIENCE, stopped)
            .await
            .unwrap()
            .unwrap();
    }
}

impl Asking {
    /// The rows of a simple query as text, each with `|` between its values; NULL is `-`.
    async fn rows(&self, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let messages = self.client.simple_query(sql).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values = (0..row.len()).map(|at| row.get(at).unwrap_or("-"));
                Some(values.collect::<Vec<_>>().join("|"))
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The one value of a simple query.
    async fn value(&self, sql: &str) -> String {
        let rows = self
            .rows(sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows[0].clone()
    }

    /// The code and the message of what a simple query fails with.
    async fn failure(&self, sql: &str) -> (String, String) {
        match self.client.simple_query(sql).await {
            Err(error) => failure(&error),
            Ok(_) => panic!("{sql}: it has worked"),
        }
    }
}

fn failure(error: &tokio_postgres::Error) -> (String, String) {
    match error.as_db_error() {
        Some(db) => (db.code().code().to_owned(), db.message().to_owned()),
        None => ("none".to_owned(), error.to_string()),
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}
