//! Parts of messages.

pub(super) fn did_you_mean(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("; did you mean {}?", names.join(", "))
}

/// The command with which an administrator grants a right.
pub(super) fn grant(operation: &str, resource: &str) -> String {
    let on = match resource.split_once(' ') {
        Some(("topic", name)) => format!("--topic {name}"),
        Some(("group", name)) => format!("--group {name}"),
        Some(("the", "cluster")) => "--cluster".to_owned(),
        Some(("the", id)) if id.starts_with("transactional id") => {
            "--transactional-id PREFIX --resource-pattern-type prefixed".to_owned()
        }
        _ => return String::new(),
    };
    // DESCRIBE_CONFIGS is DescribeConfigs to the tool.
    let words = operation.split('_').map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_owned() + &rest.to_lowercase()
    });
    let operation: String = words.collect();
    format!("; grant it: kafka-acls --add --allow-principal User:NAME --operation {operation} {on}")
}

/// Which brokers have a partition, and which of them must come back for it to have a leader.
pub(super) fn replicas_in_words(replicas: &[i32], in_sync: &[i32]) -> String {
    let list = |ids: &[i32]| match ids {
        [] => "none".to_owned(),
        ids => ids
            .iter()
            .map(i32::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    format!(
        "replicas: {}, in sync: {}; one that is in sync must be up",
        list(replicas),
        list(in_sync)
    )
}

/// The candidates that look most like `name`, the nearest first, at most three.
#[doc(hidden)]
pub fn nearest_names<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    /// Below this Jaro-Winkler similarity a name is no help (0 to 1).
    const SIMILAR: f64 = 0.75;
    let wanted = name.to_lowercase();
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(&wanted, &c.to_lowercase()), c))
        .filter(|(score, _)| *score >= SIMILAR)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored
        .into_iter()
        .take(3)
        .map(|(_, c)| c.to_owned())
        .collect()
}

/// The message of another library's error with those of its causes, which few libraries repeat.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}
