//! The names of datasets by [OpenLineage's convention](https://openlineage.io/docs/spec/naming).

use serde::Serialize;

/// A dataset: what other programs that report to the same place call it too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) struct Dataset {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Dataset {
    fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// A topic of the cluster at `servers`, which are `host:port,…`. The first one names the cluster, as in the
    /// convention: list the same one first everywhere.
    pub(crate) fn topic(servers: &str, topic: &str) -> Self {
        let first = servers.split(',').next().unwrap_or_default().trim();
        // `PLAINTEXT://host:port` is Kafka's too.
        let address = first.rsplit("://").next().unwrap_or_default();
        let port = match address.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => "",
            _ => ":9092",
        };
        Self::new(format!("kafka://{address}{port}"), topic)
    }

    /// What a sink calls its target (`Sink::target`).
    ///
    /// A table of PostgreSQL without a schema is said to be in `public`. The convention does not know SQLite: its
    /// databases are files. A sink of a program's own has the namespace `kafka-sql`.
    pub(crate) fn target(target: &str) -> Self {
        let (scheme, rest) = match target.split_once(':') {
            Some(parts) if !target.starts_with('/') => parts,
            _ => return Self::new("file", target),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", rest),
        };
        match scheme {
            "kafka" => Self::topic(authority, path),
            "postgres" => {
                let (database, table) = path.split_once('/').unwrap_or(("", path));
                let schema = if table.contains('.') { "" } else { "public." };
                let namespace = format!("postgres://{authority}");
                Self::new(namespace, format!("{database}.{schema}{table}"))
            }
            "sqlite" => Self::new("file", path),
            "file" => Self::new("file", format!("/{path}")),
            "s3" | "s3a" => Self::new(format!("s3://{authority}"), or_root(path)),
            "gs" => Self::new(format!("gs://{authority}"), or_root(path)),
            "abfs" | "abfss" | "az" | "azure" => {
                Self::new(format!("abfss://{authority}"), or_root(path))
            }
            _ => Self::new("kafka-sql", target),
        }
    }
}

/// A bucket itself is its root.
fn or_root(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_by_the_first_broker() {
        for (servers, namespace) in [
            ("localhost:9092", "kafka://localhost:9092"),
            ("a:9093, b:9093", "kafka://a:9093"),
            ("SASL_SSL://a:9093,b:9093", "kafka://a:9093"),
            ("a", "kafka://a:9092"),
            ("[::1]:9092", "kafka://[::1]:9092"),
        ] {
            let named = Dataset::topic(servers, "orders");
            assert_eq!(named, Dataset::new(namespace, "orders"), "{servers}");
        }
    }

    #[test]
    fn targets_are_named_by_the_convention() {
        for (target, namespace, name) in [
            ("/data/orders", "file", "/data/orders"),
            ("/data/a:b", "file", "/data/a:b"),
            ("s3://lake/orders", "s3://lake", "orders"),
            ("s3://lake", "s3://lake", "/"),
            ("gs://lake/a/b", "gs://lake", "a/b"),
            (
                "abfss://c@a.dfs.core.windows.net/x",
                "abfss://c@a.dfs.core.windows.net",
                "x",
            ),
            (
                "postgres://db:5432/shop/orders",
                "postgres://db:5432",
                "shop.public.orders",
            ),
            (
                "postgres://db:5432/shop/sales.orders",
                "postgres://db:5432",
                "shop.sales.orders",
            ),
            (
                "sqlite:/data/counts.db#per_minute",
                "file",
                "/data/counts.db#per_minute",
            ),
            ("kafka://a:9092,b:9092/orders", "kafka://a:9092", "orders"),
            ("memory:out", "kafka-sql", "memory:out"),
        ] {
            let named = Dataset::target(target);
            assert_eq!(named, Dataset::new(namespace, name), "{target}");
        }
    }
}
