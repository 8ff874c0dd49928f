//! `kafka-sql clean`: removes what crashed jobs have left in a parquet location.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use clap::Args;
use datafusion_kafka::sink::parquet;
use datafusion_kafka::store::Store;

use crate::failure::Failure;
use crate::ui::{self, Ui};

/// `kafka-sql clean`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CleanArgs {
    /// A folder or URL that jobs write Parquet files to
    #[arg(value_name = "URL")]
    location: String,
    /// Keep files that were written within this time, which must be longer than any batch takes
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::job::time)]
    older_than: Duration,
    /// List the files without removing them
    #[arg(long)]
    dry_run: bool,
}

/// Removes the orphans of a location and lists them.
///
/// # Errors
/// When the location cannot be read, or a file cannot be removed.
pub(crate) async fn run(args: &CleanArgs, ui: Ui) -> Result<RecordBatch, Failure> {
    let store = Store::open(&args.location, &HashMap::new())?;
    let orphans = parquet::clean(&store, args.older_than, args.dry_run).await?;
    if !ui.quiet {
        let bytes: u64 = orphans.iter().map(|orphan| orphan.bytes).sum();
        let done = if args.dry_run { "found" } else { "removed" };
        ui::note(format_args!(
            "kafka-sql: {done} {} staged files of no batch, {bytes} bytes, in {}",
            orphans.len(),
            store.url()
        ));
    }
    let names = orphans.iter().map(|orphan| Some(orphan.name.as_str()));
    let bytes = orphans.iter().map(|orphan| orphan.bytes);
    let ages = orphans.iter().map(|orphan| orphan.age.as_secs());
    let columns: [(&str, ArrayRef); 3] = [
        ("file", Arc::new(names.collect::<StringArray>())),
        ("bytes", Arc::new(bytes.collect::<UInt64Array>())),
        ("age_seconds", Arc::new(ages.collect::<UInt64Array>())),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}
