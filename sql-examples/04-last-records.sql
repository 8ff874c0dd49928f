-- The last two records of every partition.

SELECT partition, offset, timestamp, value
FROM kafka('orders', '-2')
ORDER BY partition, offset;
-- expect: 8 rows
