//! The formats of a table, as an export notes them and reads with them again.

use super::{KafkaTable, masked};
use crate::error::Result;
use crate::formats::RecordedFormats;

impl KafkaTable {
    /// Whether its scans can be executed on other machines: not over a client that was made by hand.
    pub(crate) fn travels(&self) -> bool {
        self.writing.connection.is_some()
    }

    /// How the table's records become rows.
    ///
    /// # Errors
    /// Never, but for columns that Arrow cannot write down.
    pub(crate) fn recorded_formats(&self) -> Result<RecordedFormats> {
        RecordedFormats::of(self.formats())
    }

    /// The same topics, with rows made as they were then.
    ///
    /// # Errors
    /// When a schema's file or registry is needed and not there.
    pub(crate) async fn with_recorded(&self, recorded: &RecordedFormats) -> Result<Self> {
        let formats = recorded.formats(self.formats()).await?;
        let decoder = formats.decoder()?;
        let mut table = self.clone();
        let masks = masked::masks(&table.reading.selection);
        masked::check(&formats, masks.as_ref())?;
        table.reading.decoding = masked::described(formats.description(&decoder), masks.as_ref());
        table.reading.decoder = decoder;
        table.writing.formats = formats;
        Ok(table)
    }
}
