-- One job, three sinks, one snapshot of the topic: all orders into PostgreSQL, large ones into a
-- topic for alerts, counts by status into SQLite. Each sink commits rows and offsets together, one
-- sink after another. After a crash in between, only the sinks that lack the batch get it.
-- The topic must exist.
--
--     export SHOP='postgres://etl@localhost:5432/shop'      # the password: PGPASSWORD
--     export COUNTS=/data/counts.db
--     kafka-sql -b localhost:9092 run sql-examples/jobs/06-several-sinks.sql --every 5s

CREATE EXTERNAL TABLE all_orders
STORED AS POSTGRES
LOCATION '${SHOP}'
OPTIONS ('table' 'all_orders');

CREATE EXTERNAL TABLE large_orders
STORED AS KAFKA
LOCATION 'large-orders';

CREATE EXTERNAL TABLE status_shares
STORED AS SQLITE
LOCATION '${COUNTS}'
OPTIONS ('table' 'status_shares');

CREATE VIEW fields AS
SELECT partition, offset, timestamp, key,
       regexp_match(kafka_text(value), '"order":"([^"]*)"')[1] AS order_id,
       regexp_match(kafka_text(value), '"status":"([^"]*)"')[1] AS status,
       CAST(regexp_match(kafka_text(value), '"amount":([0-9.]+)')[1] AS DECIMAL(12, 2)) AS amount
FROM orders;

INSERT INTO all_orders
SELECT partition, offset, timestamp, kafka_text(key) AS customer, order_id, status, amount
FROM fields;

INSERT INTO large_orders
SELECT key, order_id || ' costs ' || CAST(amount AS VARCHAR) AS value
FROM fields
WHERE amount > 400;

INSERT INTO status_shares
SELECT status, count(*) AS orders
FROM fields
GROUP BY status;
