-- Headers are a list in wire order, with duplicates. `unnest` makes a row of each.

SELECT h['key'] AS header, count(*) AS records, count(DISTINCT h['value']) AS values
FROM (SELECT unnest(headers) AS h FROM orders)
GROUP BY h['key']
ORDER BY header;
-- expect: 3 rows
