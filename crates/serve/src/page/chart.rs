//! Bars of batches as SVG that is made here: values in, rectangles out.

use askama::Template;
use datafusion_kafka::driver::BatchProgress;
use datafusion_kafka::range::LedgerCounts;

use super::words::{duration, number};
use crate::job::PHASES;

/// How many of the last batches a chart shows.
pub(super) const MOST_BARS: usize = 60;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 120.0;

/// A chart with its title and the meaning of its colours.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) highest: String,
    pub(super) legend: Vec<Meaning>,
    pub(super) svg: Bars,
}

/// What a colour means.
#[derive(Debug)]
pub(super) struct Meaning {
    pub(super) name: &'static str,
    pub(super) class: String,
}

#[derive(Debug, Template)]
#[template(path = "chart.html")]
pub(super) struct Bars {
    label: String,
    width: f64,
    height: f64,
    bars: Vec<Bar>,
}

#[derive(Debug)]
struct Bar {
    x: String,
    width: String,
    href: String,
    title: String,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    y: String,
    height: String,
    class: String,
}

/// A kind of value: its name, its class in the stylesheet, and how to take it from a batch.
struct Series<'a> {
    name: &'static str,
    class: String,
    value: Box<dyn Fn(&BatchProgress) -> f64 + 'a>,
}

/// How long batches took by phase, how many rows they wrote, and what became of their offsets.
pub(super) fn of_batches(job_href: &str, batches: &[&BatchProgress]) -> Vec<Chart> {
    let phases = PHASES.into_iter().map(|(name, take)| Series {
        name,
        class: phase_class(name),
        value: Box::new(move |batch: &BatchProgress| take(&batch.phases_ms)),
    });
    let rows = [Series {
        name: "rows",
        class: "rows-bar".to_owned(),
        value: Box::new(|batch| float(batch.rows())),
    }];
    let classes = LedgerCounts::NAMES
        .into_iter()
        .enumerate()
        .map(|(at, name)| Series {
            name,
            class: ledger_class(name),
            value: Box::new(move |batch| {
                let counts = batch
                    .sources
                    .iter()
                    .map(|source| source.ledger.values()[at]);
                float(counts.fold(0, u64::saturating_add))
            }),
        });
    vec![
        chart(
            "Duration by phase",
            job_href,
            batches,
            phases.collect(),
            duration,
        ),
        chart("Rows into sinks", job_href, batches, rows.into(), count),
        chart(
            "Offsets by what became of them",
            job_href,
            batches,
            classes.collect(),
            count,
        ),
    ]
}

/// A chart of the rows alone, small and without words.
pub(super) fn spark(job_href: &str, batches: &[&BatchProgress]) -> Bars {
    let rows = Series {
        name: "rows",
        class: "rows-bar".to_owned(),
        value: Box::new(|batch: &BatchProgress| float(batch.rows())),
    };
    let shown = &batches[batches.len().saturating_sub(20)..];
    bars(
        "Rows of the last batches",
        job_href,
        shown,
        &[rows],
        count,
        20,
        160.0,
        28.0,
    )
}

/// The class of a phase in the stylesheet.
pub(super) fn phase_class(phase: &str) -> String {
    format!("phase-{}", phase.replace('_', "-"))
}

fn ledger_class(class: &str) -> String {
    format!("ledger-{class}")
}

fn chart(
    title: &'static str,
    job_href: &str,
    batches: &[&BatchProgress],
    series: Vec<Series<'_>>,
    say: fn(f64) -> String,
) -> Chart {
    let shown = &batches[batches.len().saturating_sub(MOST_BARS)..];
    let highest = highest(shown, &series);
    let svg = bars(
        title, job_href, shown, &series, say, MOST_BARS, WIDTH, HEIGHT,
    );
    // A colour that is nowhere to be seen needs no meaning.
    let seen = |series: &Series<'_>| shown.iter().any(|batch| (series.value)(batch) > 0.0);
    let legend = series.into_iter().filter(seen).map(|series| Meaning {
        name: series.name,
        class: series.class,
    });
    Chart {
        title,
        highest: say(highest),
        legend: legend.collect(),
        svg,
    }
}

fn highest(batches: &[&BatchProgress], series: &[Series<'_>]) -> f64 {
    let sums = batches
        .iter()
        .map(|batch| series.iter().map(|s| (s.value)(batch)).sum());
    sums.fold(0.0, f64::max)
}

#[expect(clippy::too_many_arguments, reason = "one place draws all charts")]
fn bars(
    label: &str,
    job_href: &str,
    batches: &[&BatchProgress],
    series: &[Series<'_>],
    say: fn(f64) -> String,
    slots: usize,
    width: f64,
    height: f64,
) -> Bars {
    // Something that is not zero can be seen.
    let highest = highest(batches, series).max(f64::MIN_POSITIVE);
    #[expect(clippy::cast_precision_loss, reason = "some dozens of bars")]
    let slot = width / slots as f64;
    let bar = |(at, batch): (usize, &&BatchProgress)| {
        let mut top = height;
        let mut parts = vec![];
        let mut title = format!("Batch {}", batch.batch);
        for series in series {
            let value = (series.value)(batch);
            if value <= 0.0 {
                continue;
            }
            title.push_str(&format!("\n{}: {}", series.name, say(value)));
            let part = value / highest * height;
            top -= part;
            parts.push(Part {
                y: format!("{:.2}", top.max(0.0)),
                height: format!("{part:.2}"),
                class: series.class.clone(),
            });
        }
        #[expect(clippy::cast_precision_loss, reason = "some dozens of bars")]
        let x = (slots - batches.len() + at) as f64 * slot;
        Bar {
            x: format!("{:.2}", x + slot * 0.1),
            width: format!("{:.2}", slot * 0.8),
            href: format!("{job_href}/batches/{}", batch.batch),
            title,
            parts,
        }
    };
    Bars {
        label: label.to_owned(),
        width,
        height,
        bars: batches.iter().enumerate().map(bar).collect(),
    }
}

fn count(value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "cut where it is too large")]
    let whole = value as i64;
    number(whole)
}

#[expect(clippy::cast_precision_loss, reason = "the height of a bar")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use datafusion_kafka::driver::{SinkProgress, SourceProgress};

    use super::*;

    fn batch(number: u64, stage: f64, rows: u64) -> BatchProgress {
        let mut batch = BatchProgress::default();
        batch.batch = number;
        batch.phases_ms.stage = stage;
        batch.phases_ms.commit = stage;
        let mut sink = SinkProgress::default();
        sink.rows = rows;
        batch.sinks = vec![sink];
        let mut source = SourceProgress::default();
        source.ledger.delivered = rows;
        source.ledger.control = 1;
        batch.sources = vec![source];
        batch
    }

    #[test]
    fn the_highest_bar_fills_the_chart() {
        let batches = [batch(1, 10.0, 0), batch(2, 20.0, 500)];
        let [durations, rows, ledger] = &of_batches("/jobs/o", &batches.each_ref())[..] else {
            panic!("three charts");
        };
        assert_eq!(durations.highest, "40.0 ms");
        let names = |chart: &Chart| chart.legend.iter().map(|m| m.name).collect::<Vec<_>>();
        assert_eq!(names(durations), ["stage", "commit"]);
        assert_eq!(names(rows), ["rows"]);
        assert_eq!(names(ledger), ["delivered", "control"]);
        let heights = |chart: &Chart, bar: usize| -> Vec<String> {
            chart.svg.bars[bar]
                .parts
                .iter()
                .map(|p| p.height.clone())
                .collect()
        };
        assert_eq!(heights(durations, 0), ["30.00", "30.00"]);
        assert_eq!(heights(durations, 1), ["60.00", "60.00"]);
        assert_eq!(heights(rows, 0), [""; 0]);
        assert_eq!(heights(rows, 1), ["120.00"]);
        assert_eq!(rows.svg.bars[1].title, "Batch 2\nrows: 500");
        assert_eq!(rows.svg.bars[1].href, "/jobs/o/batches/2");
    }

    #[test]
    fn a_chart_shows_the_last_batches() {
        let batches: Vec<_> = (0..200).map(|n| batch(n, 1.0, 1)).collect();
        let batches: Vec<_> = batches.iter().collect();
        let charts = of_batches("/jobs/o", &batches);
        assert_eq!(charts[0].svg.bars.len(), MOST_BARS);
        let svg = charts[0].svg.to_string();
        assert!(
            svg.contains("/jobs/o/batches/199") && !svg.contains("/batches/139\""),
            "{svg}"
        );
        assert!(of_batches("/jobs/o", &[])[0].svg.bars.is_empty());
        assert_eq!(spark("/jobs/o", &[]).bars.len(), 0);
    }
}
