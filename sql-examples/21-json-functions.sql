-- Fields of JSON text without a format: `->>` and the functions json_get_… take text, and kafka_text makes text
-- from bytes. A value that is not JSON gives NULL.

SELECT kafka_text(value) ->> 'status' AS status, sum(json_get_float(kafka_text(value), 'amount')) AS amount
FROM orders
GROUP BY 1
ORDER BY 1;
-- expect: 3 rows
