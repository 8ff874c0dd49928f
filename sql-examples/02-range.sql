-- An exact range: offsets 10 to 12 of every partition. The end of a range is not read.

SELECT partition, offset, key, value
FROM kafka('orders', '10:13')
ORDER BY partition, offset;
-- expect: 12 rows
