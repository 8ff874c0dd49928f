-- Sales per minute in PostgreSQL, correct however late an order comes. A batch adds its share of each
-- minute as a separate row, and a view adds the shares up. Rows and offsets are one transaction,
-- so no share is missing or doubled. (An upsert by minute would be wrong here: the share of
-- a late order would replace the minute.)
--
--     export SHOP='postgres://etl@localhost:5432/shop'      # the password: PGPASSWORD
--     kafka-sql -b localhost:9092 run sql-examples/jobs/02-per-minute.sql --every 5s
--
-- The first batch creates the table. Then run this once in PostgreSQL:
--
--     CREATE VIEW per_minute AS
--     SELECT minute, sum(orders)::bigint AS orders, sum(amount) AS amount
--     FROM minute_shares GROUP BY minute;
--
-- and this whenever there are too many shares, also while the job runs:
--
--     WITH shares AS (DELETE FROM minute_shares RETURNING *)
--     INSERT INTO minute_shares (minute, orders, amount)
--     SELECT minute, sum(orders), sum(amount) FROM shares GROUP BY minute;

CREATE EXTERNAL TABLE minute_shares
STORED AS POSTGRES
LOCATION '${SHOP}'
OPTIONS ('table' 'minute_shares');

CREATE VIEW sales AS
SELECT timestamp,
       CAST(regexp_match(kafka_text(value), '"amount":([0-9.]+)')[1] AS DECIMAL(12, 2)) AS amount
FROM orders
WHERE value NOT LIKE '%"status":"cancelled"%';

INSERT INTO minute_shares
SELECT date_trunc('minute', timestamp) AS minute, count(*) AS orders, sum(amount) AS amount
FROM sales
GROUP BY 1;
