CREATE EXTERNAL TABLE landing STORED AS PARQUET LOCATION '/var/lib/kafka-sql/landing/';

INSERT INTO landing
SELECT partition, "offset", timestamp, CAST(value AS VARCHAR) AS value FROM orders;
