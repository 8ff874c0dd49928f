-- NULL differs from empty: a tombstone is a row with a NULL value.

SELECT partition, offset, timestamp, key
FROM customers
WHERE value IS NULL
ORDER BY timestamp;
-- expect: 5 rows
