//! The numbers of the port, compared with what its clients have done.

use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::*;

impl Served {
    /// The value of a series without `kafka_sql_postgres_`.
    pub(super) fn metric(&self, series: &str) -> u64 {
        let mut registry = Registry::default();
        self.port.meter().register(&mut registry);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        let name = format!("kafka_sql_postgres_{series} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value
            .unwrap_or_else(|| panic!("no {name}in {text}"))
            .parse()
            .unwrap()
    }

    fn statements(&self, result: &str) -> u64 {
        self.metric(&format!("statements_total{{result=\"{result}\"}}"))
    }
}

#[tokio::test]
async fn statements_are_counted_by_how_they_end() {
    let served = serve(
        "max_statements = 1\nmax_queued = 1",
        "max_scan_records = 50",
    )
    .await;
    let (ada, bob) = (served.ada().await, served.connect("bob").await.unwrap());
    assert_eq!(served.metric("connections"), 2);
    assert_eq!(served.metric("logins_total{result=\"ok\"}"), 2);

    assert_eq!(ada.rows("SELECT offset FROM few").await.unwrap().len(), 3);
    bob.query("SELECT offset FROM few", &[]).await.unwrap();
    assert_eq!(served.statements("ok"), 2);
    assert_eq!(served.metric("rows_total"), 6);
    for sql in ["SELECT nothing FROM few", "SELEC 1"] {
        ada.failure(sql).await;
    }
    assert_eq!(served.statements("failed"), 2);
    // Not allowed, and over the budget.
    for sql in ["DROP TABLE few", "SELECT count(*) FROM orders"] {
        ada.failure(sql).await;
    }
    assert_eq!(served.statements("refused"), 2);

    // One runs, one waits, a third finds no place.
    served.cluster.stall("orders", 0);
    let cancel = bob.cancel_token();
    let third = served.ada().await;
    let others = async {
        until("one runs", async || {
            served.metric("statements_running") == 1
        })
        .await;
        until("one waits", async || {
            served.metric("statements_queued") == 1
        })
        .await;
        assert_eq!(third.failure("SELECT 3").await.0, "53000");
        cancel.cancel_query(NoTls).await.unwrap();
    };
    let slow = bob.failure("SELECT count(*) FROM orders");
    let waiting = async {
        until("one runs", async || {
            served.metric("statements_running") == 1
        })
        .await;
        ada.value("SELECT 2").await
    };
    let (slow, waiting, ()) = tokio::join!(slow, waiting, others);
    assert_eq!((slow.0.as_str(), waiting.as_str()), ("57014", "2"));
    assert_eq!(served.statements("refused"), 3);
    assert_eq!(served.statements("cancelled"), 1);
    assert_eq!(served.metric("statements_queued"), 0);

    served.cluster.resume("orders", 0);
    // A cursor that is not read to its end.
    ada.rows("BEGIN; DECLARE c CURSOR FOR SELECT offset FROM few; FETCH 1 FROM c; CLOSE c; COMMIT")
        .await
        .unwrap();
    assert_eq!(served.statements("ended"), 1);
    let all = ["ok", "failed", "refused", "cancelled", "ended"];
    let all: u64 = all.map(|result| served.statements(result)).iter().sum();
    assert_eq!(served.metric("statement_duration_seconds_count"), all);
    until("its place is free", async || {
        served.metric("statements_running") == 0
    })
    .await;
}

#[tokio::test]
async fn logins_are_counted_by_how_they_end() {
    let served = serve("max_connections = 1", "").await;
    let mut wrong = served.config("ada");
    wrong.password("wrong");
    assert!(wrong.connect(NoTls).await.is_err());
    // Whoever does not log in keeps out nobody, and goes when others come.
    let mut silent = TcpStream::connect(served.port.address()).await.unwrap();
    let ada = served.ada().await;
    silent.read_to_end(&mut vec![]).await.unwrap();
    assert_eq!(served.metric("connections"), 1);
    assert!(served.connect("ada").await.is_err());
    for (result, count) in [("ok", 1), ("failed", 1), ("refused", 2)] {
        assert_eq!(
            served.metric(&format!("logins_total{{result=\"{result}\"}}")),
            count
        );
    }
    drop(ada);
}
