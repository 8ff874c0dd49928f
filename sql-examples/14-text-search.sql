-- Searching in values: cancelled orders, by item.

SELECT regexp_match(CAST(value AS VARCHAR), '"item":"([^"]*)"')[1] AS item, count(*) AS cancelled
FROM orders
WHERE value LIKE '%"status":"cancelled"%'
GROUP BY item
ORDER BY cancelled DESC, item;
-- expect: 12 rows
