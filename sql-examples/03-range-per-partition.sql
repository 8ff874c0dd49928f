-- A range for each partition: five records of partition 0 and three of partition 2.

SELECT partition, offset, timestamp, key
FROM kafka('orders', '0=5:10,2=0:3')
ORDER BY partition, offset;
-- expect: 8 rows
