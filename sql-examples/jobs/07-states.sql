-- Kafka to Kafka, in columns: the latest state of each order as JSON under the order's number, for a
-- compacted topic. A cancelled order becomes a tombstone, which compaction removes. Read the
-- states back with `kafka('order-states', ':', 'key.format=text', 'value.format=json')`. 'avro' and 'protobuf'
-- instead of 'json' take their schemas from a registry. The topic must exist.
--
--     kafka-sql -b localhost:9092 run sql-examples/jobs/07-states.sql --every 1s

CREATE EXTERNAL TABLE incoming ("order" VARCHAR, item VARCHAR, amount DECIMAL(10, 2), status VARCHAR)
STORED AS KAFKA
LOCATION 'orders'
OPTIONS ('value.format' 'json', 'metadata.columns' 'partition,offset,timestamp');

CREATE EXTERNAL TABLE states (item VARCHAR, amount DECIMAL(10, 2), status VARCHAR)
STORED AS KAFKA
LOCATION 'order-states'
OPTIONS ('key.format' 'text', 'value.format' 'json');

INSERT INTO states
SELECT "order" AS key, item, amount, status, status = 'cancelled' AS tombstone, timestamp
FROM incoming;
