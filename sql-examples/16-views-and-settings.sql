-- Views and settings last for the session.

SET datafusion.execution.target_partitions = 2;

CREATE VIEW sales AS
SELECT substr(value, 11, 7) AS id, timestamp, key AS customer
FROM orders
WHERE value NOT LIKE '%"status":"cancelled"%';

SELECT customer, count(*) AS orders
FROM sales
GROUP BY customer
ORDER BY orders DESC, customer
LIMIT 5;
-- expect: 5 rows
