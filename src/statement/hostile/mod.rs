//! Statements that are deeply nested, long, or nonsense. They must be planned or refused, quickly and without
//! ending the process.

mod random;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use futures::StreamExt;

use self::random::{Dice, REPEATED, changed, made, repeated};
use super::*;
use crate::client::ClientPool;
use crate::client::memory::{MemoryCluster, Record};
use crate::config::ConnectionConfig;
use crate::error::Error;
use crate::session::KafkaSessionBuilder;

/// A session over the demo's topics, with ten records each.
fn session() -> SessionContext {
    let cluster = MemoryCluster::builder().build();
    for topic in ["orders", "customers", "payments", "changes"] {
        cluster.create_topic(topic, 2).unwrap();
        for i in 0..10 {
            let value =
                format!(r#"{{"a": [{i}, {{"b": null}}], "amount": {i}.5, "status": "open"}}"#);
            let record = Record::new(value).with_key(format!("{topic}-{i}"));
            cluster.append(topic, i % 2, record).unwrap();
        }
    }
    let pool = ClientPool::with_factory(move |_| Ok(Arc::new(cluster.client())));
    let session = KafkaSessionBuilder::new().pool(pool);
    let config = ConnectionConfig::new("memory:1");
    session.connection(config).build().unwrap()
}

/// Plans a statement down to the physical plan, and reads some of its rows where that is quick. It defines
/// and writes nothing.
async fn run(context: &SessionContext, text: &str) -> Result<()> {
    let state = context.state();
    let first = text.trim_start().get(..6).map(str::to_ascii_uppercase);
    let plan = match first.as_deref() {
        // Like `sql`, but without creating the table.
        Some("CREATE") => match defined(&state, text).await? {
            Some(plan) => plan,
            None => plan(&state, text).await?,
        },
        _ => plan(&state, text).await?,
    };
    if matches!(
        plan,
        LogicalPlan::Ddl(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::Statement(_)
    ) {
        return Ok(());
    }
    let joins = text.matches("JOIN").count() + text.matches(',').count();
    let physical = state.create_physical_plan(&plan).await?;
    if joins < 4 && !text.contains("RECURSIVE") {
        let mut rows = datafusion::physical_plan::execute_stream(physical, context.task_ctx())?;
        while let Some(batch) = rows.next().await {
            batch?;
        }
    }
    Ok(())
}

/// How a statement ended.
#[derive(Debug)]
enum End {
    Planned,
    Refused,
    Panicked,
}

/// Runs statements on a thread with tokio's stack size, and watches over it. A stack overflow ends the test;
/// with `KAFKA_SQL_TEST_TRACE` set, the last statement printed is the culprit.
fn watch(
    statements: impl Iterator<Item = String> + Send + 'static,
    mut see: impl FnMut(&str, End),
) {
    /// Far longer than a statement takes on a busy machine.
    const HANGS: Duration = Duration::from_secs(60);
    let trace = std::env::var_os("KAFKA_SQL_TEST_TRACE").is_some();
    let (tell, told) = mpsc::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let context = session();
        for statement in statements {
            if trace {
                eprintln!("{statement}");
            }
            tell.send((statement.clone(), None)).unwrap();
            let work = || runtime.block_on(run(&context, &statement));
            let end = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(())) => End::Planned,
                Ok(Err(error)) => {
                    if trace {
                        eprintln!("  {}", error.strip_backtrace());
                    }
                    End::Refused
                }
                Err(_) => End::Panicked,
            };
            tell.send((statement, Some(end))).unwrap();
        }
    };
    let worker = std::thread::Builder::new().stack_size(2 << 20);
    let worker = worker.spawn(work).unwrap();
    let mut last = String::new();
    let mut slowest = (Duration::ZERO, String::new());
    let mut begun = Instant::now();
    loop {
        match told.recv_timeout(HANGS) {
            Ok((statement, None)) => (last, begun) = (statement, Instant::now()),
            Ok((statement, Some(end))) => {
                see(&statement, end);
                let took = begun.elapsed();
                if took > Duration::from_secs(1) {
                    println!("{took:?}: {}", begins(&statement));
                }
                slowest = slowest.max((took, statement));
            }
            Err(RecvTimeoutError::Timeout) => panic!("it hangs: {last}"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    worker.join().unwrap();
    println!("the slowest took {:?}: {}", slowest.0, begins(&slowest.1));
}

fn begins(statement: &str) -> String {
    statement.chars().take(300).collect()
}

/// Repeated a few times it is planned, repeated thousands of times it is refused.
#[test]
fn nested_or_chained_statements_are_planned_or_refused() {
    let kinds = (0..REPEATED).flat_map(|what| {
        let times = [1, 3, 12, 20, 40, 100, 240, 400, 1000, 3000, 20_000];
        times.into_iter().map(move |times| repeated(what, times))
    });
    let (mut planned, mut refused) = (0, 0);
    watch(kinds, |statement, end| match end {
        End::Planned => planned += 1,
        End::Refused => refused += 1,
        End::Panicked => panic!("{statement}"),
    });
    assert!(
        planned > 3 * REPEATED && refused > 3 * REPEATED,
        "{planned}, {refused}"
    );
}

/// `KAFKA_SQL_TEST_STATEMENTS` sets how many statements are tried, `KAFKA_SQL_TEST_SEED` which ones.
#[test]
fn random_statements_are_planned_or_refused() {
    let set = |name, default| {
        let value = std::env::var(name).ok();
        value.map_or(default, |v| v.parse().expect("a number"))
    };
    let (many, seed): (u64, u64) = (
        set("KAFKA_SQL_TEST_STATEMENTS", 600),
        set("KAFKA_SQL_TEST_SEED", 0x5eed),
    );
    let examples = examples();
    let mut dice = Dice(seed);
    let statements = (0..many).map(move |n| match n % 2 {
        0 => made(&mut dice),
        _ => {
            let at = usize::try_from(n / 2).unwrap() % examples.len();
            changed(&mut dice, &examples[at])
        }
    });
    let (mut planned, mut panicked) = (0, vec![]);
    watch(statements, |statement, end| match end {
        End::Planned => planned += 1,
        End::Refused => {}
        End::Panicked => panicked.push(statement.to_owned()),
    });
    println!("{planned} of {many} were planned");
    assert!(planned > many / 20, "{planned} of {many}");
    assert_eq!(panicked, Vec::<String>::new(), "seed {seed}");
}

/// The statements in the examples.
fn examples() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql-examples");
    let mut statements = vec![];
    for folder in [folder.clone(), folder.join("jobs")] {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.retain(|file| file.extension().is_some_and(|e| e == "sql"));
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            let parts = text
                .split(";\n")
                .map(|s| s.trim().trim_end_matches(';').to_owned());
            statements.extend(parts.filter(|s| s.lines().any(|l| !l.starts_with("--"))));
        }
    }
    statements
}

fn refusal(text: &str) -> String {
    bounds::check(text, &PostgreSqlDialect {})
        .unwrap_err()
        .to_string()
}

#[test]
fn refusals_name_the_bound() {
    assert_eq!(
        refusal(&repeated(0, 600)),
        "the statement is nested too deeply: 1200 levels of operators, joins and brackets, 1000 are \
         allowed; write IN (…) for a chain of OR, and join queries in several steps"
    );
    let nested = |open: &str, times, close: &str| {
        format!("SELECT {}1{}", open.repeat(times), close.repeat(times))
    };
    for (open, close) in [
        ("CASE WHEN ", " THEN 1 END = 1"),
        ("CAST(", " AS INT)"),
        ("(SELECT ", ")"),
    ] {
        bounds::check(&nested(open, 7, close), &PostgreSqlDialect {}).unwrap();
        let refused = refusal(&nested(open, 19, close));
        assert!(
            refused.contains("compute the inner ones in WITH"),
            "{refused}"
        );
    }
    bounds::check(
        &nested("CASE WHEN true THEN 1 ELSE ", 14, " END"),
        &PostgreSqlDialect {},
    )
    .unwrap();
    assert_eq!(
        refusal(&repeated(6, 51)),
        "the statement is nested too deeply: more than 50 brackets, types or CASEs are nested"
    );
    assert_eq!(
        refusal(&repeated(8, 30)),
        "the statement is nested too deeply: brackets after names are nested so deeply that the \
         parser would read their content millions of times; compute the inner ones in WITH"
    );
    let many = format!(
        "SELECT 1 WHERE 1 IN ({})",
        vec!["(SELECT 1)"; 501].join(", ")
    );
    assert_eq!(
        refusal(&many),
        "the statement has more than 500 queries within it; split it into views or several statements"
    );
    assert_eq!(
        refusal(&repeated(47, 13)),
        "the statement has more than 500 tables when each query in WITH is expanded where it is \
         named; store results in between as tables"
    );
}

#[test]
fn what_takes_twice_as_long_with_each_step_is_bounded() {
    let (lists, ends) = ("List(".repeat(51), ")".repeat(51));
    assert_eq!(
        refusal(&format!("SELECT arrow_cast(NULL, '{lists}Int8{ends}')")),
        "the type in a text is nested too deeply: more than 50 brackets"
    );
    let row = format!("SELECT '{{}}' {}", "-> 'a' ".repeat(15));
    let nested = format!("SELECT {}x{}", "(".repeat(15), " ->> 'a')".repeat(15));
    for text in [row, nested] {
        assert_eq!(
            refusal(&text),
            "more than 14 operators of JSON in a row; write json_get(value, 'a', 'b', …)"
        );
    }
    let cube = vec!["a"; 13].join(", ");
    assert_eq!(
        refusal(&format!("SELECT 1 FROM t GROUP BY CUBE({cube})")),
        "CUBE of more than 12 expressions; write GROUPING SETS"
    );
    // Expressions next to each other do not add up.
    let columns = vec!["x ->> 'a' = 'b' AND f(x -> 'a' -> 'b', y -> 'a')"; 40].join(", ");
    bounds::check(&format!("SELECT {columns}"), &PostgreSqlDialect {}).unwrap();
}

#[test]
fn usual_statements_are_within_the_bounds() {
    let check = |text: &str| bounds::check(text, &PostgreSqlDialect {});
    for statement in examples() {
        check(&statement).unwrap();
    }
    let columns: Vec<String> = (0..3000).map(|i| format!("a{i} + b{i} AS c{i}")).collect();
    check(&format!("SELECT {}", columns.join(", "))).unwrap();
    let cases: Vec<String> = (0..3000)
        .map(|i| format!("WHEN x = {i} THEN 'v{i}'"))
        .collect();
    check(&format!("SELECT CASE {} END", cases.join(" "))).unwrap();
    check(&repeated(38, 100_000)).unwrap();
    check(&repeated(40, 100_000)).unwrap();
    // Naming columns of a query in WITH does not name the query again.
    let columns = vec!["a.x"; 40].join(", ");
    let chain: Vec<String> = (1..40)
        .map(|i| {
            format!(
                "w{i} (x) AS MATERIALIZED (SELECT {columns} FROM w{} AS a)",
                i - 1
            )
        })
        .collect();
    check(&format!(
        "WITH w0 AS (SELECT 1), {} SELECT * FROM w39",
        chain.join(", ")
    ))
    .unwrap();
    // Brackets in names, strings and comments do not count.
    check(&format!(
        "SELECT '{0}', \"{0}\" /* {0} */",
        "(".repeat(5000)
    ))
    .unwrap();
    // `<` after a column whose name is also that of a type.
    check(&vec!["array < 5"; 200].join(" OR ")).unwrap();
    check(&vec!["map < other"; 40].join(" OR ")).unwrap();
}

/// Thirty views, each of which reads the previous one twice.
#[tokio::test]
async fn views_over_views_are_counted_as_written_out() {
    let context = session();
    sql(&context, "CREATE VIEW v0 AS SELECT offset AS x FROM orders")
        .await
        .unwrap();
    let mut refused = None;
    for i in 1..30 {
        let before = i - 1;
        let view = format!(
            "CREATE VIEW v{i} AS SELECT l.x FROM v{before} AS l, v{before} AS r WHERE l.x IN (SELECT x FROM v{before})"
        );
        if let Err(error) = sql(&context, &view).await {
            refused = Some((i, Error::find(&error).unwrap().to_string()));
            break;
        }
    }
    let (i, text) = refused.expect("a plan that large is refused");
    assert!(i > 4, "view {i}");
    assert!(
        text.starts_with("the statement's plan is too large"),
        "{text}"
    );
}
