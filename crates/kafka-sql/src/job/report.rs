//! What a running job says: a live line on a terminal, a line for each batch elsewhere, JSON lines
//! where they were asked for.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion_kafka::driver::{BatchProgress, LostBecause, ProgressListener, Retry};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;
use crate::ui::{self, Ui, thousands};

/// A live line on a terminal; elsewhere a line for each batch.
#[derive(Debug)]
pub(super) struct Live {
    bar: Option<ProgressBar>,
    quiet: bool,
    begun: Instant,
    rows: Mutex<u64>,
}

impl Live {
    pub(super) fn new(ui: Ui) -> Self {
        let bar = (ui.stderr_is_terminal && !ui.quiet).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self {
            bar,
            quiet: ui.quiet,
            begun: Instant::now(),
            rows: Mutex::new(0),
        }
    }

    /// Removes the live line.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn say(&self, line: impl fmt::Display) {
        match &self.bar {
            Some(bar) => bar.suspend(|| ui::note(line)),
            None => ui::note(line),
        }
    }
}

impl ProgressListener for Live {
    fn committed(&self, progress: &BatchProgress) {
        for source in &progress.sources {
            for lost in &source.lost {
                let why = match lost.reason {
                    LostBecause::Recreated => "are of a topic that was recreated",
                    LostBecause::Vanished => "cannot be read: the partition is gone",
                    LostBecause::Truncated => {
                        self.say(format_args!(
                            "kafka-sql: batch {}: the log of {} was cut at {} by the loss of a leader: rows of \
                             {}..{} in the sinks come from records that no log has any more; the job reads \
                             the records that are there now",
                            progress.batch, lost.partition, lost.to, lost.to, lost.from
                        ));
                        continue;
                    }
                    // `LostBecause` may grow; what is gone is gone.
                    _ => "are gone",
                };
                self.say(format_args!(
                    "kafka-sql: batch {}: {} offsets {}..{} {why} and were skipped",
                    progress.batch, lost.partition, lost.from, lost.to
                ));
            }
        }
        for source in &progress.sources {
            let Some(first) = source.uncompared.first() else {
                continue;
            };
            let others = match source.uncompared.len() - 1 {
                0 => String::new(),
                others => format!(" and {others} other partitions"),
            };
            self.say(format_args!(
                "kafka-sql: batch {}: {first}{others}: no leader epoch was recorded, or the brokers give none; \
                 if the log was cut before and has grown again, the job could not notice it",
                progress.batch
            ));
        }
        let lost: u64 = progress.sources.iter().map(|s| s.lost_offsets).sum();
        if lost > 0 {
            self.say(format_args!(
                "kafka-sql: batch {}: {} offsets of its ranges were gone and are missing in the sinks",
                progress.batch,
                thousands(lost)
            ));
        }
        let bad: u64 = progress.sources.iter().map(|s| s.bad_rows).sum();
        if bad > 0 {
            self.say(format_args!(
                "kafka-sql: batch {}: {} records did not decode",
                progress.batch,
                thousands(bad)
            ));
        }
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        *rows += progress.rows();
        let line = line(progress);
        match &self.bar {
            Some(bar) => {
                let seconds = self.begun.elapsed().as_secs_f64();
                bar.set_message(format!("{line}, {} in {seconds:.0} s", ui::rows(*rows)));
            }
            None if !self.quiet => ui::note(line),
            None => {}
        }
    }

    fn retrying(&self, retry: &Retry<'_>) {
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let seconds = retry.wait_ms as f64 / 1e3;
        self.say(format_args!(
            "kafka-sql: {}; trying again in {seconds:.1} s (attempt {})",
            retry.error,
            retry.failed + 1
        ));
    }
}

/// The text of a batch's line.
fn line(progress: &BatchProgress) -> String {
    let behind: i64 = progress
        .sources
        .iter()
        .filter_map(|source| source.behind)
        .map(|behind| behind.max)
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "batch {}: {} records, {}, {:.0} ms, {} behind",
        progress.batch,
        thousands(progress.records()),
        ui::rows(progress.rows()),
        progress.duration_ms,
        thousands(u64::try_from(behind).unwrap_or(0))
    );
    let throttled_ms = progress.sources.iter().map(|s| s.throttled_ms).sum();
    if let Some(held) = ui::held_back(throttled_ms) {
        text.push_str(", ");
        text.push_str(&held);
    }
    text
}

/// One line of JSON for each batch.
pub(super) struct Lines(Mutex<Box<dyn Write + Send>>);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

impl Lines {
    /// Opens a file to append to; `-` is standard output.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self(Mutex::new(ui::output(io::stdout()))));
        }
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(|e| Failure::io(path.display(), &e))?;
        Ok(Self(Mutex::new(Box::new(file))))
    }
}

impl ProgressListener for Lines {
    fn committed(&self, progress: &BatchProgress) {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = progress.to_json();
        line.push('\n');
        // The batch is committed: that its line cannot be written must not undo it.
        if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            ui::note(format_args!("kafka-sql: cannot write progress: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_one_line() {
        let mut progress = BatchProgress::default();
        (progress.batch, progress.duration_ms) = (7, 12.3);
        assert_eq!(
            line(&progress),
            "batch 7: 0 records, 0 rows, 12 ms, 0 behind"
        );
    }
}
