//! Joins, windows, limits and orders over a topic whose partitions are of very different sizes.

use super::Sessions;
use crate::engines::cluster;
use crate::engines::{QUERIES, TYPED};

/// Rows of a statement that stay in the session.
const KEPT: &str =
    "CREATE TABLE kept AS SELECT partition, count(*) AS n FROM orders GROUP BY partition";

const MORE: &[&str] = &[
    // Windows, with and without partitions, over sorted and unsorted input.
    "SELECT id, lag(id) OVER (ORDER BY id) AS before, lead(id, 2) OVER (ORDER BY id) AS after FROM o",
    "SELECT id, rank() OVER (PARTITION BY customer ORDER BY amount) AS r, ntile(3) OVER (PARTITION BY customer ORDER BY id) AS t FROM o",
    "SELECT partition, \"offset\", count(*) OVER (PARTITION BY partition ORDER BY \"offset\" ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS n FROM orders",
    "SELECT partition, first_value(\"offset\") OVER (PARTITION BY partition ORDER BY \"offset\" DESC) AS last FROM orders",
    "SELECT partition, sum(n) OVER (ORDER BY partition) AS running FROM (SELECT partition, count(*) AS n FROM orders GROUP BY partition) ORDER BY partition",
    // The order of a log, which plans rely on.
    "SELECT partition, \"offset\" FROM orders WHERE partition = 0 ORDER BY \"offset\" DESC LIMIT 5",
    "SELECT partition, \"offset\", key FROM orders ORDER BY \"offset\" DESC, partition DESC LIMIT 25",
    "SELECT \"offset\" FROM orders WHERE partition = 4 ORDER BY \"offset\" DESC LIMIT 5 OFFSET 3",
    "SELECT partition, \"offset\" FROM orders ORDER BY partition DESC, \"offset\" DESC",
    "SELECT partition, \"offset\" FROM orders ORDER BY partition, \"offset\" LIMIT 10 OFFSET 395",
    "SELECT partition, array_agg(\"offset\" ORDER BY \"offset\") FROM orders GROUP BY partition ORDER BY partition",
    "SELECT partition, last_value(key ORDER BY \"offset\"), first_value(key ORDER BY \"offset\") FROM orders GROUP BY partition ORDER BY partition",
    "SELECT DISTINCT partition, key FROM orders",
    "SELECT count(*) FROM (SELECT DISTINCT key FROM orders LIMIT 11)",
    "SELECT count(*) FROM (SELECT * FROM orders WHERE partition <> 0 LIMIT 50 OFFSET 20)",
    "SELECT * FROM orders LIMIT 0",
    // Joins of each kind, with themselves too.
    "SELECT count(*), count(a.\"offset\"), count(b.\"offset\") FROM orders a FULL JOIN orders b ON a.partition = b.partition AND a.\"offset\" = b.\"offset\" + 1",
    "SELECT a.partition, a.\"offset\" FROM orders a LEFT JOIN orders b ON a.partition = b.partition AND a.\"offset\" = b.\"offset\" + 1 WHERE b.\"offset\" IS NULL",
    "SELECT c.name, count(o.id) FROM o RIGHT JOIN c ON o.customer = c.id AND o.amount > 90 GROUP BY c.name",
    "SELECT count(*) FROM c a CROSS JOIN c b",
    "SELECT count(*) FROM o JOIN c ON o.customer < c.id",
    "SELECT id FROM o EXCEPT SELECT id FROM o WHERE customer = 3",
    "SELECT customer FROM o INTERSECT SELECT id FROM c",
    "SELECT o.id FROM o JOIN c ON o.customer = c.id JOIN orders k ON k.\"offset\" = o.id AND k.partition = o.customer",
    "SELECT c.name, (SELECT max(amount) FROM o WHERE o.customer = c.id) AS most FROM c",
    // One task reads the whole outer side, on the coordinator.
    "SELECT count(*) FROM o WHERE customer NOT IN (SELECT customer FROM o WHERE amount > 99)",
    "SELECT count(*), sum(o.amount) FROM o FULL JOIN c ON o.customer < c.id AND o.amount > 90",
    // Aggregates.
    "SELECT partition, key, count(*) FROM orders GROUP BY ROLLUP (partition, key)",
    "SELECT customer, count(DISTINCT amount), median(amount), stddev(amount) > 0 FROM o GROUP BY customer HAVING count(*) > 70 ORDER BY customer",
    "SELECT bit_xor(id), bool_and(id >= 0), min(amount), string_agg(CAST(id AS VARCHAR), ',' ORDER BY id) FROM o",
    "SELECT h['key'], count(*) FROM (SELECT unnest(headers) AS h FROM orders) GROUP BY 1",
    "SELECT unnest(range(0, id % 3)) AS n, count(*) FROM o GROUP BY n",
    "SELECT topic, partition, min(timestamp), max(timestamp_type) FROM orders GROUP BY topic, partition",
    "SELECT date_bin(INTERVAL '5 minutes', timestamp) AS slot, count(*) FROM orders GROUP BY slot ORDER BY slot",
    "SELECT sum(CASE WHEN key IS NULL THEN 1 ELSE 0 END), count(value) FROM kafka('orders', '-5')",
    "SELECT start_offset, end_offset, partition FROM kafka_offsets('orders', '-1') ORDER BY partition",
    "SELECT count(*) FROM orders, kafka_offsets('orders', 'start:end') k WHERE orders.partition = k.partition AND \"offset\" < k.end_offset",
    "SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM empty UNION ALL SELECT count(*) FROM customers",
    // Functions that replace DataFusion's.
    "SELECT substr(value, 1, 3), substring(value FROM 2 FOR 2), length(value), octet_length(key), bit_length(key), count(*) FROM orders GROUP BY 1, 2, 3, 4, 5",
    "SELECT length(kafka_text(value)), character_length(kafka_text(key)), upper(substr(kafka_text(key), 1, 1)) FROM orders",
    // Rows that come from no topic.
    "SELECT v.name, count(*) FROM (VALUES (0, 'zero'), (1, 'one'), (9, 'nine')) AS v(p, name) JOIN orders ON partition = v.p GROUP BY v.name",
    "SELECT v.p, count(key) FROM (VALUES (0), (1), (9)) AS v(p) LEFT JOIN orders ON partition = v.p GROUP BY v.p",
    "SELECT partition FROM orders WHERE \"offset\" < 2 UNION ALL VALUES (7), (8)",
    "SELECT n, count(key) FROM generate_series(0, 7) AS g(n) LEFT JOIN orders ON partition = n GROUP BY n",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n, count(*) FROM r JOIN orders ON partition = n - 1 GROUP BY n",
    "SELECT kept.n, count(*) FROM kept JOIN orders USING (partition) GROUP BY kept.n",
    "SELECT count(*) FROM orders FULL JOIN kept ON orders.partition = kept.partition + 3",
    "SELECT count(*) FROM orders WHERE \"offset\" < (SELECT min(n) FROM kept)",
];

/// In another time zone than that of Kafka's sessions.
const ZONED: [&str; 3] = [
    "SET datafusion.execution.time_zone = '+02:00'",
    "SELECT to_timestamp(id * 3600) AS hour, count(*) FROM o GROUP BY hour",
    "SELECT date_trunc('day', to_timestamp('2024-01-0' || (1 + id % 9) || ' 01:00:00')) AS day, count(*) FROM o GROUP BY day",
];

/// A scan that is executed again and again stays on the coordinator.
const REPEATED: &str = "WITH RECURSIVE t(p, n) AS (SELECT partition, 0 FROM orders WHERE \"offset\" = 0 UNION ALL \
     SELECT t.p, t.n + 1 FROM t JOIN orders ON orders.partition = t.p AND \"offset\" = t.n + 1 WHERE t.n < 3) SELECT * FROM t";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_those_of_one_machine() {
    let sessions = Sessions::over(cluster()).await;
    for sql in TYPED {
        sessions.set_up(sql).await;
    }
    sessions.set_up(KEPT).await;
    sessions.compare(&QUERIES).await;
    sessions.compare(MORE).await;
    sessions.compare_here(&[REPEATED]).await;
    sessions.set_up(ZONED[0]).await;
    sessions.compare(&ZONED[1..]).await;
}
