//! What the crossings say in SQL.

use super::World;
use super::table::Cell;
use super::table::model::{Around, Format, Part, Policy};

impl World {
    pub(super) fn options(&self) -> Vec<(String, String)> {
        let Cell { format, policy, .. } = self.cell;
        let part = self.part();
        let mut options = vec![
            (format!("{part}.format"), format.name().to_owned()),
            ("on.bad.row".to_owned(), policy.name().to_owned()),
        ];
        if let (Some((end, _)), false) = (format.schema(), format.asks_registry()) {
            let file = self.text(&format!("row.{end}"));
            options.push((format!("{part}.schema.file"), file));
        }
        if format.schema().is_some_and(|(end, _)| end == "proto") {
            options.push((format!("{part}.schema.message"), "Row".to_owned()));
        }
        if self.cell.around == Around::Scarce {
            options.push(("max.scan.records".to_owned(), "5".to_owned()));
        }
        if let Some(loss) = self.cell.around.on_data_loss() {
            let starts = format!("{{\"{}\":{{\"0\":0,\"1\":0}}}}", self.topic);
            options.push(("starting.offsets".to_owned(), starts));
            options.push(("on.data.loss".to_owned(), loss.to_owned()));
        }
        if policy == Policy::Dlq {
            options.push(("dlq.location".to_owned(), self.text("dead")));
        }
        options
    }

    pub(super) fn part(&self) -> &'static str {
        match self.cell.part {
            Part::Key => "key",
            Part::Value => "value",
        }
    }

    /// The statement that makes the table `t`.
    pub(super) fn table(&self) -> String {
        let columns = self
            .cell
            .format
            .declared()
            .map(|columns| self.types(columns, &[]));
        let options = self.options();
        let options = options
            .iter()
            .map(|(name, value)| format!("'{name}' '{value}'"));
        format!(
            "CREATE EXTERNAL TABLE t {} STORED AS KAFKA LOCATION '{}' OPTIONS ({})",
            columns.unwrap_or_default(),
            self.topic,
            options.collect::<Vec<_>>().join(", ")
        )
    }

    /// Columns as a statement declares them, after others that are not part of the format.
    pub(super) fn types(&self, columns: &[(&str, &str)], others: &[&str]) -> String {
        let columns = columns.iter();
        let columns = columns.map(|(name, of)| format!("\"{}\" {of}", self.cell.column(name)));
        let all = others
            .iter()
            .map(|other| (*other).to_owned())
            .chain(columns);
        format!("({})", all.collect::<Vec<_>>().join(", "))
    }

    /// The columns with their actual types.
    pub(super) fn typed(&self) -> String {
        let columns = self.cell.format.columns().iter();
        let columns = columns.map(|(name, _)| format!(", \"{}\"", self.cell.column(name)));
        let bad = if self.cell.says_why() {
            ", _error IS NOT NULL AS bad"
        } else {
            ""
        };
        format!("partition, \"offset\"{}{bad}", columns.collect::<String>())
    }

    /// The columns to compare. Bytes, and numbers that JSON would round, are text.
    pub(super) fn columns(&self, table: &str) -> String {
        self.compared(table, "\"_error\" IS NOT NULL AS bad")
    }

    pub(super) fn compared(&self, table: &str, bad: &str) -> String {
        let mut columns = vec![format!("{table}partition"), format!("{table}\"offset\"")];
        for (name, _) in self.cell.format.columns() {
            let name = self.cell.column(name);
            let column = format!("{table}\"{name}\"");
            columns.push(match (self.cell.format, name.as_str()) {
                (Format::Raw, _) => format!("encode({column}, 'hex') AS \"{name}\""),
                (Format::Float | Format::Double, _) => {
                    format!("CAST(CAST({column} AS DOUBLE) AS VARCHAR) AS \"{name}\"")
                }
                (_, "amount" | "key_amount") => format!("CAST({column} AS VARCHAR) AS \"{name}\""),
                _ => column,
            });
        }
        if self.cell.says_why() {
            columns.push(format!("{table}{bad}"));
        }
        columns.join(", ")
    }
}
