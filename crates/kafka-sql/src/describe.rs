//! `describe TOPIC`: what a topic is, on one screen or one object a partition.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use arrow::datatypes::Fields;
use datafusion_kafka::statement;
use datafusion_kafka::text::visible;

use crate::failure::{Exit, Failure};
use crate::inspect::{columns_sql, literal};
use crate::output::{Destination, Format, OutputOptions};
use crate::script::Script;
use crate::session::{Session, TopicFacts};
use crate::ui::{self, Ui};

/// Shows a topic.
///
/// As a table: its settings, its partitions and its columns. In the other formats: one row for
/// each partition, with the settings repeated.
///
/// # Errors
/// When the topic does not exist or may not be described.
pub(crate) async fn run(
    session: Arc<Session>,
    topic: String,
    options: OutputOptions,
    destination: Arc<Destination>,
    mut ui: Ui,
) -> Result<(), Failure> {
    let Some(facts) = session.topic_facts(&topic).await? else {
        // The library's own error names topics that look like it.
        let script = Script::parse(&partitions_sql(&topic), None)?;
        script.run(session, options, destination, ui).await?;
        return Err(Failure::new(
            Exit::DataUnavailable,
            format!("topic '{topic}' was not there a moment ago"),
        ));
    };
    if options.format != Format::Table {
        let script = Script::parse(&rows_sql(&topic, &facts), None)?;
        script.run(session, options, destination, ui).await?;
        return Ok(());
    }
    ui.summary = false;
    let mut sink = destination.writer()?;
    sink.write_all(heading(&topic, &facts).as_bytes())
        .and_then(|()| sink.flush())
        .map_err(|e| Failure::io("writing the result failed", &e))?;
    drop(sink);
    for sql in [partitions_sql(&topic), columns_sql(&topic)] {
        let script = Script::parse(&sql, None)?;
        script
            .run(
                Arc::clone(&session),
                options.clone(),
                Arc::clone(&destination),
                ui,
            )
            .await?;
    }
    Ok(())
}

/// Prints the CREATE EXTERNAL TABLE statement whose columns a sample of the topic's values has.
///
/// # Errors
/// When the topic is empty, or its values are no JSON objects.
pub(crate) async fn infer(
    session: Arc<Session>,
    topic: String,
    destination: Arc<Destination>,
) -> Result<(), Failure> {
    // A prefix that no field begins with keeps Kafka's columns apart from the fields.
    let sampled = format!(
        "SELECT * FROM kafka({}, 'start:end', 'value.format=json', 'metadata.columns=offset', \
         'metadata.prefix={PREFIX}')",
        literal(&topic)
    );
    let frame = session.sql(&sampled).await?;
    let fields = frame.schema().fields().iter();
    let of_value = fields.filter(|field| *field.name() != format!("{PREFIX}offset"));
    let fields: Fields = of_value.cloned().collect();
    let options = [("value.format", "json")];
    let statement = statement::create_table(&topic, &topic, &fields, &options);
    if destination.is_stdout()
        && io::stdout().is_terminal()
        && visible(&statement, &['\n']) != statement
    {
        ui::note(
            "kafka-sql: names of fields have characters that a terminal does not show; the statement \
             with them is what -o FILE or a pipe gets",
        );
    }
    let mut sink = destination.writer()?;
    writeln!(sink, "{statement};")
        .and_then(|()| sink.flush())
        .map_err(|e| Failure::io("writing the result failed", &e))
}

const PREFIX: &str = "kafka-sql:";

fn heading(topic: &str, facts: &TopicFacts) -> String {
    const UNKNOWN: &str = "unknown (the cluster does not tell)";
    // Lines of our own, with what the cluster says in them.
    let show = |value: &Option<String>| {
        let value = value.as_deref().unwrap_or(UNKNOWN);
        visible(value, &[]).into_owned()
    };
    let topic = visible(topic, &[]);
    format!(
        "topic           {topic}\n\
         topic id        {}\n\
         internal        {}\n\
         timestamp type  {}\n\
         cleanup policy  {}\n",
        show(&facts.id),
        if facts.internal { "yes" } else { "no" },
        show(&facts.timestamp_type),
        show(&facts.cleanup_policy),
    )
}

const PARTITION_COLUMNS: &str =
    "partition, leader, replicas, isr, log_start_offset, high_watermark, last_stable_offset";

fn partitions_sql(topic: &str) -> String {
    format!(
        "SELECT {PARTITION_COLUMNS} FROM kafka_offsets({}) ORDER BY partition",
        literal(topic)
    )
}

fn rows_sql(topic: &str, facts: &TopicFacts) -> String {
    let value = |value: &Option<String>| {
        value
            .as_deref()
            .map_or_else(|| "CAST(NULL AS VARCHAR)".to_owned(), literal)
    };
    format!(
        "SELECT topic, {} AS topic_id, {} AS internal, {} AS timestamp_type, {} AS cleanup_policy, \
         {PARTITION_COLUMNS} FROM kafka_offsets({}) ORDER BY partition",
        value(&facts.id),
        facts.internal,
        value(&facts.timestamp_type),
        value(&facts.cleanup_policy),
        literal(topic)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_said() {
        let facts = TopicFacts {
            id: Some("abc".into()),
            internal: false,
            timestamp_type: None,
            cleanup_policy: Some("compact".into()),
        };
        let heading = heading("orders", &facts);
        assert!(heading.contains("topic id        abc\n"), "{heading}");
        assert!(heading.contains("timestamp type  unknown"), "{heading}");
        let sql = rows_sql("o'x", &facts);
        assert!(
            sql.contains("CAST(NULL AS VARCHAR) AS timestamp_type"),
            "{sql}"
        );
        assert!(sql.contains("kafka_offsets('o''x')"), "{sql}");
    }
}
