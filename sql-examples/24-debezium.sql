-- A database's changes, as Debezium writes them: the operation and the row before and after it are columns,
-- with Kafka Connect's wrapper around the envelope or without. Who was made a gold customer?

CREATE EXTERNAL TABLE customer_changes (
    op VARCHAR,
    before STRUCT<customer VARCHAR, tier VARCHAR>,
    after STRUCT<customer VARCHAR, tier VARCHAR>,
    ts TIMESTAMP(3) WITH TIME ZONE
)
STORED AS KAFKA LOCATION 'changes'
OPTIONS ('value.format' 'debezium-json', 'metadata.columns' 'partition,offset,key');

SELECT before['tier'] AS was, after['tier'] AS became, count(*) AS changes, max(ts) AS last
FROM customer_changes
WHERE op IN ('c', 'u', 'd')
GROUP BY 1, 2
ORDER BY 1, 2;
-- expect: 4 rows
