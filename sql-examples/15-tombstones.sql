-- NULL is not empty: tombstones are rows like others.

SELECT partition, offset, timestamp, key
FROM customers
WHERE value IS NULL
ORDER BY timestamp;
-- expect: 5 rows
