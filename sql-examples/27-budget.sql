-- A budget bounds what the scans of a statement read together. EXPLAIN shows about how much that is: the offsets, the
-- bytes by the mean size of the topic's records, and the brokers. A statement over more is refused before it reads.

SET kafka.max.scan.records = '5000';

SET kafka.max.scan.bytes = '10M';

EXPLAIN SELECT * FROM orders;

SELECT count(*) AS joined
FROM orders AS o
JOIN kafka('payments', '-20') AS p ON o.partition = p.partition AND o.offset = p.offset;

SET kafka.max.scan.records = 'none';

SET kafka.max.scan.bytes = 'none';

-- A table may have its own, in addition.
CREATE EXTERNAL TABLE few STORED AS KAFKA LOCATION 'orders' OPTIONS ('range' '-10', 'max.scan.records' '1000');

SELECT count(*) AS records FROM few;
-- expect: 1 row

DROP TABLE few;
