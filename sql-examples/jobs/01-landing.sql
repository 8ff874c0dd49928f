-- Parquet landing: every order becomes a row, in Hive folders by day (day=2026-01-14/). Each row is there
-- once, whatever crashes. DuckDB, pandas and Spark can read the folder too.
-- Topic, partition and offset name the record that a row came from.
--
--     export LAKE=/data/orders/        # or s3://bucket/orders/
--     kafka-sql -b localhost:9092 run sql-examples/jobs/01-landing.sql --every 1m

CREATE EXTERNAL TABLE landing
STORED AS PARQUET
PARTITIONED BY (day)
LOCATION '${LAKE}'
OPTIONS ('compression.codec' 'zstd(3)', 'max.file.rows' '5000000');

INSERT INTO landing
SELECT CAST(timestamp AS DATE) AS day, topic, partition, offset, timestamp,
       kafka_text(key) AS key, kafka_text(value) AS value
FROM orders;
