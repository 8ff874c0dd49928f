//! `kafka-sql mcp` as a process: lines of JSON-RPC on standard input and output.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

struct Client {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    last: u64,
}

impl Client {
    fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kafka-sql"))
            .arg("demo")
            .args(flags)
            .arg("mcp")
            .env_remove("KAFKA_SQL_CONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the shell starts");
        let from = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut client = Self {
            to: child.stdin.take(),
            from,
            child,
            last: 0,
        };
        let begun = client.ask(
            "initialize",
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}),
        );
        assert_eq!(begun["serverInfo"]["name"], "kafka-sql");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    fn send(&mut self, message: &Value) {
        let to = self.to.as_mut().expect("it was not closed");
        writeln!(to, "{message}").expect("the server reads");
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let id = self.last;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        let mut line = String::new();
        self.from.read_line(&mut line).expect("the server answers");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(answer["id"], id, "{answer}");
        answer["result"].clone()
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        answer["structuredContent"].clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_program_asks_and_leaves() {
    let mut client = Client::start(&[
        "-X",
        "mask=orders.item=last4, customers.name",
        "--max-scan-records",
        "5000",
    ]);
    let tools = client.ask("tools/list", json!({}));
    assert_eq!(tools["tools"].as_array().unwrap().len(), 5);

    let topics = client.call("list_topics", json!({"pattern": "^ord"}));
    assert_eq!(topics["topics"][0]["topic"], "orders");
    let counted = client.call("query", json!({"sql": "SELECT count(*) AS n FROM orders"}));
    assert_eq!(counted["rows"], json!([{"n": 1000}]));
    assert_eq!(counted["complete"], true);
    assert_eq!(counted["budget"]["max.scan.records"], "5000");
    assert_eq!(
        counted["receipt"]["statements"].as_array().unwrap().len(),
        1
    );

    let found = client.call(
        "search",
        json!({"topic": "orders", "contains": "espresso machine"}),
    );
    assert_eq!(
        (&found["rows"], &found["complete"]),
        (&json!([]), &json!(true))
    );
    let found = client.call(
        "search",
        json!({"topic": "orders", "contains": "****hine", "max_rows": 3}),
    );
    assert_eq!(found["rows"].as_array().unwrap().len(), 3);
    assert_eq!(found["complete"], false);
    let read = client.call(
        "read_records",
        json!({"topic": "customers", "partition": 0, "offset": 0}),
    );
    assert!(
        read["rows"][0]["value"]
            .as_str()
            .unwrap()
            .contains("\"name\":null"),
        "{read}"
    );

    let refused = client.call(
        "query",
        json!({"sql": "COPY (SELECT 1) TO '/tmp/kafka-sql-never.csv'"}),
    );
    assert!(refused["error"].is_string());

    // It ends when the program leaves.
    client.to = None;
    assert!(client.child.wait().unwrap().success());
}
