-- The values of `orders` are JSON. With the format their fields become columns, before Kafka's own columns.
-- Here the columns are learned from a sample of the records.

SELECT status, count(*) AS orders, sum(amount) AS amount
FROM kafka('orders', 'start:end', 'value.format=json')
GROUP BY status
ORDER BY status;
-- expect: 3 rows
