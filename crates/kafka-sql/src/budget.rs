//! The most that statements may read: the flags, and what the interactive shell allows.

use clap::Args;
use datafusion_kafka::config::{ConnectionConfig, ScanBudget};

use crate::failure::Failure;

/// What the interactive shell reads without asking: minutes of work on a fast network, and a look at most topics.
const INTERACTIVE: [(&str, &str); 3] = [
    ("max.scan.records", "1G"),
    ("max.scan.bytes", "10G"),
    ("max.scan.time", "1h"),
];

/// The most that the scans of a statement may read together.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Budget")]
pub(crate) struct BudgetArgs {
    /// Refuse statements over more records, such as 1000000 or 50M [default: no limit; 1G in the interactive shell]
    #[arg(long, global = true, value_name = "N")]
    max_scan_records: Option<String>,
    /// Refuse statements over more bytes, such as 500M or 10G [default: no limit; 10G in the interactive shell]
    #[arg(long, global = true, value_name = "SIZE")]
    max_scan_bytes: Option<String>,
    /// Stop statements that read for longer, such as 30s or 10m [default: no limit; 1h in the interactive shell]
    #[arg(long, global = true, value_name = "SPAN")]
    max_scan_time: Option<String>,
}

impl BudgetArgs {
    /// What was given, as settings.
    ///
    /// # Errors
    /// When a value is none.
    pub(crate) fn settings(&self) -> Result<ConnectionConfig, Failure> {
        let given = [
            &self.max_scan_records,
            &self.max_scan_bytes,
            &self.max_scan_time,
        ];
        let mut settings = ConnectionConfig::empty();
        for (key, value) in ScanBudget::KEYS.into_iter().zip(given) {
            if let Some(value) = value {
                let refused = |e: datafusion_kafka::Error| Failure::usage(e.to_string());
                settings.set(key, value).map_err(refused)?;
            }
        }
        Ok(settings)
    }

    /// Refuses the flags for a command that they mean nothing to.
    ///
    /// # Errors
    /// When there are any.
    pub(crate) fn refuse_for(&self, command: &str) -> Result<(), Failure> {
        match self.settings()?.scan_budget().is_unlimited() {
            true => Ok(()),
            false => Err(Failure::usage(format!(
                "--max-scan-… limits statements, jobs and exports; '{command}' runs none of them"
            ))),
        }
    }
}

/// The settings with the interactive shell's budget, where they have none.
pub(crate) fn with_defaults(config: &mut ConnectionConfig) {
    for (key, limit) in INTERACTIVE {
        if config.get(key).is_none() {
            // The values fit.
            let _ = config.set(key, limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        budget: BudgetArgs,
    }

    fn settings(line: &str) -> Result<ConnectionConfig, Failure> {
        let flags = Flags::try_parse_from(line.split(' ')).unwrap();
        flags.budget.settings()
    }

    #[test]
    fn flags_are_settings_and_the_shell_fills_in_the_rest() {
        let mut config = settings("x --max-scan-records 5M --max-scan-time none").unwrap();
        let given = config.scan_budget();
        assert_eq!(
            (given.records, given.bytes, given.time),
            (Some(5_000_000), None, None)
        );
        with_defaults(&mut config);
        let filled = config.scan_budget();
        assert_eq!(
            (filled.records, filled.bytes, filled.time),
            (Some(5_000_000), Some(10 << 30), None)
        );
        let refused = settings("x --max-scan-bytes much").unwrap_err();
        assert_eq!(refused.exit_code(), 2);
    }
}
