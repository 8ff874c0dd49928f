//! One line on standard error that says how far a query is, from half a second on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::physical_plan::ExecutionPlan;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use crate::session::{self, Progress};
use crate::ui::{self, Ui, thousands};

/// Queries that take less show nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the line is drawn.
const REDRAW: Duration = Duration::from_millis(200);

/// Draws the progress of one plan until it is dropped.
pub(crate) struct Meter {
    task: Option<JoinHandle<()>>,
    bar: ProgressBar,
    /// Whether it stays when rows are printed on the same screen.
    stays: bool,
}

impl Meter {
    /// Starts watching `plan`, where standard error is a terminal and the user did not ask for quiet.
    pub(crate) fn start(plan: &Arc<dyn ExecutionPlan>, ui: Ui) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if !ui.stderr_is_terminal || ui.quiet {
            return Self {
                task: None,
                bar,
                stays: false,
            };
        }
        let plan = Arc::clone(plan);
        let drawn = bar.clone();
        let task = tokio::spawn(async move {
            let started = Instant::now();
            tokio::time::sleep(PATIENCE).await;
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                drawn.set_style(style);
            }
            drawn.set_draw_target(ProgressDrawTarget::stderr());
            loop {
                drawn.set_message(line(session::scan_progress(&plan), started.elapsed()));
                drawn.tick();
                tokio::time::sleep(REDRAW).await;
            }
        });
        Self {
            task: Some(task),
            bar,
            stays: false,
        }
    }

    /// A meter of nothing, where no plan is watched.
    pub(crate) fn none() -> Self {
        Self {
            task: None,
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            stays: false,
        }
    }

    /// The same meter, for few rows: the line stays below them.
    pub(crate) fn beside_rows(mut self) -> Self {
        self.stays = true;
        self
    }

    /// Prints rows on the same screen.
    pub(crate) fn aside<T>(&mut self, print: impl FnOnce() -> T) -> T {
        if self.stays {
            return self.bar.suspend(print);
        }
        self.stop();
        print()
    }

    /// Removes the line, before rows are printed on the same screen.
    pub(crate) fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            self.bar.finish_and_clear();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The text of the line.
fn line(progress: Progress, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-3);
    if progress.offsets_total == 0 {
        return format!("{seconds:.1} s");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let (records, bytes, done) = (
        progress.records as f64,
        progress.bytes as f64,
        progress.offsets_done as f64 / progress.offsets_total as f64,
    );
    let done = done.min(1.0);
    let mut text = format!(
        "{} records  {}/s  {}  {:.1} MB/s  {:.0}% of the offset span",
        thousands(progress.records),
        rate(records / seconds),
        HumanBytes(progress.bytes),
        bytes / seconds / 1e6,
        (done * 100.0).floor(),
    );
    if done > 0.0 && done < 1.0 {
        let left = Duration::from_secs_f64((seconds / done - seconds).clamp(0.0, 1e7));
        text.push_str(&format!("  ETA {}", HumanDuration(left)));
    }
    if progress.lost_offsets > 0 {
        text.push_str(&format!(
            "  {} offsets lost",
            thousands(progress.lost_offsets)
        ));
    }
    if let Some(held) = ui::held_back(progress.throttled_ms) {
        text.push_str("  ");
        text.push_str(&held);
    }
    text
}

/// A rate with three digits: `950`, `1.23 k`, `45.6 M`.
fn rate(per_second: f64) -> String {
    let (value, unit) = if per_second >= 1e6 {
        (per_second / 1e6, " M")
    } else if per_second >= 1e3 {
        (per_second / 1e3, " k")
    } else {
        return format!("{per_second:.0}");
    };
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_rate_bytes_span_and_time_left() {
        let mut progress = Progress::default();
        progress.offsets_done = 2_500_000;
        progress.offsets_total = 10_000_000;
        progress.records = 2_400_000;
        progress.bytes = 240_000_000;
        assert_eq!(
            line(progress, Duration::from_secs(2)),
            "2,400,000 records  1.20 M/s  228.88 MiB  120.0 MB/s  25% of the offset span  ETA 6 seconds"
        );
        let mut lost = progress;
        (lost.offsets_done, lost.lost_offsets) = (10_000_000, 1500);
        let text = line(lost, Duration::from_secs(2));
        assert!(
            text.ends_with("100% of the offset span  1,500 offsets lost"),
            "{text}"
        );
        let mut held = progress;
        held.throttled_ms = 12_400;
        let text = line(held, Duration::from_secs(2));
        assert!(
            text.ends_with("  held back by the broker's quota for 12 s"),
            "{text}"
        );
    }

    #[test]
    fn a_query_without_a_scan_shows_its_time() {
        assert_eq!(
            line(Progress::default(), Duration::from_millis(1500)),
            "1.5 s"
        );
    }

    #[test]
    fn rates_keep_three_digits() {
        assert_eq!(rate(950.0), "950");
        assert_eq!(rate(1234.0), "1.23 k");
        assert_eq!(rate(45_600_000.0), "45.6 M");
        assert_eq!(rate(456_000.0), "456 k");
    }
}
