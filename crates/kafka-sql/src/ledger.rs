//! What became of the offsets that a statement read: a line, or a table of its ranges.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_kafka::range::{Ledger, LedgerCounts, RangeLedger};

use crate::failure::Failure;
use crate::output::{self, Drawing, Expanded, Format, OutputOptions};
use crate::session;
use crate::ui::{self, Ui, number, thousands};

/// Says on standard error what became of the offsets that the plan's scans read. A plan without scans
/// prints nothing.
pub(crate) fn report(
    plan: &Arc<dyn ExecutionPlan>,
    options: &OutputOptions,
    ui: Ui,
) -> Result<(), Failure> {
    let summary = ui.summary && !ui.quiet;
    if !ui.ledger && !summary {
        return Ok(());
    }
    let ledger = datafusion_kafka::scan::ledger(plan);
    if ledger.is_empty() {
        return Ok(());
    }
    if ui.ledger {
        match options.format {
            Format::Json | Format::Ndjson => lines(&ledger),
            _ => table(&ledger, options)?,
        }
    }
    if summary || !matches!(options.format, Format::Json | Format::Ndjson) {
        let mut line = summary_line(&ledger);
        if let Some(held) = ui::held_back(session::scan_progress(plan).throttled_ms) {
            line.push_str("; ");
            line.push_str(&held);
        }
        ui::note(line);
    }
    Ok(())
}

/// One JSON object for each range.
fn lines(ledger: &Ledger) {
    for range in &ledger.ranges {
        // Strings and numbers, which JSON always can.
        if let Ok(json) = serde_json::to_string(range) {
            ui::note(json);
        }
    }
}

/// The ranges, with those classes that are not empty everywhere.
fn table(ledger: &Ledger, options: &OutputOptions) -> Result<(), Failure> {
    let batch = rows(&ledger.ranges)?;
    let options = OutputOptions {
        format: Format::Table,
        path: None,
        // It follows the result, on another stream.
        table: Drawing {
            pager: false,
            expanded: Expanded::Off,
            ..options.table.clone()
        },
        ..options.clone()
    };
    let sink: Box<dyn Write + Send> = Box::new(std::io::stderr());
    let mut writer = output::open(&options, &batch.schema(), sink, true)?;
    writer.write(&batch)?;
    writer.finish()
}

fn rows(ranges: &[RangeLedger]) -> Result<RecordBatch, Failure> {
    let column = |of: fn(&RangeLedger) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(ranges.iter().map(of)))
    };
    let topics = ranges.iter().map(|r| r.range.topic().as_ref());
    let partitions = ranges.iter().map(|r| r.range.partition());
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("topic", Arc::new(StringArray::from_iter_values(topics))),
        (
            "partition",
            Arc::new(Int32Array::from_iter_values(partitions)),
        ),
        ("start", column(|r| r.range.start())),
        ("end", column(|r| r.range.end())),
    ];
    for (class, name) in LedgerCounts::NAMES.iter().enumerate() {
        let counts: UInt64Array = ranges
            .iter()
            .map(|range| Some(range.counts.values()[class]))
            .collect();
        if class == 0 || counts.values().iter().any(|count| *count > 0) {
            columns.push((name, Arc::new(counts)));
        }
    }
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// `12 ranges, 1,000,000 offsets: 999,998 delivered, 2 control`.
fn summary_line(ledger: &Ledger) -> String {
    let counts = ledger.total();
    let mut text = format!(
        "{}, {}: {} delivered",
        number(ledger.ranges.len() as u64, "range"),
        number(counts.total(), "offset"),
        thousands(counts.delivered)
    );
    for (name, count) in LedgerCounts::NAMES.iter().zip(counts.values()).skip(1) {
        if count > 0 {
            text.push_str(&format!(", {} {name}", thousands(count)));
        }
        if count > 0 && *name == "untold" {
            text.push_str(" (control, aborted or gap)");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use datafusion_kafka::range::OffsetRange;

    use super::*;

    fn ledger(partition: i32, counts: LedgerCounts) -> RangeLedger {
        let end = i64::try_from(counts.total()).unwrap();
        let range = OffsetRange::try_new("orders", partition, 0, end).unwrap();
        let mut ledger = RangeLedger::unread(range, false);
        ledger.counts = counts;
        ledger
    }

    #[test]
    fn the_line_names_what_is_there() {
        let counts = LedgerCounts {
            delivered: 1_999_998,
            control: 2,
            ..LedgerCounts::default()
        };
        let mut all = Ledger {
            ranges: vec![ledger(0, counts)],
        };
        assert_eq!(
            summary_line(&all),
            "1 range, 2,000,000 offsets: 1,999,998 delivered, 2 control"
        );
        let counts = LedgerCounts {
            untold: 3,
            unread: 7,
            ..LedgerCounts::default()
        };
        all.ranges.push(ledger(1, counts));
        assert_eq!(
            summary_line(&all),
            "2 ranges, 2,000,010 offsets: 1,999,998 delivered, 2 control, \
             3 untold (control, aborted or gap), 7 unread"
        );
    }

    #[test]
    fn the_table_leaves_out_classes_that_are_empty() {
        let counts = LedgerCounts {
            delivered: 5,
            lost: 1,
            ..LedgerCounts::default()
        };
        let batch = rows(&[ledger(0, counts), ledger(1, LedgerCounts::default())]).unwrap();
        let schema = batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(
            names,
            ["topic", "partition", "start", "end", "delivered", "lost"]
        );
    }
}
