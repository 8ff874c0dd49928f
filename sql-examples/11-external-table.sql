-- A table with options: two topics in one, the same range of each partition.

CREATE EXTERNAL TABLE shop
STORED AS KAFKA
LOCATION 'orders,payments'
OPTIONS ('range' '2:5');

SELECT topic, partition, min(offset) AS first, count(*) AS records
FROM shop
GROUP BY topic, partition
ORDER BY topic, partition;
-- expect: 8 rows
