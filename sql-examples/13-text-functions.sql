-- Keys and values are bytes; text functions take them as they are.

SELECT key, upper(key) AS shouted, octet_length(value) AS bytes, substr(value, 11, 7) AS order_id
FROM orders
WHERE partition = 0 AND offset < 3
ORDER BY offset;
-- expect: 3 rows
