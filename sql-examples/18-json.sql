-- The values of `orders` are JSON. With the format named, their fields are columns: here learned from a sample
-- of the records, in front of Kafka's own columns.

SELECT status, count(*) AS orders, sum(amount) AS amount
FROM kafka('orders', 'start:end', 'value.format=json')
GROUP BY status
ORDER BY status;
-- expect: 3 rows
