//! Real Kafka brokers for tests, and the few calls that put data into them.
//!
//! A test file says `mod support;`. Most tests then use the broker that the process shares, with a topic of
//! their own:
//!
//! ```ignore
//! let broker = support::shared();
//! let topic = support::admin::unique_topic("orders");
//! support::admin::create_topic(broker.bootstrap(), &topic, 3, &[]);
//! support::produce::produce(broker.bootstrap(), &topic, &[Record::new(0).value("x")]);
//! ```
//!
//! A test that stops, kills or freezes a broker, or needs other settings, starts its own with
//! [`KafkaServer::start`]. The helpers talk to brokers through librdkafka or Kafka's own tools, never through
//! the crate under test. When something goes wrong, they panic with all details.

// Each test file compiles this module again and uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod admin;
mod certificates;
pub mod cluster;
pub mod documented;
pub mod kafka;
pub mod kerberos;
pub mod libs;
pub mod marker;
mod options;
pub mod postgres;
mod process;
pub mod produce;
pub mod proxy;
pub mod read;
pub mod registry;
mod release;
pub mod s3;
mod unique;

use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

pub use cluster::KafkaCluster;
pub use kafka::KafkaServer;
pub use options::{KafkaOptions, Listener, Login, PASSWORD, USERS};
pub use produce::{Record, Transaction};
pub use release::Release;

/// The broker that the tests of this process share, with every listener. It starts on first use.
///
/// A static is never dropped: the broker's watchdog stops it when the process ends.
pub fn shared() -> &'static KafkaServer {
    static SHARED: OnceLock<KafkaServer> = OnceLock::new();
    SHARED.get_or_init(|| KafkaServer::start(KafkaOptions::secured()))
}

/// A broker of an older release, which the tests of this process share.
///
/// # Panics
/// When its jars are missing.
pub fn of_release(release: Release) -> &'static KafkaServer {
    static BROKERS: [OnceLock<KafkaServer>; Release::ALL.len()] =
        [const { OnceLock::new() }; Release::ALL.len()];
    BROKERS[release as usize]
        .get_or_init(|| KafkaServer::start(KafkaOptions::default().release(release)))
}

/// A new topic of 200 records with ten keys on the shared broker, for [`admin::compact`].
pub fn topic_to_compact() -> String {
    let topic = admin::unique_topic("compacted");
    let bootstrap = shared().bootstrap();
    admin::create_compacted_topic(bootstrap, &topic, 1);
    let keyed = |n: i32| {
        Record::new(0)
            .key(format!("k{}", n % 10))
            .value(format!("v{n}"))
    };
    produce::produce(bootstrap, &topic, &(0..200).map(keyed).collect::<Vec<_>>());
    topic
}

/// The folder of the repository, which is above this package.
///
/// # Panics
/// When the tests run outside the repository.
pub fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = package.ancestors();
    folders
        .find(|folder| folder.join("sql-examples").is_dir())
        .expect("the sources are there")
}

/// Calls `answer` repeatedly until it returns something.
///
/// # Panics
/// When it does not within `limit`.
pub fn wait_until<T>(limit: Duration, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for a future that another thread completes, inside or outside an asynchronous test.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
