-- A topic is a table. Every record has topic, partition, offset, timestamp, key, value and
-- headers; offset ranges are found and frozen before the statement runs.

SELECT partition, count(*) AS records, min(offset) AS first, max(offset) AS last
FROM orders
GROUP BY partition
ORDER BY partition;
-- expect: 4 rows
