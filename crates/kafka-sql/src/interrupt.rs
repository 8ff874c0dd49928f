//! Runs work that Ctrl-C can stop.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::failure::{Exit, Failure};
use crate::ui;

/// How long interrupted work may take to release what it holds. Only a write that waits for the reader
/// of our output can take longer; it is abandoned.
const LET_GO: Duration = Duration::from_secs(2);

/// Runs `work` to its end, or until the user presses Ctrl-C or the process gets a signal to end.
///
/// The work is dropped then, which stops its streams and with them all fetching.
///
/// # Errors
/// The work's own failure, or [`Failure::Interrupted`].
pub(crate) fn run<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    watch(runtime, None::<fn()>, work)
}

/// Runs work that is asked to stop by the first signal and left by the second.
///
/// # Errors
/// As [`run`]; a first signal alone is no failure.
pub(crate) fn run_until_told<T: Send + 'static>(
    runtime: &Runtime,
    stop: impl FnOnce(),
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    watch(runtime, Some(stop), work)
}

/// Signals and the wait for the end have a runtime of their own on the calling thread: work that
/// keeps every thread of `runtime` busy without a pause can still be left.
fn watch<T: Send + 'static>(
    runtime: &Runtime,
    mut ask: Option<impl FnOnce()>,
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::io("cannot listen for signals", &e))?;
    control.block_on(async {
        let mut signals = Signals::new()?;
        let mut task = runtime.spawn(work);
        loop {
            tokio::select! {
                joined = &mut task => return joined.unwrap_or_else(|error| Err(fault(&error))),
                () = signals.next() => if ui::Paging::is_on() { continue },
            }
            match ask.take() {
                Some(ask) => ask(),
                None => {
                    task.abort();
                    let _ = tokio::time::timeout(LET_GO, task).await;
                    return Err(Failure::Interrupted);
                }
            }
        }
    })
}

fn fault(error: &tokio::task::JoinError) -> Failure {
    Failure::new(
        Exit::Query,
        format!("a fault in kafka-sql or a library: {error}"),
    )
}

/// The signals that end work.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    pub(crate) fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|e| Failure::io("cannot listen for signals", &e));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "the same shape as on Unix")]
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
