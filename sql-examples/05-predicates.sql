-- Conditions on partition and offset cut the ranges before anything is fetched. EXPLAIN shows the ranges.

EXPLAIN SELECT key FROM orders WHERE partition = 1 AND offset BETWEEN 100 AND 104;

SELECT partition, offset, key
FROM orders
WHERE partition = 1 AND offset BETWEEN 100 AND 104
   OR partition = 3 AND offset < 2
ORDER BY partition, offset;
-- expect: 7 rows
