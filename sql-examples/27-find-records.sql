-- Searching bytes, as `kafka-sql search orders --contains shipped` does: values and keys that have a text in them or match
-- an expression, and any header of a name, by its bytes. What did the first customers buy at till 3?

SELECT partition, offset, key, kafka_text(value)->>'item' AS item
FROM orders
WHERE contains(value, '"shipped"') AND regexp_like(key, '^c-0[01]') AND has_header(headers, 'till', X'ff03')
ORDER BY partition, offset;
-- expect: 20 rows
