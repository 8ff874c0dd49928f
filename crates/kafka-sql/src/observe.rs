//! `run --metrics`: the metrics and probes of one job that runs by itself.

use std::path::Path;
use std::sync::Arc;

use datafusion_kafka::driver::Lags;
use datafusion_kafka_serve::config::{HttpConfig, JobConfig, ServiceConfig};
use datafusion_kafka_serve::http::{self, Port};
use datafusion_kafka_serve::{Board, Monitor};
use tokio::sync::watch;

use crate::failure::Failure;

/// A port for a job that is to run.
pub(crate) struct Observed {
    /// What listens to the job.
    pub(crate) monitor: Arc<Monitor>,
    board: Board,
    port: Port,
    closing: watch::Sender<bool>,
}

impl Observed {
    /// Opens a port for the job of a name and a file.
    ///
    /// # Errors
    /// When it cannot be opened, or other machines would reach it.
    pub(crate) async fn open(address: &str, name: &str, file: &Path) -> Result<Self, Failure> {
        let defaults = ServiceConfig::default();
        let board = Board::new(defaults.max_partition_labels, defaults.history);
        let monitor = board.add(name, JobConfig::new(file, ""));
        let (closing, closed) = watch::channel(false);
        let port = Port::open(&HttpConfig::new(address), closed).await;
        Ok(Self {
            monitor,
            board,
            port: port.map_err(|problem| Failure::usage(format!("--metrics: {problem}")))?,
            closing,
        })
    }

    /// Answers until what is returned is dropped.
    pub(crate) fn serve(self, lags: Lags) -> watch::Sender<bool> {
        self.monitor.planned(lags, vec![]);
        let router = http::of_board(Arc::new(self.board), self.port.guard());
        tokio::spawn(async move { self.port.serve(router).await });
        self.closing
    }
}
