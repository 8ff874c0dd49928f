-- Declared columns need no sample. A value that does not fit its column is an error that names the record.
-- A VARCHAR column keeps the JSON of a value that is not text.

CREATE EXTERNAL TABLE bills ("order" VARCHAR, item VARCHAR, quantity INT, amount DECIMAL(10, 2))
STORED AS KAFKA LOCATION 'orders'
OPTIONS ('value.format' 'json', 'metadata.columns' 'partition,offset,timestamp,key');

SELECT item, sum(quantity) AS pieces, sum(amount) AS amount
FROM bills
WHERE timestamp IS NOT NULL
GROUP BY item
ORDER BY amount DESC
LIMIT 3;
-- expect: 3 rows
