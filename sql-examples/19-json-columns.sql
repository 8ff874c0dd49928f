-- Declared columns are read as they are declared: no sample is taken, and what does not fit is an error that
-- names the record. What is no text keeps its JSON in a VARCHAR.

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
