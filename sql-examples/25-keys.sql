-- The customers of the demo are partitioned by key as Java's clients do it. A key is in one partition, and only that
-- one is read. EXPLAIN shows pruned_by_key.

CREATE EXTERNAL TABLE customers_by_key STORED AS KAFKA LOCATION 'customers' OPTIONS ('key.partitioner' 'murmur2');

EXPLAIN SELECT value FROM customers_by_key WHERE key = 'c-007';

SELECT offset, kafka_text(value) AS customer
FROM customers_by_key
WHERE key = 'c-007'
ORDER BY offset;
-- expect: 2 rows

DROP TABLE customers_by_key;
