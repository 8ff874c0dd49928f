-- Which records do not decode? With 'null' their fields are NULL and a column `_error` says why; 'skip' leaves
-- them out and counts them; 'fail', the default, ends the query at the first. Here a name is declared as a number.

CREATE EXTERNAL TABLE customer_numbers (name BIGINT)
STORED AS KAFKA LOCATION 'customers'
OPTIONS ('value.format' 'json', 'on.bad.row' 'null');

SELECT partition, offset, _error
FROM customer_numbers
WHERE _error IS NOT NULL
ORDER BY partition, offset
LIMIT 3;
-- expect: 3 rows
