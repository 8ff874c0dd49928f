-- Keys and values are bytes. Lengths and substrings count bytes; for other text functions, cast the
-- bytes to text.

SELECT key, upper(CAST(key AS VARCHAR)) AS shouted, octet_length(value) AS bytes, substr(value, 11, 7) AS order_id
FROM orders
WHERE partition = 0 AND offset < 3
ORDER BY offset;
-- expect: 3 rows
