-- A topic is a table. Every record has topic, partition, offset, timestamp, key, value and
-- headers. The statement fixes its ranges of offsets before it runs.

SELECT partition, count(*) AS records, min(offset) AS first, max(offset) AS last
FROM orders
GROUP BY partition
ORDER BY partition;
-- expect: 4 rows
