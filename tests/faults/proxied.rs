//! One broker behind several proxies, so that each test can have a bad network of its own.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_kafka::Error;
use datafusion_kafka::client::ClientPool;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::session::KafkaSessionBuilder;
use futures::StreamExt;

use crate::job::PARTITIONS;
use crate::support::produce::{self, Fill};
use crate::support::proxy::Proxy;
use crate::support::{KafkaOptions, KafkaServer, admin};

pub(crate) const CLIENTS: [&str; 2] = ["wire", "librdkafka"];
/// How many tests can have a network at the same time.
const WAYS: usize = 4;
/// What the broker advertises to clients of one of its listeners.
pub(crate) const NO_HOST: &str = "no-such-host.invalid:9092";
/// No query may take longer, whatever the network does.
const PATIENCE: Duration = Duration::from_secs(90);

/// See the module's documentation.
pub(crate) struct Bed {
    pub(crate) server: KafkaServer,
    /// Records of 500 bytes, two megabytes in all, in record batches of at most 50 kB.
    pub(crate) usual: Topic,
    /// A record batch of 1 MB.
    pub(crate) large: Topic,
    /// A record batch of 20 kB.
    pub(crate) small: Topic,
    free: Mutex<Vec<Arc<Proxy>>>,
    freed: Condvar,
}

/// A topic that [`produce::fill`] filled.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    /// In each partition.
    pub(crate) records: i64,
    pub(crate) value_bytes: usize,
}

/// The bed of this process, which starts on first use.
pub(crate) fn bed() -> &'static Bed {
    static BED: OnceLock<Bed> = OnceLock::new();
    tokio::task::block_in_place(|| BED.get_or_init(Bed::start))
}

impl Bed {
    fn start() -> Self {
        let proxies: Vec<Proxy> = (0..WAYS).map(|_| Proxy::start()).collect();
        let options = KafkaOptions::default().behind(NO_HOST.to_owned());
        let options = proxies
            .iter()
            .fold(options, |all, proxy| all.behind(proxy.address()));
        let server = KafkaServer::start(options);
        for proxy in &proxies {
            proxy.forward_to(&server.behind(&proxy.address()));
        }
        let bootstrap = server.bootstrap();
        Self {
            usual: Topic::fill(bootstrap, "usual", (PARTITIONS, 1400, 500), "50000"),
            large: Topic::fill(bootstrap, "large", (1, 1000, 1000), "2000000"),
            small: Topic::fill(bootstrap, "small", (1, 100, 200), "2000000"),
            server,
            free: Mutex::new(proxies.into_iter().map(Arc::new).collect()),
            freed: Condvar::new(),
        }
    }

    /// A network for one test; waits until there is one.
    pub(crate) fn way(&'static self) -> Way {
        tokio::task::block_in_place(|| {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if let Some(proxy) = free.pop() {
                    return Way { bed: self, proxy };
                }
                free = self
                    .freed
                    .wait(free)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        })
    }
}

/// A network, which goes back to the others when it is dropped.
pub(crate) struct Way {
    bed: &'static Bed,
    proxy: Arc<Proxy>,
}

impl std::ops::Deref for Way {
    type Target = Arc<Proxy>;

    fn deref(&self) -> &Arc<Proxy> {
        &self.proxy
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.proxy.calm();
        self.proxy.end_connections();
        let mut free = self.bed.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(Arc::clone(&self.proxy));
        self.bed.freed.notify_one();
    }
}

impl Topic {
    pub(crate) fn fill(
        bootstrap: &str,
        name: &str,
        (partitions, records, value_bytes): (i32, i64, usize),
        batch_bytes: &str,
    ) -> Self {
        let name = admin::unique_topic(name);
        admin::create_topic(bootstrap, &name, partitions, &[]);
        let all = records * i64::from(partitions);
        let fill = Fill {
            records: usize::try_from(all).expect("some"),
            partitions,
            value_bytes,
            settings: &[
                ("batch.size", batch_bytes),
                ("message.max.bytes", "3000000"),
                ("linger.ms", "1000"),
            ],
        };
        produce::fill(bootstrap, &name, fill);
        Self {
            name,
            partitions,
            records,
            value_bytes,
        }
    }

    /// The range of all records, written out: no answer of a broker says where it ends.
    pub(crate) fn range(&self) -> String {
        let ends: Vec<String> = (0..self.partitions)
            .map(|partition| format!("{partition}=0:{}", self.records))
            .collect();
        ends.join(",")
    }

    pub(crate) fn select(&self) -> String {
        format!(
            "SELECT partition, offset, value FROM kafka('{}', '{}')",
            self.name,
            self.range()
        )
    }

    /// Checks rows that follow those seen so far, which are the next offset of each partition.
    ///
    /// # Panics
    /// When one is missing, comes again or has another value.
    pub(crate) fn check(&self, rows: &RecordBatch, seen: &mut [i64]) {
        let partitions = rows.column(0).as_primitive::<Int32Type>();
        let offsets = rows.column(1).as_primitive::<Int64Type>();
        let values = arrow::compute::cast(rows.column(2), &arrow::datatypes::DataType::Binary);
        let values = values.expect("bytes");
        let values = values.as_binary::<i32>();
        for row in 0..rows.num_rows() {
            let partition = partitions.value(row);
            let next = &mut seen[usize::try_from(partition).expect("a partition")];
            assert_eq!(offsets.value(row), *next, "the next offset of {partition}");
            let number = *next * i64::from(self.partitions) + i64::from(partition);
            let number = usize::try_from(number).expect("a number");
            let expected = produce::fill_value(number, self.value_bytes);
            assert!(
                !values.is_null(row) && values.value(row) == expected,
                "{partition}@{next}"
            );
            *next += 1;
        }
    }
}

/// A session that reads through a network with one client of its own.
pub(crate) fn session(bootstrap: &str, settings: &[(&str, &str)]) -> SessionContext {
    let mut config = ConnectionConfig::new(bootstrap);
    for (key, value) in settings {
        config.set(key, value).expect("valid");
    }
    // The client ends with the session, and connects to nobody's network afterwards.
    let builder = KafkaSessionBuilder::new().pool(ClientPool::new());
    let session = builder.connection(config).config(
        SessionConfig::new()
            .with_target_partitions(2)
            .with_batch_size(100),
    );
    session.build().expect("the settings are valid")
}

/// What came of a statement that reads all of `topic`: `exact`, or the name of the error. `begun` is called
/// after the first rows.
///
/// # Panics
/// When rows are missing, come twice or differ, or it takes too long.
pub(crate) async fn outcome(
    context: &SessionContext,
    topic: &Topic,
    begun: impl FnOnce(),
) -> String {
    let mut begun = Some(begun);
    let mut seen = vec![0; usize::try_from(topic.partitions).expect("some")];
    let started = Instant::now();
    let reading = async {
        let frame = context.sql(&topic.select()).await?;
        let mut stream = frame.execute_stream().await?;
        while let Some(rows) = stream.next().await {
            topic.check(&rows?, &mut seen);
            if let Some(begun) = begun.take() {
                begun();
            }
        }
        Ok(())
    };
    let read: Result<(), DataFusionError> = tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the query hangs");
    match read {
        Ok(()) => {
            assert!(
                seen.iter().all(|end| *end == topic.records),
                "short: {seen:?}"
            );
            "exact".to_owned()
        }
        Err(error) => {
            eprintln!("after {:?}, {seen:?} rows: {error}", started.elapsed());
            named(&error)
        }
    }
}

/// The name of an error, which must say where it was: a broker's address or `topic[partition]`.
pub(crate) fn named(error: &DataFusionError) -> String {
    let found = Error::find(error).unwrap_or_else(|| panic!("not an error of ours: {error}"));
    let text = found.to_string();
    assert!(
        text.contains("127.0.0.1:")
            || text.contains("[0]")
            || text.contains("[1]")
            || text.contains(".invalid")
            || text.contains("topic "),
        "it does not say where: {text}"
    );
    let name = format!("{found:?}");
    name.split([' ', '(']).next().unwrap_or_default().to_owned()
}
