-- Records by timestamp, including those that arrived late: the orders of one hour, by quarter.

SELECT date_bin(INTERVAL '15 minutes', timestamp) AS quarter, count(*) AS orders
FROM orders
WHERE timestamp >= '2026-01-14T12:00:00Z' AND timestamp < '2026-01-14T13:00:00Z'
GROUP BY quarter
ORDER BY quarter;
-- expect: 4 rows
