-- Kafka to Kafka: cancelled orders go to a topic of another cluster, with their keys, headers and
-- timestamps. Each batch is a transaction there, which also has the job's offsets: consumers with
-- isolation.level=read_committed see each order once. The topic must exist.
--
--     export TARGET=localhost:9093
--     kafka-sql -b localhost:9092 run sql-examples/jobs/03-copy.sql --every 1s

CREATE EXTERNAL TABLE cancelled
STORED AS KAFKA
LOCATION 'cancelled-orders'
OPTIONS ('kafka.bootstrap.servers' '${TARGET}', 'kafka.compression.type' 'lz4');

INSERT INTO cancelled
SELECT key, value, headers, timestamp
FROM orders
WHERE value LIKE '%"status":"cancelled"%';
