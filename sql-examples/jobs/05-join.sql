-- Two topics and a file: orders that were paid within two hours, with the category of their item.
-- An order and its payment come in different batches. With the window each batch finds those of
-- earlier batches, and the upsert makes one row of what several batches find. The window is an hour
-- longer than the two hours of the query: either of the two may come an hour late.
--
--     export SHOP='postgres://etl@localhost:5432/shop'      # the password: PGPASSWORD
--     export PRODUCTS=sql-examples/jobs/products.csv
--     kafka-sql -b localhost:9092 run sql-examples/jobs/05-join.sql --every 5s --window 3h
--
-- Each batch reads the file again.

CREATE EXTERNAL TABLE products (item VARCHAR, category VARCHAR)
STORED AS CSV
LOCATION '${PRODUCTS}'
OPTIONS ('has_header' 'true');

CREATE EXTERNAL TABLE paid_orders
STORED AS POSTGRES
LOCATION '${SHOP}'
OPTIONS ('table' 'paid_orders', 'upsert.key' 'order_id');

CREATE VIEW ordered AS
SELECT regexp_match(kafka_text(value), '"order":"([^"]*)"')[1] AS order_id,
       regexp_match(kafka_text(value), '"item":"([^"]*)"')[1] AS item,
       timestamp AS ordered_at
FROM orders;

CREATE VIEW paid AS
SELECT kafka_text(key) AS order_id, timestamp AS paid_at
FROM payments;

INSERT INTO paid_orders
SELECT o.order_id, o.item, p.category, o.ordered_at, m.paid_at
FROM ordered o
JOIN paid m ON m.order_id = o.order_id
LEFT JOIN products p ON p.item = o.item
WHERE m.paid_at <= o.ordered_at + INTERVAL '2 hours';
