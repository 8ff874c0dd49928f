-- The scan applies conditions on keys, values and fields itself, and builds all columns only for the records that pass.
-- EXPLAIN shows them as conditions, and a text that the client searches whole record batches for as searched_for.

EXPLAIN SELECT * FROM orders WHERE value LIKE '%o-00042%';

SELECT kafka_text(key) AS customer, kafka_text(value) AS value FROM orders WHERE value LIKE '%o-00042%';
-- expect: 1 rows

-- A field of JSON is searched for in the same way, if records that do not decode may be NULL.
CREATE EXTERNAL TABLE typed_orders ("order" VARCHAR, item VARCHAR, quantity BIGINT, status VARCHAR)
STORED AS KAFKA LOCATION 'orders'
OPTIONS ('value.format' 'json', 'on.bad.row' 'null');

SELECT "order", quantity FROM typed_orders WHERE "order" = 'o-00042';
-- expect: 1 rows

-- A top-k tells the scan what it no longer needs.
SELECT "order" FROM typed_orders ORDER BY "order" DESC LIMIT 3;
-- expect: 3 rows

DROP TABLE typed_orders;
