-- The orders of each minute of the last hour, in SQLite. Each batch counts them again and replaces the
-- older counts. With the window the query of a batch also reads the hour before its new records, so
-- the count of a minute is always complete. An order that comes more than an hour late is not counted.
-- If it must be, add up shares as in 02-per-minute.sql.
--
--     export COUNTS=/data/counts.db
--     kafka-sql -b localhost:9092 run sql-examples/jobs/04-windowed-counts.sql --every 5s --window 1h
--
-- The window reaches from now back to the first record younger than an hour; 59 minutes before this
-- minute are complete in it.

CREATE EXTERNAL TABLE per_minute
STORED AS SQLITE
LOCATION '${COUNTS}'
OPTIONS ('table' 'per_minute', 'upsert.key' 'minute');

INSERT INTO per_minute
SELECT date_trunc('minute', timestamp) AS minute, count(*) AS orders
FROM orders
WHERE timestamp >= date_trunc('minute', now() - INTERVAL '59 minutes')
GROUP BY 1;
