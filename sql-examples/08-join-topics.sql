-- Two topics in one statement: orders by customers who were deleted later. The last record of a
-- key in `customers` says what the customer is now; a NULL value is a tombstone.

WITH latest AS (
    SELECT key, value, timestamp,
           row_number() OVER (PARTITION BY key ORDER BY offset DESC) AS age
    FROM customers
)
SELECT c.key, c.timestamp AS deleted, count(*) AS orders
FROM latest c
JOIN orders o ON o.key = c.key AND o.timestamp < c.timestamp
WHERE c.age = 1 AND c.value IS NULL
GROUP BY c.key, c.timestamp
ORDER BY c.key;
-- expect: 5 rows
