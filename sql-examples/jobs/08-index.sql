-- An index: which blocks of offsets may hold an order or a customer. The job keeps it up to date, and each run adds
-- what has come since. A table with this index reads only these blocks, and what the index does not cover yet:
--
--     CREATE EXTERNAL TABLE searched STORED AS KAFKA LOCATION 'orders' OPTIONS ('index' '/data/orders.index/');
--     SELECT * FROM searched WHERE kafka_text(value)->>'order' = 'o-00009';
--
-- EXPLAIN shows the blocks that are read and skipped. docs/index.md says more.
--
--     export INDEX=/data/orders.index/        # or s3://bucket/orders.index/
--     kafka-sql -b localhost:9092 run sql-examples/jobs/08-index.sql --every 10m

CREATE INDEX ON orders (key, (kafka_text(value)->>'order')) WITH (location = '${INDEX}');
