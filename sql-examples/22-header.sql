-- One header of each record: header() gives the bytes of the last header of a name, or NULL without one.

SELECT kafka_text(header(headers, 'source')) AS source, count(*) AS orders, count(header(headers, 'till')) AS with_till
FROM orders
GROUP BY 1
ORDER BY 1;
-- expect: 3 rows
