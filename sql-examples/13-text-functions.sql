-- Keys and values are bytes. Lengths and parts are taken of the bytes; for other text functions the
-- bytes are cast to text.

SELECT key, upper(CAST(key AS VARCHAR)) AS shouted, octet_length(value) AS bytes, substr(value, 11, 7) AS order_id
FROM orders
WHERE partition = 0 AND offset < 3
ORDER BY offset;
-- expect: 3 rows
