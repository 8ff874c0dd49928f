-- The orders of each minute of the last hour, counted anew by each batch and written over the older
-- count, in SQLite. The window makes a batch's query read back one hour besides its new records, so
-- that the count of a minute is always whole. An order that comes later than the hour counts nowhere:
-- where it must, add up shares as in 02-per-minute.sql.
--
--     export COUNTS=/data/counts.db
--     kafka-sql -b localhost:9092 run sql-examples/jobs/04-windowed-counts.sql --every 5s --window 1h
--
-- The window reaches from now back to the first record younger than an hour; 59 minutes before this
-- minute are whole in it.

CREATE EXTERNAL TABLE per_minute
STORED AS SQLITE
LOCATION '${COUNTS}'
OPTIONS ('table' 'per_minute', 'upsert.key' 'minute');

INSERT INTO per_minute
SELECT date_trunc('minute', timestamp) AS minute, count(*) AS orders
FROM orders
WHERE timestamp >= date_trunc('minute', now() - INTERVAL '59 minutes')
GROUP BY 1;
