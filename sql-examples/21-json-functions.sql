-- Fields of JSON text without a format: `->>` and the functions json_get_… take text, which kafka_text makes of
-- bytes. What is no JSON gives NULL.

SELECT kafka_text(value) ->> 'status' AS status, sum(json_get_float(kafka_text(value), 'amount')) AS amount
FROM orders
GROUP BY 1
ORDER BY 1;
-- expect: 3 rows
