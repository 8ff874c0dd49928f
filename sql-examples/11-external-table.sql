-- A table with options: two topics in one, each partition from its third record on.

CREATE EXTERNAL TABLE shop
STORED AS KAFKA
LOCATION 'orders,payments'
OPTIONS ('starting.offsets' '2', 'ending.offsets' '5');

SELECT topic, partition, min(offset) AS first, count(*) AS records
FROM shop
GROUP BY topic, partition
ORDER BY topic, partition;
-- expect: 7 rows
